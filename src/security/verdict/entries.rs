//! What a verdict leaves behind: the report's entries (R12) and the words about the promise, from the same findings
//! as the verdict itself, so that delivery and report cannot disagree.

use super::{Findings, Judgement, TlsFacts};
use crate::dane::tlsa::would_match;
use crate::dane::{DaneFault, TlsaAnswer};
use crate::mail::Domain;
use crate::queue::outcome::Promise;
use crate::security::Level;
use crate::security::decide::{MessageKind, StsPolicy, TlsPolicy};
use crate::security::failure::TlsFailure;
use crate::tlsrpt::{AppliedPolicy, FailureDetail, PolicyVerdict, ResultType};

/// The entries and the promise of a candidate given up before connecting (R3, R5, RPT-20).
pub fn refused(policy: &TlsPolicy, failure: TlsFailure) -> Judgement {
    let entry = match &failure {
        TlsFailure::NotListed => policy.sts.as_ref().map(|s| sts_entry(policy, s, false, failure.details())),
        TlsFailure::TlsaLookup(failed) => Some(PolicyVerdict {
            policy: AppliedPolicy::Tlsa { domain: failed.base.clone(), records: Vec::new() },
            success: false,
            details: failure.details(),
        }),
        // D90: who vouches for the name is nothing that sessions are counted by.
        TlsFailure::NameNotAssured { .. } => None,
        // D103, RPT-20
        TlsFailure::PolicyNotFetched(_) => Some(match &policy.sts {
            Some(sts) => sts_entry(policy, sts, false, TlsFailure::NotListed.details()),
            None => unfetched_entry(policy, failure.details()),
        }),
        _ => {
            let (domain, records) = match &policy.tlsa {
                TlsaAnswer::Found(set) => (&set.base, set.records.iter().map(ToString::to_string).collect()),
                TlsaAnswer::None | TlsaAnswer::Failed(_) => (&policy.host, Vec::new()),
            };
            Some(PolicyVerdict {
                policy: AppliedPolicy::Tlsa { domain: domain.clone(), records },
                success: false,
                details: failure.details(),
            })
        }
    };
    let promised = match &failure {
        TlsFailure::NotListed => policy.sts.as_ref().map(sts_promise),
        // Nobody promised the records that the operator alone asks for.
        TlsFailure::NameNotAssured { .. } | TlsFailure::PolicyNotFetched(_) | TlsFailure::DaneRequired(_) => {
            None
        }
        _ => Some(dane_promise(policy)),
    };
    Judgement {
        verdicts: entry.filter(|_| policy.recorded).into_iter().collect(),
        promise: promised.map(|p| Promise { broken: Some(failure.clause(policy, None)), ..p }),
        cleared: Err(failure),
        waived: None,
        let_pass: None,
        exception_unneeded: false,
    }
}

/// R12: `tlsa` for authenticated records, usable or not, and for a failed lookup; `sts` for an enforce or testing policy
/// that DANE does not replace, or for one that could not be had; `no-policy-found` only without any of them.
pub(super) fn verdicts(policy: &TlsPolicy, found: &Findings) -> Vec<PolicyVerdict> {
    if !policy.recorded {
        return Vec::new();
    }
    let mut entries: Vec<PolicyVerdict> =
        tlsa_entry(policy, found).or_else(|| waived_entry(policy)).into_iter().collect();
    match (&policy.sts, &policy.fetch_failure) {
        (Some(sts), _) => {
            let seen = seen_by_sts(sts, found);
            let details = seen.iter().flat_map(TlsFailure::details).collect();
            entries.push(sts_entry(policy, sts, seen.is_empty(), details));
        }
        // Nothing to judge by, so no session can be called compliant (RPT-26).
        (None, Some(_)) => {
            entries.push(unfetched_entry(policy, fetch_detail(policy).into_iter().collect()));
        }
        (None, None) => {}
    }
    if entries.is_empty() {
        // Any completed handshake is a success where nobody asked for TLS (RPT-24, RPT-61).
        let missing = found.tls.as_ref().filter(|_| policy.owes_tls() || found.level == Level::Plain);
        entries.push(PolicyVerdict {
            policy: AppliedPolicy::NoPolicyFound { domain: policy.next_hop.clone() },
            success: missing.is_none(),
            details: missing.into_iter().flat_map(TlsFailure::details).collect(),
        });
    }
    entries
}

