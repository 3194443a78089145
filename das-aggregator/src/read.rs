//! Reading over the committee: a bounded cache of encoded answers, one fetch at a time for one hash, and behind it the
//! REST endpoints of the members and of whoever else is configured.
//!
//! # Guarantees
//! - What is returned was hashed against its name when it came in; the cache holds nothing else.
//! - However many ask for one batch at once, it is fetched once; a caller that goes away takes nobody's answer along.
//! - A question that came from a server which may be asked itself is passed on as such, and never waits for one that is
//!   not: no circle of servers waits for its own answer.
//! - Memory: the cache's bound, and one batch for each of a bounded number of fetches.

use std::sync::Arc;

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::http::rest::{EncodedBatch, Scope};
use das_common::rest_reader::{EndpointReport, ReadError, RestReader};
use das_common::single_flight::SingleFlight;
use das_common::wire::parse_get_by_hash;
use tokio::sync::Semaphore;

/// Fetches under way at once; further ones wait.
const MAX_FETCHES: usize = 256;
/// What a cached batch takes beside its bytes.
const ENTRY_BYTES: usize = 256;

/// Bounds of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Memory for encoded batches; 0 turns the cache off.
    pub bytes: u64,
    /// Batches.
    pub batches: u64,
}

/// The read side. Cheap to clone.
#[derive(Clone)]
pub struct Reads {
    shared: Arc<Shared>,
}

type Fetched = Result<EncodedBatch, ReadError>;

struct Shared {
    reader: RestReader,
    cache: moka::sync::Cache<DataHash, EncodedBatch>,
    fetching: SingleFlight<(DataHash, Scope), Fetched>,
    slots: Semaphore,
    /// Of their own: fetches that wait for a member may wait for one of these in turn.
    local_slots: Semaphore,
}

impl Reads {
    /// Reads through `reader`.
    pub fn new(reader: RestReader, limits: CacheLimits) -> Self {
        // One measure for both bounds: a batch weighs its bytes, or its share of the memory if that is more.
        let share = limits.bytes.checked_div(limits.batches).unwrap_or(u64::MAX);
        let weigh = move |_: &DataHash, batch: &EncodedBatch| {
            let bytes = (batch.body().len() + ENTRY_BYTES) as u64;
            u32::try_from(bytes.max(share)).unwrap_or(u32::MAX)
        };
        let cache = moka::sync::Cache::builder().max_capacity(limits.bytes).weigher(weigh).build();
        let (slots, local_slots) = (Semaphore::new(MAX_FETCHES), Semaphore::new(MAX_FETCHES));
        let fetching = SingleFlight::default();
        Self { shared: Arc::new(Shared { reader, cache, fetching, slots, local_slots }) }
    }

    /// The batch as it is served; `None` when everybody who was asked says that it does not exist. `scope` is where
    /// those may look.
    pub async fn encoded(&self, hash: &DataHash, scope: Scope) -> Result<Option<EncodedBatch>, ReadError> {
        if let Some(found) = self.shared.cache.get(hash) {
            return Ok(Some(found));
        }
        match self.fetch(hash, scope).await {
            Ok(found) => Ok(Some(found)),
            Err(ReadError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The batch itself.
    pub async fn batch(&self, hash: &DataHash) -> Result<VerifiedBatch, ReadError> {
        let encoded = match self.shared.cache.get(hash) {
            Some(found) => found,
            None => self.fetch(hash, Scope::Everywhere).await?,
        };
        let data = parse_get_by_hash(encoded.body()).expect("what we encoded decodes");
        Ok(VerifiedBatch::check(Bytes::from(data), hash)
            .expect("only batches that are right get into the cache"))
    }

    /// Puts a batch that was just stored where the next read finds it: the batch poster reads back before it posts.
    pub fn remember(&self, batch: &VerifiedBatch) {
        if self.shared.cache.policy().max_capacity() != Some(0) {
            self.shared.cache.insert(batch.hash(), EncodedBatch::new(batch));
        }
    }

    async fn fetch(&self, hash: &DataHash, scope: Scope) -> Fetched {
        let (shared, hash) = (self.shared.clone(), *hash);
        let work = || async move { shared.fetch(hash, scope).await };
        let fetched = self.shared.fetching.run((hash, scope), work).await;
        fetched.expect("a fetch does not panic")
    }

    /// What is known of the endpoints read from.
    pub fn report(&self) -> Vec<EndpointReport> {
        self.shared.reader.report()
    }

    /// The cache's content: batches and bytes.
    pub fn cached(&self) -> (u64, u64) {
        self.shared.cache.run_pending_tasks();
        (self.shared.cache.entry_count(), self.shared.cache.weighted_size())
    }
}

impl Shared {
    async fn fetch(&self, hash: DataHash, scope: Scope) -> Fetched {
        let slots = match scope {
            Scope::Everywhere => &self.slots,
            Scope::Local => &self.local_slots,
        };
        let _slot = slots.acquire().await.expect("the semaphore is never closed");
        let encoded = EncodedBatch::new(&self.reader.get_within(&hash, scope).await?);
        self.cache.insert(hash, encoded.clone());
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use axum::Router;
    use das_common::http::client::HttpClient;
    use das_common::rest_reader::RestReaderOptions;
    use das_common::wire::get_by_hash_answer;
    use tokio::net::TcpListener;

    use super::*;

    /// A mirror that takes its time for one batch; counts the reads.
    async fn reads(batch: &'static [u8], limits: CacheLimits) -> (Reads, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let app = Router::new().fallback(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                get_by_hash_answer(batch)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let urls = vec![format!("http://{}", listener.local_addr().unwrap())];
        tokio::spawn(async move { axum::serve(listener, app).await });
        let options = RestReaderOptions { urls, ..Default::default() };
        (Reads::new(RestReader::new(options, HttpClient::default()).unwrap(), limits), asked)
    }

    #[tokio::test]
    async fn many_callers_one_fetch_even_if_the_first_goes_away() {
        let (reads, asked) = reads(b"wanted", CacheLimits { bytes: 1 << 20, batches: 10 }).await;
        let hash = DataHash::of(b"wanted");
        let first = tokio::spawn({
            let reads = reads.clone();
            async move { reads.encoded(&hash, Scope::Everywhere).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        first.abort();
        let others: Vec<_> = (0..20)
            .map(|_| {
                let reads = reads.clone();
                tokio::spawn(async move { reads.encoded(&hash, Scope::Everywhere).await.unwrap().unwrap() })
            })
            .collect();
        for other in others {
            assert_eq!(other.await.unwrap().body()[..], get_by_hash_answer(b"wanted")[..]);
        }
        assert_eq!(reads.batch(&hash).await.unwrap().bytes()[..], b"wanted"[..]);
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        // A wrong batch is neither served nor kept.
        assert!(reads.encoded(&DataHash::of(b"another"), Scope::Everywhere).await.is_err());
    }

    #[tokio::test]
    async fn the_cache_is_bounded_by_bytes_and_by_number() {
        let (reads, asked) = reads(b"", CacheLimits { bytes: 100_000, batches: 10 }).await;
        for i in 0..100_u8 {
            reads.remember(&VerifiedBatch::new(Bytes::from(vec![i; 100])));
        }
        assert!(reads.cached().0 <= 10);
        let large = VerifiedBatch::new(Bytes::from(vec![7; 200_000]));
        reads.remember(&large);
        assert!(reads.cached().1 <= 100_000);
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }
}
