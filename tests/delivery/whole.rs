//! The whole way from queue to wire: the real store, manager, policy service and routes, over a zone, a policy
//! host that is told what to serve, and a clock that moves only when told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::delivery::attempt::{AttemptSettings, Attempts, DnsRoutes, DnsTlsa, Parts};
use sealpost::delivery::pool::{Pool, PoolSettings};
use sealpost::delivery::starttls::Tls;
use sealpost::delivery::{AttemptReport, Ledger};
use sealpost::dns::cache::{CacheSettings, CachingResolver};
use sealpost::dns::zone::ZoneResolver;
use sealpost::dns::{Dnssec, Resolver};
use sealpost::mail::{Domain, Envelope, EnvelopeRecipient, ForwardPath, Origin, QueueId, ReversePath};
use sealpost::mtasts::service::{PolicyService, ServiceSettings};
use sealpost::mtasts::{FetchFailure, PolicyFetcher, PolicyStore};
use sealpost::queue::manager::{Deliverer, Manager, ManagerSettings};
use sealpost::queue::{Intake as _, Lease, ListedRecipient, NewMessage, QueueStore, RecipientState};
use sealpost::route::RouteSettings;
use sealpost::route::smart_host::{Rule, Rules, SmartHost};
use sealpost::security::Level;
use sealpost::security::decide::Demand;
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use sealpost::tlsrpt::{AppliedPolicy, SessionRecord, SessionStore};
use tokio_util::sync::CancellationToken;

use crate::authority::Authority;
use crate::server::{Manners, connections, count, serve};
use crate::world::{Notes, domain};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Serves policies by domain; any other gets 404.
#[derive(Default)]
struct PolicyHosts(Mutex<HashMap<Domain, String>>);

impl PolicyFetcher for PolicyHosts {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<u8>, FetchFailure>> {
        let body = self.0.lock().unwrap().get(domain).cloned();
        let answer = body.ok_or_else(|| FetchFailure::fetch_error("http-404", "as told"));
        async move { answer.map(String::into_bytes) }.boxed()
    }
}

/// Attempts as the queue sees them.
struct Courier(Attempts, Arc<Pool>);

impl Deliverer for Courier {
    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        ledger: &'a dyn Ledger,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, AttemptReport> {
        self.0.run(lease, ledger, cancel).boxed()
    }

    fn final_look<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool> {
        self.0.final_look(domain).boxed()
    }

    fn freed(&self) -> BoxFuture<'_, ()> {
        self.1.freed().boxed()
    }
}

struct Relay {
    _dir: tempfile::TempDir,
    dns: Arc<CachingResolver<ZoneResolver>>,
    hosts: Arc<PolicyHosts>,
    policies: PolicyService,
    clock: Arc<ManualClock>,
    store: Arc<SqliteStore>,
    notes: Arc<Notes>,
    manager: Manager,
}

/// A relay whose MX hosts listen on `port`. Its manager is not started.
fn relay(port: u16, tls: Tls) -> Relay {
    relay_with(port, tls, Rules::default())
}

/// The like, with rules of the operator.
fn relay_with(port: u16, tls: Tls, rules: Rules) -> Relay {
    let dir = tempfile::tempdir().unwrap();
    let manual = Arc::new(ManualClock::new(Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()));
    let clock = Arc::clone(&manual) as Arc<dyn Clock>;
    let store = Arc::new(SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap());
    let zone = ZoneResolver::new("example A 192.0.2.1").unwrap();
    let dns = Arc::new(CachingResolver::new(zone, CacheSettings::default(), Arc::clone(&clock)));
    let resolver = Arc::clone(&dns) as Arc<dyn Resolver>;
    let (hosts, notes) = (Arc::new(PolicyHosts::default()), Arc::new(Notes::default()));
    let policies = PolicyService::new(
        ServiceSettings::default(),
        Arc::clone(&resolver),
        Arc::clone(&hosts) as Arc<dyn PolicyFetcher>,
        Arc::clone(&store) as Arc<dyn PolicyStore>,
        Arc::clone(&clock),
    );
    let pool = Pool::new(PoolSettings::default(), Arc::clone(&clock));
    let parts = Parts {
        tlsa: Arc::new(DnsTlsa::new(None, Dnssec::default())),
        routes: Arc::new(DnsRoutes::new(
            resolver,
            RouteSettings { port, rules: Arc::new(rules), ..RouteSettings::default() },
        )),
        policies: Arc::new(policies.clone()),
        pool: Arc::clone(&pool),
        tls,
        records: Arc::clone(&notes) as Arc<dyn SessionStore>,
        store: Arc::clone(&store) as Arc<dyn QueueStore>,
        exceptions: Arc::default(),
        clock: Arc::clone(&clock),
    };
    let name = domain("relay.example.org");
    let attempts = Attempts::new(AttemptSettings { port, ..AttemptSettings::new(name.clone()) }, parts);
    let settings = ManagerSettings {
        look_interval: Duration::from_millis(1),
        sweep_interval: Duration::from_millis(20),
        delay_warning_after: None,
        ..ManagerSettings::new(name)
    };
    let manager = Manager::new(
        settings,
        Arc::clone(&store) as Arc<dyn QueueStore>,
        Arc::new(Courier(attempts, pool)),
        clock,
    );
    Relay { _dir: dir, dns, hosts, policies, clock: manual, store, notes, manager }
}

