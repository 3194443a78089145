//! Whether the clock can be trusted to delete by.
//!
//! Deleting is the one thing that a wrong clock makes final. So expiry goes on only while the wall clock agrees, to
//! within an hour, with the time that has really passed: on one boot the kernel's monotonic clock tells that time,
//! and the first reading of the boot is what every later one is held against, so that many small steps count as what
//! they are together. Across a reboot nothing tells the time; a gap of more than an hour waits for the operator's
//! word, and what shorter gaps exceed a reboot's usual time by adds up towards the same hour.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bincode::{Decode, Encode};
use rustix::time::{ClockId, clock_gettime};

/// A difference up to this is daily life (slow clocks, leap seconds, a short reboot).
pub const TOLERANCE: Duration = Duration::from_secs(3600);

/// A reboot takes so long at most, and a clock is set right by so much after it; what goes beyond may be an error.
const REBOOT: Duration = Duration::from_secs(300);

/// What the clocks showed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ClockReading {
    /// Unix seconds.
    pub wall: u64,
    /// Seconds since boot, those of sleep included.
    pub since_boot: u64,
    /// Names the boot.
    pub boot: [u8; 16],
}

/// What is to be thought of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockVerdict {
    /// It went on as time does.
    Trusted,
    /// It is off by so many seconds from what it should show (positive: ahead).
    Jumped {
        /// Seconds ahead (negative: behind).
        by: i64,
    },
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl ClockReading {
    /// Reads the clocks.
    pub fn now() -> Self {
        let since_boot = clock_gettime(ClockId::Boottime).tv_sec.unsigned_abs();
        let mut boot = [0; 16];
        // Without the file (not Linux) every start counts as a reboot: stricter, never laxer.
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        if const_hex::decode_to_slice(&digits, &mut boot).is_err() {
            boot = rand::random();
        }
        Self { wall: unix_time(), since_boot, boot }
    }

    /// By how many seconds the wall clock is ahead (negative: behind) of what an earlier reading and the kernel's count
    /// of the seconds since make it. Across a reboot no second is known to have passed.
    fn off_from(&self, earlier: &Self) -> i64 {
        let passed =
            if self.boot == earlier.boot { self.since_boot.saturating_sub(earlier.since_boot) } else { 0 };
        let expected = i128::from(earlier.wall) + i128::from(passed);
        i64::try_from(i128::from(self.wall) - expected).unwrap_or(i64::MAX)
    }
}

/// What is remembered of the clock, across restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ClockHistory {
    /// The first reading of this boot.
    first: ClockReading,
    /// The last one that was trusted.
    last: ClockReading,
    /// Seconds that the clock may have been wrong by before the first reading.
    carried: u64,
}

impl ClockHistory {
    /// Takes this reading for right.
    pub fn trusting(now: ClockReading) -> Self {
        Self { first: now, last: now, carried: 0 }
    }

    /// Judges a new reading, and takes it up if it can be trusted.
    pub fn judge(&mut self, now: ClockReading) -> ClockVerdict {
        let next = if now.boot == self.first.boot {
            Self { last: now, ..*self }
        } else {
            let gap = now.off_from(&self.last).unsigned_abs();
            let on_last_boot = self.last.off_from(&self.first).unsigned_abs();
            let unusual = |seconds: u64| seconds.saturating_sub(REBOOT.as_secs());
            let carried = self.carried.saturating_add(unusual(on_last_boot)).saturating_add(unusual(gap));
            if gap > TOLERANCE.as_secs() || carried > TOLERANCE.as_secs() {
                return ClockVerdict::Jumped { by: now.off_from(&self.last) };
            }
            Self { first: now, last: now, carried }
        };
        let by = now.off_from(&next.first);
        if by.unsigned_abs().saturating_add(next.carried) > TOLERANCE.as_secs() {
            return ClockVerdict::Jumped { by };
        }
        *self = next;
        ClockVerdict::Trusted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: u64, since_boot: u64, boot: u8) -> ClockReading {
        ClockReading { wall, since_boot, boot: [boot; 16] }
    }

    fn judge_after(before: ClockReading, now: ClockReading) -> ClockVerdict {
        ClockHistory::trusting(before).judge(now)
    }

    #[test]
    fn a_stop_of_any_length_on_one_boot_is_no_jump() {
        let before = reading(1_000_000, 500, 1);
        assert_eq!(judge_after(before, reading(1_900_000, 900_500, 1)), ClockVerdict::Trusted);
        assert_eq!(judge_after(before, reading(1_900_000, 500, 1)), ClockVerdict::Jumped { by: 900_000 });
        assert_eq!(judge_after(before, reading(900_000, 600, 1)), ClockVerdict::Jumped { by: -100_100 });
    }

    #[test]
    fn across_a_reboot_an_hour_is_the_limit() {
        let before = reading(1_000_000, 500, 1);
        assert_eq!(judge_after(before, reading(1_003_600, 10, 2)), ClockVerdict::Trusted);
        assert_eq!(judge_after(before, reading(1_003_601, 10, 2)), ClockVerdict::Jumped { by: 3601 });
        assert_eq!(judge_after(before, reading(996_399, 10, 2)), ClockVerdict::Jumped { by: -3601 });
        assert_eq!(judge_after(before, reading(u64::MAX, 10, 2)), ClockVerdict::Jumped { by: i64::MAX });
    }

    #[test]
    fn steps_that_are_small_each_are_held_against_the_hour_together() {
        // On one boot: 59 minutes ahead, and a minute of real time later once more.
        let mut history = ClockHistory::trusting(reading(1_000_000, 500, 1));
        assert_eq!(history.judge(reading(1_003_600, 560, 1)), ClockVerdict::Trusted);
        assert_eq!(history.judge(reading(1_007_200, 620, 1)), ClockVerdict::Jumped { by: 7080 });
        // A clock that is right again is trusted again.
        assert_eq!(history.judge(reading(1_000_180, 680, 1)), ClockVerdict::Trusted);

        // Across reboots.
        let mut history = ClockHistory::trusting(reading(1_000_000, 500, 1));
        assert_eq!(history.judge(reading(1_003_500, 10, 2)), ClockVerdict::Trusted);
        assert_eq!(history.judge(reading(1_007_000, 10, 3)), ClockVerdict::Jumped { by: 3500 });

        // Many ordinary reboots are no error of the clock.
        let mut history = ClockHistory::trusting(reading(1_000_000, 500, 1));
        for boot in 2..=250 {
            let now = reading(1_000_000 + u64::from(boot) * 200, 10, boot);
            assert_eq!(history.judge(now), ClockVerdict::Trusted);
        }
    }
}
