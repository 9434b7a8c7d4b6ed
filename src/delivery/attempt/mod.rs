//! One attempt at one transaction: steps 5 to 9 of a message's journey, over ports only.
//!
//! The hosts of the route are walked in order. Each is judged before it is contacted (`security::decide`) and
//! again before MAIL (`security::verdict`); every verdict leaves its record, every reply its outcome.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::clock::{Clock, Timestamp};
use crate::dane::TlsaAnswer;
use crate::dns::{Dnssec, Resolver};
use crate::mail::Domain;
use crate::mtasts::service::PolicyService;
use crate::mtasts::{Applicable, Discovery};
use crate::queue::outcome::{Diagnosis, SessionFacts};
use crate::queue::{Lease, QueueStore};
use crate::route::source::{self, Source};
use crate::route::{Host, Route, RouteFailure, RouteKind, RouteSettings};
use crate::security::decide::{Asked, Gate, MessageKind, Sources, TlsPolicy, decide};
use crate::security::exception::{Exception, Exceptions};
use crate::tlsrpt::SessionStore;

use super::classify::{self, HostFailure};
use super::pool::Pool;
use super::session::{Opening, Seen, Timers, Unopened};
use super::starttls::Tls;
use super::{AttemptReport, HandBack, Ledger};

pub mod metrics;
mod probe;
mod walk;

pub use probe::Prober;

use metrics::AttemptMetrics;
use walk::Walk;

/// Finds the hosts of a domain. [`DnsRoutes`] is the real one.
pub trait Routes: Send + Sync {
    /// The route, or why there is none.
    fn resolve<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Route, RouteFailure>>;

    /// The domain whose policy binds mail for `domain`, asking nobody (STS-60); `None` where there is none to ask (STS-62).
    fn policy_domain(&self, domain: &Domain) -> Option<Domain> {
        Some(domain.clone())
    }
}

/// Knows the TLSA records of hosts. [`DnsTlsa`] is the real one.
pub trait TlsaRecords: Send + Sync {
    /// The records that bind a session with `host` of `route` on `port`.
    fn look_up<'a>(&'a self, host: &'a Host, port: u16) -> BoxFuture<'a, TlsaAnswer>;
}

/// TLSA records from the DNS (`dane::lookup`); none where DANE is off.
pub struct DnsTlsa {
    resolver: Option<Arc<dyn Resolver>>,
    believed: Dnssec,
}

impl DnsTlsa {
    /// Asks this resolver while its answers are `believed` to be authenticated: of others none could count, and a question that
    /// fails would keep mail back for nothing (DANE-01, DANE-07). Nobody for `None`.
    pub fn new(resolver: Option<Arc<dyn Resolver>>, believed: Dnssec) -> Self {
        Self { resolver, believed }
    }
}

impl TlsaRecords for DnsTlsa {
    fn look_up<'a>(&'a self, host: &'a Host, port: u16) -> BoxFuture<'a, TlsaAnswer> {
        Box::pin(async move {
            match &self.resolver {
                Some(resolver) if self.believed.is_believed() => {
                    crate::dane::lookup::look_up(&**resolver, host, port).await
                }
                _ => TlsaAnswer::None,
            }
        })
    }
}

/// Knows the promises of domains. [`PolicyService`] is the real one.
pub trait Policies: Send + Sync {
    /// The policy to apply now (STS-47).
    fn discover<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Discovery>;
    /// Whether an enforce policy is in force, asking nobody outside (NMX-06, NMX-07).
    fn has_enforce<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool>;
    /// The last attempt broke on an enforce policy: fetch it again, if it is time (STS-55).
    fn after_enforce_failure<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool>;
    /// A last look before the lifetime ends; `true`: a new policy was found, try once more (STS-53).
    fn final_look<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool>;
}

impl Policies for PolicyService {
    fn discover<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Discovery> {
        Box::pin(Self::discover(self, domain))
    }

    fn has_enforce<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(Self::has_enforce(self, domain))
    }

    fn after_enforce_failure<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(Self::after_enforce_failure(self, domain))
    }

    fn final_look<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool> {
        Box::pin(Self::final_look(self, domain))
    }
}

