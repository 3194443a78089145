//! One member with TLS files, and those who call it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use das_common::http::client::{ClientLimits, Endpoint, HttpClient, HttpError, HttpResponse, TlsFiles};
use das_testnet::process::{Launch, ServerProcess};
use das_testnet::tls::{Authority, Identity, InForce};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};
use tempfile::TempDir;

/// Far more than anything takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// The name of the client that may come.
pub(crate) const CLIENT: &str = "aggregator.example";

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A member's folder, with an authority of servers and one of clients.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) servers: Authority,
    pub(crate) clients: Authority,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = folder();
        let servers = Authority::new(&folder.path().join("servers")).unwrap();
        let clients = Authority::new(&folder.path().join("clients")).unwrap();
        let place = Self { folder, servers, clients };
        std::fs::create_dir_all(place.path("data")).unwrap();
        let key = das_common::bls::SecretKey::generate();
        das_common::bls::write_key_files(&place.path("keys"), &key).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server's certificate for this machine.
    pub(crate) fn good(&self) -> Identity {
        self.server("member", InForce::Always)
    }

    pub(crate) fn server(&self, file: &str, in_force: InForce) -> Identity {
        self.servers.issue(file, &["localhost", "127.0.0.1"], in_force).unwrap()
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str, in_force: InForce) -> Identity {
        self.clients.issue(name, &[name], in_force).unwrap()
    }

    /// A member without TLS.
    pub(crate) fn plain(&self) -> Launch {
        Launch::new("das-node")
            .args(["--enable-rest", "--rest-port", "0", "--enable-rpc", "--rpc-port", "0", "--metrics"])
            .args(["--metrics-server.port", "0", "--data-availability.disable-signature-checking"])
            .arg("--data-availability.local-file-storage.enable")
            .arg("--data-availability.local-file-storage.data-dir")
            .arg(self.path("data"))
            .arg("--data-availability.key.key-dir")
            .arg(self.path("keys"))
    }

    /// A member with this certificate.
    pub(crate) fn member(&self, own: &Identity) -> Launch {
        let launch = self.plain().args(["--require-tls", "--tls.cert"]).arg(&own.certificate);
        launch.arg("--tls.key").arg(&own.key)
    }

    /// A member whose JSON-RPC port is for one client.
    pub(crate) fn closed_member(&self) -> Launch {
        let launch = self.member(&self.good()).arg("--tls.rpc.client-ca").arg(self.clients.file());
        launch.args(["--tls.rpc.allowed-clients", CLIENT])
    }

    /// Trusts the authority of servers, and shows this certificate.
    pub(crate) fn files(&self, own: Option<Identity>) -> TlsFiles {
        TlsFiles {
            authorities: Some(self.servers.file()),
            identity: own.map(Into::into),
            ..TlsFiles::default()
        }
    }
}

pub(crate) fn http(files: &TlsFiles) -> HttpClient {
    HttpClient::with_tls(ClientLimits::default(), files).unwrap()
}

/// Asks for the health of a member by JSON-RPC.
pub(crate) async fn ask_rpc(http: &HttpClient, member: &ServerProcess) -> Result<HttpResponse, HttpError> {
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"das_healthCheck","params":[]}"#;
    let endpoint = Endpoint::parse(&member.rpc_url()).unwrap();
    http.post_json(&endpoint, body.into(), LONG, 1 << 20).await
}

/// Asks for the health of a member by REST.
pub(crate) async fn ask_rest(http: &HttpClient, member: &ServerProcess) -> Result<HttpResponse, HttpError> {
    http.get(&Endpoint::parse(&member.rest_url()).unwrap(), "/health", LONG, 1 << 20).await
}

/// The status of a member.
pub(crate) fn alarms(http: &HttpClient, member: &ServerProcess) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let endpoint = Endpoint::parse(&member.rest_url()).unwrap();
    let answer = runtime.block_on(http.get(&endpoint, "/status", LONG, 1 << 20)).unwrap();
    let status: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    let alarms = status["alarms"].as_array().unwrap();
    alarms.iter().map(|alarm| alarm["code"].as_str().unwrap().to_owned()).collect()
}

/// That the call failed, with the code of TLS and these words.
#[track_caller]
pub(crate) fn assert_refused(outcome: Result<HttpResponse, HttpError>, words: &str) {
    match outcome {
        Ok(answer) => panic!("it was answered with {}, expected: {words}", answer.status),
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains("DAS-TLS-005") && text.contains(words), "expected {words}\nin {text}");
        }
    }
}

/// Begins a connection with these versions; the server's certificate, or why there is none.
pub(crate) fn shake(
    url: &str,
    authority: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Vec<u8>, String> {
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(authority).unwrap();
    let found = rustls::pki_types::pem::PemObject::pem_slice_iter(&pem);
    for certificate in found.collect::<Result<Vec<rustls::pki_types::CertificateDer<'_>>, _>>().unwrap() {
        roots.add(certificate).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let address = url.trim_start_matches("https://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).map_err(|error| error.to_string())?;
    }
    Ok(session.peer_certificates().unwrap()[0].to_vec())
}
