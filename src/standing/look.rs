//! Asks the DNS what [`super::reports`] and [`super::relay`] judge.

use futures_util::future::{join, join_all};

use super::dmarc::{self, Dmarc};
use super::relay::Names;
use super::reports::{self, Receiver, Reporting, records};
use super::spf::{self, Fact, Facts, Question, Spf};
use super::{Finding, Source, relay};
use crate::dkim::{Algorithm, Signers, SigningKey};
use crate::dns::{Answer, Data, DnsError, DnsResult, Family, Resolver, reverse_name};
use crate::mail::{Domain, Mailbox};
use crate::route::resolve::resolve;
use crate::route::{Route, RouteFailure, RouteSettings};
use crate::tlsrpt::record::{self, Rua};

/// What is looked at.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Our host name.
    pub hostname: Domain,
    /// `[tls_rpt]`.
    pub reporting: Reporting,
    /// `[[dkim]]`.
    pub signers: Signers,
    /// Where mail leaves from; may be empty.
    pub sources: Vec<Source>,
    /// How routes are found.
    pub route: RouteSettings,
}

/// Whether our TLS reports would be believed: `report check`.
pub async fn reports(resolver: &dyn Resolver, subject: &Subject) -> Vec<Finding> {
    let reporting = &subject.reporting;
    let signed = reporting.from.as_ref().is_some_and(|from| subject.signers.signs_exactly(from.domain()));
    let mut findings = vec![reports::configuration(reporting, signed)];
    let (true, Some(from)) = (reporting.enabled, &reporting.from) else { return findings };
    let from = from.domain();
    let (keys, usable) = keys(resolver, subject, from).await;
    findings.extend(keys);
    let public: Vec<&Source> = subject.sources.iter().filter(|s| s.public).collect();
    if public.is_empty() {
        findings.push(reports::spf_unknown(from));
    }
    for source in public {
        findings.push(reports::spf(from, source, &spf(resolver, from, source.address).await));
    }
    findings.push(reports::dmarc(from, &dmarc(resolver, from).await, usable));
    if let Some(contact) = &reporting.contact {
        findings.push(reports::contact(contact, &route(resolver, subject, contact).await));
    }
    findings.extend(circles(resolver, subject, from).await);
    findings
}

/// The relay's own standing: `check`. What needs no DNS is added by the caller.
pub async fn relay(resolver: &dyn Resolver, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in &subject.sources {
        findings.push(relay::name(source, &names(resolver, source).await));
    }
    if subject.sources.is_empty() {
        findings.push(relay::no_source());
    }
    let mut domains: Vec<&Domain> = Vec::new();
    for key in subject.signers.keys() {
        if !domains.contains(&key.domain()) {
            domains.push(key.domain());
        }
    }
    for domain in domains {
        let (keys, usable) = keys(resolver, subject, domain).await;
        findings.extend(keys);
        findings.push(reports::dmarc(domain, &dmarc(resolver, domain).await, usable));
    }
    findings
}

/// The keys of exactly `domain`, and whether ordinary verifiers can use one of them.
async fn keys(resolver: &dyn Resolver, subject: &Subject, domain: &Domain) -> (Vec<Finding>, bool) {
    let keys: Vec<&SigningKey> = subject.signers.keys().iter().filter(|k| k.domain() == domain).collect();
    let from = subject.reporting.from.as_ref().filter(|_| subject.reporting.enabled);
    let signs_reports = from.is_some_and(|from| from.domain() == domain);
    let answers = join_all(keys.iter().map(|k| resolver.txt(k.record_name()))).await;
    let judged: Vec<_> =
        keys.iter().zip(&answers).map(|(key, txt)| reports::key(key, txt, signs_reports)).collect();
    let by = |algorithm| {
        keys.iter().zip(&judged).any(|(key, (_, usable))| usable.mail && key.algorithm() == algorithm)
    };
    let (rsa, ed25519) = (by(Algorithm::Rsa), by(Algorithm::Ed25519));
    let mut findings: Vec<_> = judged.into_iter().map(|(finding, _)| finding).collect();
    if ed25519 && !rsa {
        findings.push(reports::without_rsa(domain));
    }
    (findings, rsa || ed25519)
}

