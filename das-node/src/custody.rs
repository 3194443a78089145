//! Custody: cold batches as shards over the committee.
//!
//! What is decided is decided by [`das_common::custody::machine`]; here is what it decides about: the disk, the peers and
//! the clock.
//!
//! ```text
//!  store path ─► arrival key in the index           peers ─► lists, questions
//!                      │                                │
//!                      ▼             events             ▼
//!               ┌─ machine, on a thread of its own ◄──────────────────────┐
//!               │      │ effects                                          │
//!               │      ├─► encoder (one thread, low priority) ────────────┤
//!               │      ├─► store: packs of shards, drops, expiry ─────────┤
//!               │      ├─► gather: whole again ───────────────────────────┤
//!               │      └─► peers: lists, hellos, questions ───────────────┘
//!               └─► answers to what members ask, from the own disk only
//! ```

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use das_common::alarm::Alarms;
use das_common::binding::{MemberId, PeerKey};
use das_common::bls::PublicKey;
use das_common::committee::{CodingId, Committee};
use das_common::custody::bundle::Bundle;
use das_common::custody::evidence::Evidence;
use das_common::custody::machine::{Config, Event, Machine, MachineError, Now};
use das_common::custody::{Coding, MemberKey};
use das_common::data_hash::DataHash;
use das_common::fault::{self, Fault};
use das_common::keyset::Keyset;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::unix_time;
use crate::expiry::ClockWatch;
use crate::peer::{MemberStatus, PeerEvent, PeerHandle, PeerIdentity};
use crate::storage::{BatchStore, StorageError};
use crate::store::StoresUnderWay;

mod answers;
mod audit;
mod certificates;
mod effects;
mod encoder;
mod evidence;
mod ledger;
mod mirror;
mod outlook;
mod reads;
mod reconcile;
pub mod records;
mod report;
mod scrub;
mod signer;
mod source;

use effects::Effects;
use encoder::Encoder;
use evidence::EvidenceFolder;
use reads::Part;
use signer::ListSigner;

pub use audit::AuditCounts;
pub use certificates::KeepError;
pub use ledger::StoreLedger;
pub use mirror::start_mirror;
pub use reads::CommitteeReads;
pub use report::{BatchCounts, ByteCounts, CustodyReport, PeerReport};
pub use scrub::ScrubReport;

/// The machine is woken so often when nothing happens.
const TICK: Duration = Duration::from_millis(250);
/// Shards are collected for so long, to be written together.
const LEAST_SYNC_DELAY: Duration = Duration::from_secs(1);
const MOST_SYNC_DELAY: Duration = Duration::from_secs(10);
/// The clock is looked at so often.
const CLOCK_ROUND: Duration = Duration::from_secs(10);
/// After an error of the disk the machine is started anew this much later.
const RESTART_DELAY: Duration = Duration::from_secs(5);
/// Gossip and questions that wait for the machine at once.
const QUEUE: usize = 256;

/// The machine over this node's disk.
pub type NodeMachine = Machine<StoreLedger>;