/// Routes from the DNS (`route::resolve`), equal preferences in a new order every time.
pub struct DnsRoutes {
    resolver: Arc<dyn Resolver>,
    settings: RouteSettings,
}

impl DnsRoutes {
    /// Routes over this resolver.
    pub fn new(resolver: Arc<dyn Resolver>, settings: RouteSettings) -> Self {
        Self { resolver, settings }
    }
}

impl Routes for DnsRoutes {
    fn resolve<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Route, RouteFailure>> {
        Box::pin(crate::route::resolve::resolve(&*self.resolver, &self.settings, domain, rand::random()))
    }

    fn policy_domain(&self, domain: &Domain) -> Option<Domain> {
        self.settings.rules.policy_domain(domain)
    }
}

/// What attempts need to know.
#[derive(Debug, Clone)]
pub struct AttemptSettings {
    /// What we say in EHLO.
    pub hostname: Domain,
    /// The port of MX hosts.
    pub port: u16,
    /// `delivery.source_addresses`.
    pub sources: Vec<Source>,
    /// Where our own listeners answer (OUT-08).
    pub own_listeners: Vec<SocketAddr>,
    /// `dane.require_both`.
    pub require_both: bool,
    /// Who is asked about promises.
    pub asking: Asking,
    /// Deadlines of a session.
    pub timers: Timers,
    /// Sessions that reach MAIL, per attempt (OUT-02).
    pub max_sessions: u32,
    /// How long to wait before a host of our own name that refuses the connection is dialled again (OUT-08).
    pub own_name_pause: Duration,
    /// How long to wait for a place in the pool before handing back.
    pub patience: Duration,
    /// The overall watchdog (QUE-08).
    pub watchdog: Duration,
    /// What is counted.
    pub metrics: AttemptMetrics,
}

/// Who is asked about what a domain promises.
#[derive(Debug, Clone, Default)]
pub struct Asking {
    /// `mta_sts.enabled`
    pub mta_sts: bool,
    /// `dane.enabled`
    pub dane: bool,
    /// Whether the self-test has proven what DNSSEC says; `None` where nobody is ever believed about it.
    pub dnssec: Option<Dnssec>,
}

impl Asking {
    /// How it stands now, with what came of asking for a policy.
    pub fn now(&self, policy: &Applicable) -> Asked {
        match &self.dnssec {
            _ if policy.outdated || policy.lookup_failed.is_some() => Asked::Fewer,
            Some(dnssec) if !dnssec.is_believed() => Asked::Fewer,
            Some(_) if self.mta_sts && self.dane => Asked::All,
            Some(_) if self.mta_sts => Asked::AllForNames,
            _ => Asked::AsConfigured,
        }
    }
}

impl AttemptSettings {
    /// The defaults for a relay of this name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            hostname,
            port: 25,
            sources: Vec::new(),
            own_listeners: Vec::new(),
            require_both: false,
            asking: Asking::default(),
            timers: Timers::default(),
            max_sessions: 2,
            own_name_pause: Duration::from_secs(10),
            patience: Duration::from_secs(5),
            watchdog: Duration::from_secs(2 * 3600),
            metrics: AttemptMetrics::default(),
        }
    }
}

/// Everything that an attempt works with.
#[derive(Clone)]
pub struct Parts {
    /// Finds hosts.
    pub routes: Arc<dyn Routes>,
    /// Knows promises.
    pub policies: Arc<dyn Policies>,
    /// Knows TLSA records.
    pub tlsa: Arc<dyn TlsaRecords>,
    /// Lends sessions.
    pub pool: Arc<Pool>,
    /// Authorities of MX hosts.
    pub tls: Tls,
    /// Takes session records.
    pub records: Arc<dyn SessionStore>,
    /// Content that is not at hand.
    pub store: Arc<dyn QueueStore>,
    /// The operator's exceptions.
    pub exceptions: Arc<Exceptions>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Makes attempts. Cheap to clone; all clones share the parts.
#[derive(Clone)]
pub struct Attempts {
    settings: Arc<AttemptSettings>,
    parts: Parts,
    /// Since the start somebody has answered at an MX host of our own name: another mail server of this machine, which may
    /// be away for a while (OUT-08).
    name_shared: Arc<AtomicBool>,
}

/// What must survive when an attempt is cut off from outside.
#[derive(Debug, Default)]
struct Progress {
    /// Recipients without an outcome, by their place in the lease.
    pending: Vec<usize>,
    /// The transaction that is under way.
    sending: Option<Sending>,
}

/// A transaction that an attempt may be cut off from.
#[derive(Debug)]
struct Sending {
    /// At this host.
    host: Domain,
    /// To these recipients, by their place in the lease.
    group: Vec<usize>,
    /// The terminator has begun to leave: perhaps delivered (OUT-45).
    dot: Arc<AtomicBool>,
}

impl Attempts {
    /// Attempts over these parts.
    pub fn new(settings: AttemptSettings, parts: Parts) -> Self {
        Self { settings: Arc::new(settings), parts, name_shared: Arc::default() }
    }

