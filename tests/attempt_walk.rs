//! The walk over the hosts of an attempt, with servers that keep to the protocol and routes and policies that are
//! given: which host is tried, over which session, and what may be said there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sealpost::clock::{Clock, Timestamp};
use sealpost::delivery::attempt::{AttemptSettings, Attempts, Parts, Policies, Routes};
use sealpost::delivery::pool::{Pool, PoolSettings};
use sealpost::delivery::starttls::Tls;
use sealpost::delivery::{AttemptReport, Ledger};
use sealpost::mail::{Domain, ForwardPath, Origin, QueueId, ReversePath};
use sealpost::mtasts::{Applicable, Discovery, Mode, Policy, StoredPolicy};
use sealpost::queue::{DeferReason, Lease, LeaseId, LeasedRecipient, MessageMeta, Outcome, Step, StoreError};
use sealpost::route::{Host, Route, RouteFailure, RouteKind};
use sealpost::security::Level;
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use sealpost::tlsrpt::{ResultType, SessionRecord, SessionStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

fn domain(name: &str) -> Domain {
    Domain::parse_host(name).unwrap()
}

// ---- the world --------------------------------------------------------------------------------------------

struct RealClock(std::time::Instant);

impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

#[derive(Default)]
struct Notes {
    outcomes: Mutex<Vec<(u32, Outcome)>>,
    records: Mutex<Vec<SessionRecord>>,
}

impl Ledger for Notes {
    fn record(&self, outcomes: Vec<(u32, Outcome)>, _: Vec<Step>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.outcomes.lock().unwrap().extend(outcomes);
        Box::pin(async { Ok(()) })
    }
}

impl SessionStore for Notes {
    fn record(&self, record: SessionRecord) {
        self.records.lock().unwrap().push(record);
    }
}

/// Routes and policies by domain.
#[derive(Default)]
struct Known {
    routes: Mutex<HashMap<Domain, Vec<Host>>>,
    policies: Mutex<HashMap<Domain, Arc<StoredPolicy>>>,
}

impl Routes for Known {
    fn resolve<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Route, RouteFailure>> {
        let hosts = self.routes.lock().unwrap().get(domain).cloned().unwrap();
        let route = Route { next_hop: domain.clone(), kind: RouteKind::Mx, mx_secure: false, hosts };
        Box::pin(async move { Ok(route) })
    }
}

impl Policies for Known {
    fn discover<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Discovery> {
        let policy = self.policies.lock().unwrap().get(domain).cloned();
        Box::pin(async move { Discovery::Known(Applicable { policy, fetch_failure: None }) })
    }

    fn has_enforce<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }

    fn after_enforce_failure<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }

    fn final_look<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }
}

// ---- certificates -----------------------------------------------------------------------------------------

struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { ca: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn tls(&self) -> Tls {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(self.ca.as_ref().der().to_vec())).unwrap();
        Tls::new(Arc::new(roots))
    }

    fn server(&self, name: &str, expired: bool) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        }
        let leaf = params.signed_by(&key, &self.ca).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        Arc::new(config)
    }
}

/// Shows a certificate whose key it does not have.
#[derive(Debug)]
struct Replay(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Replay {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn replaying(authority: &Authority, name: &str) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &authority.ca).unwrap();
    let another = PrivateKeyDer::try_from(KeyPair::generate().unwrap().serialize_der()).unwrap();
    let key = provider.key_provider.load_private_key(another).unwrap();
    let shown = rustls::sign::CertifiedKey::new(vec![leaf.der().clone()], key);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Replay(Arc::new(shown))));
    Arc::new(config)
}

// ---- servers ----------------------------------------------------------------------------------------------

