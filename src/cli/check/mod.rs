//! `sealpost check DOMAIN` (without a domain: [`super::standing`]): what would happen to mail for a domain now, and why, by the delivery's own code.
//!
//! Route, policy, demand per host and, with `--probe`, a session to each MX host up to TLS. Nothing is stored,
//! nothing is counted, no back-off is used up: the policy cache is read from the relay's database and a live
//! look is thrown away.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::join_all;

use super::args::Check as Command;
use super::print::json;
use super::{Failure, Io, failed, relay, standing};
use crate::app::dnssec::SelfTesting;
use crate::app::{self, outbound};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::dane::TlsaAnswer;
use crate::delivery::attempt::{self, Asking, DnsTlsa, Prober, Terms, TlsaRecords};
use crate::delivery::classify::{self, Decision, HostFailure, HostRuling, Ruling};
use crate::dns::Resolver;
use crate::mail::Domain;
use crate::mtasts::service::{LiveLook, PolicyService};
use crate::mtasts::{Applicable, Discovery, Mode};
use crate::route::{Host, Route, RouteFailure};
use crate::security::decide::{Gate, MessageKind, Reason, TlsPolicy};
use crate::security::exception::{Exceptions, Waived};
use crate::security::verdict::{self, Clearance, Judgement};
use crate::status::{Exception, Status};
use crate::store::sqlite::SqliteStore;

mod cache;
mod report;
mod text;

use report::{Answer, HostReport, PolicyReport, Probe, Report, RequireTlsReport, RouteReport, RuleReport};

pub(super) fn run(command: Command, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    let Some(domain) = &command.domain else { return standing::own(command.probe, command.json, config, io) };
    let mut report = relay::block_on(examine(&command, domain, config))?.map_err(failed)?;
    report.configuration_changed = changed_since_start(config);
    if command.json {
        json(io.out, &report)?;
    } else {
        text::print(&report, io)?;
    }
    Ok(u8::from(report.answer != Answer::Delivered))
}

/// When the configuration was changed under a relay that runs: it does not do what is examined here.
fn changed_since_start(config: &Config) -> Option<Timestamp> {
    let status = relay::asked(config, |client| client.get::<Status>("/v1/status")).ok()?.ok()??;
    status.configuration?.changed
}

/// What the examination works with.
struct Bench {
    resolver: Arc<dyn Resolver>,
    policies: PolicyService,
    prober: Prober,
    tlsa: DnsTlsa,
    port: u16,
    exceptions: Exceptions,
    require_both: bool,
    asking: Asking,
    /// Whether TLSA records are asked for.
    dane: bool,
    self_test: SelfTesting,
    clock: Arc<dyn Clock>,
}

impl Bench {
    async fn new(config: &Config) -> Result<Self, String> {
        let clock: Arc<dyn Clock> = Arc::new(app::SystemClock::new());
        let (resolver, self_test) = outbound::resolver(config, &clock, Default::default())?;
        let roots = Arc::new(app::trust::load(config.trust.roots, &config.trust.extra_roots)?);
        // No relay has run here yet, or we may not read its database: then nothing is cached.
        let stored = SqliteStore::open_read_only(&config.data_dir).ok();
        let ended = match &stored {
            Some(stored) => stored.ended_exceptions().await.unwrap_or_default(),
            None => Vec::new(),
        };
        let store = Arc::new(cache::ReadOnly(stored));
        let policies = outbound::policies(config, &resolver, &roots, store, &clock, Default::default())?;
        let settings = outbound::attempt_settings(config, &self_test.belief);
        let exceptions = Exceptions::new(config.exception.iter().cloned(), &ended);
        let (require_both, asking) = (settings.require_both, settings.asking.clone());
        let dane = config.dane.enabled;
        let (tlsa, port) = (outbound::tlsa(config, &resolver, &self_test.belief), settings.port);
        let prober = Prober::new(settings, outbound::tls(config, roots)?, Arc::clone(&clock));
        Ok(Self {
            resolver,
            policies,
            prober,
            tlsa,
            port,
            exceptions,
            require_both,
            asking,
            dane,
            self_test,
            clock,
        })
    }
}

