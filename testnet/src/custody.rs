//! What a test or a measurement asks a committee that turns cold batches into shards.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use das_common::wire::parse_get_by_hash;
use serde_json::Value;

use crate::http::Connection;
use crate::load::bodies::{BodyMaker, ChunkedBody, StoreBody};
use crate::network::{Network, NetworkError, Who};

/// The longest batch, or chunk, that fits into a request of five megabytes as hex.
const ONE_REQUEST: usize = 2_500_000;

/// How often something that is waited for is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Why a batch was not stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// No answer, or none that is HTTP.
    #[error("{0}")]
    NoAnswer(String),
    /// An answer that is not the one wanted.
    #[error("status {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The beginning of the answer.
        text: String,
    },
    /// Another batch than the one asked for.
    #[error("asked for {asked}, got {got}")]
    Other {
        /// The name that was asked for.
        asked: DataHash,
        /// The name of what came.
        got: DataHash,
    },
}

fn refused(status: u16, body: &[u8]) -> ExchangeError {
    let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
    ExchangeError::Refused { status, text }
}

/// Stores a batch over a connection to a JSON-RPC listener.
///
/// # Errors
/// When no certificate or signature comes back.
pub fn store(rpc: &mut Connection, body: &StoreBody) -> Result<(), ExchangeError> {
    let answer = rpc.post_json(&[&body.json]).map_err(|e| ExchangeError::NoAnswer(e.to_string()))?;
    let parsed: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if parsed["result"]["sig"].is_string() { Ok(()) } else { Err(refused(answer.status, &answer.body)) }
}

/// Stores a batch in chunks over a connection to a JSON-RPC listener: what does not fit into one request.
///
/// # Errors
/// When no certificate or signature comes back.
pub fn store_chunked(rpc: &mut Connection, body: &ChunkedBody, key: &StoreKey) -> Result<(), ExchangeError> {
    let mut ask = |pieces: &[&[u8]]| {
        let answer = rpc.post_json(pieces).map_err(|e| ExchangeError::NoAnswer(e.to_string()))?;
        let parsed: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        if parsed["result"].is_null() && !parsed["error"].is_null() {
            return Err(refused(answer.status, &answer.body));
        }
        Ok((parsed, answer))
    };
    let (started, answer) = ask(&[body.start(key).as_bytes()])?;
    let id = started["result"]["BatchId"].as_str().and_then(|id| id.strip_prefix("0x"));
    let id = id.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let id = id.ok_or_else(|| refused(answer.status, &answer.body))?;
    for (index, hex) in body.chunks_hex.iter().enumerate() {
        let (head, tail) = body.send(key, id, index);
        ask(&[head.as_bytes(), hex.as_bytes(), tail.as_bytes()])?;
    }
    let (stored, answer) = ask(&[body.commit(key, id).as_bytes()])?;
    if stored["result"]["sig"].is_string() { Ok(()) } else { Err(refused(answer.status, &answer.body)) }
}

/// Makes the next batch and stores it, in chunks when it is too long for one request; its name.
///
/// # Errors
/// When no certificate or signature comes back.
pub fn store_next(
    rpc: &mut Connection,
    maker: &mut BodyMaker,
    size: usize,
) -> Result<DataHash, ExchangeError> {
    if size > ONE_REQUEST {
        let body = maker.chunked(size, ONE_REQUEST);
        store_chunked(rpc, &body, maker.key()).map(|()| body.hash)
    } else {
        let body = maker.store(size);
        store(rpc, &body).map(|()| body.hash)
    }
}

/// Reads a batch over a connection to a REST listener and checks its name; its length.
///
/// # Errors
/// When anything else than that batch comes back.
pub fn read(rest: &mut Connection, hash: &DataHash) -> Result<usize, ExchangeError> {
    let answer = rest.get(&format!("/get-by-hash/{hash}"));
    let answer = answer.map_err(|e| ExchangeError::NoAnswer(e.to_string()))?;
    let batch = match answer.status {
        200 => parse_get_by_hash(&answer.body).map_err(|_| refused(200, &answer.body))?,
        status => return Err(refused(status, &answer.body)),
    };
    let got = DataHash::of(&batch);
    if got == *hash { Ok(batch.len()) } else { Err(ExchangeError::Other { asked: *hash, got }) }
}

