//! Starting peers and custody, where the committee file asks for them.

use std::sync::Arc;

use das_common::alarm::Alarms;
use das_common::committee::Committee;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::StartError;
use crate::custody::{Custody, CustodyOptions, CustodyParts, records};
use crate::expiry::ClockWatch;
use crate::options::NodeOptions;
use crate::peer::{PeerHandle, PeerIdentity, PeerNetwork};
use crate::retrieve::Retrieve;
use crate::signer::Signer;
use crate::storage::BatchStore;
use crate::store::StoresUnderWay;

/// What custody takes from the node.
pub(super) struct Base<'a> {
    pub(super) options: &'a NodeOptions,
    pub(super) store: &'a Arc<BatchStore>,
    pub(super) retrieve: &'a Retrieve,
    pub(super) alarms: &'a Alarms,
    pub(super) stores: StoresUnderWay,
    pub(super) stop: &'a CancellationToken,
}

/// Whether batches of this committee are to become shards here.
pub(super) fn is_wanted(options: &NodeOptions, committee: &Committee) -> bool {
    committee.data_shards() > 1 && !options.custody.whole_only
}

/// Starts the peer layer, then custody over it.
pub(super) async fn start(
    base: Base<'_>,
    committee: Committee,
    signer: Arc<dyn Signer>,
    clock: ClockWatch,
) -> Result<(Custody, PeerHandle), StartError> {
    let Base { options, store, retrieve, alarms, stores, stop } = base;
    check_peers(options, &committee)?;
    let committees = all_committees(store, options, committee)?;
    let files = &options.data_availability.local_file_storage;
    let key_file = options.peer.key_file(&files.data_dir);
    let (identity, wide) = PeerIdentity::load_or_make(&key_file)?;
    if let Some(mode) = wide {
        warn!(file = %key_file.display(), mode = format!("{mode:03o}"), "the peer key can be read by others");
    }
    let mut peer_options = options.peer.peer_options(&files.data_dir, options.limits.max_message_size)?;
    peer_options.limits.max_gossip = das_common::custody::message::MAX_GOSSIP_BYTES;
    let own_key = signer.public_key().clone();
    let peers = PeerNetwork::start(peer_options, committees.clone(), identity.clone(), Some(signer)).await?;
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
        },
    )?;
    retrieve.gather_with(custody.clone());
    Ok((custody, handle))
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
    let text = std::fs::read(&options.committee.file).unwrap_or_default();
    records::remember_committee(store, &newest.coding_id(), &text)?;
    let mut all = Vec::new();
    for text in records::committees(store)? {
        match std::str::from_utf8(&text).map(Committee::parse) {
            Ok(Ok(former)) if former.coding_id() != newest.coding_id() => all.push(Arc::new(former)),
            Ok(Ok(_)) => {}
            _ => warn!("a former committee file in the database cannot be read and is left out"),
        }
    }
    if !all.is_empty() {
        info!(former = all.len(), "former committees whose batches are kept readable");
    }
    all.push(Arc::new(newest));
    Ok(all)
}
