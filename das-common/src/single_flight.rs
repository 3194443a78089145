//! Work that several ask for at once and that is done once.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

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
        let mut result = {
            let mut under_way = self.under_way.lock();
            match under_way.get(&key) {
                Some(result) => result.clone(),
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
                    receiver
                }
            }
        };
        match result.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            Err(_) => None,
        }
    }
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
    use std::time::Duration;

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
}
