//! The batch poster's key in an encrypted keystore, and at a signer elsewhere that is asked over mutual TLS: by the options that
//! an operator gives, to the real contract.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod poster;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use das_chain::poster_key::{LocalKey, Password, write_keystore};
use das_common::keystore::parts::WEAKEST_LOG_N;
use das_testnet::chain::DevRpc;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use poster::{PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_keystore_opens_with_its_password_only() {
    let mut world = World::new(20, &[]).await;
    world.kill_aggregator();
    let file = |name: &str| world.home.path().join(name);
    let (keystore, right, wrong) = (file("poster.json"), file("right"), file("wrong"));
    let (key, _) = LocalKey::from_file(&world.network.poster_key_file()).unwrap();
    std::fs::write(&right, "a password of the poster\n").unwrap();
    std::fs::write(&wrong, "another one\n").unwrap();
    let (password, _) = Password::from_file(&right).unwrap();
    std::fs::write(&keystore, write_keystore(&key, &password, WEAKEST_LOG_N).unwrap()).unwrap();
    let options = |password: &Path| {
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        [
            "--post.key.keystore".to_owned(),
            text(&keystore),
            "--post.key.password-file".to_owned(),
            text(password),
        ]
    };

    let refused = options(&wrong);
    let refused: Vec<&str> = refused.iter().map(String::as_str).collect();
    let (status, output) = world.launch(&refused).run_to_end(PATIENCE).unwrap();
    assert!(!status.success() && output.contains("password") && output.contains("poster.json"), "{output}");
    assert!(!output.contains("another one") && !output.contains("a password of the poster"), "{output}");

    let good = options(&right);
    world.start_aggregator(&good.iter().map(String::as_str).collect::<Vec<_>>());
    world.post(1000);
    world.all_is_on_the_chain().await;
}

/// An authority with whose certificates aggregator and signer show who they are.
struct Authority {
    folder: PathBuf,
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("authority"), certificate.pem()).unwrap();
        Self { folder: folder.to_owned(), certificate, key }
    }

    /// Files of a certificate and its key.
    fn issue(&self, name: &str, host: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let issued = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        let files = (self.folder.join(name), self.folder.join(format!("{name}-key")));
        std::fs::write(&files.0, issued.pem()).unwrap();
        std::fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }

    fn acceptor(&self) -> TlsAcceptor {
        let (certificate, key) = self.issue("server", "localhost");
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            );
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

const HONEST: u8 = 0;
/// Signs a transaction that sends something along.
const OTHER: u8 = 1;
const AWAY: u8 = 2;

/// Anvil signs for its own accounts; this stands before it and lets nobody in without a certificate.
async fn signer(acceptor: TlsAcceptor, chain: DevRpc, behaves: Arc<AtomicU8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, chain, behaves) = (acceptor.clone(), chain.clone(), Arc::clone(&behaves));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let (mut held, mut buffer) = (Vec::new(), vec![0; 65_536]);
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    held.extend_from_slice(&buffer[..read]);
                    let Some(head) = held.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
                    // Nothing parses before the body is complete.
                    let Ok(mut request) = serde_json::from_slice::<Value>(&held[head + 4..]) else {
                        continue;
                    };
                    held.clear();
                    match behaves.load(Ordering::Relaxed) {
                        AWAY => return,
                        OTHER => request["params"][0]["value"] = json!("0x1"),
                        _ => {}
                    }
                    let method = request["method"].as_str().unwrap().to_owned();
                    let answer = match chain.call::<Value>(&method, request["params"].take()).await {
                        Ok(result) => json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }),
                        Err(error) => {
                            json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": -1, "message": error.to_string() } })
                        }
                    };
                    let body = answer.to_string();
                    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_signer_signs_what_it_is_asked_for_or_nothing_is_sent() {
    let mut world = World::new(21, &[]).await;
    world.kill_aggregator();
    let authority = Authority::new(&world.home.path().join("tls"));
    let behaves = Arc::new(AtomicU8::new(HONEST));
    let port = signer(authority.acceptor(), world.chain.rpc().clone(), Arc::clone(&behaves)).await;
    let (certificate, key) = authority.issue("client", "poster");
    let account = world.chain.poster();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = |account: String, certificate: &Path, key: &Path| {
        [
            ("url", format!("https://localhost:{port}")),
            ("address", account),
            ("ca", text(&authority.folder.join("authority"))),
            ("cert", text(certificate)),
            ("cert-key", text(key)),
            ("timeout", "2s".to_owned()),
        ]
        .map(|(name, value)| format!("--post.key.remote.{name}={value}"))
    };
    fn start(world: &mut World, options: &[String]) {
        world.kill_aggregator();
        world.start_aggregator(&options.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let good = options(account.to_string(), &certificate, &key);

    // Away at the start: it starts, and posts when the signer is there.
    behaves.store(AWAY, Ordering::Relaxed);
    start(&mut world, &good);
    let id = world.post(1000);
    world.until("the absent signer is told", || world.has_alarm("DAS-POST-011"));
    assert_eq!(world.stage(id), "certified");
    behaves.store(OTHER, Ordering::Relaxed);
    world.until("another transaction is not sent", || {
        world.status(id)["problem"].to_string().contains("value")
    });
    assert_eq!(world.stage(id), "certified");
    behaves.store(HONEST, Ordering::Relaxed);
    world.until("it is posted", || world.stage(id) == "included");
    world.until("the alarm is over", || !world.has_alarm("DAS-POST-011"));

    // Away later.
    behaves.store(AWAY, Ordering::Relaxed);
    let id = world.post(1000);
    world.until("it is told again", || world.has_alarm("DAS-POST-011"));
    behaves.store(HONEST, Ordering::Relaxed);
    world.until("it is posted, too", || world.stage(id) == "included");

    // A client that the signer does not know.
    let stranger = Authority::new(&world.home.path().join("stranger"));
    let (unknown, unknown_key) = stranger.issue("client", "poster");
    start(&mut world, &options(account.to_string(), &unknown, &unknown_key));
    let id = world.post(1000);
    world.until("it is told that the signer lets nobody in", || world.has_alarm("DAS-POST-011"));
    assert_eq!(world.stage(id), "certified");
    start(&mut world, &good);
    world.all_is_on_the_chain().await;
}
