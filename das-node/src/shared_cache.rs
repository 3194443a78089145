//! A read cache that several servers share: a Redis, in Nitro's format.
//!
//! ```text
//! key     data hash (32 bytes)
//! value   batch || HMAC-Keccak-256(key of all who share it, batch) (32 bytes)
//! ```
//!
//! # Guarantees, whatever the Redis does
//! - What comes out of it is used only with a right tag, and then only if its hash is the one that was asked for.
//! - A read waits for it for [`RedisCacheOptions::timeout`] at most, and after some failures in a row not at all.
//! - Nobody waits for what is put there: it goes through a queue of bounded memory, and what does not fit is left out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::alarm::Alarms;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::keccak::Keccak;
use das_common::telemetry::names;
use metrics::{Counter, counter};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisError};
use subtle::ConstantTimeEq;
use thiserror::Error;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::breaker::Breaker;
use crate::options::RedisCacheOptions;
use crate::options::archive::parse_key;

/// Bytes of a tag.
const TAG: usize = 32;
/// Bytes that one step of Keccak-256 takes, which is the block of its HMAC.
const BLOCK: usize = 136;
/// Entries on their way; their bytes are bounded by an option.
const QUEUE: usize = 4096;
/// Nobody waits for a write.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The Redis is asked whether it is there this often.
const PING_ROUND: Duration = Duration::from_secs(5);
/// A wrong tag is an alarm for so long.
const WRONG_LASTS: Duration = Duration::from_secs(600);

/// Why there is no shared cache.
#[derive(Debug, Error)]
pub enum CacheError {
    /// The URL. It may hold a password and is not repeated.
    #[error(
        "it is no URL of a Redis ({reason}); give one such as redis://127.0.0.1:6379 or rediss:// for TLS"
    )]
    Url {
        /// What the parser says.
        reason: String,
    },
    /// The key.
    #[error("the key is not 32 bytes of hex")]
    Key,
}

/// The shared cache. Cheap to clone.
#[derive(Clone)]
pub struct SharedCache(Arc<Inner>);

struct Inner {
    client: Client,
    tags: Tags,
    timeout: Duration,
    expiration: Duration,
    max_batch: usize,
    /// For reads; writes have one of their own, behind which no read waits.
    connection: Mutex<Option<MultiplexedConnection>>,
    breaker: Breaker,
    queue: mpsc::Sender<VerifiedBatch>,
    pending: AtomicU64,
    max_pending: u64,
    state: Mutex<State>,
    reads: Reads,
    writes: Writes,
}

#[derive(Default)]
struct State {
    failing: Option<String>,
    wrong: Option<Instant>,
}

struct Reads {
    hit: Counter,
    miss: Counter,
    wrong: Counter,
    failed: Counter,
    skipped: Counter,
}

struct Writes {
    ok: Counter,
    failed: Counter,
    left_out: Counter,
}

