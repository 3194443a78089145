//! Request bodies with random batches, signed and in hex, built ahead of their use.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use das_common::data_hash::DataHash;
use das_common::store_auth::{RequestDigest, StoreKey};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// How long the servers are asked to keep a batch of the load generator.
const KEEP_SECONDS: u64 = 3 * 24 * 3600;

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// A finished `das_store` request.
#[derive(Debug, Clone)]
pub struct StoreBody {
    /// The JSON text.
    pub json: Vec<u8>,
    /// What the answer must name.
    pub hash: DataHash,
    /// The batch's length.
    pub length: usize,
    /// Until when it must be kept, in unix seconds.
    pub timeout: u64,
}

/// A batch to be stored in chunks. What can be prepared of it is: the signatures of the chunks cover an id that only the
/// server knows.
#[derive(Debug, Clone)]
pub struct ChunkedBody {
    /// The batch.
    pub batch: Vec<u8>,
    /// What the answer must name.
    pub hash: DataHash,
    /// Until when it must be kept, in unix seconds.
    pub timeout: u64,
    /// Bytes in a chunk (the last may be shorter).
    pub chunk_size: usize,
    /// The chunks in hex, without 0x.
    pub chunks_hex: Vec<String>,
}

/// Makes distinct random batches and the requests that store them.
#[derive(Debug)]
pub struct BodyMaker {
    key: Arc<StoreKey>,
    rng: StdRng,
    made: u64,
}

impl BodyMaker {
    /// Requests are signed with `key`; equal seeds give equal batches.
    pub fn new(key: Arc<StoreKey>, seed: u64) -> Self {
        Self { key, rng: StdRng::seed_from_u64(seed), made: 0 }
    }

    /// The next batch.
    pub fn batch(&mut self, size: usize) -> Vec<u8> {
        let mut batch = vec![0; size];
        self.rng.fill_bytes(&mut batch);
        self.made += 1;
        // Distinct also where random bytes are too few to be.
        let tag = self.made.to_be_bytes();
        let n = tag.len().min(size);
        batch[..n].copy_from_slice(&tag[tag.len() - n..]);
        batch
    }

    /// A timeout for the next batch: all different, so that no two chunked starts of a second look like a replay.
    pub fn timeout(&self) -> u64 {
        unix_now() + KEEP_SECONDS + self.made % KEEP_SECONDS
    }

    /// A `das_store` request with the next batch.
    pub fn store(&mut self, size: usize) -> StoreBody {
        let batch = self.batch(size);
        let timeout = self.timeout();
        store_body(&self.key, &batch, timeout)
    }

    /// A chunked store of the next batch.
    pub fn chunked(&mut self, size: usize, chunk_size: usize) -> ChunkedBody {
        let batch = self.batch(size);
        let chunks_hex = batch.chunks(chunk_size.max(1)).map(const_hex::encode).collect();
        ChunkedBody { hash: DataHash::of(&batch), timeout: self.timeout(), batch, chunk_size, chunks_hex }
    }

    /// The key that requests are signed with.
    pub fn key(&self) -> &Arc<StoreKey> {
        &self.key
    }
}

/// The `das_store` request for a batch.
pub fn store_body(key: &StoreKey, batch: &[u8], timeout: u64) -> StoreBody {
    const HEAD: &str = r#"{"jsonrpc":"2.0","id":1,"method":"das_store","params":["0x"#;
    let signature = key.sign(&RequestDigest::store(batch, timeout));
    let tail = format!(r#"","{timeout:#x}","0x{}"]}}"#, const_hex::encode(signature));
    let mut json = Vec::with_capacity(HEAD.len() + 2 * batch.len() + tail.len());
    json.extend_from_slice(HEAD.as_bytes());
    let at = json.len();
    json.resize(at + 2 * batch.len(), 0);
    const_hex::encode_to_slice(batch, &mut json[at..]).expect("the space is twice the batch");
    json.extend_from_slice(tail.as_bytes());
    StoreBody { json, hash: DataHash::of(batch), length: batch.len(), timeout }
}

impl ChunkedBody {
    /// The `das_startChunkedStore` request.
    pub fn start(&self, key: &StoreKey) -> String {
        let numbers = [
            unix_now(),
            self.chunks_hex.len() as u64,
            self.chunk_size as u64,
            self.batch.len() as u64,
            self.timeout,
        ];
        let [timestamp, n_chunks, chunk_size, total_size, timeout] = numbers;
        let digest = RequestDigest::start_chunked(timestamp, n_chunks, chunk_size, total_size, timeout);
        let signature = const_hex::encode(key.sign(&digest));
        let numbers = numbers.map(|n| format!(r#""{n:#x}""#)).join(",");
        request("das_startChunkedStore", &format!(r#"{numbers},"0x{signature}""#))
    }

    /// What stands before and after the chunk's hex digits in its `das_sendChunk` request.
    pub fn send(&self, key: &StoreKey, id: u64, index: usize) -> (String, String) {
        let start = index * self.chunk_size;
        let chunk = &self.batch[start..self.batch.len().min(start + self.chunk_size)];
        let signature = const_hex::encode(key.sign(&RequestDigest::send_chunk(chunk, id, index as u64)));
        let head = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"das_sendChunk","params":["{id:#x}","{index:#x}","0x"#
        );
        (head, format!(r#"","0x{signature}"]}}"#))
    }

    /// The `das_commitChunkedStore` request.
    pub fn commit(&self, key: &StoreKey, id: u64) -> String {
        let signature = const_hex::encode(key.sign(&RequestDigest::commit_chunked(id)));
        request("das_commitChunkedStore", &format!(r#""{id:#x}","0x{signature}""#))
    }
}

fn request(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":[{params}]}}"#)
}