/// How a server differs from one that takes everything.
#[derive(Clone, Default)]
struct Manners {
    tls: Option<Arc<rustls::ServerConfig>>,
    greeting: Option<&'static str>,
    /// Further keywords of EHLO.
    offers: Vec<&'static str>,
    /// Replies in place of the usual ones, by the beginning of the command.
    instead: Vec<(&'static str, &'static str)>,
    /// Says nothing to the end of data.
    silent_after_dot: bool,
    /// Answers the first message of TLS with an alert.
    alert: bool,
    /// Says nothing to DATA.
    silent_at_data: bool,
}

#[derive(Default)]
struct Heard {
    connections: usize,
    /// Commands, in order; the content is one `<content>`.
    lines: Vec<String>,
}

type Ears = Arc<Mutex<Heard>>;

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    manners: &Manners,
    ears: &Ears,
    inside: bool,
) -> Option<S> {
    let mut io = BufReader::new(io);
    if !inside {
        let greeting = manners.greeting.unwrap_or("220 ready");
        io.write_all(format!("{greeting}\r\n").as_bytes()).await.ok()?;
    }
    // MAIL accepted and not ended: another MAIL is out of sequence (RFC 5321 §4.1.4).
    let (mut open, mut accepted) = (false, 0);
    loop {
        let mut line = String::new();
        if io.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        ears.lock().unwrap().lines.push(line.clone());
        let scripted =
            manners.instead.iter().find(|(c, _)| line.starts_with(c)).map(|(_, r)| (*r).to_owned());
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply = match &*verb {
            "EHLO" => {
                let mut words = vec!["mx.example.net"];
                words.extend(manners.offers.iter().copied());
                if manners.tls.is_some() && !inside {
                    words.push("STARTTLS");
                }
                let last = words.pop().unwrap();
                words.iter().map(|w| format!("250-{w}\r\n")).collect::<String>() + &format!("250 {last}")
            }
            "STARTTLS" => {
                io.write_all(b"220 go\r\n").await.ok()?;
                return Some(io.into_inner());
            }
            "MAIL" if open => "503 5.5.1 nested MAIL command".to_owned(),
            "MAIL" => scripted.unwrap_or_else(|| "250 2.1.0 ok".to_owned()),
            "RCPT" => scripted.unwrap_or_else(|| "250 2.1.5 ok".to_owned()),
            "DATA" if manners.silent_at_data => {
                std::future::pending::<()>().await;
                return None;
            }
            "DATA" if accepted == 0 => "503 5.5.1 no valid recipients".to_owned(),
            "DATA" => scripted.unwrap_or_else(|| "354 go".to_owned()),
            "RSET" => "250 2.0.0 ok".to_owned(),
            "QUIT" => "221 2.0.0 bye".to_owned(),
            _ => "500 5.5.2 what".to_owned(),
        };
        match &*verb {
            "MAIL" if reply.starts_with('2') => (open, accepted) = (true, 0),
            "RCPT" if reply.starts_with('2') => accepted += 1,
            "RSET" => open = false,
            _ => {}
        }
        io.write_all(format!("{reply}\r\n").as_bytes()).await.ok()?;
        if reply.starts_with("354") {
            loop {
                let mut content = Vec::new();
                if io.read_until(b'\n', &mut content).await.ok()? == 0 {
                    return None;
                }
                if content == b".\r\n" {
                    break;
                }
            }
            ears.lock().unwrap().lines.push("<content>".to_owned());
            if manners.silent_after_dot {
                std::future::pending::<()>().await;
            }
            open = false;
            io.write_all(b"250 2.0.0 queued as X1\r\n").await.ok()?;
        }
    }
}

