//! The state machine of custody: what a member does with each batch, and when.
//!
//! **Guarantee.** Whatever messages come, from whomever, in whatever order, and wherever it is cut off: the machine asks
//! for a whole copy to be dropped only when it counts K distinct members of one coding, itself among them, whose
//! statements name the root it computed itself and reach to its own latest promise; and it never states what is not on
//! its disk.
//!
//! It is synchronous and deterministic: time comes in with every call, randomness with the start, durable records go
//! through a [`Ledger`]. Heavy work and messages are [`Effect`]s, pulled one by one with [`Machine::poll`]; how they
//! ended comes back as an [`Event`]. Its memory does not grow with the number of batches.
//!
//! # A batch's life
//!
//! ```text
//!            store                 encode, sync, state         K counted
//!  (nothing) ------> Encode -----------------------> Wait ----------------> Dropping ----> Dropped
//!                       ^                             ^ ^                                   |  |
//!                       |  another coding is in force | |  a later promise (store)          |  |
//!                       '-----------------------------' '-----------------------------------'  |
//!                                                     ^        fewer than K count: gather      |
//!  Unheld -----------> Missing -----------------------'----------------------------------------'
//!   stated by n-H+1, or certified       gather
//! ```
//!
//! # Who counts
//!
//! A statement is remembered as (witness, until, root), a *witness* being a small number for a member and its storage
//! id. It counts while the storage id is the member's latest, and the member is not silent. What changes that touches
//! no batch's record: batches are found by the class of witnesses that they rely on.

mod audit;
mod clock;
mod event;
mod ledger;
mod lists;
mod members;
mod own;
mod record;
mod settle;
mod state;
mod tally;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::coding::{Coding, MemberKey};
use super::statement::{SignLists, StorageId};
use crate::data_hash::DataHash;

pub use audit::AuditTarget;
pub use event::{Alarm, Effect, Event, Why};
pub use ledger::{Change, Held, Ledger, arrival_key};
pub use members::MemberView;
pub use record::Form;
pub use state::{BatchView, Summary};
pub use tally::{Amount, Health};

use members::{Peer, Witness};
use state::State;
use work::{Backoff, Kind, Task};

/// How the machine behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// This member.
    pub me: MemberKey,
    /// The codings in force, oldest first; new batches are coded by the last. Those of earlier starts are remembered.
    pub codings: Vec<Coding>,
    /// How long a batch stays whole after it was stored.
    pub hot_retention: Duration,
    /// How long K statements of n must have waited for the others.
    pub demotion_patience: Duration,
    /// A member that was not heard of for so long counts no more.
    pub silence_limit: Duration,
    /// Whether nothing is ever deleted.
    pub keep_for_ever: bool,
    /// What is repaired is kept for no longer than this from now.
    pub max_retention: Duration,
    /// How often each member is asked who it is.
    pub hello_interval: Duration,
    /// How long shards are collected to be written together.
    pub sync_delay: Duration,
    /// How long statements are collected for one list.
    pub list_delay: Duration,
    /// How long a failed piece of work waits for its next try, at first.
    pub retry_delay: Duration,
    /// Bounds.
    pub limits: Limits,
}

/// How much goes on at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Encodings.
    pub encodes: usize,
    /// Shards that one sync makes durable, at most.
    pub unsynced: usize,
    /// ... and about so many bytes of them: they are in memory until then.
    pub unsynced_bytes: u64,
    /// Drops.
    pub drops: usize,
    /// Gathers.
    pub gathers: usize,
    /// Deletions.
    pub expiries: usize,
    /// Batches that are not here, remembered for the sake of one member.
    pub unheld: u64,
    /// Storage ids of one member, ever.
    pub storage_ids: u16,
}

