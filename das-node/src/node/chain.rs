//! What a node does with the parent chain beside asking it who may store: it follows the contract, keeps what is posted, and
//! shows it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use das_batches::explorer::{BadLink, Explorer, Links, NamedKeysets, routes};
use das_batches::index::{Index, OpenError};
use das_batches::service::{self, AsNodesDo, Service};
use das_batches::sync::SyncOptions;
use das_chain::parent::ParentChain;
use das_common::alarm::Alarms;
use das_common::committee::Committee;
use das_common::http::answers::AnswerBudget;
use das_common::sequencer_message::ParsedKeysets;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::custody::Custody;
use crate::mirror::{Nowhere, OnDisk, Payloads};
use crate::options::NodeOptions;
use crate::retrieve::Retrieve;
use crate::storage::BatchStore;

/// What following needs of the node.
pub(super) struct Follower<'a> {
    pub(super) options: &'a NodeOptions,
    pub(super) chain: &'a ParentChain,
    pub(super) store: &'a Arc<BatchStore>,
    pub(super) retrieve: &'a Retrieve,
    pub(super) custody: Option<Custody>,
    pub(super) alarms: &'a Alarms,
}

/// Follows the contract as the options say, until stopped; the index, if batches are followed.
pub(super) fn follow(
    follower: Follower<'_>,
    background: &mut JoinSet<()>,
    stop: &CancellationToken,
) -> Result<Option<Arc<Index>>, OpenError> {
    let Follower { options, chain, store, retrieve, custody, alarms } = follower;
    let wanted = &options.data_availability.rest_aggregator.sync;
    if !wanted.eager && !options.explorer.enable {
        background.spawn(chain.clone().watch(stop.clone()));
        return Ok(None);
    }
    let start = if wanted.eager { wanted.eager_lower_bound_block } else { options.explorer.start_block };
    let folder = &options.data_availability.local_file_storage.data_dir.join("chain");
    let sync = SyncOptions {
        in_flight: wanted.requests_in_flight,
        retention: wanted.retention_period,
        ..SyncOptions::default()
    };
    let (keysets, payloads) = (chain.keysets.clone(), Payloads(retrieve.clone()));
    let index = if wanted.eager {
        let keep = OnDisk {
            store: Arc::clone(store),
            custody,
            retention: wanted.retention_period,
            expired_too: wanted.sync_expired_data,
        };
        let recover = AsNodesDo { keysets, payloads, keep, parsed: ParsedKeysets::default() };
        service::start(Service { chain, start, folder, recover, sync, alarms }, background, stop)?
    } else {
        let recover = AsNodesDo { keysets, payloads, keep: Nowhere, parsed: ParsedKeysets::default() };
        service::start(Service { chain, start, folder, recover, sync, alarms }, background, stop)?
    };
    Ok(Some(index))
}

/// The pages, over what was followed.
pub(super) fn pages(
    options: &NodeOptions,
    chain: &ParentChain,
    committee: Option<&Committee>,
    index: Arc<Index>,
    retrieve: Retrieve,
    answers: AnswerBudget,
) -> Result<Router, BadLink> {
    let links = Links::of(&options.explorer.transaction_link, &options.explorer.block_link)?;
    let members = committee.map_or(&[][..], |committee| committee.members());
    let names: HashMap<_, _> =
        members.iter().map(|member| (member.public_key.point_bytes(), member.name.clone())).collect();
    let signers = NamedKeysets::new(chain.keysets.clone(), names);
    let payloads = Arc::new(Payloads(retrieve));
    Ok(routes(Arc::new(Explorer::new(index, Arc::new(signers), payloads, links, answers))))
}
