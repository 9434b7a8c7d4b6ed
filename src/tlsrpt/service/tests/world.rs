//! The surroundings of a service under test.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::faults::Gate;
use super::*;
use crate::dkim::SigningKey;
use crate::dns::zone::ZoneResolver;
use crate::observe::prometheus::Prometheus;
use crate::queue::outcome::Stage;
use crate::queue::{
    ClaimTerms, Diagnosis, FailReason, Finish, Lease, NewMessage, Outcome, RetrySchedule, Settled,
    StoreError, TimelineEntry, Which,
};
use crate::store::sqlite::SqliteSettings;
use crate::tlsrpt::{
    AppliedPolicy, FailureDetail, PolicyVerdict, ResultType, SessionRecord, SessionStore, read,
};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse_host(text).unwrap()
}

/// Receivers by HTTPS: what they answer, and what they were sent.
#[derive(Default)]
pub(super) struct Posts {
    answers: Mutex<HashMap<String, Posted>>,
    seen: Mutex<Vec<(String, Bytes)>>,
}

impl Posts {
    pub(super) fn answer(&self, host: &str, posted: Posted) {
        self.answers.lock().unwrap().insert(host.to_owned(), posted);
    }

    pub(super) fn packed(&self) -> Vec<Bytes> {
        self.seen.lock().unwrap().iter().map(|(_, octets)| octets.clone()).collect()
    }

    pub(super) fn asked(&self, host: &str) -> usize {
        let prefix = format!("https://{host}/");
        self.seen.lock().unwrap().iter().filter(|(url, _)| url.starts_with(&prefix)).count()
    }

    /// The reports, in the order of their arrival.
    pub(super) fn bodies(&self) -> Vec<Body> {
        self.packed().iter().map(|octets| read::read(octets).remove(0).unwrap()).collect()
    }
}

impl ReportPoster for Posts {
    fn post<'a>(&'a self, url: &'a str, packed: Bytes) -> BoxFuture<'a, Posted> {
        async move {
            self.seen.lock().unwrap().push((url.to_owned(), packed));
            let host = url.trim_start_matches("https://").split('/').next().unwrap();
            if host == "silent.example" {
                return std::future::pending().await;
            }
            let answer = self.answers.lock().unwrap().get(host).cloned();
            answer.unwrap_or_else(|| Posted::Accepted { reply: "HTTP 200 OK".to_owned() })
        }
        .boxed()
    }
}

/// The queue of the same store.
pub(super) struct ToQueue(pub(super) Arc<SqliteStore>);

impl ReportMailer for ToQueue {
    fn mail(&self, message: NewMessage) -> BoxFuture<'_, Result<(), StoreError>> {
        async move { self.0.enqueue(message, None).await.map(|_| ()) }.boxed()
    }
}

/// A machine with its clock, its DNS and its receivers; relays come and go on it.
pub(super) struct World {
    dir: tempfile::TempDir,
    pub(super) clock: Arc<ManualClock>,
    pub(super) zone: Arc<ZoneResolver>,
    pub(super) posts: Arc<Posts>,
    pub(super) settings: ReportSettings,
    pub(super) signers: Signers,
    counted: Prometheus,
}

/// A relay that runs.
pub(super) struct Relay {
    pub(super) store: Arc<SqliteStore>,
    pub(super) service: ReportService,
    clock: Arc<ManualClock>,
}

impl World {
    pub(super) fn new() -> Self {
        let counted = Prometheus::new().unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem();
        let key = SigningKey::from_pem(domain("example.net"), "s1".to_owned(), &key).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            // 10:00 of some day.
            clock: Arc::new(ManualClock::new(Timestamp::parse_rfc3339("2026-11-22T10:00:00Z").unwrap())),
            zone: Arc::new(ZoneResolver::new("").unwrap()),
            posts: Arc::default(),
            settings: ReportSettings {
                organization: "Example".to_owned(),
                from: Some(Mailbox::parse("tls-reports@example.net").unwrap()),
                metrics: ReportMetrics::new(&counted.registry()),
                ..ReportSettings::new(domain("relay.example.net"))
            },
            signers: Signers::new(vec![key]),
            counted,
        }
    }

    /// Reports of which this became.
    pub(super) fn reports_counted(&self, result: &str) -> f64 {
        self.counted.value(&format!("sealpost_reports_total{{result=\"{result}\"}}"))
    }

    /// Tries that came to this.
    pub(super) fn tries_counted(&self, way: &str, result: &str) -> f64 {
        let labels = format!("way=\"{way}\",result=\"{result}\"");
        self.counted.value(&format!("sealpost_report_deliveries_total{{{labels}}}"))
    }

    /// `name` publishes these destinations.
    pub(super) fn asks(&self, name: &str, rua: &str) {
        self.zone.add(&format!("_smtp._tls.{name} TXT \"v=TLSRPTv1; rua={rua}\"")).unwrap();
    }

    /// Does something to the database behind everybody's back.
    pub(super) fn meddle(&self, sql: &str) {
        let database = rusqlite::Connection::open(self.dir.path().join("queue.db")).unwrap();
        database.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    pub(super) fn open(&self) -> Relay {
        self.open_behind(&Gate::open())
    }

    /// A relay whose every call of a port goes through a gate.
    pub(super) fn open_behind(&self, gate: &Arc<Gate>) -> Relay {
        let settings = SqliteSettings::new(self.dir.path());
        let store = Arc::new(SqliteStore::open(&settings, Arc::clone(&self.clock) as _).unwrap());
        let parts = Parts {
            store: gate.store(Arc::clone(&store)),
            resolver: Arc::clone(&self.zone) as _,
            mailer: gate.mailer(ToQueue(Arc::clone(&store))),
            poster: gate.poster(Arc::clone(&self.posts)),
            signers: self.signers.clone(),
            clock: Arc::clone(&self.clock) as _,
        };
        let service = ReportService::new(self.settings.clone(), parts);
        Relay { store, service, clock: Arc::clone(&self.clock) }
    }

    /// Lets a jump that the test made for its own ends pass for elapsed time.
    pub(super) fn settle_clock(&self, relay: &Relay) {
        relay.service.inner.memory().watch = ClockWatch::new(self.clock.now(), self.clock.monotonic());
    }
}

