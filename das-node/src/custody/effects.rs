//! What the machine wants done, done.

use std::sync::Arc;
use std::time::Duration;

use das_common::committee::CodingId;
use das_common::custody::machine::{Alarm, Effect, Event};
use das_common::custody::message::{Gossip, PeerRequest, PeerResponse};
use das_common::custody::{Hello, MemberKey, PeerPublicKey, SignedList, StorageId, VerifiedList};
use das_common::data_hash::DataHash;
use das_common::fault::{self, Fault};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::encoder::Encoder;
use super::source::ask;
use super::{MemberId, Shared};
use crate::clock::unix_time;
use crate::storage::{DropOutcome, NewShard};

/// A question about who a member is, or for its lists, is small.
const PATIENCE: Duration = Duration::from_secs(10);
/// Under steady stores what syncs the disk waits so long for a moment without any. One sync of much disturbs fewer of them
/// than many of little.
const GIVE_WAY: Duration = Duration::from_secs(4);

/// Carries out effects; what they come to goes back to the machine as events.
pub(super) struct Effects {
    shared: Arc<Shared>,
    encoder: Encoder,
    runtime: Handle,
    /// One after the other, so that the share of the network that repair takes is what the option says.
    repairs: Arc<Semaphore>,
    drops: Vec<(DataHash, u64)>,
    expiries: Vec<(DataHash, u64)>,
}

impl Effects {
    pub(super) fn new(shared: Arc<Shared>, encoder: Encoder, runtime: Handle) -> Self {
        let repairs = Arc::new(Semaphore::new(1));
        Self { shared, encoder, runtime, repairs, drops: Vec::new(), expiries: Vec::new() }
    }

    /// Begins what is to be done. Drops and deletions wait for [`Effects::flush`], to go together.
    pub(super) fn perform(&mut self, effect: Effect) {
        let shared = Arc::clone(&self.shared);
        match effect {
            Effect::Encode { hash, coding } => {
                debug!(%hash, "a batch is to be encoded");
                self.encoder.encode(hash, coding);
            }
            Effect::SyncShards => self.sync_shards(),
            Effect::Drop { hash, promise } => self.drops.push((hash, promise)),
            Effect::Expire { hash, promise } => self.expiries.push((hash, promise)),
            Effect::MakeWhole { hash, until, why, roots } => {
                debug!(%hash, ?why, "making a batch whole");
                let named = roots.into_iter().map(|(coding, _)| coding).collect();
                let repairs = Arc::clone(&self.repairs);
                self.runtime.spawn(async move {
                    let _turn = repairs.acquire_owned().await;
                    let event = make_whole(&shared, hash, until, named).await;
                    shared.tell(event);
                });
            }
            Effect::Keep { hash, until } => {
                self.runtime.spawn(async move {
                    shared.tell(match shared.store.extend(hash, until, unix_time()).await {
                        Ok(Some(_)) => Event::Kept { hash },
                        Ok(None) => Event::Failed { hash },
                        Err(error) => {
                            warn!(%error, %hash, "a promise could not be extended");
                            Event::Failed { hash }
                        }
                    });
                });
            }
            Effect::Publish(list) => {
                debug!(statements = list.list().entries.len(), "a list of statements goes out");
                self.runtime.spawn(async move { publish(&shared, &list).await });
            }
            Effect::Hello { member, hello } => {
                self.runtime.spawn(async move { hello_to(&shared, member, hello).await });
            }
            Effect::AskLists { member, storage_id, from } => {
                self.runtime.spawn(async move { ask_lists(&shared, member, storage_id, from).await });
            }
            Effect::Evidence { member, evidence } => {
                self.runtime.spawn(async move { shared.keep_evidence(member, evidence).await });
            }
            Effect::Alarm { alarm, raised } => set_alarm(&shared, alarm, raised),
        }
    }

