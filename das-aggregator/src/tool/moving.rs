//! Moving in, moving out, and backups: what works on a node's data directory.
//!
//! A data directory is reached in one way, whether its node runs or not: by the socket in it. Where no node answers, one is
//! started for the time of the command that serves this socket and nothing else (`das-node maintain`). So `dastool` needs to
//! know nothing of how a node stores, and what it does to a living member and to one that is stopped is the same.

mod backup;
mod export;
mod home;
mod import;
mod progress;
mod remote;
mod restore;
mod walk;

pub(super) use backup::run as run_backup;
pub(super) use export::run as run_export;
pub(super) use import::run as run_import;
pub(super) use restore::run as run_restore;

/// The most files or batches that are named in an answer; more are counted.
const MAX_NAMED: usize = 10_000;

/// Something that was looked at and is left as it is.
#[derive(Debug, Clone, serde::Serialize)]
struct Left {
    /// A path, or the hash of a batch.
    what: String,
    reason: String,
}

/// A bounded list of what was left.
#[derive(Debug, Default, serde::Serialize)]
struct Leftovers {
    named: Vec<Left>,
    count: u64,
}

impl Leftovers {
    fn add(&mut self, what: impl Into<String>, reason: impl Into<String>) {
        self.count += 1;
        if self.named.len() < MAX_NAMED {
            self.named.push(Left { what: what.into(), reason: reason.into() });
        }
    }

    /// A paragraph, or nothing.
    fn text(&self, title: &str) -> String {
        if self.count == 0 {
            return String::new();
        }
        let mut text = format!("\n{title} ({}):\n", self.count);
        for Left { what, reason } in &self.named {
            text += &format!("  {what}: {reason}\n");
        }
        match self.count - self.named.len() as u64 {
            0 => {}
            more => text += &format!("  and {more} more\n"),
        }
        text
    }
}
