//! Dead hosts, pauses, and attempts that break off.

use std::time::Duration;

use sealpost::clock::Clock;
use sealpost::mail::{Domain, Origin};
use sealpost::queue::{NewMessage, QueueStore, RecipientState};

use super::world::*;

/// Waits until all mail for `domain` shows its suspension. Outcomes are written before it is.
async fn suspended(w: &World, domain: &str) {
    let later = w.clock.now().after(Duration::from_secs(30));
    w.until("suspended", async || w.of_domain(domain).await.iter().all(|r| r.next_attempt > Some(later)))
        .await;
}

// QUE-34
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_host_costs_one_series_of_dials_and_touches_no_other_message() {
    let w = world(|s| s.places_per_domain = 1);
    w.deliverer.plan("dead.example", Plan::Unreachable);
    for n in 0..200 {
        w.store.enqueue(w.message(n, &["a@dead.example"]), None).await.unwrap();
    }
    w.manager.start();
    w.until("tried", async || w.deliverer.tries("dead.example") == 1).await;
    w.submit(1000, &["a@one.example"]).await;
    w.until("another domain is served", async || w.of_domain("one.example").await.is_empty()).await;
    suspended(&w, "dead.example").await;
    assert_eq!(w.deliverer.tries("dead.example"), 1);
    let waiting = w.of_domain("dead.example").await;
    let untouched = waiting.iter().filter(|r| r.attempts == 0).count();
    assert_eq!((waiting.len(), untouched), (200, 199));
    // The list shows the suspension's end as the next attempt.
    let end = w.clock.now().after(Duration::from_secs(60));
    assert!(waiting.iter().all(|r| r.next_attempt.unwrap() >= end), "{:?}", waiting[0].next_attempt);

    w.deliverer.plan("dead.example", Plan::Deliver);
    w.clock.advance(Duration::from_secs(61));
    w.manager.wake(&[]);
    w.until("all but the first are delivered after the probe", async || {
        w.of_domain("dead.example").await.len() == 1
    })
    .await;
}

// QUE-07, QUE-34
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_probe_ends_lifetimes_without_ten_thousand_dials() {
    let w = world(|s| {
        s.places_per_domain = 1;
        s.delay_warning_after = None;
    });
    w.deliverer.plan("dead.example", Plan::Unreachable);
    w.deliverer.plan("sender.example", Plan::Hang);
    for n in 0..120 {
        w.store.enqueue(w.message(n, &["a@dead.example"]), None).await.unwrap();
    }
    w.manager.start();
    suspended(&w, "dead.example").await;
    w.clock.advance(6 * DAY);
    w.manager.wake(&[Domain::parse("nobody.example").unwrap()]);
    w.until("all returned", async || w.of_domain("dead.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("dead.example"), 2, "one probe after the lifetime");
    let dsns = w.of_domain("sender.example").await;
    assert_eq!(dsns.len(), 120, "every sender is told (DSN-16)");
}

// QUE-05, QUE-34, RPT-87: what we generate lives a day, whatever `queue.max_age` says, also when it waited behind a dead
// host and was never dialled itself.
#[tokio::test(flavor = "multi_thread")]
async fn generated_mail_behind_a_dead_host_ends_after_its_own_day() {
    for origin in [Origin::Dsn, Origin::TlsReport] {
        let w = world(|s| s.places_per_domain = 1);
        w.deliverer.plan("dead.example", Plan::Unreachable);
        w.submit(1, &["a@dead.example"]).await;
        w.manager.start();
        w.until("tried", async || w.of_domain("dead.example").await[0].state == RecipientState::Deferred)
            .await;
        for n in 2..9 {
            w.store.enqueue(NewMessage { origin, ..w.message(n, &["b@dead.example"]) }, None).await.unwrap();
        }
        suspended(&w, "dead.example").await;
        w.clock.advance(Duration::from_secs(25 * 3600));
        w.manager.wake(&[Domain::parse("nobody.example").unwrap()]);
        w.until("only the application's mail is left", async || w.of_domain("dead.example").await.len() == 1)
            .await;
        assert_eq!(w.of_domain("dead.example").await[0].message.origin, Origin::Submitted);
        assert_eq!(w.deliverer.tries("dead.example"), 2, "{origin:?}: the probe alone was dialled");
        // Only the application is told that its mail waits.
        let told: Vec<_> =
            w.of_domain("sender.example").await.into_iter().map(|r| r.message.origin).collect();
        assert!(told.iter().all(|o| *o == Origin::Dsn) && told.len() <= 1, "{origin:?}: {told:?}");
        w.manager.abandon();
    }
}

// QUE-09
#[tokio::test(flavor = "multi_thread")]
async fn mail_handed_back_keeps_its_attempts_and_waits_for_the_pause() {
    let w = world(|s| s.places_per_domain = 1);
    w.deliverer.plan("busy.example", Plan::HandBack);
    w.manager.start();
    for n in 0..20 {
        w.submit(n, &["a@busy.example"]).await;
    }
    w.until("tried", async || w.deliverer.tries("busy.example") == 1).await;
    w.submit(100, &["a@one.example"]).await;
    w.until("another domain is served", async || w.of_domain("one.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("busy.example"), 1);
    w.until("handed back", async || w.of_domain("busy.example").await.iter().all(|r| r.attempts == 0)).await;
    w.deliverer.plan("busy.example", Plan::Deliver);
    w.clock.advance(Duration::from_secs(601));
    w.manager.wake(&[Domain::parse("nobody.example").unwrap()]);
    w.until("delivered after the pause", async || w.of_domain("busy.example").await.is_empty()).await;
}

// DUR-21
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_attempt_and_nothing_else() {
    let w = world(|_| {});
    w.deliverer.plan("bad.example", Plan::Panic);
    w.manager.start();
    w.submit(1, &["a@bad.example"]).await;
    w.until("deferred", async || {
        let list = w.of_domain("bad.example").await;
        list.len() == 1 && list[0].state == RecipientState::Deferred
    })
    .await;
    let row = &w.of_domain("bad.example").await[0];
    assert_eq!((row.cause.as_str(), row.attempts), ("interrupted", 1), "it counts: it may come again");
    assert!(
        row.next_attempt.unwrap() >= w.clock.now().after(Duration::from_secs(240)),
        "with the full back-off"
    );
    assert_eq!(row.last.as_ref().unwrap().enhanced.to_string(), "4.3.0");
    w.submit(2, &["a@one.example"]).await;
    w.until("others flow", async || w.of_domain("one.example").await.is_empty()).await;
}
