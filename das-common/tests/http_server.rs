//! The accept loop and the JSON-RPC rules over real sockets, with clients that do not behave.
//!
//! No test asserts how long something takes: limits are short, and what is checked is what happens in the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use das_common::http::body::Pace;
use das_common::http::server::{Limits, serve};
use das_common::json_rpc::{Methods, Params, RawJson, RpcError, RpcLimits, router};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, so that a fault is a failure and not a hang.
const PATIENCE: Duration = Duration::from_secs(60);
/// The size of an answer that no socket's buffers hold.
const HUGE: usize = 64 << 20;

/// Methods to be called by the tests.
struct Stub {
    /// `t_wait` takes one permit.
    gate: Arc<Semaphore>,
    /// Gets one when `t_wait` has begun.
    begun: Arc<Semaphore>,
}

impl Methods for Stub {
    fn namespace(&self) -> &'static str {
        "t"
    }

    async fn call(&self, method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        Some(match method {
            "length" => params.bytes(0).map(|bytes| RawJson::of(&bytes.len())),
            "wait" => {
                self.begun.add_permits(1);
                self.gate.acquire().await.expect("never closed").forget();
                Ok(RawJson::of("waited"))
            }
            "huge" => Ok(RawJson::from_trusted([b"\"", vec![b'x'; HUGE].as_slice(), b"\""].concat())),
            "fail" => Err(RpcError { data: Some(RawJson::of(&7)), ..RpcError::method("<it> failed\n") }),
            _ => return None,
        })
    }
}

