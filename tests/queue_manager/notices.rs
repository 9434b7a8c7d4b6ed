//! What senders and operators are told.

use std::time::Duration;

use sealpost::clock::Clock;
use sealpost::dkim::{Algorithm, Signers, SigningKey, keygen};
use sealpost::mail::{Domain, ReversePath};
use sealpost::observe::fields;
use sealpost::queue::outcome::{CertificateFacts, DeferReason, Promise};
use sealpost::queue::{Filter, QueueStore, RecipientState, Suspension};

use super::world::*;

// SIG-19
#[tokio::test(flavor = "multi_thread")]
async fn a_notification_is_signed_by_our_own_domain() {
    let pem = keygen::generate(Algorithm::Ed25519).unwrap();
    let domain = Domain::parse("example.net").unwrap();
    let key = SigningKey::from_pem(domain, "s1".to_owned(), &pem).unwrap();
    let w = world(|s| s.signers = Signers::new(vec![key]));
    w.manager.start();
    w.deliverer.plan("one.example", Plan::Reject);
    w.deliverer.plan("sender.example", Plan::Hang);
    w.submit(1, &["a@one.example"]).await;
    w.until("told", async || w.of_domain("sender.example").await.len() == 1).await;
    let dsn = w.of_domain("sender.example").await.remove(0).message;
    let content = w.store.content(dsn.id, 0).await.unwrap().unwrap();
    assert_eq!(content.len() as u64, dsn.size);
    let text = String::from_utf8_lossy(&content);
    assert!(
        text.starts_with("DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.net;"),
        "{text}"
    );
    assert!(
        text.contains("\r\nFrom: \"Mail Delivery System\" <MAILER-DAEMON@relay.example.net>\r\n"),
        "{text}"
    );
}

// DSN-02, QUE-10
#[tokio::test(flavor = "multi_thread")]
async fn a_bounce_never_bounces() {
    let w = world(|_| {});
    w.deliverer.plan("one.example", Plan::Reject);
    w.deliverer.plan("sender.example", Plan::Reject);
    w.manager.start();
    w.submit(1, &["a@one.example"]).await;
    w.until("the DSN was tried", async || w.deliverer.tries("sender.example") == 1).await;
    w.until("and nothing follows", async || w.list(Filter::default()).await.is_empty()).await;
    assert_eq!(w.deliverer.tries("sender.example"), 1);
}

// DSN-04
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_is_warned_once_per_domain_and_cause() {
    let w = world(|_| {});
    w.deliverer.plan("late.example", Plan::Defer(DeferReason::TlsMissing));
    w.deliverer.plan("sender.example", Plan::Hang);
    w.manager.start();
    for n in 0..50 {
        w.submit(n, &["a@late.example"]).await;
    }
    w.until("all tried", async || w.deliverer.tries("late.example") >= 50).await;
    w.until("all settled", async || {
        w.of_domain("late.example").await.iter().all(|r| r.state == RecipientState::Deferred)
    })
    .await;
    assert!(w.of_domain("sender.example").await.is_empty(), "not before its time");
    w.clock.advance(Duration::from_secs(4 * 3600 + 1));
    w.until("a warning", async || !w.of_domain("sender.example").await.is_empty()).await;
    w.clock.advance(Duration::from_secs(60));
    // Several more sweeps pass.
    let before = w.deliverer.tries("late.example");
    w.manager.wake(&[]);
    w.until("and the mail is still tried", async || w.deliverer.tries("late.example") > before).await;
    assert_eq!(w.of_domain("sender.example").await.len(), 1, "one warning for fifty messages");
}

