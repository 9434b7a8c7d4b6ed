//! What `check` found, as one JSON document.

use std::net::IpAddr;

use serde::Serialize;

use crate::app::outbound;
use crate::clock::Timestamp;
use crate::config::Config;
use crate::dane::tlsa::Usable;
use crate::dane::{Tlsa, TlsaAnswer};
use crate::delivery::classify::{self, Ruling};
use crate::delivery::session::Seen;
use crate::dns::belief::Belief;
use crate::mail::Domain;
use crate::mtasts::decide::{self, Step, Txt};
use crate::mtasts::service::LiveLook;
use crate::mtasts::{Applicable, FetchFailure, Mode, StoredPolicy};
use crate::queue::outcome::CertificateFacts;
use crate::route::smart_host::Rule;
use crate::route::{Host, NoAddress, Route, RouteFailure, RouteKind};
use crate::security::decide::{Gate, TlsPolicy};
use crate::security::exception::{self, Waived};
use crate::security::verdict::{Judgement, RecordVerdict, TlsState};
use crate::status::Exception;

/// What would happen to mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Answer {
    /// It would be delivered, or taken to a host that was not probed.
    Delivered,
    /// It would wait.
    Wait,
    /// It would go back to its sender.
    Returned,
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) domain: Domain,
    pub(super) at: Timestamp,
    pub(super) dnssec: String,
    pub(super) route: RouteReport,
    pub(super) policy: PolicyReport,
    pub(super) rule: Option<RuleReport>,
    pub(super) exceptions: Vec<Exception>,
    pub(super) hosts: Vec<HostReport>,
    pub(super) probed: bool,
    pub(super) requiretls: RequireTlsReport,
    pub(super) answer: Answer,
    pub(super) sentence: String,
    pub(super) advice: Option<&'static str>,
    /// When the file was changed under a relay that runs with what stood there before.
    pub(super) configuration_changed: Option<Timestamp>,
}

/// The operator's rule for the domain.
#[derive(Debug, Serialize)]
pub(super) struct RuleReport {
    /// Its pattern.
    pub(super) destination: String,
    pub(super) next_hop: Option<String>,
    /// What it demands of every host: `none`, `encrypt`, `verify` or `dane`.
    pub(super) minimum_tls: &'static str,
    /// Why that.
    pub(super) because: &'static str,
    /// Who logs in at the next hop.
    pub(super) user: Option<String>,
    pub(super) own_roots: bool,
    pub(super) rate: Option<String>,
    pub(super) max_connections: Option<usize>,
    /// What this relay cannot see.
    pub(super) unseen: Option<String>,
}

impl RuleReport {
    pub(super) fn new(rule: &Rule, domain: &Domain) -> Self {
        let demand = rule.demand();
        let minimum_tls = match demand {
            d if d.dane => "dane",
            d if d.verified => "verify",
            d if d.tls => "encrypt",
            _ => "none",
        };
        let hop = rule.next_hop.as_ref();
        let because = match (rule.minimum, hop) {
            (Some(minimum), _) if minimum == demand => "minimum_tls says so",
            (_, Some(_)) if rule.credentials.is_some() => "a password is given over verified TLS only",
            (_, Some(hop)) if hop.implicit_tls && !demand.authenticated() => "smtps is TLS",
            (_, Some(hop)) if hop.here => "the next hop is on this machine",
            (_, Some(_)) => "a next hop's certificate is verified unless minimum_tls says otherwise",
            (_, None) => "nothing is written",
        };
        Self {
            destination: rule.pattern.clone(),
            next_hop: hop.map(|hop| {
                let scheme = if hop.implicit_tls { "smtps://" } else { "" };
                format!("{scheme}{}:{}", hop.name, hop.port)
            }),
            minimum_tls,
            because,
            user: rule.credentials.as_ref().map(|c| c.user.clone()),
            own_roots: rule.own_roots,
            rate: rule.rate.map(|rate| rate.to_string()),
            max_connections: rule.max_connections,
            unseen: hop.map(|hop| {
                format!("what {domain} promises is for {} to keep, and this relay does not see it", hop.name)
            }),
        }
    }
}

/// What would happen to mail with REQUIRETLS (RFC 8689).
#[derive(Debug, Serialize)]
pub(super) struct RequireTlsReport {
    /// Whether senders can ask for it here: whether the listener offers it.
    pub(super) accepted: bool,
    pub(super) answer: Answer,
    pub(super) sentence: String,
}