impl Config {
    /// The defaults of the architecture.
    pub fn new(me: MemberKey, codings: Vec<Coding>) -> Self {
        Self {
            me,
            codings,
            hot_retention: Duration::from_secs(3600),
            demotion_patience: Duration::from_secs(24 * 3600),
            silence_limit: Duration::from_secs(24 * 3600),
            keep_for_ever: false,
            max_retention: Duration::from_secs(15 * 24 * 3600),
            hello_interval: Duration::from_secs(30),
            sync_delay: Duration::from_secs(1),
            list_delay: Duration::from_secs(1),
            retry_delay: Duration::from_secs(5),
            limits: Limits {
                encodes: 4,
                unsynced: 256,
                unsynced_bytes: 8 << 20,
                drops: 256,
                gathers: 4,
                expiries: 64,
                unheld: 1 << 20,
                storage_ids: 512,
            },
        }
    }
}

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The wall clock, unix seconds.
    pub wall: u64,
    /// A clock that only goes forward, from anywhere.
    pub steady: Duration,
    /// Whether the wall clock went on as time does since it was last written down.
    pub trusted: bool,
}

/// The ledger failed. The machine is to be started anew: what it remembers and what is on disk may differ.
#[derive(Debug, Error)]
pub enum MachineError<E: std::error::Error + 'static> {
    /// The ledger's report.
    #[error(transparent)]
    Ledger(#[from] E),
    /// A record that does not decode.
    #[error("the custody record {key} is damaged or of a newer release")]
    Damaged {
        /// The key, in hex.
        key: String,
    },
    /// The codings given are too many, or have too many members.
    #[error("{got} codings or members; at most {limit} can be told apart")]
    TooManyCodings {
        /// How many.
        got: usize,
        /// The most.
        limit: usize,
    },
}

/// What the simulation may break, to see that breaking it is noticed.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Drops at one statement too few.
    DropsEarly,
    /// Counts statements that end before the own promise.
    IgnoresUntil,
    /// Counts statements of storage ids that were replaced.
    IgnoresStorageId,
    /// Goes on with its counter after a roll-back.
    IgnoresRollBack,
    /// Counts statements of another coding.
    MixesCodings,
    /// Counts one shard as often as it is stated.
    CountsTwice,
    /// States a shard that is not synced.
    StatesUnsynced,
}

/// Custody at one member.
pub struct Machine<L: Ledger> {
    ledger: L,
    config: Config,
    signer: Arc<dyn SignLists>,
    seed: [u8; 32],
    drawn: u64,
    /// By number.
    codings: BTreeMap<u8, Coding>,
    /// The number of the coding that new batches are coded by.
    newest: u8,
    members: Vec<Peer>,
    me: usize,
    witnesses: BTreeMap<u16, Witness>,
    state: State,
    state_changed: bool,
    tallies: tally::Tallies,
    suspects: BTreeSet<DataHash>,
    alarms: BTreeSet<Alarm>,
    /// What the call in progress will commit.
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    outbox: VecDeque<Effect>,
    busy: BTreeMap<DataHash, Task>,
    backoff: Backoff,
    unsynced: Vec<work::Unsynced>,
    syncing: Vec<work::Unsynced>,
    /// Kinds of work of which there is none, until something changes.
    idle: BTreeSet<Kind>,
    has_room: bool,
    last_list: Duration,
    last_saved: Duration,
    /// A deletion failed.
    no_expiry_before: Duration,
    mutant: Option<Mutant>,
}

type Result<T, L> = std::result::Result<T, MachineError<<L as Ledger>::Error>>;

impl<L: Ledger> Machine<L> {
    /// Takes up where the ledger left off; a new ledger gets a storage id. `seed` must be unpredictable and new at each
    /// start.
    pub fn start(
        ledger: L,
        config: Config,
        signer: Arc<dyn SignLists>,
        seed: [u8; 32],
        now: Now,
    ) -> Result<Self, L> {
        Self::start_mutant(ledger, config, signer, seed, now, None)
    }

