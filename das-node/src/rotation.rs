//! In the background, everything on the disk is brought under the storage key that is active now.

use std::sync::Arc;
use std::time::Duration;

use das_common::data_hash::DataHash;
use tracing::{info, warn};

use crate::damage::Damage;
use crate::storage::{BatchStore, Form};

/// Written anew in one step: a store that comes meanwhile waits for no more than this.
const STEP_BYTES: u64 = 1 << 20;
/// The pause after an error, and between two rounds when something is left that could not be read.
const PAUSE: Duration = Duration::from_secs(15);

/// What it takes.
pub(crate) struct Rotation {
    pub(crate) store: Arc<BatchStore>,
    /// Hears of what cannot be read.
    pub(crate) damage: Damage,
    /// The speed; 0: nothing is done.
    pub(crate) bytes_a_second: u64,
}

impl Rotation {
    /// Works until nothing is left. What is stored meanwhile is under the active key already.
    pub(crate) async fn run(self) {
        let left = self.left();
        if left == 0 {
            return;
        }
        if self.bytes_a_second == 0 {
            info!(
                bytes = left,
                "what is under another storage key stays so: storage-encryption.rotation-speed is 0"
            );
            return;
        }
        info!(bytes = left, "writing anew what is under another storage key");
        let mut cursor = None;
        loop {
            cursor = self.step(cursor).await;
            if self.left() == 0 {
                break;
            }
            if cursor.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        info!("everything is under the active storage key; former keys are needed no longer");
    }

    fn left(&self) -> u64 {
        match self.store.keys() {
            Ok(keys) => keys.left_bytes,
            Err(error) => {
                warn!(%error, "the index does not say what is under which storage key");
                u64::MAX
            }
        }
    }

    /// One step; where the next one begins.
    async fn step(&self, cursor: Option<DataHash>) -> Option<DataHash> {
        match self.store.rekey_step(cursor, STEP_BYTES.min(self.bytes_a_second)).await {
            Ok(step) => {
                for (hash, form) in &step.damaged {
                    warn!(%hash, ?form, "damaged on disk: it stays under its key until it is healed");
                    // Of shards the scrub keeps account, which mends them.
                    if *form == Form::Whole {
                        self.damage.found(hash);
                    }
                }
                let seconds = step.bytes as f64 / self.bytes_a_second as f64;
                tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
                step.next
            }
            Err(error) => {
                warn!(%error, "nothing can be written anew under the active storage key; it goes on later");
                tokio::time::sleep(PAUSE).await;
                cursor
            }
        }
    }
}
