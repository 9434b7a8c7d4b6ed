//! Sessions that lie in the pool while somebody judges whether they suit.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::delivery::pool::{Grant, HostKey, Key, Pool, PoolSettings, Slot};
use sealpost::delivery::session::{Session, Timers};
use sealpost::security::verdict::Evidence;

use crate::server::{Manners, serve};
use crate::world::{domain, opened};

/// A pool, and the key of a host on this machine.
struct Pond {
    pool: Arc<Pool>,
    key: Key,
}

impl Pond {
    async fn new(max_per_host: usize) -> Self {
        let (port, _) = serve("127.0.0.1", 0, Manners::default()).await;
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let settings = PoolSettings {
            max_per_host,
            max_messages: u32::MAX,
            idle: Duration::from_secs(600),
            ..PoolSettings::default()
        };
        let host = HostKey { to: ([127, 0, 0, 1], port).into(), source: None };
        let key = Key { name: domain("mx.example.net"), host, lane: 0 };
        Self { pool: Pool::new(settings, clock), key }
    }

    async fn open(&self) -> Session {
        opened(&self.key.name, self.key.host.to.port(), &Timers::default()).await
    }

    /// With so many idle sessions.
    async fn filled(max_per_host: usize, sessions: usize) -> Self {
        let pond = Self::new(max_per_host).await;
        for _ in 0..sessions {
            let Grant::Dial(slot) = pond.pool.try_acquire(&pond.key, &|_| false) else { panic!("a place") };
            let session = pond.open().await;
            // A host starts at two sessions and grows with success (QUE-09).
            for _ in 0..max_per_host {
                pond.pool.delivered(&pond.key.host);
            }
            pond.put_back(session, slot);
        }
        pond
    }

    fn put_back(&self, session: Session, slot: Slot) {
        self.pool.put_back(session, slot, &self.key);
    }

    fn ask(&self, suits: &dyn Fn(&Evidence) -> bool) -> Grant {
        self.pool.try_acquire(&self.key, suits)
    }

    fn lent(&self) -> (Session, Slot) {
        let Grant::Session(session, slot) = self.ask(&|_| true) else { panic!("a session") };
        (*session, slot)
    }
}

/// What a grant is.
fn word(grant: &Grant) -> &'static str {
    match grant {
        Grant::Session(..) => "session",
        Grant::Dial(_) => "dial",
        Grant::Paused(_) => "paused",
        Grant::Full => "full",
    }
}

// A verdict takes milliseconds: nobody else waits for it.
#[tokio::test]
async fn nobody_waits_while_a_session_is_judged() {
    let pond = Pond::filled(2, 1).await;
    let judged = AtomicUsize::new(0);
    let grant = pond.ask(&|_| {
        judged.fetch_add(1, Ordering::Relaxed);
        let (tell, told) = std::sync::mpsc::channel();
        let pool = Arc::clone(&pond.pool);
        std::thread::spawn(move || tell.send(pool.open()));
        let open = told.recv_timeout(Duration::from_secs(20)).expect("the pool answers meanwhile");
        assert_eq!(open, 1);
        true
    });
    assert_eq!((word(&grant), judged.into_inner()), ("session", 1));
}

// What is judged may be gone when the verdict is there: lent to somebody else, or closed. And it may be back again.
#[tokio::test]
async fn a_session_that_was_taken_meanwhile_is_taken_once() {
    for (case, sessions, back, want, verdicts) in [
        ("lent, no other", 1, false, "dial", 1),
        ("lent, another", 2, false, "session", 2),
        ("lent and back again", 1, true, "session", 1),
    ] {
        let pond = Pond::filled(3, sessions).await;
        let (judged, taken) = (AtomicUsize::new(0), Mutex::new(None));
        let grant = pond.ask(&|_| {
            if judged.fetch_add(1, Ordering::Relaxed) == 0 {
                let (session, slot) = pond.lent();
                if back {
                    pond.put_back(session, slot);
                } else {
                    *taken.lock().unwrap() = Some((session, slot));
                }
            }
            true
        });
        assert_eq!((word(&grant), judged.into_inner()), (want, verdicts), "{case}");
        if let (Grant::Session(session, _), Some((other, _))) = (&grant, &*taken.lock().unwrap()) {
            assert_ne!(session.opened, other.opened, "{case}");
        }
        assert_eq!(pond.pool.open(), if want == "dial" { sessions + 1 } else { sessions }, "{case}");
    }
    let pond = Pond::filled(2, 1).await;
    let grant = pond.ask(&|_| {
        pond.pool.close_idle();
        true
    });
    assert_eq!((word(&grant), pond.pool.open()), ("dial", 1));
}

