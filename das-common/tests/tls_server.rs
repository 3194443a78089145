//! TLS at the accept loop, with clients that do not behave.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use das_common::http::client::{ClientLimits, Endpoint, HttpClient};
use das_common::http::server::{Door, Limits, serve_over};
use das_common::tls::{ServerFiles, ServerTls, TlsFiles, TlsVersion};
use rcgen::{CertificateParams, KeyPair};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that answers what it was sent, and a client that trusts it.
async fn server(folder: &Path, limits: Limits) -> (SocketAddr, HttpClient, CancellationToken) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let own = params.self_signed(&key).expect("a certificate");
    let (certificate, secret) = (folder.join("own.pem"), folder.join("own.key"));
    std::fs::write(&certificate, own.pem()).expect("written");
    std::fs::write(&secret, key.serialize_pem()).expect("written");
    let files = ServerFiles {
        certificate: certificate.clone(),
        key: secret,
        min_version: TlsVersion::Tls13,
        clients: None,
    };
    let tls = ServerTls::open(files).expect("usable files");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let echo = axum::Router::new().fallback(|body: axum::body::Bytes| async move { body });
    let echo = echo.layer(axum::extract::DefaultBodyLimit::disable());
    let stop = CancellationToken::new();
    let door = Door { tls: Some(tls.for_everybody()), clients: None };
    tokio::spawn(serve_over(door, listener, echo, limits, stop.clone()));
    let files = TlsFiles { authorities: Some(certificate), ..TlsFiles::default() };
    let http = HttpClient::with_tls(ClientLimits::default(), &files).expect("usable files");
    (address, http, stop)
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::parse(&format!("https://localhost:{}", address.port())).expect("a URL")
}

#[tokio::test]
async fn large_bodies_come_and_go_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (address, http, stop) = server(folder.path(), Limits::default()).await;
    let body: Vec<u8> = (0..5_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..2 {
        let answer = http
            .post_json(&endpoint(address), body.clone().into(), PATIENCE, body.len())
            .await
            .expect("an answer");
        assert_eq!(answer.body, body);
    }
    stop.cancel();
}

#[tokio::test]
async fn connections_that_say_nothing_keep_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let limits = Limits {
        max_connections: 16,
        max_handshakes: 2,
        handshake_timeout: PATIENCE,
        scarce_timeout: Duration::from_millis(200),
        ..Limits::default()
    };
    let (address, http, stop) = server(folder.path(), limits).await;
    let mut silent = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address).await.expect("the system accepts");
        // Every fourth begins to speak TLS and goes no further.
        if number % 4 == 0 {
            let _ = stream.write_all(&[0x16, 3, 1]).await;
        }
        silent.push(stream);
    }
    let answer =
        http.post_json(&endpoint(address), "still there".into(), PATIENCE, 100).await.expect("an answer");
    assert_eq!(&answer.body[..], b"still there");
    drop(silent);
    stop.cancel();
}
