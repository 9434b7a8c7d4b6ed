//! Places without sessions: how many, and whose.

use super::*;
use crate::clock::{ManualClock, Timestamp};

fn pool(max_per_host: usize) -> (Arc<Pool>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
    let settings = PoolSettings { max_per_host, ..PoolSettings::default() };
    (Pool::new(settings, Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn key(n: u32) -> Key {
    let to = SocketAddr::new(IpAddr::from(n.to_be_bytes()), 25);
    Key { name: Domain::parse_host("mx.example.net").unwrap(), host: HostKey { to, source: None }, lane: 0 }
}

fn dial(pool: &Arc<Pool>, n: u32) -> Option<Slot> {
    match pool.try_acquire(&key(n), &|_| true) {
        Grant::Dial(slot) => Some(slot),
        _ => None,
    }
}

// QUE-09, QUE-31
#[test]
fn a_host_starts_at_two_grows_with_success_and_halves_on_trouble() {
    let (pool, clock) = pool(20);
    let host = key(1).host;
    let open = |pool: &Arc<Pool>| std::iter::from_fn(|| dial(pool, 1)).collect::<Vec<_>>().len();
    assert_eq!(open(&pool), 2);
    for _ in 0..2 {
        pool.delivered(&host);
    }
    assert_eq!(open(&pool), 3);
    for _ in 0..500 {
        pool.delivered(&host);
    }
    assert_eq!(open(&pool), 20);
    pool.trouble(&host, Trouble::Dialogue);
    assert!(matches!(pool.try_acquire(&key(1), &|_| true), Grant::Paused(_)));
    clock.advance(Duration::from_secs(60));
    assert_eq!(open(&pool), 10);
    assert_eq!(pool.open(), 0, "every place came back");
}

// OUT-02, QUE-31
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_place_gets_the_first_that_frees_or_none_after_its_patience() {
    let (pool, _) = pool(1);
    let held = dial(&pool, 1).unwrap();
    let begun = Instant::now();
    let none = pool.acquire(&key(1), &|_| true, Duration::from_secs(5)).await;
    assert!(matches!(none, Grant::Full));
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    let waiting = {
        let pool = Arc::clone(&pool);
        tokio::spawn(async move { pool.acquire(&key(1), &|_| true, Duration::from_secs(5)).await })
    };
    tokio::task::yield_now().await;
    drop(held);
    assert!(matches!(waiting.await.unwrap(), Grant::Dial(_)));
    assert_eq!(begun.elapsed(), Duration::from_secs(5), "at once");
}

// LIM: hosts that mail once led to are forgotten, however their dials went.
#[test]
fn hosts_known_are_bounded_by_those_in_use() {
    let (pool, clock) = pool(20);
    for n in 0..20_000 {
        drop(dial(&pool, n));
        pool.trouble(&key(n).host, Trouble::Dial);
        clock.advance(Duration::from_secs(10));
    }
    assert!(pool.lock().hosts.len() <= 2 * MANY_HOSTS, "{}", pool.lock().hosts.len());
}
