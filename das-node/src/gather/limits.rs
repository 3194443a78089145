//! What gathers may cost: memory, questions for hashes nobody knows, time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds of the gathers of one coding.
#[derive(Debug, Clone)]
pub struct GatherLimits {
    /// Batches above this many bytes are not taken.
    pub max_batch_bytes: u64,
    /// A gather ends after this, whatever it has.
    pub deadline: Duration,
    /// One question to one member ends after this.
    pub attempt_timeout: Duration,
    /// Members that refuse for now are asked again for this long.
    pub patience: Duration,
    /// When nothing speaks for it that the batch exists, those who have not answered in time are given this much more.
    pub last_wait: Duration,
    /// Gathers under way, those that wait for memory among them; more are refused.
    pub max_gathers: usize,
    /// Memory that a gather of a batch of unknown length begins with, in bytes.
    pub unknown_bytes: u64,
    /// Gathers per second of hashes of which nothing is known; more are refused.
    pub unknown_per_second: u32,
    /// A hash that nobody has is not asked for again for this long.
    pub absent_for: Duration,
    /// A hash of which nobody had anything, but not everybody answered, is not asked for again for this long.
    pub unanswered_for: Duration,
    /// Absent hashes remembered.
    pub absent_hashes: u64,
}

impl Default for GatherLimits {
    fn default() -> Self {
        Self {
            max_batch_bytes: 64 * 1024 * 1024,
            deadline: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(20),
            patience: Duration::from_secs(10),
            last_wait: Duration::from_secs(2),
            max_gathers: 256,
            unknown_bytes: 8 * 1024 * 1024,
            unknown_per_second: 100,
            absent_for: Duration::from_secs(5),
            unanswered_for: Duration::from_secs(1),
            absent_hashes: 100_000,
        }
    }
}

/// Memory of all gathers together, of whatever coding. Cheap to clone; clones share it.
///
/// A gather takes its first share from one pool and, only when it must ask more members than usual, a second from
/// another, so that no two gathers wait for each other. What would not fit a pool takes all of it.
#[derive(Debug, Clone)]
pub struct GatherMemory {
    first: Pool,
    second: Pool,
}

#[derive(Debug, Clone)]
struct Pool {
    permits: Arc<Semaphore>,
    size: u32,
}

/// Permits count KiB.
fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl Pool {
    fn new(bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let size = kib(bytes).clamp(1, most);
        Self { permits: Arc::new(Semaphore::new(size as usize)), size }
    }

    async fn take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_many_owned(kib(bytes).min(self.size)).await.ok()
    }

    fn try_take(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).try_acquire_many_owned(kib(bytes).min(self.size)).ok()
    }
}

impl GatherMemory {
    /// Two thirds of the bytes for what every gather needs, the rest for those that need more.
    pub fn new(bytes: u64) -> Self {
        Self { first: Pool::new(bytes / 3 * 2), second: Pool::new(bytes / 3) }
    }

    /// Waits for its turn.
    pub(super) async fn hold(&self, bytes: u64) -> Option<Hold> {
        let permit = self.first.take(bytes).await?;
        Some(Hold { memory: self.clone(), permits: vec![permit], bytes })
    }

    /// Bytes that no gather holds.
    pub fn free(&self) -> u64 {
        1024 * (self.first.permits.available_permits() + self.second.permits.available_permits()) as u64
    }
}

/// The memory of one gather.
#[derive(Debug)]
pub(super) struct Hold {
    memory: GatherMemory,
    permits: Vec<OwnedSemaphorePermit>,
    bytes: u64,
}

impl Hold {
    /// Makes it hold at least so many bytes. The second share is waited for; what is needed beyond is there or not.
    pub(super) async fn grow_to(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return true;
        }
        let second = &self.memory.second;
        let permit = if self.permits.len() == 1 { second.take(more).await } else { second.try_take(more) };
        let grown = permit.is_some();
        self.permits.extend(permit);
        self.bytes += if grown { more } else { 0 };
        grown
    }
}

/// So many a second, and as many at once.
#[derive(Debug)]
pub(super) struct Rate {
    per_second: f64,
    state: Mutex<(f64, Instant)>,
}

impl Rate {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, state: Mutex::new((per_second, now)) }
    }

    /// May one more begin?
    pub(super) fn allows(&self, now: Instant) -> bool {
        let (tokens, since) = &mut *self.state.lock();
        let gained = now.saturating_duration_since(*since).as_secs_f64() * self.per_second;
        *tokens = (*tokens + gained).min(self.per_second);
        *since = now;
        let allowed = *tokens >= 1.0;
        *tokens -= f64::from(u8::from(allowed));
        allowed
    }
}