    /// Tries to deliver one lease. Every recipient gets an outcome in `ledger` or stands in the report's
    /// `hand_back`. `cancel` cuts the attempt off: a transaction past its final dot becomes uncertain, the rest is
    /// handed back.
    pub async fn run(&self, lease: &Lease, ledger: &dyn Ledger, cancel: &CancellationToken) -> AttemptReport {
        let progress = Mutex::new(Progress { pending: (0..lease.recipients.len()).collect(), sending: None });
        let cut_off = {
            let walk = Walk::new(self, lease, ledger, &progress);
            tokio::select! {
                biased;
                report = Box::pin(walk.run()) => return report,
                () = cancel.cancelled() => true,
                () = tokio::time::sleep(self.settings.watchdog) => false,
            }
        };
        let Progress { pending, sending } =
            std::mem::take(&mut *progress.lock().unwrap_or_else(PoisonError::into_inner));
        let host = sending.as_ref().map(|s| s.host.clone());
        let past_dot = sending.filter(|s| s.dot.load(Ordering::Acquire));
        let (uncertain, rest): (Vec<usize>, Vec<usize>) =
            pending.into_iter().partition(|i| past_dot.as_ref().is_some_and(|s| s.group.contains(i)));
        let mut report = AttemptReport::default();
        let mut ruled = vec![(uncertain, true)];
        if cut_off {
            let recipients: Vec<u32> =
                rest.iter().filter_map(|i| lease.recipients.get(*i)).map(|r| r.no).collect();
            report.hand_back = (!recipients.is_empty()).then_some(HandBack { recipients, until: None });
        } else {
            ruled.push((rest, false));
        }
        let base = Diagnosis { host: host.clone(), ..blank(self.parts.clock.now()) };
        let mut outcomes = Vec::new();
        for (places, maybe_delivered) in ruled {
            let ruling = classify::watchdog(host.as_ref(), maybe_delivered);
            let recipients = places.iter().filter_map(|i| lease.recipients.get(*i));
            outcomes.extend(recipients.map(|r| (r.no, ruling.clone().into_outcome(base.clone()))));
        }
        if outcomes.is_empty() {
            return report;
        }
        if let Err(e) = ledger.record(outcomes, Vec::new()).await {
            tracing::error!(queue_id = %lease.message.id, error = %e, "outcomes of a stopped attempt were not stored");
        }
        report
    }

    /// A last look at the policy before the lifetime of waiting mail ends; `true`: try once more (STS-53).
    pub async fn final_look(&self, domain: &Domain) -> bool {
        match self.parts.routes.policy_domain(domain) {
            Some(policy_domain) => self.parts.policies.final_look(&policy_domain).await,
            None => false,
        }
    }
}

/// What is demanded of one host of a route; the same for deliveries and for `check`.
pub fn gate(
    route: &Route,
    host: &Host,
    tlsa: &TlsaAnswer,
    applicable: &Applicable,
    terms: Terms<'_>,
) -> Gate {
    let identified = route.kind == RouteKind::SmartHost || route.mx_secure;
    decide(&Sources {
        next_hop: &route.next_hop,
        host: &host.name,
        name_assured: identified || route.kind == RouteKind::ImplicitMx,
        identified,
        tlsa,
        references: &references(route, host, tlsa),
        require_both: terms.require_both,
        policy: applicable.policy.as_ref().map(|p| (p, p.policy.allows(&host.name))),
        fetch_failure: applicable.fetch_failure.as_ref(),
        operator: route.demand(),
        floor: route.floor(),
        exception: terms.exception,
        message: terms.message,
        asked: terms.asked,
    })
}

/// Whether a host has our own name and was not configured: unless somebody answers there, it is us (OUT-08).
fn has_our_name(settings: &AttemptSettings, route: &Route, host: &Domain) -> bool {
    route.smart_host().is_none() && *host == settings.hostname
}

/// What has a say about every host of a route alike.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The operator's exception in force for the recipient domain.
    pub exception: Option<&'a Arc<Exception>>,
    /// What kind of message asks.
    pub message: MessageKind,
    /// `dane.require_both`.
    pub require_both: bool,
    /// Whether all were asked who could have promised something.
    pub asked: Asked,
}

