use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use alloy_primitives::U256;
use das_common::http::client::ClientIdentity;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

use super::*;
use crate::poster_key::LocalKey;

/// An authority with whose certificates both sides show who they are.
struct Authority {
    folder: TempDir,
    certificate: Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("authority"), certificate.pem()).unwrap();
        Self { folder, certificate, key }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a certificate and its key.
    fn issue(&self, name: &str, host: &str) -> ClientIdentity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let issued = params.signed_by(&key, &self.certificate, &self.key).unwrap();
        let identity =
            ClientIdentity { certificate: self.file(name), key: self.file(&format!("{name}-key")) };
        fs::write(&identity.certificate, issued.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    fn acceptor(&self, server: &ClientIdentity) -> TlsAcceptor {
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
        let certificate = CertificateDer::from_pem_file(&server.certificate).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients.unwrap())
            .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(&server.key).unwrap());
        TlsAcceptor::from(Arc::new(config.unwrap()))
    }
}

type Answer = Arc<dyn Fn(Value) -> String + Send + Sync>;

/// A signer whose answers the test chooses.
struct Signer {
    authority: Authority,
    port: u16,
    answer: Arc<Mutex<Answer>>,
    key: Arc<LocalKey>,
}

impl Signer {
    async fn start() -> Self {
        let authority = Authority::new();
        let acceptor = authority.acceptor(&authority.issue("server", "localhost"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let silent: Answer = Arc::new(|_| String::new());
        let answer = Arc::new(Mutex::new(silent));
        let answers = Arc::clone(&answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let (mut held, mut buffer) = (Vec::new(), vec![0; 65_536]);
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        held.extend_from_slice(&buffer[..read]);
                        let Some(head) = held.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
                        // Nothing parses before the body is complete.
                        let Ok(request) = serde_json::from_slice(&held[head + 4..]) else { continue };
                        held.clear();
                        let body = (answers.lock().clone())(request);
                        let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                        if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { authority, port, answer, key: Arc::new(LocalKey::generate()) }
    }

    fn settings(&self) -> RemoteSettings {
        RemoteSettings {
            url: format!("https://us-er:pass-word@localhost:{}/path-token", self.port),
            address: self.key.address(),
            tls: TlsFiles {
                authorities: Some(self.authority.file("authority")),
                identity: Some(self.authority.issue("client", "poster")),
                ..TlsFiles::default()
            },
            deadline: Duration::from_secs(20),
        }
    }

    fn client(&self) -> RemoteSigner {
        RemoteSigner::new(&self.settings()).unwrap()
    }

    fn answers(&self, answer: impl Fn(Value) -> String + Send + Sync + 'static) {
        *self.answer.lock() = Arc::new(answer);
    }

    /// Answers with what this makes of the transaction asked for.
    fn signs(&self, make: impl Fn(&mut Eip1559) -> Value + Send + Sync + 'static) {
        self.answers(move |request| {
            json!({ "jsonrpc": "2.0", "id": 1, "result": make(&mut read_request(&request)) }).to_string()
        });
    }
}

/// The transaction of a request, read as a signer does.
fn read_request(request: &Value) -> Eip1559 {
    assert_eq!(request["method"], "eth_signTransaction");
    let fields = &request["params"][0];
    assert_eq!(fields.as_object().unwrap().len(), 9, "{fields}");
    let number = |name: &str| {
        let text = fields[name].as_str().unwrap();
        let digits = text.strip_prefix("0x").unwrap();
        assert!(digits == "0" || !digits.starts_with('0'), "{name}: {text} is no quantity");
        u128::from_str_radix(digits, 16).unwrap()
    };
    let small = |name: &str| u64::try_from(number(name)).unwrap();
    Eip1559 {
        chain_id: small("chainId"),
        nonce: small("nonce"),
        max_priority_fee_per_gas: number("maxPriorityFeePerGas"),
        max_fee_per_gas: number("maxFeePerGas"),
        gas_limit: small("gas"),
        to: fields["to"].as_str().unwrap().parse().unwrap(),
        value: U256::from(number("value")),
        data: fields["data"].as_str().unwrap().parse().unwrap(),
    }
}

fn transaction() -> Eip1559 {
    Eip1559 {
        chain_id: 42_161,
        nonce: 0,
        max_priority_fee_per_gas: 1_000_000,
        max_fee_per_gas: 3_000_000_000,
        gas_limit: 300_000,
        to: Address::repeat_byte(0x11),
        value: U256::ZERO,
        data: vec![0x88; 100_000].into(),
    }
}

#[tokio::test]
async fn a_signer_is_asked_over_tls_and_answers_in_either_form() {
    let signer = Signer::start().await;
    let client = signer.client();
    let expected = signer.key.sign(&transaction());
    let key = Arc::clone(&signer.key);
    signer.signs(move |asked| json!(key.sign(asked).raw));
    assert_eq!(client.sign(&transaction()).await.unwrap(), expected);
    let key = Arc::clone(&signer.key);
    signer.signs(
        move |asked| json!({ "raw": key.sign(asked).raw, "tx": { "input": asked.data, "gas": "0x1" } }),
    );
    assert_eq!(client.sign(&transaction()).await.unwrap(), expected);
}

#[tokio::test]
async fn a_lying_signer_is_found_out_by_the_field() {
    let signer = Signer::start().await;
    let client = signer.client();
    type Lie = (&'static str, fn(&mut Eip1559));
    let lies: [Lie; 9] = [
        ("chainId", |lie| lie.chain_id += 1),
        ("nonce", |lie| lie.nonce += 1),
        ("maxPriorityFeePerGas", |lie| lie.max_priority_fee_per_gas += 1),
        ("maxFeePerGas", |lie| lie.max_fee_per_gas += 1),
        ("gas", |lie| lie.gas_limit -= 1),
        ("to", |lie| lie.to = Address::repeat_byte(0x12)),
        ("value", |lie| lie.value = U256::ONE),
        ("data", |lie| lie.data = lie.data.slice(1..)),
        ("data", |lie| {
            let mut data = lie.data.to_vec();
            data[99_999] ^= 1;
            lie.data = data.into();
        }),
    ];
    for (name, lie) in lies {
        let key = Arc::clone(&signer.key);
        signer.signs(move |asked| {
            lie(asked);
            json!(key.sign(asked).raw)
        });
        match client.sign(&transaction()).await.unwrap_err() {
            RemoteError::OtherField { field, got, asked, .. } => {
                assert_eq!(field, name);
                assert_ne!(got, asked);
            }
            error => panic!("{name}: {error}"),
        }
    }
    let other = LocalKey::generate();
    let expected = other.address();
    signer.signs(move |asked| json!(other.sign(asked).raw));
    let error = client.sign(&transaction()).await.unwrap_err();
    assert!(matches!(&error, RemoteError::OtherAccount { got, .. } if *got == expected), "{error}");
    assert_eq!(error.fault(), fault::SIGNER_WRONG);
}

#[tokio::test]
async fn what_is_no_signed_transaction_is_refused_within_bounds() {
    let signer = Signer::start().await;
    let client = signer.client();
    let key = Arc::clone(&signer.key);
    signer.signs(move |asked| json!(format!("{}00", key.sign(asked).raw)));
    let error = client.sign(&transaction()).await.unwrap_err();
    assert!(
        matches!(error, RemoteError::Transaction { source: TransactionError::Trailing { .. }, .. }),
        "{error}"
    );
    let results =
        [json!("0x"), json!("0xf86c0a"), json!("02f8"), json!("0x0"), json!("hex"), json!(7), json!(null)];
    for result in results.into_iter().chain([json!({}), json!({ "raw": 1 }), json!([])]) {
        let text = result.to_string();
        signer.signs(move |_| result.clone());
        let error = client.sign(&transaction()).await.unwrap_err();
        assert_eq!(error.fault(), fault::SIGNER_WRONG, "{text}: {error}");
    }
    for answer in ["", "{}", "null", "<html>"] {
        signer.answers(move |_| answer.to_owned());
        let error = client.sign(&transaction()).await.unwrap_err();
        assert!(matches!(error, RemoteError::Malformed { .. }), "{answer}: {error}");
    }
    signer.answers(|_| "1".repeat(2 << 20));
    let error = client.sign(&transaction()).await.unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
    // Its own words are repeated, but not what they say of our URL.
    let words = "rule rejects pass-word at /path-token";
    signer.answers(move |_| json!({ "error": { "code": -32000, "message": words } }).to_string());
    let error = client.sign(&transaction()).await.unwrap_err();
    assert!(
        matches!(&error, RemoteError::Refused { message, .. } if message == "rule rejects ... at /..."),
        "{error}"
    );
    assert_eq!(error.fault(), fault::SIGNER_AWAY);
}

#[tokio::test]
async fn nobody_signs_for_whom_they_do_not_know() {
    let signer = Signer::start().await;
    let key = Arc::clone(&signer.key);
    signer.signs(move |asked| json!(key.sign(asked).raw));
    let stranger = Authority::new();
    // Nobody; somebody whom the signer's authority does not know; and a signer whom our authority does not know.
    let mut nobody = signer.settings();
    nobody.tls.identity = None;
    let mut unknown = signer.settings();
    unknown.tls.identity = Some(stranger.issue("client", "poster"));
    let mut untrusting = signer.settings();
    untrusting.tls.authorities = Some(stranger.file("authority"));
    let mut elsewhere = signer.settings();
    elsewhere.url = format!("https://127.0.0.1:{}", signer.port);
    for settings in [nobody, unknown, untrusting, elsewhere] {
        let error = RemoteSigner::new(&settings).unwrap().sign(&transaction()).await.unwrap_err();
        assert!(matches!(error, RemoteError::Away { .. }), "{error}");
    }
    assert!(signer.client().sign(&transaction()).await.is_ok());
}

#[tokio::test]
async fn a_silent_signer_has_a_deadline() {
    let signer = Signer::start().await;
    // A listener whose queue takes the connection, and nobody who takes it from there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = RemoteSettings {
        url: format!("https://localhost:{}", listener.local_addr().unwrap().port()),
        deadline: Duration::from_millis(50),
        ..signer.settings()
    };
    let error = RemoteSigner::new(&settings).unwrap().sign(&transaction()).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
}

#[tokio::test]
async fn wrong_settings_are_named_and_nothing_secret_is_printed() {
    let signer = Signer::start().await;
    let settings = signer.settings();
    let identity = settings.tls.identity.clone().unwrap();
    let fails = |change: &dyn Fn(&mut RemoteSettings), words: &str| {
        let mut changed = settings.clone();
        change(&mut changed);
        let error = RemoteSigner::new(&changed).unwrap_err();
        assert_eq!(error.fault(), fault::SIGNER_SETTINGS);
        assert!(error.to_string().contains(words), "{words}: {error}");
        error.to_string()
    };
    let mut texts = vec![
        fails(&|s| s.url = "http://us-er:pass-word@localhost/path-token".into(), "must be https"),
        fails(&|s| s.url = "ftp://us-er:pass-word@localhost/path-token".into(), "must be https"),
        fails(&|s| s.url = "path-token".into(), "URL"),
        fails(&|s| s.tls.authorities = Some(signer.authority.file("none")), "none"),
        fails(&|s| s.tls.authorities = Some(identity.key.clone()), "certificate"),
    ];
    let swapped = ClientIdentity { certificate: identity.key.clone(), key: identity.certificate.clone() };
    texts.push(fails(&|s| s.tls.identity = Some(swapped.clone()), "there is no certificate"));
    let other = ClientIdentity { key: signer.authority.issue("other", "x").key, ..identity.clone() };
    texts.push(fails(&|s| s.tls.identity = Some(other.clone()), "do not belong together"));
    texts.push(format!("{settings:?} {:?}", signer.client()));
    let all = texts.join(" ");
    let key = fs::read_to_string(&identity.key).unwrap();
    for secret in ["us-er", "pass-word", "path-token", key.lines().nth(1).unwrap()] {
        assert!(!all.contains(secret), "{secret}: {all}");
    }
    assert!(all.contains(&format!("{} at localhost:{}", settings.address, signer.port)), "{all}");
}
