//! Members that behave, and members that do not, in this process.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "every test file uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use das_aggregator::fan_out::{FanOut, FanOutLimits};
use das_aggregator::member::{Authority, Member};
use das_common::bls::SecretKey;
use das_common::certificate::signed_bytes_v1;
use das_common::chunked::{Bounds, Moment, PendingStores, Start};
use das_common::data_hash::DataHash;
use das_common::http::client::{Endpoint, HttpClient};
use das_common::json_rpc::{self, Methods, Params, RawJson, RpcError, RpcLimits};
use das_common::keyset::Keyset;
use das_common::store_auth::{Address, RequestDigest, StoreKey, recover};
use das_common::wire::{BatchId, StoreResult};
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// What a member does when it is asked to store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acts {
    Honest,
    Slow(Duration),
    Hangs,
    Refuses(&'static str),
    NamesAnotherHash,
    NamesAnotherTimeout,
    NamesAnotherVersion,
    SignsAnotherMessage,
    SignsWithAnotherKey,
    SignsWithInfinity,
    SignsWithGarbage,
    AnswersNonsense,
}

/// Everything that a dishonest or broken member may do.
pub fn misdeeds() -> Vec<Acts> {
    vec![
        Acts::Hangs,
        Acts::Slow(Duration::from_secs(3600)),
        Acts::Refuses("request not properly signed"),
        Acts::Refuses("no space left on device"),
        Acts::NamesAnotherHash,
        Acts::NamesAnotherTimeout,
        Acts::NamesAnotherVersion,
        Acts::SignsAnotherMessage,
        Acts::SignsWithAnotherKey,
        Acts::SignsWithInfinity,
        Acts::SignsWithGarbage,
        Acts::AnswersNonsense,
    ]
}

pub struct Fake {
    pub key: SecretKey,
    pub acts: Mutex<Acts>,
    /// Batches it holds, and the signer of the request that brought each.
    pub stored: Mutex<Vec<(DataHash, Address)>>,
    pub methods: Mutex<Vec<String>>,
    pending: Mutex<PendingStores>,
    pub requests: AtomicUsize,
}

impl Fake {
    pub fn has(&self, hash: &DataHash) -> bool {
        self.stored.lock().iter().any(|(held, _)| held == hash)
    }

    async fn store(&self, message: &[u8], timeout: u64, signer: Address) -> Result<RawJson, RpcError> {
        let acts = self.acts.lock().clone();
        match &acts {
            Acts::Hangs => std::future::pending().await,
            Acts::Slow(delay) => tokio::time::sleep(*delay).await,
            Acts::Refuses(why) => return Err(RpcError::method(*why)),
            Acts::AnswersNonsense => return Ok(RawJson::of("what?")),
            _ => {}
        }
        let hash = DataHash::of(message);
        self.stored.lock().push((hash, signer));
        let signed = signed_bytes_v1(&hash, timeout);
        let mut answer = StoreResult {
            data_hash: *hash.as_bytes(),
            timeout,
            signers_mask: 1,
            keyset_hash: [1; 32],
            sig: self.key.sign(&signed).to_bytes().to_vec(),
            version: 1,
        };
        match acts {
            Acts::NamesAnotherHash => answer.data_hash[5] ^= 1,
            Acts::NamesAnotherTimeout => answer.timeout += 1,
            Acts::NamesAnotherVersion => answer.version = 0,
            Acts::SignsAnotherMessage => answer.sig = self.key.sign(b"another").to_bytes().to_vec(),
            Acts::SignsWithAnotherKey => answer.sig = SecretKey::generate().sign(&signed).to_bytes().to_vec(),
            Acts::SignsWithInfinity => answer.sig = vec![0; 96],
            Acts::SignsWithGarbage => answer.sig = vec![0x17; 95],
            _ => {}
        }
        Ok(RawJson::from_trusted(answer.to_json()))
    }
}

fn signer(digest: &RequestDigest, signature: &[u8]) -> Result<Address, RpcError> {
    recover(digest, signature).map_err(|_| RpcError::method("request not properly signed"))
}

fn refused(error: impl std::fmt::Display) -> RpcError {
    RpcError::method(error.to_string())
}

/// The methods of a fake.
pub struct FakeMethods(pub Arc<Fake>);

