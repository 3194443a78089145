//! What is under another key than it should be is written anew, a little at a time.
//!
//! **Guarantee.** The old record is freed only after the new one is on disk, synced, and in the index; a power cut that takes
//! the index back finds the new one behind the known end of the log. What was changed, dropped or has expired since it was
//! read is left alone.

use bytes::Bytes;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use tokio::sync::oneshot;

use super::Writer;
use super::room::Purpose;
use crate::storage::StorageError;
use crate::storage::index::{BatchRecord, ShardRecord};
use crate::storage::segment::pack::{PackedShard, ShardHead};
use crate::storage::segment::{Append, RecordHeader, RecordKind};

/// Something to be written anew.
#[derive(Debug)]
pub(in crate::storage) enum Piece {
    /// A whole batch.
    Whole {
        hash: DataHash,
        /// What was known when it was read.
        from: BatchRecord,
        payload: Bytes,
        key_id: u32,
    },
    /// A shard.
    Shard {
        hash: DataHash,
        coding: CodingId,
        /// What was known when it was read.
        from: ShardRecord,
        /// As it was in the log, with the new key.
        shard: PackedShard,
    },
}

/// What is to be written anew. The answer is how many pieces were.
#[derive(Debug)]
pub(in crate::storage) struct Rewrite {
    pub(in crate::storage) pieces: Vec<Piece>,
    pub(in crate::storage) reply: oneshot::Sender<Result<usize, StorageError>>,
}

impl Writer {
    pub(super) fn rewrite(&mut self, rewrite: Rewrite) {
        let Rewrite { pieces, reply } = rewrite;
        // Whoever asked may have gone.
        let _ = reply.send(self.try_rewrite(pieces));
    }

    fn try_rewrite(&mut self, pieces: Vec<Piece>) -> Result<usize, StorageError> {
        let (mut records, mut pack) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Whole { hash, from, payload, key_id } => {
                    let Some(now) = self.index.batch(&hash)? else { continue };
                    if now.payload != from.payload {
                        continue;
                    }
                    let header = RecordHeader {
                        kind: RecordKind::Payload,
                        key_id,
                        length: payload.len() as u64,
                        hash,
                        timeout: now.timeout,
                        stored_at: now.stored_at,
                    };
                    records.push(Append::Batch { header, payload });
                }
                Piece::Shard { hash, coding, from, shard } => {
                    let (Some(now), Some(there)) =
                        (self.index.batch(&hash)?, self.index.shard(&hash, &coding)?)
                    else {
                        continue;
                    };
                    if there != from {
                        continue;
                    }
                    let head = ShardHead { timeout: now.timeout, stored_at: now.stored_at, ..shard.head };
                    pack.push(PackedShard { head, ..shard });
                }
            }
        }
        let count = records.len() + pack.len();
        if !pack.is_empty() {
            records.push(Append::Pack(pack));
        }
        if records.is_empty() {
            return Ok(0);
        }
        let bytes = records.iter().map(Append::disk_bytes).sum();
        let open = self.segment_with_room(bytes, Purpose::Rewriting)?;
        self.write(open, &records, true)?;
        Ok(count)
    }
}
