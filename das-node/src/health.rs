//! Health that means it: can batches be stored, can they be served, and what should the operator look at?

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use das_batches::index::Index;
use das_batches::service;
use das_common::alarm::{Alarm, Alarms};
use das_common::fault;
use das_common::http::per_client::{PortReport, Ports};
use das_common::telemetry::names;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

use crate::archive::Bucket;
use crate::clock::unix_time;
use crate::policy::RetentionPolicy;
use crate::storage::index::Errand;
use crate::storage::{BatchStore, KeysReport};

/// What a probe found out about the disk is good for so long.
const PROBE_AGE: Duration = Duration::from_secs(5);
/// A disk that has not answered a probe by then takes no stores.
const PATIENCE: Duration = Duration::from_secs(2);

/// Batches that wait for their upload are counted up to this.
const MOST_COUNTED: usize = 10_000;

/// A look at the disk, which may still be under way: a disk can hang for longer than anybody waits.
#[derive(Clone)]
struct Probe {
    began: Instant,
    outcome: watch::Receiver<Option<Result<(), String>>>,
}

impl Probe {
    fn has_ended(&self) -> bool {
        self.outcome.borrow().is_some()
    }
}

/// Watches the parts of a member.
pub struct Health {
    /// None: a node that only reads from an archive.
    store: Option<Arc<BatchStore>>,
    /// The archive, where there is one.
    archive: Option<Arc<Bucket>>,
    alarms: Alarms,
    ports: Ports,
    reserve_bytes: u64,
    policy: RetentionPolicy,
    public_key: Option<String>,
    keyset_hash: Option<String>,
    started: u64,
    /// What was followed of the chain, once it is.
    followed: OnceLock<Arc<Index>>,
    /// The last probe. Held for moments only: requests come by here.
    probe: Mutex<Option<Probe>>,
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
        store: Option<Arc<BatchStore>>,
        alarms: Alarms,
        reserve_bytes: u64,
        policy: RetentionPolicy,
        identity: Identity,
    ) -> Self {
        let Identity { public_key, keyset_hash } = identity;
        let (followed, probe) = (OnceLock::new(), Mutex::new(None));
        let started = unix_time();
        let archive = None;
        Self {
            store,
            archive,
            alarms,
            ports: Ports::default(),
            reserve_bytes,
            policy,
            public_key,
            keyset_hash,
            started,
            followed,
            probe,
        }
    }

    /// Says which archive there is.
    pub fn with_archive(self, archive: Option<Arc<Bucket>>) -> Self {
        Self { archive, ..self }
    }

    /// Has the status say how the limits of these ports are doing.
    pub fn with_ports(self, ports: Ports) -> Self {
        Self { ports, ..self }
    }

    /// From now on the status says how far the chain was followed.
    pub fn follows(&self, index: Arc<Index>) {
        // It is followed once.
        let _ = self.followed.set(index);
    }

    /// Whether a store could be answered: there is a key, and the disk has room and takes writes. The text says why
    /// not.
    pub async fn can_store(self: &Arc<Self>) -> Result<(), String> {
        // The disk is looked at without a key too: a mirror fills its own, and its alarms come from here.
        self.disk_takes_writes().await?;
        if self.public_key.is_none() {
            return Err("there is no key to sign with: this is a mirror".into());
        }
        Ok(())
    }

    async fn disk_takes_writes(self: &Arc<Self>) -> Result<(), String> {
        let Probe { began, mut outcome } = self.begin();
        let ended = tokio::time::timeout(PATIENCE, outcome.wait_for(Option::is_some)).await;
        match ended.as_ref().map(|found| found.as_deref()) {
            Ok(Ok(Some(result))) => result.clone(),
            Ok(_) => Err("the disk could not be probed".into()),
            Err(_) => Err(format!("the disk has not answered for {} s", began.elapsed().as_secs())),
        }
    }

    /// Begins a probe, unless there is a fresh one or one under way.
    fn begin(self: &Arc<Self>) -> Probe {
        let mut last = self.probe.lock();
        if let Some(probe) = last.as_ref().filter(|p| p.began.elapsed() < PROBE_AGE || !p.has_ended()) {
            return probe.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let probe = Probe { began: Instant::now(), outcome };
        *last = Some(probe.clone());
        let health = Arc::clone(self);
        tokio::task::spawn_blocking(move || sender.send_replace(Some(health.look_at_disk())));
        probe
    }

    /// A store has failed: what was found out earlier about the disk is no longer worth much.
    pub fn doubt(&self) {
        let mut last = self.probe.lock();
        // One under way is as good as a new one, and a disk that hangs is not asked ever more.
        if last.as_ref().is_some_and(Probe::has_ended) {
            *last = None;
        }
    }

    fn look_at_disk(&self) -> Result<(), String> {
        let Some(store) = &self.store else {
            return Err("there is no disk to store on: this node reads from an archive".into());
        };
        let free = store.free_bytes().map_err(|error| format!("the disk cannot be asked: {error}"))?;
        metrics::gauge!(names::DISK_FREE_BYTES).set(free as f64);
        // Above the reserve there may still be less than one more batch needs.
        let needed = store.lacking_bytes().unwrap_or(0).max(self.reserve_bytes);
        if free < needed {
            let text = format!("{free} bytes are free, {needed} are needed with the reserve");
            self.alarms.raise_fault(fault::STORE_DISK_FULL, text.clone());
            return Err(text);
        }
        self.alarms.clear(fault::STORE_DISK_FULL.code);
        match store.probe() {
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

    /// Publishes what the store holds. Blocks for as long as the disk does.
    pub fn measure(&self) {
        let Some(store) = &self.store else { return };
        store.index().measure();
        metrics::gauge!(names::STORED_BATCHES).set(store.index().estimated_batches() as f64);
        if self.archive.is_some()
            && let Ok(archived) = store.archived()
        {
            metrics::gauge!(names::ARCHIVED_BATCHES).set(archived.batches as f64);
            metrics::gauge!(names::ARCHIVED_BYTES).set(archived.bytes as f64);
        }
        if let Ok(keys) = store.keys()
            && keys.is_of_use()
        {
            publish_keys(&keys);
        }
        if let Ok(segments) = store.index().segments() {
            let live: u64 = segments.iter().map(|(_, segment)| segment.live_bytes).sum();
            metrics::gauge!(names::STORED_BYTES).set(live as f64);
        }
    }

    /// Whether reads can be answered.
    pub fn can_serve(&self) -> Result<(), String> {
        let Some(store) = &self.store else { return Ok(()) };
        store.check_index().map_err(|error| error.to_string())
    }

    fn archive_status(&self, bucket: &Bucket) -> ArchiveStatus {
        let only = self.store.as_ref().and_then(|store| store.archived().ok()).unwrap_or_default();
        let waiting = self
            .store
            .as_ref()
            .and_then(|store| store.index().notes(Errand::Upload, None, MOST_COUNTED).ok());
        let oldest = waiting.as_ref().and_then(|notes| notes.first()).map(|note| note.time);
        let failure = bucket.reach().failure();
        ArchiveStatus {
            r#where: bucket.name().to_owned(),
            only_there_batches: only.batches,
            only_there_bytes: only.bytes,
            waiting_for_upload: waiting.map(|notes| notes.len()),
            oldest_waiting_seconds: oldest.map(|since| unix_time().saturating_sub(since)),
            failing_for_seconds: failure.as_ref().map(|(since, _)| since.as_secs()),
            last_error: failure.map(|(_, error)| error.to_string()),
        }
    }

    /// Has it a key to sign with?
    pub fn is_member(&self) -> bool {
        self.public_key.is_some()
    }

    /// The alarms that are raised.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.alarms.list()
    }

    /// Everything an operator wants to see at one glance.
    pub async fn status(self: &Arc<Self>) -> NodeStatus {
        let can_store = self.can_store().await;
        let can_serve = self.can_serve();
        let disk = self.store.as_ref().and_then(|store| store.disk().ok());
        NodeStatus {
            program: "das-node",
            version: env!("CARGO_PKG_VERSION"),
            role: if self.is_member() { "member" } else { "mirror" },
            public_key: self.public_key.clone(),
            keyset_hash: self.keyset_hash.clone(),
            started_at: self.started,
            now: unix_time(),
            now_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis()),
            can_store: can_store.is_ok(),
            can_serve: can_serve.is_ok(),
            reasons: [can_store, can_serve].into_iter().filter_map(Result::err).collect(),
            expiration_policy: self.policy.expiration().name(),
            max_retention_seconds: self.policy.max_retention.as_secs(),
            batches: self.store.as_ref().map(|store| store.index().estimated_batches()),
            disk_free_bytes: disk.map(|disk| disk.free),
            disk_total_bytes: disk.map(|disk| disk.total),
            disk_reserve_bytes: self.reserve_bytes,
            encryption: self.store.as_ref().and_then(|store| store.keys().ok()).filter(KeysReport::is_of_use),
            archive: self.archive.as_ref().map(|bucket| self.archive_status(bucket)),
            chain: self.followed.get().map(|index| service::status(&**index)),
            ports: self.ports.report(),
            alarms: self.alarms.list(),
        }
    }
}

