//! How long mail is tried, and how it ends.

use std::time::Duration;

use sealpost::clock::Clock;
use sealpost::mail::Origin;
use sealpost::queue::outcome::DeferReason;
use sealpost::queue::{Filter, Intake, NewMessage, QueueStore, RecipientState};

use super::world::*;

#[tokio::test(flavor = "multi_thread")]
async fn due_mail_is_delivered_and_leaves_the_queue() {
    let w = world(|_| {});
    w.manager.start();
    w.submit(1, &["a@one.example", "b@one.example", "c@two.example"]).await;
    w.until("all delivered", async || w.list(Filter::default()).await.is_empty()).await;
    assert_eq!(
        w.deliverer.tries("one.example"),
        1,
        "one transaction for both recipients of a domain (QUE-01)"
    );
    assert_eq!(w.deliverer.tries("two.example"), 1);
}

// Speed: a first attempt needs no commit of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_permit_delivers_without_a_second_lease() {
    let w = world(|_| {});
    w.manager.start();
    let message = w.message(1, &["a@one.example"]);
    let permit = w.manager.permit(&message.envelope).unwrap();
    let terms = w.manager.terms(&permit);
    let done = w.store.enqueue(message, Some(terms)).await.unwrap();
    assert!(done.lease.is_some());
    w.manager.arrived(Some(permit), done.lease);
    w.until("delivered", async || w.list(Filter::default()).await.is_empty()).await;
}

