//! What surrounds an attempt: routes and policies that are given, a ledger that notes everything.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use sealpost::clock::{Clock, Timestamp};
use sealpost::delivery::attempt::{AttemptSettings, Attempts, DnsTlsa, Parts, Policies, Routes};
use sealpost::delivery::pool::{Pool, PoolSettings};
use sealpost::delivery::session::{Opening, Session, Timers};
use sealpost::delivery::starttls::Tls;
use sealpost::delivery::{AttemptReport, Ledger};
use sealpost::dns::zone::ZoneResolver;
use sealpost::dns::{Dnssec, Resolver};
use sealpost::mail::{Domain, ForwardPath, Origin, QueueId, ReversePath, SenderTls};
use sealpost::mtasts::{Applicable, Discovery, Mode, Policy, StoredPolicy};
use sealpost::queue::{
    self, Lease, LeaseId, LeasedRecipient, MessageMeta, Outcome, QueueStore, Step, StoreError,
};
use sealpost::route::smart_host::Rule;
use sealpost::route::{Host, Route, RouteFailure, RouteKind};
use sealpost::security::decide::Demand;
use sealpost::security::exception::Exceptions;
use sealpost::tlsrpt::{AppliedPolicy, PolicyVerdict, SessionRecord, SessionStore};
use tokio_util::sync::CancellationToken;

pub(crate) fn domain(name: &str) -> Domain {
    Domain::parse_host(name).unwrap()
}

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
pub(crate) struct Notes {
    pub(crate) outcomes: Mutex<Vec<(u32, Outcome)>>,
    pub(crate) records: Mutex<Vec<SessionRecord>>,
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
    /// Proven while a route is looked for.
    proven_meanwhile: Mutex<Option<Dnssec>>,
    routes: Mutex<HashMap<Domain, Result<Route, RouteFailure>>>,
    policies: Mutex<HashMap<Domain, Discovery>>,
}

impl Known {
    fn policy(&self, domain: &Domain) -> Discovery {
        let known = self.policies.lock().unwrap().get(domain).cloned();
        known.unwrap_or_else(|| Discovery::Known(Applicable::default()))
    }
}

impl Routes for Known {
    fn resolve<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Route, RouteFailure>> {
        let route = self.routes.lock().unwrap().get(domain).cloned().unwrap();
        if let Some(dnssec) = self.proven_meanwhile.lock().unwrap().take() {
            dnssec.set(true);
        }
        Box::pin(async move { route })
    }
}

impl Policies for Known {
    fn discover<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Discovery> {
        let discovery = self.policy(domain);
        Box::pin(async move { discovery })
    }

    fn has_enforce<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool> {
        let enforce = match self.policy(domain) {
            Discovery::Known(known) => known.policy.is_some_and(|p| p.policy.mode == Mode::Enforce),
            Discovery::Wait(_) => false,
        };
        Box::pin(async move { enforce })
    }

    fn after_enforce_failure<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }

    fn final_look<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(async { false })
    }
}

/// Content is at hand in these tests, so the store is never asked.
struct NoStore;

macro_rules! never {
    ($($name:ident($($arg:ty),*) -> $out:ty;)*) => {
        $(fn $name(&self, $(_: $arg),*) -> BoxFuture<'_, Result<$out, StoreError>> {
            Box::pin(async { Err(StoreError::Closed) })
        })*
    };
}

impl QueueStore for NoStore {
    never! {
        enqueue(queue::NewMessage, Option<queue::ClaimTerms>) -> queue::Enqueued;
        due(queue::DueQuery) -> queue::Due;
        claim(Domain, queue::Which, usize, queue::ClaimTerms) -> Vec<Lease>;
        finish(queue::Finish) -> ();
        release(LeaseId, Vec<u32>, Option<Timestamp>) -> ();
        suspend(Domain, Option<queue::Suspension>) -> ();
        delayed(Timestamp, Option<(QueueId, u32)>, usize) -> Vec<queue::Delayed>;
        warned(Vec<(QueueId, u32)>, Vec<queue::NewMessage>) -> ();
        purge(Duration, u64) -> bool;
        heartbeat() -> ();
        list(queue::Filter, usize) -> Vec<queue::ListedRecipient>;
        show(QueueId) -> Option<queue::ShownMessage>;
        retry(queue::Filter) -> queue::Touched;
    }