/// Keys that nothing is under any more are in the report, with 0.
fn publish_keys(report: &KeysReport) {
    metrics::gauge!(names::STORAGE_KEY_BYTES, "key" => "plain").set(report.plain_bytes as f64);
    for key in &report.keys {
        metrics::gauge!(names::STORAGE_KEY_BYTES, "key" => key.id.clone()).set(key.bytes as f64);
    }
    metrics::gauge!(names::STORAGE_REKEY_LEFT).set(report.left_bytes as f64);
}

/// A node's state. Serializes to the form of `/status`.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeStatus {
    /// Always `das-node`.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
    /// `member` or `mirror`.
    pub role: &'static str,
    /// Its public key as in `das_bls.pub`; none for a mirror.
    pub public_key: Option<String>,
    /// The hash of the keyset of itself alone.
    pub keyset_hash: Option<String>,
    /// Unix time of the start.
    pub started_at: u64,
    /// Unix time of this state.
    pub now: u64,
    /// The same in milliseconds.
    pub now_ms: u128,
    /// Whether a store would be answered.
    pub can_store: bool,
    /// Whether reads are.
    pub can_serve: bool,
    /// Why not.
    pub reasons: Vec<String>,
    /// How long batches are kept.
    pub expiration_policy: &'static str,
    /// The longest that it promises to keep a batch.
    pub max_retention_seconds: u64,
    /// Batches in the store, about; none without a disk.
    pub batches: Option<u64>,
    /// Bytes free on the disk of the store.
    pub disk_free_bytes: Option<u64>,
    /// Bytes of that disk.
    pub disk_total_bytes: Option<u64>,
    /// Bytes that stores leave free.
    pub disk_reserve_bytes: u64,
    /// What is encrypted on the disk, and with which keys; none where nothing is.
    pub encryption: Option<KeysReport>,
    /// What is in the archive; none where there is none.
    pub archive: Option<ArchiveStatus>,
    /// How far the contract was followed; none where it is not.
    pub chain: Option<Value>,
    /// How the limits of the ports that strangers reach are doing.
    pub ports: Vec<PortReport>,
    /// The alarms that are raised.
    pub alarms: Vec<Alarm>,
}

