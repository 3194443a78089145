//! The load generator: what a server does under a given load, and what that costs it.
//!
//! Measured so that the figures can be trusted:
//! - Every batch is distinct and random (seeded, the seed is printed), so nothing is answered from what was stored before.
//! - Request bodies, signatures included, are built between rounds and not while the clock runs.
//! - Processor time, bytes written and memory are the server's own (`/proc/<pid>`), counted until it has been idle for a
//!   while after the last answer: flushes and compactions are in the figure.
//! - Answers are checked: a store must return the data hash asked for, a read the right bytes.

pub mod bodies;
mod driver;
mod operation;
pub mod report;
pub mod siege;
pub mod table;

use std::sync::Arc;
use std::time::Duration;

use das_common::store_auth::StoreKey;

use crate::http::HttpError;
use crate::process::ProcessError;

pub use driver::run;

/// What kind of requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `das_store`.
    Store,
    /// `das_startChunkedStore`, `das_sendChunk`s, `das_commitChunkedStore` as one operation.
    Chunked,
    /// `GET /get-by-hash/`, each batch of the set once, in random order.
    Read,
    /// `GET /get-by-hash/` of a small set again and again.
    ReadHot,
    /// Stores and reads of what was just stored, half and half.
    Mixed,
    /// `das_store`, well-formed but signed by a key that may not store.
    Refused,
}

impl Mode {
    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Chunked => "chunked",
            Self::Read => "read",
            Self::ReadHot => "read-hot",
            Self::Mixed => "mixed",
            Self::Refused => "refused",
        }
    }
}

impl std::str::FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let all = [Self::Store, Self::Chunked, Self::Read, Self::ReadHot, Self::Mixed, Self::Refused];
        all.into_iter().find(|mode| mode.name() == text).ok_or_else(|| UnknownMode { got: text.to_owned() })
    }
}

/// A mode that does not exist.
#[derive(Debug, thiserror::Error)]
#[error("{got} is none of store, chunked, read, read-hot, mixed, refused, table")]
pub struct UnknownMode {
    /// What was given.
    pub got: String,
}

/// When a run ends: at the first bound reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// So many operations.
    pub operations: Option<u64>,
    /// So many bytes of batches.
    pub bytes: Option<u64>,
    /// So much time under load, the building of bodies not counted.
    pub duration: Option<Duration>,
}

impl Bounds {
    /// How many operations of that size a run may take, if that is bounded at all.
    pub fn operations_of(&self, size: usize) -> Option<u64> {
        let by_bytes = self.bytes.map(|bytes| bytes.div_ceil(size.max(1) as u64));
        [self.operations, by_bytes].into_iter().flatten().min()
    }
}

/// One run of the generator.
#[derive(Debug)]
pub struct Load {
    /// What is sent.
    pub mode: Mode,
    /// Length of a batch in bytes.
    pub size: usize,
    /// Clients, each with a connection and a request at a time.
    pub clients: usize,
    /// When to stop.
    pub bounds: Bounds,
    /// JSON-RPC URLs; stores are spread over them.
    pub rpc: Vec<String>,
    /// REST URLs; reads are spread over them.
    pub rest: Vec<String>,
    /// The key that store requests are signed with (in mode `refused` a fresh one is used instead).
    pub key: Arc<StoreKey>,
    /// Bytes of a batch in one chunk of a chunked store.
    pub chunk_size: usize,
    /// For reads: how many batches are stored first. Zero: as many as are read once.
    pub set: u64,
    /// Processes whose use of the machine is counted, with a name each.
    pub processes: Vec<(String, u32)>,
    /// A directory on the servers' file system, whose type is reported.
    pub data_dir: Option<std::path::PathBuf>,
    /// How much memory the bodies of one round may take.
    pub round_bytes: usize,
    /// Seed of the batches' bytes.
    pub seed: u64,
}

/// How much memory the bodies of one round may take unless the caller says otherwise.
pub const ROUND_BYTES: usize = 512 * 1024 * 1024;

/// The chunk of a chunked store unless the caller says otherwise: the one Nitro's client uses.
pub const CHUNK_SIZE: usize = 2_621_148;

/// Why a run could not be made. Failures of single operations do not end a run; the report counts them.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The mode needs a kind of URL that was not given.
    #[error("mode {} needs a {what} URL", mode.name())]
    NoTarget {
        /// The mode.
        mode: Mode,
        /// `JSON-RPC` or `REST`.
        what: &'static str,
    },
    /// Neither a count nor a number of bytes nor a duration.
    #[error("a run needs a bound: --count, --bytes or --duration")]
    NoBound,
    /// Reads need to know how much to store beforehand.
    #[error("mode {} needs --count or --bytes, or --set with a --duration", mode.name())]
    NoSet {
        /// The mode.
        mode: Mode,
    },
    /// A batch that a read needs could not be stored.
    #[error("storing the set of batches to read: {error}")]
    Preparation {
        /// What was answered.
        error: String,
    },
    /// A URL is wrong.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A process could not be measured.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

#[cfg(test)]
mod tests;