impl FakeMethods {
    async fn run(&self, method: &str, params: &Params) -> Result<RawJson, RpcError> {
        let fake = &self.0;
        match method {
            "store" => {
                let (message, timeout) = (params.bytes(0)?, params.uint64(1)?);
                let signer = signer(&RequestDigest::store(&message, timeout), &params.bytes(2)?)?;
                fake.store(&message, timeout, signer).await
            }
            "startChunkedStore" => {
                let number = |i| params.uint64(i);
                let start = Start {
                    timestamp: number(0)?,
                    n_chunks: number(1)?,
                    chunk_size: number(2)?,
                    total_size: number(3)?,
                    timeout: number(4)?,
                };
                let digest = RequestDigest::start_chunked(
                    start.timestamp,
                    start.n_chunks,
                    start.chunk_size,
                    start.total_size,
                    start.timeout,
                );
                signer(&digest, &params.bytes(5)?)?;
                let id = fake.pending.lock().start(Moment::now(), start, &[*digest.as_bytes()]);
                Ok(RawJson::of(&BatchId { batch_id: id.map_err(refused)? }))
            }
            "sendChunk" => {
                let (id, number, chunk) = (params.uint64(0)?, params.uint64(1)?, params.bytes(2)?);
                signer(&RequestDigest::send_chunk(&chunk, id, number), &params.bytes(3)?)?;
                fake.pending.lock().chunk(Moment::now(), id, number, chunk).map_err(refused)?;
                Ok(RawJson::NULL)
            }
            "commitChunkedStore" => {
                let id = params.uint64(0)?;
                let signer = signer(&RequestDigest::commit_chunked(id), &params.bytes(1)?)?;
                let complete = fake.pending.lock().commit(Moment::now(), id).map_err(refused)?;
                let timeout = complete.timeout;
                fake.store(&complete.into_message(), timeout, signer).await
            }
            "healthCheck" => match &*fake.acts.lock() {
                Acts::Refuses(why) => Err(RpcError::method(*why)),
                _ => Ok(RawJson::NULL),
            },
            _ => Ok(RawJson::of("KeepForever")),
        }
    }
}

impl Methods for FakeMethods {
    fn namespace(&self) -> &'static str {
        "das"
    }

    async fn call(&self, method: &str, params: Params) -> Option<Result<RawJson, RpcError>> {
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        self.0.methods.lock().push(method.to_owned());
        Some(self.run(method, &params).await)
    }
}

pub fn fake(acts: Acts) -> Arc<Fake> {
    Arc::new(Fake {
        key: SecretKey::generate(),
        acts: Mutex::new(acts),
        stored: Mutex::default(),
        methods: Mutex::default(),
        pending: Mutex::new(PendingStores::new(Bounds::default())),
        requests: AtomicUsize::new(0),
    })
}

/// Serves a fake on `listener`.
pub fn serve(listener: TcpListener, fake: Arc<Fake>, body_limit: usize) {
    let limits = RpcLimits { body_limit, ..RpcLimits::default() };
    let router = json_rpc::router(Arc::new(FakeMethods(fake)), limits);
    tokio::spawn(async move { axum::serve(listener, router).await });
}

pub async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// A committee of fakes.
pub struct Committee {
    pub fakes: Vec<Arc<Fake>>,
    pub keyset: Keyset,
    pub fan_out: FanOut,
}

pub const PLAIN_LIMIT: usize = 5 * 1024 * 1024;

impl Committee {
    /// One member for each of `acts`, of which `assumed_honest` are.
    pub async fn new(acts: &[Acts], assumed_honest: u64, limits: FanOutLimits) -> Self {
        let mut places = Vec::new();
        for acts in acts {
            let (listener, url) = listener().await;
            let fake = fake(acts.clone());
            serve(listener, fake.clone(), PLAIN_LIMIT);
            places.push((fake, url));
        }
        Self::of(places, assumed_honest, limits)
    }

    /// Of members that are served elsewhere, or nowhere.
    pub fn of(places: Vec<(Arc<Fake>, String)>, assumed_honest: u64, limits: FanOutLimits) -> Self {
        let http = HttpClient::default();
        let keys = places.iter().map(|(fake, _)| fake.key.public_key()).collect();
        let keyset = Keyset::new(assumed_honest, keys).unwrap();
        let members = places.iter().enumerate().map(|(i, (fake, url))| {
            let endpoint = Endpoint::parse(url).unwrap();
            let key = fake.key.public_key();
            Arc::new(Member::new(i, format!("member-{i}"), key, endpoint, Some(PLAIN_LIMIT), http.clone()))
        });
        let fan_out = FanOut::new(members.collect(), keyset.clone(), limits);
        Self { fakes: places.into_iter().map(|(fake, _)| fake).collect(), keyset, fan_out }
    }
}

/// Waits for something that must come, without a word about when.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came: {what}");
}

pub const TIMEOUT: u64 = 4_102_444_800;

/// A caller's signature over a plain store.
pub fn signed_by(key: &StoreKey, message: &[u8]) -> Authority {
    let signature = Bytes::copy_from_slice(&key.sign(&RequestDigest::store(message, TIMEOUT)));
    Authority::Caller { signature, key: None }
}
