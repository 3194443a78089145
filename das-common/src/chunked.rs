//! Stores that arrive in chunks (spec section 6): a pure state machine, to which the caller tells the time.
//!
//! ```text
//! start ──► id ──► chunk, chunk, ... in any order ──► commit ──► the message
//!                    │ another chunk of one number       │ chunks missing
//!                    ▼                                   ▼
//!                  dropped                             dropped
//! ```
//!
//! What is promised, also against a signer that means harm:
//!
//! * A start reserves nothing but its place: memory grows with the chunks that arrive. What it announces must be
//!   consistent, at most [`Bounds::max_message`], and fit beside what the other pending messages announced, so a message
//!   that was let in can be finished.
//! * A start that was accepted once is refused for as long as its time would let it in; a start that was refused may come
//!   again.
//! * A message that nothing is heard of for [`Bounds::idle`] is dropped.
//! * A message that is committed counts until its bytes are gone, or until whoever took it says that it is done
//!   ([`Reserved`]): however slow the disk behind is, no more is held than the bounds allow.
//!
//! Who may do all this is checked before, by the caller.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::fault::{self, Coded, Fault};
use crate::wire::texts;

#[cfg(test)]
mod tests;

/// How far the time of a start may be from the server's, in seconds.
const MAX_AGE: u64 = 300;

/// A moment on the two clocks that matter: the one that signers know, and the one that never jumps.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Unix seconds.
    pub unix: u64,
    /// For durations.
    pub monotonic: Instant,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self { unix: unix.map_or(0, |since| since.as_secs()), monotonic: Instant::now() }
    }
}

/// What pending messages may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Messages pending at once.
    pub max_pending: usize,
    /// Bytes of one message.
    pub max_message: u64,
    /// Bytes of all pending messages, as announced, and of those that are committed and not done with.
    pub max_pending_bytes: u64,
    /// Chunks of one message; each costs some bytes beside its own.
    pub max_chunks: u64,
    /// Time without a chunk after which a message is dropped.
    pub idle: Duration,
    /// Starts that are remembered; while there are as many, no other is accepted.
    pub max_remembered: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            max_pending: 10,
            max_message: 32 << 20,
            max_pending_bytes: 128 << 20,
            max_chunks: 1 << 14,
            idle: Duration::from_secs(60),
            max_remembered: 1 << 18,
        }
    }
}

/// What a start announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// When it was signed, in unix seconds.
    pub timestamp: u64,
    /// How many chunks will come.
    pub n_chunks: u64,
    /// Bytes of every chunk but the last.
    pub chunk_size: u64,
    /// Bytes of the message.
    pub total_size: u64,
    /// Of the store that ends this.
    pub timeout: u64,
}

/// Why a call is refused. The texts are those that Nitro gives, where it has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkedError {
    /// The start was signed too long ago, or will be.
    #[error("{}", texts::TOO_MUCH_TIME)]
    TooMuchTime,
    /// The start was accepted before.
    #[error("{}", texts::REPLAYED)]
    Replayed,
    /// Nothing is announced. (Numbers whose product is a multiple of 2^64 get the same text, as they do in Nitro.)
    #[error(
        "can't start collecting new message: neither number of chunks, total size or chunk size can be zero"
    )]
    Zero,
    /// So many chunks of this size do not make the total.
    #[error(
        "can't start collecting new message: {n_chunks} chunks of {chunk_size} bytes do not make {total_size} bytes"
    )]
    Inconsistent {
        /// As announced.
        n_chunks: u64,
        /// As announced.
        chunk_size: u64,
        /// As announced.
        total_size: u64,
    },
    /// The message is too large, or in too many chunks.
    #[error(
        "can't start collecting new message: {}: {total_size} bytes in {n_chunks} chunks, at most {max_message} in {max_chunks}",
        texts::TOO_LARGE
    )]
    TooLarge {
        /// As announced.
        total_size: u64,
        /// As announced.
        n_chunks: u64,
        /// The largest that is taken.
        max_message: u64,
        /// The most that are taken.
        max_chunks: u64,
    },
    /// Too many messages are pending.
    #[error("can't start collecting new message: already {pending} pending")]
    TooManyPending {
        /// How many are.
        pending: usize,
    },
    /// The pending messages will take too much memory.
    #[error("can't start collecting new message: already {pending_bytes} bytes pending")]
    TooManyBytesPending {
        /// How many are.
        pending_bytes: u64,
    },
    /// More starts in five minutes than are remembered.
    #[error("can't start collecting new message: already {remembered} started recently")]
    TooManyRecent {
        /// How many were.
        remembered: usize,
    },
    /// There is no such message (any more).
    #[error("unknown message({id})")]
    Unknown {
        /// The id given.
        id: u64,
    },
    /// The message has no such chunk.
    #[error("message({id}): chunk({chunk}) out of range - expected {expected} chunks")]
    OutOfRange {
        /// The message's id.
        id: u64,
        /// The chunk's number.
        chunk: u64,
        /// How many there are.
        expected: u64,
    },
    /// The chunk was received before, with other bytes. The message is dropped.
    #[error("{}", texts::DIFFERENT_CHUNK)]
    Different,
    /// The chunk is too long or too short.
    #[error("message({id}): chunk({chunk}) has incorrect size ({got} bytes) - expecting {expected} bytes")]
    WrongSize {
        /// The message's id.
        id: u64,
        /// The chunk's number.
        chunk: u64,
        /// Its length.
        got: u64,
        /// The length it must have.
        expected: u64,
    },
    /// Chunks are missing. The message is dropped.
    #[error("incomplete message({id}): got {got}/{expected} chunks")]
    Incomplete {
        /// The message's id.
        id: u64,
        /// How many there are.
        got: u64,
        /// How many there should be.
        expected: u64,
    },
}

