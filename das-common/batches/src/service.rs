//! Following a contract's batches and recovering each of them, as a program does it beside its other work.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use das_chain::follow::Step;
use das_chain::parent::ParentChain;
use das_common::alarm::Alarms;
use das_common::fault::Coded;
use das_common::sequencer_message::{
    KeysetSource, ParsedKeysets, PayloadSource, Recovered, RecoveredPayload, RecoveryError, recover_as_nitro,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::follow::{ChainFollower, FollowOptions, Observer};
use crate::index::{Followed, Index, OpenError};
use crate::reading::sequencer_message;
use crate::sync::{Outcome, PayloadSync, Recover, SyncOptions};
use crate::types::{Batches, PostedBatch};

/// Folder of the index, in the program's data folder.
const INDEX: &str = "batches";

/// What is followed, and how.
pub struct Service<'a, R> {
    /// The chain, and the contract on it.
    pub chain: &'a ParentChain,
    /// First block that is read.
    pub start: u64,
    /// The program's data folder.
    pub folder: &'a Path,
    /// Recovers batches.
    pub recover: R,
    /// How.
    pub sync: SyncOptions,
    /// Hear of what is wrong.
    pub alarms: &'a Alarms,
}

/// Follows and recovers until stopped, in tasks of `background`; the index of what is found.
pub fn start<R: Recover>(
    service: Service<'_, R>,
    background: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Arc<Index>, OpenError> {
    let Service { chain, start, folder, recover, sync, alarms } = service;
    let followed = Followed { chain_id: chain.chain_id(), inbox: chain.inbox, start };
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
    background.spawn(PayloadSync::new(Arc::clone(&index), recover, sync).run(stop.clone()));
    Ok(index)
}

/// How far the chain was followed, as status pages say it.
pub fn status(index: &dyn Batches) -> Value {
    let progress = index.progress();
    let block = progress.at.map(|at| at.number);
    let lag = progress.head.zip(block).map(|(head, block)| head.saturating_sub(block));
    json!({
        "era": progress.era,
        "block": block,
        "head": progress.head,
        "lag": lag,
        "batches": progress.batches,
        "waiting": progress.waiting,
        "failing": progress.failing,
        "away": index.away().map(|away| json!({ "since": away.since, "why": away.why })),
    })
}

/// Rights and keysets learn from whoever follows the chain anyway.
struct Rights(ParentChain);

impl Observer for Rights {
    fn observe<'a>(&'a self, step: &'a Step) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.0.observe(step))
    }
}

/// Whoever keeps what was recovered.
pub trait Keep: Send + Sync + 'static {
    /// Keeps the payload of a batch, or says why not.
    fn keep(&self, batch: &PostedBatch, payload: Bytes) -> impl Future<Output = Result<(), String>> + Send;
}

/// Recovers batches exactly as a node does.
pub struct AsNodesDo<K, P, S> {
    /// Keysets by their hashes.
    pub keysets: K,
    /// Payloads by their hashes.
    pub payloads: P,
    /// Keeps them.
    pub keep: S,
    /// What is known of keysets already.
    pub parsed: ParsedKeysets,
}

impl<K, P, S> Recover for AsNodesDo<K, P, S>
where
    K: KeysetSource + Send + Sync + 'static,
    P: PayloadSource + Send + Sync + 'static,
    K::Error: Send,
    P::Error: Send,
    S: Keep,
{
    async fn recover(&self, batch: &PostedBatch) -> Outcome {
        let message = sequencer_message(batch);
        let (keysets, payloads, parsed) = (&self.keysets, &self.payloads, &self.parsed);
        let recovered = recover_as_nitro(batch.number, &message, keysets, payloads, parsed).await;
        match recovered {
            Ok(Recovered::Payload(RecoveredPayload { payload, .. })) => {
                let length = payload.len() as u64;
                match self.keep.keep(batch, payload).await {
                    Ok(()) => Outcome::Fetched { length },
                    Err(why) => Outcome::Failed { why },
                }
            }
            Ok(Recovered::Ignored(why)) => Outcome::Ignored { why: why.to_string() },
            // It will never be another one: nodes go on without the batch.
            Err(error @ RecoveryError::Keyset { .. }) => Outcome::Ignored { why: error.to_string() },
            Err(error) => Outcome::Failed { why: error.to_string() },
        }
    }
}
