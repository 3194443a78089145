//! The endpoints of the parent chain: several JSON-RPC URLs of one chain, of which one that answers is used.
//!
//! # Guarantees, whatever an endpoint does
//! - Nothing is taken from an endpoint whose chain id was not right at its first use, within the last
//!   [`Settings::chain_id_every`], and since its last failure. One with another chain id is put aside, with an alarm,
//!   and looked at again as often.
//! - Every request ends by [`Settings::request_timeout`], and of no answer more is held than
//!   [`Settings::max_answer_bytes`].
//! - An endpoint that fails is left alone for a time that doubles with each failure (with jitter); meanwhile the next
//!   one of the list is used. When all are left alone, requests fail at once, with the time of the next try.
//! - Path, query, user and password of a URL, where providers keep their keys, appear in no text of ours, and are
//!   taken out of what an endpoint itself says.

pub(crate) mod answer;
mod health;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::U64;
use bytes::Bytes;
use das_common::alarm::Alarms;
use das_common::fault::{self, Coded, Fault};
use das_common::http::client::{
    ClientLimits, Endpoint, EndpointError, HttpClient, HttpError, TlsFiles, TlsVersion,
};
use parking_lot::Mutex;
use rand::Rng;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thiserror::Error;

use crate::error::ChainError;
use crate::names;
use answer::Answer;
use health::Health;
pub use health::{Backoff, EndpointState};

/// Most endpoints of one chain.
pub const MAX_ENDPOINTS: usize = 16;

/// Which endpoints, and what is expected of them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http` or `https` URLs, the first one being preferred.
    pub urls: Vec<String>,
    /// The chain they have to be of.
    pub chain_id: u64,
    /// Time for one request at one endpoint.
    pub request_timeout: Duration,
    /// How often an endpoint's chain id is looked at again.
    pub chain_id_every: Duration,
    /// How long an endpoint that fails is left alone.
    pub backoff: Backoff,
    /// Most bytes of an answer.
    pub max_answer_bytes: usize,
    /// How endpoints of https URLs are known.
    pub tls: TlsFiles,
    /// The alarm that nobody answers is raised when it has lasted this long.
    pub alarm_after: Duration,
}

impl Settings {
    /// The usual bounds.
    pub fn new(urls: Vec<String>, chain_id: u64) -> Self {
        Self {
            urls,
            chain_id,
            request_timeout: Duration::from_secs(10),
            chain_id_every: Duration::from_secs(30),
            backoff: Backoff::default(),
            // A thousand batches in calldata are some 100 KB of logs; a keyset is at most 64 KiB, in hex twice that.
            max_answer_bytes: 16 * 1024 * 1024,
            // Others run them.
            tls: TlsFiles { min_version: TlsVersion::Tls12, ..TlsFiles::default() },
            alarm_after: Duration::from_secs(60),
        }
    }
}

/// Why the list of endpoints cannot be used.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// None, or too many.
    #[error("{got} URLs of the parent chain; 1 to {MAX_ENDPOINTS} are possible")]
    Count {
        /// URLs given.
        got: usize,
    },
    /// A URL. Its text is not repeated: it may hold a key.
    #[error("URL {place} of the parent chain: {reason}")]
    Url {
        /// Its place, from 1.
        place: usize,
        /// What is wrong.
        reason: String,
    },
    /// The authority's file.
    #[error("the authority of the parent chain's endpoints: {reason}")]
    Authority {
        /// What is wrong.
        reason: String,
    },
}

impl Coded for SettingsError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Authority { .. } => fault::TLS_FILES,
            _ => fault::CHAIN_URL,
        }
    }
}

struct Slot {
    endpoint: Endpoint,
    /// Its place in the list, and host and port: all that is shown of it.
    label: String,
    /// Parts of its URL that are not to be repeated when the endpoint says them.
    secrets: Vec<String>,
    health: Mutex<Health>,
    /// Held while its chain id is asked for, so that this is done once for many requests.
    checking: tokio::sync::Mutex<()>,
}

struct Inner {
    slots: Vec<Slot>,
    settings: Settings,
    http: HttpClient,
    alarms: Alarms,
    /// Since when no request has been answered.
    silent_since: Mutex<Option<Instant>>,
}

/// The endpoints. Cheap to clone; clones share what is known of them.
#[derive(Clone)]
pub struct Endpoints(Arc<Inner>);

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.slots.iter().map(|slot| &slot.label)).finish()
    }
}