// QUE-06, QUE-20, DSN-14
#[tokio::test(flavor = "multi_thread")]
async fn mail_expires_only_after_an_attempt_that_ended_after_its_lifetime() {
    // A sweep may otherwise warn in the moment before the attempt.
    let w = world(|s| s.delay_warning_after = None);
    w.deliverer.plan("one.example", Plan::Defer(DeferReason::TlsCertificate));
    w.submit(1, &["a@one.example"]).await;
    // Down for six days: nothing was tried, so nothing may be returned untried.
    w.clock.advance(6 * DAY);
    assert_eq!(w.of_domain("one.example").await[0].state, RecipientState::Queued);
    w.deliverer.plan("one.example", Plan::Deliver);
    w.manager.start();
    w.until("delivered at last", async || w.of_domain("one.example").await.is_empty()).await;
    assert!(w.list(Filter::default()).await.is_empty(), "no DSN");

    w.deliverer.plan("two.example", Plan::Defer(DeferReason::TlsCertificate));
    let id = w.submit(2, &["a@two.example"]).await;
    w.until("deferred", async || w.of_domain("two.example").await[0].state == RecipientState::Deferred).await;
    w.deliverer.plan("sender.example", Plan::Hang);
    w.clock.advance(6 * DAY);
    w.manager.wake(&[]);
    w.until("returned", async || w.of_domain("two.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("two.example"), 2, "one attempt after the end of the lifetime");
    let shown = w.store.show(id).await.unwrap().unwrap();
    assert_eq!(shown.recipients[0].state, RecipientState::Bounced);
    assert_eq!(shown.recipients[0].cause, "expired");
    let dsn = w.of_domain("sender.example").await;
    assert_eq!(dsn.len(), 1, "one DSN, to the sender");
    assert_eq!(dsn[0].message.origin, Origin::Dsn);
    // What it waited for, and not merely that its time was over.
    let content = w.store.content(dsn[0].message.id, 0).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&content).replace("\r\n", " ");
    assert!(text.contains("A protected connection to") && text.contains("until the time allowed"), "{text}");
}

// STS-53
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changed_at_the_end_earns_one_more_attempt() {
    let w = world(|_| {});
    w.deliverer.plan("one.example", Plan::Defer(DeferReason::PolicyMx));
    w.submit(1, &["a@one.example"]).await;
    w.clock.advance(6 * DAY);
    *w.deliverer.policy_changed.lock().unwrap() = true;
    w.manager.start();
    w.until("tried again", async || w.deliverer.tries("one.example") >= 2).await;
    *w.deliverer.policy_changed.lock().unwrap() = false;
    w.until("returned then", async || w.of_domain("one.example").await.is_empty()).await;
}

// STS-53: a domain that has a new policy at every look does not keep mail for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_all_the_time_earns_one_more_attempt_and_no_second() {
    let w = world(|_| {});
    w.deliverer.plan("odd.example", Plan::Defer(DeferReason::TlsCertificate));
    w.deliverer.plan("sender.example", Plan::Hang);
    *w.deliverer.policy_changed.lock().unwrap() = true;
    w.manager.start();
    w.submit(1, &["a@odd.example"]).await;
    w.until("deferred", async || w.of_domain("odd.example").await[0].state == RecipientState::Deferred).await;
    w.clock.advance(DAY * 6);
    w.manager.wake(&[]);
    w.until("returned", async || w.of_domain("odd.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("odd.example"), 3, "the last attempt, and one for the new policy");
}

// `What always holds` 1, QUE-06: a message that cannot be sent as it is stored is tried like any other, loudly, and is
// returned once an attempt after its lifetime has failed too.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_message_waits_with_its_cause_and_ends_with_its_lifetime() {
    let w = world(|s| s.delay_warning_after = None);
    w.deliverer.plan("one.example", Plan::Defer(DeferReason::Damaged));
    w.deliverer.plan("sender.example", Plan::Hang);
    w.submit(1, &["a@one.example"]).await;
    w.manager.start();
    w.until("deferred", async || w.of_domain("one.example").await[0].state == RecipientState::Deferred).await;
    let row = w.of_domain("one.example").await.remove(0);
    assert_eq!((row.cause.as_str(), row.attempts), ("damaged", 1));
    assert!(
        row.next_attempt.unwrap() >= w.clock.now().after(Duration::from_secs(240)),
        "with the usual back-off"
    );
    w.clock.advance(6 * DAY);
    w.manager.wake(&[]);
    w.until("returned", async || w.of_domain("one.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("one.example"), 2, "one attempt after the end of the lifetime");
    assert_eq!(w.of_domain("sender.example").await.len(), 1, "its sender is told");
}

// QUE-06, `What always holds` 2: as long as the trouble is this machine's, nothing was tried and nothing is returned.
#[tokio::test]
async fn trouble_of_ours_never_ends_a_message_and_is_loud_once_its_lifetime_is_over() {
    let sheet = Sheet::default();
    let _log = sheet.start();
    let w = world(|s| s.delay_warning_after = None);
    w.deliverer.plan("one.example", Plan::Defer(DeferReason::Local));
    w.submit(1, &["a@one.example"]).await;
    w.manager.start();
    w.until("deferred", async || w.of_domain("one.example").await[0].state == RecipientState::Deferred).await;
    assert!(sheet.events("kept-past-its-lifetime").is_empty());
    for _ in 0..2 {
        let tries = w.deliverer.tries("one.example");
        w.clock.advance(6 * DAY);
        w.manager.wake(&[]);
        w.until("tried again", async || w.deliverer.tries("one.example") > tries).await;
        // What is not committed yet is not due, however late the clock says it is.
        w.until("waits", async || w.of_domain("one.example").await[0].state == RecipientState::Deferred)
            .await;
    }
    w.until("said loudly", async || sheet.events("kept-past-its-lifetime").len() >= 2).await;
    let line = sheet.events("kept-past-its-lifetime").remove(0);
    assert_eq!((&line["level"], &line["domain"]), (&"ERROR".into(), &"one.example".into()), "{line}");
    let row = w.of_domain("one.example").await.remove(0);
    assert_eq!((row.cause.as_str(), row.attempts), ("local", 0));
    w.deliverer.plan("one.example", Plan::Deliver);
    w.clock.advance(Duration::from_secs(61));
    w.manager.wake(&[]);
    w.until("delivered at last", async || w.list(Filter::default()).await.is_empty()).await;
}

// RPT-86, RPT-87
#[tokio::test(flavor = "multi_thread")]
async fn a_tls_report_is_tried_for_a_day_and_nobody_hears_of_its_fate() {
    let w = world(|s| s.max_age = Duration::from_secs(3600));
    w.deliverer.plan("late.example", Plan::Defer(DeferReason::Reply));
    w.deliverer.plan("no.example", Plan::Reject);
    let report = |n, to: &str| NewMessage { origin: Origin::TlsReport, ..w.message(n, &[to]) };
    let late = report(1, "tlsrpt@late.example");
    let id = late.id;
    w.store.enqueue(late, None).await.unwrap();
    w.store.enqueue(report(2, "tlsrpt@no.example"), None).await.unwrap();
    w.manager.start();
    w.until("refused", async || w.of_domain("no.example").await.is_empty()).await;
    for hours in [5, 18] {
        let tries = w.deliverer.tries("late.example");
        w.clock.advance(Duration::from_secs(hours * 3600));
        w.manager.wake(&[]);
        w.until("tried again", async || w.deliverer.tries("late.example") > tries).await;
        w.until("settled", async || w.of_domain("late.example").await[0].state == RecipientState::Deferred)
            .await;
    }
    w.clock.advance(Duration::from_secs(2 * 3600));
    w.manager.wake(&[]);
    w.until("ended", async || w.of_domain("late.example").await.is_empty()).await;
    assert_eq!(w.store.show(id).await.unwrap().unwrap().recipients[0].cause, "expired");
    assert!(w.of_domain("sender.example").await.is_empty(), "no warning and no DSN");
}
