//! What members say and ask, answered from the own disk only.

use std::sync::Arc;

use bytes::Bytes;
use das_common::binding::MemberId;
use das_common::committee::CodingId;
use das_common::custody::evidence::{AuditAnswer, AuditQuestion, Leaf};
use das_common::custody::machine::Event;
use das_common::custody::message::{
    Gossip, MAX_BUCKET_ENTRIES, MAX_BUCKETS, MAX_CERTIFICATES, PeerRequest, PeerResponse,
};
use das_common::data_hash::DataHash;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use super::Shared;
use super::effects::verify;
use crate::clock::unix_time;
use crate::peer::{PeerEvent, Reply, Verdict};
use crate::storage::{BatchStore, Lookup, StorageError};

/// Answers that are made at once.
const AT_ONCE: usize = 16;

/// Hears the peer layer until it ends.
pub(super) async fn listen(shared: Arc<Shared>, mut events: mpsc::Receiver<PeerEvent>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(event) = events.recv().await {
        match event {
            PeerEvent::Up(member) => {
                if let Some(member) = shared.members.keys.get(&member) {
                    shared.tell(Event::Connected { member: *member });
                }
            }
            PeerEvent::Down(_) => {}
            PeerEvent::Gossip { from, bytes, verdict } => hear(&shared, from, &bytes, verdict),
            PeerEvent::Asked { from, bytes, reply } => match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move {
                        answer(&shared, from, bytes, reply).await;
                        drop(slot);
                    });
                }
                Err(_) => reply.busy(),
            },
        }
    }
}

/// A list that its member published itself: nobody publishes for another.
fn hear(shared: &Shared, from: MemberId, bytes: &[u8], verdict: Verdict) {
    let Ok(Gossip::List(list)) = Gossip::from_bytes(bytes) else { return verdict.reject() };
    let known = list.read().ok().is_some_and(|list| shared.part(&list.coding).is_some());
    if !known {
        // Of a coding that is not known here (yet): neither good nor bad.
        return drop(verdict);
    }
    match verify(shared, list) {
        Some((member, list)) if shared.members.ids.get(&member) == Some(&from) => {
            verdict.accept();
            // When too much waits it is left out: the next hello shows that a list was missed.
            if let Ok(_slot) = shared.queue.try_acquire() {
                shared.tell(Event::List { member, list });
            }
        }
        _ => verdict.reject(),
    }
}

async fn answer(shared: &Arc<Shared>, from: MemberId, bytes: Bytes, reply: Reply) {
    let request = match PeerRequest::from_bytes(&bytes) {
        Ok(request) => request,
        Err(error) => {
            debug!(%from, %error, "a question that cannot be read");
            return;
        }
    };
    let answer = match request {
        PeerRequest::Hello(hello) => {
            let Some(member) = shared.members.keys.get(&from).copied() else { return };
            let answer = shared.ask(move |machine, now| machine.answer_hello(&member, &hello, now)).await;
            answer.and_then(Result::ok).flatten().map(PeerResponse::Hello)
        }
        PeerRequest::Lists { storage_id, from } => {
            let lists = shared.ask(move |machine, _| machine.lists(&storage_id, from)).await;
            lists.and_then(Result::ok).map(|(lists, next)| PeerResponse::Lists { lists, next })
        }
        PeerRequest::Shard { hash, coding } => shard(shared, hash, coding).await,
        PeerRequest::Whole { hash } => whole(&shared.store, hash).await,
        PeerRequest::Audit(question) => audit(shared, question).await,
        PeerRequest::BucketDigests { level, first, count } => {
            let count = count.min(u16::try_from(MAX_BUCKETS).unwrap_or(u16::MAX));
            let look = move |store: &BatchStore| store.certificate_digests(level, first, count);
            from_disk(shared, look).await.map(PeerResponse::BucketDigests)
        }
        PeerRequest::BucketEntries { bucket, after } => {
            let look = move |store: &BatchStore| store.certificates_in(bucket, after, MAX_BUCKET_ENTRIES);
            from_disk(shared, look).await.map(PeerResponse::BucketEntries)
        }
        PeerRequest::AskCertificates(hashes) => {
            let look = move |store: &BatchStore| {
                let found = hashes.iter().take(MAX_CERTIFICATES).map(|hash| store.certificate(hash));
                found.filter_map(Result::transpose).collect::<Result<Vec<_>, _>>()
            };
            from_disk(shared, look).await.map(PeerResponse::Certificates)
        }
    };
    match answer {
        Some(answer) => reply.send(answer.to_bytes().into()),
        None => reply.busy(),
    }
}

/// A look at the index, off the threads that serve requests; `None` when it cannot be told.
async fn from_disk<T: Send + 'static>(
    shared: &Shared,
    look: impl FnOnce(&BatchStore) -> Result<T, StorageError> + Send + 'static,
) -> Option<T> {
    let store = Arc::clone(&shared.store);
    let found = tokio::task::spawn_blocking(move || look(&store)).await.ok()?;
    found.inspect_err(|error| warn!(%error, "certificates could not be read")).ok()
}

/// A whole copy from the own disk; `None` when it cannot be told.
pub(super) async fn whole(store: &Arc<BatchStore>, hash: DataHash) -> Option<PeerResponse> {
    match store.get(hash).await {
        Ok(Lookup::Found(batch)) => Some(PeerResponse::Whole(Some(batch.into_bytes().into()))),
        Ok(Lookup::Absent | Lookup::Archived { .. } | Lookup::Sharded { .. }) => {
            Some(PeerResponse::Whole(None))
        }
        Ok(Lookup::Damaged) | Err(_) => None,
    }
}

async fn shard(shared: &Shared, hash: DataHash, coding: CodingId) -> Option<PeerResponse> {
    let part = shared.part(&coding)?;
    match shared.store.read_shard(hash, coding, &part.code).await {
        Ok(Lookup::Found(shard)) => Some(PeerResponse::Shard(Some(shard.into_shard().into()))),
        Ok(Lookup::Damaged) => {
            shared.scrub.found(&hash);
            None
        }
        Ok(_) => match shared.store.held(&hash) {
            Ok(Some(held)) if held.whole => Some(PeerResponse::OnlyWhole { data_length: held.length }),
            Ok(_) => Some(PeerResponse::Shard(None)),
            Err(_) => None,
        },
        Err(error) => {
            warn!(%error, %hash, "a shard could not be read");
            None
        }
    }
}

/// Shows a leaf, or says under signature that it is not here.
async fn audit(shared: &Shared, question: AuditQuestion) -> Option<PeerResponse> {
    let part = shared.part(&question.coding)?;
    let leaf = match shared.store.read_shard(question.hash, question.coding, &part.code).await {
        Ok(Lookup::Found(shard)) => shard.prove_leaf(question.leaf).ok().map(|proof| Leaf::of(&proof)),
        Ok(Lookup::Damaged) => {
            shared.scrub.found(&question.hash);
            None
        }
        Ok(_) => {
            // It should be here, or the question is about something else: custody looks at it anew.
            if let Ok(_slot) = shared.queue.try_acquire() {
                shared.tell(Event::Changed { hash: question.hash });
            }
            None
        }
        Err(_) => return None,
    };
    let answer = AuditAnswer { question, answered_at: unix_time(), leaf };
    Some(PeerResponse::Audit(answer.sign_with(|bytes| super::signer::sign(&shared.identity, bytes))))
}
