//! `daprovider_transcripts.json`: the provider server over a committee of three members, exchange by exchange.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64_simd::{STANDARD, URL_SAFE_NO_PAD};
use das_common::rpc_client::store_body;
use das_common::store_auth::{RequestDigest, StoreKey};
use das_testnet::http::Connection;
use das_testnet::process::{Launch, ServerProcess};
use das_testnet::transcripts::{Departure, Instead, Keys, Replay, Unnamed};
use das_testnet::vectors::{bytes, number};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rpc_transcripts::{address, start};
use Instead::{Answers, Refuses};

/// Spec section 6: an aggregator of ours uses the plain call, which an empty batch can go through.
const EMPTY: &str =
    "an empty message cannot go through the chunked calls, and ours goes through the plain one";
/// Spec section 10.
const TOO_LARGE: &str = "a message above the maximum is refused, so that a smaller batch is made";
/// Spec section 6, "Chunked store".
const REPLAY: &str = "two batches of one size and timeout in one second must not look like a replay";

const CERTIFICATE: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"serialized-da-cert\":\"0x88${*}\"}}\n";

const DEPARTURES: &[Departure] = &[
    Departure { case: "store empty message", step: 0, reason: EMPTY, instead: Answers(200, CERTIFICATE) },
    Departure {
        case: "store 1000001 bytes",
        step: 0,
        reason: TOO_LARGE,
        instead: Refuses("message too large for current DA backend"),
    },
    Departure {
        case: "two stores of equal size and timeout in one second: the members see a replay",
        step: 1,
        reason: REPLAY,
        instead: Answers(200, CERTIFICATE),
    },
];

/// The same for cases of other names: what a store asks for says whether ours does it.
fn by_rule(servers: &Value, step: Unnamed<'_>) -> Option<(&'static str, Instead)> {
    const DEFAULT_MAXIMUM: usize = 1_000_000;
    let call: Value = serde_json::from_str(step.body).ok()?;
    if call["method"] != "daprovider_store" {
        return None;
    }
    let length = call["params"][0].as_str()?.len().saturating_sub(2) / 2;
    let timeout = u64::from_str_radix(call["params"][1].as_str()?.strip_prefix("0x")?, 16).ok()?;
    let recorded = step.response["body"].as_str()?;
    if length > DEFAULT_MAXIMUM && recorded.contains("serialized-da-cert") {
        return Some((TOO_LARGE, Refuses("message too large for current DA backend")));
    }
    let everybody_would_sign = servers[step.server]["members_down"].is_null()
        && i64::try_from(timeout).is_ok_and(|timeout| timeout > 0);
    let fell_back = recorded.contains("DA provider requests fallback to next writer");
    match (fell_back && everybody_would_sign, length) {
        (false, _) => None,
        (true, 0) => Some((EMPTY, Answers(200, CERTIFICATE))),
        (true, _) => Some((REPLAY, Answers(200, CERTIFICATE))),
    }
}

/// Answers are sent as they are: compression is the server's choice, and these answers are small or incompressible.
fn uncompressed(_case: &str, expected: &mut Value) {
    if let Some(headers) = expected["headers"].as_object_mut()
        && headers.remove("Content-Encoding").is_some()
    {
        headers.remove("Vary");
    }
}

/// The members, and the provider servers over them, each started when its first case comes.
pub(crate) struct Servers {
    file: Value,
    members: Vec<Member>,
    running: BTreeMap<String, (SocketAddr, ServerProcess)>,
    dir: TempDir,
}

struct Member {
    rpc: String,
    rest: String,
    public_key: String,
    // In this order: the server ends, then its directory goes.
    _server: ServerProcess,
    _dir: TempDir,
}

impl Servers {
    /// What the file's description promises.
    pub(crate) fn new(file: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let described = file["members"].as_array().expect("a list of members");
        let members =
            described.iter().map(Member::start).collect::<Result<_, _>>().expect("the members start");
        let servers = Self { file: file.clone(), members, running: BTreeMap::new(), dir };
        servers.store_before();
        servers
    }

    fn poster(&self) -> &str {
        self.file["keys"]["poster"]["secret"].as_str().expect("the poster's key")
    }

    fn store_before(&self) {
        let key = StoreKey::from_hex(self.poster()).expect("a key");
        for stored in self.file["stored_on_every_member_before"].as_array().into_iter().flatten() {
            let (message, timeout) = (bytes(&stored["message"]), number(&stored["timeout"]));
            let signature = key.sign(&RequestDigest::store(&message, timeout));
            let body = store_body(&message, timeout, &signature);
            for member in &self.members {
                let answer = Connection::new(&member.rpc).and_then(|mut c| c.post_json(&[&body]));
                let answer = answer.expect("the member answers").text();
                assert!(answer.contains("\"sig\""), "{answer}");
            }
        }
    }