// One that comes back while another is judged is looked at before anybody dials, and no session is judged twice.
#[tokio::test]
async fn a_session_that_comes_back_meanwhile_saves_a_connection() {
    let pond = Pond::filled(3, 2).await;
    let held = Mutex::new(Some(pond.lent()));
    let judged = AtomicUsize::new(0);
    let grant = pond.ask(&|_| {
        if let Some((session, slot)) = held.lock().unwrap().take() {
            pond.put_back(session, slot);
        }
        // The first does not suit.
        judged.fetch_add(1, Ordering::Relaxed) > 0
    });
    assert_eq!((word(&grant), judged.into_inner(), pond.pool.open()), ("session", 2, 2));

    let judged = AtomicUsize::new(0);
    drop(grant);
    let grant = pond.ask(&|_| {
        judged.fetch_add(1, Ordering::Relaxed);
        let (session, slot) = pond.lent();
        pond.put_back(session, slot);
        false
    });
    assert_eq!((word(&grant), judged.into_inner()), ("dial", 1));
}

// Many borrowers at once, each with a mind of its own: no session is lent twice at a time, no place is lost or made up.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sessions_and_places_add_up_whoever_borrows() {
    const MOST: usize = 6;
    const ROUNDS: usize = 200;
    let pond = Arc::new(Pond::filled(MOST, MOST).await);
    let (out, most) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicUsize::new(0)));
    let borrow = |seed: usize| {
        let (pond, out, most) = (Arc::clone(&pond), Arc::clone(&out), Arc::clone(&most));
        async move {
            for round in 0..ROUNDS {
                let turn = seed.wrapping_mul(31).wrapping_add(round.wrapping_mul(17));
                let opinions = AtomicUsize::new(turn);
                let suits = |_: &Evidence| {
                    std::thread::yield_now();
                    !opinions.fetch_add(1, Ordering::Relaxed).is_multiple_of(3)
                };
                let (session, slot) =
                    match pond.pool.acquire(&pond.key, &suits, Duration::from_secs(60)).await {
                        Grant::Session(session, slot) => (*session, slot),
                        Grant::Dial(slot) => (pond.open().await, slot),
                        other => panic!("{}", word(&other)),
                    };
                assert!(out.lock().unwrap().insert(session.opened), "lent twice");
                most.fetch_max(out.lock().unwrap().len(), Ordering::Relaxed);
                tokio::task::yield_now().await;
                assert!(out.lock().unwrap().remove(&session.opened));
                if turn.is_multiple_of(7) {
                    session.quit();
                } else {
                    pond.put_back(session, slot);
                }
            }
        }
    };
    futures_util::future::join_all((0..12).map(|seed| tokio::spawn(borrow(seed))))
        .await
        .into_iter()
        .for_each(|done| done.unwrap());
    assert!(most.load(Ordering::Relaxed) <= MOST);
    let idle = std::iter::from_fn(|| match pond.ask(&|_| true) {
        Grant::Session(session, slot) => Some((session, slot)),
        _ => None,
    });
    let idle: Vec<_> = idle.collect();
    assert_eq!(idle.len(), pond.pool.open(), "every place is an idle session's");
    drop(idle);
    assert_eq!(pond.pool.open(), 0);
}
