//! How far a batch is, as it is told to those who ask.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures::stream::{self, Stream, StreamExt};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::entry::{Entry, Stage};
use super::queue::Record;
use super::service::{Poster, attempts_of};

/// A stream that nothing happens on says so this often, so that nobody takes it for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The answer of `das_batchStatus`, and the data of each event.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchStatus {
    /// Names the batch at this aggregator.
    pub id: u64,
    /// `received`, `certified`, `submitted`, `included` or `final`.
    pub stage: &'static str,
    /// Of the batch.
    pub data_hash: String,
    /// Bytes of the batch.
    pub length: u64,
    /// When it was taken, unix seconds.
    pub received_at: u64,
    /// The certificate that is, or will be, posted.
    pub certificate: Option<String>,
    /// Until when its signers keep the batch, unix seconds.
    pub certified_until: Option<u64>,
    /// `certificate`, or `calldata` for a batch that is posted itself.
    pub posted_as: &'static str,
    /// The transaction that is on the chain, or that was sent last.
    pub transaction: Option<String>,
    /// Its nonce.
    pub nonce: Option<u64>,
    /// The batch's number by the contract.
    pub sequence_number: Option<u64>,
    /// How many transactions were sent for it, of which the chain takes one.
    pub attempts: usize,
    /// Where it is on the chain.
    pub block: Option<BlockStatus>,
    /// What is in its way.
    pub problem: Option<String>,
}

/// A block of the parent chain.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockStatus {
    /// Height.
    pub number: u64,
    /// Hash.
    pub hash: String,
}

fn hex(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}

impl BatchStatus {
    /// Of a batch of the queue.
    pub fn of(record: &Record) -> Self {
        let entry = &record.entry;
        let attempts = attempts_of(entry);
        let (nonce, tx, block) = match &entry.stage {
            Stage::Waiting => (None, None, None),
            Stage::Submitted { nonce, .. } => (Some(*nonce), attempts.last().map(|last| last.tx), None),
            Stage::Included { nonce, tx, block, .. } => (Some(*nonce), Some(*tx), Some(*block)),
            Stage::Final { tx, block, .. } => (None, Some(*tx), Some(*block)),
        };
        let sequence_number = match &entry.stage {
            Stage::Final { sequence, .. } => Some(*sequence),
            _ => attempts.iter().find(|attempt| Some(attempt.tx) == tx).map(|attempt| attempt.sequence),
        };
        Self {
            id: entry.id,
            stage: stage_name(entry),
            data_hash: hex(&record.data_hash),
            length: record.length,
            received_at: record.received,
            certificate: record.certificate.as_deref().filter(|_| !record.as_data).map(hex),
            certified_until: entry.certified.filter(|_| entry.needs_keyset()),
            posted_as: if record.as_data { "calldata" } else { "certificate" },
            transaction: tx.as_ref().map(|tx| hex(tx)),
            nonce,
            sequence_number,
            attempts: attempts.len(),
            block: block.map(|block| BlockStatus { number: block.number, hash: hex(&block.hash) }),
            problem: record.problem.clone(),
        }
    }
}

/// The answer of `das_postStatus`, and `post` at `/status`.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PosterStatus {
    /// EIP-155 id of the parent chain.
    pub chain_id: u64,
    /// The contract.
    pub sequencer_inbox: String,
    /// The account that posts.
    pub account: String,
    /// The block of the last look at the chain; none before the first.
    pub looked_at: Option<BlockStatus>,
    /// What the account had then, wei, in decimal digits.
    pub balance_wei: Option<String>,
    /// Its next nonce then.
    pub nonce: Option<u64>,
    /// How many batches the contract had then.
    pub batches_on_chain: Option<u64>,
    /// Whether it took the committee's keyset then.
    pub keyset_valid: Option<bool>,
    /// What the batch that was taken last ended with, and so the next one begins with.
    pub last: Option<LastCounts>,
    /// Batches that are not final, by stage.
    pub queue: BTreeMap<&'static str, usize>,
    /// Their bytes.
    pub queue_bytes: u64,
    /// When the oldest batch that is in no block was taken, unix seconds.
    pub oldest_waiting_since: Option<u64>,
    /// Why nothing more is posted; none while posting goes on.
    pub hold: Option<String>,
}

/// Counts of a batch, as the contract is told them.
#[derive(Debug, Clone, Copy, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastCounts {
    /// Delayed messages read with it and before.
    pub after_delayed_messages_read: u64,
    /// Messages of the chain with it.
    pub new_message_count: u64,
}

impl PosterStatus {
    /// As it is now.
    pub fn of(poster: &Poster) -> Self {
        let (chain_id, inbox) = poster.place();
        let (records, look) = (poster.queue().active(), poster.last_look());
        let look = look.as_ref();
        let mut queue = BTreeMap::new();
        for record in &records {
            *queue.entry(stage_name(&record.entry)).or_default() += 1;
        }
        let waits = |record: &&Record| matches!(record.entry.stage, Stage::Waiting | Stage::Submitted { .. });
        Self {
            chain_id,
            sequencer_inbox: hex(&inbox),
            account: poster.account().to_string(),
            looked_at: look.map(|look| BlockStatus { number: look.at.number, hash: hex(&look.at.hash) }),
            balance_wei: look.map(|look| look.balance.to_string()),
            nonce: look.map(|look| look.view.nonce),
            batches_on_chain: look.map(|look| look.view.batches),
            keyset_valid: look.map(|look| look.view.keyset_valid),
            last: poster.queue().last_counts().map(|(delayed, count)| LastCounts {
                after_delayed_messages_read: delayed,
                new_message_count: count,
            }),
            queue,
            queue_bytes: poster.queue().size().1,
            oldest_waiting_since: records.iter().filter(waits).map(|record| record.received).min(),
            hold: poster.hold(),
        }
    }
}

fn stage_name(entry: &Entry) -> &'static str {
    match &entry.stage {
        Stage::Waiting if entry.certified.is_none() => "received",
        Stage::Waiting => "certified",
        Stage::Submitted { .. } => "submitted",
        Stage::Included { .. } => "included",
        Stage::Final { .. } => "final",
    }
}

/// `GET /batches/events`: server-sent events. First how far each batch is that is not final, then every change.
pub fn events(poster: Poster, stop: CancellationToken) -> Router {
    Router::new().route("/batches/events", get(stream_events)).with_state(Arc::new((poster, stop)))
}

async fn stream_events(
    State(shared): State<Arc<(Poster, CancellationToken)>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (poster, stop) = &*shared;
    // Subscribed before the state is read: what changes in between is told twice rather than never.
    let changes = poster.changes();
    let now: Vec<Event> = poster.queue().active().iter().map(event).collect();
    let changed = stream::unfold(changes, |mut changes| async move {
        match changes.recv().await {
            Ok(record) => Some((event(&record), changes)),
            // Who reads too slowly is told that something is missing, and asks das_batchStatus for it.
            Err(RecvError::Lagged(missed)) => {
                let event = Event::default().event("missed").data(Cow::from(missed.to_string()));
                Some((event, changes))
            }
            Err(RecvError::Closed) => None,
        }
    });
    let all = stream::iter(now).chain(changed).map(Ok).take_until(stop.clone().cancelled_owned());
    Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}

fn event(record: &Record) -> Event {
    let status = BatchStatus::of(record);
    let data = serde_json::to_string(&status).expect("numbers and texts have a JSON form");
    Event::default().event("batch").id(status.id.to_string()).data(data)
}
