//! Commits that fail, and the end of the process.

use std::time::Duration;

use sealpost::queue::{Intake, RecipientState, StoreError};

use super::world::*;

// DUR-10
#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_took_is_never_tried_again_though_the_commit_failed() {
    let w = world(|_| {});
    w.faulty.finish.lock().unwrap().push(StoreError::Broken("scripted".to_owned()));
    w.manager.start();
    w.submit(1, &["a@one.example"]).await;
    w.until("tried", async || w.deliverer.tries("one.example") == 1).await;
    // Others of the same domain still flow, and bring the dispatcher round several times.
    for n in 2..6 {
        w.submit(n, &["b@one.example"]).await;
    }
    w.until("the others", async || w.deliverer.tries("one.example") >= 5).await;
    w.manager.wake(&[]);
    w.until("only the first is left", async || w.of_domain("one.example").await.len() == 1).await;
    w.manager.drain().await;
    assert_eq!(w.deliverer.tries("one.example"), 5, "delivered twice");
    assert_eq!(w.of_domain("one.example").await[0].state, RecipientState::Delivering);
}

// DUR-12
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_does_not_strand_mail_that_is_handed_back() {
    let w = world(|_| {});
    w.deliverer.plan("busy.example", Plan::HandBack);
    w.faulty.release.lock().unwrap().extend([StoreError::Busy, StoreError::Full]);
    w.manager.start();
    w.submit(1, &["a@busy.example"]).await;
    w.until("back in the queue", async || {
        w.deliverer.tries("busy.example") == 1
            && w.of_domain("busy.example").await[0].state == RecipientState::Queued
    })
    .await;
}

// DUR-18
#[tokio::test(flavor = "multi_thread")]
async fn draining_ends_attempts_that_take_too_long_and_gives_their_mail_back() {
    let w = world(|_| {});
    w.deliverer.plan("slow.example", Plan::Hang);
    w.manager.start();
    w.submit(1, &["a@slow.example"]).await;
    w.until("begun", async || w.deliverer.tries("slow.example") == 1).await;
    w.manager.drain().await;
    let row = &w.of_domain("slow.example").await[0];
    assert_eq!((row.state, row.attempts), (RecipientState::Queued, 0));
    assert!(
        w.manager.permit(&w.message(2, &["a@one.example"]).envelope).is_none(),
        "no permits while draining"
    );
}

// DUR-18
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_under_way_at_shutdown_gives_everything_back() {
    let w = world(|s| s.places_per_domain = 3);
    let shut = w.faulty.gate.write().await;
    for n in 0..5 {
        w.submit(n, &["a@one.example"]).await;
    }
    w.manager.start();
    w.faulty.claimed.notified().await;
    w.manager.stop_claiming();
    drop(shut);
    w.manager.drain().await;
    let rows = w.of_domain("one.example").await;
    assert_eq!(w.deliverer.tries("one.example"), 0);
    assert!(rows.iter().all(|r| (r.state, r.attempts) == (RecipientState::Queued, 0)), "{rows:?}");
}

// DUR-12, DUR-18
#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_waits_for_a_locked_database_holds_up_no_drain() {
    let w = world(|s| s.drain = DAY);
    let _locked = w.faulty.heart.write().await;
    w.manager.start();
    w.faulty.beating.notified().await;
    let drained = tokio::time::timeout(Duration::from_secs(60), w.manager.drain()).await;
    assert!(drained.is_ok(), "it waits for the heartbeat");
}
