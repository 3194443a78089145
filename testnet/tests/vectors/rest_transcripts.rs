//! `rest_transcripts.json`: a member's REST port, exchange by exchange.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use das_testnet::process::ServerProcess;
use das_testnet::transcripts::{Departure, Instead, Keys, Replay, Request, Unnamed, Variables};
use das_testnet::vectors::bytes;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::rpc_transcripts::{address, start};
use Instead::Answers;

/// Spec section 7.
const LENGTHS: &str = "Nitro pads short hashes and cuts long ones; anything but 32 bytes is 400";
/// Spec section 7.
const POLICY: &str = "with and without the trailing slash";
/// Spec section 7.
const METHODS: &str = "answers GET and HEAD, 405 otherwise";
/// Spec section 7.
const EMPTY: &str = "an empty batch: Nitro says {}, we say that the data is empty";

/// Spec section 7. (A batch of one bin is held under the tree form of its flat hash, which is its tree hash.)
const FLAT: &str = "a flat hash is answered where the flat form is held";

/// The answer in the case "found small".
const SMALL: &str = "{\"data\":\"${*}\"}\n";

const fn bad(case: &'static str) -> Departure {
    Departure { case, step: 0, reason: LENGTHS, instead: Answers(400, "") }
}

const fn policy(case: &'static str) -> Departure {
    Departure {
        case,
        step: 0,
        reason: POLICY,
        instead: Answers(200, "{\"expirationPolicy\":\"KeepForever\"}\n"),
    }
}

const fn method(case: &'static str) -> Departure {
    Departure { case, step: 0, reason: METHODS, instead: Answers(405, "") }
}

const DEPARTURES: &[Departure] = &[
    Departure { case: "flat hash of a small message", step: 0, reason: FLAT, instead: Answers(200, SMALL) },
    bad("hash of 31 bytes"),
    bad("hash of 1 byte"),
    bad("hash of 33 bytes, right one at the end"),
    bad("hash of 33 bytes, right one at the start"),
    bad("hash 0x"),
    policy("expiration policy"),
    policy("expiration policy with slash"),
    policy("expiration policy with two slashes"),
    method("POST found"),
    method("POST health"),
    method("POST unknown path"),
    method("PUT found"),
    method("PUT health"),
    method("PUT unknown path"),
    method("DELETE found"),
    method("DELETE health"),
    method("DELETE unknown path"),
    method("OPTIONS found"),
    method("OPTIONS health"),
    method("OPTIONS unknown path"),
    method("PATCH found"),
    method("PATCH health"),
    method("PATCH unknown path"),
    Departure {
        case: "found empty message",
        step: 0,
        reason: EMPTY,
        instead: Answers(200, "{\"data\":\"\"}\n"),
    },
];

/// The same for cases of other names, seen from what is sent.
fn by_rule(file: &Value, step: Unnamed<'_>) -> Option<(&'static str, Instead)> {
    let path = step.request["path"].as_str()?.split('?').next()?;
    if !matches!(step.request["method"].as_str()?, "GET" | "HEAD") {
        return Some((METHODS, Answers(405, "")));
    }
    let (first, rest) = path.trim_matches('/').split_once('/').unwrap_or((path.trim_matches('/'), ""));
    let status = step.response["status"].as_u64()?;
    match first {
        "expiration-policy" if status == 400 => {
            Some((POLICY, Answers(200, "{\"expirationPolicy\":\"${*}\"}\n")))
        }
        "get-by-hash" => {
            let digits = rest.trim_matches('/').strip_prefix("0x").unwrap_or(rest.trim_matches('/'));
            let flat = |stored: &&Value| {
                stored["flat_hash"].as_str().and_then(|hash| hash.strip_prefix("0x")) == Some(digits)
            };
            let stored = file["stored"].as_array()?.iter().find(flat);
            if status != 400 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) && digits.len() != 64 {
                Some((LENGTHS, Answers(400, "")))
            } else if step.response["body"] == "{}\n" {
                Some((EMPTY, Answers(200, "{\"data\":\"\"}\n")))
            } else if status == 404 && stored.is_some_and(|stored| bytes(&stored["message"]).len() <= 65_536)
            {
                Some((FLAT, Answers(200, SMALL)))
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Spec section 7, in every case: JSON is called JSON, and what is found under a hash may be cached for ever. (Nitro sets
/// that header too late for it to be sent.)
fn better_headers(_case: &str, expected: &mut Value) {
    let found = expected["status"] == 200 && expected["headers"].get("Content-Type").is_some();
    let policy = expected["body"].as_str().is_some_and(|body| body.contains("expirationPolicy"));
    if found {
        expected["headers"]["Content-Type"] = json!("application/json");
        if !policy {
            expected["headers"]["Cache-Control"] = json!("public, max-age=2419200, immutable");
        }
    }
}

/// The servers of the file with what is stored on them, each started when its first case comes.
pub(crate) struct Servers {
    file: Value,
    replay: Replay<'static>,
    running: BTreeMap<String, Running>,
}

struct Running {
    address: SocketAddr,
    // In this order: the server ends, then its directory goes.
    _server: ServerProcess,
    _dir: TempDir,
}

impl Servers {
    /// What the file's description promises.
    pub(crate) fn new(file: &Value) -> Self {
        let copy = file.clone();
        let replay = Replay {
            keys: Keys::default(),
            departures: DEPARTURES,
            by_rule: Box::new(move |step| by_rule(&copy, step)),
            adjust: better_headers,
            rule: None,
        };
        Self { file: file.clone(), replay, running: BTreeMap::new() }
    }

    /// Replays one case.
    pub(crate) fn check(&mut self, case: &Value) -> Result<(), String> {
        let name = case["server"].as_str().ok_or("a case without a server")?;
        if !self.running.contains_key(name) {
            let running = self.start(name)?;
            self.running.insert(name.to_owned(), running);
        }
        self.replay.case(case, self.running[name].address)
    }

    fn start(&self, name: &str) -> Result<Running, String> {
        let ports = [
            "--enable-rpc",
            "--rpc-addr=127.0.0.1",
            "--rpc-port=0",
            "--enable-rest",
            "--rest-addr=127.0.0.1",
            "--rest-port=0",
        ];
        let (server, dir) = start(&self.file["servers"][name], &ports)?;
        let rpc = address(&server, "rpc")?;
        for stored in self.file["stored"].as_array().into_iter().flatten() {
            let timeout = stored["timeout"].as_u64().ok_or("a stored message without a timeout")?;
            let mut variables = Variables::new(&self.replay.keys, None);
            variables
                .add(&json!({ "message": { "hex": stored["message"] } }))
                .map_err(|error| error.to_string())?;
            let request =
                json!({ "method": "POST", "path": "/", "headers": { "Content-Type": "application/json" } });
            let params =
                format!(r#"["{}","{timeout:#x}","0x"]"#, variables.get("message").unwrap_or_default());
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":{params}}}"#);
            let request =
                Request::read(&request, &body, &variables, rpc).map_err(|error| error.to_string())?;
            let answer = request.send(rpc).map_err(|error| error.to_string())?;
            let answer = String::from_utf8_lossy(&answer.body).into_owned();
            // The hash under which the cases ask for it.
            let hash = stored["tree_hash"].as_str().ok_or("a stored message without a hash")?;
            if !answer.contains(&format!("\"dataHash\":\"{hash}\"")) {
                return Err(format!("{hash} was not stored: {answer}"));
            }
        }
        Ok(Running { address: address(&server, "rest")?, _server: server, _dir: dir })
    }
}