impl RequireTlsReport {
    pub(super) fn new(config: &Config, belief: &Belief) -> Self {
        let accepted = outbound::offers_requiretls(config, belief);
        Self { accepted, answer: Answer::Wait, sentence: String::new() }
    }
}

/// The MX side.
#[derive(Debug, Serialize)]
pub(super) struct RouteReport {
    pub(super) kind: &'static str,
    pub(super) secure: bool,
    pub(super) error: Option<String>,
}

impl RouteReport {
    pub(super) fn new(route: &Result<Route, RouteFailure>, domain: &Domain) -> Self {
        match route {
            Ok(route) => {
                let kind = match route.kind {
                    RouteKind::Mx => "mx",
                    RouteKind::ImplicitMx => "implicit mx",
                    RouteKind::SmartHost => "next hop",
                };
                Self { kind, secure: route.mx_secure, error: None }
            }
            Err(failure) => {
                let secure = matches!(
                    failure,
                    RouteFailure::NullMx { secure: true } | RouteFailure::NoSuchDomain { secure: true }
                );
                let kind = match failure {
                    RouteFailure::NullMx { .. } => "null mx",
                    _ => "none",
                };
                Self { kind, secure, error: Some(classify::route(failure, domain, false, false).text) }
            }
        }
    }
}

/// The MTA-STS side: live and cached beside each other, and which of them applies.
#[derive(Debug, Serialize)]
pub(super) struct PolicyReport {
    pub(super) asked: bool,
    pub(super) not_asked: Option<&'static str>,
    pub(super) txt: Option<String>,
    pub(super) live: Option<PolicyFacts>,
    pub(super) live_failure: Option<FetchFailure>,
    /// When a delivery fetches what is live, where it does not at once and says another thing than what applies.
    pub(super) live_applies: Option<String>,
    pub(super) cached: Option<PolicyFacts>,
    pub(super) applied: Option<&'static str>,
    pub(super) applied_mode: Option<Mode>,
}

/// A policy in short.
#[derive(Debug, Serialize)]
pub(super) struct PolicyFacts {
    pub(super) id: String,
    pub(super) mode: Mode,
    pub(super) mx: Vec<String>,
    pub(super) fetched: Timestamp,
    pub(super) expires: Timestamp,
}

impl PolicyFacts {
    fn new(p: &StoredPolicy) -> Self {
        Self {
            id: p.id.clone(),
            mode: p.policy.mode,
            mx: p.policy.mx.clone(),
            fetched: p.fetched,
            expires: p.expires,
        }
    }
}

impl PolicyReport {
    /// Nobody was asked, for this reason; a policy may be in the cache.
    pub(super) fn not_asked(why: &'static str, cached: &Applicable) -> Self {
        Self {
            asked: false,
            not_asked: Some(why),
            txt: None,
            live: None,
            live_failure: None,
            live_applies: None,
            cached: cached.policy.as_ref().map(|p| PolicyFacts::new(p)),
            applied: None,
            applied_mode: None,
        }
    }

    pub(super) fn new(look: &LiveLook, applied: Option<&Applicable>, from_cache: bool) -> Self {
        let txt = match (&look.txt, &look.dns_error) {
            (Txt::Id(id), _) => format!("id {id}"),
            (Txt::Nothing(why), _) => why.as_str().to_owned(),
            (Txt::Failed, Some(error)) => error.to_string(),
            (Txt::Failed, None) => "the lookup failed".to_owned(),
        };
        let live = look.live.as_ref();
        let policy = applied.and_then(|a| a.policy.as_ref());
        let fresh = live.and_then(|l| l.as_ref().ok());
        let is_live = fresh.is_some() && matches!(look.step, Step::Fetch { .. }) && !from_cache;
        let news = fresh.filter(|f| policy.is_none_or(|p| decide::differs(p, f)) && !is_live && !from_cache);
        Self {
            asked: true,
            not_asked: None,
            txt: Some(txt),
            live: live.and_then(|l| l.as_ref().ok()).map(|p| PolicyFacts::new(p)),
            live_failure: live.and_then(|l| l.as_ref().err()).cloned(),
            live_applies: news
                .map(|_| fetched_when(look, policy.is_some_and(|p| p.policy.mode == Mode::Enforce))),
            cached: look.stored.as_ref().map(|p| PolicyFacts::new(p)),
            applied: policy.map(|_| if is_live { "live" } else { "cached" }),
            applied_mode: policy.map(|p| p.policy.mode),
        }
    }
}