    /// Begins the drops and deletions collected.
    pub(super) fn flush(&mut self) {
        if !self.drops.is_empty() {
            let (shared, drops) = (Arc::clone(&self.shared), std::mem::take(&mut self.drops));
            self.runtime.spawn(async move { drop_all(&shared, drops).await });
        }
        if !self.expiries.is_empty() {
            let (shared, expiries) = (Arc::clone(&self.shared), std::mem::take(&mut self.expiries));
            self.runtime.spawn(async move { expire_all(&shared, expiries).await });
        }
    }

    fn sync_shards(&self) {
        let (shared, fresh) = (Arc::clone(&self.shared), self.encoder.take());
        self.runtime.spawn(async move {
            let now = unix_time();
            let new = |fresh: super::encoder::Fresh| NewShard {
                hash: fresh.hash,
                coding: fresh.coding,
                shard: fresh.shard,
                timeout: None,
                now,
            };
            let shards: Vec<NewShard> = fresh.into_iter().map(new).collect();
            if shards.is_empty() {
                return shared.tell(Event::ShardsSynced);
            }
            shared.stores.quiet(GIVE_WAY).await;
            let hashes: Vec<DataHash> = shards.iter().map(|shard| shard.hash).collect();
            debug!(shards = hashes.len(), "shards are being written");
            match shared.store.put_shards(shards).await {
                Ok(stored) => {
                    debug!(shards = hashes.len(), "shards are on disk");
                    shared.tell(Event::ShardsSynced);
                    // A batch that expired meanwhile has no use for a shard.
                    let gone = hashes.into_iter().zip(stored).filter(|(_, stored)| !stored);
                    gone.for_each(|(hash, _)| shared.tell(Event::Changed { hash }));
                }
                Err(error) => {
                    warn!(%error, "shards could not be written");
                    shared.tell(Event::SyncFailed);
                }
            }
        });
    }
}

async fn make_whole(shared: &Shared, hash: DataHash, until: u64, named: Vec<CodingId>) -> Event {
    shared.reads.forget_absent(&hash);
    let batch = match shared.reads.gather_under(&hash, &named).await {
        Ok(Some(batch)) => batch,
        Ok(None) => return Event::Failed { hash },
        Err(error) => {
            info!(%error, %hash, "a batch cannot be made whole yet");
            return Event::Failed { hash };
        }
    };
    let length = batch.bytes().len() as u64;
    let stored = shared.store.put(&batch, until, unix_time()).await;
    metrics::counter!("das_custody_repaired_bytes_total").increment(length);
    // The next one waits until this one's share of time is over.
    let share = Duration::from_secs_f64(length as f64 / shared.options.repair_rate.max(1) as f64);
    tokio::time::sleep(share.min(Duration::from_secs(600))).await;
    match stored {
        Ok(_) => Event::Whole { hash },
        Err(error) => {
            warn!(%error, %hash, "a batch that was gathered could not be stored");
            Event::Failed { hash }
        }
    }
}

async fn drop_all(shared: &Shared, drops: Vec<(DataHash, u64)>) {
    shared.stores.quiet(GIVE_WAY).await;
    debug!(copies = drops.len(), "whole copies are being dropped");
    let hashes: Vec<DataHash> = drops.iter().map(|(hash, _)| *hash).collect();
    match shared.store.drop_whole(drops).await {
        Ok(outcomes) => {
            debug!(copies = outcomes.len(), "whole copies are dropped");
            for (hash, outcome) in hashes.into_iter().zip(outcomes) {
                shared.tell(Event::Dropped { hash, done: matches!(outcome, DropOutcome::Dropped) });
            }
        }
        Err(error) => {
            warn!(%error, "whole copies could not be dropped");
            hashes.into_iter().for_each(|hash| shared.tell(Event::Dropped { hash, done: false }));
        }
    }
}

