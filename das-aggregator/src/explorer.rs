//! The batches that the contract has: followed, tried, and shown.
//!
//! Every certificate on the chain is recovered once, as a node would do it: what nobody could read is noticed by this
//! aggregator's operator first, and not by the rollup's.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use bytes::Bytes;
use das_batches::explorer::{
    Availability, BadLink, Explorer, Links, NamedKeysets, PayloadUnavailable, Payloads as ShownPayloads,
    routes,
};
use das_batches::follow::{ChainFollower, FollowOptions, Observer};
use das_batches::index::{Followed, Index, OpenError};
use das_batches::reading::sequencer_message;
use das_batches::sync::{Outcome, PayloadSync, Recover, SyncOptions};
use das_batches::types::PostedBatch;
use das_chain::follow::Step;
use das_chain::parent::ParentChain;
use das_common::alarm::Alarms;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::fault::Coded;
use das_common::http::answers::AnswerBudget;
use das_common::rest_reader::ReadError;
use das_common::sequencer_message::{Recovered, RecoveryError, recover_as_nitro};
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::options::ExplorerOptions;
use crate::provider::Payloads;
use crate::provider::keysets::Keysets;
use crate::read::Reads;

/// Folder of the index, in the data folder.
const INDEX: &str = "batches";

/// Why batches cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum ExplorerError {
    /// The index.
    #[error("--data-dir: {0}")]
    Index(#[from] OpenError),
    /// A link.
    #[error("--explorer.{option}: {source}")]
    Link {
        /// Which.
        option: &'static str,
        /// What is wrong with it.
        source: BadLink,
    },
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

/// Follows the contract from now on, in tasks of `background`; the pages.
pub fn start(
    options: &ExplorerOptions,
    folder: &Path,
    shown: Shown<'_>,
    answers: AnswerBudget,
    background: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Router, ExplorerError> {
    let Shown { chain, committee, keysets, reads, alarms } = shown;
    let links = Links {
        transaction: link("transaction-link", &options.transaction_link)?,
        block: link("block-link", &options.block_link)?,
    };
    let followed = Followed { chain_id: chain.chain_id(), inbox: chain.inbox, start: options.start_block };
    let index = Arc::new(Index::open(&folder.join(INDEX), followed)?);
    let follow = FollowOptions { poll: chain.poll_interval(), ..FollowOptions::default() };
    let follower = ChainFollower::new(chain.reader.clone(), Arc::clone(&index), follow, alarms.clone())
        .observed_by(Arc::new(Rights(chain.clone())));
    let until = stop.clone();
    background.spawn(async move {
        if let Err(error) = follower.run(until).await {
            error!(code = error.fault().code, %error, "batches are no longer followed");
        }
    });
    let recovery = Recovery { keysets, reads: reads.clone() };
    let sync = PayloadSync::new(Arc::clone(&index), recovery, SyncOptions::default());
    background.spawn(sync.run(stop.clone()));

    let names =
        committee.members().iter().map(|member| (member.public_key.point_bytes(), member.name.clone()));
    let signers = NamedKeysets::new(chain.keysets.clone(), names.collect());
    let explorer = Explorer::new(index, Arc::new(signers), Arc::new(FromMembers(reads)), links, answers);
    Ok(routes(Arc::new(explorer)))
}

fn link(
    option: &'static str,
    text: &str,
) -> Result<Option<das_batches::explorer::LinkTemplate>, ExplorerError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|source| ExplorerError::Link { option, source })
}

/// Rights and keysets learn from whoever follows the chain anyway.
struct Rights(ParentChain);

impl Observer for Rights {
    fn observe<'a>(&'a self, step: &'a Step) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.0.observe(step))
    }
}

/// Recovers batches as a node would. What is read stays in the cache for a while; nothing is kept beyond that.
struct Recovery {
    keysets: Keysets,
    reads: Reads,
}

impl Recover for Recovery {
    async fn recover(&self, batch: &PostedBatch) -> Outcome {
        let message = sequencer_message(batch);
        let recovered =
            recover_as_nitro(batch.number, &message, &self.keysets, &Payloads(&self.reads), true).await;
        match recovered {
            Ok(Recovered::Payload { payload, .. }) => Outcome::Fetched { length: payload.len() as u64 },
            Ok(Recovered::Ignored(why)) => Outcome::Ignored { why: why.to_string() },
            // It will never be another one: nodes go on without the batch.
            Err(error @ RecoveryError::Keyset { .. }) => Outcome::Ignored { why: error.to_string() },
            Err(error) => Outcome::Failed { why: error.to_string() },
        }
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
