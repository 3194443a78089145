//! What gathers count.

use metrics::{Counter, Histogram, counter, histogram};

/// Time of a gather, by `result` (ok, not-found, unavailable, missing-shards, dishonest-root, busy, failed).
pub const GATHER_SECONDS: &str = "das_gather_duration_seconds";
/// Questions put to members, by `form` (shard, whole).
pub const GATHER_QUESTIONS: &str = "das_gather_questions_total";
/// Shards that came, by `result`: used to rebuild a batch, or bad (whole copies that were wrong are among the bad).
pub const GATHER_SHARDS: &str = "das_gather_shards_total";
/// Questions that were not answered in time, so that another member was asked.
pub const GATHER_HEDGES: &str = "das_gather_hedges_total";

pub(super) struct Counts {
    pub(super) asked_shard: Counter,
    pub(super) asked_whole: Counter,
    pub(super) shards_used: Counter,
    pub(super) shards_bad: Counter,
    pub(super) hedges: Counter,
}

impl Counts {
    pub(super) fn new() -> Self {
        let asked = |form: &'static str| counter!(GATHER_QUESTIONS, "form" => form);
        let shards = |result: &'static str| counter!(GATHER_SHARDS, "result" => result);
        Self {
            asked_shard: asked("shard"),
            asked_whole: asked("whole"),
            shards_used: shards("used"),
            shards_bad: shards("bad"),
            hedges: counter!(GATHER_HEDGES),
        }
    }
}

pub(super) fn seconds(result: &'static str) -> Histogram {
    histogram!(GATHER_SECONDS, "result" => result)
}
