//! The queue at work, on the real store with a scripted deliverer: what is tried, what waits, what is returned.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::delivery::{AttemptReport, HandBack, Ledger};
use sealpost::dkim::{Algorithm, Signers, SigningKey, keygen};
use sealpost::mail::{
    Domain, EnhancedCode, Envelope, EnvelopeRecipient, ForwardPath, Origin, QueueId, ReversePath,
};
use sealpost::observe::fields;
use sealpost::queue::manager::{Deliverer, Manager, ManagerSettings};
use sealpost::queue::outcome::{
    CertificateFacts, DeferReason, Diagnosis, FailReason, Outcome, Promise, Stage,
};
use sealpost::queue::{
    self, Filter, Intake, Lease, LeaseId, ListedRecipient, NewMessage, QueueStore, RecipientState,
    StoreError, Suspension,
};
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(86_400);

/// What the scripted deliverer does with mail for a domain.
#[derive(Clone)]
enum Plan {
    Deliver,
    Defer(DeferReason),
    Reject,
    Unreachable,
    HandBack,
    Panic,
    Hang,
}

struct Scripted {
    plans: Mutex<HashMap<String, Plan>>,
    tried: Mutex<Vec<String>>,
    policy_changed: Mutex<bool>,
    promise: Mutex<Option<Promise>>,
    clock: Arc<ManualClock>,
    freed: Notify,
    attempted: Notify,
}

impl Scripted {
    fn plan(&self, domain: &str, plan: Plan) {
        self.plans.lock().unwrap().insert(domain.to_owned(), plan);
    }

    /// What every domain promised, and how it is broken.
    fn promised(&self, promise: Promise) {
        *self.promise.lock().unwrap() = Some(promise);
    }

    fn tries(&self, domain: &str) -> usize {
        self.tried.lock().unwrap().iter().filter(|d| *d == domain).count()
    }

    fn diagnosis(&self, text: &str) -> Diagnosis {
        Diagnosis {
            at: self.clock.now(),
            stage: Stage::Rcpt,
            host: Some(Domain::parse("mx.example.net").unwrap()),
            ip: None,
            port: None,
            source_ip: None,
            code: Some(450),
            enhanced: EnhancedCode::new(4, 2, 0),
            text: text.to_owned(),
            tls_failure: None,
            maybe_delivered: false,
            security: None,
            waived: None,
            promise: self.promise.lock().unwrap().clone(),
            session: None,
            remote_id: None,
        }
    }
}

impl Deliverer for Scripted {
    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        ledger: &'a dyn Ledger,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, AttemptReport> {
        async move {
            self.tried.lock().unwrap().push(lease.domain.to_string());
            self.attempted.notify_waiters();
            let plan =
                self.plans.lock().unwrap().get(lease.domain.as_str()).cloned().unwrap_or(Plan::Deliver);
            let all = |outcome: Outcome| lease.recipients.iter().map(|r| (r.no, outcome.clone())).collect();
            let d = self.diagnosis("scripted");
            let mut report = AttemptReport { reached: true, ..AttemptReport::default() };
            match plan {
                Plan::Deliver => {
                    // The real one sends nothing more after an error, and says nothing.
                    let _ = ledger.record(all(Outcome::Delivered(d)), Vec::new()).await;
                }
                Plan::Defer(reason) => {
                    ledger.record(all(Outcome::Deferred(reason, d)), Vec::new()).await.unwrap()
                }
                Plan::Reject => {
                    ledger.record(all(Outcome::Failed(FailReason::Rejected, d)), Vec::new()).await.unwrap();
                }
                Plan::Unreachable => {
                    ledger
                        .record(all(Outcome::Deferred(DeferReason::Connect, d.clone())), Vec::new())
                        .await
                        .unwrap();
                    report = AttemptReport { unreachable: Some(d), ..AttemptReport::default() };
                }
                Plan::HandBack => {
                    let recipients = lease.recipients.iter().map(|r| r.no).collect();
                    let until = Some(self.clock.now().after(Duration::from_secs(600)));
                    report.hand_back = Some(HandBack { recipients, until });
                }
                Plan::Panic => panic!("scripted"),
                Plan::Hang => cancel.cancelled().await,
            }
            report
        }
        .boxed()
    }

    fn final_look<'a>(&'a self, _domain: &'a Domain) -> BoxFuture<'a, bool> {
        async move { *self.policy_changed.lock().unwrap() }.boxed()
    }

    fn freed(&self) -> BoxFuture<'_, ()> {
        self.freed.notified().boxed()
    }
}

