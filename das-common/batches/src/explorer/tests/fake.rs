//! Batches in a plain list, a committee with keys, and payloads in a map.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use das_chain::keysets::{ChainKeyset, KeysetReadError};
use das_chain::reader::BlockId;
use das_common::bls::{AggregateSignature, POINT_BYTES, SecretKey};
use das_common::certificate::Certificate;
use das_common::data_hash::{DataHash, flat_hash};
use das_common::http::answers::AnswerBudget;
use das_common::keyset::{Keyset, NitroKeyset};
use das_common::sequencer_message::MIN_LIFETIME;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tower::ServiceExt as _;

use crate::explorer::{
    Availability, Explorer, KeysetOf, Links, PayloadUnavailable, Payloads, Signers, routes,
};
use crate::types::{Away, Batches, Content, Era, IndexError, Payload, PostedBatch, Progress, TimeBounds};

/// Time of the first block; blocks are 12 seconds apart.
pub(super) const START: u64 = 1_790_000_000;

/// Prints its seed; `DAS_SEED` gives one.
pub(super) fn seeded() -> StdRng {
    let given = std::env::var("DAS_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    eprintln!("DAS_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

#[derive(Default)]
pub(super) struct Shelf {
    /// The newest first.
    pub(super) eras: Vec<Era>,
    pub(super) batches: Vec<PostedBatch>,
    pub(super) progress: Progress,
    pub(super) away: Option<Away>,
    pub(super) broken: bool,
}

#[derive(Default)]
pub(super) struct Fake(pub(super) Mutex<Shelf>);

impl Fake {
    fn select(&self, keep: impl Fn(&PostedBatch) -> bool) -> Result<Vec<PostedBatch>, IndexError> {
        let shelf = self.0.lock();
        if shelf.broken {
            return Err(IndexError::Database("the disk at /secret/place is gone".into()));
        }
        let mut kept: Vec<_> = shelf.batches.iter().filter(|batch| keep(batch)).cloned().collect();
        kept.sort_by_key(|batch| std::cmp::Reverse((batch.era, batch.number)));
        Ok(kept)
    }

    fn places(
        &self,
        limit: usize,
        keep: impl Fn(&PostedBatch) -> bool,
    ) -> Result<Vec<(u32, u64)>, IndexError> {
        let mut places: Vec<_> = self.select(keep)?.iter().map(|batch| (batch.era, batch.number)).collect();
        places.truncate(limit);
        Ok(places)
    }
}

impl Batches for Fake {
    fn eras(&self) -> Result<Vec<Era>, IndexError> {
        self.select(|_| false)?;
        Ok(self.0.lock().eras.clone())
    }

    fn batch(&self, era: u32, number: u64) -> Result<Option<PostedBatch>, IndexError> {
        Ok(self.select(|batch| batch.era == era && batch.number == number)?.pop())
    }

    fn below(&self, era: u32, number: Option<u64>, limit: usize) -> Result<Vec<PostedBatch>, IndexError> {
        let below = |batch: &PostedBatch| number.is_none_or(|number| batch.number < number);
        let mut found = self.select(|batch| batch.era == era && below(batch))?;
        found.truncate(limit);
        Ok(found)
    }

    fn first_since(&self, era: u32, time: u64) -> Result<Option<u64>, IndexError> {
        let found = self.select(|batch| batch.era == era && batch.timestamp >= time)?;
        Ok(found.last().map(|batch| batch.number))
    }

    fn with_data_hash(&self, hash: &DataHash, limit: usize) -> Result<Vec<(u32, u64)>, IndexError> {
        self.places(limit, |batch| match &batch.content {
            Content::Certificate(bytes) => {
                Certificate::parse_as_nitro(bytes).is_ok_and(|certificate| certificate.data_hash == *hash)
            }
            _ => false,
        })
    }

    fn of_transaction(&self, hash: &B256, limit: usize) -> Result<Vec<(u32, u64)>, IndexError> {
        self.places(limit, |batch| batch.transaction == *hash)
    }

    fn progress(&self) -> Progress {
        self.0.lock().progress.clone()
    }

    fn away(&self) -> Option<Away> {
        self.0.lock().away.clone()
    }
}

/// Three members of whom two are assumed honest: two signatures make a certificate.
pub(super) fn secrets() -> [SecretKey; 3] {
    [1, 2, 3].map(|i| SecretKey::from_bytes(&[8, i]).unwrap())
}

pub(super) fn keyset() -> Keyset {
    Keyset::new(2, secrets().iter().map(SecretKey::public_key).collect()).unwrap()
}

/// A certificate by the first and the last of the three.
pub(super) fn certificate(version: u8, payload: &[u8], timeout: u64) -> Certificate {
    let data_hash = match version {
        0 => DataHash::from_bytes(flat_hash(payload)),
        _ => DataHash::of(payload),
    };
    signed(Certificate {
        version,
        keyset_hash: keyset().hash(),
        data_hash,
        timeout,
        signers_mask: 0b101,
        signature: [0; 96],
    })
}

/// The same, signed by those whom its mask names.
pub(super) fn signed(mut certificate: Certificate) -> Certificate {
    let message = certificate.signed_bytes();
    let signatures: Vec<_> = secrets()
        .iter()
        .enumerate()
        .filter(|(index, _)| certificate.signers_mask >> index & 1 == 1)
        .map(|(_, secret)| secret.sign(&message))
        .collect();
    certificate.signature = AggregateSignature::sum(&signatures).unwrap().to_bytes();
    certificate
}

pub(super) fn era(id: u32, ended: Option<u64>) -> Era {
    Era {
        id,
        chain_id: 1337,
        genesis: B256::repeat_byte(u8::try_from(id).unwrap()),
        inbox: Address::repeat_byte(0x1b),
        began: START,
        ended,
    }
}

/// A batch with a payload of its own.
pub(super) fn batch(era: u32, number: u64, content: Content, payload: Payload) -> PostedBatch {
    let timestamp = START + number * 12;
    let mut hash = [u8::try_from(era).unwrap(); 32];
    hash[24..].copy_from_slice(&number.to_be_bytes());
    PostedBatch {
        era,
        number,
        block: BlockId { number: 1_000 + number, hash: B256::from(hash) },
        timestamp,
        transaction: B256::from(hash.map(|byte| !byte)),
        log_index: number % 7,
        bounds: TimeBounds {
            min_timestamp: timestamp - 3600,
            max_timestamp: timestamp + 3600,
            min_block: 900 + number,
            max_block: 1_100 + number,
        },
        after_delayed: number / 3,
        before_acc: B256::repeat_byte(0xaa),
        after_acc: B256::repeat_byte(0xbb),
        content,
        payload,
    }
}

pub(super) fn payload_of(era: u32, number: u64) -> Vec<u8> {
    format!("payload {number} of era {era}").into_bytes()
}

/// A batch that every node takes.
pub(super) fn certified(era: u32, number: u64) -> PostedBatch {
    let payload = payload_of(era, number);
    let timeout = START + number * 12 + 3600 + MIN_LIFETIME;
    let content = Content::Certificate(certificate(1, &payload, timeout).to_bytes());
    batch(era, number, content, Payload::Fetched { length: payload.len() as u64 })
}

/// A batch that costs nothing to make.
pub(super) fn plain(era: u32, number: u64) -> PostedBatch {
    batch(era, number, Content::Data { header: Some(0), length: number + 1 }, Payload::None)
}

/// What the fake keysets, names and payloads are, and what was asked.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) keysets: Mutex<HashMap<DataHash, Vec<u8>>>,
    pub(super) chain_away: bool,
    pub(super) names: Vec<(Vec<u8>, String)>,
    pub(super) payloads: Mutex<HashMap<DataHash, Bytes>>,
    pub(super) payloads_away: bool,
    pub(super) slow: bool,
    /// Nobody ever answers.
    pub(super) silent: bool,
    pub(super) asked: AtomicUsize,
    pub(super) now: AtomicUsize,
    pub(super) most: AtomicUsize,
}

impl Sources {
    /// With the committee's keyset.
    pub(super) fn with_keyset() -> Self {
        let sources = Self::default();
        sources.keysets.lock().insert(keyset().hash(), keyset().to_bytes());
        sources
    }

    pub(super) fn keep(&self, payload: &[u8]) {
        self.payloads.lock().insert(DataHash::of(payload), payload.to_vec().into());
    }

    fn lookup(&self, hash: DataHash) -> KeysetOf {
        if self.chain_away {
            return Err(KeysetReadError::Lost { hash });
        }
        let bytes = self.keysets.lock().get(&hash).cloned().ok_or(KeysetReadError::Unknown { hash })?;
        match NitroKeyset::parse(&bytes) {
            Ok(keyset) => Ok(Arc::new(ChainKeyset { hash, bytes, keyset })),
            Err(source) => Err(KeysetReadError::Form { hash, bytes: Arc::default(), source }),
        }
    }
}

impl Signers for Sources {
    fn keyset(&self, hash: DataHash) -> BoxFuture<'_, KeysetOf> {
        match self.silent {
            true => std::future::pending().boxed(),
            false => std::future::ready(self.lookup(hash)).boxed(),
        }
    }

    fn name(&self, key: &[u8; POINT_BYTES]) -> Option<String> {
        self.names.iter().find(|(point, _)| point == key).map(|(_, name)| name.clone())
    }
}

