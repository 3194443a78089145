//! What a signer signed, in a file that is only ever appended to.
//!
//! ```text
//! line    hash (64 hex digits) || ' ' || record (JSON) || '\n'
//! hash    keccak256( hash of the line before || record );  of the first line, keccak256( domain || record )
//! ```
//!
//! # Guarantees
//! - A signature leaves only after its record is on disk, synced.
//! - A record that is changed, moved, left out or put in is found by [`verify`]. Records cut off at the end are not, by
//!   the file alone: whoever compares the last hash with one that was noted elsewhere finds that too.
//! - A write that was cut short (`kill -9`, a power cut) is recognised at the next start. What it left stays where it is,
//!   a record tells its length and hash, and the chain goes on after it. No signature left for what was cut short.

mod file;
mod verify;

use std::path::PathBuf;
use std::sync::mpsc;

use das_common::bls::PublicKey;
use das_common::fault::{self, Coded, Fault};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::wire::Request;
pub use verify::{Summary, Torn, Verified, verify};

/// The longest line.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Most bytes that a write that was cut short leaves.
pub const MAX_TORN_BYTES: u64 = 4 << 20;
/// Put after what a write left that was cut short. With it, not even a whole record without its line end is one.
const SCRAP_END: &[u8] = b"~\n";
/// Records written and synced together.
const GROUP: usize = 64;
/// Records that wait to be written; further ones are refused.
const QUEUE: usize = 1024;

/// Why there is no log, or no record in it.
#[derive(Debug, Error, Clone)]
pub enum AuditError {
    /// The system's report.
    #[error("cannot {what} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The report.
        reason: String,
    },
    /// Two processes.
    #[error("another process writes to {}", path.display())]
    Held {
        /// The file.
        path: PathBuf,
    },
    /// Not what was written.
    #[error("{}, line {line}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// Another signer's.
    #[error("{} is the log of another key", path.display())]
    OtherKey {
        /// The file.
        path: PathBuf,
    },
    /// Too many at once.
    #[error("{QUEUE} records wait to be written")]
    Busy,
    /// An earlier record could not be written.
    #[error("the audit log cannot be written any more; see the log for why")]
    Ended,
}

impl Coded for AuditError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Damaged { .. } | Self::OtherKey { .. } => fault::AUDIT_DAMAGED,
            Self::Io { .. } | Self::Held { .. } | Self::Ended => fault::AUDIT_WRITE,
            Self::Busy => fault::SIGNER_BUSY,
        }
    }
}

/// A line's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    /// From 1, without gaps.
    pub number: u64,
    /// Unix seconds.
    pub time: u64,
    /// What happened.
    pub event: Event,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// The signer started. The first record of a file is of this kind.
    Started {
        /// Its version.
        version: String,
        /// Its public key (base64).
        public_key: String,
    },
    /// A write was cut short before this.
    Torn {
        /// Bytes between the record before and this line, without the `~` and line end that were put after them.
        bytes: u64,
        /// Their Keccak-256 in hex.
        hash: String,
    },
    /// Something was signed.
    Signed {
        /// For whom: a name of the client's certificate.
        client: String,
        /// What.
        request: Request,
        /// 0x and 192 hex digits.
        signature: String,
    },
}

/// The log of a running signer. When it is dropped, what waits is written.
#[derive(Debug)]
pub struct AuditLog {
    queue: mpsc::SyncSender<Waiting>,
    opened: Opened,
}

/// How a log was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Records that were there.
    pub records: u64,
    /// Bytes that a write left which was cut short.
    pub torn: Option<u64>,
    /// The hash of the last record now.
    pub head: String,
}

/// A record on its way.
struct Waiting {
    event: Event,
    done: oneshot::Sender<Result<(), AuditError>>,
}

impl AuditLog {
    /// Opens the log of this key, or begins it; checks the whole file, which takes a second for a million records.
    pub fn open(path: PathBuf, key: &PublicKey, version: &str) -> Result<Self, AuditError> {
        let (mut file, opened) = file::LogFile::open(path, key, version)?;
        let (queue, waiting) = mpsc::sync_channel::<Waiting>(QUEUE);
        let spawned = std::thread::Builder::new().name("audit-log".into()).spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut group = vec![first];
                group.extend(waiting.try_iter().take(GROUP - 1));
                let (events, done): (Vec<_>, Vec<_>) =
                    group.into_iter().map(|waiting| (waiting.event, waiting.done)).unzip();
                let written = file.append(events);
                if let Err(error) = &written {
                    tracing::error!(code = error.fault().code, %error, "{}", error.fault());
                }
                for done in done {
                    // Who gave up waiting gets no signature.
                    let _ = done.send(written.clone());
                }
                if written.is_err() {
                    // After a failed write nobody knows what is in the file: the next start looks.
                    return;
                }
            }
        });
        if let Err(error) = spawned {
            let (what, reason) = ("start the thread that writes", error.to_string());
            return Err(AuditError::Io { what, path: PathBuf::new(), reason });
        }
        Ok(Self { queue, opened })
    }

    /// How it was found.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Records a signature. When this returns, the record is on disk.
    pub async fn signed(
        &self,
        client: String,
        request: Request,
        signature: String,
    ) -> Result<(), AuditError> {
        let (done, written) = oneshot::channel();
        let event = Event::Signed { client, request, signature };
        match self.queue.try_send(Waiting { event, done }) {
            Ok(()) => written.await.map_err(|_| AuditError::Ended)?,
            Err(mpsc::TrySendError::Full(_)) => Err(AuditError::Busy),
            Err(mpsc::TrySendError::Disconnected(_)) => Err(AuditError::Ended),
        }
    }
}

#[cfg(test)]
mod tests;