impl SharedCache {
    /// Prepares the cache; nothing is connected yet. `max_batch`: bytes of the longest batch. The writer is to be run.
    pub fn new(options: &RedisCacheOptions, max_batch: usize) -> Result<(Self, CacheWriter), CacheError> {
        let url = options.url.expose();
        if url.starts_with("rediss") {
            // The library takes the process's own. Where one was chosen already, it is this one too.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let client =
            Client::open(url).map_err(|error| CacheError::Url { reason: error.category().to_owned() })?;
        let key = parse_key(options.key_config.expose()).ok_or(CacheError::Key)?;
        let (queue, entries) = mpsc::channel(QUEUE);
        let read = |result: &'static str| counter!(names::SHARED_CACHE_READS, "result" => result);
        let write = |result: &'static str| counter!(names::SHARED_CACHE_WRITES, "result" => result);
        let cache = Self(Arc::new(Inner {
            client,
            tags: Tags::new(key),
            timeout: options.timeout,
            expiration: options.expiration,
            max_batch,
            connection: Mutex::default(),
            breaker: Breaker::default(),
            queue,
            pending: AtomicU64::new(0),
            max_pending: options.max_pending_bytes.0,
            state: Mutex::default(),
            reads: Reads {
                hit: read("hit"),
                miss: read("miss"),
                wrong: read("wrong"),
                failed: read("failed"),
                skipped: read("skipped"),
            },
            writes: Writes { ok: write("ok"), failed: write("failed"), left_out: write("left out") },
        }));
        Ok((cache.clone(), CacheWriter { cache, entries }))
    }

    /// The batch, if it is there and right. Whatever is wrong with the Redis is no more than a miss.
    pub async fn get(&self, hash: &DataHash) -> Option<VerifiedBatch> {
        let inner = &self.0;
        if !inner.breaker.allows() {
            inner.reads.skipped.increment(1);
            return None;
        }
        let answer = tokio::time::timeout(inner.timeout, inner.fetch(hash)).await;
        let value = match answer {
            Ok(Ok(value)) => value,
            Ok(Err(error)) => return inner.failed(&error.to_string()),
            Err(_) => return inner.failed(&format!("no answer within {:?}", inner.timeout)),
        };
        inner.breaker.ended(true);
        inner.state.lock().failing = None;
        if value.is_empty() {
            inner.reads.miss.increment(1);
            return None;
        }
        let (cache, hash) = (self.clone(), *hash);
        let checked = tokio::task::spawn_blocking(move || {
            let value = cache.0.tags.verify(&Bytes::from(value))?;
            VerifiedBatch::check(value, &hash).ok()
        });
        match checked.await.ok().flatten() {
            Some(batch) => {
                inner.reads.hit.increment(1);
                Some(batch)
            }
            None => {
                inner.reads.wrong.increment(1);
                inner.state.lock().wrong = Some(Instant::now());
                None
            }
        }
    }

    /// Puts a batch there, some time soon, or not.
    pub fn put(&self, batch: &VerifiedBatch) {
        let inner = &self.0;
        let bytes = batch.bytes().len() as u64;
        let fits = inner.pending.fetch_add(bytes, Ordering::Relaxed) + bytes <= inner.max_pending;
        if !fits || inner.queue.try_send(batch.clone()).is_err() {
            inner.pending.fetch_sub(bytes, Ordering::Relaxed);
            inner.writes.left_out.increment(1);
        }
    }
}

impl Inner {
    async fn fetch(&self, hash: &DataHash) -> Result<Vec<u8>, RedisError> {
        let known = self.connection.lock().clone();
        let mut connection = match known {
            Some(connection) => connection,
            None => {
                let made = self.connect(self.timeout).await?;
                *self.connection.lock() = Some(made.clone());
                made
            }
        };
        // No more than the longest batch: somebody else's entry may be anything.
        let most = self.max_batch + TAG;
        redis::cmd("GETRANGE").arg(hash.as_bytes()).arg(0).arg(most - 1).query_async(&mut connection).await
    }

    async fn connect(&self, timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    fn failed<T>(&self, reason: &str) -> Option<T> {
        self.reads.failed.increment(1);
        self.forget_connection(reason);
        None
    }

    /// One that hangs would hang for everybody behind.
    fn forget_connection(&self, reason: &str) {
        *self.connection.lock() = None;
        self.breaker.ended(false);
        self.state.lock().failing = Some(reason.to_owned());
    }

    fn update(&self, alarms: &Alarms) {
        let mut state = self.state.lock();
        match &state.failing {
            Some(reason) => {
                let info = self.client.get_connection_info().addr();
                let text = format!("the shared cache at {info} cannot be used: {reason}");
                alarms.raise_fault(fault::CACHE_UNREACHABLE, text);
            }
            None => alarms.clear(fault::CACHE_UNREACHABLE.code),
        }
        match state.wrong {
            Some(since) if since.elapsed() < WRONG_LASTS => {
                let text = "entries of the shared cache have no right tag, or are not what they are named";
                alarms.raise_fault(fault::CACHE_WRONG, text);
            }
            Some(_) => {
                state.wrong = None;
                alarms.clear(fault::CACHE_WRONG.code);
            }
            None => {}
        }
    }
}

/// Writes what is put into the cache.
pub struct CacheWriter {
    cache: SharedCache,
    entries: mpsc::Receiver<VerifiedBatch>,
}

impl CacheWriter {
    /// Works for ever.
    pub async fn run(mut self, alarms: Alarms) {
        let mut connection = None;
        let mut look = tokio::time::interval(PING_ROUND);
        loop {
            tokio::select! {
                entry = self.entries.recv() => {
                    let Some(batch) = entry else { return };
                    self.write(&mut connection, batch).await;
                }
                _ = look.tick() => {
                    self.ping().await;
                    self.cache.0.update(&alarms);
                }
            }
        }
    }

    async fn write(&self, connection: &mut Option<MultiplexedConnection>, batch: VerifiedBatch) {
        let inner = &self.cache.0;
        let bytes = batch.bytes().len() as u64;
        // While it is away, entries are left out and not gathered.
        let written = if inner.state.lock().failing.is_some() {
            None
        } else {
            Some(tokio::time::timeout(WRITE_TIMEOUT, self.set(connection, batch)).await)
        };
        inner.pending.fetch_sub(bytes, Ordering::Relaxed);
        match written {
            Some(Ok(Ok(()))) => inner.writes.ok.increment(1),
            Some(Ok(Err(error))) => {
                *connection = None;
                inner.writes.failed.increment(1);
                inner.forget_connection(&error.to_string());
            }
            Some(Err(_)) => {
                *connection = None;
                inner.writes.failed.increment(1);
                inner.forget_connection(&format!("no answer within {WRITE_TIMEOUT:?}"));
            }
            None => inner.writes.left_out.increment(1),
        }
    }