/// How the archive is doing.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ArchiveStatus {
    /// Its URL, without credentials.
    pub r#where: String,
    /// Batches that are there and not on this disk.
    pub only_there_batches: u64,
    /// Their bytes.
    pub only_there_bytes: u64,
    /// Batches that wait for their upload, counted up to 10 000; none without a disk.
    pub waiting_for_upload: Option<usize>,
    /// Since when the first of them was stored.
    pub oldest_waiting_seconds: Option<u64>,
    /// For how long every attempt has failed; none while they succeed.
    pub failing_for_seconds: Option<u64>,
    /// What came of the last one, if it failed.
    pub last_error: Option<String>,
}

impl NodeStatus {
    /// As JSON text.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts have a JSON form")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::storage::StorageOptions;

    fn health(directory: &tempfile::TempDir, public_key: Option<&str>) -> Arc<Health> {
        let directory = directory.path().to_path_buf();
        let options =
            StorageOptions { directory, segment_bytes: 1 << 20, reserve_bytes: 0, keys: Arc::default() };
        let store = Arc::new(BatchStore::open(&options).unwrap());
        let policy = RetentionPolicy { max_retention: Duration::from_secs(60), delete_expired: false };
        let identity = Identity { public_key: public_key.map(Into::into), keyset_hash: None };
        Arc::new(Health::new(Some(store), Alarms::new(), 0, policy, identity))
    }

    #[tokio::test]
    async fn without_a_key_nothing_can_be_stored_and_the_disk_is_watched_all_the_same() {
        let directory = tempfile::TempDir::new().unwrap();
        let health = health(&directory, None);
        assert!(health.can_store().await.unwrap_err().contains("no key"));
        assert!(health.alarms.list().is_empty());
        health.store.as_ref().unwrap().index().failures.store(1, Ordering::Relaxed);
        health.doubt();
        assert!(health.can_store().await.unwrap_err().contains("no writes"));
        assert!(health.alarms.is_raised(fault::STORE_WRITE.code));
    }

    #[tokio::test]
    async fn an_index_that_takes_no_writes_is_no_health() {
        let directory = tempfile::TempDir::new().unwrap();
        let health = health(&directory, Some("a key"));
        assert_eq!(health.can_store().await, Ok(()));
        health.store.as_ref().unwrap().index().failures.store(1, Ordering::Relaxed);
        health.doubt();
        assert!(health.can_store().await.is_err());
        assert!(health.alarms.is_raised(fault::STORE_WRITE.code));
        health.doubt();
        assert_eq!(health.can_store().await, Ok(()));
        assert!(!health.alarms.is_raised(fault::STORE_WRITE.code));
    }
}
