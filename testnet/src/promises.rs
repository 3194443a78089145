//! The committee's promise, tested: whatever was signed can be read back.
//!
//! A [`Storm`] of clients stores at a server until the server is gone, and writes every signature that arrived into a
//! [`Ledger`]. Afterwards, when the server has been started again on what is left of its disk, [`check`] reads every
//! promised batch back and verifies its signature. A promise counts from the moment its answer was read; what was in
//! flight may or may not be there.
//!
//! Batches are not kept in memory: each is made again from its recipe.

mod storm;

use std::collections::BTreeMap;
use std::sync::Mutex;

use das_common::bls::{PublicKey, Signature};
use das_common::certificate::signed_bytes_v1;
use das_common::data_hash::DataHash;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

use crate::http::{Connection, HttpError};

pub use storm::Storm;

/// From what a batch can be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Seed of its bytes.
    pub seed: u64,
    /// Its length.
    pub size: usize,
}

impl Recipe {
    /// The batch.
    pub fn batch(&self) -> Vec<u8> {
        let mut batch = vec![0; self.size];
        StdRng::seed_from_u64(self.seed).fill_bytes(&mut batch);
        batch
    }
}

/// One signed answer of a server.
#[derive(Debug, Clone)]
pub struct Promise {
    /// The batch.
    pub recipe: Recipe,
    /// Until when it will be kept, in unix seconds.
    pub timeout: u64,
    /// The server's signature over the hash and the timeout.
    pub signature: Vec<u8>,
}

/// All that was promised so far.
#[derive(Debug, Default)]
pub struct Ledger {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By data hash: the promise that reaches furthest.
    promises: BTreeMap<DataHash, Promise>,
    /// In the order of their arrival.
    order: Vec<DataHash>,
    answers: u64,
    refusals: BTreeMap<String, u64>,
}

impl Ledger {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().expect("no thread panics while it writes the ledger")
    }

    /// Writes down an answer that was read.
    pub fn promised(&self, hash: DataHash, promise: Promise) {
        let mut inner = self.inner();
        inner.answers += 1;
        match inner.promises.get_mut(&hash) {
            Some(known) if known.timeout >= promise.timeout => {}
            Some(known) => *known = promise,
            None => {
                inner.promises.insert(hash, promise);
                inner.order.push(hash);
            }
        }
    }

    /// Writes down an answer that was no signature.
    pub fn refused(&self, text: String) {
        *self.inner().refusals.entry(text).or_default() += 1;
    }

    /// How many signatures arrived, repeated batches included.
    pub fn answers(&self) -> u64 {
        self.inner().answers
    }

    /// How many distinct batches are promised.
    pub fn batches(&self) -> usize {
        self.inner().order.len()
    }

    /// Answers that were no signatures, with their count.
    pub fn refusals(&self) -> BTreeMap<String, u64> {
        self.inner().refusals.clone()
    }

    /// The promises from the `first`-th batch on, in the order of their arrival.
    pub fn promises_from(&self, first: usize) -> Vec<(DataHash, Promise)> {
        let inner = self.inner();
        let order = inner.order.get(first..).unwrap_or_default();
        order.iter().map(|hash| (*hash, inner.promises[hash].clone())).collect()
    }
}

/// A promise that was not kept.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The server says it has no such batch, or that it cannot read it.
    #[error("{hash}, {size} bytes, was signed and is not served: status {status}")]
    NotServed {
        /// The batch.
        hash: DataHash,
        /// Its length.
        size: usize,
        /// The status code.
        status: u16,
    },
    /// The server serves something else under its name.
    #[error("{hash}, {size} bytes, was signed and other bytes are served")]
    OtherBytes {
        /// The batch.
        hash: DataHash,
        /// Its length.
        size: usize,
    },
    /// The signature is not the server's.
    #[error("the signature for {hash} until {timeout} is not valid")]
    BadSignature {
        /// The batch.
        hash: DataHash,
        /// Until when it was to be kept.
        timeout: u64,
    },
    /// The server could not be asked.
    #[error("reading {hash} back: {source}")]
    Unreachable {
        /// The batch.
        hash: DataHash,
        /// What happened.
        source: HttpError,
    },
}

/// Reads promised batches back from a server and verifies their signatures; returns what is broken.
pub fn check(rest_url: &str, key: &PublicKey, promises: &[(DataHash, Promise)]) -> Vec<Broken> {
    let mut connection = match Connection::new(rest_url) {
        Ok(connection) => connection,
        Err(source) => {
            let hash = promises.first().map_or_else(|| DataHash::of(&[]), |(hash, _)| *hash);
            return vec![Broken::Unreachable { hash, source }];
        }
    };
    promises
        .iter()
        .filter_map(|(hash, promise)| check_one(&mut connection, key, *hash, promise).err())
        .collect()
}

fn check_one(
    connection: &mut Connection,
    key: &PublicKey,
    hash: DataHash,
    promise: &Promise,
) -> Result<(), Broken> {
    let size = promise.recipe.size;
    let answer = connection
        .get(&format!("/get-by-hash/{hash}"))
        .map_err(|source| Broken::Unreachable { hash, source })?;
    if answer.status != 200 {
        return Err(Broken::NotServed { hash, size, status: answer.status });
    }
    let served: Option<Vec<u8>> = serde_json::from_slice::<serde_json::Value>(&answer.body)
        .ok()
        .and_then(|v| base64_simd::STANDARD.decode_to_vec(v.get("data")?.as_str()?).ok());
    if served.is_none_or(|served| served != promise.recipe.batch()) {
        return Err(Broken::OtherBytes { hash, size });
    }
    let signed = signed_bytes_v1(&hash, promise.timeout);
    let valid = Signature::parse(&promise.signature).is_ok_and(|signature| key.verify(&signed, &signature));
    if valid { Ok(()) } else { Err(Broken::BadSignature { hash, timeout: promise.timeout }) }
}

/// The seed of a random test: `DAS_SEED`, or a fresh one. The caller prints it.
///
/// # Panics
/// When `DAS_SEED` is no number.
pub fn test_seed() -> u64 {
    match std::env::var("DAS_SEED") {
        Ok(text) => text.parse().expect("DAS_SEED is a number"),
        Err(_) => rand::random(),
    }
}
