//! Reading a batch by its hash from whoever has it: mirrors, full nodes, the members of a committee (spec section 8).
//!
//! # Guarantees, whatever the endpoints do
//! - What is returned hashes to what was asked for.
//! - A read ends: every attempt has a deadline, and every endpoint is asked at most once.
//! - An endpoint that is dead or answers wrongly costs nothing but its attempt: the next are asked at once. One that
//!   hangs costs the time in which 95 % of the recent reads were answered, not a fixed two seconds.
//! - Memory is bounded by the largest batch taken times the endpoints asked at the same time.
//! - Asked with [`Scope::Local`], no server of ours asks anybody else in turn: servers that read from each other do not
//!   send a question in circles.
//!
//! The order of the endpoints ([`strategy`]), the wait before more are asked ([`hedge`]) and the walk over online lists
//! ([`url_list`]) are pure; here they are put to use.

pub mod hedge;
pub mod strategy;
pub mod url_list;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::StatusCode;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::hedge::{Hedge, HedgeOptions, next_group_size};
use self::strategy::{ExploreExploit, Sample, StrategyOptions};
use self::url_list::{ListWalk, MAX_LIST_BYTES};
use crate::batch::VerifiedBatch;
use crate::data_hash::DataHash;
use crate::fault::{self, Coded, Fault};
use crate::http::client::{Endpoint, EndpointError, HttpClient, HttpError};
use crate::http::rest::Scope;
use crate::wire::parse_get_by_hash;

/// Decoding and hashing a batch larger than this takes so long that other tasks of the thread would wait.
const INLINE_CHECK_BYTES: usize = 1024 * 1024;

/// What a reader is told.
#[derive(Debug, Clone)]
pub struct RestReaderOptions {
    /// REST endpoints that are always asked.
    pub urls: Vec<String>,
    /// URL of a list of further endpoints; `None` for none.
    pub online_url_list: Option<String>,
    /// The list is fetched again after this.
    pub online_url_list_fetch_interval: Duration,
    /// One endpoint has this long for its whole answer.
    pub attempt_timeout: Duration,
    /// Batches above this many bytes are not taken.
    pub max_batch_bytes: usize,
    /// The order of the endpoints.
    pub strategy: StrategyOptions,
    /// When more endpoints are asked.
    pub hedge: HedgeOptions,
}

impl Default for RestReaderOptions {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            online_url_list: None,
            online_url_list_fetch_interval: Duration::from_secs(3600),
            attempt_timeout: Duration::from_secs(30),
            max_batch_bytes: 64 * 1024 * 1024,
            strategy: StrategyOptions::default(),
            hedge: HedgeOptions::default(),
        }
    }
}

/// Why one endpoint gave no batch.
#[derive(Debug, Clone, Error)]
pub enum AttemptError {
    /// It says that it does not have the batch.
    #[error("not found")]
    NotFound,
    /// It answered with an error.
    #[error("HTTP status {status}")]
    Status {
        /// The status.
        status: StatusCode,
    },
    /// It gave no answer.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Its answer cannot be read.
    #[error("an answer that cannot be read: {reason}")]
    Answer {
        /// What is wrong with it.
        reason: String,
    },
    /// Its answer is another batch.
    #[error("the data does not hash to {hash}")]
    WrongData {
        /// What was asked for.
        hash: DataHash,
    },
}

/// An endpoint and its reason.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Who was asked.
    pub endpoint: Endpoint,
    /// What went wrong.
    pub reason: AttemptError,
}

/// Why a batch could not be read.
#[derive(Debug, Clone, Error)]
pub enum ReadError {
    /// Every endpoint answered that it does not have it.
    #[error("{hash} not found at any of {asked} endpoints")]
    NotFound {
        /// What was asked for.
        hash: DataHash,
        /// How many were asked.
        asked: usize,
    },
    /// At least one endpoint could not answer, so that the batch may exist.
    #[error("{hash} cannot be read: {}", listed(.failures))]
    Unavailable {
        /// What was asked for.
        hash: DataHash,
        /// Everybody's reason.
        failures: Vec<Failure>,
    },
    /// Nobody to ask.
    #[error("no REST endpoints are known")]
    NoEndpoints,
}