async fn serve(ip: &str, port: u16, manners: Manners) -> (u16, Ears) {
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let ears = Ears::default();
    let all = Arc::clone(&ears);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            all.lock().unwrap().connections += 1;
            let (manners, ears) = (manners.clone(), Arc::clone(&all));
            tokio::spawn(async move {
                let Some(tcp) = talk(tcp, &manners, &ears, false).await else { return };
                let acceptor = tokio_rustls::TlsAcceptor::from(manners.tls.clone().unwrap());
                if manners.alert {
                    let mut tcp = tcp;
                    // Fatal alert protocol_version (RFC 8446 §6), as of a server that knows TLS 1.1 at best.
                    let _ = tokio::io::AsyncReadExt::read(&mut tcp, &mut [0; 4096]).await;
                    let _ = tcp.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await;
                    return;
                }
                if let Ok(tls) = acceptor.accept(tcp).await {
                    let connection = tls.get_ref().1;
                    let seen = (connection.server_name(), connection.handshake_kind());
                    ears.lock().unwrap().lines.push(format!("<tls {seen:?}>"));
                    let _ = talk(tls, &manners, &ears, true).await;
                }
            });
        }
    });
    (port, ears)
}

// ---- attempts ---------------------------------------------------------------------------------------------

struct World {
    _dir: tempfile::TempDir,
    known: Arc<Known>,
    notes: Arc<Notes>,
    attempts: Attempts,
}

fn world(port: u16, tls: Tls) -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(RealClock(std::time::Instant::now()));
    let (known, notes) = (Arc::new(Known::default()), Arc::new(Notes::default()));
    let settings = AttemptSettings { port, ..AttemptSettings::new(domain("relay.example.org")) };
    let store = SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap();
    let parts = Parts {
        routes: Arc::clone(&known) as Arc<dyn Routes>,
        policies: Arc::clone(&known) as Arc<dyn Policies>,
        pool: Pool::new(PoolSettings::default(), Arc::clone(&clock)),
        tls,
        records: Arc::clone(&notes) as Arc<dyn SessionStore>,
        store: Arc::new(store),
        clock,
    };
    World { _dir: dir, known, notes, attempts: Attempts::new(settings, parts) }
}

impl World {
    /// Mail for `name` goes to these hosts, in this order.
    fn route(&self, name: &str, hosts: &[(&str, &[&str])]) {
        let hosts = (10..)
            .zip(hosts)
            .map(|(preference, (name, ips))| Host {
                name: domain(name),
                preference,
                addresses: Ok(ips.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect()),
                addresses_secure: false,
            })
            .collect();
        self.known.routes.lock().unwrap().insert(domain(name), hosts);
    }

    fn enforce(&self, name: &str, mx: &[&str]) {
        let now = Timestamp::from_millis(1_795_333_080_000);
        let policy = Policy {
            mode: Mode::Enforce,
            mx: mx.iter().map(|m| (*m).to_owned()).collect(),
            max_age: Duration::from_secs(86_400),
            lines: vec!["version: STSv1".into()],
        };
        let stored = StoredPolicy {
            domain: domain(name),
            id: "1".into(),
            policy,
            fetched: now,
            expires: now.after(Duration::from_secs(86_400)),
            last_used: now,
        };
        self.known.policies.lock().unwrap().insert(domain(name), Arc::new(stored));
    }

    fn lease(name: &str, recipients: u32) -> Lease {
        let message = MessageMeta {
            id: QueueId::from_bytes([1; 16]),
            origin: Origin::Submitted,
            reverse_path: ReversePath::parse("app@example.org").unwrap(),
            ret: None,
            envid: None,
            smtputf8: false,
            has_8bit: false,
            size: 1000,
            arrived: Timestamp::from_millis(0),
            message_id: String::new(),
        };
        let recipient = |no| LeasedRecipient {
            no,
            path: ForwardPath::parse(&format!("r{no}@{name}")).unwrap(),
            notify: None,
            orcpt: None,
            attempts: 1,
            next_attempt: Timestamp::from_millis(0),
            last: None,
        };
        Lease {
            id: LeaseId(1),
            message: Arc::new(message),
            domain: domain(name),
            recipients: (0..recipients).map(recipient).collect(),
            content: Some(Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n")),
        }
    }

    /// What [`Self::deliver`] does, for a message of this origin.
    async fn deliver_from(&self, origin: Origin, name: &str) -> Vec<Outcome> {
        let mut lease = Self::lease(name, 1);
        lease.message = Arc::new(MessageMeta { origin, ..(*lease.message).clone() });
        self.attempts.run(&lease, &*self.notes, &CancellationToken::new()).await;
        self.taken()
    }

    async fn deliver(&self, name: &str, recipients: u32) -> (AttemptReport, Vec<Outcome>) {
        let report =
            self.attempts.run(&Self::lease(name, recipients), &*self.notes, &CancellationToken::new()).await;
        (report, self.taken())
    }

    fn taken(&self) -> Vec<Outcome> {
        let mut outcomes = std::mem::take(&mut *self.notes.outcomes.lock().unwrap());
        outcomes.sort_by_key(|(no, _)| *no);
        outcomes.into_iter().map(|(_, o)| o).collect()
    }
}

fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(Outcome::word).collect()
}