/// The names that a certificate below a DANE-TA authority may carry (RFC 7672 §3.2.2, DANE-28): the base domain and the
/// exchange name; the next hop's names too, where the DNS vouches for the way from there to the host.
fn references(route: &Route, host: &Host, tlsa: &TlsaAnswer) -> Vec<Domain> {
    let mut names: Vec<Domain> = Vec::new();
    let base = match tlsa {
        TlsaAnswer::Found(set) => Some(&set.base),
        TlsaAnswer::None | TlsaAnswer::Failed(_) => None,
    };
    let next_hop = [Some(&route.next_hop), route.expanded.as_ref()];
    let next_hop = next_hop.into_iter().flatten().filter(|_| route.mx_secure);
    for name in base.into_iter().chain([&host.name]).chain(next_hop) {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn opening<'a>(
    settings: &'a AttemptSettings,
    tls: &'a Tls,
    now: Timestamp,
    route: &Route,
    policy: &'a TlsPolicy,
    to: SocketAddr,
) -> Opening<'a> {
    let source = source::choose(&settings.sources, &route.next_hop, to.ip());
    let hop = route.smart_host();
    Opening {
        host: &policy.host,
        to,
        source: source.map(|s| s.address),
        hostname: source.and_then(|s| s.ehlo.as_ref()).unwrap_or(&settings.hostname),
        tls: tls.of_rule(route.rule.as_deref()),
        implicit_tls: hop.is_some_and(|hop| hop.implicit_tls),
        sni: policy.sni(),
        demand: policy.demand,
        after: None,
        // A next hop may carry our own name: a filter on this machine, say (OUT-08).
        own_listeners: if hop.is_some() { &[] } else { &settings.own_listeners },
        timers: &settings.timers,
        now,
    }
}

/// `None` where STARTTLS came to nothing, which the verdict judges. `nobody`: a refused
/// connection says that the host is us.
fn host_failure(why: &Unopened, at: SocketAddr, nobody: bool) -> Option<HostFailure<'_>> {
    match why {
        Unopened::Connect(fault) if nobody && fault.refused => {
            Some(HostFailure::Nobody { at, words: fault.words.clone() })
        }
        Unopened::Connect(fault) => {
            Some(HostFailure::Connect { at, words: fault.words.clone(), local: fault.local })
        }
        Unopened::Refused(stage, reply) => Some(HostFailure::Refused(*stage, reply)),
        Unopened::Fault(stage, fault) => Some(HostFailure::Fault(*stage, fault)),
        Unopened::Ourselves => Some(HostFailure::Ourselves),
        Unopened::Starttls => None,
    }
}

/// A diagnosis that knows nothing yet but the time; [`Ruling::into_outcome`] fills in the rest.
fn blank(at: Timestamp) -> Diagnosis {
    Diagnosis::local(at, String::new())
}

/// The facts of a session for log line and timeline.
fn facts(seen: &Seen, route: &Route, reused: bool, connect: Duration) -> SessionFacts {
    let ms = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    SessionFacts {
        tls_version: seen.tls().map(|t| t.version.clone()),
        cipher: seen.tls().map(|t| t.cipher.clone()),
        // A configured name needs nobody to vouch for it.
        mx_secure: route.mx_secure || route.kind == RouteKind::SmartHost,
        reused,
        body_8bit_undeclared: false,
        requiretls: false,
        dsn_offered: false,
        connect_ms: ms(connect),
        transfer_ms: 0,
    }
}
