//! The background task that lets go of what was promised for long enough.

use std::sync::Arc;
use std::time::Duration;

use das_common::alarm::Alarms;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::telemetry::names;
use parking_lot::Mutex;
use tracing::{debug, error, info};

use crate::clock::{ClockHistory, ClockReading, ClockVerdict};
use crate::storage::index::{IndexError, state};
use crate::storage::{BatchStore, StorageError};

/// A batch is kept so long beyond its timeout: readers' clocks differ, and so does ours.
pub const GRACE: Duration = Duration::from_secs(3600);
/// Batches let go in one step: the writer is busy with a step for a few milliseconds at most.
const STEP: usize = 64;
const PAUSE: Duration = Duration::from_millis(20);

/// Keeps account of the clock, across restarts.
pub struct ClockWatch {
    store: Arc<BatchStore>,
    alarms: Alarms,
    history: ClockHistory,
}

impl ClockWatch {
    /// Takes up from the last reading written down. `accept` takes the clock as it is now for right.
    pub fn start(store: Arc<BatchStore>, alarms: Alarms, accept: bool) -> Result<Self, StorageError> {
        let known = store.index().state(state::CLOCK)?;
        let history = known.filter(|_| !accept);
        let history = history.unwrap_or_else(|| ClockHistory::trusting(ClockReading::now()));
        let watch = Self { store, alarms, history };
        watch.write_down()?;
        Ok(watch)
    }

    fn write_down(&self) -> Result<(), IndexError> {
        let mut change = self.store.index().change();
        change.set_state(state::CLOCK, &self.history);
        change.apply(false)
    }

    /// The time (unix seconds), if it can be trusted to delete by. Waits for the disk.
    pub fn trusted_time(&mut self) -> Result<Option<u64>, StorageError> {
        let now = ClockReading::now();
        match self.history.judge(now) {
            ClockVerdict::Trusted => {
                self.write_down()?;
                self.alarms.clear(fault::CLOCK_JUMPED.code);
                Ok(Some(now.wall))
            }
            ClockVerdict::Jumped { by } => {
                self.alarms.raise_fault(
                    fault::CLOCK_JUMPED,
                    format!("the clock is {by} s off from where it should be; nothing is deleted until it is right"),
                );
                Ok(None)
            }
        }
    }
}

/// Lets expired batches go, for ever; `forget` hears of each.
pub async fn run(
    store: Arc<BatchStore>,
    clock: ClockWatch,
    delete: bool,
    interval: Duration,
    forget: impl Fn(&DataHash),
) {
    let alarms = clock.alarms.clone();
    let behind = |text: String| {
        error!("{text}");
        // Where nothing is ever deleted, nothing is behind.
        if delete {
            alarms.raise_fault(fault::EXPIRY_BEHIND, text);
        }
    };
    let clock = Arc::new(Mutex::new(clock));
    loop {
        let watch = Arc::clone(&clock);
        let Ok(time) = tokio::task::spawn_blocking(move || watch.lock().trusted_time()).await else { return };
        match time {
            Ok(Some(now)) if delete => match round(&store, now, &forget).await {
                Ok(count) => {
                    alarms.clear(fault::EXPIRY_BEHIND.code);
                    match count {
                        0 => debug!("nothing has expired"),
                        _ => info!(batches = count, "expired batches deleted"),
                    }
                }
                Err(StorageError::Closed) => return,
                Err(error) => behind(format!("expiry failed, it goes on in the next round: {error}")),
            },
            Ok(_) => {}
            Err(error) => behind(format!("the clock could not be written down, nothing is deleted: {error}")),
        }
        tokio::time::sleep(interval).await;
    }
}

