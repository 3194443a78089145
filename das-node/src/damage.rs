//! Which batches on this machine's disk are known to be damaged, and the alarm that says so until they are whole again.

use std::collections::BTreeSet;
use std::sync::Arc;

use das_common::alarm::Alarms;
use das_common::data_hash::DataHash;
use das_common::fault;
use parking_lot::Mutex;

/// Damaged batches that are remembered by name. Where there are more, the alarm stays until the next start: it must not
/// go while something is damaged.
const MAX_DAMAGED: usize = 4096;

/// The damaged batches. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Damage {
    alarms: Alarms,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    hashes: BTreeSet<DataHash>,
    more: bool,
}

impl Damage {
    /// None known yet.
    pub fn new(alarms: Alarms) -> Self {
        Self { alarms, known: Arc::default() }
    }

    /// The bytes of a batch are not those that were stored.
    pub fn found(&self, hash: &DataHash) {
        let mut known = self.known.lock();
        if known.hashes.len() < MAX_DAMAGED {
            known.hashes.insert(*hash);
        } else {
            known.more |= !known.hashes.contains(hash);
        }
        let text = format!("the bytes of {hash} on disk are not those that were stored");
        self.alarms.raise_fault(fault::READ_CORRUPT, text);
    }

    /// A batch is whole again, or gone.
    pub fn ended(&self, hash: &DataHash) {
        let mut known = self.known.lock();
        if known.hashes.is_empty() {
            return;
        }
        // It may have been asked for by its flat hash.
        known.hashes.retain(|other| other != hash && DataHash::of_flat(*other.as_bytes()) != *hash);
        if known.hashes.is_empty() && !known.more {
            self.alarms.clear(fault::READ_CORRUPT.code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_stays_until_the_last_batch_is_whole() {
        let alarms = Alarms::new();
        let damage = Damage::new(alarms.clone());
        let raised = || alarms.is_raised(fault::READ_CORRUPT.code);
        let flat = DataHash::from_bytes([5; 32]);
        damage.found(&DataHash::of(b"one"));
        damage.found(&flat);
        damage.ended(&DataHash::of(b"another"));
        damage.ended(&DataHash::of(b"one"));
        assert!(raised());
        damage.ended(&DataHash::of_flat([5; 32]));
        assert!(!raised());
    }

    #[test]
    fn more_than_can_be_remembered_is_not_forgotten() {
        let alarms = Alarms::new();
        let damage = Damage::new(alarms.clone());
        let hashes: Vec<_> = (0..=MAX_DAMAGED).map(|i| DataHash::of(&i.to_be_bytes())).collect();
        hashes.iter().for_each(|hash| damage.found(hash));
        hashes.iter().for_each(|hash| damage.ended(hash));
        assert!(alarms.is_raised(fault::READ_CORRUPT.code));
    }
}
