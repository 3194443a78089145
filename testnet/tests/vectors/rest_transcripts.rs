//! `rest_transcripts.json`: a member's REST port, exchange by exchange.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use das_testnet::process::ServerProcess;
use das_testnet::transcripts::{Departure, Instead, Keys, Replay, Request, Variables};
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
pub struct Servers {
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
    pub fn new(file: &Value) -> Self {
        let replay =
            Replay { keys: Keys::default(), departures: DEPARTURES, adjust: better_headers, rule: None };
        Self { file: file.clone(), replay, running: BTreeMap::new() }
    }

    /// Replays one case.
    pub fn check(&mut self, case: &Value) -> Result<(), String> {
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
            let request = json!({
                "method": "POST",
                "path": "/",
                "headers": { "Content-Type": "application/json" },
                "body": format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["${{message}}","{timeout:#x}","0x"]}}"#
                ),
            });
            let request = Request::read(&request, &variables, rpc).map_err(|error| error.to_string())?;
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