impl Endpoints {
    /// Takes the list; nothing is sent yet.
    pub fn new(settings: Settings, alarms: Alarms) -> Result<Self, SettingsError> {
        let got = settings.urls.len();
        if got == 0 || got > MAX_ENDPOINTS {
            return Err(SettingsError::Count { got });
        }
        let slots = settings.urls.iter().enumerate().map(|(index, url)| {
            let place = index + 1;
            let endpoint = Endpoint::parse(url).map_err(|error| SettingsError::Url {
                place,
                reason: match error {
                    EndpointError::NotAUrl { reason, .. } => reason,
                    EndpointError::Scheme { .. } => "the scheme must be http or https".into(),
                    EndpointError::NoHost { .. } => "it names no host".into(),
                },
            })?;
            let label = format!("endpoint {place} ({})", endpoint.authority());
            Ok(Slot {
                label,
                secrets: secrets(url, endpoint.host()),
                endpoint,
                health: Mutex::default(),
                checking: tokio::sync::Mutex::default(),
            })
        });
        let slots = slots.collect::<Result<_, _>>()?;
        let http = HttpClient::with_watched_tls(ClientLimits::default(), &settings.tls, &alarms);
        let http = http.map_err(|error| SettingsError::Authority { reason: error.to_string() })?;
        Ok(Self(Arc::new(Inner { slots, settings, http, alarms, silent_since: Mutex::default() })))
    }

    /// The chain of the first of them that says one; what `settings` expect is not looked at.
    pub async fn find_chain_id(settings: Settings) -> Result<Result<u64, ChainError>, SettingsError> {
        let endpoints = Self::new(settings, Alarms::new())?;
        let mut reasons = Vec::new();
        for index in 0..endpoints.count() {
            let one = OneEndpoint { inner: Arc::clone(&endpoints.0), index };
            match one.exchange::<U64>("eth_chainId", json!([])).await {
                Ok(chain_id) => return Ok(Ok(chain_id.to::<u64>())),
                Err(error) => reasons.push(format!("{}: {error}", one.label())),
            }
        }
        Ok(Err(ChainError::Away { reasons: reasons.join("; "), retry_in: Duration::ZERO }))
    }

    /// The chain they have to be of.
    pub fn chain_id(&self) -> u64 {
        self.0.settings.chain_id
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.slots.len()
    }

    /// What is known of each, in the order of the list.
    pub fn states(&self) -> Vec<EndpointState> {
        let now = Instant::now();
        self.0.slots.iter().map(|slot| slot.health.lock().state(&slot.label, now)).collect()
    }

    /// One request, at the first endpoint that answers it.
    pub async fn request<T: DeserializeOwned + Send>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, ChainError> {
        self.on_one(move |one| {
            let params = params.clone();
            async move { one.request(method, params).await }
        })
        .await
    }

    /// Work whose requests have to go to one and the same endpoint; it is done anew at the next one where it fails.
    pub async fn on_one<T, F, W>(&self, work: W) -> Result<T, ChainError>
    where
        W: Fn(OneEndpoint) -> F,
        F: Future<Output = Result<T, ChainError>>,
    {
        let mut told = None;
        for index in 0..self.0.slots.len() {
            if !self.0.slots[index].health.lock().is_usable(Instant::now()) {
                continue;
            }
            match work(OneEndpoint { inner: Arc::clone(&self.0), index }).await {
                // What is wrong with that one is in its health.
                Err(ChainError::Failed { .. } | ChainError::WrongChain { .. }) => {}
                Err(
                    error @ (ChainError::Refused { .. }
                    | ChainError::TooLarge { .. }
                    | ChainError::Malformed { .. }
                    | ChainError::Beyond { .. }
                    | ChainError::Lacks { .. }
                    // Of the chain, or of this endpoint; the next one may be of one mind.
                    | ChainError::Unsettled { .. }),
                ) => told = Some(error),
                outcome => {
                    self.0.answered();
                    return outcome;
                }
            }
        }
        if let Some(error) = told {
            self.0.answered();
            return Err(error);
        }
        Err(self.0.away())
    }
}

impl Inner {
    fn answered(&self) {
        *self.silent_since.lock() = None;
        self.alarms.clear(fault::CHAIN_AWAY.code);
    }