impl Payloads for Sources {
    fn availability(&self, hash: DataHash) -> BoxFuture<'_, Availability> {
        async move {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            if self.silent {
                return std::future::pending().await;
            }
            if self.slow {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.now.fetch_sub(1, Ordering::SeqCst);
            match self.payloads.lock().contains_key(&hash) {
                true => Availability::Whole,
                false => Availability::NotFound,
            }
        }
        .boxed()
    }

    fn payload(&self, hash: DataHash) -> BoxFuture<'_, Result<Option<Bytes>, PayloadUnavailable>> {
        let answer = match self.payloads_away {
            true => Err(PayloadUnavailable { why: "all members are away".into() }),
            false => Ok(self.payloads.lock().get(&hash).cloned()),
        };
        std::future::ready(answer).boxed()
    }
}

/// An explorer over all this, and its routes.
pub(super) struct Site {
    pub(super) fake: Arc<Fake>,
    pub(super) sources: Arc<Sources>,
    pub(super) routes: Router,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    pub(super) fn new(shelf: Shelf, sources: Sources) -> Self {
        Self::with_links(shelf, sources, Links::default())
    }

    pub(super) fn with_links(shelf: Shelf, sources: Sources, links: Links) -> Self {
        Self::build(shelf, sources, links, AnswerBudget::new(1 << 20, Duration::from_secs(10)))
    }

