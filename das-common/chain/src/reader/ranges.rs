//! How many blocks to ask for at once.

/// Full ranges that have to work before a larger one is tried, at first and at most.
const PATIENCE: u32 = 8;
const MOST_PATIENCE: u32 = 1024;

/// The range that an endpoint takes: halved when it refuses, a quarter more after a number of full ranges that worked.
/// That number doubles with every larger range that was refused, so that a fixed limit is seldom run into.
#[derive(Debug, Clone)]
pub struct Ranges {
    most: u64,
    window: u64,
    /// The largest that worked since a smaller one was refused.
    good: u64,
    streak: u32,
    patience: u32,
}

impl Ranges {
    /// Begins with the largest, `most` blocks (at least 1).
    pub fn new(most: u64) -> Self {
        let most = most.max(1);
        Self { most, window: most, good: 0, streak: 0, patience: PATIENCE }
    }

    /// Blocks to ask for.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// So many blocks were answered.
    pub fn worked(&mut self, blocks: u64) {
        self.good = self.good.max(blocks);
        if blocks < self.window || self.window == self.most {
            return;
        }
        self.streak += 1;
        if self.streak >= self.patience {
            self.streak = 0;
            self.window = (self.window + (self.window / 4).max(1)).min(self.most);
        }
    }

    /// So many blocks were refused.
    pub fn refused(&mut self, blocks: u64) {
        self.streak = 0;
        if self.good >= blocks {
            self.good = 0;
        } else if self.good > 0 {
            self.patience = (self.patience * 2).min(MOST_PATIENCE);
        }
        self.window = self.good.max(blocks / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `blocks` blocks from an endpoint that takes `limit`; the number of requests that it refused.
    fn read(ranges: &mut Ranges, limit: u64, mut blocks: u64) -> u32 {
        let mut refused = 0;
        while blocks > 0 {
            let size = ranges.window().min(blocks);
            if size > limit {
                refused += 1;
                ranges.refused(size);
            } else {
                blocks -= size;
                ranges.worked(size);
            }
        }
        refused
    }

    #[test]
    fn a_limit_is_found_soon_and_then_seldom_run_into() {
        for limit in [1, 2, 7, 10, 100, 999, 1000, 5000] {
            let mut ranges = Ranges::new(2000);
            let found = read(&mut ranges, limit, 20 * limit);
            assert!(found <= 12, "{limit}: {found} requests to find it");
            let later = read(&mut ranges, limit, 2000 * limit);
            assert!(later <= 24, "{limit}: {later} requests in vain of 2000 or more");
            assert!(
                ranges.window() <= limit.max(2) * 2 && ranges.window() >= limit.min(2000) / 2,
                "{ranges:?}"
            );
        }
    }

    #[test]
    fn a_limit_that_is_lifted_is_noticed() {
        let mut ranges = Ranges::new(2000);
        read(&mut ranges, 10, 100);
        read(&mut ranges, u64::MAX, 1_000_000);
        assert_eq!(ranges.window(), 2000);
        ranges.refused(1);
        assert_eq!(ranges.window(), 1);
    }
}