/// Why custody could not start.
#[derive(Debug, Error)]
pub enum CustodyError {
    /// What is on disk.
    #[error("the custody records cannot be read: {0}")]
    Machine(#[from] Box<MachineError<StorageError>>),
    /// The store.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// How custody goes about its work.
#[derive(Debug, Clone)]
pub struct CustodyOptions {
    /// How long a batch stays whole after it was stored.
    pub hot_retention: Duration,
    /// How long K statements of n wait for the others.
    pub demotion_patience: Duration,
    /// A member that was not heard of for so long counts no more.
    pub silence_limit: Duration,
    /// How far ahead a timeout may be.
    pub max_retention: Duration,
    /// Whether batches are deleted after their timeout.
    pub delete_expired: bool,
    /// The mean time between two questions to one member.
    pub audit_interval: Duration,
    /// Everything on the disk is read once in this time.
    pub scrub_interval: Duration,
    /// Bytes a second that repair may fetch.
    pub repair_rate: u64,
    /// Memory of all gathers together, bytes.
    pub gather_memory: u64,
    /// Bytes of the disk that stores leave free.
    pub reserve_bytes: u64,
    /// Where the node keeps its files.
    pub data_dir: PathBuf,
}

/// What custody stands on.
pub struct CustodyParts {
    /// The disk.
    pub store: Arc<BatchStore>,
    /// This member's BLS key.
    pub own_key: PublicKey,
    /// The peer key that lists are signed with.
    pub identity: PeerIdentity,
    /// The committees in force, the newest last.
    pub committees: Vec<Arc<Committee>>,
    /// The peer layer and its events.
    pub peers: (PeerHandle, mpsc::Receiver<PeerEvent>),
    /// Stores under way: demotion waits for them.
    pub stores: StoresUnderWay,
    /// Watches the clock.
    pub clock: ClockWatch,
    /// Raised and ended here.
    pub alarms: Alarms,
    /// Hears of each batch that is deleted.
    pub forget: Box<dyn Fn(&DataHash) + Send + Sync>,
    /// Ends it all.
    pub stop: CancellationToken,
}

/// A look at the machine, from its own thread.
type Question = Box<dyn FnOnce(&mut NodeMachine, Now) + Send>;

/// One thing for the machine's thread.
enum Input {
    Event(Box<Event>),
    Ask(Question),
}

/// Custody at a running member. Cheap to clone.
#[derive(Clone)]
pub struct Custody {
    shared: Arc<Shared>,
}

struct Shared {
    inputs: Sender<Input>,
    store: Arc<BatchStore>,
    peers: PeerHandle,
    identity: PeerIdentity,
    me: MemberKey,
    reads: CommitteeReads,
    members: Members,
    /// Bounds what waits for the machine on behalf of others.
    queue: Semaphore,
    alarms: Alarms,
    /// By code: the members that an alarm is about.
    alarmed: Mutex<HashMap<&'static str, BTreeSet<String>>>,
    audits: audit::Audits,
    scrub: Arc<scrub::Progress>,
    outlook: outlook::Outlook,
    evidence: EvidenceFolder,
    /// Of every committee known here.
    keysets: Vec<Keyset>,
    /// Bounds the checks of certificates that run, and those that wait.
    checks: Semaphore,
    checks_waiting: Semaphore,
    stores: StoresUnderWay,
    forget: Box<dyn Fn(&DataHash) + Send + Sync>,
    options: CustodyOptions,
    threads: Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
}

/// The two names that each member has, and what it is called.
#[derive(Default)]
struct Members {
    ids: HashMap<MemberKey, MemberId>,
    keys: HashMap<MemberId, MemberKey>,
    names: HashMap<MemberKey, String>,
}

impl Members {
    fn of(committees: &[Arc<Committee>]) -> Self {
        let mut all = Self::default();
        for member in committees.iter().flat_map(|committee| committee.members()) {
            let (key, id) = (MemberKey::of(&member.public_key), MemberId::of(&member.public_key));
            all.ids.insert(key, id);
            all.keys.insert(id, key);
            all.names.insert(key, member.name.clone());
        }
        all
    }
}

impl Custody {
    /// Starts the machine and its threads.
    pub fn start(parts: CustodyParts, options: CustodyOptions) -> Result<Self, CustodyError> {
        let CustodyParts { store, own_key, identity, committees, peers, stores, clock, alarms, forget, stop } =
            parts;
        records::note_arrivals(&store)?;
        let me = MemberKey::of(&own_key);
        let (peers, events) = peers;
        let (inputs, received) = channel();
        let members = Members::of(&committees);
        let codings: Vec<Coding> = committees.iter().map(|committee| Coding::of(committee)).collect();
        let scrub = Arc::new(scrub::Progress::default());
        let found = Arc::clone(&scrub);
        let reads = CommitteeReads::new(
            Arc::clone(&store),
            &peers,
            &committees,
            Some(&me),
            options.gather_memory,
            Box::new(move |hash| found.found(hash)),
        );
        let shared = Arc::new(Shared {
            inputs,
            store,
            peers,
            identity,
            me,
            reads,
            members,
            queue: Semaphore::new(QUEUE),
            alarms,
            alarmed: Mutex::default(),
            audits: audit::Audits::default(),
            scrub,
            outlook: outlook::Outlook::default(),
            evidence: EvidenceFolder::of(&options.data_dir),
            keysets: committees.iter().map(|committee| committee.keyset().clone()).collect(),
            checks: Semaphore::new(certificates::CHECKS),
            checks_waiting: certificates::waiting_places(),
            stores,
            forget,
            options,
            threads: Mutex::default(),
            stop,
        });
        let config = shared.config(codings);
        let machine = start_machine(&shared, config.clone(), false)?;
        info!(storage_id = ?machine.storage_id(), "custody");
        let encoder = Encoder::start(Arc::clone(&shared)).map_err(CustodyError::Thread)?;
        let effects = Effects::new(Arc::clone(&shared), encoder, Handle::current());
        let running =
            Running { shared: Arc::clone(&shared), config, machine, effects, clock: Clock::new(clock) };
        let thread = std::thread::Builder::new()
            .name("custody".into())
            .spawn(move || running.run(&received))
            .map_err(CustodyError::Thread)?;
        shared.threads.lock().push(thread);
        tokio::spawn(answers::listen(Arc::clone(&shared), events));
        let upkeep = shared.stop.clone();
        tokio::spawn(upkeep.clone().run_until_cancelled_owned(audit::run(Arc::clone(&shared))));
        tokio::spawn(upkeep.clone().run_until_cancelled_owned(scrub::run(Arc::clone(&shared))));
        tokio::spawn(upkeep.clone().run_until_cancelled_owned(outlook::run(Arc::clone(&shared))));
        tokio::spawn(upkeep.clone().run_until_cancelled_owned(report::publish(Arc::clone(&shared))));
        tokio::spawn(upkeep.clone().run_until_cancelled_owned(certificates::run(Arc::clone(&shared))));
        tokio::spawn(upkeep.run_until_cancelled_owned(reconcile::run(Arc::clone(&shared))));
        Ok(Self { shared })
    }

    /// A batch of so many bytes was stored.
    pub fn arrived(&self, bytes: u64) {
        self.shared.outlook.stored(bytes);
        self.shared.tell(Event::Arrived);
    }

    /// What reads over the committee.
    pub fn reads(&self) -> CommitteeReads {
        self.shared.reads.clone()
    }

    /// What there is to be seen.
    pub async fn report(&self) -> Option<CustodyReport> {
        report::report(&self.shared).await
    }

    /// Waits for the threads to end; `stop` must have been cancelled.
    pub fn join(&self) {
        for thread in std::mem::take(&mut *self.shared.threads.lock()) {
            if thread.join().is_err() {
                error!("a thread of custody had panicked");
            }
        }
    }
}

impl Shared {
    fn config(&self, codings: Vec<Coding>) -> Config {
        let options = &self.options;
        let mut config = Config::new(self.me, codings);
        config.hot_retention = options.hot_retention;
        // Who does not mind an hour does not mind ten seconds more.
        config.sync_delay = (options.hot_retention / 60).clamp(LEAST_SYNC_DELAY, MOST_SYNC_DELAY);
        config.demotion_patience = options.demotion_patience;
        config.silence_limit = options.silence_limit;
        config.keep_for_ever = !options.delete_expired;
        config.max_retention = options.max_retention;
        config
    }

    fn tell(&self, event: Event) {
        // Nobody hears it only when the node is going down.
        let _ = self.inputs.send(Input::Event(Box::new(event)));
    }

    /// Asks the machine; `None` when the node is going down or too much waits.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut NodeMachine, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let _slot = self.queue.try_acquire().ok()?;
        let (sender, answer) = oneshot::channel();
        let ask = Input::Ask(Box::new(move |machine, now| {
            let _ = sender.send(question(machine, now));
        }));
        self.inputs.send(ask).ok()?;
        answer.await.ok()
    }

    fn part(&self, coding: &CodingId) -> Option<&Part> {
        self.reads.part(coding)
    }

    /// The peer key that a member has shown last.
    fn peer_key(&self, member: &MemberKey) -> Option<PeerKey> {
        if *member == self.me {
            return Some(self.identity.peer_key());
        }
        self.peer(member)?.peer_id?.parse().ok()
    }

    fn peer(&self, member: &MemberKey) -> Option<MemberStatus> {
        let id = self.members.ids.get(member)?;
        self.peers.members().into_iter().find(|status| status.member == *id)
    }

    /// Keeps what a member is convicted by.
    async fn keep_evidence(self: &Arc<Self>, member: MemberKey, evidence: Evidence) {
        let shared = Arc::clone(self);
        let saved = tokio::task::spawn_blocking(move || {
            let name = shared.members.names.get(&member).cloned().unwrap_or_default();
            let bundle = Bundle::new(evidence, shared.peer(&member).and_then(|peer| peer.binding).as_ref());
            match shared.evidence.save(unix_time(), &name, &bundle) {
                Ok(Some(file)) => {
                    warn!(member = name, file = %file.display(), "a member did not keep its word; the evidence is kept");
                }
                Ok(None) => warn!(member = name, "a member did not keep its word; there is evidence enough"),
                Err(error) => {
                    warn!(member = name, %error, "a member did not keep its word; evidence could not be saved");
                }
            }
        });
        // Only a panic in it, which is logged.
        let _ = saved.await;
    }

    /// Raises or ends an alarm; one that is about members lasts as long as it is about any of them.
    fn alarm(&self, fault: &'static Fault, member: Option<String>, raised: bool) {
        let text = {
            let mut members = self.alarmed.lock();
            let members = members.entry(fault.code).or_default();
            if let Some(member) = member {
                if raised {
                    members.insert(member)
                } else {
                    members.remove(&member)
                };
            }
            members.iter().cloned().collect::<Vec<_>>().join(", ")
        };
        match (raised, text.is_empty()) {
            (true, true) => self.alarms.raise_fault(fault, fault.text),
            (_, false) => self.alarms.raise_fault(fault, text),
            (false, true) => self.alarms.clear(fault.code),
        }
    }
}

fn start_machine(
    shared: &Arc<Shared>,
    config: Config,
    trusted: bool,
) -> Result<NodeMachine, Box<MachineError<StorageError>>> {
    let ledger = StoreLedger::new(Arc::clone(&shared.store));
    let signer = Arc::new(ListSigner::new(shared.identity.clone()));
    let now = now(trusted);
    Machine::start(ledger, config, signer, rand::random(), now).map_err(Box::new)
}

fn now(trusted: bool) -> Now {
    Now { wall: unix_time(), steady: steady(), trusted }
}

/// Time since some moment before the first question.
fn steady() -> Duration {
    use std::sync::OnceLock;
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

/// The clock as the machine sees it.
struct Clock {
    watch: ClockWatch,
    looked: Option<Instant>,
    trusted: bool,
}

impl Clock {
    fn new(watch: ClockWatch) -> Self {
        Self { watch, looked: None, trusted: false }
    }

    fn now(&mut self) -> Now {
        if self.looked.is_none_or(|at| at.elapsed() >= CLOCK_ROUND) {
            self.looked = Some(Instant::now());
            self.trusted = self.watch.trusted_time().is_ok_and(|time| time.is_some());
        }
        now(self.trusted)
    }
}

/// The machine's thread.
struct Running {
    shared: Arc<Shared>,
    config: Config,
    machine: NodeMachine,
    effects: Effects,
    clock: Clock,
}

impl Running {
    fn run(mut self, inputs: &Receiver<Input>) {
        let mut ticked = Instant::now();
        while !self.shared.stop.is_cancelled() {
            let input = match inputs.recv_timeout(TICK) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Everything that has come so far goes in before anything is handed out.
            let rest = std::iter::from_fn(|| inputs.try_recv().ok()).take(QUEUE);
            let all: Vec<Input> = input.into_iter().chain(rest).collect();
            let mut outcome = all.into_iter().try_for_each(|input| self.take(input));
            if outcome.is_ok() && ticked.elapsed() >= TICK {
                ticked = Instant::now();
                outcome = self.tick();
            }
            if let Err(error) = outcome.and_then(|()| self.hand_out()) {
                self.start_anew(&error);
            }
        }
    }

    fn take(&mut self, input: Input) -> Result<(), MachineError<StorageError>> {
        let now = self.clock.now();
        match input {
            Input::Event(event) => self.machine.handle(*event, now),
            Input::Ask(ask) => {
                ask(&mut self.machine, now);
                Ok(())
            }
        }
    }

    fn tick(&mut self) -> Result<(), MachineError<StorageError>> {
        let now = self.clock.now();
        let room = self.shared.store.lacking_bytes().is_none();
        self.machine.handle(Event::HasRoom(room), now)?;
        self.machine.handle(Event::Tick, now)
    }

    fn hand_out(&mut self) -> Result<(), MachineError<StorageError>> {
        let now = self.clock.now();
        while let Some(effect) = self.machine.poll(now)? {
            self.effects.perform(effect);
        }
        self.effects.flush();
        Ok(())
    }

    /// After an error of the disk: what the machine remembers and what is written may differ, so it reads all anew.
    fn start_anew(&mut self, error: &MachineError<StorageError>) {
        error!(%error, "custody stopped for an error of the disk; it starts anew");
        self.shared.alarms.raise_fault(fault::CUSTODY_STOPPED, error.to_string());
        while !self.shared.stop.is_cancelled() {
            std::thread::sleep(RESTART_DELAY);
            match start_machine(&self.shared, self.config.clone(), false) {
                Ok(machine) => {
                    self.machine = machine;
                    self.shared.alarms.clear(fault::CUSTODY_STOPPED.code);
                    return;
                }
                Err(error) => error!(%error, "custody cannot start"),
            }
        }
    }
}