/// What a member says at `/custody`; nothing when it does not answer.
pub fn report(network: &Network, member: usize) -> Option<Value> {
    let rest = network.addresses(Who::Member(member)).ok()?.rest;
    let connection = Connection::new(&rest).ok()?;
    let answer = connection.stall_limit(Duration::from_secs(10)).get("/custody").ok()?;
    serde_json::from_slice(&answer.body).ok()
}

/// How many batches a member has in a form (`hot`, `waiting`, `sharded`, `whole`, `missing`); 0 when it does not answer.
pub fn batches(network: &Network, member: usize, form: &str) -> u64 {
    report(network, member).map_or(0, |report| report["batches"][form].as_u64().unwrap_or(0))
}

/// To how many of the others a member is connected.
pub fn connected(network: &Network, member: usize) -> usize {
    let report = report(network, member).unwrap_or_default();
    let peers = report["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().filter(|peer| peer["connected"] == true).count()
}

/// Whether all these members have so many batches as their shard only.
pub fn all_sharded(network: &Network, members: &[usize], wanted: u64) -> bool {
    members.iter().all(|member| batches(network, *member, "sharded") == wanted)
}

/// Looks until it is so; how long that took, or nothing when it was not so for `at_most`.
pub fn wait_until(at_most: Duration, mut is_so: impl FnMut() -> bool) -> Option<Duration> {
    let begun = Instant::now();
    while !is_so() {
        if begun.elapsed() > at_most {
            return None;
        }
        std::thread::sleep(POLL);
    }
    Some(begun.elapsed())
}

/// What the members' data directories take on disk now, in bytes of allocated blocks, write-ahead logs included.
pub fn disk_of_members(network: &Network) -> u64 {
    (0..network.settings().members.len())
        .map(|member| allocated(&network.dir().join(Who::Member(member).to_string()).join("data")))
        .sum()
}

/// Bytes of the blocks of everything below a directory. Files that go meanwhile count as nothing.
pub fn allocated(path: &Path) -> u64 {
    let own = std::fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512);
    let Ok(entries) = std::fs::read_dir(path) else { return own };
    own + entries.flatten().map(|entry| allocated(&entry.path())).sum::<u64>()
}

/// Ends those members and starts all others.
///
/// # Errors
/// When one does not end or start well.
pub fn leave_out(network: &mut Network, out: &[usize]) -> Result<(), NetworkError> {
    for member in out {
        network.stop(Who::Member(*member))?;
    }
    for member in (0..network.settings().members.len()).filter(|member| !out.contains(member)) {
        network.start(Who::Member(member))?;
    }
    Ok(())
}

/// Changes how long a member keeps batches whole, from its next start.
///
/// # Errors
/// When its configuration cannot be read or written.
pub fn set_hot_retention(network: &Network, member: usize, time: &str) -> std::io::Result<()> {
    let path = network.dir().join(Who::Member(member).to_string()).join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["custody"]["hot-retention"] = time.into();
    std::fs::write(&path, config.to_string())
}

/// All choices of `k` out of `n`, each but for one swap like the one before: little has to be ended and started
/// between them.
pub fn choices(n: usize, k: usize) -> Vec<Vec<usize>> {
    if k == 0 {
        return vec![Vec::new()];
    }
    if k == n {
        return vec![(0..n).collect()];
    }
    let mut all = choices(n - 1, k);
    all.extend(choices(n - 1, k - 1).into_iter().rev().map(|mut choice| {
        choice.push(n - 1);
        choice
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_all_different_and_one_swap_apart() {
        let all = choices(6, 3);
        assert_eq!(all.len(), 20);
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
        for pair in all.windows(2) {
            assert_eq!(pair[0].iter().filter(|member| !pair[1].contains(member)).count(), 1, "{pair:?}");
        }
    }
}
