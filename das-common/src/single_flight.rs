//! Work that several ask for at once and that is done once.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

/// Joins those who ask for the same key while the work for it is under way. Cheap to clone.
///
/// The work is a task of its own: a caller that goes away takes nobody's answer along, and work that panics gives
/// everybody `None`.
pub struct SingleFlight<K, V> {
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K, V> Clone for SingleFlight<K, V> {
    fn clone(&self) -> Self {
        Self { under_way: Arc::clone(&self.under_way) }
    }
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { under_way: Arc::default() }
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What the work for `key` gives; `work` is begun only when none is under way. `None`: it panicked.
    pub async fn run<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        self.take_off(key, work).0.await
    }

    /// As [`run`](Self::run), except that one who finds the work under way waits for no longer than `patience`.
    ///
    /// To be used where the work may lead to its own door: a question that has gone in a circle then waits for itself.
    pub async fn run_or_leave<F>(&self, key: K, patience: Duration, work: impl FnOnce() -> F) -> Landed<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (landing, joined) = self.take_off(key, work);
        let landed = match joined {
            true => tokio::time::timeout(patience, landing).await,
            false => Ok(landing.await),
        };
        match landed {
            Ok(Some(value)) => Landed::Done(value),
            Ok(None) => Landed::Panicked,
            Err(_) => Landed::StillUnderWay,
        }
    }

    /// Begins or joins the work; true: it was under way.
    fn take_off<F>(&self, key: K, work: impl FnOnce() -> F) -> (impl Future<Output = Option<V>>, bool)
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (mut result, joined) = {
            let mut under_way = self.under_way.lock();
            match under_way.get(&key) {
                Some(result) => (result.clone(), true),
                None => {
                    let (sender, receiver) = watch::channel(None);
                    under_way.insert(key, receiver.clone());
                    let landing = Landing { key, under_way: Arc::clone(&self.under_way) };
                    let work = work();
                    tokio::spawn(async move {
                        let value = work.await;
                        // Whoever comes from here on starts anew (or finds a cache that the work has filled).
                        drop(landing);
                        let _ = sender.send(Some(value));
                    });
                    (receiver, false)
                }
            }
        };
        let landing = async move {
            match result.wait_for(Option::is_some).await {
                Ok(value) => value.clone(),
                Err(_) => None,
            }
        };
        (landing, joined)
    }
}

/// What came of work that several may have waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landed<V> {
    /// Its result.
    Done(V),
    /// It panicked.
    Panicked,
    /// Somebody else began it, and it goes on.
    StillUnderWay,
}

/// Takes the key out, also when the work panics.
struct Landing<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn many_ask_and_one_works() {
        let flight = SingleFlight::<u8, u32>::default();
        let runs = Arc::new(AtomicU32::new(0));
        let ask = || {
            let runs = Arc::clone(&runs);
            flight.run(1, move || async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                runs.fetch_add(1, Ordering::Relaxed)
            })
        };
        let asked: Vec<_> = (0..10).map(|_| ask()).collect();
        assert_eq!(futures::future::join_all(asked).await, vec![Some(0); 10]);
        assert_eq!(ask().await, Some(1), "later askers start anew");
    }

    #[tokio::test]
    async fn a_caller_that_leaves_and_work_that_panics_hurt_nobody_else() {
        let flight = SingleFlight::<u8, u32>::default();
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            7
        };
        let leaver = tokio::time::timeout(Duration::from_millis(5), flight.run(1, slow)).await;
        assert!(leaver.is_err());
        assert_eq!(flight.run(1, || async { 8 }).await, Some(7), "the work of the one who left goes on");
        assert_eq!(flight.run(2, || async { panic!("on purpose") }).await, None);
        assert_eq!(flight.run(2, || async { 9 }).await, Some(9));
    }

    #[tokio::test]
    async fn work_that_waits_for_itself_ends() {
        let flight = SingleFlight::<u8, u32>::default();
        let inner = flight.clone();
        let outcome = flight.run_or_leave(1, Duration::ZERO, move || async move {
            match inner.run_or_leave(1, Duration::from_millis(20), || async { 7 }).await {
                Landed::StillUnderWay => 1,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(outcome.await, Landed::Done(1), "who began it has all the time");
    }
}
