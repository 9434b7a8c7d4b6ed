//! A manager over the real store, with a deliverer that does what it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::delivery::{AttemptReport, HandBack, Ledger};
use sealpost::mail::{
    Domain, EnhancedCode, Envelope, EnvelopeRecipient, ForwardPath, Origin, QueueId, ReversePath,
};
use sealpost::queue::manager::{Deliverer, Manager, ManagerSettings};
use sealpost::queue::outcome::{DeferReason, Diagnosis, FailReason, Outcome, Promise, Stage};
use sealpost::queue::{
    self, Filter, Intake, Lease, LeaseId, ListedRecipient, NewMessage, QueueStore, StoreError, Suspension,
};
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// What the scripted deliverer does with mail for a domain.
#[derive(Clone)]
pub(super) enum Plan {
    Deliver,
    Defer(DeferReason),
    Reject,
    Unreachable,
    HandBack,
    Panic,
    Hang,
}

pub(super) struct Scripted {
    plans: Mutex<HashMap<String, Plan>>,
    pub(super) tried: Mutex<Vec<String>>,
    pub(super) policy_changed: Mutex<bool>,
    promise: Mutex<Option<Promise>>,
    pub(super) clock: Arc<ManualClock>,
    freed: Notify,
    attempted: Notify,
}

impl Scripted {
    pub(super) fn plan(&self, domain: &str, plan: Plan) {
        self.plans.lock().unwrap().insert(domain.to_owned(), plan);
    }

    /// What every domain promised, and how it is broken.
    pub(super) fn promised(&self, promise: Promise) {
        *self.promise.lock().unwrap() = Some(promise);
    }

    pub(super) fn tries(&self, domain: &str) -> usize {
        self.tried.lock().unwrap().iter().filter(|d| *d == domain).count()
    }

    pub(super) fn diagnosis(&self, text: &str) -> Diagnosis {
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
            unmet: None,
            promise: self.promise.lock().unwrap().clone(),
            session: None,
            waited_for: None,
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

/// The real store, but for errors that wait for their call, a gate behind every claim, and one before every heartbeat.
pub(super) struct Faulty {
    pub(super) store: Arc<SqliteStore>,
    pub(super) finish: Mutex<Vec<StoreError>>,
    pub(super) release: Mutex<Vec<StoreError>>,
    pub(super) gate: tokio::sync::RwLock<()>,
    pub(super) claimed: Notify,
    pub(super) heart: tokio::sync::RwLock<()>,
    pub(super) beating: Notify,
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

    fn heartbeat(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            self.beating.notify_one();
            let _open = self.heart.read().await;
            self.store.heartbeat().await
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
pub(super) struct Sheet(Arc<Mutex<Vec<u8>>>);

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
    pub(super) fn start(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let log =
            tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_default(log)
    }

    pub(super) fn events(&self, event: &str) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let all = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
        all.filter(|l| l["event"] == event).collect()
    }
}

pub(super) struct World {
    _dir: tempfile::TempDir,
    pub(super) faulty: Arc<Faulty>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) store: Arc<SqliteStore>,
    pub(super) deliverer: Arc<Scripted>,
    pub(super) manager: Manager,
}

pub(super) fn world(change: impl FnOnce(&mut ManagerSettings)) -> World {
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
        heart: tokio::sync::RwLock::default(),
        beating: Notify::new(),
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
    pub(super) fn message(&self, n: u64, to: &[&str]) -> NewMessage {
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

    pub(super) async fn submit(&self, n: u64, to: &[&str]) -> QueueId {
        let message = self.message(n, to);
        let id = message.id;
        self.store.enqueue(message, None).await.unwrap();
        self.manager.arrived(None, None);
        id
    }

    pub(super) async fn list(&self, filter: Filter) -> Vec<ListedRecipient> {
        self.store.list(filter, 10_000).await.unwrap()
    }

    pub(super) async fn of_domain(&self, domain: &str) -> Vec<ListedRecipient> {
        self.list(Filter { domain: Some(Domain::parse(domain).unwrap()), ..Filter::default() }).await
    }

    /// Waits until `done`, or fails after a minute of real time: machines under load are slow, not wrong.
    pub(super) async fn until<F: Future<Output = bool>>(&self, what: &str, mut done: impl FnMut() -> F) {
        for _ in 0..6000 {
            if done().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("not within a minute: {what}");
    }
}