struct Server {
    address: SocketAddr,
    shutdown: CancellationToken,
    gate: Arc<Semaphore>,
    begun: Arc<Semaphore>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start(limits: Limits, rpc: RpcLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shutdown = CancellationToken::new();
        let (gate, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let stub = Stub { gate: Arc::clone(&gate), begun: Arc::clone(&begun) };
        let task = tokio::spawn(serve(listener, router(Arc::new(stub), rpc), limits, shutdown.clone()));
        Self { address, shutdown, gate, begun, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server accepts")
    }

    async fn send(&self, request: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request).await.expect("the server reads");
        stream
    }

    /// Sends, and reads all that comes until the server closes.
    async fn exchange(&self, request: &[u8]) -> String {
        rest_of(self.send(request).await).await
    }

    async fn has_begun(&self) {
        within(self.begun.acquire()).await.expect("never closed").forget();
    }

    async fn end(self) {
        self.shutdown.cancel();
        within(self.task).await.expect("no panic").expect("no error");
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it comes to an end")
}

/// Everything until the end, or until the connection is reset.
async fn rest_of(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 1 << 20];
    while let Ok(read @ 1..) = within(stream.read(&mut buffer)).await {
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn post(body: &str) -> Vec<u8> {
    post_with(&format!("Content-Length: {}\r\nConnection: close\r\n", body.len()), body)
}

fn post_with(headers: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{headers}\r\n{body}")
        .into_bytes()
}

fn call(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
}

fn short() -> Limits {
    Limits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(400),
        scarce_timeout: Duration::from_millis(100),
        answer_pace: Pace { grace: Duration::from_millis(300), bytes_per_second: 1 << 40 },
        drain: Duration::from_millis(300),
        ..Limits::default()
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn answers_and_keeps_connections() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    let length = call("t_length", &format!("[\"0x{}\"]", "ab".repeat(300_000)));
    let keep = post_with(&format!("Content-Length: {}\r\n", length.len()), &length);
    let last = post(&call("t_fail", "[]"));
    // Pipelined: all three are sent before anything is read.
    let answers = server.exchange(&[keep.as_slice(), &keep, &last].concat()).await;
    assert_eq!(answers.matches("\"result\":300000}\n").count(), 2, "{answers}");
    let error = r#""error":{"code":-32000,"message":"\u003cit\u003e failed\n","data":7}}"#;
    assert!(answers.contains(error), "{answers}");
    server.end().await;
}

#[tokio::test]
async fn a_body_in_chunks_is_taken_and_cut_at_the_limit() {
    let server =
        Server::start(Limits::default(), RpcLimits { body_limit: 400, ..RpcLimits::default() }).await;
    let mut whole = call("t_length", "[\"0xabcd\"]");
    let chunked = |text: &str| {
        let mut body = String::new();
        for piece in text.as_bytes().chunks(7) {
            body += &format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece));
        }
        post_with("Transfer-Encoding: chunked\r\nConnection: close\r\n", &(body + "0\r\n\r\n"))
    };
    assert!(server.exchange(&chunked(&whole)).await.contains("\"result\":2}"));
    whole += &" ".repeat(1000);
    assert!(server.exchange(&chunked(&whole)).await.contains("\"result\":2}"), "what fits is a whole call");
    let cut = call("t_length", &format!("[\"0x{}\"]", "ab".repeat(400)));
    assert!(server.exchange(&chunked(&cut)).await.ends_with("\"parse error\"}}"));
    server.end().await;
}

#[tokio::test]
async fn a_refusal_arrives_although_the_body_was_not_read() {
    let server =
        Server::start(Limits::default(), RpcLimits { body_limit: 1000, ..RpcLimits::default() }).await;
    for _ in 0..20 {
        let answer = server.exchange(&post(&"x".repeat(6_000_000))).await;
        assert_eq!(status(&answer), "413", "{answer}");
        assert!(answer.ends_with("content length too large (6000000>1000)\n"), "{answer}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_truncated_body_is_a_parse_error() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    for headers in ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut stream = server.send(&post_with(headers, "5\r\n{\"jso")).await;
        stream.shutdown().await.expect("open");
        let answer = rest_of(stream).await;
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("-32700"), "{answer}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_its_answer() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    let mut stream = server.send(&post(&call("t_wait", "[]"))).await;
    stream.shutdown().await.expect("open");
    server.has_begun().await;
    server.gate.add_permits(1);
    assert!(rest_of(stream).await.contains("waited"));
    server.end().await;
}

#[tokio::test]
async fn header_games() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    let body = call("t_length", "[\"0x\"]");
    let long_head = format!("GET / HTTP/1.1\r\nHost: t\r\nX: {}\r\n\r\n", "x".repeat(2_000_000));
    for request in [
        b"\0\x01\x02\r\n\r\n".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03hello\r\n\r\n".to_vec(),
        long_head.into_bytes(),
        post_with("Content-Length: -1\r\n", &body),
        post_with("Content-Length: 1e3\r\n", &body),
        post_with("Content-Length: 99999999999999999999\r\n", &body),
        post_with("Content-Length: 5\r\nContent-Length: 6\r\n", &body),
        post_with("Transfer-Encoding: chunked\r\n", "zz\r\n{}\r\n0\r\n\r\n"),
        post_with("Transfer-Encoding: chunked\r\n", "ffffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        post_with("Transfer-Encoding: gzip\r\n", &body),
    ] {
        let mut stream = server.connect().await;
        // It may be refused before all of it is sent.
        let _ = stream.write_all(&request).await;
        let _ = stream.shutdown().await;
        let answer = rest_of(stream).await;
        let head = String::from_utf8_lossy(&request[..request.len().min(120)]).into_owned();
        assert!(!answer.contains("\"result\""), "{head:?}: {answer}");
        assert!(["none", "400", "413", "431", "200"].contains(&status(&answer)), "{head:?}: {answer}");
    }
    // Nothing is smuggled in behind a body whose length is given twice.
    let twice = post_with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n");
    let answers = server.exchange(&[twice, post(&body)].concat()).await;
    assert!(answers.matches("HTTP/1.1").count() <= 2, "{answers}");
    // And after all that it still serves.
    assert!(server.exchange(&post(&body)).await.contains("\"result\":0}"));
    server.end().await;
}

#[tokio::test]
async fn hostile_texts_are_answered() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    for body in [
        "[".repeat(5_000_000),
        "{\"a\":".repeat(800_000),
        format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{{\"id\":{}}}", "9".repeat(4_000_000)),
        format!("[{}1]", "1,".repeat(2_000_000)),
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "m".repeat(4_000_000)),
        format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "\\u0041".repeat(800_000)),
        format!("{{\"{}\":1}}", "k".repeat(4_000_000)),
        call("t_length", &format!("[{}1]", "[],".repeat(1_000_000))),
        call("t_length", &format!("[\"{}\"]", "\\\"".repeat(2_000_000))),
    ] {
        let answer = server.exchange(&post(&body)).await;
        assert_eq!(status(&answer), "200", "{body:.100}: {answer:.500}");
        assert!(answer.contains("\"error\""), "{body:.100}: {answer:.500}");
        assert!(!answer.contains("\"result\""), "{body:.100}: {answer:.500}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_slow_head_is_cut_off() {
    let server = Server::start(short(), RpcLimits::default()).await;
    let mut stream = server.send(b"POST / HTTP/1.1\r\nHost: t\r\n").await;
    let drip = async {
        while stream.write_all(b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(drip).await;
    server.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = Server::start(short(), RpcLimits::default()).await;
    assert_eq!(rest_of(server.connect().await).await, "");
    let used = server.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await;
    assert_eq!(status(&rest_of(used).await), "200");
    server.end().await;
}

#[tokio::test]
async fn a_slow_body_is_refused() {
    let pace = Pace { grace: Duration::from_millis(200), bytes_per_second: 1 << 20 };
    let server =
        Server::start(Limits::default(), RpcLimits { body_pace: pace, ..RpcLimits::default() }).await;
    let stream = server.send(&post_with("Content-Length: 100000\r\n", "{")).await;
    let (mut reading, mut writing) = stream.into_split();
    let drip = tokio::spawn(async move {
        while writing.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut answer = String::new();
    // After the answer the drip may end in a reset.
    let _ = within(reading.read_to_string(&mut answer)).await;
    assert_eq!(status(&answer), "408", "{answer}");
    drop(reading);
    within(drip).await.expect("no panic");
    server.end().await;
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let server = Server::start(short(), RpcLimits::default()).await;
    let mut stream = server.send(&post(&call("t_huge", "[]"))).await;
    let mut first = [0; 1000];
    within(stream.read_exact(&mut first)).await.expect("it begins");
    // The server's end waits for its connections.
    server.end().await;
    assert!(rest_of(stream).await.len() < HUGE);
}

#[tokio::test]
async fn idle_connections_make_room() {
    let limits =
        Limits { max_connections: 2, scarce_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(limits, RpcLimits::default()).await;
    let idle = (server.connect().await, server.connect().await);
    let probe = b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".as_slice();
    let answers = (0..4).map(|_| server.exchange(probe));
    for answer in within(futures::future::join_all(answers)).await {
        assert_eq!(status(&answer), "200");
    }
    drop(idle);
    server.end().await;
}

#[tokio::test]
async fn a_flood_of_the_silent_keeps_nobody_out_and_closes_nobody_who_made_a_request() {
    let limits = Limits { max_connections: 4, scarce_timeout: Duration::from_secs(1), ..Limits::default() };
    let server = Server::start(limits, RpcLimits::default()).await;
    let probe = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n".as_slice();
    let mut known = server.connect().await;
    let mut answer = [0; 12];
    known.write_all(probe).await.unwrap();
    within(known.read_exact(&mut answer)).await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(server.connect().await);
    }
    // One after another they give way, so that who comes last has his turn, and long before silence is too long.
    let last = server.exchange(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&within(last).await), "200");
    // The time after which idle connections make room has passed, and there is no room.
    tokio::time::sleep(Duration::from_secs(3)).await;
    known.write_all(probe).await.unwrap();
    within(known.read_exact(&mut answer)).await.expect("it was not closed");
    drop(silent);
    server.end().await;
}

#[tokio::test]
async fn bodies_share_a_budget() {
    let rpc =
        RpcLimits { bodies_in_flight: 1 << 20, patience: Duration::from_millis(100), ..RpcLimits::default() };
    let server = Server::start(Limits::default(), rpc).await;
    // Announcing costs nothing, so these two do not keep others out.
    let announced = post_with("Content-Length: 5000000\r\n", "{");
    let waiting = (server.send(&announced).await, server.send(&announced).await);
    // Small enough that the hog below is never kept waiting for it.
    let body = call("t_length", &format!("[\"0x{}\"]", "ab".repeat(50_000)));
    assert!(server.exchange(&post(&body)).await.contains("\"result\":50000}"));
    // Sending does: this one holds most of the budget until it is gone.
    let mut hog = server.send(&post_with("Content-Length: 1000000\r\n", &"x".repeat(990_000))).await;
    let refused = async { while status(&server.exchange(&post(&body)).await) != "503" {} };
    within(refused).await;
    hog.shutdown().await.expect("open");
    assert!(rest_of(hog).await.contains("parse error"));
    assert!(server.exchange(&post(&body)).await.contains("\"result\":50000}"));
    drop(waiting);
    server.end().await;
}

#[tokio::test]
async fn answers_that_are_not_read_share_a_budget() {
    let rpc =
        RpcLimits { answers_in_flight: HUGE, patience: Duration::from_millis(100), ..RpcLimits::default() };
    let server = Server::start(Limits::default(), rpc).await;
    let huge = post(&call("t_huge", "[]"));
    let mut hog = server.send(&huge).await;
    let mut first = [0; 1000];
    within(hog.read_exact(&mut first)).await.expect("it begins");
    let refused = server.exchange(&huge).await;
    assert_eq!((status(&refused), refused.len() < 1000), ("503", true), "{refused:.200}");
    let small = server.exchange(&post(&call("t_length", "[\"0x\"]"))).await;
    assert!(small.contains("\"result\":0}"), "{small}");
    // Neither who takes it, nor who goes away, keeps its memory.
    assert!(first.len() + rest_of(hog).await.len() > HUGE);
    let leaver = server.send(&huge).await;
    drop(leaver);
    let served = async { while server.exchange(&huge).await.len() < HUGE {} };
    within(served).await;
    server.end().await;
}

#[tokio::test]
async fn who_takes_no_answer_is_cut_off_when_another_waits() {
    let limits = Limits {
        scarce_answer_pace: Pace { grace: Duration::from_millis(100), bytes_per_second: 1 << 40 },
        ..Limits::default()
    };
    let server = Server::start(
        limits,
        RpcLimits { answers_in_flight: HUGE, patience: PATIENCE, ..RpcLimits::default() },
    )
    .await;
    let huge = post(&call("t_huge", "[]"));
    let mut hog = server.send(&huge).await;
    let mut first = [0; 1000];
    within(hog.read_exact(&mut first)).await.expect("it begins");
    assert!(server.exchange(&huge).await.len() > HUGE);
    assert!(first.len() + rest_of(hog).await.len() < HUGE);
    server.end().await;
}

#[tokio::test]
async fn a_long_id_is_not_echoed() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    let id = "<".repeat(4_000_000);
    let body = format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"t_length","params":["0x"]}}"#);
    let answer = server.exchange(&post(&body)).await;
    let expected = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"invalid request"}}"#;
    assert!(answer.ends_with(&format!("{expected}\n")), "{answer:.500}");
    server.end().await;
}

