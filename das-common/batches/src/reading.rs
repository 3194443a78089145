//! From the contract's events to batches.
//!
//! # Guarantees, whatever an endpoint or a poster does
//! - What cannot be asked for now is an error, after which the same logs can be read again; what was read of them by
//!   then is not asked for anew. What was asked for and cannot be made out is a batch all the same, with
//!   [`Content::Unreadable`].
//! - At most [`ReadingOptions::in_flight`] requests are under way. Of an answer only what a batch keeps is held: of data
//!   that is no certificate its first byte and its length, of data beyond [`MAX_CALLDATA_BYTES`] nothing.

mod calldata;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use alloy_sol_types::SolEvent;
use bytes::Bytes;
use das_chain::ChainError;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::Backoff;
use das_chain::reader::{BlockId, Log, LogFilter, Reader};
use das_common::fault::{self, Coded, Fault};
use das_common::sequencer_message::SequencerMessage;
use futures::{StreamExt, stream};
use rand::Rng;
use thiserror::Error;

use crate::types::{Content, Payload, PostedBatch, TimeBounds};

/// Longest calldata, and longest data in an event, that is looked at: ten times what the contract takes.
pub const MAX_CALLDATA_BYTES: usize = 1 << 20;
/// Tries of one request before the whole reading is given up.
const TRIES: u32 = 5;
const PAUSE: Backoff = Backoff { first: Duration::from_millis(250), most: Duration::from_secs(5) };

/// Where the contract says that the data is (spec section 9).
mod location {
    pub(super) const CALLDATA: u8 = 0;
    pub(super) const EVENT: u8 = 1;
    pub(super) const NONE: u8 = 2;
    pub(super) const BLOBS: u8 = 3;
}

/// How batches are read.
#[derive(Debug, Clone, Copy)]
pub struct ReadingOptions {
    /// Requests under way at once, 1 or more.
    pub in_flight: usize,
}

impl Default for ReadingOptions {
    fn default() -> Self {
        Self { in_flight: 16 }
    }
}

/// Why batches cannot be read now.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum ReadingError {
    /// The chain gives no answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// An event with the right name and other fields than the contract's.
    #[error("log {index} of block {block} is no event of a SequencerInbox: is the contract's address right?")]
    Event {
        /// The block.
        block: u64,
        /// Place of the log in it.
        index: u64,
    },
    /// The event that holds the data is not there.
    #[error("block {block} was to hold the data of batch {batch} in an event, and the endpoint has none")]
    NoData {
        /// The block.
        block: u64,
        /// Number of the batch.
        batch: u64,
    },
}

impl Coded for ReadingError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Chain(error) => error.fault(),
            Self::Event { .. } | Self::NoData { .. } => fault::CHAIN_ANSWER,
        }
    }
}

/// The sequencer message of a batch (spec section 9). Of one that is no certificate only the numbers before its data.
pub fn sequencer_message(batch: &PostedBatch) -> Bytes {
    let data = match &batch.content {
        Content::Certificate(bytes) => Bytes::copy_from_slice(bytes),
        Content::Data { .. } | Content::Nothing | Content::Blobs | Content::Unreadable(_) => Bytes::new(),
    };
    let message = SequencerMessage {
        min_timestamp: batch.bounds.min_timestamp,
        max_timestamp: batch.bounds.max_timestamp,
        min_block: batch.bounds.min_block,
        max_block: batch.bounds.max_block,
        after_delayed_messages_read: batch.after_delayed,
        data,
    };
    message.to_bytes().into()
}

/// A log by its block and its place in it.
type Place = (B256, u64);

/// Reads the batches of one contract.
#[derive(Debug)]
pub struct BatchReader {
    reader: Reader,
    inbox: Address,
    options: ReadingOptions,
    /// What was read for logs whose reading has not ended yet.
    contents: HashMap<Place, Content>,
    times: HashMap<B256, u64>,
}

