//! How long the disk would last if demotion stopped.
//!
//! Silent members stop demotion: then every batch stays whole, and disks fill at the rate at which batches come. That rate is
//! measured all the time, so that an operator knows in good time how long the others may stay away.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use das_common::fault;
use parking_lot::Mutex;

use super::Shared;

/// The rate is looked at so often.
const ROUND: Duration = Duration::from_secs(60);
/// The rate is that of so long a time, so that a busy hour is not taken for the rule.
const WINDOW: Duration = Duration::from_secs(24 * 3600);
/// What came in less time than this is spread over it: the first minutes say little about a day.
const LEAST_WINDOW: Duration = Duration::from_secs(3600);
/// With less time than this left, the operator is told.
const ALARM_BELOW: Duration = Duration::from_secs(72 * 3600);

/// Counts what is stored.
#[derive(Default)]
pub(super) struct Outlook {
    stored: AtomicU64,
    /// What had been stored at these times, the oldest first.
    samples: Mutex<VecDeque<(Instant, u64)>>,
}

impl Outlook {
    /// So many bytes of a batch came in.
    pub(super) fn stored(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sample(&self, now: Instant) {
        let mut samples = self.samples.lock();
        samples.push_back((now, self.stored.load(Ordering::Relaxed)));
        while samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            samples.pop_front();
        }
    }

    /// How long `free` bytes last; `None` when nothing was stored for so long that there is no rate.
    fn lasts(&self, free: u64, now: Instant) -> Option<Duration> {
        let (since, before) = self.samples.lock().front().copied()?;
        let stored = self.stored.load(Ordering::Relaxed).saturating_sub(before);
        let time = now.duration_since(since).max(LEAST_WINDOW);
        (stored > 0).then(|| {
            let seconds = free as f64 / stored as f64 * time.as_secs_f64();
            Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
        })
    }
}

impl Shared {
    /// Bytes free above the reserve, and how long they last when every batch stays whole.
    pub(super) fn outlook(&self) -> (u64, Option<Duration>) {
        let free = self.store.free_bytes().unwrap_or(0).saturating_sub(self.options.reserve_bytes);
        (free, self.outlook.lasts(free, Instant::now()))
    }
}

/// Watches the rate for ever.
pub(super) async fn run(shared: std::sync::Arc<Shared>) {
    loop {
        shared.outlook.sample(Instant::now());
        let (free, lasts) = shared.outlook();
        let hours = lasts.map(|lasts| lasts.as_secs_f64() / 3600.0);
        metrics::gauge!("das_custody_disk_lasts_hours").set(hours.unwrap_or(f64::INFINITY));
        let text = hours.filter(|_| lasts.is_some_and(|lasts| lasts < ALARM_BELOW)).map(|hours| {
            format!("{free} bytes above the reserve last {hours:.1} h at the rate of the last day if no batch becomes shards")
        });
        match text {
            Some(text) => shared.alarms.raise_fault(fault::CUSTODY_DISK_SHORT, text),
            None => shared.alarms.clear(fault::CUSTODY_DISK_SHORT.code),
        }
        tokio::time::sleep(ROUND).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_day_and_of_no_less_than_an_hour() {
        let outlook = Outlook::default();
        let begin = Instant::now();
        let after = |hours: u64| begin + Duration::from_secs(hours * 3600);
        assert_eq!(outlook.lasts(1000, begin), None, "nothing was measured");
        outlook.sample(begin);
        assert_eq!(outlook.lasts(1000, begin), None, "nothing was stored");
        outlook.stored(100);
        assert_eq!(outlook.lasts(1000, begin).unwrap(), Duration::from_secs(10 * 3600), "100 bytes an hour");
        outlook.sample(after(1));
        assert_eq!(
            outlook.lasts(1000, after(10)).unwrap(),
            Duration::from_secs(100 * 3600),
            "10 bytes an hour"
        );
        (2..=30).for_each(|hour| outlook.sample(after(hour)));
        assert_eq!(outlook.lasts(1000, after(30)), None, "what came more than a day ago is no rate");
        outlook.stored(24);
        assert_eq!(outlook.lasts(1000, after(30)).unwrap(), Duration::from_secs(1000 * 3600));
        assert!(outlook.samples.lock().len() <= 26, "samples are forgotten");
    }
}
