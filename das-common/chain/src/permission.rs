//! Who may store, by the contract: batch posters and sequencers (spec section 5).
//!
//! # Guarantees against strangers
//! Anybody can sign a request with a new key, and its address has to be looked up. However many do:
//! - the endpoints are asked about unknown addresses at most [`Settings::lookups_per_second`] times a second (with a
//!   burst of [`Settings::lookup_burst`]), once for all who ask about the same address;
//! - addresses that are known are not held up by that, and what is remembered of strangers is bounded.
//!
//! # How old an answer may be
//! "Yes" counts for [`Settings::fresh`], "no" for [`Settings::refused`], and neither outlives [`Permission::observe`]
//! seeing an event about the address. While the chain cannot be asked, an address that is known is accepted until its
//! last "yes" of the contract is [`Settings::stale`] old: the chain being away must not stop a committee, and whoever
//! was revoked meanwhile can do no more than have batches stored that nobody will post. About an unknown address it
//! then says [`PermissionError`], never "no".

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::fault::{self, Coded, Fault};
use das_common::single_flight::SingleFlight;
use das_common::store_auth::Address;
use parking_lot::Mutex;
use thiserror::Error;

use crate::contract::SequencerInbox as Inbox;
use crate::error::ChainError;
use crate::names;
use crate::reader::{At, Log, Reader};

/// Somebody who can tell whether an address may store.
pub trait Registry: Send + Sync + 'static {
    /// Whether the contract accepts it now.
    fn may_store(&self, address: Address) -> impl Future<Output = Result<bool, ChainError>> + Send;
}

/// The contract on the chain.
#[derive(Debug, Clone)]
pub struct InboxRegistry {
    /// Whom to ask.
    pub reader: Reader,
    /// The contract's address.
    pub inbox: alloy_primitives::Address,
}

impl Registry for InboxRegistry {
    async fn may_store(&self, address: Address) -> Result<bool, ChainError> {
        let address = alloy_primitives::Address::from(*address.as_bytes());
        let poster = Inbox::isBatchPosterCall { poster: address };
        if self.reader.call(self.inbox, &poster, At::Latest).await? {
            return Ok(true);
        }
        let sequencer = Inbox::isSequencerCall { sequencer: address };
        self.reader.call(self.inbox, &sequencer, At::Latest).await
    }
}

/// How long answers count, and how often the chain is asked.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How long "yes" counts.
    pub fresh: Duration,
    /// How long "yes" counts while the chain cannot be asked.
    pub stale: Duration,
    /// How long "no" counts.
    pub refused: Duration,
    /// How long after a failed lookup of a known address the next one is made.
    pub retry: Duration,
    /// Lookups of unknown addresses in a second.
    pub lookups_per_second: f64,
    /// Lookups of unknown addresses at once.
    pub lookup_burst: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fresh: Duration::from_secs(3600),
            stale: Duration::from_secs(24 * 3600),
            refused: Duration::from_secs(5),
            retry: Duration::from_secs(5),
            lookups_per_second: 5.0,
            lookup_burst: 20.0,
        }
    }
}

/// Most addresses that are remembered as accepted, and as refused.
const MAX_KNOWN: usize = 1024;
const MAX_REFUSED: usize = 4096;

/// It cannot be told now whether an address may store: neither yes nor no.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum PermissionError {
    /// The chain cannot be asked.
    #[error("whether {address} may store cannot be told now: {source}")]
    Away {
        /// Whose request it is.
        address: Address,
        /// Why the chain cannot be asked.
        source: ChainError,
    },
    /// Too many unknown addresses are asked about.
    #[error("whether {address} may store cannot be told now: too many unknown signers are being asked about")]
    TooMany {
        /// Whose request it is.
        address: Address,
    },
    /// The lookup ended without an answer.
    #[error("whether {address} may store cannot be told now: the lookup failed unexpectedly")]
    Lost {
        /// Whose request it is.
        address: Address,
    },
}

impl Coded for PermissionError {
    fn fault(&self) -> &'static Fault {
        fault::CHAIN_SIGNER
    }
}

struct Known {
    /// When the contract said yes.
    since: Instant,
    /// When it is asked again.
    again: Instant,
}

struct Bucket {
    tokens: f64,
    at: Instant,
}

struct State {
    known: HashMap<Address, Known>,
    refused: HashMap<Address, Instant>,
    bucket: Bucket,
    /// Changes when something is forgotten: an answer asked for before is then not remembered.
    generation: u64,
}

struct Inner<R> {
    registry: R,
    settings: Settings,
    state: Mutex<State>,
}

/// Who may store. Cheap to clone; clones share what is known.
pub struct Permission<R> {
    inner: Arc<Inner<R>>,
    /// By generation too: whoever asks after something was forgotten does not get an answer from before.
    lookups: SingleFlight<(Address, u64), Result<bool, PermissionError>>,
}

impl<R> Clone for Permission<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), lookups: self.lookups.clone() }
    }
}