/// What an exception let pass that the operator's rule asks for and the host has no records of.
fn waived_entry(policy: &TlsPolicy) -> Option<PolicyVerdict> {
    let blocked = policy.waiver.as_ref()?.blocked.as_ref()?;
    matches!((blocked, &policy.tlsa), (TlsFailure::DaneRequired(_), TlsaAnswer::None)).then(|| {
        PolicyVerdict {
            policy: AppliedPolicy::Tlsa { domain: policy.host.clone(), records: Vec::new() },
            success: false,
            details: blocked.details(),
        }
    })
}

fn tlsa_entry(policy: &TlsPolicy, found: &Findings) -> Option<PolicyVerdict> {
    let entry = |domain: &Domain, records, details: Vec<FailureDetail>| PolicyVerdict {
        policy: AppliedPolicy::Tlsa { domain: domain.clone(), records },
        success: details.is_empty(),
        details,
    };
    match &policy.tlsa {
        TlsaAnswer::None => None,
        TlsaAnswer::Failed(failed) => {
            let details = TlsFailure::TlsaLookup(failed.clone()).details();
            Some(entry(&failed.base, Vec::new(), details))
        }
        TlsaAnswer::Found(set) => {
            let records = set.records.iter().map(ToString::to_string).collect();
            let details = match policy.dane() {
                Some(_) => found.dane.iter().flat_map(TlsFailure::details).collect(),
                // The session fails this entry whatever TLS came to (RFC 8460 §4.3.2.1).
                None => {
                    let result = ResultType::TlsaInvalid;
                    let invalid = FailureDetail { result, reason: Some("all-unusable".to_owned()) };
                    let missing = found.tls.iter().flat_map(TlsFailure::details);
                    std::iter::once(invalid).chain(missing).collect()
                }
            };
            Some(entry(&set.base, records, details))
        }
    }
}

fn sts_entry(
    policy: &TlsPolicy,
    sts: &StsPolicy,
    success: bool,
    mut details: Vec<FailureDetail>,
) -> PolicyVerdict {
    details.extend(fetch_detail(policy));
    PolicyVerdict {
        policy: AppliedPolicy::Sts {
            domain: policy.next_hop.clone(),
            lines: sts.stored.policy.lines.clone(),
            mx: sts.stored.policy.mx.clone(),
        },
        success,
        details,
    }
}

/// The entry of a policy that could not be had, with the lines that came of it.
fn unfetched_entry(policy: &TlsPolicy, details: Vec<FailureDetail>) -> PolicyVerdict {
    let lines = policy.fetch_failure.as_ref().map(|f| f.lines.clone()).unwrap_or_default();
    let policy = AppliedPolicy::Sts { domain: policy.next_hop.clone(), lines, mx: Vec::new() };
    PolicyVerdict { policy, success: false, details }
}

fn fetch_detail(policy: &TlsPolicy) -> Option<FailureDetail> {
    let failure = policy.fetch_failure.as_ref()?;
    Some(FailureDetail { result: failure.result, reason: Some(failure.reason.clone()) })
}

/// What an MTA-STS policy has against a session.
fn seen_by_sts(sts: &StsPolicy, found: &Findings) -> Vec<TlsFailure> {
    (!sts.lists_host).then_some(TlsFailure::NotListed).into_iter().chain(found.pkix.clone()).collect()
}

