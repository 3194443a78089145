//! Whether the archive can be reached, and the alarms that say so.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use das_common::alarm::Alarms;
use das_common::data_hash::DataHash;
use das_common::fault;
use das_common::telemetry::names;
use metrics::gauge;
use parking_lot::Mutex;

use super::ArchiveError;

/// Batches that are remembered by name as wrong, or as lost.
const MAX_REMEMBERED: usize = 1024;

/// What came of the last attempts.
#[derive(Debug)]
pub struct Reach {
    archive: String,
    options: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failing_since: Option<Instant>,
    last: Option<ArchiveError>,
    /// The bucket itself is not there: what it says of objects means nothing.
    bucket_missing: bool,
    wrong: BTreeSet<DataHash>,
    lost: BTreeSet<DataHash>,
}

impl Reach {
    pub(super) fn new(archive: String, options: &'static str) -> Self {
        Self { archive, options, state: Mutex::default() }
    }

    /// An attempt came to an end.
    pub(super) fn note<T>(&self, outcome: &Result<T, ArchiveError>) {
        let mut state = self.state.lock();
        match outcome {
            Ok(_) | Err(ArchiveError::WrongBytes { .. }) => (state.failing_since, state.last) = (None, None),
            Err(error) => {
                state.failing_since.get_or_insert_with(Instant::now);
                state.last = Some(error.clone());
            }
        }
    }

    /// The object of a batch has other bytes.
    pub(super) fn report_wrong(&self, hash: &DataHash) {
        remember(&mut self.state.lock().wrong, hash);
    }

    /// The object of a batch that is nowhere else is not there.
    pub(super) fn report_lost(&self, hash: &DataHash) {
        remember(&mut self.state.lock().lost, hash);
    }

    /// The object of a batch is right.
    pub(super) fn report_right(&self, hash: &DataHash) {
        let mut state = self.state.lock();
        state.wrong.remove(hash);
        state.lost.remove(hash);
    }

    /// Whether the bucket is there, as far as is known.
    pub(super) fn set_bucket_missing(&self, missing: bool) {
        self.state.lock().bucket_missing = missing;
    }

    pub(super) fn is_bucket_missing(&self) -> bool {
        self.state.lock().bucket_missing
    }

    /// Whether the last attempt failed.
    pub(super) fn is_failing(&self) -> bool {
        self.state.lock().failing_since.is_some()
    }

    /// Since when attempts have failed, and the last one's error; none while they succeed.
    pub fn failure(&self) -> Option<(Duration, ArchiveError)> {
        let state = self.state.lock();
        state.failing_since.map(|since| since.elapsed()).zip(state.last.clone())
    }

    /// Raises and ends the alarms.
    pub(super) fn update(&self, alarms: &Alarms, after: Duration) {
        let state = self.state.lock();
        gauge!(names::ARCHIVE_UP).set(if state.failing_since.is_some() { 0.0 } else { 1.0 });
        match (&state.last, state.failing_since) {
            (Some(error @ ArchiveError::Failed { refused: true, .. }), _) => {
                alarms.raise_fault(fault::ARCHIVE_REFUSED, format!("{error}; see --{}", self.options));
                alarms.clear(fault::ARCHIVE_UNREACHABLE.code);
            }
            (Some(error), Some(since)) if since.elapsed() >= after => {
                alarms.clear(fault::ARCHIVE_REFUSED.code);
                alarms.raise_fault(fault::ARCHIVE_UNREACHABLE, error.to_string());
            }
            (Some(_), _) => {}
            (None, _) => {
                alarms.clear(fault::ARCHIVE_REFUSED.code);
                alarms.clear(fault::ARCHIVE_UNREACHABLE.code);
            }
        }
        match state.wrong.first() {
            Some(hash) => {
                let text = format!("{} has other bytes under the name of {hash}", self.archive);
                alarms.raise_fault(fault::ARCHIVE_WRONG, text);
            }
            None => alarms.clear(fault::ARCHIVE_WRONG.code),
        }
        match state.lost.first() {
            Some(hash) => {
                let text = format!("{} does not have {hash}, which is nowhere else", self.archive);
                alarms.raise_fault(fault::ARCHIVE_LOST, text);
            }
            None => alarms.clear(fault::ARCHIVE_LOST.code),
        }
    }
}

fn remember(hashes: &mut BTreeSet<DataHash>, hash: &DataHash) {
    if hashes.len() < MAX_REMEMBERED {
        hashes.insert(*hash);
    }
}