impl<R: Registry> Permission<R> {
    /// Nobody is known yet.
    pub fn new(registry: R, settings: Settings) -> Self {
        let state = State {
            known: HashMap::new(),
            refused: HashMap::new(),
            bucket: Bucket { tokens: settings.lookup_burst, at: Instant::now() },
            generation: 0,
        };
        let inner = Inner { registry, settings, state: Mutex::new(state) };
        Self { inner: Arc::new(inner), lookups: SingleFlight::default() }
    }

    /// Whether requests of this address are accepted; an error means that this cannot be told now.
    pub async fn may_store(&self, address: Address) -> Result<bool, PermissionError> {
        if let Some((answer, source)) = self.inner.remembered(address) {
            count(source);
            return Ok(answer);
        }
        let inner = Arc::clone(&self.inner);
        let generation = inner.state.lock().generation;
        let landed =
            self.lookups.run((address, generation), || async move { inner.look_up(address).await }).await;
        landed.unwrap_or(Err(PermissionError::Lost { address }))
    }

    /// Takes note of a log of the contract: an address that it is about is asked for anew.
    pub fn observe(&self, log: &Log) {
        let address = match (log.decode::<Inbox::BatchPosterSet>(), log.decode::<Inbox::SequencerSet>()) {
            (Some(event), _) => event.batchPoster,
            (_, Some(event)) => event.addr,
            _ => return,
        };
        self.forget(Address::from_bytes(address.into_array()));
    }

    /// The address is asked for anew, whether it was accepted or refused.
    pub fn forget(&self, address: Address) {
        let mut state = self.inner.state.lock();
        state.generation += 1;
        state.known.remove(&address);
        state.refused.remove(&address);
    }

    /// All addresses are asked for anew: after a reorganization, when events of blocks that are gone were observed.
    pub fn forget_all(&self) {
        let mut state = self.inner.state.lock();
        state.generation += 1;
        state.known.clear();
        state.refused.clear();
    }

    /// Addresses that are known to be accepted.
    pub fn known(&self) -> usize {
        self.inner.state.lock().known.len()
    }
}

fn count(source: &'static str) {
    metrics::counter!(names::SIGNER_CHECKS, "source" => source).increment(1);
}

impl<R: Registry> Inner<R> {
    fn remembered(&self, address: Address) -> Option<(bool, &'static str)> {
        let (now, state) = (Instant::now(), self.state.lock());
        if state.known.get(&address).is_some_and(|known| now < known.again) {
            return Some((true, "known"));
        }
        let is_refused =
            state.refused.get(&address).is_some_and(|at| now.duration_since(*at) < self.settings.refused);
        is_refused.then_some((false, "refused"))
    }

    async fn look_up(&self, address: Address) -> Result<bool, PermissionError> {
        // Another lookup may have ended between the look at what is remembered and this one.
        if let Some((answer, source)) = self.remembered(address) {
            count(source);
            return Ok(answer);
        }
        let generation = {
            let mut state = self.state.lock();
            // Those that are known are few, and asking about them does not depend on strangers.
            if !state.known.contains_key(&address) && !state.bucket.take(&self.settings) {
                count("untold");
                return Err(PermissionError::TooMany { address });
            }
            state.generation
        };
        let outcome = self.registry.may_store(address).await;
        let mut state = self.state.lock();
        let (now, is_current) = (Instant::now(), state.generation == generation);
        match outcome {
            Ok(true) => {
                if is_current {
                    make_room(&mut state.known, MAX_KNOWN, |known| known.since);
                    state.known.insert(address, Known { since: now, again: now + self.settings.fresh });
                    state.refused.remove(&address);
                }
                count("chain");
                Ok(true)
            }
            Ok(false) => {
                if is_current {
                    state.known.remove(&address);
                    make_room(&mut state.refused, MAX_REFUSED, |at| *at);
                    state.refused.insert(address, now);
                }
                count("chain");
                Ok(false)
            }
            Err(source) => {
                if let Some(known) = state.known.get_mut(&address)
                    && now.duration_since(known.since) < self.settings.stale
                {
                    known.again = now + self.settings.retry;
                    count("stale");
                    return Ok(true);
                }
                count("untold");
                Err(PermissionError::Away { address, source })
            }
        }
    }
}

/// Takes out the older half of a map that is full.
fn make_room<V>(map: &mut HashMap<Address, V>, most: usize, age: impl Fn(&V) -> Instant) {
    if map.len() < most {
        return;
    }
    let mut ages: Vec<Instant> = map.values().map(&age).collect();
    let (_, middle, _) = ages.select_nth_unstable(most / 2);
    let middle = *middle;
    map.retain(|_, value| age(value) > middle);
}

impl Bucket {
    fn take(&mut self, settings: &Settings) -> bool {
        let now = Instant::now();
        let gained = now.duration_since(self.at).as_secs_f64() * settings.lookups_per_second;
        self.tokens = (self.tokens + gained).min(settings.lookup_burst);
        self.at = now;
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests;