    /// Replays one case.
    pub(crate) fn check(&mut self, case: &Value) -> Result<(), String> {
        let name = case["server"].as_str().ok_or("a case without a server")?;
        if !self.running.contains_key(name) {
            let server = self.start(name)?;
            self.running.insert(name.to_owned(), (address(&server, "provider")?, server));
        }
        let secret = bytes(&self.file["jwt_secret"]);
        let rule = |kind: &str, value: &Value| (kind == "jwt").then(|| token(value, &secret));
        let replay = Replay {
            by_rule: Box::new(|step| by_rule(&self.file["servers"], step)),
            keys: Keys::read(&self.file["keys"]).map_err(|error| error.to_string())?,
            departures: DEPARTURES,
            adjust: uncompressed,
            rule: Some(&rule),
        };
        replay.case(case, self.running[name].0)
    }

    fn start(&self, name: &str) -> Result<ServerProcess, String> {
        let described = &self.file["servers"][name];
        let down: Vec<u64> =
            described["members_down"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
        let backends: Vec<Value> = (0..)
            .zip(&self.members)
            .map(|(index, member)| {
                // The lowest ports of this machine are nobody's.
                let nobody = format!("http://127.0.0.1:{}", index + 1);
                let url = if down.contains(&index) { &nobody } else { &member.rpc };
                json!({ "url": url, "pubkey": member.public_key })
            })
            .collect();
        let reads: Vec<&str> = self.members.iter().map(|member| member.rest.as_str()).collect();
        let keysets = self.keyset_files()?;
        let mut launch = Launch::new("das-aggregator").args([
            "--provider-server.enable".to_owned(),
            "--provider-server.addr=127.0.0.1".to_owned(),
            "--provider-server.port=0".to_owned(),
            format!("--provider-server.keyset-files={}", keysets.join(",")),
            format!("--data-availability.rpc-aggregator.assumed-honest={}", described["assumed_honest"]),
            format!("--data-availability.rpc-aggregator.backends={}", Value::from(backends)),
            "--data-availability.rest-aggregator.enable".to_owned(),
            format!("--data-availability.rest-aggregator.urls={}", reads.join(",")),
        ]);
        if described["writer"] == true {
            launch = launch
                .arg("--provider-server.enable-da-writer")
                .arg(format!("--data-availability.store-key.hex={}", self.poster()));
        }
        if described["jwt"] == true {
            let path = self.dir.path().join("jwtsecret");
            let secret = self.file["jwt_secret"].as_str().ok_or("no token secret")?;
            std::fs::write(&path, secret).map_err(|error| error.to_string())?;
            launch = launch.arg(format!("--provider-server.jwtsecret={}", path.display()));
        }
        launch.start().map_err(|error| error.to_string())
    }

    fn keyset_files(&self) -> Result<Vec<String>, String> {
        let keysets = self.file["keysets"].as_object().ok_or("no keysets")?;
        keysets
            .iter()
            .map(|(name, keyset)| write(&self.dir.path().join(name), &bytes(&keyset["bytes"])))
            .collect()
    }
}

fn write(path: &Path, content: &[u8]) -> Result<String, String> {
    std::fs::write(path, content).map_err(|error| error.to_string())?;
    Ok(path.display().to_string())
}

impl Member {
    fn start(described: &Value) -> Result<Self, String> {
        let ports = [
            "--enable-rpc",
            "--rpc-addr=127.0.0.1",
            "--rpc-port=0",
            "--enable-rest",
            "--rest-addr=127.0.0.1",
            "--rest-port=0",
        ];
        let (server, dir) = start(&described["options"], &ports)?;
        let url = |listener| Ok::<_, String>(format!("http://{}", address(&server, listener)?));
        Ok(Self {
            rpc: url("rpc")?,
            rest: url("rest")?,
            public_key: STANDARD.encode_to_string(bytes(&described["public_key"])),
            _server: server,
            _dir: dir,
        })
    }
}

/// A token as the file describes it: algorithm, whose secret, and claims in which `NOW` stands for the time.
fn token(value: &Value, secret: &[u8]) -> String {
    let text = |name: &str| value[name].as_str().unwrap_or_default();
    let header = format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"}}", text("alg"));
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode_to_string(bytes);
    let signed = format!("{}.{}", encode(header.as_bytes()), encode(fill_times(text("claims")).as_bytes()));
    let wrong: Vec<u8> = secret.iter().map(|byte| byte ^ 1).collect();
    let tag = match text("secret") {
        "none" => Vec::new(),
        "right" => hmac_sha256(secret, signed.as_bytes()).to_vec(),
        _ => hmac_sha256(&wrong, signed.as_bytes()).to_vec(),
    };
    format!("{signed}.{}", encode(&tag))
}

/// `NOW+n` and `NOW-n` replaced by seconds.
fn fill_times(claims: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut parts = claims.split("NOW");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part[1..].find(|c: char| !c.is_ascii_digit()).map_or(part.len(), |end| end + 1);
        let offset: i64 = part[..digits].parse().unwrap_or_default();
        filled.push_str(&now.saturating_add_signed(offset).to_string());
        filled.push_str(&part[digits..]);
    }
    filled
}

/// HMAC by its definition, for keys of up to one block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    use sha2::{Digest, Sha256};
    let mut pads = [[0x36_u8; 64], [0x5c; 64]];
    for pad in &mut pads {
        pad.iter_mut().zip(key).for_each(|(pad, key)| *pad ^= key);
    }
    let inner = Sha256::new().chain_update(pads[0]).chain_update(message).finalize();
    Sha256::new().chain_update(pads[1]).chain_update(inner).finalize().into()
}
