//! The writer: one thread through which every change of the store goes.
//!
//! Stores that arrive while a sync is under way wait together for the next one (group commit). A group is written
//! and synced to a segment first and entered into the index second, so the index never names bytes that a power cut
//! could take; and since the writer is alone, no lock is held by anybody while the disk works.
//!
//! ```text
//! append    stores, shards, later timeouts     log synced, then the index (which may be behind: the log tells)
//! rewrite   what is under a former key            the same, behind stores that came at the same time
//! upkeep    expiry, whole copies dropped       index synced, then the space goes back (`sweep`)
//! recover   the start                          the index catches up with the log
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, warn};

use super::index::{Index, SegmentRecord, Totals};
use super::sealing::Sealer;
use super::segment::OpenSegment;

mod append;
mod group;
mod recover;
mod rewrite;
mod room;
mod sweep;
mod upkeep;

use append::Asked;
pub(super) use append::{Extend, Put, PutShards, SealedShard};
pub(super) use rewrite::{Piece, Rewrite};
pub(super) use sweep::{Sweep, Sweeper};
pub(super) use upkeep::Upkeep;

/// One group takes at most about this many bytes ...
const GROUP_BYTES: usize = 16 << 20;
/// ... and this many commands.
const GROUP_COMMANDS: usize = 256;
/// The index is synced after so many bytes of records: it bounds what a start after a power cut has to scan.
const INDEX_SYNC_BYTES: u64 = 64 << 20;
/// After so long without anything to do, what was preallocated is given back, and the index's log made short.
const IDLE: Duration = Duration::from_secs(5);

/// What the writer is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Put(Put),
    Extend(Extend),
    PutShards(PutShards),
    Rewrite(Rewrite),
    Upkeep(Upkeep),
    /// Give back what was preallocated.
    Trim(oneshot::Sender<()>),
    /// Sync the index and end.
    Close,
}

pub(super) type Commands = Sender<Command>;

/// The writer's own state.
#[derive(Debug)]
pub(super) struct Writer {
    index: Arc<Index>,
    directory: PathBuf,
    sealer: Sealer,
    segment_bytes: u64,
    /// Stores are refused when less than this is free on the disk.
    reserve_bytes: u64,
    /// Free bytes that the last store would have needed if it was refused for want of them, else 0. Shared with those
    /// who report health.
    pub(super) lacking: Arc<AtomicU64>,
    /// Where space goes to be given back.
    sweeps: Option<Sender<Sweep>>,
    open: Option<OpenSegment>,
    /// The open segment was made for what may use the reserve.
    open_in_reserve: bool,
    segments: BTreeMap<u64, SegmentRecord>,
    totals: Totals,
    /// Ids are never used twice: the known end of the log must not point into another segment of the same name.
    next_id: u64,
    unsynced: u64,
}

impl Writer {
    /// Works until it is told to close or nobody can ask any more, then waits for the sweeper.
    pub(super) fn run(
        mut self,
        commands: &Receiver<Command>,
        sweeps: Sender<Sweep>,
        sweeper: JoinHandle<()>,
    ) {
        self.sweeps = Some(sweeps);
        let mut closing = false;
        while !closing {
            match commands.recv_timeout(IDLE) {
                Ok(first) => closing = self.work(first, commands),
                Err(RecvTimeoutError::Timeout) => self.trim(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Some(open) = self.open.take()
            && let Err(error) = open.seal()
        {
            warn!(%error, "the last segment could not be trimmed; the next start does it");
        }
        drop(self.sweeps.take());
        if sweeper.join().is_err() {
            error!("the store's sweeper had panicked");
        }
        if let Err(error) = self.index.sync() {
            error!(%error, "the index could not be synced at the end; the next start scans the log instead");
        }
    }

    /// Does this, and what else is waiting. Returns whether it was told to close.
    fn work(&mut self, first: Command, commands: &Receiver<Command>) -> bool {
        let mut asked = Asked::default();
        let (mut upkeep, mut rewrites) = (Vec::new(), Vec::new());
        let mut trims = Vec::new();
        let mut closing = false;
        let (mut bytes, mut count) = (0, 0);
        let mut next = Some(first);
        while let Some(command) = next.take() {
            count += 1;
            match command {
                Command::Put(put) => {
                    bytes += put.payload.len();
                    asked.puts.push(put);
                }
                Command::Extend(extend) => asked.extends.push(extend),
                Command::PutShards(put) => {
                    bytes += put.shards.iter().map(|sealed| sealed.bytes.len()).sum::<usize>();
                    asked.shards.push(put);
                }
                Command::Rewrite(one) => rewrites.push(one),
                Command::Upkeep(one) => upkeep.push(one),
                Command::Trim(reply) => trims.push(reply),
                Command::Close => {
                    closing = true;
                    break;
                }
            }
            if bytes >= GROUP_BYTES || count >= GROUP_COMMANDS {
                break;
            }
            next = commands.try_recv().ok();
        }
        if !asked.is_empty() {
            self.append_group(asked);
        }
        upkeep.into_iter().for_each(|one| self.upkeep(one));
        rewrites.into_iter().for_each(|one| self.rewrite(one));
        for reply in trims {
            self.trim();
            let _ = reply.send(());
        }
        closing
    }

    fn trim(&mut self) {
        if let Some(open) = &mut self.open
            && let Err(error) = open.trim()
        {
            warn!(%error, "what was preallocated could not be given back");
        }
        if let Err(error) = self.index.shorten_log() {
            warn!(%error, "the index's log could not be made shorter");
        }
    }
}