    fn away(&self) -> ChainError {
        let now = Instant::now();
        let states = self.slots.iter().map(|slot| slot.health.lock().state(&slot.label, now));
        let states: Vec<_> = states.collect();
        let reasons: Vec<String> = states
            .iter()
            .map(|state| format!("{}: {}", state.endpoint, state.problem.as_deref().unwrap_or("not tried")))
            .collect();
        let retry_in = states.iter().map(|state| state.retry_in).min().unwrap_or_default();
        let error = ChainError::Away { reasons: reasons.join("; "), retry_in };
        let since = *self.silent_since.lock().get_or_insert(now);
        if now.duration_since(since) >= self.settings.alarm_after {
            self.alarms.raise_fault(fault::CHAIN_AWAY, reasons.join("; "));
        }
        error
    }

    /// Raises or ends the alarm about endpoints of another chain.
    fn tell_wrong_chains(&self) {
        let wrong = self.slots.iter().filter_map(|slot| {
            let got = slot.health.lock().wrong_chain()?;
            Some(self.wrong_chain(slot, got).to_string())
        });
        let wrong: Vec<String> = wrong.collect();
        if wrong.is_empty() {
            self.alarms.clear(fault::CHAIN_WRONG_ID.code);
        } else {
            self.alarms.raise_fault(fault::CHAIN_WRONG_ID, wrong.join("; "));
        }
    }

    fn wrong_chain(&self, slot: &Slot, got: u64) -> ChainError {
        ChainError::WrongChain { endpoint: slot.label.clone(), got, expected: self.settings.chain_id }
    }
}

/// One endpoint, for requests that belong together.
#[derive(Clone)]
pub struct OneEndpoint {
    inner: Arc<Inner>,
    index: usize,
}

impl OneEndpoint {
    fn slot(&self) -> &Slot {
        &self.inner.slots[self.index]
    }

    /// Its name in texts: place in the list, host and port.
    pub fn label(&self) -> &str {
        &self.slot().label
    }

    /// Its place in the list, from 0.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// One request.
    pub async fn request<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, ChainError> {
        self.check_chain_id().await?;
        let outcome = self.exchange(method, params).await;
        self.note(&outcome);
        outcome
    }

    /// Something in the answer to `method` is not what it must be, although it has the right shape.
    pub(crate) fn malformed(&self, method: &'static str, reason: impl Into<String>) -> ChainError {
        let error =
            ChainError::Malformed { endpoint: self.label().to_owned(), method, reason: reason.into() };
        self.note::<()>(&Err(error.clone()));
        error
    }

    async fn check_chain_id(&self) -> Result<(), ChainError> {
        let Inner { settings, .. } = &*self.inner;
        let slot = self.slot();
        let is_fresh = || slot.health.lock().is_checked(Instant::now(), settings.chain_id_every);
        if is_fresh() {
            return Ok(());
        }
        let _checking = slot.checking.lock().await;
        if is_fresh() {
            return Ok(());
        }
        // Others who waited for a check that failed need not try again.
        if !slot.health.lock().is_usable(Instant::now()) {
            return Err(ChainError::Failed { endpoint: slot.label.clone(), reason: "just failed".into() });
        }
        let outcome = self.exchange::<U64>("eth_chainId", json!([])).await;
        self.note(&outcome);
        let got = match outcome {
            Ok(got) => got.to::<u64>(),
            // It says nothing of its chain, so that nothing can be taken from it.
            Err(error) => {
                self.fail(&error.to_string());
                return Err(ChainError::Failed { endpoint: slot.label.clone(), reason: error.to_string() });
            }
        };
        let is_right = got == settings.chain_id;
        let now = Instant::now();
        match is_right {
            true => slot.health.lock().right_chain(now),
            false => slot.health.lock().other_chain(got, now + settings.chain_id_every),
        }
        metrics::gauge!(names::ENDPOINT_UP, "endpoint" => slot.label.clone()).set(f64::from(is_right));
        self.inner.tell_wrong_chains();
        if is_right { Ok(()) } else { Err(self.inner.wrong_chain(slot, got)) }
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<T, ChainError> {
        let (slot, settings) = (self.slot(), &self.inner.settings);
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let started = Instant::now();
        let endpoint = || slot.label.clone();
        let sent = self
            .inner
            .http
            .post_json(&slot.endpoint, Bytes::from(body), settings.request_timeout, settings.max_answer_bytes)
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(HttpError::TooLarge { limit, .. }) => {
                return Err(ChainError::TooLarge {
                    endpoint: endpoint(),
                    method,
                    limit: format!("{limit} bytes"),
                });
            }
            Err(error) => {
                return Err(ChainError::Failed { endpoint: endpoint(), reason: self.plain(&reason(error)) });
            }
        };
        metrics::histogram!(names::REQUEST_SECONDS, "endpoint" => endpoint())
            .record(started.elapsed().as_secs_f64());
        match answer::read(answer.status, &answer.body) {
            Answer::Value(value) => Ok(value),
            Answer::Reverted { data, message } => {
                Err(ChainError::Reverted { data, message: self.plain(&message) })
            }
            Answer::Refused { code, message } => {
                Err(ChainError::Refused { endpoint: endpoint(), method, code, message: self.plain(&message) })
            }
            Answer::Busy { message } => {
                Err(ChainError::Failed { endpoint: endpoint(), reason: self.plain(&message) })
            }
            Answer::Malformed { reason } => {
                Err(ChainError::Malformed { endpoint: endpoint(), method, reason: self.plain(&reason) })
            }
        }
    }