async fn expire_all(shared: &Shared, expiries: Vec<(DataHash, u64)>) {
    let hashes: Vec<DataHash> = expiries.iter().map(|(hash, _)| *hash).collect();
    shared.stores.quiet(GIVE_WAY).await;
    let gone = shared.store.expire_batches(expiries).await;
    if let Err(error) = &gone {
        warn!(%error, "expired batches could not be deleted");
    }
    for hash in hashes {
        let done = gone.is_ok() && matches!(shared.store.held(&hash), Ok(None));
        if done {
            (shared.forget)(&hash);
        }
        shared.tell(Event::Expired { hash, done });
    }
}

async fn publish(shared: &Shared, list: &VerifiedList) {
    // Who misses it asks for it: every hello shows the counter.
    if let Err(error) = shared.peers.publish(Gossip::List(list.signed().clone()).to_bytes().into()).await {
        debug!(%error, "a list of statements was not published");
    }
}

async fn hello_to(shared: &Shared, member: MemberKey, hello: Hello) {
    let Some(id) = shared.members.ids.get(&member) else { return };
    match ask(&shared.peers, *id, &PeerRequest::Hello(hello), PATIENCE).await {
        Ok(PeerResponse::Hello(hello)) => shared.tell(Event::HelloAnswered { member, hello }),
        Ok(_) => warn!(member = %id, "a member answered a hello with something else"),
        Err(error) => debug!(?error, member = %id, "no answer to a hello"),
    }
}

async fn ask_lists(shared: &Shared, member: MemberKey, storage_id: StorageId, from: u64) {
    let Some(id): Option<&MemberId> = shared.members.ids.get(&member) else { return };
    let request = PeerRequest::Lists { storage_id, from };
    let (lists, next) = match ask(&shared.peers, *id, &request, PATIENCE).await {
        Ok(PeerResponse::Lists { lists, next }) => (lists, next),
        other => {
            debug!(member = %id, failed = other.is_err(), "no lists in answer to a question for lists");
            (Vec::new(), from)
        }
    };
    let lists = lists.into_iter().filter_map(|list| verify(shared, list)).collect();
    shared.tell(Event::ListsAnswered { member, storage_id, from, lists, next });
}

/// Checks a list against the peer key of the member that it says it is of.
pub(super) fn verify(shared: &Shared, list: SignedList) -> Option<(MemberKey, VerifiedList)> {
    let said = list.read().ok()?;
    let part = shared.part(&said.coding)?;
    let member = *part.coding.members.get(usize::from(said.member))?;
    let key = shared.peer_key(&member)?;
    list.verify(&PeerPublicKey(*key.as_bytes())).ok().map(|list| (member, list))
}

fn set_alarm(shared: &Shared, alarm: Alarm, raised: bool) {
    let (fault, member): (&'static Fault, Option<MemberKey>) = match alarm {
        Alarm::Suspect => (fault::CUSTODY_SUSPECT, None),
        Alarm::RolledBack => (fault::CUSTODY_ROLLED_BACK, None),
        Alarm::Clock => (fault::CUSTODY_CLOCK, None),
        Alarm::NoRoom => (fault::CUSTODY_NO_ROOM, None),
        Alarm::WrongRoot { member } => (fault::CUSTODY_WRONG_ROOT, Some(member)),
        Alarm::SameCounter { member } => (fault::CUSTODY_SAME_COUNTER, Some(member)),
        Alarm::OldStorageId { member } => (fault::CUSTODY_OLD_STORAGE, Some(member)),
        Alarm::TooManyUnheld { member } => (fault::CUSTODY_UNHELD, Some(member)),
        Alarm::Silent { member } => (fault::PEER_SILENT, Some(member)),
        Alarm::OtherCoding { member } => (fault::PEER_OTHER_CODING, Some(member)),
    };
    let of = member.map(|member| match shared.members.names.get(&member) {
        Some(name) => name.clone(),
        None => const_hex::encode(&member.as_bytes()[..4]),
    });
    shared.alarm(fault, of, raised);
}
