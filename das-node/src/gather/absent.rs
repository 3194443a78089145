//! Hashes of which nobody had anything a moment ago.

use std::time::{Duration, Instant};

use das_common::data_hash::DataHash;
use moka::Expiry;
use moka::sync::Cache;

use super::{GatherError, GatherLimits};

/// What was answered for hashes nobody had; each answer is given again for some seconds.
pub(super) struct Absent {
    answers: Cache<DataHash, GatherError>,
}

struct Lifetimes {
    absent: Duration,
    unanswered: Duration,
}

impl Expiry<DataHash, GatherError> for Lifetimes {
    fn expire_after_create(&self, _: &DataHash, error: &GatherError, _: Instant) -> Option<Duration> {
        Some(match error {
            GatherError::NotFound { .. } => self.absent,
            _ => self.unanswered,
        })
    }
}

impl Absent {
    pub(super) fn new(limits: &GatherLimits) -> Self {
        let lifetimes = Lifetimes { absent: limits.absent_for, unanswered: limits.unanswered_for };
        let answers = Cache::builder().max_capacity(limits.absent_hashes).expire_after(lifetimes).build();
        Self { answers }
    }

    pub(super) fn get(&self, hash: &DataHash) -> Option<GatherError> {
        self.answers.get(hash)
    }

    /// Remembers the answer if it says that nobody showed a trace of the batch.
    pub(super) fn remember(&self, hash: DataHash, error: &GatherError) {
        match error {
            GatherError::NotFound { .. } | GatherError::Unavailable { got: 0, .. } => {
                self.answers.insert(hash, error.clone());
            }
            GatherError::Unavailable { .. }
            | GatherError::MissingShards { .. }
            | GatherError::DishonestRoot { .. }
            | GatherError::Busy { .. }
            | GatherError::Failed { .. } => {}
        }
    }

    pub(super) fn forget(&self, hash: &DataHash) {
        self.answers.invalidate(hash);
    }
}