impl Coded for ReadError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::NotFound { .. } => fault::READ_NOT_FOUND,
            Self::Unavailable { .. } | Self::NoEndpoints => fault::READ_FALLBACK,
        }
    }
}

fn listed(failures: &[Failure]) -> String {
    let texts = failures.iter().map(|failure| match &failure.reason {
        // These name the endpoint themselves.
        AttemptError::Http(error) => error.to_string(),
        reason => format!("{}: {reason}", failure.endpoint),
    });
    texts.collect::<Vec<_>>().join("; ")
}

/// What is known of one endpoint, for status pages.
#[derive(Debug, Clone)]
pub struct EndpointReport {
    /// Who.
    pub endpoint: Endpoint,
    /// Mean latency of its last reads.
    pub mean_latency: Option<Duration>,
    /// Share of successes among them.
    pub success_ratio: Option<f64>,
}

/// Reads batches from REST endpoints. Cheap to clone; clones share what they learn.
#[derive(Debug, Clone)]
pub struct RestReader {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: RestReaderOptions,
    http: HttpClient,
    configured: Vec<Endpoint>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    endpoints: Vec<Endpoint>,
    strategy: ExploreExploit,
    hedge: Hedge,
}

impl RestReader {
    /// A reader over the configured URLs. The online list is fetched by [`keep_list_fresh`](Self::keep_list_fresh).
    pub fn new(options: RestReaderOptions, http: HttpClient) -> Result<Self, EndpointError> {
        let mut configured: Vec<Endpoint> = Vec::new();
        for url in &options.urls {
            let endpoint = Endpoint::parse(url)?;
            if !configured.contains(&endpoint) {
                configured.push(endpoint);
            }
        }
        if let Some(list) = &options.online_url_list {
            Endpoint::parse(list)?;
        }
        let state = State {
            strategy: ExploreExploit::new(options.strategy.clone(), configured.len()),
            hedge: Hedge::new(options.hedge.clone()),
            endpoints: configured.clone(),
        };
        Ok(Self { shared: Arc::new(Shared { options, http, configured, state: Mutex::new(state) }) })
    }

    /// Reads the batch from the first endpoint that has it or can get it.
    pub async fn get(&self, hash: &DataHash) -> Result<VerifiedBatch, ReadError> {
        self.get_within(hash, Scope::Everywhere).await
    }

    /// Reads the batch from the first endpoint that has it, where `scope` says that the endpoints may look for it.
    pub async fn get_within(&self, hash: &DataHash, scope: Scope) -> Result<VerifiedBatch, ReadError> {
        let read = self.read(hash, scope).await;
        if let Err(error) = &read {
            fault::count(error.fault());
        }
        read
    }

    async fn read(&self, hash: &DataHash, scope: Scope) -> Result<VerifiedBatch, ReadError> {
        let (order, wait) = {
            let mut state = self.shared.state.lock();
            let order = state.strategy.next_order(&mut rand::rng());
            let order: Vec<Endpoint> =
                order.into_iter().filter_map(|i| state.endpoints.get(i).cloned()).collect();
            (order, state.hedge.wait())
        };
        if order.is_empty() {
            return Err(ReadError::NoEndpoints);
        }
        let race = race(order, wait, |endpoint: Endpoint| {
            let shared = self.shared.clone();
            let hash = *hash;
            async move { shared.attempt(&endpoint, &hash, scope).await }
        })
        .await;
        self.learn(&race);
        match race.won {
            Some(batch) => Ok(batch),
            None => {
                let failures: Vec<Failure> = race
                    .failed
                    .into_iter()
                    .map(|(endpoint, reason, _)| {
                        debug!(%hash, %endpoint, %reason, "no batch from this endpoint");
                        Failure { endpoint, reason }
                    })
                    .collect();
                if failures.iter().all(|f| matches!(f.reason, AttemptError::NotFound)) {
                    Err(ReadError::NotFound { hash: *hash, asked: failures.len() })
                } else {
                    Err(ReadError::Unavailable { hash: *hash, failures })
                }
            }
        }
    }