/// What has to be asked.
enum Question {
    /// The calldata of a batch.
    Calldata { place: Place, transaction: B256, block: BlockId, number: u64 },
    /// The data of all batches of a block that have it in events.
    Events { block: BlockId, batches: Vec<(Place, u64)> },
    /// The time of a block.
    Time { block: BlockId },
}

enum Answer {
    Contents(Vec<(Place, Content)>),
    Time(B256, u64),
}

impl BatchReader {
    /// Reads the batches of the contract at `inbox`.
    pub fn new(reader: Reader, inbox: Address, options: ReadingOptions) -> Self {
        Self { reader, inbox, options, contents: HashMap::new(), times: HashMap::new() }
    }

    /// The batches that these logs report, in their order; other events than `SequencerBatchDelivered` and other
    /// contracts' are left out. The index gives the batches their era: it is 0 here.
    pub async fn read(&mut self, logs: &[Log]) -> Result<Vec<PostedBatch>, ReadingError> {
        let delivered = logs.iter().filter(|log| {
            log.address == self.inbox
                && log.topics.first() == Some(&Inbox::SequencerBatchDelivered::SIGNATURE_HASH)
        });
        let delivered: Vec<(&Log, Delivered)> =
            delivered.map(|log| Ok((log, Delivered::of(log)?))).collect::<Result<_, ReadingError>>()?;
        let Self { reader, inbox, options, contents, times } = self;
        let wanted: HashSet<Place> = delivered.iter().map(|(log, _)| place(log)).collect();
        let blocks: HashSet<B256> = delivered.iter().map(|(log, _)| log.block_hash).collect();
        contents.retain(|place, _| wanted.contains(place));
        times.retain(|block, _| blocks.contains(block));
        let questions = questions(&delivered, contents, times);
        let inbox = *inbox;
        let answers = questions.into_iter().map(|question| answer(reader.clone(), inbox, question));
        let answers: Vec<_> = answers.collect();
        let mut answers = stream::iter(answers).buffer_unordered(options.in_flight.max(1));
        while let Some(answer) = answers.next().await {
            match answer? {
                Answer::Contents(read) => contents.extend(read),
                Answer::Time(block, time) => {
                    times.insert(block, time);
                }
            }
        }
        let mut batches = Vec::with_capacity(delivered.len());
        for (log, event) in delivered {
            let content = contents.remove(&place(log));
            let timestamp = log.timestamp.or_else(|| times.get(&log.block_hash).copied());
            let (Some(content), Some(timestamp)) = (content, timestamp) else {
                return Err(ReadingError::Event { block: log.block_number, index: log.index });
            };
            batches.push(event.into_batch(log, timestamp, content));
        }
        times.clear();
        Ok(batches)
    }
}

fn place(log: &Log) -> Place {
    (log.block_hash, log.index)
}

fn block(log: &Log) -> BlockId {
    BlockId { number: log.block_number, hash: log.block_hash }
}

/// What is not known yet has to be asked; what needs no question goes to `contents` at once.
fn questions(
    delivered: &[(&Log, Delivered)],
    contents: &mut HashMap<Place, Content>,
    times: &HashMap<B256, u64>,
) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut in_events: BTreeMap<(u64, B256), Vec<(Place, u64)>> = BTreeMap::new();
    let mut asked_times = HashSet::new();
    for (log, event) in delivered {
        let (place, number, block) = (place(log), event.number, block(log));
        if log.timestamp.is_none() && !times.contains_key(&block.hash) && asked_times.insert(block.hash) {
            questions.push(Question::Time { block });
        }
        if contents.contains_key(&place) {
            continue;
        }
        match event.location {
            location::CALLDATA => {
                questions.push(Question::Calldata { place, transaction: log.transaction, block, number });
            }
            location::EVENT => {
                in_events.entry((block.number, block.hash)).or_default().push((place, number));
            }
            location::NONE => {
                contents.insert(place, Content::Nothing);
            }
            location::BLOBS => {
                contents.insert(place, Content::Blobs);
            }
            unknown => {
                let why =
                    format!("the contract says that its data is at {unknown}, which is no place we know");
                contents.insert(place, Content::Unreadable(why));
            }
        }
    }
    questions.extend(
        in_events
            .into_iter()
            .map(|((number, hash), batches)| Question::Events { block: BlockId { number, hash }, batches }),
    );
    questions
}