impl Coded for ChunkedError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::TooMuchTime => fault::CHUNK_STALE,
            Self::Replayed => fault::CHUNK_REPLAY,
            Self::Zero | Self::Inconsistent { .. } => fault::CHUNK_SIZES,
            Self::TooLarge { .. } => fault::STORE_TOO_LARGE,
            Self::TooManyPending { .. } | Self::TooManyBytesPending { .. } | Self::TooManyRecent { .. } => {
                fault::CHUNK_PENDING
            }
            Self::Unknown { .. } => fault::CHUNK_UNKNOWN,
            Self::OutOfRange { .. } | Self::WrongSize { .. } => fault::CHUNK_MISFIT,
            Self::Different => fault::CHUNK_CONFLICT,
            Self::Incomplete { .. } => fault::CHUNK_INCOMPLETE,
        }
    }
}

impl Start {
    /// Says whether the announced sizes make sense and are within `bounds`.
    fn check(&self, bounds: &Bounds) -> Result<(), ChunkedError> {
        let &Self { n_chunks, chunk_size, total_size, .. } = self;
        if n_chunks.wrapping_mul(chunk_size).wrapping_mul(total_size) == 0 {
            return Err(ChunkedError::Zero);
        }
        if total_size.div_ceil(chunk_size) != n_chunks {
            return Err(ChunkedError::Inconsistent { n_chunks, chunk_size, total_size });
        }
        let &Bounds { max_message, max_chunks, .. } = bounds;
        if total_size > max_message || n_chunks > max_chunks {
            return Err(ChunkedError::TooLarge { total_size, n_chunks, max_message, max_chunks });
        }
        Ok(())
    }

    fn size_of(&self, chunk: u64) -> u64 {
        if chunk + 1 == self.n_chunks { (self.total_size - 1) % self.chunk_size + 1 } else { self.chunk_size }
    }
}

/// A message's share of [`Bounds::max_pending_bytes`], given back when this is dropped.
#[derive(Debug)]
pub struct Reserved {
    bytes: u64,
    of: Arc<AtomicU64>,
}

impl Reserved {
    fn take(bytes: u64, of: &Arc<AtomicU64>) -> Self {
        of.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, of: Arc::clone(of) }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A message all of whose chunks have arrived.
#[derive(Debug)]
pub struct Complete {
    /// The chunks in order; their concatenation is the message.
    chunks: Vec<Bytes>,
    /// As announced at the start.
    pub timeout: u64,
    reserved: Reserved,
}

impl Complete {
    /// The message in one piece, which counts as pending until the last clone of it is dropped, wherever it waits. A
    /// message of one chunk is not copied.
    pub fn into_message(self) -> Bytes {
        let (message, reserved) = self.into_parts();
        Bytes::from_owner(Counted { message, _reserved: reserved })
    }

    /// The message in one piece, and its share of the bound, which is to be held until the message is stored: for a
    /// caller that accounts otherwise for what it keeps longer.
    pub fn into_parts(mut self) -> (Bytes, Reserved) {
        let message = match self.chunks.len() {
            1 => self.chunks.swap_remove(0),
            _ => {
                let mut message = BytesMut::with_capacity(self.chunks.iter().map(Bytes::len).sum());
                for chunk in self.chunks {
                    message.extend_from_slice(&chunk);
                    // Each is let go before the next is copied.
                    drop(chunk);
                }
                message.freeze()
            }
        };
        (message, self.reserved)
    }
}

/// A message and its share, which go together.
struct Counted {
    message: Bytes,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

struct Pending {
    start: Start,
    chunks: BTreeMap<u64, Bytes>,
    heard: Instant,
    reserved: Reserved,
}

/// The messages that are under way, and the starts that were accepted lately.
pub struct PendingStores {
    bounds: Bounds,
    pending: HashMap<u64, Pending>,
    /// Announced by what is pending, and held by what was committed.
    pending_bytes: Arc<AtomicU64>,
    remembered: HashSet<[u8; 32]>,
    /// What is remembered, by the last second at which the start would be let in again.
    forget_after: BTreeMap<u64, Vec<[u8; 32]>>,
    ids: Box<dyn FnMut() -> u64 + Send>,
}

impl PendingStores {
    /// None yet. Messages get random ids.
    pub fn new(bounds: Bounds) -> Self {
        Self::with_ids(bounds, rand::random)
    }

