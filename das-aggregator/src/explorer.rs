//! The batches that the contract has: followed, tried, and shown.
//!
//! Every certificate on the chain is recovered once, as a node would do it: what nobody could read is noticed by this
//! aggregator's operator first, and not by the rollup's.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use das_batches::explorer::{
    Availability, BadLink, Explorer, Links, NamedKeysets, PayloadUnavailable, Payloads as ShownPayloads,
    routes,
};
use das_batches::index::{Index, OpenError};
use das_batches::service::{self, AsNodesDo, Keep, Service};
use das_batches::sync::SyncOptions;
use das_batches::types::{Batches, PostedBatch};
use das_chain::parent::ParentChain;
use das_common::alarm::Alarms;
use das_common::committee::Committee;
use das_common::config::sections::ExplorerOptions;
use das_common::data_hash::DataHash;
use das_common::http::answers::AnswerBudget;
use das_common::rest_reader::ReadError;
use das_common::sequencer_message::ParsedKeysets;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::provider::Payloads;
use crate::provider::keysets::Keysets;
use crate::read::Reads;

/// Why batches cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// The index.
    #[error("--data-dir: {0}")]
    Index(#[from] OpenError),
    /// A link.
    #[error("--explorer.transaction-link, .block-link: {0}")]
    Link(#[from] BadLink),
}

/// What is shown and whom it is asked from.
pub struct Shown<'a> {
    /// The chain.
    pub chain: &'a ParentChain,
    /// Its members' names are shown.
    pub committee: &'a Committee,
    /// Keysets of the chain and from files.
    pub keysets: Keysets,
    /// Payloads.
    pub reads: Reads,
    /// Hear of what is wrong.
    pub alarms: &'a Alarms,
}

/// Follows the contract from now on, in tasks of `background`; the pages, and what they are made of.
pub fn start(
    options: &ExplorerOptions,
    folder: &Path,
    shown: Shown<'_>,
    answers: AnswerBudget,
    background: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<(Router, Arc<Index>), ExplorerError> {
    let Shown { chain, committee, keysets, reads, alarms } = shown;
    let links = Links::of(&options.transaction_link, &options.block_link)?;
    let recover = AsNodesDo {
        keysets,
        payloads: Payloads(reads.clone()),
        keep: InTheCache,
        parsed: ParsedKeysets::default(),
    };
    let service =
        Service { chain, start: options.start_block, folder, recover, sync: SyncOptions::default(), alarms };
    let index = service::start(service, background, stop)?;
    let names =
        committee.members().iter().map(|member| (member.public_key.point_bytes(), member.name.clone()));
    let signers = NamedKeysets::new(chain.keysets.clone(), names.collect());
    let explorer = Explorer::new(
        Arc::clone(&index) as Arc<dyn Batches>,
        Arc::new(signers),
        Arc::new(FromMembers(reads)),
        links,
        answers,
    );
    Ok((routes(Arc::new(explorer)), index))
}

/// What was read stays in the cache for a while; nothing is kept beyond that.
struct InTheCache;

impl Keep for InTheCache {
    async fn keep(&self, _: &PostedBatch, _: Bytes) -> Result<(), String> {
        Ok(())
    }
}

/// Payloads for the pages.
struct FromMembers(Reads);

impl ShownPayloads for FromMembers {
    fn availability(&self, hash: DataHash) -> BoxFuture<'_, Availability> {
        Box::pin(async move {
            match self.0.batch(&hash).await {
                Ok(_) => Availability::Elsewhere,
                Err(ReadError::NotFound { .. }) => Availability::NotFound,
                Err(error) => Availability::Unknown { why: error.to_string() },
            }
        })
    }

    fn payload(&self, hash: DataHash) -> BoxFuture<'_, Result<Option<Bytes>, PayloadUnavailable>> {
        Box::pin(async move {
            match self.0.batch(&hash).await {
                Ok(batch) => Ok(Some(batch.into_bytes())),
                Err(ReadError::NotFound { .. }) => Ok(None),
                Err(error) => Err(PayloadUnavailable { why: error.to_string() }),
            }
        })
    }
}