/// Asks until there is an answer, or an error that is likely to last.
async fn answer(reader: Reader, inbox: Address, question: Question) -> Result<Answer, ReadingError> {
    let mut tries = 0;
    loop {
        let error = match ask(&reader, inbox, &question).await {
            Err(ReadingError::Chain(error)) => error,
            outcome => return outcome,
        };
        tries += 1;
        let may_pass = error.is_away() || matches!(error, ChainError::Lacks { .. });
        if !may_pass || tries >= TRIES {
            return Err(error.into());
        }
        let pause = PAUSE.after(tries, rand::rng().random_range(0.0..1.0));
        let retry_in = match error {
            ChainError::Away { retry_in, .. } => retry_in,
            _ => Duration::ZERO,
        };
        tokio::time::sleep(pause.max(retry_in)).await;
    }
}

async fn ask(reader: &Reader, inbox: Address, question: &Question) -> Result<Answer, ReadingError> {
    match question {
        Question::Calldata { place, transaction, block, number } => {
            let transaction = reader.transaction_in(*transaction, *block).await?;
            let content = calldata::content_of(&transaction, inbox, *number);
            Ok(Answer::Contents(vec![(*place, content)]))
        }
        Question::Events { block, batches } => {
            let filter = LogFilter::events(inbox, &[Inbox::SequencerBatchData::SIGNATURE_HASH]);
            let logs = reader.logs_of_block(&filter, *block).await?;
            let contents = batches.iter().map(|(place, number)| {
                let content = calldata::content_in_events(&logs, *number);
                let missing = ReadingError::NoData { block: block.number, batch: *number };
                content.map(|content| (*place, content)).ok_or(missing)
            });
            Ok(Answer::Contents(contents.collect::<Result<_, _>>()?))
        }
        Question::Time { block } => match reader.block_by_hash(block.hash).await? {
            Some(found) => Ok(Answer::Time(block.hash, found.timestamp)),
            None => Err(ChainError::Unsettled { block: block.number }.into()),
        },
    }
}

/// The event, checked.
struct Delivered {
    number: u64,
    location: u8,
    event: Inbox::SequencerBatchDelivered,
    after_delayed: u64,
}

impl Delivered {
    fn of(log: &Log) -> Result<Self, ReadingError> {
        let read = || {
            let event = log.decode::<Inbox::SequencerBatchDelivered>()?;
            Some(Self {
                number: event.batchSequenceNumber.try_into().ok()?,
                location: event.dataLocation,
                after_delayed: event.afterDelayedMessagesRead.try_into().ok()?,
                event,
            })
        };
        read().ok_or(ReadingError::Event { block: log.block_number, index: log.index })
    }

    fn into_batch(self, log: &Log, timestamp: u64, content: Content) -> PostedBatch {
        let bounds = &self.event.timeBounds;
        PostedBatch {
            era: 0,
            number: self.number,
            block: block(log),
            timestamp,
            transaction: log.transaction,
            log_index: log.index,
            bounds: TimeBounds {
                min_timestamp: bounds.minTimestamp,
                max_timestamp: bounds.maxTimestamp,
                min_block: bounds.minBlockNumber,
                max_block: bounds.maxBlockNumber,
            },
            after_delayed: self.after_delayed,
            before_acc: self.event.beforeAcc,
            after_acc: self.event.afterAcc,
            payload: match &content {
                Content::Certificate(_) => Payload::Waiting { attempts: 0, retry_at: 0, why: None },
                Content::Data { .. } | Content::Nothing | Content::Blobs | Content::Unreadable(_) => {
                    Payload::None
                }
            },
            content,
        }
    }
}