async fn round(
    store: &Arc<BatchStore>,
    now: u64,
    forget: &impl Fn(&DataHash),
) -> Result<usize, StorageError> {
    let until = now.saturating_sub(GRACE.as_secs());
    let mut count = 0;
    loop {
        let gone = store.expire(until, STEP).await?;
        gone.iter().for_each(forget);
        count += gone.len();
        metrics::counter!(names::EXPIRED_BATCHES).increment(gone.len() as u64);
        if gone.is_empty() {
            return Ok(count);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use das_common::batch::VerifiedBatch;
    use tempfile::TempDir;

    use super::*;
    use crate::storage::StorageOptions;

    fn store(directory: &TempDir) -> Arc<BatchStore> {
        let directory = directory.path().to_path_buf();
        Arc::new(
            BatchStore::open(&StorageOptions {
                directory,
                segment_bytes: 1 << 20,
                reserve_bytes: 0,
                keys: Arc::default(),
            })
            .unwrap(),
        )
    }

    fn write_clock(store: &BatchStore, reading: &ClockReading) {
        let mut change = store.index().change();
        change.set_state(state::CLOCK, &ClockHistory::trusting(*reading));
        change.apply(true).unwrap();
    }

    #[test]
    fn a_jump_stops_deletion_with_an_alarm_until_the_operator_accepts_the_clock() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let now = ClockReading::now();
        for (wall, boot) in
            [(now.wall - 4000, now.boot), (now.wall + 4000, now.boot), (now.wall - 4000, [9; 16])]
        {
            let alarms = Alarms::new();
            write_clock(&store, &ClockReading { wall, boot, ..now });
            let mut watch = ClockWatch::start(Arc::clone(&store), alarms.clone(), false).unwrap();
            assert_eq!(watch.trusted_time().unwrap(), None, "{wall}");
            assert!(alarms.is_raised(fault::CLOCK_JUMPED.code));
            let mut again = ClockWatch::start(Arc::clone(&store), alarms.clone(), false).unwrap();
            assert_eq!(again.trusted_time().unwrap(), None, "a restart alone changes nothing");
            let mut accepted = ClockWatch::start(Arc::clone(&store), alarms.clone(), true).unwrap();
            assert!(accepted.trusted_time().unwrap().is_some());
            assert!(!alarms.is_raised(fault::CLOCK_JUMPED.code));
            let mut later = ClockWatch::start(Arc::clone(&store), alarms, false).unwrap();
            assert!(later.trusted_time().unwrap().is_some(), "what was accepted is written down");
        }
    }

    #[tokio::test]
    async fn expiry_that_fails_raises_an_alarm_until_a_round_succeeds() {
        use std::sync::atomic::Ordering;

        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let alarms = Alarms::new();
        let watch = ClockWatch::start(Arc::clone(&store), alarms.clone(), false).unwrap();
        store.index().failures.store(u32::MAX, Ordering::Relaxed);
        let task = tokio::spawn(run(Arc::clone(&store), watch, true, Duration::from_millis(5), |_| {}));
        let until = async |raised: bool| {
            while alarms.is_raised(fault::EXPIRY_BEHIND.code) != raised {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let soon = Duration::from_secs(20);
        tokio::time::timeout(soon, until(true)).await.expect("the alarm is raised");
        store.index().failures.store(0, Ordering::Relaxed);
        tokio::time::timeout(soon, until(false)).await.expect("the alarm is cleared");
        task.abort();
    }

    #[tokio::test]
    async fn a_batch_goes_an_hour_after_its_latest_timeout_and_no_sooner() {
        let directory = TempDir::new().unwrap();
        let store = store(&directory);
        let batch = |number: u8| VerifiedBatch::new(Bytes::from(vec![number; 500]));
        for number in 0..100 {
            store.put(&batch(number), 10_000, 1).await.unwrap();
        }
        // One is promised for longer, and a later request for less changes nothing.
        store.put(&batch(7), 20_000, 2).await.unwrap();
        store.put(&batch(7), 15_000, 3).await.unwrap();
        let gone = Mutex::new(Vec::new());
        let forget = |hash: &DataHash| gone.lock().push(*hash);
        assert_eq!(round(&store, 10_000 + 3599, &forget).await.unwrap(), 0);
        assert_eq!(round(&store, 10_000 + 3600, &forget).await.unwrap(), 99);
        assert_eq!(gone.lock().len(), 99, "the cache hears of each");
        assert_eq!(store.timeout(&batch(7).hash()).unwrap(), Some(20_000));
        assert_eq!(round(&store, 20_000 + 3599, &forget).await.unwrap(), 0);
        assert_eq!(round(&store, 20_000 + 3600, &forget).await.unwrap(), 1);
    }
}
