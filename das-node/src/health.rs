//! Health that means it: can batches be stored, can they be served, and what should the operator look at?

use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::alarm::Alarms;
use das_common::fault;
use das_common::telemetry::names;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::clock::unix_time;
use crate::policy::RetentionPolicy;
use crate::storage::BatchStore;

/// A probe of the disk is good for so long.
const PROBE_AGE: Duration = Duration::from_secs(5);

/// Watches the parts of a member.
pub struct Health {
    store: Arc<BatchStore>,
    alarms: Alarms,
    reserve_bytes: u64,
    policy: RetentionPolicy,
    public_key: Option<String>,
    keyset_hash: Option<String>,
    started: u64,
    probed: Mutex<Option<(Instant, Result<(), String>)>>,
}

/// Who a member says that it is.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Its public key as in `das_bls.pub`; none for a mirror.
    pub public_key: Option<String>,
    /// The hash of the keyset of itself alone.
    pub keyset_hash: Option<String>,
}

impl Health {
    /// Puts the parts together.
    pub fn new(
        store: Arc<BatchStore>,
        alarms: Alarms,
        reserve_bytes: u64,
        policy: RetentionPolicy,
        identity: Identity,
    ) -> Self {
        let Identity { public_key, keyset_hash } = identity;
        let probed = Mutex::new(None);
        Self { store, alarms, reserve_bytes, policy, public_key, keyset_hash, started: unix_time(), probed }
    }

    /// Whether a store could be answered: the disk has room and takes writes. The text says why not.
    pub fn can_store(&self) -> Result<(), String> {
        let mut probed = self.probed.lock();
        if let Some((at, result)) = &*probed
            && at.elapsed() < PROBE_AGE
        {
            return result.clone();
        }
        let result = self.probe();
        *probed = Some((Instant::now(), result.clone()));
        result
    }

    /// A store has failed: what was found out earlier about the disk is no longer worth much.
    pub fn doubt(&self) {
        *self.probed.lock() = None;
    }

    fn probe(&self) -> Result<(), String> {
        let free = self.store.free_bytes().map_err(|error| format!("the disk cannot be asked: {error}"))?;
        metrics::gauge!(names::DISK_FREE_BYTES).set(free as f64);
        // Above the reserve there may still be less than one more batch needs.
        let needed = self.store.lacking_bytes().unwrap_or(0).max(self.reserve_bytes);
        if free < needed {
            let text = format!("{free} bytes are free, {needed} are needed with the reserve");
            self.alarms.raise_fault(fault::STORE_DISK_FULL, text.clone());
            return Err(text);
        }
        self.alarms.clear(fault::STORE_DISK_FULL.code);
        match self.store.probe() {
            Ok(()) => {
                self.alarms.clear(fault::STORE_WRITE.code);
                Ok(())
            }
            Err(error) => {
                let text = format!("the disk takes no writes: {error}");
                self.alarms.raise_fault(fault::STORE_WRITE, text.clone());
                Err(text)
            }
        }
    }

    /// Publishes what the store holds, and looks at the disk, so that an alarm does not wait for somebody to ask.
    /// Blocks for as long as the disk does.
    pub fn measure(&self) {
        let _ = self.can_store();
        metrics::gauge!(names::STORED_BATCHES).set(self.store.index().estimated_batches() as f64);
        if let Ok(segments) = self.store.index().segments() {
            let live: u64 = segments.iter().map(|(_, segment)| segment.live_bytes).sum();
            metrics::gauge!(names::STORED_BYTES).set(live as f64);
        }
    }

    /// Whether reads can be answered.
    pub fn can_serve(&self) -> Result<(), String> {
        self.store.check_index().map_err(|error| error.to_string())
    }

    /// Everything an operator wants to see at one glance.
    pub fn status(&self) -> Value {
        let can_store = self.can_store();
        let can_serve = self.can_serve();
        let reasons: Vec<_> = [&can_store, &can_serve].into_iter().filter_map(|r| r.as_ref().err()).collect();
        json!({
            "program": "das-node",
            "version": env!("CARGO_PKG_VERSION"),
            "role": if self.public_key.is_some() { "member" } else { "mirror" },
            "publicKey": self.public_key,
            "keysetHash": self.keyset_hash,
            "startedAt": self.started,
            "now": unix_time(),
            "canStore": can_store.is_ok(),
            "canServe": can_serve.is_ok(),
            "reasons": reasons,
            "expirationPolicy": self.policy.expiration().name(),
            "maxRetentionSeconds": self.policy.max_retention.as_secs(),
            "batches": self.store.index().estimated_batches(),
            "diskFreeBytes": self.store.free_bytes().ok(),
            "diskReserveBytes": self.reserve_bytes,
            "alarms": self.alarms.list(),
        })
    }
}
