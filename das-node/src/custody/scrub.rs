//! The scrub: everything on the disk is read and checked in turn, and what rotted is mended from the committee.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use das_common::data_hash::DataHash;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tracing::{info, warn};

use super::Shared;
use crate::clock::unix_time;
use crate::storage::Form;
use crate::storage::{Lookup, NewShard};

/// Read in one step.
const STEP_BYTES: u64 = 4 << 20;
/// Pauses are not longer than this: what readers found damaged is mended soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Damaged batches that wait for mending; more are found again by the next pass.
const MAX_DAMAGED: usize = 4096;

/// How far the scrub is, and what waits to be mended.
#[derive(Default)]
pub(super) struct Progress {
    damaged: Mutex<BTreeSet<DataHash>>,
    bytes: AtomicU64,
    passes: AtomicU64,
    found: AtomicU64,
    mended: AtomicU64,
}

/// What the scrub came to.
#[derive(Debug, Clone, Copy, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ScrubReport {
    /// Bytes read.
    pub bytes: u64,
    /// Times that everything was read.
    pub passes: u64,
    /// Damaged pieces found, by the scrub or by readers.
    pub found: u64,
    /// Batches mended.
    pub mended: u64,
    /// Batches that wait to be mended.
    pub waiting: u64,
}

impl Progress {
    /// Something of this batch is damaged on disk.
    pub(super) fn found(&self, hash: &DataHash) {
        self.found.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("das_custody_damaged_total").increment(1);
        let mut damaged = self.damaged.lock();
        if damaged.len() < MAX_DAMAGED {
            damaged.insert(*hash);
        }
    }

    pub(super) fn report(&self) -> ScrubReport {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        ScrubReport {
            bytes: count(&self.bytes),
            passes: count(&self.passes),
            found: count(&self.found),
            mended: count(&self.mended),
            waiting: self.damaged.lock().len() as u64,
        }
    }
}

/// Reads and mends for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut cursor = None;
    let mut pause = LONGEST_PAUSE;
    let mut due = tokio::time::Instant::now() + pause;
    loop {
        tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
        mend_all(&shared).await;
        if tokio::time::Instant::now() < due {
            continue;
        }
        match shared.store.scrub_step(cursor, STEP_BYTES).await {
            Ok(step) => {
                shared.scrub.bytes.fetch_add(step.bytes, Ordering::Relaxed);
                step.damaged.iter().for_each(|(hash, _)| shared.scrub.found(hash));
                if step.next.is_none() {
                    shared.scrub.passes.fetch_add(1, Ordering::Relaxed);
                }
                cursor = step.next;
                pause = pace(&shared, step.bytes, cursor.is_none()).await;
                due = tokio::time::Instant::now() + pause;
            }
            Err(error) => {
                warn!(%error, "the scrub cannot read; it goes on later");
                due = tokio::time::Instant::now() + LONGEST_PAUSE;
            }
        }
    }
}

/// The pause after a step, so that a pass takes the time that the option says.
async fn pace(shared: &Shared, bytes: u64, ended: bool) -> Duration {
    let interval = shared.options.scrub_interval;
    let total = shared.store.usage().await.map_or(0, |usage| usage.whole_bytes + usage.shard_bytes);
    // A short last step stands for the rest of its pass only if there is nothing else to read.
    let share =
        if ended && total <= STEP_BYTES { 1.0 } else { bytes as f64 / total.max(bytes).max(1) as f64 };
    interval.mul_f64(share.min(1.0)).max(Duration::from_millis(1))
}

async fn mend_all(shared: &Arc<Shared>) {
    let damaged: Vec<DataHash> = shared.scrub.damaged.lock().iter().copied().collect();
    for hash in damaged {
        if mend(shared, hash).await {
            shared.scrub.damaged.lock().remove(&hash);
        }
    }
}

/// Fetches a batch whose pieces here rotted, and writes them anew. `false`: not yet.
async fn mend(shared: &Arc<Shared>, hash: DataHash) -> bool {
    let Ok(held) = shared.store.held(&hash) else { return false };
    let Some(held) = held else { return true };
    let whole = matches!(shared.store.get(hash).await, Ok(Lookup::Found(_)));
    let mut rotten = Vec::new();
    for shard in &held.shards {
        let Some(part) = shared.part(&shard.coding) else { continue };
        if matches!(shared.store.read_shard(hash, shard.coding, &part.code).await, Ok(Lookup::Damaged)) {
            rotten.push(Form::Shard(shard.coding));
        }
    }
    if held.whole && !whole {
        rotten.push(Form::Whole);
    }
    if rotten.is_empty() {
        return true;
    }
    let batch = match shared.store.get(hash).await {
        Ok(Lookup::Found(batch)) => batch,
        _ => match shared.reads.gather(&hash).await {
            Ok(Some(batch)) => batch,
            Ok(None) => return false,
            Err(error) => {
                info!(%hash, %error, "a damaged batch cannot be mended yet");
                return false;
            }
        },
    };
    let now = unix_time();
    let mut shards = Vec::new();
    for form in &rotten {
        let Form::Shard(coding) = form else { continue };
        let Some(part) = shared.part(coding) else { continue };
        let Some(index) = part.coding.index_of(&shared.me) else { continue };
        let shard = part.code.encode_one(batch.bytes(), index);
        shards.push(NewShard { hash, coding: *coding, shard, timeout: None, now });
    }
    if rotten.contains(&Form::Whole)
        && let Err(error) = shared.store.put(&batch, held.timeout, now).await
    {
        warn!(%error, %hash, "a damaged batch could not be written anew");
        return false;
    }
    if let Err(error) = shared.store.put_shards(shards).await {
        warn!(%error, %hash, "a damaged shard could not be written anew");
        return false;
    }
    shared.scrub.mended.fetch_add(1, Ordering::Relaxed);
    info!(%hash, pieces = rotten.len(), "what had rotted is whole again");
    shared.tell(das_common::custody::machine::Event::Changed { hash });
    true
}