/// The real store, but for errors that wait for their call, and a gate behind every claim.
struct Faulty {
    store: Arc<SqliteStore>,
    finish: Mutex<Vec<StoreError>>,
    release: Mutex<Vec<StoreError>>,
    gate: tokio::sync::RwLock<()>,
    claimed: Notify,
}

macro_rules! pass_on {
    ($($name:ident($($n:ident: $arg:ty),*) -> $out:ty;)*) => {
        $(fn $name(&self, $($n: $arg),*) -> BoxFuture<'_, Result<$out, StoreError>> {
            self.store.$name($($n),*)
        })*
    };
}

impl QueueStore for Faulty {
    pass_on! {
        enqueue(m: NewMessage, c: Option<queue::ClaimTerms>) -> queue::Enqueued;
        due(q: queue::DueQuery) -> queue::Due;
        content(id: QueueId, part: u32) -> Option<Bytes>;
        suspend(d: Domain, s: Option<Suspension>) -> ();
        delayed(t: Timestamp, after: Option<(QueueId, u32)>, n: usize) -> Vec<queue::Delayed>;
        warned(r: Vec<(QueueId, u32)>, m: Vec<NewMessage>) -> ();
        purge(keep: Duration, limit: u64) -> bool;
        heartbeat() -> ();
        list(f: Filter, n: usize) -> Vec<ListedRecipient>;
        show(id: QueueId) -> Option<queue::ShownMessage>;
        retry(f: Filter) -> queue::Touched;
    }

    fn claim(
        &self,
        domain: Domain,
        which: queue::Which,
        limit: usize,
        terms: queue::ClaimTerms,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>> {
        async move {
            let leases = self.store.claim(domain, which, limit, terms).await;
            self.claimed.notify_one();
            let _open = self.gate.read().await;
            leases
        }
        .boxed()
    }

    fn finish(&self, finish: queue::Finish) -> BoxFuture<'_, Result<(), StoreError>> {
        match self.finish.lock().unwrap().pop() {
            Some(error) => async { Err(error) }.boxed(),
            None => self.store.finish(finish),
        }
    }

    fn release(
        &self,
        lease: LeaseId,
        recipients: Vec<u32>,
        until: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        match self.release.lock().unwrap().pop() {
            Some(error) => async { Err(error) }.boxed(),
            None => self.store.release(lease, recipients, until),
        }
    }

    fn health(&self) -> queue::StoreHealth {
        self.store.health()
    }
}

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Sheet(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sheet {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Sheet {
    fn start(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let log =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_default(log)
    }

    fn events(&self, event: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let all = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        all.filter(|l| l["event"] == event).collect()
    }
}

struct World {
    _dir: tempfile::TempDir,
    faulty: Arc<Faulty>,
    clock: Arc<ManualClock>,
    store: Arc<SqliteStore>,
    deliverer: Arc<Scripted>,
    manager: Manager,
}

fn world(change: impl FnOnce(&mut ManagerSettings)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()));
    let store = Arc::new(
        SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock) as Arc<dyn Clock>).unwrap(),
    );
    let faulty = Arc::new(Faulty {
        store: Arc::clone(&store),
        finish: Mutex::default(),
        release: Mutex::default(),
        gate: tokio::sync::RwLock::default(),
        claimed: Notify::new(),
    });
    let deliverer = Arc::new(Scripted {
        plans: Mutex::default(),
        tried: Mutex::default(),
        policy_changed: Mutex::default(),
        promise: Mutex::default(),
        clock: Arc::clone(&clock),
        freed: Notify::new(),
        attempted: Notify::new(),
    });
    let mut settings = ManagerSettings::new(Domain::parse("relay.example.net").unwrap());
    settings.sweep_interval = Duration::from_millis(20);
    settings.look_interval = Duration::from_millis(1);
    settings.drain = Duration::from_millis(200);
    change(&mut settings);
    let manager = Manager::new(
        settings,
        Arc::clone(&faulty) as Arc<dyn QueueStore>,
        Arc::clone(&deliverer) as Arc<dyn Deliverer>,
        Arc::clone(&clock) as Arc<dyn Clock>,
    );
    World { _dir: dir, faulty, clock, store, deliverer, manager }
}

