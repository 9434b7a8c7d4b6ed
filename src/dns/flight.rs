//! [`Flights`]: callers with the same question share one answer that is under way.
//!
//! Whoever asks first starts the work; any of the callers drives it on, so it survives the first one going
//! away, and it is dropped when nobody waits for it any more.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

/// Work under way, by key. Holds an entry only while somebody waits for it.
pub struct Flights<K, V: Clone> {
    under_way: Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// No work under way.
    pub fn new() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }

    /// Joins the work for `key` that is under way, or starts `work`.
    pub async fn join(&self, key: &K, work: impl FnOnce() -> BoxFuture<'static, V>) -> V {
        let shared = self.find_or_start(key, work);
        let _landing = Landing { flights: self, key };
        shared.await
    }

    fn find_or_start(
        &self,
        key: &K,
        work: impl FnOnce() -> BoxFuture<'static, V>,
    ) -> Shared<BoxFuture<'static, V>> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        // A finished flight is not joined: its answer belongs to those who asked while it was under way.
        let running = under_way.get(key).and_then(WeakShared::upgrade).filter(|s| s.peek().is_none());
        if let Some(shared) = running {
            return shared;
        }
        let shared = work().shared();
        if let Some(weak) = shared.downgrade() {
            under_way.insert(key.clone(), weak);
        }
        shared
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Default for Flights<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// Clears the entry when a caller is done or gives up and the flight is over or without passengers.
struct Landing<'a, K: Clone + Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    key: &'a K,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let over =
            under_way.get(self.key).is_some_and(|weak| weak.upgrade().is_none_or(|s| s.peek().is_some()));
        if over {
            under_way.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{join_all, poll_immediate};
    use tokio::sync::Semaphore;

    use super::*;

    // STS-58
    #[tokio::test]
    async fn many_callers_share_one_flight_that_outlives_the_first() {
        let (flights, started, gate) =
            (Flights::<u8, usize>::new(), Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let call = || {
            let (started, gate) = (Arc::clone(&started), Arc::clone(&gate));
            flights.join(&1, move || {
                async move {
                    let n = started.fetch_add(1, Ordering::SeqCst);
                    gate.acquire().await.unwrap().forget();
                    n
                }
                .boxed()
            })
        };
        let mut first = Box::pin(call());
        assert!(poll_immediate(&mut first).await.is_none());
        let mut others = Box::pin(join_all((0..50).map(|_| call())));
        assert!(poll_immediate(&mut others).await.is_none());
        drop(first);
        gate.add_permits(1);
        assert_eq!(others.await, vec![0; 50]);
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert!(flights.under_way.lock().unwrap().is_empty(), "nothing is left behind");
        gate.add_permits(1);
        assert_eq!(call().await, 1, "a later caller starts anew");
    }

    #[tokio::test]
    async fn a_flight_without_passengers_is_forgotten() {
        let flights = Flights::<u8, ()>::new();
        let mut alone = Box::pin(flights.join(&1, || std::future::pending().boxed()));
        assert!(poll_immediate(&mut alone).await.is_none());
        drop(alone);
        assert!(flights.under_way.lock().unwrap().is_empty());
    }
}