/// When a delivery that goes by what is stored fetches the policy.
fn fetched_when(look: &LiveLook, enforced: bool) -> String {
    match (&look.step, &look.memory.backoff) {
        (Step::BackedOff, Some(backoff)) => {
            format!("when the wait after a fetch that failed is over, at {}", backoff.until)
        }
        // STS-55
        _ if enforced => {
            "when the id changes, at the next refresh, or after an attempt that the cached one stopped"
                .to_owned()
        }
        _ => "when the id changes, or at the next refresh".to_owned(),
    }
}

/// One candidate.
#[derive(Debug, Serialize)]
pub(super) struct HostReport {
    pub(super) name: Domain,
    /// A configured next hop, and no MX host.
    pub(super) is_hop: bool,
    pub(super) preference: u16,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) no_address: Option<String>,
    pub(super) addresses_secure: bool,
    /// `dns`, or `configuration` where the operator wrote the address itself.
    pub(super) addresses_from: &'static str,
    pub(super) tlsa: TlsaReport,
    pub(super) listed: Option<bool>,
    /// What is demanded of a session with it, in a clause.
    pub(super) demand: String,
    /// Who demands it: `mta-sts`, `dane` or `local`.
    pub(super) required_by: Vec<&'static str>,
    pub(super) probes: Vec<Probe>,
    pub(super) verdict: String,
}

impl HostReport {
    /// `dane`: whether anybody asks for TLSA records at all.
    pub(super) fn new(host: &Host, route: &Route, gate: &Gate, dane: bool) -> Self {
        let (Gate::Refuse(policy, _) | Gate::Contact(policy)) = gate;
        let hop = route.rule.as_ref().and_then(|rule| rule.next_hop.as_ref());
        let no_address = host.addresses.as_ref().err().map(|why| match why {
            NoAddress::None => "no address in the DNS".to_owned(),
            NoAddress::Failed(error) => error.to_string(),
            NoAddress::Ourselves(address) => format!("{address} is where this relay itself listens"),
            NoAddress::Denied { address, .. } => {
                format!("{address} lies in a denied network (delivery.deny_networks)")
            }
        });
        Self {
            name: host.name.clone(),
            is_hop: hop.is_some(),
            preference: host.preference,
            addresses: host.addresses.as_ref().cloned().unwrap_or_default(),
            no_address,
            addresses_secure: host.addresses_secure,
            addresses_from: if hop.is_some_and(|hop| hop.address.is_some()) {
                "configuration"
            } else {
                "dns"
            },
            tlsa: TlsaReport::new(&policy.tlsa, host, dane),
            listed: policy.sts.as_ref().map(|s| s.lists_host),
            demand: super::text::demand(policy),
            required_by: policy.reasons.iter().map(|r| r.as_str()).collect(),
            probes: Vec::new(),
            verdict: String::new(),
        }
    }
}

/// The TLSA records of a candidate.
#[derive(Debug, Serialize)]
pub(super) struct TlsaReport {
    /// `none`, `found` or `failed`.
    pub(super) state: &'static str,
    /// The base domain they were found below, or looked for.
    pub(super) base: Option<Domain>,
    /// Each record, and whether it can be used.
    pub(super) records: Vec<TlsaLine>,
    pub(super) error: Option<String>,
    /// Why there are none.
    pub(super) none: Option<&'static str>,
}

/// One TLSA record.
#[derive(Debug, Serialize)]
pub(super) struct TlsaLine {
    pub(super) record: String,
    pub(super) usable: bool,
}

impl TlsaReport {
    fn new(answer: &TlsaAnswer, host: &Host, dane: bool) -> Self {
        let empty = |state| Self { state, base: None, records: Vec::new(), error: None, none: None };
        match answer {
            TlsaAnswer::None => {
                let why = match (dane, &host.addresses) {
                    (false, _) => "not asked for: dane.enabled = false",
                    (true, Err(_)) => "not asked for: the host has no address to dial",
                    (true, Ok(_)) if !host.addresses_secure => {
                        "not asked for: DNSSEC does not vouch for the host's addresses"
                    }
                    (true, Ok(_)) => "none that DNSSEC vouches for",
                };
                Self { none: Some(why), ..empty("none") }
            }
            TlsaAnswer::Failed(failed) => Self {
                base: Some(failed.base.clone()),
                error: Some(failed.error.to_string()),
                ..empty("failed")
            },
            TlsaAnswer::Found(set) => {
                let line = |r: &Tlsa| TlsaLine { record: r.to_string(), usable: Usable::of(r).is_some() };
                let records = set.records.iter().map(line).collect();
                Self { base: Some(set.base.clone()), records, ..empty("found") }
            }
        }
    }
}

