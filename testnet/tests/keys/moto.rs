//! PyPI's moto server as the key management service: a process that speaks its protocol.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Python takes its time to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where scripts/test installs it.
fn program() -> PathBuf {
    let cache = || match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => PathBuf::from("/nonexistent"),
    };
    let folder = std::env::var_os("DAS_MOTO_DIR").map_or_else(|| cache().join("das/moto"), PathBuf::from);
    let program = folder.join("bin/moto_server");
    assert!(program.exists(), "{} is missing: `scripts/test keys` installs it", program.display());
    program
}

pub(crate) struct Moto {
    process: Child,
    port: u16,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(port)
    }

    pub(crate) fn start_at(port: u16) -> Self {
        let process = Command::new(program())
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let moto = Self { process, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "moto does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        moto
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Calls the service as its tools do; the signature is not checked.
    pub(crate) fn call(&self, action: &str, body: &Value) -> Value {
        call(self.port, "us-east-1", action, body)
    }

    /// Makes a key; its id.
    pub(crate) fn make_key(&self) -> String {
        let made = self.call("CreateKey", &serde_json::json!({}));
        made["KeyMetadata"]["KeyId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    }
}

/// A user, and what it shows to be that one.
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl Moto {
    /// Makes a user, who may do nothing.
    pub(crate) fn make_user(&self, name: &str) -> User {
        self.manage(&format!("Action=CreateUser&Version=2010-05-08&UserName={name}"));
        let made = self.manage(&format!("Action=CreateAccessKey&Version=2010-05-08&UserName={name}"));
        let field = |tag: &str| {
            let (_, rest) = made.split_once(&format!("<{tag}>")).unwrap_or_else(|| panic!("{made}"));
            rest.split('<').next().unwrap().to_owned()
        };
        User { id: field("AccessKeyId"), secret: field("SecretAccessKey") }
    }

    /// Replaces what a user may do by this statement.
    pub(crate) fn allow(&self, user: &str, statement: &Value) {
        let policy = serde_json::json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let policy: String = policy.bytes().map(|byte| format!("%{byte:02X}")).collect();
        self.manage(&format!(
            "Action=PutUserPolicy&Version=2010-05-08&UserName={user}&PolicyName=only&PolicyDocument={policy}"
        ));
    }

    /// From now on signatures and rights are looked at, or no longer.
    pub(crate) fn enforce(&self, on: bool) {
        let free_calls = if on { "0" } else { "inf" };
        request(self.port, "/moto-api/reset-auth", "", free_calls);
    }

    /// A call of the service that knows users.
    fn manage(&self, form: &str) -> String {
        let head = authorization("us-east-1", "iam") + "Content-Type: application/x-www-form-urlencoded\r\n";
        request(self.port, "/", &head, form)
    }
}

/// The same in a region, where only the port is known.
pub(crate) fn call(port: u16, region: &str, action: &str, body: &Value) -> Value {
    let head = authorization(region, "kms");
    let head =
        format!("{head}X-Amz-Target: TrentService.{action}\r\nContent-Type: application/x-amz-json-1.1\r\n");
    let answer = request(port, "/", &head, &body.to_string());
    serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{answer}"))
}

fn authorization(region: &str, service: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=test/20200101/{region}/{service}/aws4_request, SignedHeaders=host, \
         Signature=0\r\n"
    )
}

fn request(port: u16, path: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}")).1.to_owned()
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