    /// Keeps the endpoints of the online list up to date until `stop`. Returns at once when there is no list.
    pub fn keep_list_fresh(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        /// A list that could not be had is tried again sooner than its interval.
        const RETRY: Duration = Duration::from_secs(60);
        let reader = self.clone();
        async move {
            let Some(list) = reader.shared.options.online_url_list.clone() else { return };
            loop {
                let fetched = tokio::select! {
                    fetched = reader.fetch_list(&list) => fetched,
                    () = stop.cancelled() => return,
                };
                let interval = reader.shared.options.online_url_list_fetch_interval;
                let pause = if fetched { interval } else { interval.min(RETRY) };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// Fetches the online list now. False when the configured list itself could not be had; then the endpoints known
    /// before stay.
    async fn fetch_list(&self, list: &str) -> bool {
        const LIST_TIMEOUT: Duration = Duration::from_secs(30);
        let mut walk = ListWalk::new(list);
        let mut root = true;
        while let Some(url) = walk.next() {
            let text = match Endpoint::parse(&url) {
                Ok(endpoint) => self
                    .shared
                    .http
                    .get(&endpoint, "", LIST_TIMEOUT, MAX_LIST_BYTES)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match text {
                Ok(answer) if answer.status == StatusCode::OK => {
                    walk.feed(&String::from_utf8_lossy(&answer.body));
                }
                Ok(answer) => warn!(status = %answer.status, "an online URL list cannot be fetched"),
                Err(reason) => warn!(%reason, "an online URL list cannot be fetched"),
            }
            if root && walk.is_empty() {
                fault::count(fault::READ_LIST);
                warn!(code = fault::READ_LIST.code, "{}", fault::READ_LIST.text);
                return false;
            }
            root = false;
        }
        let mut found = self.shared.configured.clone();
        for text in walk.into_endpoints() {
            match Endpoint::parse(&text) {
                Ok(endpoint) if !found.contains(&endpoint) => found.push(endpoint),
                Ok(_) => {}
                Err(error) => warn!(%error, "the online URL list holds something that cannot be called"),
            }
        }
        self.set_endpoints(found);
        true
    }

    fn set_endpoints(&self, found: Vec<Endpoint>) {
        let mut state = self.shared.state.lock();
        let old: HashMap<_, _> = state.endpoints.iter().enumerate().map(|(i, e)| (e.clone(), i)).collect();
        let kept: Vec<_> = found.iter().map(|endpoint| old.get(endpoint).copied()).collect();
        if state.endpoints != found {
            info!(endpoints = found.len(), "REST endpoints changed");
        }
        state.strategy = state.strategy.with_endpoints(&kept);
        state.endpoints = found;
    }

    fn learn<T>(&self, race: &Race<Endpoint, T, AttemptError>) {
        let mut state = self.shared.state.lock();
        let State { endpoints, strategy, hedge } = &mut *state;
        let mut record = |endpoint: &Endpoint, latency: Duration, success: bool| {
            if let Some(index) = endpoints.iter().position(|known| known == endpoint) {
                strategy.record(index, Sample { latency, success });
            }
        };
        if let Some((winner, latency)) = &race.winner {
            record(winner, *latency, true);
            hedge.observe(*latency);
        }
        for (endpoint, reason, latency) in &race.failed {
            if let AttemptError::WrongData { hash } = reason {
                let lies = fault::READ_ENDPOINT_LIES;
                fault::count(lies);
                warn!(code = lies.code, %endpoint, %hash, "{}", lies.text);
            }
            // That nobody has a batch says nothing against anybody.
            if race.winner.is_some() || !matches!(reason, AttemptError::NotFound) {
                record(endpoint, *latency, false);
            }
        }
        for (endpoint, latency) in &race.overtaken {
            record(endpoint, *latency, false);
        }
    }

    /// What is known of every endpoint.
    pub fn report(&self) -> Vec<EndpointReport> {
        let state = self.shared.state.lock();
        let pairs = state.endpoints.iter().zip(state.strategy.histories());
        pairs
            .map(|(endpoint, history)| EndpointReport {
                endpoint: endpoint.clone(),
                mean_latency: history.mean_latency(),
                success_ratio: history.success_ratio(),
            })
            .collect()
    }
}

impl Shared {
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        hash: &DataHash,
        scope: Scope,
    ) -> Result<VerifiedBatch, AttemptError> {
        // Base64 takes four bytes for three; the rest is the JSON around it.
        let max_body = self.options.max_batch_bytes.saturating_mul(4) / 3 + 1024;
        let path = format!("/get-by-hash/{hash}");
        let timeout = self.options.attempt_timeout;
        let response = self.http.get_with(endpoint, &path, scope.header(), timeout, max_body).await?;
        match response.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(AttemptError::NotFound),
            status => return Err(AttemptError::Status { status }),
        }
        let (body, hash) = (response.body, *hash);
        if body.len() <= INLINE_CHECK_BYTES {
            return decode_and_check(&body, &hash);
        }
        let checked = tokio::task::spawn_blocking(move || decode_and_check(&body, &hash)).await;
        checked.expect("checking a batch does not panic and is never aborted")
    }
}

fn decode_and_check(body: &Bytes, hash: &DataHash) -> Result<VerifiedBatch, AttemptError> {
    let data = parse_get_by_hash(body).map_err(|e| AttemptError::Answer { reason: e.to_string() })?;
    VerifiedBatch::check(data.into(), hash).map_err(|_| AttemptError::WrongData { hash: *hash })
}

/// What came of asking endpoints group by group.
#[derive(Debug)]
pub struct Race<E, T, F> {
    /// The first success.
    pub won: Option<T>,
    /// Whose it was, and how long that one took.
    pub winner: Option<(E, Duration)>,
    /// Who failed before, why, and after how long.
    pub failed: Vec<(E, F, Duration)>,
    /// Who was asked in an earlier group than the winner and had not answered when the race was over.
    pub overtaken: Vec<(E, Duration)>,
}

/// Asks `order` in groups of 1, 2, 4, ... until one succeeds. The next group starts after `wait`, or at once when
/// everybody asked so far has failed. What is still under way at the end is dropped.
pub async fn race<E, T, F, Fut>(order: Vec<E>, wait: Duration, ask: impl Fn(E) -> Fut) -> Race<E, T, F>
where
    E: Clone,
    Fut: Future<Output = Result<T, F>>,
{
    let mut rest = order.into_iter();
    let mut asked: Vec<Option<(E, usize, Instant)>> = Vec::new();
    let mut under_way = FuturesUnordered::new();
    let mut failed = Vec::new();
    let (mut group, mut group_size) = (0_usize, 0_usize);
    let alarm = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(alarm);
    let mut more = true;
    loop {
        if under_way.is_empty() && !more {
            return Race { won: None, winner: None, failed, overtaken: Vec::new() };
        }
        tokio::select! {
            biased;
            Some((index, outcome)) = under_way.next() => {
                let slot: &mut Option<(E, usize, Instant)> = &mut asked[index];
                let (endpoint, its_group, start) = slot.take().expect("every attempt ends once");
                match outcome {
                    Ok(value) => {
                        let overtaken = asked.into_iter().flatten().filter(|(_, group, _)| *group < its_group);
                        let overtaken = overtaken.map(|(endpoint, _, start)| (endpoint, start.elapsed())).collect();
                        let winner = Some((endpoint, start.elapsed()));
                        return Race { won: Some(value), winner, failed, overtaken };
                    }
                    Err(reason) => failed.push((endpoint, reason, start.elapsed())),
                }
                if under_way.is_empty() && more {
                    alarm.as_mut().reset(Instant::now());
                }
            }
            () = &mut alarm, if more => {
                group += 1;
                group_size = next_group_size(group_size);
                let started = asked.len();
                for endpoint in rest.by_ref().take(group_size) {
                    let (index, attempt) = (asked.len(), ask(endpoint.clone()));
                    asked.push(Some((endpoint, group, Instant::now())));
                    under_way.push(async move { (index, attempt.await) });
                }
                more = asked.len() - started == group_size;
                alarm.as_mut().reset(Instant::now() + wait);
            }
        }
    }
}

#[cfg(test)]
mod tests;
