//! One operation of a client: what is sent, and whether the answer is right.

use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use serde_json::Value;

use super::bodies::{ChunkedBody, StoreBody};
use crate::http::{Answer, Connection, HttpError};

/// The text of a refusal for a wrong signer (part of the protocol).
const REFUSAL: &str = "request not properly signed";

/// One in so many reads is hashed completely, after its time was taken.
pub(super) const HASHED_READS: u64 = 16;

/// What a client does.
#[derive(Debug)]
pub(super) enum Operation {
    Store(StoreBody),
    Chunked(ChunkedBody),
    Refused(StoreBody),
    Read(Stored),
}

impl Operation {
    /// Bytes of the batch it carries.
    pub(super) fn length(&self) -> usize {
        match self {
            Self::Store(body) | Self::Refused(body) => body.length,
            Self::Chunked(body) => body.batch.len(),
            Self::Read(batch) => batch.length,
        }
    }
}

/// A batch on the servers, and enough of it to know it again.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) hash: DataHash,
    length: usize,
}

impl Stored {
    pub(super) fn of(body: &StoreBody) -> Self {
        Self { hash: body.hash, length: body.length }
    }
}

/// Why an operation does not count.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error("status {} with {:.200}", .0.status, .0.text())]
    Answer(Answer),
    #[error("a wrong signature was not refused: {:.200}", .0.text())]
    NotRefused(Answer),
    #[error("a read of {hash} returned other bytes")]
    WrongBytes { hash: DataHash },
}

/// The connections of one client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) rpc: Vec<Connection>,
    pub(super) rest: Vec<Connection>,
    /// Which of several servers comes next.
    pub(super) turn: usize,
}

impl Client {
    /// Performs an operation. What is returned is for [`check_after`], once the time is taken.
    pub(super) fn perform(&mut self, operation: &Operation, key: &StoreKey) -> Result<Answer, Failure> {
        self.turn = self.turn.wrapping_add(1);
        match operation {
            Operation::Store(body) => {
                let answer = next(&mut self.rpc, self.turn).post_json(&[&body.json])?;
                stored(answer, &body.hash)
            }
            Operation::Refused(body) => {
                let answer = next(&mut self.rpc, self.turn).post_json(&[&body.json])?;
                let refused =
                    answer.status == 200 && memchr::memmem::find(&answer.body, REFUSAL.as_bytes()).is_some();
                if refused { Ok(answer) } else { Err(Failure::NotRefused(answer)) }
            }
            Operation::Chunked(body) => chunked(next(&mut self.rpc, self.turn), body, key),
            Operation::Read(batch) => {
                let answer = next(&mut self.rest, self.turn).get(&format!("/get-by-hash/{}", batch.hash))?;
                if answer.status == 200 { Ok(answer) } else { Err(Failure::Answer(answer)) }
            }
        }
    }
}

fn next(connections: &mut [Connection], turn: usize) -> &mut Connection {
    let n = connections.len();
    &mut connections[turn % n]
}

fn stored(answer: Answer, hash: &DataHash) -> Result<Answer, Failure> {
    let named = format!(r#""dataHash":"0x{hash}""#);
    let right = answer.status == 200 && memchr::memmem::find(&answer.body, named.as_bytes()).is_some();
    if right { Ok(answer) } else { Err(Failure::Answer(answer)) }
}

/// Chunks go one after another on the client's connection: the load's concurrency is that of its clients.
fn chunked(connection: &mut Connection, body: &ChunkedBody, key: &StoreKey) -> Result<Answer, Failure> {
    let start = connection.post_json(&[body.start(key).as_bytes()])?;
    let id = serde_json::from_slice::<Value>(&start.body).ok();
    let id = id.as_ref().and_then(|v| v.pointer("/result/BatchId")?.as_str()?.strip_prefix("0x"));
    let Some(id) = id.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
        return Err(Failure::Answer(start));
    };
    for (index, hex) in body.chunks_hex.iter().enumerate() {
        let (head, tail) = body.send(key, id, index);
        let answer = connection.post_json(&[head.as_bytes(), hex.as_bytes(), tail.as_bytes()])?;
        if memchr::memmem::find(&answer.body, br#""error""#).is_some() {
            return Err(Failure::Answer(answer));
        }
    }
    let answer = connection.post_json(&[body.commit(key, id).as_bytes()])?;
    stored(answer, &body.hash)
}

/// Checks that need not be timed: the bytes of a read.
pub(super) fn check_after(operation: &Operation, answer: &Answer, hash_it: bool) -> Result<(), Failure> {
    let Operation::Read(batch) = operation else { return Ok(()) };
    let wrong = || Failure::WrongBytes { hash: batch.hash };
    let base64 = answer.body.strip_prefix(br#"{"data":""#.as_slice()).ok_or_else(wrong)?;
    let end = memchr::memchr(b'"', base64).ok_or_else(wrong)?;
    let base64 = &base64[..end];
    if base64.len() != batch.length.div_ceil(3) * 4 {
        return Err(wrong());
    }
    if hash_it {
        let bytes = base64_simd::STANDARD.decode_to_vec(base64).map_err(|_| wrong())?;
        if DataHash::of(&bytes) != batch.hash {
            return Err(wrong());
        }
    }
    Ok(())
}
