//! A key management service whose keys decrypt only when they are enabled, and only in their region: moto decrypts with
//! whatever it knows. This one asks moto for the key's state before it passes a request on, and answers as Amazon's
//! reference of the API says otherwise.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use super::moto::{Moto, call};

pub(crate) struct Strict {
    port: u16,
}

impl Strict {
    /// Serves until the test ends.
    pub(crate) fn start(moto: &Moto) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, behind) = (listener.local_addr().unwrap().port(), moto.port());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Who breaks a connection off notices it himself.
                let _ = serve(stream, behind);
            }
        });
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

/// One request of one connection.
fn serve(stream: TcpStream, behind: u16) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length, mut region) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? <= 2 {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        } else if lower.starts_with("authorization:") {
            region = line.split('/').nth(2).unwrap_or_default().to_owned();
        }
        if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body)?;
    let answer = match refusal(&call(behind, &region, "DescribeKey", &json!({ "KeyId": asked["KeyId"] }))) {
        Some(refusal) => {
            let refusal = refusal.to_string();
            let head =
                "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/x-amz-json-1.1";
            format!("{head}\r\nContent-Length: {}\r\n\r\n{refusal}", refusal.len()).into_bytes()
        }
        None => {
            let mut moto = TcpStream::connect(("127.0.0.1", behind))?;
            write!(moto, "{head}Connection: close\r\n\r\n")?;
            moto.write_all(&body)?;
            let mut answer = Vec::new();
            moto.read_to_end(&mut answer)?;
            answer
        }
    };
    stream.get_mut().write_all(&answer)
}

/// Why a key in this state is not used.
fn refusal(described: &Value) -> Option<Value> {
    let key = &described["KeyMetadata"];
    let arn = key["Arn"].as_str().unwrap_or_default();
    match key["KeyState"].as_str() {
        Some("Enabled") => None,
        Some("Disabled") => {
            Some(json!({ "__type": "DisabledException", "message": format!("{arn} is disabled.") }))
        }
        Some("PendingDeletion") => Some(json!({
            "__type": "KMSInvalidStateException",
            "message": format!("{arn} is pending deletion."),
        })),
        // There is none: moto's words.
        _ => Some(described.clone()),
    }
}