impl Relay {
    /// A session that has been recorded.
    pub(super) async fn session(&self, name: &str, success: bool) {
        let details = FailureDetail { result: ResultType::StarttlsNotSupported, reason: None };
        self.store.record(SessionRecord {
            at: self.clock.now(),
            report_domain: domain(name),
            sending_ip: Some([192, 0, 2, 1].into()),
            mx_host: Some(domain(&format!("mx.{name}"))),
            mx_helo: Some(format!("mx.{name}")),
            receiving_ip: Some([198, 51, 100, 7].into()),
            verdicts: vec![PolicyVerdict {
                policy: AppliedPolicy::NoPolicyFound { domain: domain(name) },
                success,
                details: if success { vec![] } else { vec![details] },
            }],
        });
        // Committed with it, or after it.
        self.store.heartbeat().await.unwrap();
        self.store.heartbeat().await.unwrap();
    }

    /// One round of each loop.
    pub(super) async fn step(&self) {
        let _ = self.service.inner.make_round().await;
        self.send().await;
    }

    /// One round of the loops that send.
    pub(super) async fn send(&self) {
        let _ = self.service.inner.mail_round().await;
        let _ = self.service.inner.post_round().await;
    }

    pub(super) async fn reports(&self) -> Vec<ListedReport> {
        self.store.reports(ReportFilter::default(), 100).await.unwrap()
    }

    pub(super) async fn report_of(&self, of: Day, name: &str) -> ListedReport {
        let filter = ReportFilter { id: None, day: Some(of), domain: Some(domain(name)) };
        self.store.reports(filter, 9).await.unwrap().remove(0)
    }

    /// What is in the queue, by address.
    pub(super) async fn mails(&self) -> Vec<ListedRecipient> {
        let mut mails = self.store.list(Filter::default(), 1000).await.unwrap();
        mails.sort_by_key(|m| m.path.to_string());
        mails
    }

    pub(super) async fn content(&self, mail: &ListedRecipient) -> String {
        let octets = self.store.content(mail.message.id, 0).await.unwrap().unwrap();
        String::from_utf8(octets.to_vec()).unwrap()
    }

    pub(super) async fn lease(&self, name: &str) -> Lease {
        let terms = ClaimTerms { domain: None, schedule: Arc::new(RetrySchedule::default()) };
        self.store.claim(domain(name), Which::Due, 1, terms).await.unwrap().remove(0)
    }

    /// The mail to this domain is taken by its receiver, or refused.
    pub(super) async fn deliver(&self, name: &str, accepted: bool) {
        let lease = self.lease(name).await;
        let (code, text) = if accepted { (250, "250 2.0.0 taken") } else { (550, "550 5.1.1 no such user") };
        let now = self.clock.now();
        let diagnosis =
            Diagnosis { stage: Stage::Dot, code: Some(code), ..Diagnosis::local(now, text.to_owned()) };
        let outcome = if accepted {
            Outcome::Delivered(diagnosis)
        } else {
            Outcome::Failed(FailReason::Rejected, diagnosis)
        };
        let entry = TimelineEntry {
            at: now,
            attempt: 1,
            domain: lease.domain.clone(),
            steps: vec![],
            results: vec![],
        };
        let settled = vec![Settled { no: 0, outcome, next_attempt: None, counted: true }];
        let finish = Finish { lease: lease.id, settled, entry, generated: vec![] };
        self.store.finish(finish).await.unwrap();
    }

    pub(super) async fn close(self) {
        self.store.close().await;
    }
}