    /// It knows of no content.
    fn content(&self, _: QueueId, _: u32) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    fn health(&self) -> queue::StoreHealth {
        queue::StoreHealth { writable: true, free: u64::MAX }
    }
}

/// A message of one line; its recipients are `r0@`, `r1@` and so on.
pub(crate) fn lease(name: &str, recipients: u32) -> Lease {
    let message = MessageMeta {
        id: QueueId::from_bytes([1; 16]),
        origin: Origin::Submitted,
        reverse_path: ReversePath::parse("app@example.org").unwrap(),
        ret: None,
        envid: None,
        sender_tls: SenderTls::Unsaid,
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
        content: Some(Bytes::from_static(b"Subject: x\r\n\r\n.dot\r\nbody\r\n")),
    }
}

/// An MX host by its name and addresses.
pub(crate) fn host(name: &str, preference: u16, addresses: &[&str]) -> Host {
    Host {
        name: domain(name),
        preference,
        addresses: Ok(addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect()),
        addresses_secure: false,
        expanded: None,
    }
}

/// A session with a host on this machine, of which nothing is demanded.
pub(crate) async fn opened(host: &Domain, port: u16, timers: &Timers) -> Session {
    let opening = Opening {
        host,
        sni: host,
        to: ([127, 0, 0, 1], port).into(),
        source: None,
        hostname: &domain("relay.example.org"),
        tls: &Tls::new(Arc::new(rustls::RootCertStore::empty())),
        implicit_tls: false,
        demand: Demand::NOTHING,
        after: None,
        own_listeners: &[],
        timers,
        now: Timestamp::from_millis(0),
    };
    Session::open(opening).await.unwrap()
}

/// One relay's attempts, and what came of them.
pub(crate) struct World {
    known: Arc<Known>,
    /// The TLSA records of hosts, and who was asked for.
    pub(crate) zone: Arc<ZoneResolver>,
    /// Whether answers of `zone` are believed to be authenticated.
    pub(crate) believed: Dnssec,
    pub(crate) notes: Arc<Notes>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) attempts: Attempts,
}

impl World {
    /// With MX hosts on this port, and the real deadlines.
    pub(crate) fn new(port: u16, tls: Tls) -> Self {
        Self::with(AttemptSettings { port, ..AttemptSettings::new(domain("relay.example.org")) }, tls)
    }

    pub(crate) fn with(settings: AttemptSettings, tls: Tls) -> Self {
        Self::excepting(settings, tls, Arc::default())
    }

