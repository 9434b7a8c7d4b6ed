//! [`report`]: from the counters of a day to the report about it (RFC 8460 §4).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::counters::{DayCounters, DetailCounter, PolicyCounters};
use super::report::{Body, DateRange, Detail, Entry, MAX_COUNT, Policy, Report, Summary};
use super::result_type::ResultType;
use super::session::AppliedPolicy;
use crate::clock::Timestamp;
use crate::mail::Mailbox;

/// Who reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// organization-name; the contact's domain when empty (RPT-41).
    pub organization: String,
    /// contact-info. Its domain is the submitter, everywhere (RPT-43).
    pub contact: Mailbox,
}

/// The report about what was counted.
///
/// `partial_until` is the end of a report about the running day; `None` for a closed day, which it covers whole
/// however late it is made (RPT-42, RPT-71). `random` makes the report-id unique: drawn once per report, kept with it.
pub fn report(
    counted: &DayCounters,
    identity: &Identity,
    partial_until: Option<Timestamp>,
    random: u64,
) -> Report {
    let (begin, last) = (counted.day.begin(), counted.day.end());
    let end = partial_until.map_or(last, |t| t.clamp(begin, last));
    let submitter = identity.contact.domain();
    let organization = if identity.organization.trim().is_empty() {
        submitter.to_string()
    } else {
        plain(&identity.organization)
    };
    let body = Body {
        organization_name: organization,
        date_range: DateRange { start_datetime: begin.to_rfc3339(), end_datetime: end.to_rfc3339() },
        contact_info: identity.contact.to_string(),
        report_id: format!("{}.{}.{random:016x}@{submitter}", counted.day.compact(), counted.domain),
        policies: entries(&counted.policies),
    };
    Report { body, domain: counted.domain.clone(), submitter: submitter.clone(), begin, end, random }
}

/// One entry per distinct policy, in the order of the counters (RPT-45). Distinct is what reads differently.
fn entries(counted: &[PolicyCounters]) -> Vec<Entry> {
    let mut groups: Vec<(Policy, Vec<&PolicyCounters>)> = Vec::new();
    let mut places: HashMap<Policy, usize> = HashMap::new();
    for counters in counted {
        let policy = policy_object(&counters.policy);
        let place = *places.entry(policy).or_insert_with_key(|policy| {
            groups.push((policy.clone(), Vec::new()));
            groups.len() - 1
        });
        if let Some((_, group)) = groups.get_mut(place) {
            group.push(counters);
        }
    }
    groups.into_iter().map(|(policy, group)| entry(policy, &group)).collect()
}

fn entry(policy: Policy, counters: &[&PolicyCounters]) -> Entry {
    let sum = |of: fn(&PolicyCounters) -> u64| {
        counters.iter().fold(0, |n: u64, c| n.saturating_add(of(c))).min(MAX_COUNT)
    };
    Entry {
        policy,
        summary: Summary {
            total_successful_session_count: sum(|c| c.success),
            total_failure_session_count: sum(|c| c.failure),
        },
        failure_details: details(counters.iter().flat_map(|c| c.details.iter().map(|d| (&c.policy, d)))),
    }
}

fn policy_object(policy: &AppliedPolicy) -> Policy {
    let (policy_type, domain, lines, mx): (_, _, &[String], &[String]) = match policy {
        AppliedPolicy::Sts { domain, lines, mx } => ("sts", domain, lines, mx),
        AppliedPolicy::Tlsa { domain, records } => ("tlsa", domain, records, &[]),
        AppliedPolicy::NoPolicyFound { domain } => ("no-policy-found", domain, &[], &[]),
    };
    Policy {
        policy_type: policy_type.to_owned(),
        policy_string: lines.iter().map(|l| plain(l)).collect(),
        policy_domain: domain.to_string(),
        mx_host: mx.iter().map(|m| plain(m)).collect(),
    }
}

/// Rows that read alike are one row. The most frequent come first; ties go by content, so that the order of
/// counting leaves no trace.
fn details<'a>(rows: impl Iterator<Item = (&'a AppliedPolicy, &'a DetailCounter)>) -> Vec<Detail> {
    let mut sums: BTreeMap<Detail, u64> = BTreeMap::new();
    for (policy, row) in rows.filter(|(_, r)| r.count > 0) {
        let sum = sums.entry(detail(policy, row)).or_default();
        *sum = sum.saturating_add(row.count).min(MAX_COUNT);
    }
    let mut details: Vec<Detail> =
        sums.into_iter().map(|(d, count)| Detail { failed_session_count: count, ..d }).collect();
    details.sort_by_key(|d| std::cmp::Reverse(d.failed_session_count));
    details
}

/// The row without its count.
fn detail(policy: &AppliedPolicy, row: &DetailCounter) -> Detail {
    let token = |text: &Option<String>, max: usize| {
        text.clone().filter(|t| (1..=max).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_graphic()))
    };
    let (result, reason) = if may_carry(policy, row.result) {
        (row.result, token(&row.reason, 128))
    } else {
        // The one name that fits everywhere; what it was stays readable (RPT-60).
        (ResultType::ValidationFailure, Some(row.result.to_string()))
    };
    let detail = Detail { result_type: result.to_string(), failure_reason_code: reason, ..Detail::default() };
    // A fetch goes to the policy host: the session that it is counted by says nothing of it (RPT-53, 54, 56).
    if is_about_the_fetch(result) {
        return detail;
    }
    Detail {
        sending_mta_ip: row.sending_ip.map(address),
        receiving_mx_hostname: row.mx_host.as_ref().map(ToString::to_string),
        receiving_mx_helo: token(&row.mx_helo, 255),
        receiving_ip: row.receiving_ip.map(address),
        ..detail
    }
}

const fn is_about_the_fetch(result: ResultType) -> bool {
    use ResultType as R;
    matches!(result, R::StsPolicyFetchError | R::StsPolicyInvalid | R::StsWebpkiInvalid)
}

/// Whether a result type may stand in the entry of a policy (RPT-60, RPT-61).
pub fn may_carry(policy: &AppliedPolicy, result: ResultType) -> bool {
    use ResultType as R;
    match result {
        R::StarttlsNotSupported | R::ValidationFailure => true,
        R::CertificateHostMismatch | R::CertificateExpired | R::CertificateNotTrusted => {
            !matches!(policy, AppliedPolicy::NoPolicyFound { .. })
        }
        R::TlsaInvalid | R::DnssecInvalid | R::DaneRequired => matches!(policy, AppliedPolicy::Tlsa { .. }),
        R::StsPolicyFetchError | R::StsPolicyInvalid | R::StsWebpkiInvalid => {
            matches!(policy, AppliedPolicy::Sts { .. })
        }
    }
}

/// RFC 5952, or dotted for IPv4, mapped or not; never with a zone (RPT-53).
fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

/// Text without the code points that I-JSON forbids (RFC 7493 §2.1); surrogates cannot occur in a `str`.
fn plain(text: &str) -> String {
    let noncharacter = |c: char| matches!(u32::from(c), 0xfdd0..=0xfdef) || u32::from(c) & 0xfffe == 0xfffe;
    text.chars().map(|c| if noncharacter(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}