fn enhanced(outcome: &Outcome) -> String {
    outcome.diagnosis().enhanced.to_string()
}

fn connections(ears: &Ears) -> usize {
    ears.lock().unwrap().connections
}

fn count(ears: &Ears, verb: &str) -> usize {
    ears.lock().unwrap().lines.iter().filter(|l| l.starts_with(verb)).count()
}

// RFC 5321 §4.1.4, RFC 9422: the second transaction of a session begins with RSET when the first was left open.
#[tokio::test]
async fn a_refused_recipient_does_not_return_the_mail_of_the_next_transaction() {
    let manners = Manners {
        offers: vec!["LIMITS RCPTMAX=1"],
        instead: vec![("RCPT TO:<r0@", "550 5.1.1 nobody")],
        ..Manners::default()
    };
    for pipelining in [false, true] {
        let mut manners = manners.clone();
        if pipelining {
            manners.offers.push("PIPELINING");
        }
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, Authority::new().tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let (_, outcomes) = w.deliver("a.example", 3).await;
        assert_eq!(words(&outcomes), ["bounced", "delivered", "delivered"], "{outcomes:?}");
        assert_eq!((connections(&ears), count(&ears, "RSET")), (1, 1));
    }
}

// OUT-45, DUR-18
#[tokio::test]
async fn a_cancelled_attempt_is_uncertain_only_past_the_dot() {
    for past_dot in [false, true] {
        let manners = Manners { silent_at_data: !past_dot, silent_after_dot: past_dot, ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, Authority::new().tls());
        w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
        let (lease, cancel) = (World::lease("a.example", 2), CancellationToken::new());
        let watch = async {
            let mark = if past_dot { "<content>" } else { "DATA" };
            while count(&ears, mark) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            cancel.cancel();
        };
        let (report, ()) = tokio::join!(w.attempts.run(&lease, &*w.notes, &cancel), watch);
        let outcomes = w.taken();
        if past_dot {
            assert_eq!(words(&outcomes), ["deferred", "deferred"]);
            assert!(outcomes.iter().all(|o| o.diagnosis().maybe_delivered));
            assert!(report.hand_back.is_none());
        } else {
            assert!(outcomes.is_empty(), "{outcomes:?}");
            assert_eq!(report.hand_back.unwrap().recipients, [0, 1]);
        }
    }
}