async fn examine(command: &Command, domain: &Domain, config: &Config) -> Result<Report, String> {
    let bench = Bench::new(config).await?;
    // First, because all that follows goes by what it finds.
    bench.self_test.once().await;
    let route =
        crate::route::resolve::resolve(&*bench.resolver, &outbound::route_settings(config), domain, 0).await;
    let rules = outbound::route_settings(config).rules;
    // STS-60: where mail is routed to a next hop, its policy is the one that counts.
    let policy_domain = rules.policy_domain(domain);
    let not_asked = match &route {
        _ if policy_domain.is_none() => Some("the next hop has no name to ask for"),
        _ if !config.mta_sts.enabled => Some("mta_sts.enabled = false"),
        // NMX-07: a domain that takes no mail has no policy to ask for.
        Err(RouteFailure::NullMx { .. }) => Some("the domain takes no mail"),
        Err(RouteFailure::NoSuchDomain { .. }) => Some("the domain does not exist"),
        Err(RouteFailure::Dns(_)) => Some("the DNS does not answer for the domain"),
        _ => None,
    };
    let (mut look, mut enforced_before, mut cached) = (None, false, Applicable::default());
    if let Some(policy_domain) = &policy_domain {
        if not_asked.is_none() {
            look = Some(bench.policies.look_live(policy_domain).await);
        }
        enforced_before = bench.policies.has_enforce(policy_domain).await;
        cached = bench.policies.cached(policy_domain).await;
    }
    let applicable = applied(command, &bench, policy_domain.as_ref().zip(look.as_ref()), &cached).await;

    let mut report = Report {
        domain: domain.clone(),
        at: bench.clock.now(),
        dnssec: bench.self_test.belief.words(),
        route: RouteReport::new(&route, domain),
        policy: match &look {
            Some(look) => PolicyReport::new(look, applicable.as_ref().ok(), command.from_cache),
            None => PolicyReport::not_asked(not_asked.unwrap_or_default(), &cached),
        },
        rule: rules.of(domain).map(|rule| RuleReport::new(rule, domain)),
        exceptions: exceptions_of(&bench, domain),
        hosts: Vec::new(),
        probed: command.probe,
        requiretls: RequireTlsReport::new(config, &bench.self_test.belief),
        answer: Answer::Wait,
        sentence: String::new(),
        advice: None,
        configuration_changed: None,
    };
    let both = |ruling: &Ruling| (say(ORDINARY, domain, ruling, true), say(REQUIRETLS, domain, ruling, true));
    let (conclusion, requiretls) = match (&route, applicable) {
        (Err(failure), _) => {
            let enforce = match failure {
                RouteFailure::NullMx { secure: true } | RouteFailure::NoSuchDomain { secure: true } => false,
                RouteFailure::NullMx { .. } | RouteFailure::NoSuchDomain { .. } => enforced_before,
                _ => look.as_ref().is_some_and(|l| is_enforce(&l.applicable)) || enforced_before,
            };
            both(&classify::route(failure, domain, enforce, false))
        }
        (Ok(_), Err(error)) => both(&classify::lookup_failed(&error)),
        (Ok(route), Ok(applicable)) => {
            let (hosts, answer, requiretls) = hosts(command, &bench, domain, route, &applicable).await;
            report.hosts = hosts;
            (answer, requiretls)
        }
    };
    (report.requiretls.answer, report.requiretls.sentence) = (requiretls.answer, requiretls.sentence);
    Conclusion { answer: report.answer, sentence: report.sentence, advice: report.advice } = conclusion;
    Ok(report)
}

/// The exceptions for `domain`, those that are over too.
fn exceptions_of(bench: &Bench, domain: &Domain) -> Vec<Exception> {
    let mut all = Exception::all(&bench.exceptions, bench.clock.now());
    all.retain(|e| e.domain == *domain);
    all
}

fn is_enforce(applicable: &Applicable) -> bool {
    applicable.policy.as_ref().is_some_and(|p| p.policy.mode == Mode::Enforce)
}

/// The policy that a delivery would go by, or the cached one alone with `--from-cache`.
async fn applied(
    command: &Command,
    bench: &Bench,
    look: Option<(&Domain, &LiveLook)>,
    cached: &Applicable,
) -> Result<Applicable, crate::dns::DnsError> {
    let Some((domain, look)) = look else { return Ok(Applicable::default()) };
    if command.from_cache {
        return Ok(cached.clone());
    }
    match (&look.dns_error, &look.applicable.policy) {
        // Nothing cached and nothing known: the grace of STS-14 decides, read from the relay's own memory.
        (Some(error), None) => match bench.policies.discover(domain).await {
            Discovery::Known(applicable) => Ok(applicable),
            Discovery::Wait(_) => Err(error.clone()),
        },
        _ => Ok(look.applicable.clone()),
    }
}

/// What one host comes to; `None` where it would be contacted and was not tried.
type Judged<T = Option<Cleared>> = Result<T, HostRuling>;

