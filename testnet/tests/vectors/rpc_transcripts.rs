//! `rpc_transcripts.json`: a member's JSON-RPC port, exchange by exchange.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use das_testnet::process::{Launch, ServerProcess};
use das_testnet::transcripts::{Departure, Instead, Keys, Replay, Unnamed};
use serde_json::Value;
use tempfile::TempDir;

use Instead::{Answers, LeftOut, Refuses};

/// Spec section 5.
const SIGNATURES: &str = "a request signature is exactly 65 bytes with v 0, 1, 27 or 28";
/// Spec section 6, "Chunked store".
const SIZES: &str =
    "the number of chunks and their size are checked against the total before anything is kept";
/// Spec section 6, "Chunked store".
const REPLAYS: &str = "a start is a replay when it was accepted before, and the whole signature is compared";

/// Spec section 6: Nitro's comparison overflows for the last seconds that fit into an i64. Section 12, rule 2: what is
/// promised is checked.
const RETENTION: &str = "a timeout further away than now + max-retention is refused";

/// Refused where Nitro accepts, for what the signature looks like.
const fn unsigned(case: &'static str, step: usize) -> Departure {
    Departure { case, step, reason: SIGNATURES, instead: Refuses("request not properly signed") }
}

const fn left_out(case: &'static str, step: usize, reason: &'static str) -> Departure {
    Departure { case, step, reason, instead: LeftOut }
}

const MORE: &str = "chunked store, more chunks promised than the total needs";
const FEWER: &str = "chunked store, fewer chunks promised than the total needs";
const APPENDED: &str = "start replayed with a byte appended to the signature (not seen as a replay)";
const ELEVENTH: &str = "eleventh pending message, and its retry after the others are gone";
const EMPTY_SIGNATURES: &str =
    "unchecked chunked store with empty signatures; the second start looks like a replay";
const STARTED: &str = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"BatchId\":\"0x${*}\"}}\n";

const DEPARTURES: &[Departure] = &[
    Departure {
        case: "store timeout 2^63-1",
        step: 0,
        reason: RETENTION,
        instead: Refuses(
            "requested expiry time (9223372036854775807) exceeds current time plus maximum allowed",
        ),
    },
    unsigned("store signature v 9", 0),
    unsigned("store signature 64 bytes", 0),
    unsigned("store signature 66 bytes", 0),
    Departure {
        case: MORE,
        step: 0,
        reason: SIZES,
        instead: Refuses("3 chunks of 5 bytes do not make 10 bytes"),
    },
    left_out(MORE, 1, SIZES),
    left_out(MORE, 2, SIZES),
    left_out(MORE, 3, SIZES),
    left_out(MORE, 4, SIZES),
    Departure {
        case: FEWER,
        step: 0,
        reason: SIZES,
        instead: Refuses("1 chunks of 5 bytes do not make 12 bytes"),
    },
    left_out(FEWER, 1, SIZES),
    left_out(FEWER, 2, SIZES),
    unsigned(APPENDED, 1),
    left_out(APPENDED, 3, SIGNATURES),
    // Nitro remembers the start that it refused; ours refuses it for the same reason again, then takes it.
    Departure { case: ELEVENTH, step: 11, reason: REPLAYS, instead: Refuses("already 10 pending") },
    Departure { case: ELEVENTH, step: 22, reason: REPLAYS, instead: Answers(200, STARTED) },
    // Nitro compares the last 32 bytes, with zeros where there are fewer: 0x00 is 0x to it.
    Departure { case: EMPTY_SIGNATURES, step: 4, reason: REPLAYS, instead: Answers(200, STARTED) },
];

/// The same for cases of other names, seen from what is sent: where it was accepted, and is none of these.
fn by_rule(servers: &Value, step: Unnamed<'_>) -> Option<(&'static str, Instead)> {
    let recorded: Value = serde_json::from_str(step.response["body"].as_str()?).ok()?;
    recorded.get("result")?;
    let request: Value = serde_json::from_str(step.body).ok()?;
    let params = request["params"].as_array()?;
    let method = request["method"].as_str()?.strip_prefix("das_")?;
    let number =
        |index: usize| u64::from_str_radix(params.get(index)?.as_str()?.strip_prefix("0x")?, 16).ok();

    let options = &servers[step.server];
    let is_checked = options.get("data-availability.extra-signature-checking-public-key").is_some();
    let signature = const_hex::decode(params.last()?.as_str()?).ok()?;
    let is_signature = signature.len() == 65 && matches!(signature[64], 0 | 1 | 27 | 28);
    let signed = ["store", "startChunkedStore", "sendChunk", "commitChunkedStore"].contains(&method);
    if is_checked && signed && !is_signature {
        return Some((SIGNATURES, Refuses("request not properly signed")));
    }
    if method == "startChunkedStore" {
        let (chunks, size, total) = (number(1)?, number(2)?, number(3)?);
        if total.checked_div(size)? + u64::from(total % size > 0) != chunks {
            return Some((SIZES, Refuses("can't start collecting new message: ")));
        }
    }
    // Where Nitro's comparison with now + max-retention overflows.
    const LAST: u64 = i64::MAX as u64 - 62_135_596_800;
    if method == "store" && (LAST..=i64::MAX as u64).contains(&number(1)?) {
        return Some((RETENTION, Refuses("requested expiry time (")));
    }
    None
}

/// The servers of the file, each started when its first case comes.
pub(crate) struct Servers {
    options: Value,
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
        let servers = file["servers"].clone();
        let replay = Replay {
            keys: Keys::read(&file["keys"]).expect("the file's keys"),
            departures: DEPARTURES,
            by_rule: Box::new(move |step| by_rule(&servers, step)),
            adjust: |_, _| {},
            rule: None,
        };
        Self { options: file["servers"].clone(), replay, running: BTreeMap::new() }
    }

    /// Replays one case.
    pub(crate) fn check(&mut self, case: &Value) -> Result<(), String> {
        let name = case["server"].as_str().ok_or("a case without a server")?;
        if !self.running.contains_key(name) {
            let (server, dir) =
                start(&self.options[name], &["--enable-rpc", "--rpc-addr=127.0.0.1", "--rpc-port=0"])?;
            let address = address(&server, "rpc")?;
            self.running.insert(name.to_owned(), Running { address, _server: server, _dir: dir });
        }
        self.replay.case(case, self.running[name].address)
    }
}

/// A member with recorded options and a fresh data directory.
pub(crate) fn start(options: &Value, more: &[&str]) -> Result<(ServerProcess, TempDir), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut launch = Launch::new("das-node").args(more);
    for (option, value) in options.as_object().ok_or("a server that is not described")? {
        let value = value.as_str().ok_or("an option that is no string")?;
        launch = launch
            .arg(format!("--{option}={}", value.replace("${data_dir}", &dir.path().display().to_string())));
    }
    Ok((launch.start().map_err(|error| error.to_string())?, dir))
}

/// Where a server listens.
pub(crate) fn address(server: &ServerProcess, listener: &str) -> Result<SocketAddr, String> {
    let url = server.ready().url(listener).map_err(|error| error.to_string())?;
    let host = url.strip_prefix("http://").unwrap_or_default().trim_end_matches('/');
    host.parse().map_err(|_| format!("{url} is no address"))
}