impl Relay {
    /// Puts these lines in place of all records of their names.
    fn zone(&self, lines: &str) {
        self.dns.inner().replace(lines).unwrap();
    }

    /// `a.example` with one MX host on loopback.
    fn usual(&self) {
        self.zone("a.example MX 10 mx.a.example\nmx.a.example A 127.0.0.1");
    }

    /// `name` publishes an enforce policy under this id.
    fn promise(&self, name: &str, id: &str, mx: &str, max_age: Duration) {
        self.zone(&format!("_mta-sts.{name} 1800 TXT \"v=STSv1; id={id};\""));
        let max_age = max_age.as_secs();
        let body = format!("version: STSv1\nmode: enforce\nmx: {mx}\nmax_age: {max_age}\n");
        self.hosts.0.lock().unwrap().insert(domain(name), body);
    }

    async fn submit(&self, n: u8, to: &str) -> QueueId {
        let recipient =
            EnvelopeRecipient { path: ForwardPath::parse(to).unwrap(), notify: None, orcpt: None };
        let message = NewMessage {
            id: QueueId::from_bytes([n; 16]),
            origin: Origin::Submitted,
            envelope: Envelope {
                // Nothing comes back: what is in the queue and on the wire is this message.
                reverse_path: ReversePath::parse("").unwrap(),
                recipients: vec![recipient],
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
        };
        let id = message.id;
        self.store.enqueue(message, None).await.unwrap();
        self.manager.arrived(None, None);
        id
    }

    /// The recipient once so many attempts have ended.
    async fn after(&self, id: QueueId, attempts: u32) -> ListedRecipient {
        self.manager.wake(&[]);
        for _ in 0..4000 {
            let shown = self.store.show(id).await.unwrap().unwrap();
            let recipient = shown.recipients.into_iter().next().unwrap();
            let running = matches!(recipient.state, RecipientState::Queued | RecipientState::Delivering);
            if recipient.attempts >= attempts && !running {
                assert_eq!(recipient.attempts, attempts, "{recipient:?}");
                return recipient;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("attempt {attempts} has not ended");
    }

    fn records(&self) -> Vec<String> {
        std::mem::take(&mut *self.notes.records.lock().unwrap()).iter().flat_map(entries).collect()
    }
}

/// The entries of a record: domain, kind, success, result types.
fn entries(record: &SessionRecord) -> Vec<String> {
    let words = record.verdicts.iter().map(|v| {
        let kind = match v.policy {
            AppliedPolicy::Sts { .. } => "sts",
            AppliedPolicy::NoPolicyFound { .. } => "none",
            AppliedPolicy::Tlsa { .. } => "tlsa",
        };
        let details: Vec<_> = v.details.iter().map(|d| d.result.as_str()).collect();
        let success = if v.success { "S" } else { "F" };
        format!("{} {kind} {success}({})", record.report_domain, details.join("+"))
    });
    words.collect()
}

fn outcome(r: &ListedRecipient) -> (RecipientState, String) {
    (r.state, r.last.as_ref().unwrap().enhanced.to_string())
}

// D01, D02
#[tokio::test]
async fn without_an_answer_mail_waits_and_without_a_domain_it_returns() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let r = relay(port, Authority::new().tls());
    r.zone("a.example MX SERVFAIL\nb.example MX TIMEOUT\nmx.a.example A 127.0.0.1");
    r.manager.start();
    for (n, to, want) in [
        (1, "x@a.example", (RecipientState::Deferred, "4.4.3")),
        (2, "x@b.example", (RecipientState::Deferred, "4.4.3")),
        (3, "x@gone.example", (RecipientState::Bounced, "5.1.2")),
    ] {
        let id = r.submit(n, to).await;
        let (state, code) = outcome(&r.after(id, 1).await);
        assert_eq!((state, code.as_str()), want, "{to}");
    }
    assert!(r.records().is_empty());
    assert_eq!(connections(&ears), 0);
}

// D34, D35, STS-14
#[tokio::test]
async fn a_failed_discovery_delays_mail_for_its_grace_and_not_again_for_a_day() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let r = relay(port, Authority::new().tls());
    r.usual();
    r.zone("_mta-sts.a.example TXT SERVFAIL");
    r.manager.start();
    let first = r.submit(1, "x@a.example").await;
    assert_eq!(outcome(&r.after(first, 1).await), (RecipientState::Deferred, "4.4.3".into()));
    r.clock.advance(6 * MINUTE);
    assert_eq!(outcome(&r.after(first, 2).await), (RecipientState::Deferred, "4.4.3".into()));
    assert_eq!(connections(&ears), 0, "nobody is asked for TLS that may have been promised");
    assert!(r.records().is_empty());

    r.clock.advance(14 * MINUTE);
    let sent = r.after(first, 3).await;
    assert_eq!(sent.state, RecipientState::Delivered, "{sent:?}");
    assert_eq!(sent.last.unwrap().security, Some(Level::Plain));
    let second = r.submit(2, "x@a.example").await;
    assert_eq!(r.after(second, 1).await.state, RecipientState::Delivered, "at once");
    assert_eq!(r.records(), ["a.example none F(starttls-not-supported)"], "one for the session");

    r.clock.advance(25 * HOUR);
    let third = r.submit(3, "x@a.example").await;
    assert_eq!(outcome(&r.after(third, 1).await), (RecipientState::Deferred, "4.4.3".into()), "a new grace");
}

// D37, STS-45, STS-57
#[tokio::test]
async fn an_expired_policy_that_cannot_be_had_again_ends_and_says_so() {
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
    let sheet = Sheet::default();
    let writer = sheet.clone();
    let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let _log = tracing::subscriber::set_default(log);

    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let r = relay(port, Authority::new().tls());
    r.usual();
    r.promise("a.example", "1", "mx.a.example", DAY);
    r.manager.start();
    let id = r.submit(1, "x@a.example").await;
    assert_eq!(outcome(&r.after(id, 1).await), (RecipientState::Deferred, "4.7.4".into()));
    r.dns.inner().remove(&domain("_mta-sts.a.example"));
    r.hosts.0.lock().unwrap().clear();
    r.clock.advance(DAY - HOUR);
    assert_eq!(outcome(&r.after(id, 2).await), (RecipientState::Deferred, "4.7.4".into()));
    assert_eq!(count(&ears, "MAIL"), 0);
    assert!(!String::from_utf8_lossy(&sheet.0.lock().unwrap()).contains("sts-policy-expired-downgrade"));

    r.records();
    r.clock.advance(2 * HOUR);
    let sent = r.after(id, 3).await;
    assert_eq!((sent.state, sent.last.unwrap().security), (RecipientState::Delivered, Some(Level::Plain)));
    assert_eq!(r.records(), ["a.example none F(starttls-not-supported)"]);
    assert!(String::from_utf8_lossy(&sheet.0.lock().unwrap()).contains("sts-policy-expired-downgrade"));
}

// D45
#[tokio::test]
async fn a_domain_without_mx_keeps_its_promise_under_its_own_name() {
    let authority = Authority::new();
    for (shown, want) in [
        ("a.example", (RecipientState::Delivered, Some(Level::Verified), "a.example sts S()")),
        ("mx.a.example", (RecipientState::Deferred, None, "a.example sts F(certificate-host-mismatch)")),
    ] {
        let manners = Manners { tls: Some(authority.server(shown, false)), ..Manners::default() };
        let (port, _) = serve("127.0.0.1", 0, manners).await;
        let r = relay(port, authority.tls());
        r.zone("a.example A 127.0.0.1");
        r.promise("a.example", "1", "a.example", 7 * DAY);
        r.manager.start();
        let id = r.submit(1, "x@a.example").await;
        let ended = r.after(id, 1).await;
        let security = ended.last.unwrap().security;
        assert_eq!((ended.state, security, r.records().join(" ").as_str()), want, "{shown}");
    }
}

// M8, STS-53: no attempt sees the new policy, because the old record is cached.
#[tokio::test]
async fn the_last_look_finds_a_policy_that_lists_the_host_and_the_mail_goes_out() {
    for repaired in [true, false] {
        let authority = Authority::new();
        let manners = Manners { tls: Some(authority.server("mx.a.example", false)), ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let r = relay(port, authority.tls());
        r.usual();
        r.promise("a.example", "1", "old.a.example", 30 * DAY);
        r.manager.start();
        let id = r.submit(1, "x@a.example").await;
        assert_eq!(outcome(&r.after(id, 1).await), (RecipientState::Deferred, "4.7.0".into()));
        r.clock.advance(5 * DAY - 2 * MINUTE);
        assert_eq!(outcome(&r.after(id, 2).await), (RecipientState::Deferred, "4.7.0".into()));
        if repaired {
            r.promise("a.example", "2", "mx.a.example", 30 * DAY);
        }
        // The record of then answers for half an hour, and the policy was fetched anew within the hour (STS-55).
        r.clock.advance(12 * MINUTE);
        let (attempts, state) =
            if repaired { (4, RecipientState::Delivered) } else { (3, RecipientState::Bounced) };
        assert_eq!(r.after(id, attempts).await.state, state, "{repaired}");
        assert_eq!(count(&ears, "MAIL"), usize::from(repaired));
    }
}

// STS-53, STS-60, STS-62: to the last look, it is the next hop's policy that is asked for, and nobody's where that is an
// address.
#[tokio::test]
async fn no_policy_is_asked_for_of_a_next_hop_that_is_an_address() {
    for (written, asked) in [("127.0.0.1", None), ("relay.example", Some("TXT _mta-sts.relay.example"))] {
        // Without TLS, which the operator demands.
        let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
        let rule = Rule {
            pattern: "*".into(),
            minimum: Some(Demand::VERIFIED),
            next_hop: SmartHost::new(written, port, false, &[]),
            ..Rule::default()
        };
        let r = relay_with(1, Authority::new().tls(), Rules::new([rule]));
        r.zone("relay.example A 127.0.0.1");
        r.manager.start();
        let id = r.submit(1, "x@a.example").await;
        assert_eq!(outcome(&r.after(id, 1).await), (RecipientState::Deferred, "4.7.4".into()));
        let before = r.dns.inner().queries().len();
        r.clock.advance(5 * DAY + MINUTE);
        assert_eq!(r.after(id, 2).await.state, RecipientState::Bounced, "{written}");
        assert_eq!((connections(&ears), count(&ears, "MAIL")), (2, 0), "{written}");
        let queries = r.dns.inner().queries();
        let of_policies =
            |q: &[String]| q.iter().filter(|q| q.contains("_mta-sts")).cloned().collect::<Vec<_>>();
        // Twice at the end: for the attempt, and past the cache for the last look.
        let last = of_policies(&queries[before..]);
        assert_eq!(last, asked.map_or_else(Vec::new, |asked| vec![asked.to_owned(); 2]), "{written}");
        assert!(of_policies(&queries).iter().all(|q| Some(q.as_str()) == asked), "{queries:?}");
    }
}

// NMX-06
#[tokio::test]
async fn a_null_mx_against_an_enforce_policy_is_believed_after_two_attempts_and_four_hours() {
    for (case, denial, code) in [("null MX", "a.example MX 0 .", "5.1.10"), ("NXDOMAIN", "", "5.1.2")] {
        let r = relay(1, Authority::new().tls());
        r.promise("a.example", "1", "mx.a.example", 30 * DAY);
        r.policies.discover(&domain("a.example")).await;
        r.dns.inner().remove(&domain("_mta-sts.a.example"));
        r.zone(denial);
        r.manager.start();
        let waits = (RecipientState::Deferred, "4.7.0".to_owned());
        let id = r.submit(1, "x@a.example").await;
        assert_eq!(outcome(&r.after(id, 1).await), waits, "{case}");
        r.clock.advance(6 * MINUTE);
        assert_eq!(outcome(&r.after(id, 2).await), waits, "{case}: two attempts");
        r.clock.advance(3 * HOUR + 50 * MINUTE - 6 * MINUTE);
        assert_eq!(outcome(&r.after(id, 3).await), waits, "{case}: not yet four hours");
        r.clock.advance(25 * MINUTE);
        assert_eq!(outcome(&r.after(id, 4).await), (RecipientState::Bounced, code.to_owned()), "{case}");
    }
    // The age alone is not enough: somebody must have looked twice.
    let r = relay(1, Authority::new().tls());
    r.zone("a.example MX 0 .");
    r.promise("a.example", "1", "mx.a.example", 30 * DAY);
    r.policies.discover(&domain("a.example")).await;
    let id = r.submit(1, "x@a.example").await;
    r.clock.advance(5 * HOUR);
    r.manager.start();
    assert_eq!(outcome(&r.after(id, 1).await), (RecipientState::Deferred, "4.7.0".into()));
    r.clock.advance(6 * MINUTE);
    assert_eq!(outcome(&r.after(id, 2).await), (RecipientState::Bounced, "5.1.10".into()));
    // A denial that is signed is believed at once.
    let r = relay(1, Authority::new().tls());
    r.zone("a.example MX 0 .");
    r.dns.inner().add("secure a.example").unwrap();
    r.promise("a.example", "1", "mx.a.example", 30 * DAY);
    r.policies.discover(&domain("a.example")).await;
    r.manager.start();
    let id = r.submit(1, "x@a.example").await;
    assert_eq!(outcome(&r.after(id, 1).await), (RecipientState::Bounced, "5.1.10".into()));
}
