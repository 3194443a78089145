//! What `dastool` and a `das-node` on the same machine say to each other over the socket in the data directory.
//!
//! The socket is for the node's own user and root: its mode says so, and the node asks the kernel who is there. It is the
//! one way to batches that needs no key and no signature, so it is never a network address.
//!
//! ```text
//! GET  /about                     AboutNode, JSON
//! POST /known                     data hashes, 32 bytes each        -> for each, a form and u64 keep-until (9 bytes)
//! GET  /list?after=HASH&limit=N   Entry after Entry (49 bytes each), by data hash
//! PUT  /batches/HASH?until=T      the batch                         -> PutAnswer, JSON
//! GET  /batches/HASH              the batch; 404 nobody has it, 409 it is here and cannot be had: why
//! POST /backup                    BackupRequest, JSON               -> BackupSummary, JSON, when it is done
//! GET  /backup                    Progress, JSON
//! ```
//! HTTP/1.1; numbers in binary answers are big-endian. An error is a status and `{"code", "error"}` ([`Refusal`]).

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::data_hash::DataHash;

mod client;

pub use client::{AdminClient, AdminError};

/// The socket's name in the data directory.
pub const SOCKET: &str = "admin.sock";
/// The longest batch that is taken or given.
pub const MAX_BATCH: usize = 64 << 20;
/// The most hashes of one question.
pub const MAX_HASHES: usize = 4096;
/// The longest JSON answer or request.
pub const MAX_JSON: usize = 1 << 20;

/// The path by which the socket in a folder is bound or called: however long the folder's own path is, this one fits into the
/// 108 bytes that the kernel takes. It is good as long as `folder` is open.
pub fn socket_path(folder: &std::fs::File) -> PathBuf {
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(SOCKET)
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AboutNode {
    /// Its release.
    pub version: String,
    /// Whether it serves clients; otherwise it was started for the sake of this socket.
    pub serves: bool,
    /// Batches here, in any form.
    pub batches: u64,
    /// Their bytes, as they would be whole.
    pub bytes: u64,
}

/// In which form a batch is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not at all.
    Absent,
    /// Whole.
    Whole,
    /// Not whole: as shards, or in the archive.
    Shards,
}

impl Form {
    fn byte(self) -> u8 {
        match self {
            Self::Absent => 0,
            Self::Whole => 1,
            Self::Shards => 2,
        }
    }

    fn of_byte(byte: u8) -> Option<Self> {
        [Self::Absent, Self::Whole, Self::Shards].into_iter().find(|form| form.byte() == byte)
    }
}

/// What is known of a batch that was asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Its form.
    pub form: Form,
    /// Until when it is kept (unix seconds).
    pub until: u64,
}

impl Known {
    /// Bytes of one on the wire.
    pub const BYTES: usize = 9;

    /// On the wire.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.push(self.form.byte());
        into.extend_from_slice(&self.until.to_be_bytes());
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (form, until) = bytes.split_first()?;
        Some(Self { form: Form::of_byte(*form)?, until: u64::from_be_bytes(until.try_into().ok()?) })
    }
}

/// A batch of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub hash: DataHash,
    /// Its form and end.
    pub known: Known,
    /// Its bytes, whole.
    pub length: u64,
}

impl Entry {
    /// Bytes of one on the wire.
    pub const BYTES: usize = 32 + Known::BYTES + 8;

    /// On the wire.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.hash.as_bytes());
        self.known.encode(into);
        into.extend_from_slice(&self.length.to_be_bytes());
    }

    fn decode(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (hash, rest) = bytes.split_first_chunk::<32>()?;
        let (known, length) = rest.split_first_chunk::<{ Known::BYTES }>()?;
        Some(Self {
            hash: DataHash::from_bytes(*hash),
            known: Known::decode(known)?,
            length: u64::from_be_bytes(length.try_into().ok()?),
        })
    }
}

/// What a batch that was put met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PutAnswer {
    /// It is new here.
    Written,
    /// It was here; it is kept as long as asked, at least.
    Present,
    /// It was here damaged, or as a shard, and is whole again.
    Mended,
}

/// What is asked of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRequest {
    /// The folder that it becomes; it must not exist.
    pub to: PathBuf,
    /// An earlier backup, on the same disk as `to`: what is in it is linked, not copied.
    pub base: Option<PathBuf>,
}

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupSummary {
    /// Batches in it, in any form.
    pub batches: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Those of them that are linked from the earlier backup.
    pub linked_bytes: u64,
}

/// How far something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Of so many.
    pub of: u64,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The code of the fault.
    pub code: String,
    /// In words.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_answers_come_back_as_sent_and_unknown_forms_do_not() {
        let known = Known { form: Form::Shards, until: u64::MAX - 1 };
        let entry = Entry { hash: DataHash::of(b"a batch"), known, length: 7 };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(bytes.len(), Entry::BYTES);
        assert_eq!(Entry::decode(bytes.first_chunk().unwrap()), Some(entry));
        bytes[32] = 3;
        assert_eq!(Entry::decode(bytes.first_chunk().unwrap()), None);
        let mut bytes = Vec::new();
        Known { form: Form::Absent, until: 0 }.encode(&mut bytes);
        assert_eq!(bytes, [0; Known::BYTES]);
    }
}