/// What was promised and how it was broken; of several promises the one that was broken.
pub(super) fn promise(policy: &TlsPolicy, found: &Findings, facts: Option<&TlsFacts>) -> Option<Promise> {
    let certificate = facts.and_then(|f| f.certificate.as_ref());
    let told = |promised: Promise, seen: &[TlsFailure]| {
        let clauses: Vec<String> = seen.iter().map(|f| f.clause(policy, certificate)).collect();
        Promise {
            broken: (!clauses.is_empty()).then(|| clauses.join("; ")),
            certificate: certificate.cloned(),
            ..promised
        }
    };
    let dane = matches!(policy.tlsa, TlsaAnswer::Found(_)).then(|| {
        let seen = if policy.dane().is_some() { &found.dane } else { &found.tls };
        let would_match = facts.map(|facts| alternatives(policy, found, facts)).unwrap_or_default();
        Promise { would_match, ..told(dane_promise(policy), seen.as_slice()) }
    });
    let sts = policy.sts.as_ref().map(|s| told(sts_promise(s), &seen_by_sts(s, found)));
    match (dane, sts) {
        (Some(dane), Some(sts)) if dane.broken.is_none() && sts.broken.is_some() => Some(sts),
        (Some(dane), _) => Some(dane),
        (None, sts) => sts,
    }
}

/// The records that the certificate would match, where it is those that it does not.
fn alternatives(policy: &TlsPolicy, found: &Findings, facts: &TlsFacts) -> Vec<String> {
    let unproven =
        |f: &TlsFailure| matches!(f, TlsFailure::Dane(faults) if faults.contains(&DaneFault::Unproven));
    match (policy.dane(), &found.dane, facts.chain.certificates.first()) {
        (Some(set), Some(failure), Some(leaf)) if !unproven(failure) => would_match(&set.usable(), leaf),
        _ => Vec::new(),
    }
}

/// What a message with `TLS-Required: No` was let pass with: the first of what the domain's promises have against the session,
/// a policy in testing mode not among them.
pub(super) fn overlooked(policy: &TlsPolicy, found: &Findings) -> Option<ResultType> {
    if policy.message != MessageKind::TlsOptional {
        return None;
    }
    let dane = match (&policy.tlsa, policy.dane()) {
        (TlsaAnswer::Found(_), Some(_)) => found.dane.clone(),
        (TlsaAnswer::Found(_), None) => found.tls.clone(),
        (TlsaAnswer::None | TlsaAnswer::Failed(_), _) => None,
    };
    let enforced = policy.sts.iter().filter(|s| s.stored.policy.mode == crate::mtasts::Mode::Enforce);
    dane.into_iter().chain(enforced.flat_map(|s| seen_by_sts(s, found))).find_map(|f| f.result_type())
}

/// What the TLSA records of a host promise.
fn dane_promise(policy: &TlsPolicy) -> Promise {
    let set = match &policy.tlsa {
        TlsaAnswer::Found(set) => Some(set),
        TlsaAnswer::None | TlsaAnswer::Failed(_) => None,
    };
    Promise {
        kind: "dane".to_owned(),
        mode: String::new(),
        id: set.map_or(&policy.host, |s| &s.base).to_string(),
        mx: set.map(|s| s.records.iter().map(ToString::to_string).collect()).unwrap_or_default(),
        fetched: None,
        expires: None,
        broken: None,
        certificate: None,
        would_match: Vec::new(),
    }
}

fn sts_promise(StsPolicy { stored, .. }: &StsPolicy) -> Promise {
    Promise {
        kind: "mta-sts".to_owned(),
        mode: mode_word(stored.policy.mode).to_owned(),
        id: stored.id.clone(),
        mx: stored.policy.mx.clone(),
        fetched: Some(stored.fetched),
        expires: Some(stored.expires),
        broken: None,
        certificate: None,
        would_match: Vec::new(),
    }
}

const fn mode_word(mode: crate::mtasts::Mode) -> &'static str {
    match mode {
        crate::mtasts::Mode::Enforce => "enforce",
        crate::mtasts::Mode::Testing => "testing",
        crate::mtasts::Mode::None => "none",
    }
}
