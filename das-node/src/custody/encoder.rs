//! The encoder: whole batches into own shards, on one thread that gives way to everything else.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use das_common::committee::CodingId;
use das_common::custody::machine::Event;
use das_common::data_hash::DataHash;
use das_common::erasure::CheckedShard;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::warn;

use super::Shared;
use crate::storage::Lookup;

/// Linux runs a thread of this niceness only when nothing else wants the core, or nearly so.
const NICENESS: i32 = 15;
/// While stores are under way a batch waits, but not for longer than this: under steady load demotion must go on.
const GIVE_WAY: Duration = Duration::from_millis(100);
const GIVE_WAY_STEP: Duration = Duration::from_millis(5);

/// A shard that is computed and not yet written.
pub(super) struct Fresh {
    pub(super) hash: DataHash,
    pub(super) coding: CodingId,
    pub(super) shard: CheckedShard,
}

/// The encoder, from outside.
#[derive(Clone)]
pub(super) struct Encoder {
    work: Sender<(DataHash, CodingId)>,
    fresh: Arc<Mutex<Vec<Fresh>>>,
}

impl Encoder {
    pub(super) fn start(shared: Arc<Shared>) -> io::Result<Self> {
        let (work, received) = channel();
        let fresh = Arc::new(Mutex::new(Vec::new()));
        let (out, runtime) = (Arc::clone(&fresh), Handle::current());
        let place = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("custody-encode".into())
            .spawn(move || run(&shared, &runtime, &received, &out))?;
        place.threads.lock().push(thread);
        Ok(Self { work, fresh })
    }

    pub(super) fn encode(&self, hash: DataHash, coding: CodingId) {
        // The thread has ended only when the node is going down.
        let _ = self.work.send((hash, coding));
    }

    /// The shards computed so far, handed over.
    pub(super) fn take(&self) -> Vec<Fresh> {
        std::mem::take(&mut *self.fresh.lock())
    }
}

fn run(
    shared: &Arc<Shared>,
    runtime: &Handle,
    work: &Receiver<(DataHash, CodingId)>,
    out: &Mutex<Vec<Fresh>>,
) {
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        warn!(%error, "the encoder runs at the priority of everything else");
    }
    // The effects hold the sender and end with the machine's thread.
    while let Ok((hash, coding)) = work.recv() {
        if shared.stop.is_cancelled() {
            return;
        }
        let mut waited = Duration::ZERO;
        while shared.stores.any() && waited < GIVE_WAY {
            std::thread::sleep(GIVE_WAY_STEP);
            waited += GIVE_WAY_STEP;
        }
        shared.tell(encode(shared, runtime, hash, coding, out));
    }
}

fn encode(
    shared: &Shared,
    runtime: &Handle,
    hash: DataHash,
    coding: CodingId,
    out: &Mutex<Vec<Fresh>>,
) -> Event {
    let failed = Event::Failed { hash };
    let Some(part) = shared.part(&coding) else { return failed };
    let Some(index) = part.coding.index_of(&shared.me) else { return failed };
    let batch = match runtime.block_on(shared.store.get(hash)) {
        Ok(Lookup::Found(batch)) => batch,
        Ok(Lookup::Damaged) => {
            shared.scrub.found(&hash);
            return failed;
        }
        Ok(Lookup::Absent | Lookup::Archived { .. } | Lookup::Sharded { .. }) => return failed,
        Err(error) => {
            warn!(%error, %hash, "a batch could not be read to encode it");
            return failed;
        }
    };
    let shard = part.code.encode_one(batch.bytes(), index);
    let (root, length) = (*shard.root(), shard.data_length());
    metrics::counter!("das_custody_encoded_bytes_total").increment(length);
    out.lock().push(Fresh { hash, coding, shard });
    Event::Encoded { hash, coding, root, length }
}