    /// For tests: a machine with a fault.
    #[doc(hidden)]
    pub fn start_mutant(
        ledger: L,
        config: Config,
        signer: Arc<dyn SignLists>,
        seed: [u8; 32],
        now: Now,
        mutant: Option<Mutant>,
    ) -> Result<Self, L> {
        let mut machine = Self {
            ledger,
            config,
            signer,
            seed,
            drawn: 0,
            codings: BTreeMap::new(),
            newest: 0,
            members: Vec::new(),
            me: 0,
            witnesses: BTreeMap::new(),
            state: State::default(),
            state_changed: false,
            tallies: tally::Tallies::default(),
            suspects: BTreeSet::new(),
            alarms: BTreeSet::new(),
            changes: BTreeMap::new(),
            outbox: VecDeque::new(),
            busy: BTreeMap::new(),
            backoff: Backoff::default(),
            unsynced: Vec::new(),
            syncing: Vec::new(),
            idle: BTreeSet::new(),
            has_room: true,
            last_list: now.steady,
            last_saved: now.steady,
            no_expiry_before: now.steady,
            mutant,
        };
        machine.load(now)?;
        machine.cancel_drops(now)?;
        machine.flush(true)?;
        Ok(machine)
    }

    /// Tells the machine what happened.
    pub fn handle(&mut self, event: Event, now: Now) -> Result<(), L> {
        match event {
            Event::Tick => self.tick(now)?,
            Event::Arrived => {
                self.idle.remove(&Kind::Arrival);
            }
            Event::Connected { member } => self.say_hello_to(&member, now),
            Event::HelloAnswered { member, hello } => self.hello_answered(&member, &hello, now)?,
            Event::List { member, list } => self.take_list(&member, &list, now)?,
            Event::ListsAnswered { member, storage_id, from, lists, next } => {
                self.lists_answered(&member, storage_id, from..next, &lists, now)?;
            }
            Event::Encoded { hash, coding, root, length } => self.encoded(hash, coding, root, length, now)?,
            Event::ShardsSynced => self.shards_synced(now)?,
            Event::SyncFailed => self.sync_failed(now)?,
            Event::Dropped { hash, .. } | Event::Whole { hash } | Event::Kept { hash } => {
                self.done(&hash, now)?;
            }
            Event::Changed { hash } => {
                self.settle(&hash, now)?;
                // The scrub does not come by again for days: what it found must not be forgotten.
                self.flush(true)?;
            }
            Event::Expired { hash, done } => self.expired(&hash, done, now)?,
            Event::Failed { hash } => self.failed(&hash, now)?,
            Event::Certified { hash, until } => self.certified(&hash, until, now)?,
            Event::AuditFailed { member, hash, coding } => self.audited(&member, &hash, coding, false)?,
            Event::AuditPassed { member, hash, coding } => self.audited(&member, &hash, coding, true)?,
            Event::HasRoom(room) => {
                self.has_room = room;
                self.idle.clear();
            }
        }
        self.flush(false)
    }

    /// The next thing to do; `None` until something happens. Bounded numbers of each kind are handed out at once.
    pub fn poll(&mut self, now: Now) -> Result<Option<Effect>, L> {
        loop {
            if let Some(effect) = self.outbox.pop_front() {
                return Ok(Some(effect));
            }
            let more = self.work(now)?;
            self.flush(false)?;
            if !more && self.outbox.is_empty() {
                return Ok(None);
            }
        }
    }

    /// The own storage id.
    pub fn storage_id(&self) -> StorageId {
        self.state.storage_id
    }

    /// The disk.
    pub fn ledger(&self) -> &L {
        &self.ledger
    }

    /// The disk.
    pub fn ledger_mut(&mut self) -> &mut L {
        &mut self.ledger
    }

    /// Gives the disk back; the machine is gone, as after a crash.
    pub fn into_ledger(self) -> L {
        self.ledger
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn alarm(&mut self, alarm: Alarm, raised: bool) {
        let changed = if raised { self.alarms.insert(alarm) } else { self.alarms.remove(&alarm) };
        if changed {
            self.outbox.push_back(Effect::Alarm { alarm, raised });
        }
    }
}
