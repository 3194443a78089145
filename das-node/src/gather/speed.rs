//! How fast each member answers, and so whom to ask first and how long to wait for it.
//!
//! A member that let a question go late is asked last from then on, except that now and then one question more than are
//! needed goes to it, on which no reader waits. So a hanging peer costs one reader one wait, not every reader one.

use std::time::{Duration, Instant};

use das_common::rest_reader::hedge::{Hedge, HedgeOptions};
use rand::Rng;
use rand::seq::SliceRandom;

/// Weight of the newest observation.
const NEWEST: f64 = 0.2;
/// Answers up to this many bytes tell the time to the first byte; longer ones tell bytes per second.
const SHORT: u64 = 16 * 1024;
/// A member that is asked last is tried again after this, doubled with every failure.
const FIRST_PROBE: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 5;
/// Share of gathers (one in so many) that try a member which is not among the fastest.
const EXPLORE: u32 = 32;
/// A member that lacks more than this share of what others have is asked after them.
const MANY_MISSES: f64 = 0.5;

#[derive(Debug, Default, Clone)]
struct Speed {
    /// Seconds to a short answer.
    first_byte: Option<f64>,
    /// Seconds per byte beyond that.
    per_byte: Option<f64>,
    /// Share of questions for existing batches that it answered with "absent".
    misses: f64,
    strikes: u32,
    next_probe: Option<Instant>,
    /// Questions to it that are late and still open.
    late: u32,
}

impl Speed {
    /// Seconds; nothing known sorts first, so that everybody is known soon.
    fn expected(&self, bytes: u64) -> f64 {
        self.first_byte.unwrap_or(0.0) + self.per_byte.unwrap_or(0.0) * bytes.saturating_sub(SHORT) as f64
    }

    fn is_suspect(&self) -> bool {
        self.strikes > 0 || self.late > 0
    }
}

/// Sizes of answers that are timed together: up to so many bytes, what to wait before enough was observed, and at most.
const CLASSES: [(u64, Duration, Duration); 4] = [
    (64 << 10, Duration::from_millis(100), Duration::from_secs(1)),
    (1 << 20, Duration::from_millis(250), Duration::from_secs(2)),
    (8 << 20, Duration::from_millis(1500), Duration::from_secs(5)),
    (u64::MAX, Duration::from_secs(4), Duration::from_secs(10)),
];

/// What was observed of the members of one committee.
#[derive(Debug)]
pub(super) struct Speeds {
    members: Vec<Speed>,
    /// By class of size.
    waits: [Hedge; CLASSES.len()],
    /// Answers of any size: for questions about batches of unknown length.
    any: Hedge,
}

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Best first.
    pub(super) members: Vec<usize>,
    /// A member that is asked beside the others, to learn.
    pub(super) probe: Option<usize>,
}

impl Speeds {
    pub(super) fn new(members: usize) -> Self {
        let hedge = |first_wait, max_wait| {
            Hedge::new(HedgeOptions { min_wait: Duration::from_millis(5), first_wait, max_wait })
        };
        Self {
            members: vec![Speed::default(); members],
            waits: CLASSES.map(|(_, first, max)| hedge(first, max)),
            any: hedge(Duration::from_millis(250), Duration::from_secs(4)),
        }
    }

    /// The members but oneself, for answers of this many bytes (`None`: unknown), of which `needed` are needed.
    pub(super) fn order(
        &mut self,
        own: Option<usize>,
        bytes: Option<u64>,
        needed: usize,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Order {
        let mut order: Vec<usize> = (0..self.members.len()).filter(|member| Some(*member) != own).collect();
        // Equals in random order: no member is everybody's first.
        order.shuffle(rng);
        let key = |member: &usize| {
            let speed = &self.members[*member];
            let last = speed.strikes.saturating_add(speed.late);
            (last, speed.misses > MANY_MISSES, speed.expected(bytes.unwrap_or(SHORT)))
        };
        order.sort_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal));
        let others = order.get(needed..).unwrap_or(&[]);
        let due = |member: &usize| {
            let speed = &self.members[*member];
            speed.late == 0 && speed.next_probe.is_some_and(|at| at <= now)
        };
        let mut probe = others.iter().copied().find(due);
        if probe.is_none() && !others.is_empty() && rng.random_ratio(1, EXPLORE) {
            let member = others[rng.random_range(..others.len())];
            probe = Some(member).filter(|member| !self.members[*member].is_suspect());
        }
        if let Some(speed) = probe.map(|member| &mut self.members[member]) {
            // Until it is known what comes of it, nobody else tries.
            speed.next_probe = speed.next_probe.map(|_| now + FIRST_PROBE);
        }
        Order { members: order, probe }
    }

    /// How long to count on an answer of so many bytes.
    pub(super) fn wait(&self, bytes: Option<u64>) -> Duration {
        bytes.map_or(&self.any, |bytes| &self.waits[class(bytes)]).wait()
    }

    /// A right answer of so many bytes came after this time.
    pub(super) fn answered(&mut self, member: usize, bytes: u64, after: Duration) {
        self.waits[class(bytes)].observe(after);
        self.any.observe(after);
        let speed = &mut self.members[member];
        let seconds = after.as_secs_f64();
        if bytes <= SHORT {
            blend(&mut speed.first_byte, seconds);
        } else {
            let beyond = (seconds - speed.first_byte.unwrap_or(0.0)).max(0.0);
            blend(&mut speed.per_byte, beyond / (bytes - SHORT) as f64);
        }
        speed.strikes = 0;
        speed.next_probe = None;
    }

    /// It answered that it has nothing to give.
    pub(super) fn has_nothing(&mut self, member: usize, after: Duration) {
        let speed = &mut self.members[member];
        blend(&mut speed.first_byte, after.as_secs_f64());
        speed.strikes = 0;
        speed.next_probe = None;
    }

    /// Whether it had a batch that exists.
    pub(super) fn had(&mut self, member: usize, had: bool) {
        let misses = &mut self.members[member].misses;
        *misses += NEWEST * (f64::from(u8::from(!had)) - *misses);
    }

    /// It failed, lied, or let somebody else overtake it.
    pub(super) fn strike(&mut self, member: usize, now: Instant) {
        let speed = &mut self.members[member];
        let pause = FIRST_PROBE * (1 << speed.strikes.min(MAX_DOUBLINGS));
        speed.strikes = speed.strikes.saturating_add(1);
        speed.next_probe = Some(now + pause);
    }

    /// A question to it has become late.
    pub(super) fn late(&mut self, member: usize) {
        self.members[member].late += 1;
    }

    /// A question that was late is over.
    pub(super) fn late_over(&mut self, member: usize) {
        let late = &mut self.members[member].late;
        *late = late.saturating_sub(1);
    }
}

fn class(bytes: u64) -> usize {
    CLASSES.iter().position(|(most, ..)| bytes <= *most).unwrap_or(CLASSES.len() - 1)
}

fn blend(mean: &mut Option<f64>, newest: f64) {
    *mean = Some(mean.map_or(newest, |mean| mean + NEWEST * (newest - mean)));
}
