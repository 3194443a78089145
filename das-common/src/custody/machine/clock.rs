//! Whether the clock may be deleted by: a batch that is gone too early is gone for good.

use std::time::Duration;

use super::ledger::Ledger;
use super::{Alarm, Machine, Now};

/// How far the clock may be off the peers' clocks.
pub(super) const TOLERANCE: u64 = 300;
/// A peer's clock is remembered for so many intervals of hellos.
const FRESH: u32 = 20;

/// A member's clock as it was told.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockSeen {
    /// Unix seconds.
    pub(super) wall: u64,
    /// When, by this member's steady clock.
    pub(super) at: Duration,
}

impl<L: Ledger> Machine<L> {
    /// Whether the clock is within [`TOLERANCE`] of the median of the peers' clocks, and did not jump.
    pub(super) fn may_delete(&mut self, now: Now) -> bool {
        let right = now.trusted && self.agrees_with_peers(now);
        self.alarm(Alarm::Clock, !right);
        right
    }

    /// Whether the clock shows what most peers' clocks show.
    pub(super) fn agrees_with_peers(&self, now: Now) -> bool {
        let Some(coding) = self.codings.get(&self.newest) else { return now.trusted };
        let fresh = self.config.hello_interval * FRESH;
        let mut ahead: Vec<i128> = Vec::new();
        for (index, peer) in self.members.iter().enumerate() {
            let Some(clock) = peer.clock.filter(|_| index != self.me) else { continue };
            let passed = now.steady.saturating_sub(clock.at);
            if passed <= fresh && coding.index_of(&peer.key).is_some() {
                ahead.push(i128::from(now.wall) - i128::from(clock.wall) - i128::from(passed.as_secs()));
            }
        }
        let others = coding.members.iter().filter(|key| **key != self.config.me).count();
        if others == 0 {
            // A committee of one has nobody to compare with; that the clock did not jump must do.
            return true;
        }
        if ahead.len() < coding.one_honest().min(others) {
            return false;
        }
        ahead.sort_unstable();
        // Of an even number both middle ones must agree: the stricter reading of a median.
        let middle = [ahead[(ahead.len() - 1) / 2], ahead[ahead.len() / 2]];
        middle.iter().all(|off| off.unsigned_abs() <= u128::from(TOLERANCE))
    }
}
