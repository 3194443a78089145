//! A mirror as a peer: it gathers from the members like one of them, and promises nothing.

use std::sync::Arc;

use das_common::committee::Committee;
use das_common::custody::message::PeerRequest;
use tokio::sync::{Semaphore, mpsc};

use super::answers::whole;
use super::reads::CommitteeReads;
use crate::peer::{PeerEvent, PeerHandle};
use crate::storage::BatchStore;

/// Answers that are made at once.
const AT_ONCE: usize = 16;

/// Begins to answer what members ask of a mirror, and gives what reads over the committee. `committees`: the newest last;
/// `memory`: bytes of all gathers together.
pub fn start_mirror(
    store: &Arc<BatchStore>,
    committees: &[Arc<Committee>],
    (peers, events): (&PeerHandle, mpsc::Receiver<PeerEvent>),
    memory: u64,
) -> CommitteeReads {
    // What a mirror has on disk it has whole, and can fetch again.
    let reads = CommitteeReads::new(Arc::clone(store), peers, committees, None, memory, Box::new(|_| {}));
    tokio::spawn(listen(Arc::clone(store), events));
    reads
}

/// Ends with the peer layer.
async fn listen(store: Arc<BatchStore>, mut events: mpsc::Receiver<PeerEvent>) {
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(event) = events.recv().await {
        // Lists of statements are for those who decide by them; dropped, they go no further from here.
        let PeerEvent::Asked { bytes, reply, .. } = event else { continue };
        match (PeerRequest::from_bytes(&bytes), Arc::clone(&slots).try_acquire_owned()) {
            (Ok(PeerRequest::Whole { hash }), Ok(slot)) => {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    match whole(&store, hash).await {
                        Some(answer) => reply.send(answer.to_bytes().into()),
                        None => reply.busy(),
                    }
                    drop(slot);
                });
            }
            (Ok(_), _) => reply.busy(),
            // Dropped, the question is refused.
            (Err(_), _) => drop(reply),
        }
    }
}