    pub(super) fn with_answers(shelf: Shelf, answers: AnswerBudget) -> Self {
        Self::build(shelf, Sources::with_keyset(), Links::default(), answers)
    }

    fn build(shelf: Shelf, sources: Sources, links: Links, answers: AnswerBudget) -> Self {
        let fake = Arc::new(Fake(Mutex::new(shelf)));
        let sources = Arc::new(sources);
        let explorer = Explorer::new(fake.clone(), sources.clone(), sources.clone(), links, answers);
        Self { fake, sources, routes: routes(Arc::new(explorer)) }
    }

    /// The same batches again.
    pub(super) fn shelf(&self) -> Shelf {
        Shelf::of(self.fake.0.lock().batches.clone())
    }

    /// An answer whose body is not read yet.
    pub(super) async fn open(&self, path: &str) -> axum::response::Response {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        self.routes.clone().oneshot(request).await.unwrap()
    }

    /// One era with these batches, its payloads held.
    pub(super) fn of(batches: Vec<PostedBatch>) -> Self {
        let sources = Sources::with_keyset();
        for batch in &batches {
            sources.keep(&payload_of(batch.era, batch.number));
        }
        Self::new(Shelf::of(batches), sources)
    }

    pub(super) async fn send(&self, method: &str, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path).await
    }

    pub(super) async fn json(&self, path: &str) -> serde_json::Value {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

impl Shelf {
    /// One era that is in force.
    pub(super) fn of(batches: Vec<PostedBatch>) -> Self {
        let progress = Progress { era: Some(1), batches: batches.len() as u64, ..Progress::default() };
        Self { eras: vec![era(1, None)], batches, progress, ..Self::default() }
    }
}