    /// With exceptions of the operator.
    pub(crate) fn excepting(settings: AttemptSettings, tls: Tls, exceptions: Arc<Exceptions>) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(RealClock(std::time::Instant::now()));
        let (known, notes) = (Arc::new(Known::default()), Arc::new(Notes::default()));
        let zone = Arc::new(ZoneResolver::new("").unwrap());
        // However slow the machine: tests count connections.
        let idle = Duration::from_secs(600);
        let pool = Pool::new(PoolSettings { idle, ..PoolSettings::default() }, Arc::clone(&clock));
        let believed = Dnssec::new(true);
        let parts = Parts {
            tlsa: Arc::new(DnsTlsa::new(Some(Arc::clone(&zone) as Arc<dyn Resolver>), believed.clone())),
            routes: Arc::clone(&known) as Arc<dyn Routes>,
            policies: Arc::clone(&known) as Arc<dyn Policies>,
            pool: Arc::clone(&pool),
            tls,
            records: Arc::clone(&notes) as Arc<dyn SessionStore>,
            store: Arc::new(NoStore),
            exceptions,
            clock,
        };
        Self { known, zone, believed, notes, pool, attempts: Attempts::new(settings, parts) }
    }

    /// Mail for `name` goes to these hosts, in this order.
    pub(crate) fn route(&self, name: &str, hosts: &[(&str, &[&str])]) {
        let hosts = (10..).zip(hosts).map(|(preference, (name, ips))| host(name, preference, ips)).collect();
        let (next_hop, kind) = (domain(name), RouteKind::Mx);
        self.resolves(
            name,
            Ok(Route { next_hop, kind, mx_secure: false, expanded: None, hosts, rule: None }),
        );
    }

    /// The operator's rule for `name`, whose route is known.
    pub(crate) fn ruled(&self, name: &str, rule: Rule) {
        let mut routes = self.known.routes.lock().unwrap();
        if let Ok(route) = routes.get_mut(&domain(name)).unwrap() {
            route.rule = Some(Arc::new(rule));
        }
    }

    /// The like, where DNSSEC vouches for the hosts' addresses and, if `mx_secure`, for the MX set.
    pub(crate) fn signed_route(&self, name: &str, mx_secure: bool, hosts: &[(&str, &[&str])]) {
        let signed = |(preference, (name, ips)): (u16, &(&str, &[&str]))| Host {
            addresses_secure: true,
            ..host(name, preference, ips)
        };
        let hosts = (10..).zip(hosts).map(signed).collect();
        let (next_hop, kind) = (domain(name), RouteKind::Mx);
        self.resolves(name, Ok(Route { next_hop, kind, mx_secure, expanded: None, hosts, rule: None }));
    }

    pub(crate) fn resolves(&self, name: &str, route: Result<Route, RouteFailure>) {
        self.known.routes.lock().unwrap().insert(domain(name), route);
    }

    /// What is found out about the policy of `name`.
    pub(crate) fn discovers(&self, name: &str, discovery: Discovery) {
        self.known.policies.lock().unwrap().insert(domain(name), discovery);
    }

    pub(crate) fn enforce(&self, name: &str, mx: &[&str]) {
        self.promises(name, Mode::Enforce, mx);
    }

    pub(crate) fn promises(&self, name: &str, mode: Mode, mx: &[&str]) {
        let now = Timestamp::from_millis(1_795_333_080_000);
        let policy = Policy {
            mode,
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
        let applicable = Applicable { policy: Some(Arc::new(stored)), ..Applicable::default() };
        self.discovers(name, Discovery::Known(applicable));
    }

    /// The next route is found while DNSSEC is still in doubt, and the doubt ends before it is used.
    pub(crate) fn proves_meanwhile(&self, dnssec: Dnssec) {
        *self.known.proven_meanwhile.lock().unwrap() = Some(dnssec);
    }

    pub(crate) async fn deliver(&self, name: &str, recipients: u32) -> (AttemptReport, Vec<Outcome>) {
        self.run(&lease(name, recipients)).await
    }

    pub(crate) async fn run(&self, lease: &Lease) -> (AttemptReport, Vec<Outcome>) {
        let report = self.attempts.run(lease, &*self.notes, &CancellationToken::new()).await;
        (report, self.taken())
    }

    /// The outcomes since the last call, by recipient.
    pub(crate) fn taken(&self) -> Vec<Outcome> {
        let mut outcomes = std::mem::take(&mut *self.notes.outcomes.lock().unwrap());
        outcomes.sort_by_key(|(no, _)| *no);
        outcomes.into_iter().map(|(_, o)| o).collect()
    }
}

pub(crate) fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    outcomes.iter().map(Outcome::word).collect()
}

pub(crate) fn enhanced(outcome: &Outcome) -> String {
    outcome.diagnosis().enhanced.to_string()
}

/// The entries of a record in words: `tlsa mx.example.net -validation-failure/dane-no-match`.
fn entries(record: &SessionRecord) -> Vec<String> {
    let entry = |v: &PolicyVerdict| {
        let policy = match &v.policy {
            AppliedPolicy::Tlsa { domain, .. } => format!("tlsa {domain}"),
            AppliedPolicy::Sts { domain, .. } => format!("sts {domain}"),
            AppliedPolicy::NoPolicyFound { domain } => format!("none {domain}"),
        };
        let details: Vec<String> = v
            .details
            .iter()
            .map(|d| match &d.reason {
                Some(reason) => format!("{}/{reason}", d.result),
                None => d.result.to_string(),
            })
            .collect();
        format!("{policy} {}{}", if v.success { '+' } else { '-' }, details.join(","))
    };
    record.verdicts.iter().map(entry).collect()
}

/// Of all records.
pub(crate) fn all_entries(w: &World) -> Vec<String> {
    w.notes.records.lock().unwrap().iter().flat_map(entries).collect()
}