/// What one address did.
#[derive(Debug, Serialize)]
pub(super) struct Probe {
    pub(super) address: IpAddr,
    pub(super) tls: String,
    /// REQUIRETLS is offered inside TLS.
    pub(super) requiretls: bool,
    pub(super) certificate: Option<CertificateFacts>,
    pub(super) certificate_faults: Vec<String>,
    /// Whether they count: not where a TLSA record alone decides.
    pub(super) faults_count: bool,
    /// What each TLSA record makes of the certificate.
    pub(super) tlsa: Vec<TlsaMatch>,
    pub(super) broken: Option<String>,
    /// The exception without which mail would not go to this host, and what would keep it back.
    pub(super) exception: Option<Waived>,
    /// An exception is in force, and what fails here is more than it lets off.
    pub(super) exception_insufficient: Option<String>,
    /// An exception is in force that this session does without, and which would end with it.
    pub(super) exception_unneeded: bool,
    pub(super) error: Option<String>,
}

/// A TLSA record and a certificate that was shown.
#[derive(Debug, Serialize)]
pub(super) struct TlsaMatch {
    pub(super) record: String,
    /// `match`, `mismatch`, `unusable` or `superseded`.
    pub(super) verdict: &'static str,
    /// In words.
    pub(super) words: String,
}

impl TlsaMatch {
    fn new(record: &Tlsa, verdict: &RecordVerdict) -> Self {
        let (verdict, words) = match verdict {
            RecordVerdict::Matches => ("match", "matches".to_owned()),
            RecordVerdict::Mismatch(faults) => {
                let words: Vec<String> = faults.iter().map(ToString::to_string).collect();
                ("mismatch", format!("does not match: {}", words.join(", ")))
            }
            RecordVerdict::Unusable => ("unusable", "cannot be used".to_owned()),
            RecordVerdict::Superseded => {
                ("superseded", "not used: a stronger digest stands beside it".to_owned())
            }
        };
        Self { record: record.to_string(), verdict, words }
    }
}

impl Probe {
    pub(super) fn new(address: IpAddr, seen: &Seen, policy: &TlsPolicy, judgement: &Judgement) -> Self {
        let tls = match &seen.evidence.tls {
            TlsState::NotOffered => "STARTTLS not offered".to_owned(),
            TlsState::Refused(reply) => format!("STARTTLS refused: {reply}"),
            TlsState::Failed(fault) => format!("handshake failed: {}", fault.words),
            TlsState::On(facts) => format!("{} {}", facts.version, facts.cipher),
        };
        let facts = seen.tls();
        Self {
            address,
            tls,
            requiretls: seen.evidence.requiretls,
            certificate: facts.and_then(|f| f.certificate.clone()),
            certificate_faults: facts
                .map(|f| f.pkix.iter().map(ToString::to_string).collect())
                .unwrap_or_default(),
            faults_count: policy.wants_pkix() || policy.dane().is_none(),
            tlsa: facts
                .map(|f| f.by_record(policy).iter().map(|(record, v)| TlsaMatch::new(record, v)).collect())
                .unwrap_or_default(),
            broken: judgement.promise.as_ref().and_then(|p| p.broken.clone()),
            exception: judgement.waived.clone(),
            exception_insufficient: policy.waiver.as_ref().filter(|_| judgement.cleared.is_err()).map(|w| {
                let exception::Exception { allow, until, reason, by, .. } = &*w.exception;
                let (allow, day) = (allow.as_str(), until.utc_day());
                format!("{allow} until {day}, by {by}: {reason}; it does not cover what fails here")
            }),
            exception_unneeded: judgement.exception_unneeded && judgement.cleared.is_ok(),
            error: judgement.cleared.as_ref().err().and_then(|f| f.result_type()).map(|t| t.to_string()),
        }
    }

    pub(super) fn failed(address: IpAddr, ruling: &Ruling) -> Self {
        Self {
            address,
            tls: "no session".to_owned(),
            requiretls: false,
            certificate: None,
            certificate_faults: Vec::new(),
            faults_count: true,
            tlsa: Vec::new(),
            broken: None,
            exception: None,
            exception_insufficient: None,
            exception_unneeded: false,
            error: Some(ruling.text.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
