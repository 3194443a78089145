//! Whether the clock can be trusted to delete by.
//!
//! Deleting is the one thing that a wrong clock makes final. So expiry goes on only while the wall clock agrees, to
//! within an hour, with the time that has really passed since it was last written down: on the same boot the kernel's
//! monotonic clock tells that time; across a reboot nothing does, and a gap of more than an hour waits for the
//! operator's word.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bincode::{Decode, Encode};
use rustix::time::{ClockId, clock_gettime};

/// A difference up to this is daily life (slow clocks, leap seconds, a short reboot).
pub const TOLERANCE: Duration = Duration::from_secs(3600);

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

    /// Judges this reading by an earlier one.
    pub fn judge(&self, earlier: &Self) -> ClockVerdict {
        let passed =
            if self.boot == earlier.boot { self.since_boot.saturating_sub(earlier.since_boot) } else { 0 };
        let expected = i128::from(earlier.wall) + i128::from(passed);
        let by = i128::from(self.wall) - expected;
        if by.unsigned_abs() > u128::from(TOLERANCE.as_secs()) {
            ClockVerdict::Jumped { by: i64::try_from(by).unwrap_or(i64::MAX) }
        } else {
            ClockVerdict::Trusted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(wall: u64, since_boot: u64, boot: u8) -> ClockReading {
        ClockReading { wall, since_boot, boot: [boot; 16] }
    }

    #[test]
    fn a_stop_of_any_length_on_one_boot_is_no_jump() {
        let before = reading(1_000_000, 500, 1);
        assert_eq!(reading(1_900_000, 900_500, 1).judge(&before), ClockVerdict::Trusted);
        assert_eq!(reading(1_900_000, 500, 1).judge(&before), ClockVerdict::Jumped { by: 900_000 });
        assert_eq!(reading(900_000, 600, 1).judge(&before), ClockVerdict::Jumped { by: -100_100 });
    }

    #[test]
    fn across_a_reboot_an_hour_is_the_limit() {
        let before = reading(1_000_000, 500, 1);
        assert_eq!(reading(1_003_600, 10, 2).judge(&before), ClockVerdict::Trusted);
        assert_eq!(reading(1_003_601, 10, 2).judge(&before), ClockVerdict::Jumped { by: 3601 });
        assert_eq!(reading(996_399, 10, 2).judge(&before), ClockVerdict::Jumped { by: -3601 });
        assert_eq!(reading(u64::MAX, 10, 2).judge(&before), ClockVerdict::Jumped { by: i64::MAX });
    }
}