// DSN-04: the warning says why, with the lines for the postmaster of a domain whose promise is broken.
#[tokio::test(flavor = "multi_thread")]
async fn a_warning_tells_the_broken_promise_and_the_certificate() {
    let w = world(|_| {});
    let certificate = CertificateFacts {
        names: vec!["mx.example.net".into()],
        issuer: "CN=Lab".into(),
        not_before: w.clock.now().before(90 * DAY),
        not_after: w.clock.now().before(DAY),
        sha256: "ab".repeat(32),
    };
    let promise = Promise {
        kind: "mta-sts".into(),
        mode: "enforce".into(),
        id: "2026".into(),
        mx: vec!["mx.example.net".into()],
        fetched: Some(w.clock.now()),
        expires: Some(w.clock.now().after(DAY)),
        broken: Some("the certificate expired".into()),
        certificate: Some(certificate),
        would_match: Vec::new(),
    };
    w.deliverer.promised(promise);
    w.deliverer.plan("late.example", Plan::Defer(DeferReason::TlsCertificate));
    w.deliverer.plan("sender.example", Plan::Hang);
    w.manager.start();
    w.submit(1, &["a@late.example"]).await;
    w.until("tried", async || {
        w.of_domain("late.example").await.iter().all(|r| r.state == RecipientState::Deferred)
    })
    .await;
    w.clock.advance(Duration::from_secs(4 * 3600 + 1));
    w.until("a warning", async || !w.of_domain("sender.example").await.is_empty()).await;
    let id = w.of_domain("sender.example").await[0].message.id;
    let text = String::from_utf8(w.store.content(id, 0).await.unwrap().unwrap().to_vec()).unwrap();
    for part in
        ["Action: delayed", "To the postmaster of late.example", "enforce", "CN=Lab", "the lines below"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    w.manager.abandon();
}

// DSN-04: thousands of messages whose sender was told within the hour do not stand in the way of another sender.
#[tokio::test(flavor = "multi_thread")]
async fn every_sender_gets_its_warning_however_much_of_one_sender_waits() {
    let w = world(|_| {});
    for domain in ["late.example", "slow.example"] {
        let until = w.clock.now().after(DAY);
        let suspension = Suspension { until, step: 1, last: w.deliverer.diagnosis("no route") };
        w.store.suspend(Domain::parse(domain).unwrap(), Some(suspension)).await.unwrap();
    }
    for sender in ["sender.example", "other.example"] {
        w.deliverer.plan(sender, Plan::Hang);
    }
    let many: Vec<String> = (0..4100).map(|n| format!("r{n}@late.example")).collect();
    w.store.enqueue(w.message(1, &many.iter().map(String::as_str).collect::<Vec<_>>()), None).await.unwrap();
    w.clock.advance(Duration::from_secs(60));
    let mut other = w.message(2, &["a@slow.example"]);
    other.envelope.reverse_path = ReversePath::parse("app@other.example").unwrap();
    w.store.enqueue(other, None).await.unwrap();
    w.clock.advance(Duration::from_secs(5 * 3600));
    w.manager.start();
    w.until("the other sender is warned", async || w.of_domain("other.example").await.len() == 1).await;
    assert_eq!(w.of_domain("sender.example").await.len(), 1, "once an hour");
    w.manager.abandon();
}

// One log line per attempt and recipient: every field of the interface, whatever the outcome.
#[tokio::test]
async fn each_attempt_and_recipient_is_one_log_line_with_every_field() {
    let sheet = Sheet::default();
    let _log = sheet.start();
    let w = world(|_| {});
    w.deliverer.plan("wait.example", Plan::Defer(DeferReason::TlsMissing));
    w.deliverer.plan("no.example", Plan::Reject);
    w.manager.start();
    w.submit(1, &["a@good.example", "b@good.example", "c@wait.example", "d@no.example"]).await;
    // The notification to the sender is an attempt of its own.
    let lines = || -> Vec<serde_json::Value> {
        sheet.events(fields::EVENT).into_iter().filter(|l| l["domain"] != "sender.example").collect()
    };
    w.until("four lines", async || lines().len() >= 4).await;
    let lines = lines();
    let mut seen: Vec<_> = lines.iter().map(|l| format!("{} {}", l["recipient"], l["outcome"])).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "\"a@good.example\" \"delivered\"",
            "\"b@good.example\" \"delivered\"",
            "\"c@wait.example\" \"deferred\"",
            "\"d@no.example\" \"bounced\"",
        ]
    );
    for line in &lines {
        let missing: Vec<_> = fields::DELIVERY.iter().filter(|f| line[**f].is_null()).collect();
        assert!(missing.is_empty(), "{missing:?} in {line}");
    }
}