/// A session that is good enough.
struct Cleared {
    /// The security level.
    level: &'static str,
    /// Because of this exception only.
    waived: Option<Waived>,
}

impl Cleared {
    /// From a judgement that cleared the session.
    fn new(clearance: &Clearance, judgement: &Judgement) -> Self {
        Self { level: clearance.level().as_str(), waived: judgement.waived.clone() }
    }

    /// For the sentence.
    fn words(&self) -> String {
        let Self { level, waived } = self;
        let only = waived.as_ref().map_or_else(String::new, |w| {
            format!(", only by the exception that {} allowed until {}", w.by, w.until.utc_day())
        });
        format!("security level {level}{only}")
    }
}

/// Judges every host, and says what becomes of the mail: of ordinary mail, and of mail with REQUIRETLS.
async fn hosts(
    command: &Command,
    bench: &Bench,
    domain: &Domain,
    route: &Route,
    applicable: &Applicable,
) -> (Vec<HostReport>, Conclusion, Conclusion) {
    let judged =
        join_all(route.hosts.iter().map(|host| judge(command, bench, domain, route, host, applicable))).await;
    let (mut reports, mut ordinary, mut required) = (Vec::new(), Vec::new(), Vec::new());
    for (report, result, with_requiretls) in judged {
        ordinary.push((report.name.clone(), result));
        required.push((report.name.clone(), with_requiretls));
        reports.push(report);
    }
    let promised = reports.iter().any(|r| r.required_by.iter().any(|who| *who != Reason::Operator.as_str()));
    let required = match &applicable.lookup_failed {
        Some(error) => say(REQUIRETLS, domain, &classify::policy_lookup_failed(error), promised),
        None => conclude(REQUIRETLS, domain, required, promised),
    };
    (reports, conclude(ORDINARY, domain, ordinary, promised), required)
}

/// What the hosts come to together; `promised`: the domain itself asks for something.
fn conclude(mail: &str, domain: &Domain, judged: Vec<(Domain, Judged)>, promised: bool) -> Conclusion {
    let mut failures = Vec::new();
    for (host, result) in judged {
        match result {
            Ok(Some(cleared)) => {
                let words = cleared.words();
                return Conclusion::new(
                    Answer::Delivered,
                    format!("{mail} for {domain} would be delivered to {host} now, {words}."),
                );
            }
            Ok(None) => {
                return Conclusion::new(
                    Answer::Delivered,
                    format!(
                        "{mail} for {domain} would go to {host}. What that host does was not tried: add --probe."
                    ),
                );
            }
            Err(ruling) => failures.push(ruling),
        }
    }
    match classify::after_last_host(&failures) {
        Some((_, ruling)) => say(mail, domain, &ruling, promised),
        None => {
            Conclusion::new(Answer::Wait, format!("{mail} for {domain} would wait: no host could be judged."))
        }
    }
}

/// One host: what is demanded, and (with `--probe`) what it does, for ordinary mail and for mail with REQUIRETLS.
async fn judge(
    command: &Command,
    bench: &Bench,
    domain: &Domain,
    route: &Route,
    host: &Host,
    applicable: &Applicable,
) -> (HostReport, Judged, Judged) {
    let tlsa = match &host.addresses {
        Ok(_) => bench.tlsa.look_up(host, route.port(bench.port)).await,
        Err(_) => TlsaAnswer::None,
    };
    let terms = Terms {
        exception: bench.exceptions.of(domain, bench.clock.now()),
        message: MessageKind::Normal,
        require_both: bench.require_both,
        asked: bench.asking.now(applicable),
    };
    let gate = attempt::gate(route, host, &tlsa, applicable, terms);
    let mut report = HostReport::new(host, route, &gate, bench.dane);
    let required = Terms { message: MessageKind::RequireTls, ..terms };
    let required =
        contact(host, attempt::gate(route, host, &tlsa, applicable, required)).map(|(policy, _)| policy);
    let (policy, addresses) = match contact(host, gate) {
        Ok(found) => found,
        Err(ruling) => {
            report.verdict = format!("not contacted: {}", ruling.transient.text);
            return (report, Err(ruling), required.map(|_| None));
        }
    };
    if !command.probe {
        report.verdict = "would be contacted; what it does was not tried".to_owned();
        return (report, Ok(None), required.map(|_| None));
    }
    probe(bench, route, &policy, required, addresses, report).await
}