#[tokio::test]
async fn a_shutdown_waits_for_requests_in_flight() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    let idle = server.connect().await;
    let wait = call("t_wait", "[]");
    let flying = server.send(&post_with(&format!("Content-Length: {}\r\n", wait.len()), &wait)).await;
    server.has_begun().await;
    server.shutdown.cancel();
    assert_eq!(rest_of(idle).await, "", "idle connections are closed");
    assert!(!server.task.is_finished());
    server.gate.add_permits(1);
    let answer = rest_of(flying).await;
    assert!(answer.contains("waited"), "{answer}");
    let address = server.address;
    server.end().await;
    TcpStream::connect(address).await.expect_err("nobody listens any more");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_ever() {
    let server = Server::start(short(), RpcLimits::default()).await;
    let stuck = server.send(&post(&call("t_wait", "[]"))).await;
    server.has_begun().await;
    server.end().await;
    assert_eq!(rest_of(stuck).await, "");
}

#[tokio::test]
async fn batches_are_bounded() {
    let rpc = RpcLimits { max_batch: 3, max_batch_response: 10, ..RpcLimits::default() };
    let server = Server::start(Limits::default(), rpc).await;
    let one = call("t_length", "[\"0x\"]");
    let batch = |count: usize| post(&format!("[{}]", vec![one.as_str(); count].join(",")));
    assert_eq!(server.exchange(&batch(3)).await.matches("\"result\":0").count(), 3);
    let refused = server.exchange(&batch(4)).await;
    let expected = r#"[{"jsonrpc":"2.0","id":1,"error":{"code":-32600,"message":"batch too large"}}]"#;
    assert!(refused.ends_with(expected), "{refused}");
    let wide = format!("[{one},{},{one}]", call("t_huge", "[]"));
    let answer = server.exchange(&post(&wide)).await;
    assert!(answer.ends_with("\"error\":{\"code\":-32003,\"message\":\"response too large\"}}]\n"));
    server.end().await;
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_no_reason_to_stop() {
    let server = Server::start(Limits::default(), RpcLimits::default()).await;
    let body = b"{\"jsonrpc\":\"2.0\",\"id\":\"\xff\",\"method\":\"t_\xfe\"}";
    let mut request = post_with(&format!("Content-Length: {}\r\nConnection: close\r\n", body.len()), "");
    request.extend_from_slice(body);
    let answer = server.exchange(&request).await;
    assert!(answer.contains("the method t_\u{fffd} does not exist"), "{answer}");
    server.end().await;
}
