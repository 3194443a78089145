//! How much of what was already answered may stay in memory for members that are late: pure bookkeeping.
//!
//! A batch whose certificate was handed out is kept only so that late members get it too. The batches kept so are
//! bounded in bytes and number; beyond the bounds the oldest are let go, since their members have had the longest time.

use std::collections::BTreeMap;

/// What is kept, by age. `T` lets a batch go when it is dropped or told to.
#[derive(Debug)]
pub struct Backlog<T> {
    max_bytes: usize,
    max_batches: usize,
    bytes: usize,
    next: u64,
    kept: BTreeMap<u64, (usize, T)>,
}

impl<T> Backlog<T> {
    /// Keeps at most `max_bytes` bytes in at most `max_batches` batches.
    pub fn new(max_bytes: usize, max_batches: usize) -> Self {
        Self { max_bytes, max_batches, bytes: 0, next: 0, kept: BTreeMap::new() }
    }

    /// Adds the newest batch. Gives its id, and what must be let go for it, which may be the batch itself.
    pub fn add(&mut self, bytes: usize, item: T) -> (u64, Vec<T>) {
        let id = self.next;
        self.next += 1;
        self.bytes += bytes;
        self.kept.insert(id, (bytes, item));
        let mut gone = Vec::new();
        while self.bytes > self.max_bytes || self.kept.len() > self.max_batches {
            let Some((_, (bytes, item))) = self.kept.pop_first() else { break };
            self.bytes -= bytes;
            gone.push(item);
        }
        (id, gone)
    }

    /// The batch needs no memory any more. Nothing happens if it was let go before.
    pub fn done(&mut self, id: u64) {
        if let Some((bytes, _)) = self.kept.remove(&id) {
            self.bytes -= bytes;
        }
    }

    /// Bytes kept now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Batches kept now.
    pub fn batches(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn never_above_the_limits_and_never_lets_go_of_a_newer_one(
            limit in 0_usize..200,
            batches in 0_usize..8,
            steps in prop::collection::vec((0_usize..100, any::<bool>(), any::<prop::sample::Index>()), 0..60)
        ) {
            let mut backlog = Backlog::new(limit, batches);
            let mut mirror: Vec<(u64, usize)> = Vec::new();
            for (bytes, finishes, index) in steps {
                let expected_id = backlog.next;
                let (id, gone) = backlog.add(bytes, expected_id);
                prop_assert_eq!(id, expected_id);
                mirror.push((id, bytes));
                for gone in gone {
                    prop_assert_eq!(mirror.remove(0).0, gone, "the oldest goes first");
                }
                if finishes && !mirror.is_empty() {
                    let (id, _) = mirror.remove(index.index(mirror.len()));
                    backlog.done(id);
                    backlog.done(id);
                }
                prop_assert_eq!(backlog.bytes(), mirror.iter().map(|(_, bytes)| bytes).sum::<usize>());
                prop_assert_eq!(backlog.batches(), mirror.len());
                prop_assert!(backlog.bytes() <= limit && backlog.batches() <= batches);
            }
        }
    }
}
