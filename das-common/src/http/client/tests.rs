use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A server that reads one request head per connection and writes `answer` as it stands, then holds the connection.
async fn raw_server(answer: &'static [u8]) -> (Endpoint, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                while let Ok(read) = stream.read(&mut buffer).await {
                    if read == 0 || stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (Endpoint::parse(&format!("http://{address}")).unwrap(), connections)
}

#[test]
fn endpoints_hide_what_is_secret_and_name_what_is_wrong() {
    let endpoint = Endpoint::parse("http://us%40er:pass@host.example/rpc/?x=1").unwrap();
    assert_eq!(endpoint.to_string(), "http://host.example/rpc/?x=1");
    assert_eq!(endpoint.authority(), "host.example:80");
    assert_eq!(endpoint.inner.authorization.as_ref().unwrap(), "Basic dXNAZXI6cGFzcw==");
    assert_eq!(endpoint.below("/health").unwrap(), "http://host.example/rpc/health?x=1");
    assert!(!format!("{endpoint:?}").contains("pass"));
    for wrong in ["ftp://host", "unix:/socket", "not a url", "http://u:secret@:80"] {
        let text = Endpoint::parse(wrong).unwrap_err().to_string();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[tokio::test]
async fn a_request_has_the_same_heads_as_ever_while_no_traces_are_made() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let head = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    });
    HttpClient::default().get(&endpoint, "/x", SECOND, 2).await.unwrap();
    let head = head.await.unwrap();
    let names: Vec<_> =
        head.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert_eq!(names, ["user-agent", "host"], "{head}");
}

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let (endpoint, connections) = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await;
    let client = HttpClient::default();
    for _ in 0..5 {
        let answer = client.get(&endpoint, "/x", SECOND, 2).await.unwrap();
        assert_eq!(&answer.body[..], b"hi");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn answers_are_bounded_with_and_without_a_length() {
    let client = HttpClient::default();
    let (promised, _) = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nhi").await;
    let error = client.get(&promised, "", SECOND, 10).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: 10, .. }), "{error}");
    let (chunked, _) = raw_server(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n8\r\n12345678\r\n8\r\n12345678\r\n",
    )
    .await;
    let error = client.get(&chunked, "", SECOND, 10).await.unwrap_err();
    assert!(matches!(error, HttpError::TooLarge { limit: 10, .. }), "{error}");
}

#[tokio::test]
async fn silence_truncation_and_absence_are_told_apart() {
    let client = HttpClient::default();
    let (silent, _) = raw_server(b"").await;
    let error = client.get(&silent, "", Duration::from_millis(20), 10).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
    let (slow, _) = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let error = client.get(&slow, "", Duration::from_millis(20), 10).await.unwrap_err();
    assert!(matches!(error, HttpError::Timeout { .. }), "{error}");
    let (garbage, _) = raw_server(b"what?\r\n\r\n").await;
    let error = client.get(&garbage, "", SECOND, 10).await.unwrap_err();
    assert!(matches!(error, HttpError::Broken { .. }), "{error}");
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = Endpoint::parse(&format!("http://{closed}")).unwrap();
    let error = client.get(&nobody, "", SECOND, 10).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }) && !error.may_have_been_sent(), "{error}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_an_order() {
    let (target, touched) = raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let text = format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
    let (redirecting, _) = raw_server(text.leak().as_bytes()).await;
    let answer = HttpClient::default().get(&redirecting, "", SECOND, 10).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
    assert_eq!(touched.load(Ordering::SeqCst), 0);
}
