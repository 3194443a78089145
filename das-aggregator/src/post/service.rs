//! The poster at work: it looks at the chain, decides by the [`plan`](super::plan), writes down what it decided, and does it.

mod certify;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, Bytes as ChainBytes, U256};
use alloy_sol_types::SolCall;
use bytes::Bytes;
use das_chain::ChainError;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::poster_key::PosterKey;
use das_chain::poster_rpc::{PosterRpc, SendError};
use das_chain::reader::At;
use das_chain::refusal::Refusal;
use das_chain::transaction::Eip1559;
use das_common::alarm::Alarms;
use das_common::data_hash::DataHash;
use das_common::fault::{self, Coded, Fault};
use das_common::store_auth::StoreKey;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::chain::{Look, PosterChain};
use super::entry::{Attempt, Entry, FOR_EVER, Stage};
use super::fees::{FeeLimits, Fees};
use super::plan::{Hold, Policy, Step, plan};
use super::queue::{Bounds, Queue, QueueError, Record};
use super::request::PostRequest;
use crate::api::status::unix_now;
use crate::store::{Stores, away_from_requests};
use certify::Certifying;

/// A week: nodes ignore a batch whose certificate ends earlier than this after the latest time its messages can name.
const NODES_WANT: u64 = 7 * 24 * 3600;
/// What is kept in reserve beyond that.
const RESERVE: u64 = 24 * 3600;
/// What the contract allows until it could be asked: as far as any chain's goes.
const FUTURE_UNKNOWN: u64 = 24 * 3600;
/// How often the contract is asked for it.
const FUTURE_EVERY: Duration = Duration::from_secs(3600);
/// Longest wait between two looks at the chain while it is away.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Gas of a post beside its data: what is measured is up to 190 000.
const BASE_GAS: u64 = 300_000;
/// Gas of a byte of data at most, by the rule for transactions that are mostly data.
const BYTE_GAS: u64 = 40;

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct PostSettings {
    /// Where a batch is posted itself after this time without enough signatures; none: it is held.
    pub fallback_after: Option<Duration>,
    /// Most batches that are submitted and not in a block.
    pub in_flight: usize,
    /// A transaction that is in no block for so long is replaced.
    pub replace_after: Duration,
    /// ... and sent again after this time.
    pub resend_after: Duration,
    /// What may be paid.
    pub fees: FeeLimits,
    /// Percent on top of the estimated gas.
    pub gas_margin: u64,
    /// An alarm is raised below this, wei.
    pub least_balance: U256,
    /// How often the chain is looked at.
    pub every: Duration,
    /// Bounds of the queue.
    pub bounds: Bounds,
    /// Longest batch, bytes.
    pub max_batch_bytes: usize,
    /// That nonces below this were used by others is accepted.
    pub accept_nonces: u64,
    /// ... and that batches below this number are others'.
    pub accept_batches: u64,
}

struct Shared {
    queue: Queue,
    chain: PosterChain,
    rpc: PosterRpc,
    key: PosterKey,
    store_key: Arc<StoreKey>,
    stores: Stores,
    settings: PostSettings,
    alarms: Alarms,
    wake: Notify,
    /// `futureSeconds` of the contract, and when it was read.
    future: Mutex<Option<(u64, Instant)>>,
    last: Mutex<Option<Look>>,
    /// Why nothing more is posted, in words.
    hold: Mutex<Option<String>>,
}

/// Posts batches. Cheap to clone.
#[derive(Clone)]
pub struct Poster(Arc<Shared>);

