//! Clients that store as fast as they can until the server is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::{Ledger, Promise, Recipe};
use crate::http::{Connection, HttpError};
use crate::load::bodies::{ChunkedBody, store_body, unix_now};

/// Sizes of batches: around the bin of the data hash, below and above what fits into one write, and large.
const SIZES: [usize; 8] = [1, 300, 5_000, 40_000, 65_536, 65_537, 300_000, 1_200_000];

/// Bytes in a chunk of the chunked stores.
const CHUNK: usize = 100_000;

/// Timeouts lie between these many seconds from now.
const TIMEOUTS: std::ops::Range<u64> = 3_600..14 * 24 * 3_600;

/// A running storm.
#[derive(Debug)]
pub struct Storm {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Storm {
    /// Lets so many clients loose on a server. Each stores new batches of several sizes, plainly and in chunks, and
    /// some of its earlier ones again with another timeout. A client ends when its connection fails.
    pub fn begin(
        rpc_url: &str,
        key: &Arc<StoreKey>,
        ledger: &Arc<Ledger>,
        clients: u64,
        seed: u64,
    ) -> Result<Self, HttpError> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for index in 0..clients {
            let mut client = Client {
                connection: Connection::new(rpc_url)?,
                key: key.clone(),
                ledger: ledger.clone(),
                rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(index)),
                stored: Vec::new(),
            };
            let stop = stop.clone();
            threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) && client.store_something().is_ok() {}
            }));
        }
        Ok(Self { stop, clients: threads })
    }

    /// Waits until all clients have noticed that the server is gone, or have finished their current request.
    pub fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client of the storm does not panic");
        }
    }
}

struct Client {
    connection: Connection,
    key: Arc<StoreKey>,
    ledger: Arc<Ledger>,
    rng: StdRng,
    stored: Vec<Recipe>,
}

impl Client {
    fn store_something(&mut self) -> Result<(), HttpError> {
        let again = self.rng.random_ratio(1, 5) && !self.stored.is_empty();
        let recipe = if again {
            self.stored[self.rng.random_range(0..self.stored.len())]
        } else {
            // Small ones more often, so that many promises are made.
            let largest = self.rng.random_range(1..=SIZES.len());
            Recipe { seed: self.rng.random(), size: SIZES[self.rng.random_range(0..largest)] }
        };
        let batch = recipe.batch();
        let timeout = unix_now() + self.rng.random_range(TIMEOUTS);
        let answer = if self.rng.random_ratio(1, 6) {
            self.store_chunked(batch, timeout)?
        } else {
            let body = store_body(&self.key, &batch, timeout);
            (body.hash, self.call(&body.json)?)
        };
        if self.record(recipe, timeout, &answer) && !again {
            self.stored.push(recipe);
        }
        Ok(())
    }

    fn call(&mut self, json: &[u8]) -> Result<Value, HttpError> {
        let answer = self.connection.post_json(&[json])?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or_else(|_| answer.text().into()))
    }

    fn store_chunked(&mut self, batch: Vec<u8>, timeout: u64) -> Result<(DataHash, Value), HttpError> {
        let chunks_hex = batch.chunks(CHUNK).map(const_hex::encode).collect();
        let body = ChunkedBody { hash: DataHash::of(&batch), batch, timeout, chunk_size: CHUNK, chunks_hex };
        let started = self.call(body.start(&self.key).as_bytes())?;
        let id =
            started.pointer("/result/BatchId").and_then(Value::as_str).and_then(|id| id.strip_prefix("0x"));
        let Some(id) = id.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
            return Ok((body.hash, started));
        };
        for (index, hex) in body.chunks_hex.iter().enumerate() {
            let (head, tail) = body.send(&self.key, id, index);
            let answer = self.call(&[head.as_bytes(), hex.as_bytes(), tail.as_bytes()].concat())?;
            if answer.get("error").is_some() {
                return Ok((body.hash, answer));
            }
        }
        let answer = self.call(body.commit(&self.key, id).as_bytes())?;
        Ok((body.hash, answer))
    }

    /// Writes the answer into the ledger; was it a signature?
    fn record(&self, recipe: Recipe, timeout: u64, (hash, answer): &(DataHash, Value)) -> bool {
        let text = |field: &str| answer.pointer(&format!("/result/{field}")).and_then(Value::as_str);
        let signature = text("sig").and_then(|hex| const_hex::decode(hex).ok());
        let named = text("dataHash").is_some_and(|name| name.trim_start_matches("0x") == hash.to_string());
        let until =
            text("timeout").and_then(|hex| u64::from_str_radix(hex.trim_start_matches("0x"), 16).ok());
        match (signature, until) {
            // A promise for less than was asked for is none.
            (Some(signature), Some(until)) if named && until >= timeout => {
                self.ledger.promised(*hash, Promise { recipe, timeout: until, signature });
                true
            }
            _ => {
                let mut text = answer.to_string();
                text.truncate(text.floor_char_boundary(300));
                self.ledger.refused(text);
                false
            }
        }
    }
}
