//! An endpoint that misbehaves as a test wants: a proxy before a real one.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use das_common::http::client::{Endpoint, HttpClient};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 64 * 1024 * 1024;

/// What it does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Passes it on.
    Honest,
    /// Takes it and never answers.
    Silent,
    /// Passes it on after this time.
    Slow(Duration),
    /// Answers with these bytes as the body.
    Body(Vec<u8>),
    /// Answers with a JSON string of so many bytes.
    Huge(usize),
    /// Answers with this HTTP status.
    Status(u16),
    /// Says that the chain has this id, and is honest otherwise.
    ChainId(u64),
    /// Refuses logs of more than so many blocks.
    LogRange(u64),
    /// Gives logs of a block that is not on the chain.
    OtherBlocks,
    /// Says in an error text which URL it was called by.
    EchoPath,
}

#[derive(Debug)]
struct Shared {
    behaviour: Mutex<Behaviour>,
    calls: Mutex<BTreeMap<String, usize>>,
    upstream: Endpoint,
    http: HttpClient,
}

/// A running proxy; it ends with this value.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    url: String,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Proxy {
    /// Listens on a free port, honest at first.
    pub async fn start(upstream: &str) -> io::Result<Self> {
        let upstream = Endpoint::parse(upstream).map_err(io::Error::other)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            behaviour: Mutex::new(Behaviour::Honest),
            calls: Mutex::default(),
            upstream,
            http: HttpClient::default(),
        });
        let serving = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let shared = Arc::clone(&shared);
                    // A connection that breaks is the caller's to notice.
                    tokio::spawn(async move { shared.serve(stream).await });
                }
            }
        });
        Ok(Self { shared, url, serving })
    }

    /// Its URL, without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Behaves so from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// How often a method was called since it was last asked.
    pub fn calls(&self, method: &str) -> usize {
        lock(&self.shared.calls).remove(method).unwrap_or(0)
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let (mut path, mut length, mut line) = (String::new(), 0, String::new());
        while stream.read_line(&mut line).await? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            } else if line.starts_with("POST ") {
                path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body)?;
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        *lock(&self.calls).entry(method.clone()).or_default() += 1;
        let behaviour = lock(&self.behaviour).clone();
        let (status, answer) = self.answer(&behaviour, &request, &method, &path, body).await?;
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(&answer).await?;
        stream.shutdown().await
    }

    async fn answer(
        &self,
        behaviour: &Behaviour,
        request: &Value,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> io::Result<(u16, Vec<u8>)> {
        let refuse = |message: String| {
            let error = json!({ "code": -32602, "message": message });
            (200, json!({ "jsonrpc": "2.0", "id": 1, "error": error }).to_string().into_bytes())
        };
        match behaviour {
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Body(bytes) => Ok((200, bytes.clone())),
            Behaviour::Huge(length) => {
                let text = "x".repeat(*length);
                Ok((200, json!({ "jsonrpc": "2.0", "id": 1, "result": text }).to_string().into_bytes()))
            }
            Behaviour::Status(status) => Ok((*status, b"no".to_vec())),
            Behaviour::ChainId(id) if method == "eth_chainId" => {
                let result = format!("{id:#x}");
                Ok((200, json!({ "jsonrpc": "2.0", "id": 1, "result": result }).to_string().into_bytes()))
            }
            Behaviour::LogRange(blocks) if method == "eth_getLogs" && range(request) > *blocks => {
                Ok(refuse(format!("block range is limited to {blocks} blocks")))
            }
            Behaviour::EchoPath if method != "eth_chainId" => {
                Ok(refuse(format!("no access with the key of {path}")))
            }
            _ => {
                if let Behaviour::Slow(time) = behaviour {
                    tokio::time::sleep(*time).await;
                }
                let sent = self.http.post_json(&self.upstream, body.into(), TIMEOUT, MAX_BODY).await;
                let answer = sent.map_err(io::Error::other)?;
                if method != "eth_getLogs" || *behaviour != Behaviour::OtherBlocks {
                    return Ok((answer.status.as_u16(), answer.body.to_vec()));
                }
                let mut answer: Value = serde_json::from_slice(&answer.body)?;
                for log in answer["result"].as_array_mut().into_iter().flatten() {
                    log["blockHash"] = json!(format!("0x{}", "ab".repeat(32)));
                }
                Ok((200, answer.to_string().into_bytes()))
            }
        }
    }
}

/// Blocks that a request for logs is about.
fn range(request: &Value) -> u64 {
    let number = |name: &str| request["params"][0][name].as_str().and_then(super::rpc::quantity);
    match (number("fromBlock"), number("toBlock")) {
        (Some(from), Some(to)) => to.saturating_sub(from) + 1,
        _ => 1,
    }
}