    /// Without what is secret of the URL.
    fn plain(&self, text: &str) -> String {
        self.slot().secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "..."))
    }

    fn note<T>(&self, outcome: &Result<T, ChainError>) {
        let result = match outcome {
            Ok(_) | Err(ChainError::Reverted { .. }) => {
                self.slot().health.lock().worked();
                "ok"
            }
            // It answers; what it does not serve is no reason to leave it alone.
            Err(ChainError::Refused { .. } | ChainError::TooLarge { .. } | ChainError::Beyond { .. }) => {
                "refused"
            }
            Err(error) => {
                self.fail(&match error {
                    ChainError::Failed { reason, .. } => reason.clone(),
                    error => error.to_string(),
                });
                "failed"
            }
        };
        metrics::counter!(names::REQUESTS, "endpoint" => self.label().to_owned(), "result" => result)
            .increment(1);
    }

    fn fail(&self, reason: &str) {
        let slot = self.slot();
        let jitter = rand::rng().random_range(0.0..1.0);
        let first = slot.health.lock().failed(reason, Instant::now(), &self.inner.settings.backoff, jitter);
        metrics::gauge!(names::ENDPOINT_UP, "endpoint" => slot.label.clone()).set(0.0);
        if first {
            tracing::warn!(endpoint = slot.label, reason, "an endpoint of the parent chain fails");
        }
    }
}

/// What an error says without naming the URL.
pub(crate) fn reason(error: HttpError) -> String {
    match error {
        HttpError::Connect { reason, .. } => format!("cannot connect: {reason}"),
        HttpError::Broken { reason, .. } => format!("the connection broke: {reason}"),
        HttpError::Timeout { after, .. } => format!("no answer within {after:?}"),
        HttpError::TooLarge { limit, .. } => format!("an answer above {limit} bytes"),
        HttpError::NoRoots { reason } => format!("no root certificates for https: {reason}"),
        HttpError::BadPath { reason, .. } => format!("not a path: {reason}"),
    }
}

/// Everything in a URL that may be a key: all its words of some length, but for its host.
pub(crate) fn secrets(url: &str, host: &str) -> Vec<String> {
    const SHORTEST: usize = 6;
    let rest = url.split_once("//").map_or(url, |(_, rest)| rest);
    let words = rest.split(['/', '?', '&', '=', '@', ':', '#']);
    let mut words: Vec<String> =
        words.filter(|word| word.len() >= SHORTEST && *word != host).map(str::to_owned).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_of_a_url_is_found_and_the_host_is_not() {
        let found = secrets(
            "https://user:pass-word@eth.example.org:8545/v2/a-key-of-theirs?token=t0ken-x",
            "eth.example.org",
        );
        assert_eq!(found, ["a-key-of-theirs", "pass-word", "t0ken-x"]);
        let error = Endpoints::new(Settings::new(vec!["ftp://h/secret-key".into()], 1), Alarms::new());
        assert!(!error.unwrap_err().to_string().contains("secret-key"));
        let error = Endpoints::new(Settings::new(vec!["secret-key".into()], 1), Alarms::new());
        assert!(!error.unwrap_err().to_string().contains("secret-key"));
        let none = Endpoints::new(Settings::new(vec![], 1), Alarms::new());
        assert_eq!(none.unwrap_err(), SettingsError::Count { got: 0 });
    }
}
