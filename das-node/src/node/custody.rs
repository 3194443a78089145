//! Starting peers and custody, where the committee file asks for them.

use std::sync::Arc;

use das_common::alarm::Alarms;
use das_common::committee::Committee;
use das_common::signer::Signer;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::StartError;
use crate::custody::{Custody, CustodyOptions, CustodyParts, records};
use crate::expiry::ClockWatch;
use crate::options::NodeOptions;
use crate::peer::{PeerHandle, PeerIdentity, PeerNetwork, PeerOptions};
use crate::retrieve::Retrieve;
use crate::storage::{BatchStore, StorageError};
use crate::store::StoresUnderWay;

/// What custody and peers take from the node.
pub(super) struct Base<'a> {
    pub(super) options: &'a NodeOptions,
    pub(super) store: &'a Arc<BatchStore>,
    pub(super) retrieve: &'a Retrieve,
    pub(super) alarms: &'a Alarms,
    pub(super) reserve_bytes: u64,
    pub(super) stop: &'a CancellationToken,
}

/// Whether batches of this committee are to become shards here.
pub(super) fn is_wanted(options: &NodeOptions, committee: &Committee) -> bool {
    committee.data_shards() > 1 && !options.custody.whole_only
}

/// Starts the peer layer of a member, then custody over it.
pub(super) async fn start(
    base: &Base<'_>,
    committee: Committee,
    signer: Arc<dyn Signer>,
    clock: ClockWatch,
    stores: StoresUnderWay,
) -> Result<(Custody, PeerHandle), StartError> {
    let Base { options, store, retrieve, alarms, reserve_bytes, stop } = *base;
    check_peers(options, &committee)?;
    let committees = all_committees(store, options, committee)?;
    let files = &options.data_availability.local_file_storage;
    let identity = identity(options)?;
    let own_key = signer.public_key().clone();
    let (peer_options, parts) = (peer_options(options)?, committees.clone());
    let peers = PeerNetwork::start(peer_options, parts, identity.clone(), Some(signer)).await?;
    let handle = peers.0.clone();
    let forget = retrieve.clone();
    let custody = Custody::start(
        CustodyParts {
            store: Arc::clone(store),
            own_key,
            identity,
            committees,
            peers,
            stores,
            clock,
            alarms: alarms.clone(),
            forget: Box::new(move |hash| forget.forget(hash)),
            stop: stop.clone(),
        },
        CustodyOptions {
            hot_retention: options.custody.hot_retention,
            demotion_patience: options.custody.demotion_patience,
            silence_limit: options.custody.silence_limit,
            max_retention: files.max_retention,
            delete_expired: files.enable_expiry,
            audit_interval: options.custody.audit_interval,
            scrub_interval: options.custody.scrub_interval,
            repair_rate: options.custody.repair_rate.0,
            gather_memory: options.custody.gather_memory.0,
            reserve_bytes,
            data_dir: files.data_dir.clone(),
        },
    )?;
    retrieve.gather_with(custody.reads());
    Ok((custody, handle))
}

/// Starts the peer layer of a mirror that the committee file names; another one reads over REST only.
pub(super) async fn start_mirror(
    base: &Base<'_>,
    committee: Committee,
) -> Result<Option<PeerHandle>, StartError> {
    let Base { options, store, retrieve, .. } = *base;
    let identity = identity(options)?;
    let peer_id = identity.peer_key();
    let committees = all_committees(store, options, committee)?;
    if !committees.iter().any(|committee| committee.mirrors().iter().any(|m| m.peer_key == peer_id)) {
        info!(%peer_id, "the committee file names no [[mirror]] of this peer id; batches are read over REST only");
        return Ok(None);
    }
    let (peers, events) =
        PeerNetwork::start(peer_options(options)?, committees.clone(), identity, None).await?;
    let memory = options.custody.gather_memory.0;
    retrieve.gather_with(crate::custody::start_mirror(store, &committees, (&peers, events), memory));
    info!(%peer_id, "a mirror of the committee: gathers from the members");
    Ok(Some(peers))
}

fn identity(options: &NodeOptions) -> Result<PeerIdentity, StartError> {
    let key_file = options.peer.key_file(&options.data_availability.local_file_storage.data_dir);
    let (identity, wide) = PeerIdentity::load_or_make(&key_file)?;
    if let Some(mode) = wide {
        warn!(file = %key_file.display(), mode = format!("{mode:03o}"), "the peer key can be read by others");
    }
    Ok(identity)
}

fn peer_options(options: &NodeOptions) -> Result<PeerOptions, StartError> {
    let data_dir = &options.data_availability.local_file_storage.data_dir;
    let mut made = options.peer.peer_options(data_dir, options.limits.max_message_size)?;
    made.limits.max_gossip = das_common::custody::message::MAX_GOSSIP_BYTES;
    Ok(made)
}

/// With fewer than K members that can be reached, no whole copy would ever go.
fn check_peers(options: &NodeOptions, committee: &Committee) -> Result<(), StartError> {
    let got = committee.members().iter().filter(|member| member.peer.is_some()).count();
    let needed = committee.threshold();
    if (got as u64) < needed {
        return Err(StartError::TooFewPeers { file: options.committee.file.clone(), got, needed });
    }
    Ok(())
}

/// The committees of all files ever in force, the newest last; the newest is written down.
fn all_committees(
    store: &BatchStore,
    options: &NodeOptions,
    newest: Committee,
) -> Result<Vec<Arc<Committee>>, StartError> {
    let mut all: Vec<_> = former_committees(store, options, &newest)?.into_iter().map(Arc::new).collect();
    if !all.is_empty() {
        info!(former = all.len(), "former committees whose batches are kept readable");
    }
    let text = std::fs::read(&options.committee.file).unwrap_or_default();
    records::remember_committee(store, &newest.coding_id(), &text)?;
    all.push(Arc::new(newest));
    Ok(all)
}

/// The committees of former files; none where no batch becomes a shard.
pub(super) fn former_committees(
    store: &BatchStore,
    options: &NodeOptions,
    newest: &Committee,
) -> Result<Vec<Committee>, StorageError> {
    if !is_wanted(options, newest) {
        return Ok(Vec::new());
    }
    let mut former = Vec::new();
    for text in records::committees(store)? {
        match std::str::from_utf8(&text).map(Committee::parse) {
            Ok(Ok(committee)) if committee.coding_id() != newest.coding_id() => former.push(committee),
            Ok(Ok(_)) => {}
            _ => warn!("a former committee file in the database cannot be read and is left out"),
        }
    }
    Ok(former)
}