// OUT-51, STS-77, QUE-36: one host, two domains, one of which demands PKIX.
#[tokio::test]
async fn a_session_serves_another_domain_only_if_its_evidence_meets_that_domains_demand() {
    let authority = Authority::new();
    for (case, expired, enforce_first) in [
        ("good, opportunistic first", false, false),
        ("good, enforce first", false, true),
        ("bad, opportunistic first", true, false),
        ("bad, enforce first", true, true),
    ] {
        let manners =
            Manners { tls: Some(authority.server("mx.example.net", expired)), ..Manners::default() };
        let (port, ears) = serve("127.0.0.1", 0, manners).await;
        let w = world(port, authority.tls());
        for name in ["free.example", "bound.example"] {
            w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
        }
        w.enforce("bound.example", &["mx.example.net"]);
        let order =
            if enforce_first { ["bound.example", "free.example"] } else { ["free.example", "bound.example"] };
        for name in order {
            let (_, outcomes) = w.deliver(name, 1).await;
            let kept = !expired || name == "free.example";
            assert_eq!(words(&outcomes), [if kept { "delivered" } else { "deferred" }], "{case}: {name}");
            if !kept {
                assert_eq!(enhanced(&outcomes[0]), "4.7.5", "{case}");
            }
            if name == "bound.example" && kept {
                assert_eq!(outcomes[0].diagnosis().security, Some(Level::Verified), "{case}");
            }
        }
        assert_eq!(connections(&ears), if expired { 2 } else { 1 }, "{case}: sessions");
        let rcpts = count(&ears, "RCPT TO:<r0@bound.example>");
        assert_eq!(rcpts, usize::from(!expired), "{case}: nothing of the envelope may leak");
        let records = w.notes.records.lock().unwrap();
        let mut domains: Vec<_> = records.iter().map(|r| r.report_domain.to_string()).collect();
        domains.sort();
        assert_eq!(domains, ["bound.example", "free.example"], "{case}: one verdict for each");
    }
}