async fn names(resolver: &dyn Resolver, source: &Source) -> Names {
    let family = family(source);
    let ehlo = resolver.addresses(&source.ehlo, family);
    let ptr = async {
        match reverse_name(source.address) {
            Some(name) => resolver.ptr(&name).await,
            None => Ok(nothing()),
        }
    };
    let (ehlo, ptr) = join(ehlo, ptr).await;
    let found: Vec<Domain> = records(&ptr).unwrap_or_default().iter().take(MOST_NAMES).cloned().collect();
    let back = join_all(found.iter().map(|name| resolver.addresses(name, family))).await;
    Names { ptr, back: found.into_iter().zip(back).collect(), ehlo }
}

const fn family(source: &Source) -> Family {
    if source.address.is_ipv4() { Family::V4 } else { Family::V6 }
}

const fn nothing<T>() -> Answer<T> {
    Answer { data: Data::NxDomain, secure: false, expanded: None, ttl: std::time::Duration::ZERO }
}

async fn dmarc(resolver: &dyn Resolver, from: &Domain) -> Result<Option<Dmarc>, DnsError> {
    for at in dmarc::candidates(from) {
        let Some(name) = at.with_prefix("_dmarc") else { continue };
        let answer = resolver.txt(&name).await;
        if let Some(found) = dmarc::read(from, &at, records(&answer).map_err(Clone::clone)?) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// How a receiver would judge mail from `domain` that comes from `ip`.
pub async fn spf(resolver: &dyn Resolver, domain: &Domain, ip: std::net::IpAddr) -> Spf {
    let mut facts = Facts::new();
    loop {
        let question = match spf::evaluate(domain, ip, &facts) {
            Ok(verdict) => return verdict,
            Err(question) => question,
        };
        let fact = match &question {
            Question::Txt(name) => fact(resolver.txt(name).await, Fact::Texts),
            Question::Mx(name) => fact(resolver.mx(name).await, |mx| {
                Fact::Hosts(mx.into_iter().filter_map(|mx| mx.exchange).collect())
            }),
            Question::Addresses(name, family) => {
                fact(resolver.addresses(name, *family).await, Fact::Addresses)
            }
        };
        facts.insert(question, fact);
    }
}

fn fact<T>(answer: DnsResult<T>, read: impl Fn(Vec<T>) -> Fact) -> Fact {
    match answer.map(|a| a.data) {
        Ok(Data::Records(records)) => read(records),
        Ok(Data::NoData | Data::NxDomain) => read(Vec::new()),
        Err(e) => Fact::Failed(e.to_string()),
    }
}

async fn route(resolver: &dyn Resolver, subject: &Subject, to: &Mailbox) -> Result<Route, RouteFailure> {
    resolve(resolver, &subject.route, to.domain(), 0).await
}

/// Whom the domain of our sender asks to send reports to, by mail.
async fn circles(resolver: &dyn Resolver, subject: &Subject, from: &Domain) -> Vec<Finding> {
    let txt = match from.with_prefix("_tls").and_then(|d| d.with_prefix("_smtp")) {
        Some(name) => resolver.txt(&name).await,
        None => Ok(nothing()),
    };
    let asked = match records(&txt).map(record::discover) {
        Ok(Ok(found)) => found.destinations,
        Ok(Err(_)) => Vec::new(),
        Err(e) => return vec![reports::circles_unknown(from, e)],
    };
    let mut receivers = Vec::new();
    for rua in asked {
        if let Rua::Mail { to, .. } = rua {
            let route = route(resolver, subject, &to).await;
            receivers.push(Receiver { to, route });
        }
    }
    reports::circles(from, &subject.hostname, &receivers)
}

/// Names of one address that are looked into.
const MOST_NAMES: usize = 8;
