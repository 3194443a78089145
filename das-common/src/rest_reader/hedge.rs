//! When the next endpoints are asked although the first have not answered yet: hedging, as pure code.
//!
//! Once the time in which 95 % of the recent reads were answered has passed, the one waited for is among the slow
//! 5 % or hangs; asking somebody else then costs at most one read in twenty.

use std::collections::VecDeque;
use std::time::Duration;

const REMEMBERED: usize = 128;
/// Fewer observations than this say nothing about a 95th percentile.
const ENOUGH: usize = 8;

/// Bounds of the wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HedgeOptions {
    /// Wait at least this long, lest small reads on a fast network double the load.
    pub min_wait: Duration,
    /// Wait this long until enough reads have been observed.
    pub first_wait: Duration,
    /// Wait at most this long whatever was observed (`wait-before-try-next`).
    pub max_wait: Duration,
}

impl Default for HedgeOptions {
    fn default() -> Self {
        Self {
            min_wait: Duration::from_millis(5),
            first_wait: Duration::from_millis(100),
            max_wait: Duration::from_secs(2),
        }
    }
}

/// The latencies of recent successful reads.
#[derive(Debug, Clone)]
pub struct Hedge {
    options: HedgeOptions,
    latencies: VecDeque<Duration>,
}

impl Hedge {
    /// Nothing observed yet.
    pub fn new(options: HedgeOptions) -> Self {
        Self { options, latencies: VecDeque::with_capacity(REMEMBERED) }
    }

    /// A read succeeded in this time.
    pub fn observe(&mut self, latency: Duration) {
        if self.latencies.len() == REMEMBERED {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency);
    }

    /// The 95th percentile of what was observed; `None` before there is enough.
    pub fn p95(&self) -> Option<Duration> {
        if self.latencies.len() < ENOUGH {
            return None;
        }
        let mut sorted: Vec<_> = self.latencies.iter().copied().collect();
        let rank = (sorted.len() * 95).div_ceil(100) - 1;
        let (_, value, _) = sorted.select_nth_unstable(rank);
        Some(*value)
    }

    /// How long to wait for the endpoints asked before the next are asked too.
    pub fn wait(&self) -> Duration {
        let HedgeOptions { min_wait, first_wait, max_wait } = self.options;
        self.p95().map_or(first_wait, |p95| p95.max(min_wait)).min(max_wait)
    }
}

/// How many endpoints are asked in the group after one of `previous` (1, 2, 4, ...).
pub fn next_group_size(previous: usize) -> usize {
    if previous == 0 { 1 } else { previous.saturating_mul(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_wait_follows_the_95th_percentile_within_bounds() {
        let mut hedge = Hedge::new(HedgeOptions::default());
        assert_eq!(hedge.wait(), 100 * MS);
        for i in 1..=100 {
            hedge.observe(i * MS);
        }
        assert_eq!(hedge.p95(), Some(95 * MS));
        assert_eq!(hedge.wait(), 95 * MS);
        for _ in 0..REMEMBERED {
            hedge.observe(MS);
        }
        assert_eq!(hedge.wait(), 5 * MS, "never below the minimum");
        for _ in 0..REMEMBERED {
            hedge.observe(10_000 * MS);
        }
        assert_eq!(hedge.wait(), 2_000 * MS, "never above wait-before-try-next");
    }

    #[test]
    fn one_hanging_endpoint_does_not_spoil_the_percentile() {
        let mut hedge = Hedge::new(HedgeOptions::default());
        for i in 0..REMEMBERED {
            hedge.observe(if i % 50 == 0 { 1_900 * MS } else { 20 * MS });
        }
        assert_eq!(hedge.wait(), 20 * MS);
    }

    #[test]
    fn groups_double() {
        let sizes: Vec<_> = std::iter::successors(Some(1), |&n| Some(next_group_size(n))).take(5).collect();
        assert_eq!(sizes, [1, 2, 4, 8, 16]);
        assert_eq!(next_group_size(0), 1);
    }
}