// STS-62: one machine under two names, with a certificate for the second.
#[tokio::test]
async fn one_address_under_two_names_is_tried_under_each() {
    let authority = Authority::new();
    let manners = Manners { tls: Some(authority.server("b.example.net", false)), ..Manners::default() };
    let (port, _) = serve("127.0.0.1", 0, manners).await;
    let w = world(port, authority.tls());
    w.route("a.example", &[("a.example.net", &["127.0.0.1"]), ("b.example.net", &["127.0.0.1"])]);
    w.enforce("a.example", &["*.example.net"]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
}

/// Two hosts on one port, a route over both.
async fn pair(authority: &Authority, first: Manners, second: Manners) -> (World, Ears, Ears) {
    let (port, one) = serve("127.0.0.1", 0, first).await;
    let (_, two) = serve("127.0.0.2", port, second).await;
    let w = world(port, authority.tls());
    w.route("a.example", &[("mx1.example.net", &["127.0.0.1"]), ("mx2.example.net", &["127.0.0.2"])]);
    (w, one, two)
}

// M1
#[tokio::test]
async fn m1_a_bad_certificate_leads_to_the_next_host_and_both_are_recorded() {
    let authority = Authority::new();
    let shown = |name, expired| Manners { tls: Some(authority.server(name, expired)), ..Manners::default() };
    let (w, one, _) = pair(&authority, shown("mx1.example.net", true), shown("mx2.example.net", false)).await;
    w.enforce("a.example", &["*.example.net"]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
    assert_eq!(count(&one, "MAIL"), 0);
    assert!(!report.policy_failed);
    let records = w.notes.records.lock().unwrap();
    let verdicts: Vec<_> = records.iter().map(|r| r.verdicts[0].success).collect();
    assert_eq!(verdicts, [false, true]);
    assert_eq!(records[0].verdicts[0].details[0].result, ResultType::CertificateExpired);
}

// M2
#[tokio::test]
async fn m2_an_unlisted_host_and_one_without_tls_make_the_mail_wait() {
    let authority = Authority::new();
    let (w, one, two) = pair(&authority, Manners::default(), Manners::default()).await;
    w.enforce("a.example", &["mx2.example.net"]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.4".to_owned()));
    assert_eq!((connections(&one), count(&two, "MAIL")), (0, 0));
    assert!(report.policy_failed);
    let records = w.notes.records.lock().unwrap();
    assert!(records.len() == 2 && records.iter().all(|r| !r.verdicts[0].success));
}

// M5, OUT-40
#[tokio::test]
async fn m5_a_refused_recipient_is_returned_and_no_other_host_is_asked() {
    let refusing = Manners { instead: vec![("RCPT", "550 5.1.1 nobody")], ..Manners::default() };
    let (w, _, two) = pair(&Authority::new(), refusing, Manners::default()).await;
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["bounced"]);
    assert_eq!(connections(&two), 0);
}

// M6, OUT-22
#[tokio::test]
async fn m6_a_host_that_greets_with_5xx_is_passed_over() {
    let closed = Manners { greeting: Some("554 5.7.1 go away"), ..Manners::default() };
    let (w, _, _) = pair(&Authority::new(), closed.clone(), Manners::default()).await;
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    let (w, ..) = pair(&Authority::new(), closed.clone(), closed.clone()).await;
    assert_eq!(
        words(&w.deliver("a.example", 1).await.1),
        ["bounced"],
        "all hosts say so, and owe us nothing"
    );
    let (w, ..) = pair(&Authority::new(), closed.clone(), closed).await;
    w.enforce("a.example", &["*.example.net"]);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["deferred"], "anybody may have said that");
}

// OUT-40
#[tokio::test]
async fn a_refusal_of_ipv6_is_tried_again_over_ipv4_which_then_comes_first() {
    let refusing = Manners { instead: vec![("MAIL", "550 5.7.25 no PTR")], ..Manners::default() };
    let (port, six) = serve("::1", 0, refusing).await;
    let (_, four) = serve("127.0.0.1", port, Manners::default()).await;
    let w = world(port, Authority::new().tls());
    w.route("a.example", &[("mx.example.net", &["::1", "127.0.0.1"])]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    assert_eq!((connections(&six), count(&four, "<content>")), (1, 2));
    // Without an IPv4 address the refusal stands.
    let w = world(port, Authority::new().tls());
    w.route("a.example", &[("mx.example.net", &["::1"])]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["bounced"]);
}

// D28
#[tokio::test]
async fn d28_a_listed_host_that_cannot_be_reached_leaves_no_record() {
    let authority = Authority::new();
    let (port, _) = serve("127.0.0.1", 0, Manners::default()).await;
    let w = world(port, authority.tls());
    w.route("a.example", &[("mx.example.net", &["127.0.0.3"])]);
    w.enforce("a.example", &["mx.example.net"]);
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.4.1".to_owned()));
    assert!(report.unreachable.is_some() && !report.policy_failed);
    assert!(w.notes.records.lock().unwrap().is_empty());
}

// OUT-51: a certificate without its key encrypts, and proves nothing.
#[tokio::test]
async fn a_replayed_certificate_never_serves_an_enforce_demand() {
    let authority = Authority::new();
    let manners = Manners { tls: Some(replaying(&authority, "mx.example.net")), ..Manners::default() };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let w = world(port, authority.tls());
    for name in ["free.example", "bound.example"] {
        w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
    }
    w.enforce("bound.example", &["mx.example.net"]);
    let (_, outcomes) = w.deliver("free.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Encrypted));
    let (_, outcomes) = w.deliver("bound.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5".to_owned()));
    assert_eq!((connections(&ears), count(&ears, "RCPT TO:<r0@bound.example>")), (2, 0));
}

// TLS-07: what only speaks old TLS gets opportunistic mail in the clear over a new connection, and none under enforce.
#[tokio::test]
async fn a_server_of_old_tls_gets_nothing_that_is_owed_tls() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", false));
    let (port, ears) = serve("127.0.0.1", 0, Manners { tls, alert: true, ..Manners::default() }).await;
    let w = world(port, authority.tls());
    for name in ["bound.example", "free.example"] {
        w.route(name, &[("mx.example.net", &["127.0.0.1"])]);
    }
    w.enforce("bound.example", &["mx.example.net"]);
    let (_, outcomes) = w.deliver("bound.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5".to_owned()));
    assert_eq!((connections(&ears), count(&ears, "MAIL")), (1, 0));
    let (_, outcomes) = w.deliver("free.example", 1).await;
    assert_eq!(words(&outcomes), ["delivered"]);
    assert_eq!(outcomes[0].diagnosis().security, Some(Level::Plain));
    assert_eq!(connections(&ears), 3);
    assert_eq!(w.notes.records.lock().unwrap().len(), 2, "one verdict for each domain (RPT-25)");
}

