//! What a node says of its archive: does it take objects, what waits for it, and what is nowhere else.

use serde::Deserialize;

use super::Finding;

/// An upload that waits longer has not just been stored.
const LONG_SECONDS: u64 = 300;

/// The part of a node's `/status` about its archive.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Archive {
    r#where: String,
    only_there_batches: u64,
    only_there_bytes: u64,
    /// None for a node that has no disk.
    waiting_for_upload: Option<u64>,
    oldest_waiting_seconds: Option<u64>,
    last_error: Option<String>,
    failing_for_seconds: Option<u64>,
}

impl Archive {
    pub(super) fn findings(&self, name: &str) -> Vec<Finding> {
        [Some(self.answers(name)), self.uploads(name), self.only_there(name)].into_iter().flatten().collect()
    }

    fn answers(&self, name: &str) -> Finding {
        const CHECK: &str = "archive";
        match &self.last_error {
            None => Finding::good(name, CHECK, format!("{}: its last request was answered", self.r#where)),
            Some(error) => Finding::bad(
                name,
                CHECK,
                format!("fails for {} s: {error}", self.failing_for_seconds.unwrap_or(0)),
                "correct what the message names: its URL, bucket, credentials, rights or directory (docs/archive.md); \
                 the node tries again by itself",
            ),
        }
    }

    fn uploads(&self, name: &str) -> Option<Finding> {
        const CHECK: &str = "uploads";
        let waiting = self.waiting_for_upload?;
        let oldest = self.oldest_waiting_seconds.unwrap_or(0);
        if waiting == 0 {
            return Some(Finding::good(name, CHECK, "none waits"));
        }
        let text = format!("{waiting} wait, the oldest for {oldest} s");
        Some(match &self.last_error {
            Some(_) => Finding::bad(
                name,
                CHECK,
                text,
                "bring the archive back and they go on by themselves; until then this node's disk has the only copy \
                 that is its own: do not replace it, and see that it does not fill up",
            ),
            None if oldest > LONG_SECONDS => Finding::bad(
                name,
                CHECK,
                text,
                "the archive takes less than is stored: raise archive.uploads-in-flight, or look at the line to it",
            ),
            None => Finding::good(name, CHECK, text),
        })
    }

    fn only_there(&self, name: &str) -> Option<Finding> {
        const CHECK: &str = "only there";
        let (batches, bytes) = (self.only_there_batches, self.only_there_bytes);
        if batches == 0 {
            return None;
        }
        let text =
            format!("{batches} batches ({bytes} bytes) are in the archive and not on this node's disk");
        Some(match &self.last_error {
            Some(_) => Finding::bad(
                name,
                CHECK,
                format!("{text}: it cannot serve them now"),
                "bring the archive back; until then other members serve them (rest-aggregator.urls)",
            ),
            None => Finding::good(name, CHECK, format!("{text}; no rule of the bucket may delete them")),
        })
    }
}