/// The policy of a host that may be contacted and its addresses, or why it may not be; in the order of an attempt (R3, R5).
fn contact(host: &Host, gate: Gate) -> Judged<(TlsPolicy, &[IpAddr])> {
    match (&host.addresses, gate) {
        (Err(why), Gate::Contact(policy) | Gate::Refuse(policy, _)) => {
            Err(classify::host(&HostFailure::NoAddress(why), &host.name, &policy))
        }
        (Ok(_), Gate::Refuse(policy, failure)) => {
            Err(classify::host(&HostFailure::Tls(&failure), &policy.host, &policy))
        }
        (Ok(addresses), Gate::Contact(policy)) => Ok((policy, addresses)),
    }
}

async fn probe(
    bench: &Bench,
    route: &Route,
    policy: &TlsPolicy,
    required: Judged<TlsPolicy>,
    addresses: &[IpAddr],
    mut report: HostReport,
) -> (HostReport, Judged, Judged) {
    let untried = || HostRuling { transient: classify::local("no address".to_owned()), permanent: None };
    let mut last = None;
    let mut with_requiretls: Judged = required.as_ref().map(|_| None).map_err(Clone::clone);
    // As an attempt does: the next address only when this one did not come to a verdict.
    for address in addresses.iter().take(2) {
        match bench.prober.probe(*address, route, policy).await {
            Ok((seen, judgement)) => {
                report.probes.push(Probe::new(*address, &seen, policy, &judgement));
                // The same session, for mail that asks for more.
                if let Ok(required) = &required {
                    let asked = verdict::judge(required, &seen.evidence);
                    with_requiretls = match &asked.cleared {
                        Ok(clearance) => Ok(Some(Cleared::new(clearance, &asked))),
                        Err(f) => Err(classify::host(&HostFailure::Tls(f), &required.host, required)),
                    };
                }
                match &judgement.cleared {
                    Ok(clearance) => {
                        let cleared = Cleared::new(clearance, &judgement);
                        let but = if cleared.waived.is_some() { "" } else { unkept(&judgement) };
                        let end = if judgement.exception_unneeded { UNNEEDED } else { "" };
                        report.verdict = format!("would get mail, {}{but}{end}", cleared.words());
                        return (report, Ok(Some(cleared)), with_requiretls);
                    }
                    Err(failure) => {
                        last = Some(classify::host(&HostFailure::Tls(failure), &policy.host, policy));
                    }
                }
            }
            Err(ruling) => {
                report.probes.push(Probe::failed(*address, &ruling.transient));
                if required.is_ok() {
                    with_requiretls = Err(ruling.clone());
                }
                last = Some(ruling);
            }
        }
    }
    let ruling = last.unwrap_or_else(untried);
    report.verdict = ruling.transient.text.clone();
    (report, Err(ruling), with_requiretls)
}

/// What a promise that is broken and keeps nothing back means.
fn unkept(judgement: &Judgement) -> &'static str {
    let broken = judgement.promise.as_ref().filter(|p| p.broken.is_some());
    match broken.map(|p| (p.kind.as_str(), p.mode.as_str())) {
        Some((_, "testing")) => "; under an enforce policy mail would wait",
        Some(("mta-sts", "enforce")) => "; the MTA-STS policy is broken, and DANE stands in its place",
        _ => "",
    }
}

/// What a probe says about an exception in force that its session does without.
const UNNEEDED: &str = "; the exception is not needed and would end with that";

/// How it ends: the answer, the final sentence, and what can be done about it.
struct Conclusion {
    answer: Answer,
    sentence: String,
    advice: Option<&'static str>,
}

impl Conclusion {
    const fn new(answer: Answer, sentence: String) -> Self {
        Self { answer, sentence, advice: None }
    }
}

/// How sentences about mail begin that asks for nothing.
const ORDINARY: &str = "Mail";
/// The like for mail whose sender asks for verified TLS all the way.
const REQUIRETLS: &str = "Mail with REQUIRETLS";

/// The conclusion from a ruling.
fn say(mail: &str, domain: &Domain, ruling: &Ruling, promised: bool) -> Conclusion {
    let (enhanced, text) = (&ruling.enhanced, &ruling.text);
    match ruling.decision {
        Decision::Delivered => {
            Conclusion::new(Answer::Delivered, format!("{mail} for {domain} would be delivered."))
        }
        Decision::Deferred(reason) => {
            let sentence =
                format!("{mail} for {domain} would wait ({enhanced}, cause {}): {text}.", reason.as_str());
            Conclusion { advice: Some(reason.advice(promised)), ..Conclusion::new(Answer::Wait, sentence) }
        }
        Decision::Failed(reason) => Conclusion::new(
            Answer::Returned,
            format!("{mail} for {domain} would be returned ({enhanced}, {}): {text}.", reason.as_str()),
        ),
    }
}