    async fn set(
        &self,
        connection: &mut Option<MultiplexedConnection>,
        batch: VerifiedBatch,
    ) -> Result<(), RedisError> {
        let inner = &self.cache.0;
        let connection = match connection {
            Some(connection) => connection,
            none => none.insert(inner.connect(WRITE_TIMEOUT).await?),
        };
        let (cache, hash) = (self.cache.clone(), batch.hash());
        let value = tokio::task::spawn_blocking(move || cache.0.tags.sign(batch.bytes())).await;
        // It was cancelled: the node is ending.
        let Ok(value) = value else { return Ok(()) };
        let mut set = redis::cmd("SET");
        set.arg(hash.as_bytes()).arg(value);
        if !inner.expiration.is_zero() {
            let millis = u64::try_from(inner.expiration.as_millis()).unwrap_or(u64::MAX >> 1);
            set.arg("PX").arg(millis.max(1));
        }
        set.query_async(connection).await
    }

    /// While there is nothing to read, nobody else would notice that it is back, or away.
    async fn ping(&self) {
        let inner = &self.cache.0;
        let asked = async {
            let mut connection = inner.connect(inner.timeout).await?;
            redis::cmd("PING").query_async::<String>(&mut connection).await
        };
        match tokio::time::timeout(inner.timeout, asked).await {
            Ok(Ok(_)) => {
                inner.breaker.ended(true);
                inner.state.lock().failing = None;
            }
            Ok(Err(error)) => inner.forget_connection(&error.to_string()),
            Err(_) => inner.forget_connection(&format!("no answer within {:?}", inner.timeout)),
        }
    }
}

/// Makes and checks tags.
struct Tags {
    key: Zeroizing<[u8; 32]>,
}

impl Tags {
    fn new(key: [u8; 32]) -> Self {
        Self { key: Zeroizing::new(key) }
    }

    /// HMAC (RFC 2104) with Keccak-256.
    fn tag(&self, batch: &[u8]) -> [u8; TAG] {
        let pad = |byte: u8| {
            let mut block = Zeroizing::new([byte; BLOCK]);
            block.iter_mut().zip(self.key.iter()).for_each(|(block, key)| *block ^= key);
            block
        };
        let mut inner = Keccak::default();
        inner.update(&*pad(0x36));
        inner.update(batch);
        let mut outer = Keccak::default();
        outer.update(&*pad(0x5c));
        outer.update(&inner.finish());
        outer.finish()
    }

    fn sign(&self, batch: &[u8]) -> Vec<u8> {
        let mut value = Vec::with_capacity(batch.len() + TAG);
        value.extend_from_slice(batch);
        value.extend_from_slice(&self.tag(batch));
        value
    }

    /// The batch, if the tag is right.
    fn verify(&self, value: &Bytes) -> Option<Bytes> {
        let length = value.len().checked_sub(TAG)?;
        let right = self.tag(&value[..length]).ct_eq(&value[length..]);
        bool::from(right).then(|| value.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_hmac_with_keccak_256() {
        // Computed with Go's crypto/hmac over sha3.NewLegacyKeccak256, as Nitro's server does.
        let tags = Tags::new([0x0b; 32]);
        let value = tags.sign(b"Hi There");
        let expected = "583a35bd92df17402277571dff7c2e2a7d9c1061bd6ee80e8a2fd2c6c971b6b5";
        assert_eq!((&value[..8], const_hex::encode(&value[8..]).as_str()), (&b"Hi There"[..], expected));
        let counting = Tags::new(std::array::from_fn(|i| i as u8));
        let expected = "8c40d786127db9d3dcf21804e9bce64645781cdf6c94b7dda365889472b82ff3";
        assert_eq!(const_hex::encode(counting.tag(&[7; 1000])), expected);
        assert_eq!(tags.verify(&value.clone().into()).unwrap(), "Hi There");
        for at in 0..value.len() {
            let mut wrong = value.clone();
            wrong[at] ^= 1;
            assert!(tags.verify(&wrong.into()).is_none(), "byte {at}");
        }
        assert!(tags.verify(&value[..31].to_vec().into()).is_none());
        assert!(Tags::new([0x0c; 32]).verify(&value.into()).is_none());
        assert_eq!(tags.verify(&tags.sign(b"").into()).unwrap(), "");
    }
}
