//! In which order the endpoints are asked: `simple-explore-exploit`, as pure code.
//!
//! Of every round of reads the first few (*explore*) try the endpoints in random order, so that one that has become
//! fast again is noticed; the rest (*exploit*) go by the mean latency divided by the success ratio of each endpoint's
//! last reads. An endpoint never read from is tried before all others.

use std::collections::VecDeque;
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;

/// How long the two phases are and how much is remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrategyOptions {
    /// Reads in random order at the start of every round.
    pub explore_reads: u32,
    /// Reads in the best order after them.
    pub exploit_reads: u32,
    /// Reads remembered for each endpoint.
    pub remembered_reads: usize,
}

impl Default for StrategyOptions {
    fn default() -> Self {
        Self { explore_reads: 20, exploit_reads: 1000, remembered_reads: 20 }
    }
}

/// What came of asking an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Until the answer was there, or was given up.
    pub latency: Duration,
    /// Was it the batch?
    pub success: bool,
}

/// The last reads of one endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    recent: VecDeque<Sample>,
}

impl History {
    fn record(&mut self, sample: Sample, remembered: usize) {
        while self.recent.len() >= remembered.max(1) {
            self.recent.pop_front();
        }
        self.recent.push_back(sample);
    }

    /// Mean latency of the reads remembered; `None` before the first.
    pub fn mean_latency(&self) -> Option<Duration> {
        let count = u32::try_from(self.recent.len()).ok().filter(|&count| count > 0)?;
        let sum: Duration = self.recent.iter().fold(Duration::ZERO, |sum, s| sum.saturating_add(s.latency));
        Some(sum / count)
    }

    /// Share of successes among the reads remembered; `None` before the first.
    pub fn success_ratio(&self) -> Option<f64> {
        let successes = self.recent.iter().filter(|sample| sample.success).count();
        (!self.recent.is_empty()).then(|| successes as f64 / self.recent.len() as f64)
    }

    /// Lower is better. Without a success: after everything that had one, quickest failure first.
    fn rank(&self) -> (u8, f64) {
        match (self.mean_latency(), self.success_ratio()) {
            (Some(latency), Some(ratio)) if ratio > 0.0 => (1, latency.as_secs_f64() / ratio),
            (Some(latency), _) => (2, latency.as_secs_f64()),
            (None, _) => (0, 0.0),
        }
    }
}

/// The state of the strategy over a list of endpoints that are known by their index.
#[derive(Debug, Clone)]
pub struct ExploreExploit {
    options: StrategyOptions,
    histories: Vec<History>,
    reads: u64,
}

impl ExploreExploit {
    /// For `endpoints` endpoints of which nothing is known.
    pub fn new(options: StrategyOptions, endpoints: usize) -> Self {
        Self { options, histories: vec![History::default(); endpoints], reads: 0 }
    }

    /// The same strategy over another list: `kept[i]` is where endpoint `i` of the new list stood in the old one.
    pub fn with_endpoints(&self, kept: &[Option<usize>]) -> Self {
        let histories =
            kept.iter().map(|old| old.and_then(|old| self.histories.get(old).cloned()).unwrap_or_default());
        Self { options: self.options.clone(), histories: histories.collect(), reads: self.reads }
    }

    /// The order for the next read.
    pub fn next_order(&mut self, rng: &mut impl Rng) -> Vec<usize> {
        let StrategyOptions { explore_reads, exploit_reads, .. } = self.options;
        let round = (u64::from(explore_reads) + u64::from(exploit_reads)).max(1);
        let explore = self.reads % round < u64::from(explore_reads);
        self.reads = self.reads.wrapping_add(1);
        let mut order: Vec<usize> = (0..self.histories.len()).collect();
        // Shuffled first in either case, so that equals share the load.
        order.shuffle(rng);
        if !explore {
            let ranks: Vec<_> = self.histories.iter().map(History::rank).collect();
            order.sort_by(|&a, &b| {
                ranks[a].0.cmp(&ranks[b].0).then_with(|| ranks[a].1.total_cmp(&ranks[b].1))
            });
        }
        order
    }

    /// Remembers what came of asking an endpoint; an index out of range is ignored.
    pub fn record(&mut self, endpoint: usize, sample: Sample) {
        if let Some(history) = self.histories.get_mut(endpoint) {
            history.record(sample, self.options.remembered_reads);
        }
    }

    /// What is remembered of each endpoint.
    pub fn histories(&self) -> &[History] {
        &self.histories
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn sample(millis: u64, success: bool) -> Sample {
        Sample { latency: Duration::from_millis(millis), success }
    }

    fn strategy(explore: u32, exploit: u32, endpoints: usize) -> ExploreExploit {
        let options =
            StrategyOptions { explore_reads: explore, exploit_reads: exploit, remembered_reads: 20 };
        ExploreExploit::new(options, endpoints)
    }

    #[test]
    fn exploiting_goes_by_latency_over_success_ratio() {
        let mut s = strategy(0, 1000, 5);
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20 {
            s.record(0, sample(30, true));
            s.record(1, sample(10, true));
            s.record(3, sample(1, false));
        }
        for i in 0..20 {
            // 20 ms at half the successes counts as 40 ms.
            s.record(2, sample(20, i % 2 == 0));
        }
        assert_eq!(s.next_order(&mut rng), [4, 1, 0, 2, 3]);
    }

    #[test]
    fn only_the_last_reads_count() {
        let mut s = strategy(0, 1000, 2);
        for _ in 0..20 {
            s.record(0, sample(1, true));
            s.record(1, sample(5, true));
        }
        for _ in 0..20 {
            s.record(0, sample(50, true));
        }
        assert_eq!(s.next_order(&mut StdRng::seed_from_u64(1)), [1, 0]);
        assert_eq!(s.histories()[0].mean_latency(), Some(Duration::from_millis(50)));
    }

    #[test]
    fn twenty_of_every_1020_reads_explore() {
        let mut s = strategy(20, 1000, 4);
        let mut rng = StdRng::seed_from_u64(7);
        for i in 0..4 {
            s.record(i, sample(i as u64 + 1, true));
        }
        let orders: Vec<_> = (0..2040).map(|_| s.next_order(&mut rng)).collect();
        for (read, order) in orders.iter().enumerate() {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3], "every endpoint once");
            if read % 1020 >= 20 {
                assert_eq!(order[..], [0, 1, 2, 3], "read {read}");
            }
        }
        for explored in [&orders[..20], &orders[1020..1040]] {
            assert!(explored.iter().any(|order| order[..] != [0, 1, 2, 3]));
        }
    }

    #[test]
    fn a_new_list_keeps_what_is_known() {
        let mut s = strategy(0, 1000, 2);
        s.record(0, sample(9, true));
        s.record(1, sample(3, true));
        let mut moved = s.with_endpoints(&[Some(1), Some(0), None]);
        assert_eq!(moved.next_order(&mut StdRng::seed_from_u64(1)), [2, 0, 1]);
        moved.record(99, sample(1, true));
        assert!(strategy(0, 0, 0).next_order(&mut StdRng::seed_from_u64(1)).is_empty());
    }
}