impl World {
    fn message(&self, n: u64, to: &[&str]) -> NewMessage {
        let mut id = [0_u8; 16];
        id[8..].copy_from_slice(&n.to_be_bytes());
        id[0] = 1;
        NewMessage {
            id: QueueId::from_bytes(id),
            origin: Origin::Submitted,
            envelope: Envelope {
                reverse_path: ReversePath::parse("app@sender.example").unwrap(),
                recipients: to
                    .iter()
                    .map(|a| EnvelopeRecipient {
                        path: ForwardPath::parse(a).unwrap(),
                        notify: None,
                        orcpt: None,
                    })
                    .collect(),
                ret: None,
                envid: None,
                sender_tls: sealpost::mail::SenderTls::Unsaid,
                smtputf8: false,
                has_8bit: false,
            },
            message_id: format!("<{n}@sender.example>"),
            submitter: "127.0.0.1".to_owned(),
            arrived: self.clock.now(),
            content: Arc::new(Bytes::from_static(b"From: app@sender.example\r\nSubject: s\r\n\r\nbody\r\n")),
            origin_key: None,
        }
    }

    async fn submit(&self, n: u64, to: &[&str]) -> QueueId {
        let message = self.message(n, to);
        let id = message.id;
        self.store.enqueue(message, None).await.unwrap();
        self.manager.arrived(None, None);
        id
    }

    async fn list(&self, filter: Filter) -> Vec<ListedRecipient> {
        self.store.list(filter, 10_000).await.unwrap()
    }

    async fn of_domain(&self, domain: &str) -> Vec<ListedRecipient> {
        self.list(Filter { domain: Some(Domain::parse(domain).unwrap()), ..Filter::default() }).await
    }

    /// Waits until `done`, or fails after a minute of real time: machines under load are slow, not wrong.
    async fn until<F: Future<Output = bool>>(&self, what: &str, mut done: impl FnMut() -> F) {
        for _ in 0..6000 {
            if done().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a minute: {what}");
    }
}

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
    w.until("tried", async || w.deliverer.tries("two.example") == 1).await;
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
}

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
    let later = w.clock.now().after(Duration::from_secs(30));
    w.until("suspended", async || {
        w.of_domain("dead.example").await.iter().all(|r| r.next_attempt > Some(later))
    })
    .await;
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

// QUE-30
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_domain_with_much_mail_does_not_delay_another() {
    let w = world(|s| s.places = 30);
    w.deliverer.plan("slow.example", Plan::Hang);
    for n in 0..2000 {
        w.store.enqueue(w.message(n, &["a@slow.example"]), None).await.unwrap();
    }
    w.manager.start();
    w.until("slow fills its places", async || w.deliverer.tries("slow.example") == 20).await;
    w.submit(5000, &["a@fast.example"]).await;
    w.until("fast is delivered", async || w.of_domain("fast.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("slow.example"), 20, "a domain holds its own places at most (QUE-31)");
    w.manager.abandon();
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

// QUE-30
#[tokio::test(flavor = "multi_thread")]
async fn when_places_are_short_every_domain_gets_its_turn() {
    let w = world(|s| s.places = 4);
    let domains: Vec<String> = (0..12).map(|d| format!("d{d:02}.example")).collect();
    for n in 0..40 * 12_u64 {
        let to = format!("a@{}", domains[usize::try_from(n).unwrap() % 12]);
        w.store.enqueue(w.message(n, &[&to]), None).await.unwrap();
    }
    w.manager.start();
    w.until("all delivered", async || w.list(Filter::default()).await.is_empty()).await;
    let tried = w.deliverer.tried.lock().unwrap();
    let nth =
        |domain: &str, n: usize| tried.iter().enumerate().filter(|(_, d)| *d == domain).nth(n).unwrap().0;
    let last_first = domains.iter().map(|d| nth(d, 0)).max().unwrap();
    let first_done = domains.iter().map(|d| nth(d, 39)).min().unwrap();
    assert!(
        last_first < first_done,
        "the last domain began at {last_first}, the first was done at {first_done}"
    );
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

// STS-53: a domain that has a new policy at every look does not keep mail for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_all_the_time_earns_one_more_attempt_and_no_second() {
    let w = world(|_| {});
    w.deliverer.plan("odd.example", Plan::Defer(DeferReason::TlsCertificate));
    w.deliverer.plan("sender.example", Plan::Hang);
    *w.deliverer.policy_changed.lock().unwrap() = true;
    w.manager.start();
    w.submit(1, &["a@odd.example"]).await;
    w.until("tried", async || w.deliverer.tries("odd.example") == 1).await;
    w.clock.advance(DAY * 6);
    w.manager.wake(&[]);
    w.until("returned", async || w.of_domain("odd.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("odd.example"), 3, "the last attempt, and one for the new policy");
}
