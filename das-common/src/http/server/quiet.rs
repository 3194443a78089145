//! Connections that have not made a request yet: the first to go when there is no room.
//!
//! Whoever floods a port with connections that say nothing would otherwise hold every place for as long as silence is
//! borne, and who has something to say would stand in line behind all that come after. So the oldest of the silent makes
//! room for who comes next, and what has made a request stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// All of one server.
#[derive(Debug, Clone)]
pub(super) struct Quiet {
    waiting: Arc<Mutex<Waiting>>,
    /// Time that each has, whoever else comes.
    grace: Duration,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    by_age: BTreeMap<u64, (Instant, CancellationToken)>,
}

impl Quiet {
    /// None so far; each has so much time to say something, whoever else comes.
    pub(super) fn new(grace: Duration) -> Self {
        Self { waiting: Arc::default(), grace }
    }

    /// One more. It counts until what is returned is dropped.
    pub(super) fn enter(&self) -> OfOne {
        let mut waiting = self.waiting.lock();
        let number = waiting.next;
        waiting.next += 1;
        let must_go = CancellationToken::new();
        waiting.by_age.insert(number, (Instant::now(), must_go.clone()));
        OfOne { all: self.clone(), number, must_go }
    }

    /// Has the oldest make room, if it had its time.
    pub(super) fn make_room(&self) {
        let mut waiting = self.waiting.lock();
        if let Some(oldest) =
            waiting.by_age.first_entry().filter(|first| first.get().0.elapsed() >= self.grace)
        {
            oldest.remove().1.cancel();
        }
    }

    /// Is there none?
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().by_age.is_empty()
    }
}

/// A connection without a request so far.
#[derive(Debug)]
pub(super) struct OfOne {
    all: Quiet,
    number: u64,
    must_go: CancellationToken,
}

impl OfOne {
    /// Cancelled when it has to make room.
    pub(super) fn must_go(&self) -> CancellationToken {
        self.must_go.clone()
    }
}

impl Drop for OfOne {
    fn drop(&mut self) {
        self.all.waiting.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_still_quiet_makes_room() {
        let young = Quiet::new(Duration::from_secs(3600));
        let one = young.enter();
        young.make_room();
        assert!(!one.must_go().is_cancelled(), "it had no time to say something");
        let quiet = Quiet::new(Duration::ZERO);
        let [first, second, third] = [(); 3].map(|()| quiet.enter());
        let (second_goes, third_goes) = (second.must_go(), third.must_go());
        drop(first);
        quiet.make_room();
        assert_eq!((second_goes.is_cancelled(), third_goes.is_cancelled()), (true, false));
        drop(second);
        assert!(!quiet.is_empty());
        quiet.make_room();
        assert!(third_goes.is_cancelled() && quiet.is_empty());
        quiet.make_room();
    }
}