    /// None yet. Messages get the ids that `ids` gives; one that is in use is passed over.
    pub fn with_ids(bounds: Bounds, ids: impl FnMut() -> u64 + Send + 'static) -> Self {
        Self {
            bounds,
            pending: HashMap::new(),
            pending_bytes: Arc::default(),
            remembered: HashSet::new(),
            forget_after: BTreeMap::new(),
            ids: Box::new(ids),
        }
    }

    /// Begins a message and gives its id.
    ///
    /// `marks` are what the request is known by when it comes again: the digest that was signed, and where signatures are
    /// not checked a hash of the whole signature. A request one of whose marks is that of a start accepted before is a
    /// replay. (Signature bytes alone would not do: a signature can be rewritten to another that verifies too.)
    pub fn start(&mut self, now: Moment, start: Start, marks: &[[u8; 32]]) -> Result<u64, ChunkedError> {
        if now.unix.abs_diff(start.timestamp) > MAX_AGE {
            return Err(ChunkedError::TooMuchTime);
        }
        self.forget(now.unix);
        if marks.iter().any(|mark| self.remembered.contains(mark)) {
            return Err(ChunkedError::Replayed);
        }
        start.check(&self.bounds)?;
        self.drop_idle(now);
        if self.pending.len() >= self.bounds.max_pending {
            return Err(ChunkedError::TooManyPending { pending: self.pending.len() });
        }
        let pending_bytes = self.pending_bytes();
        if pending_bytes + start.total_size > self.bounds.max_pending_bytes {
            return Err(ChunkedError::TooManyBytesPending { pending_bytes });
        }
        if self.remembered.len() >= self.bounds.max_remembered {
            return Err(ChunkedError::TooManyRecent { remembered: self.remembered.len() });
        }

        for mark in marks {
            if self.remembered.insert(*mark) {
                self.forget_after.entry(start.timestamp.saturating_add(MAX_AGE)).or_default().push(*mark);
            }
        }
        let mut id = (self.ids)();
        while self.pending.contains_key(&id) {
            id = (self.ids)();
        }
        let reserved = Reserved::take(start.total_size, &self.pending_bytes);
        self.pending.insert(id, Pending { start, chunks: BTreeMap::new(), heard: now.monotonic, reserved });
        Ok(id)
    }

    /// Takes chunk number `chunk` of message `id`. One that is there already may come again.
    pub fn chunk(&mut self, now: Moment, id: u64, chunk: u64, data: Bytes) -> Result<(), ChunkedError> {
        self.drop_idle(now);
        let pending = self.pending.get_mut(&id).ok_or(ChunkedError::Unknown { id })?;
        let expected = pending.start.n_chunks;
        if chunk >= expected {
            return Err(ChunkedError::OutOfRange { id, chunk, expected });
        }
        if let Some(earlier) = pending.chunks.get(&chunk) {
            if *earlier != data {
                self.pending.remove(&id);
                return Err(ChunkedError::Different);
            }
            pending.heard = now.monotonic;
            return Ok(());
        }
        let (got, expected) = (data.len() as u64, pending.start.size_of(chunk));
        if got != expected {
            return Err(ChunkedError::WrongSize { id, chunk, got, expected });
        }
        pending.chunks.insert(chunk, data);
        pending.heard = now.monotonic;
        Ok(())
    }

    /// Ends message `id`: it is gone afterwards, complete or not. A complete one counts as long as it is held.
    pub fn commit(&mut self, now: Moment, id: u64) -> Result<Complete, ChunkedError> {
        self.drop_idle(now);
        let pending = self.pending.remove(&id).ok_or(ChunkedError::Unknown { id })?;
        let (got, expected) = (pending.chunks.len() as u64, pending.start.n_chunks);
        if got != expected {
            return Err(ChunkedError::Incomplete { id, got, expected });
        }
        let Pending { start, chunks, reserved, .. } = pending;
        Ok(Complete { chunks: chunks.into_values().collect(), timeout: start.timeout, reserved })
    }

    /// Drops the messages that nothing was heard of for too long. Every call does so itself; a server calls this now and
    /// then so that their memory comes back even when nobody calls.
    pub fn drop_idle(&mut self, now: Moment) {
        let idle = self.bounds.idle;
        self.pending.retain(|_, pending| now.monotonic.saturating_duration_since(pending.heard) < idle);
    }

    /// How many messages are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of all messages that are pending, or committed and still held.
    pub fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    fn forget(&mut self, now: u64) {
        while let Some(entry) = self.forget_after.first_entry() {
            if *entry.key() >= now {
                break;
            }
            for mark in entry.remove() {
                self.remembered.remove(&mark);
            }
        }
    }
}