// RFC 8461 §7.1, `What always holds` 5
#[tokio::test]
async fn sni_is_the_name_of_the_mx_and_no_session_of_tls_is_resumed() {
    let authority = Authority::new();
    let manners = Manners { tls: Some(authority.server("mx.example.net", true)), ..Manners::default() };
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    let w = world(port, authority.tls());
    w.route("bound.example", &[("mx.example.net", &["127.0.0.1"])]);
    w.enforce("bound.example", &["mx.example.net"]);
    for _ in 0..2 {
        w.deliver("bound.example", 1).await;
    }
    let lines = ears.lock().unwrap().lines.clone();
    let handshakes: Vec<_> = lines.iter().filter(|l| l.starts_with("<tls")).collect();
    assert_eq!(handshakes, ["<tls (Some(\"mx.example.net\"), Some(Full))>"; 2]);
}

// RPT-27, RPT-84, RPT-86, OUT-49: a report goes out however the session is secured, leaves no record, and asks for no
// notification; a DSN asks for none either, but keeps the promises.
#[tokio::test]
async fn a_report_passes_broken_promises_unrecorded_and_asks_for_no_notification() {
    let authority = Authority::new();
    let tls = Some(authority.server("mx.example.net", true));
    let (port, ears) =
        serve("127.0.0.1", 0, Manners { tls, offers: vec!["DSN"], ..Manners::default() }).await;
    let w = world(port, authority.tls());
    w.route("bound.example", &[("mx.example.net", &["127.0.0.1"])]);
    w.enforce("bound.example", &["mx.example.net"]);
    let outcomes = w.deliver_from(Origin::TlsReport, "bound.example").await;
    assert_eq!(words(&outcomes), ["delivered"], "{outcomes:?}");
    assert_eq!(
        count(&ears, "RCPT TO:<r0@bound.example> NOTIFY=NEVER"),
        1,
        "{:?}",
        ears.lock().unwrap().lines
    );
    assert!(w.notes.records.lock().unwrap().is_empty());
    let outcomes = w.deliver_from(Origin::Dsn, "bound.example").await;
    assert_eq!(words(&outcomes), ["deferred"], "{outcomes:?}");
    assert_eq!(w.notes.records.lock().unwrap().len(), 1);
    w.route("free.example", &[("mx.example.net", &["127.0.0.1"])]);
    assert_eq!(words(&w.deliver_from(Origin::Dsn, "free.example").await), ["delivered"]);
    assert_eq!(count(&ears, "RCPT TO:<r0@free.example> NOTIFY=NEVER"), 1);
}

// DUR-02, `What always holds` 1: what is left of damaged content is never sent as if it were the message.
#[tokio::test]
async fn content_that_is_not_whole_is_never_ended_with_a_dot() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let w = world(port, Authority::new().tls());
    w.route("free.example", &[("mx.example.net", &["127.0.0.1"])]);
    // The store knows nothing of it: all its rows are gone.
    let lease = Lease { content: None, ..World::lease("free.example", 1) };
    let report = w.attempts.run(&lease, &*w.notes, &CancellationToken::new()).await;
    let outcomes = w.taken();
    assert!(matches!(outcomes[..], [Outcome::Deferred(DeferReason::Damaged, _)]), "{outcomes:?}");
    assert!(report.hand_back.is_none());
    assert_eq!((count(&ears, "DATA"), count(&ears, "<content>")), (1, 0));
}