/// What is needed to post.
pub struct PosterParts {
    /// The durable queue.
    pub queue: Queue,
    /// The chain.
    pub chain: PosterChain,
    /// Signs transactions.
    pub key: PosterKey,
    /// Signs store requests to the members.
    pub store_key: Arc<StoreKey>,
    /// Certifies.
    pub stores: Stores,
    /// What the operator decided.
    pub settings: PostSettings,
    /// Hears of what is wrong.
    pub alarms: Alarms,
}

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Poster {
    /// Nothing is done before [`Poster::run`].
    pub fn new(parts: PosterParts) -> Self {
        let PosterParts { queue, chain, key, store_key, stores, settings, alarms } = parts;
        Self(Arc::new(Shared {
            rpc: PosterRpc::new(chain.endpoints.clone()),
            queue,
            chain,
            key,
            store_key,
            stores,
            settings,
            alarms,
            wake: Notify::new(),
            future: Mutex::default(),
            last: Mutex::default(),
            hold: Mutex::default(),
        }))
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// Id and contract that requests are signed for.
    pub fn place(&self) -> (u64, [u8; 20]) {
        (self.0.chain.endpoints.chain_id(), self.0.chain.inbox.into_array())
    }

    /// The account that posts.
    pub fn account(&self) -> Address {
        self.0.chain.account
    }

    /// The chain as it was looked at last.
    pub fn last_look(&self) -> Option<Look> {
        self.0.last.lock().clone()
    }

    /// Why nothing more is posted; none while posting goes on.
    pub fn hold(&self) -> Option<String> {
        self.0.hold.lock().clone()
    }

    /// Changes of batches from now on.
    pub fn changes(&self) -> broadcast::Receiver<Record> {
        self.0.queue.changes()
    }

    /// Takes a batch: when this returns, it is on disk and will be posted. The request's signature was checked.
    pub async fn take(&self, request: PostRequest) -> Result<Record, QueueError> {
        let shared = Arc::clone(&self.0);
        let (chain_id, inbox) = self.place();
        let now = unix_now();
        let settings = &self.0.settings;
        let least_timeout = now + self.least_life();
        request.check(settings.max_batch_bytes, least_timeout, settings.fallback_after.is_some())?;
        let taken = away_from_requests(usize::MAX, move || {
            let digest = request.digest(chain_id, &inbox);
            let data_hash = DataHash::of(&request.message);
            shared.queue.push(&request, &digest, &data_hash, now, shared.settings.bounds)
        });
        let (record, is_new) = taken.await?;
        if is_new {
            info!(batch = record.entry.id, hash = %DataHash::from_bytes(record.data_hash), "batch taken for posting");
            self.0.wake.notify_one();
        }
        Ok(record)
    }

    /// How long a certificate must last from now on to be posted, seconds.
    fn least_life(&self) -> u64 {
        let future = self.0.future.lock().map_or(FUTURE_UNKNOWN, |(future, _)| future);
        // It may take until the replacement is due before it is in a block.
        future + NODES_WANT + RESERVE + self.0.settings.replace_after.as_secs()
    }

    /// Works until stopped.
    pub async fn run(self, stop: CancellationToken) {
        let mut certifying = Certifying::default();
        let mut failures = 0_u32;
        loop {
            let every = self.0.settings.every;
            let wait = match self.round(&mut certifying).await {
                Ok(()) => {
                    failures = 0;
                    every
                }
                Err(error) => {
                    failures += 1;
                    self.tell(&error, failures);
                    (every * 2_u32.saturating_pow(failures.min(6))).min(LONGEST_WAIT).max(every)
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                Some(done) = certifying.tasks.join_next(), if !certifying.tasks.is_empty() => {
                    if let Ok(done) = done
                        && let Err(error) = self.certified(done, &mut certifying).await
                    {
                        self.tell(&error.into(), 1);
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn tell(&self, error: &RoundError, failures: u32) {
        match error {
            RoundError::Queue(error) => self.0.alarms.raise_fault(fault::POST_QUEUE, error.to_string()),
            // Nobody answering is told by the endpoints; a chain that moves is looked at again.
            RoundError::Chain(error) if error.is_away() || matches!(error, ChainError::Unsettled { .. }) => {}
            RoundError::Chain(error) if failures == 3 => {
                warn!(code = error.fault().code, %error, "the parent chain cannot be looked at for posting");
            }
            RoundError::Chain(_) => {}
        }
    }

    async fn round(&self, certifying: &mut Certifying) -> Result<(), RoundError> {
        let records = self.0.queue.active();
        let attempts: Vec<_> =
            records.iter().flat_map(|record| attempts_of(&record.entry)).map(|a| a.tx).collect();
        self.refresh_future().await;
        let nonces = records.iter().filter_map(|record| match record.entry.stage {
            Stage::Submitted { nonce, .. } => Some(nonce),
            _ => None,
        });
        let looked = self.0.chain.look(&attempts, nonces.min()).await;
        if let Err(error) = &looked {
            // The committee can be asked meanwhile.
            self.certify_waiting(&records, certifying);
            return Err(error.clone().into());
        }
        let look = looked?;
        self.watch_balance(look.balance);
        let entries: Vec<Entry> = records.iter().map(|record| self.as_of_now(record)).collect();
        let policy = Policy {
            in_flight: self.0.settings.in_flight,
            replace_after: self.0.settings.replace_after.as_secs(),
            resend_after: self.0.settings.resend_after.as_secs(),
            least_life: self.least_life(),
            fees: self.0.settings.fees,
            accept_nonces: self.0.settings.accept_nonces,
            accept_batches: self.0.settings.accept_batches,
        };
        // A block's time may be ahead of this clock, and the contract goes by it.
        let now = unix_now().max(look.time);
        let decided = plan(&entries, self.0.queue.least_batches(), &look.view, &policy, now);
        self.show_hold(decided.hold);
        *self.0.last.lock() = Some(look.clone());
        let by_id: HashMap<u64, &Record> = records.iter().map(|record| (record.entry.id, record)).collect();
        let again =
            decided.steps.iter().any(|step| !matches!(step, Step::Certify { .. } | Step::Resend { .. }));
        for step in decided.steps {
            if !self.act(step, &by_id, &look, now, certifying).await? {
                return Ok(());
            }
        }
        if again {
            // What was seen is written down: the next decision need not wait.
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// One step; false: what comes after it would not do now.
    async fn act(
        &self,
        step: Step,
        records: &HashMap<u64, &Record>,
        look: &Look,
        now: u64,
        certifying: &mut Certifying,
    ) -> Result<bool, RoundError> {
        match step {
            Step::Certify { id } => {
                if let Some(record) = records.get(&id) {
                    self.certify(record, certifying);
                }
            }
            Step::Submit { id, nonce, sequence, fees } => {
                if let Some(record) = records.get(&id) {
                    return self.submit(record, nonce, sequence, fees, look, now).await;
                }
            }
            Step::Resend { id } => {
                let resent = self.update(id, move |record| record.entry.sent_again(now)).await?;
                if let Some(last) = resent.as_ref().and_then(|record| attempts_of(&record.entry).last()) {
                    self.send(id, last).await?;
                }
            }
            Step::Include { id, tx, block } => {
                info!(batch = id, tx = %hex(&tx), block = block.number, "batch is on the parent chain");
                self.0.alarms.clear(fault::POST_REVERT.code);
                let change = move |record: &mut Record| {
                    record.entry.included(tx, block);
                    record.problem = None;
                };
                self.update(id, change).await?;
            }
            Step::Vanish { id } => {
                warn!(batch = id, "the block with this batch is gone: it is sent again");
                self.update(id, |record| record.entry.vanished()).await?;
            }
            Step::Revert { id, tx, block } => {
                let text = format!("transaction {} in block {} did nothing", hex(&tx), block.number);
                self.0.alarms.raise_fault(fault::POST_REVERT, format!("batch {id}: {text}"));
                let change = move |record: &mut Record| {
                    record.entry.reverted();
                    record.problem = Some(text);
                };
                self.update(id, change).await?;
            }
            Step::Renumber { id } => {
                warn!(
                    batch = id,
                    "its nonce was used by somebody else, which is accepted: it gets another one"
                );
                self.update(id, |record| record.entry.reverted()).await?;
            }
            Step::Finalize { id } => {
                self.update(id, |record| record.entry.finalized()).await?;
            }
        }
        Ok(true)
    }

    async fn submit(
        &self,
        record: &Record,
        nonce: u64,
        sequence: u64,
        fees: Fees,
        look: &Look,
        now: u64,
    ) -> Result<bool, RoundError> {
        let id = record.entry.id;
        let (data, until) = match (&record.certificate, record.as_data) {
            (_, true) => match self.payload(id).await? {
                Some(payload) => (payload, FOR_EVER),
                None => return Ok(false),
            },
            (Some(certificate), false) => {
                (Bytes::from(certificate.clone()), record.entry.certified.unwrap_or(0))
            }
            (None, false) => return Ok(false),
        };
        let call = Inbox::addSequencerL2BatchFromOriginCall {
            sequenceNumber: U256::from(sequence),
            data: data.into(),
            afterDelayedMessagesRead: U256::from(record.after_delayed),
            gasRefunder: Address::ZERO,
            prevMessageCount: U256::from(record.prev_count),
            newMessageCount: U256::from(record.new_count),
        };
        let input = ChainBytes::from(call.abi_encode());
        let is_next = sequence == look.view.batches && nonce == look.view.nonce;
        let gas = if is_next {
            let estimated =
                self.0.rpc.estimate_gas(self.0.chain.account, self.0.chain.inbox, &input, At::Latest).await;
            match estimated {
                Ok(gas) => gas.saturating_add(gas / 100 * self.0.settings.gas_margin),
                Err(SendError::Chain(error)) => return Err(error.into()),
                Err(error) => {
                    self.problem(id, fault_of(&error), error.to_string()).await?;
                    return Ok(false);
                }
            }
        } else {
            // Behind others that are in no block yet, an estimate would only say that it is not its turn.
            BASE_GAS.saturating_add(BYTE_GAS.saturating_mul(input.len() as u64))
        };
        let transaction = Eip1559 {
            chain_id: self.0.chain.endpoints.chain_id(),
            nonce,
            max_priority_fee_per_gas: fees.tip,
            max_fee_per_gas: fees.max,
            gas_limit: gas,
            to: self.0.chain.inbox,
            value: U256::ZERO,
            data: input,
        };
        let signed = match self.0.key.sign(&transaction).await {
            Ok(signed) => signed,
            Err(error) => {
                self.problem(id, fault::POST_KEY, format!("it cannot be signed: {error}")).await?;
                return Ok(false);
            }
        };
        self.0.alarms.clear(fault::POST_KEY.code);
        let attempt = Attempt {
            tx: signed.hash.0,
            raw: signed.raw.to_vec(),
            fees,
            sequence,
            made: now,
            sent: now,
            until,
        };
        let written = attempt.clone();
        let written = self.update(id, move |record| record.entry.submitted(nonce, written)).await?;
        if written.is_none() {
            return Ok(false);
        }
        info!(
            batch = id, sequence, nonce, tx = %signed.hash, max_fee = fees.max, tip = fees.tip, gas,
            "batch sent to the parent chain"
        );
        self.send(id, &attempt).await
    }

    async fn send(&self, id: u64, attempt: &Attempt) -> Result<bool, RoundError> {
        match self.0.rpc.send_raw(&ChainBytes::copy_from_slice(&attempt.raw)).await {
            Ok(_) => {
                for fault in [fault::POST_REFUSED, fault::POST_BALANCE_GONE] {
                    self.0.alarms.clear(fault.code);
                }
                self.update(id, |record| record.problem = None).await?;
                Ok(true)
            }
            Err(SendError::Chain(error)) => Err(error.into()),
            // It, or the one that it was to replace, came into a block just now: the next look sees it.
            Err(SendError::Refused { refusal: Refusal::NonceTooLow, .. }) => Ok(true),
            Err(error) => {
                self.problem(id, fault_of(&error), error.to_string()).await?;
                Ok(false)
            }
        }
    }

    async fn problem(&self, id: u64, fault: &'static Fault, text: String) -> Result<(), RoundError> {
        self.0.alarms.raise_fault(fault, format!("batch {id}: {text}"));
        self.update(id, |record| record.problem = Some(text)).await?;
        Ok(())
    }

    async fn refresh_future(&self) {
        let is_fresh = self.0.future.lock().is_some_and(|(_, read)| read.elapsed() < FUTURE_EVERY);
        if is_fresh {
            return;
        }
        if let Ok(future) = self.0.chain.future().await {
            *self.0.future.lock() = Some((future.as_secs(), Instant::now()));
        }
    }

    fn watch_balance(&self, balance: U256) {
        metrics::gauge!("das_post_balance_ether").set(f64::from(balance) / 1e18);
        match balance < self.0.settings.least_balance {
            true => self.0.alarms.raise_fault(
                fault::POST_BALANCE,
                format!("{} has {} ether", self.0.chain.account, ether(balance)),
            ),
            false => self.0.alarms.clear(fault::POST_BALANCE.code),
        }
    }

    fn show_hold(&self, hold: Option<Hold>) {
        let (batches, bytes) = self.0.queue.size();
        metrics::gauge!("das_post_queue_batches").set(batches as f64);
        metrics::gauge!("das_post_queue_bytes").set(bytes as f64);
        let raised = hold.map(|hold| match hold {
            Hold::ForeignNonce { nonce } => (
                fault::POST_FOREIGN_NONCE,
                format!(
                    "nonce {nonce} of {} was used by a transaction that is not ours",
                    self.0.chain.account
                ),
            ),
            Hold::ForeignBatch { sequence } => (
                fault::POST_FOREIGN_BATCH,
                format!("batch number {sequence} was taken by a batch that is not in the queue"),
            ),
            Hold::Lost { batches, least } => {
                (fault::POST_LOST, format!("the contract has {batches} batches, and it had {least} for good"))
            }
            Hold::Keyset => {
                (fault::POST_KEYSET, format!("the contract does not take keyset {}", self.0.chain.keyset))
            }
            Hold::Fees => (fault::POST_FEES, "the parent chain asks more than may be paid".to_owned()),
        });
        let code = raised.as_ref().map(|(fault, _)| fault.code);
        let all = [
            fault::POST_FOREIGN_NONCE,
            fault::POST_FOREIGN_BATCH,
            fault::POST_LOST,
            fault::POST_KEYSET,
            fault::POST_FEES,
        ];
        for fault in all.iter().filter(|fault| Some(fault.code) != code) {
            self.0.alarms.clear(fault.code);
        }
        *self.0.hold.lock() = raised.as_ref().map(|(_, text)| text.clone());
        if let Some((fault, text)) = raised {
            self.0.alarms.raise_fault(fault, text);
        }
    }

    async fn update(
        &self,
        id: u64,
        change: impl FnOnce(&mut Record) + Send + 'static,
    ) -> Result<Option<Record>, QueueError> {
        let queue = self.0.queue.clone();
        away_from_requests(usize::MAX, move || queue.update(id, change)).await
    }

    async fn payload(&self, id: u64) -> Result<Option<Bytes>, QueueError> {
        let queue = self.0.queue.clone();
        away_from_requests(usize::MAX, move || queue.payload(id)).await
    }
}

/// The transactions of a batch that may have reached somebody.
pub fn attempts_of(entry: &Entry) -> &[Attempt] {
    match &entry.stage {
        Stage::Submitted { attempts, .. } | Stage::Included { attempts, .. } => attempts,
        Stage::Waiting | Stage::Final { .. } => &[],
    }
}

fn fault_of(error: &SendError) -> &'static Fault {
    match error {
        SendError::Reverted { .. } => fault::POST_REVERT,
        SendError::Refused { refusal: Refusal::InsufficientFunds, .. } => fault::POST_BALANCE_GONE,
        _ => fault::POST_REFUSED,
    }
}

fn hex(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}

/// Wei as ether, to six places.
fn ether(wei: U256) -> String {
    let micro = wei / U256::from(1_000_000_000_000_u64);
    let million = U256::from(1_000_000);
    format!("{}.{:06}", micro / million, (micro % million).saturating_to::<u64>())
}
