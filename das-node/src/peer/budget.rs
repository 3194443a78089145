//! Memory that may be used for frames, by all peers together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes shared by everybody who reserves some. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes reserved; given back when dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of that many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0) }))
    }

    /// Reserves bytes; `None` when too many are in use.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// Bytes in use.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.0.used.load(Ordering::Acquire)
    }
}

impl Reservation {
    /// Reserves more; false, and nothing changed, when too many bytes are in use.
    pub(super) fn grow(&mut self, more: usize) -> bool {
        let Inner { limit, used } = &*self.budget.0;
        let fits = |now: usize| now.checked_add(more).filter(|sum| sum <= limit);
        let done = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, fits).is_ok();
        if done {
            self.bytes += more;
        }
        done
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.reserve(4).unwrap();
        assert!(budget.reserve(7).is_none());
        assert!(first.grow(6) && !first.grow(1) && !first.grow(usize::MAX));
        assert_eq!(budget.used(), 10);
        drop(first);
        assert_eq!(budget.used(), 0);
        assert!(budget.reserve(10).is_some());
    }
}
