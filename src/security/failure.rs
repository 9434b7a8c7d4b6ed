//! Why a session does not meet its demand: as a report's detail, as the stored text, and as a clause for laymen.

use std::fmt;

use crate::dane::{DaneFault, TlsaLookupFailed};
use crate::dns::DnsErrorKind;
use crate::mail::{Domain, Reply};
use crate::mtasts::FetchFailure;
use crate::queue::outcome::CertificateFacts;
use crate::security::decide::TlsPolicy;
use crate::security::pkix::PkixFault;
use crate::security::verdict::HandshakeFault;
use crate::security::weak_rsa::STRONG_BITS;
use crate::tlsrpt::{FailureDetail, ResultType};

/// Why a session does not meet its demand. Always temporary (`What always holds` 2), but for what the sender's REQUIRETLS
/// asks for beyond what the recipient's domain promised: `delivery::classify` says when.
#[derive(Debug, Clone)]
pub enum TlsFailure {
    /// An enforce policy does not list the host.
    NotListed,
    /// Whether the host has TLSA records cannot be found out.
    TlsaLookup(TlsaLookupFailed),
    /// The operator demands DANE (RFC 7672 §6), and it does not go so far.
    DaneRequired(NoDane),
    /// STARTTLS is not offered.
    NotOffered,
    /// STARTTLS was refused.
    Refused(Reply),
    /// The handshake failed.
    Handshake(HandshakeFault),
    /// The certificate does not hold; at least one fault.
    Certificate(Vec<PkixFault>),
    /// The certificate does not match the TLSA records; at least one fault.
    Dane(Vec<DaneFault>),
    /// REQUIRETLS: anybody may have put this name into the DNS. `conclusive`: all were asked who could vouch for it.
    NameNotAssured {
        /// Whether that is known for certain.
        conclusive: bool,
    },
    /// REQUIRETLS: whether a policy lists the host cannot be found out.
    PolicyNotFetched(FetchFailure),
    /// REQUIRETLS: the EHLO reply inside TLS does not list it (RFC 8689 §4.2.1).
    NoRequireTls,
}

/// What DANE lacks where the operator demands it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDane {
    /// The host has no TLSA records that can be used.
    NoRecords,
    /// It has, but the MX records that name it are not signed: they prove a host, and not the domain's (RFC 7672 §2.2.1).
    MxNotSigned,
}

impl TlsFailure {
    /// Every cause as a report entry's detail.
    pub fn details(&self) -> Vec<FailureDetail> {
        let one = |result, reason: Option<String>| vec![FailureDetail { result, reason }];
        match self {
            Self::NotListed => one(ResultType::ValidationFailure, Some("sts-mx-mismatch".to_owned())),
            // No fault of the domain's.
            Self::TlsaLookup(failed) if failed.error.kind == DnsErrorKind::WrongKeys => Vec::new(),
            Self::TlsaLookup(failed) => {
                one(ResultType::DnssecInvalid, Some(token(failed.error.kind).to_owned()))
            }
            Self::DaneRequired(_) => one(ResultType::DaneRequired, None),
            Self::NotOffered => one(ResultType::StarttlsNotSupported, None),
            Self::Refused(r) => {
                one(ResultType::StarttlsNotSupported, Some(format!("starttls-reply-{}", r.code)))
            }
            Self::Handshake(h) => one(ResultType::ValidationFailure, Some(h.token.clone())),
            Self::Certificate(faults) => faults.iter().map(|f| f.detail()).collect(),
            Self::Dane(faults) => faults.iter().map(|f| f.detail()).collect(),
            Self::PolicyNotFetched(f) => one(f.result, Some(f.reason.clone())),
            // Nothing that a report tells of: TLS did what it should (RPT-66), or nobody was asked.
            Self::NameNotAssured { .. } | Self::NoRequireTls => Vec::new(),
        }
    }

    /// The first cause's result type: `tls_failure` of the log line. `None` where TLS itself did nothing wrong.
    pub fn result_type(&self) -> Option<ResultType> {
        self.details().first().map(|d| d.result)
    }

    /// The stored text: a stable prefix, then the detail (requirements §3.2).
    pub fn text(&self, policy: &TlsPolicy) -> String {
        let (nh, mx, by) = (&policy.next_hop, &policy.host, policy.required_by());
        match self {
            Self::NotListed => format!("MX host {mx} is not allowed by the MTA-STS policy of {nh}"),
            Self::TlsaLookup(failed) => format!("TLSA lookup for {mx} failed: {}", failed.error),
            Self::DaneRequired(NoDane::NoRecords) => {
                format!("DANE is required by local policy for {nh}, but {mx} has no usable TLSA records")
            }
            Self::DaneRequired(NoDane::MxNotSigned) => format!(
                "DANE is required by local policy for {nh}, but its MX records are not signed (DNSSEC), so that anybody \
                 could have named {mx}"
            ),
            Self::NotOffered => {
                format!("TLS is required by {by} policy for {nh}, but {mx} does not offer STARTTLS")
            }
            Self::Refused(reply) => {
                format!("TLS is required by {by} policy for {nh}, but {mx} refused STARTTLS: {reply}")
            }
            Self::Handshake(h) => format!("TLS handshake with {mx} failed: {}", h.words),
            Self::Certificate(faults) => {
                format!("certificate of {mx} not acceptable: {}", Faults(faults))
            }
            Self::Dane(faults) if faults.contains(&DaneFault::NoMatch) => {
                format!("certificate of {mx} matches no TLSA record")
            }
            Self::Dane(faults) => format!("certificate of {mx} not acceptable: {}", Faults(faults)),
            Self::NameNotAssured { conclusive: true } => format!(
                "REQUIRETLS: neither DNSSEC nor an MTA-STS policy of {nh} vouches for the name of {mx}"
            ),
            Self::NameNotAssured { conclusive: false } => format!(
                "REQUIRETLS: nothing is known to vouch for the name of {mx}, but this relay cannot ask for all that might: \
                 DNSSEC, an MTA-STS policy of {nh}"
            ),
            Self::PolicyNotFetched(f) => {
                format!("REQUIRETLS: MTA-STS policy of {nh} could not be fetched: {}", f.detail)
            }
            Self::NoRequireTls => format!("REQUIRETLS: {mx} does not offer it"),
        }
    }

    /// The failed check in one clause that a layman can forward: [`Promise::broken`](crate::queue::outcome::Promise::broken).
    pub(super) fn clause(&self, policy: &TlsPolicy, certificate: Option<&CertificateFacts>) -> String {
        let mx = &policy.host;
        match self {
            Self::NotListed => format!("the mail server {mx} is not on the list of the policy"),
            Self::TlsaLookup(failed) => {
                format!("whether {mx} has TLSA records cannot be found out: {}", failed.error)
            }
            Self::DaneRequired(NoDane::NoRecords) => {
                format!("the mail server {mx} has no TLSA records that can be used")
            }
            Self::DaneRequired(NoDane::MxNotSigned) => {
                format!("the MX records that name the mail server {mx} are not signed (DNSSEC)")
            }
            Self::NotOffered => format!("the mail server {mx} offers no encryption (STARTTLS)"),
            Self::Refused(r) => format!("the mail server {mx} refused encryption (STARTTLS): {r}"),
            Self::Handshake(h) => format!("the TLS handshake with {mx} failed: {}", h.words),
            Self::Certificate(faults) => {
                let clauses: Vec<String> =
                    faults.iter().map(|f| certificate_clause(*f, mx, certificate)).collect();
                clauses.join("; ")
            }
            Self::Dane(faults) => {
                let clauses: Vec<String> = faults
                    .iter()
                    .map(|f| match f {
                        DaneFault::NoMatch => {
                            format!("the certificate of {mx} matches none of the TLSA records in the DNS")
                        }
                        DaneFault::Unproven => {
                            format!(
                                "the mail server {mx} did not prove that it has the key of its certificate"
                            )
                        }
                        DaneFault::BelowAuthority(fault) => certificate_clause(*fault, mx, certificate),
                    })
                    .collect();
                clauses.join("; ")
            }
            Self::NameNotAssured { .. } => format!("nothing vouches for the name of the mail server {mx}"),
            Self::PolicyNotFetched(_) => "the MTA-STS policy could not be fetched".to_owned(),
            Self::NoRequireTls => format!("the mail server {mx} does not offer REQUIRETLS"),
        }
    }
}

/// The reason token of a lookup that failed (RPT §1.2.4).
const fn token(kind: DnsErrorKind) -> &'static str {
    match kind {
        DnsErrorKind::Bogus => "bogus",
        DnsErrorKind::WrongKeys => "wrong-keys",
        DnsErrorKind::Undecided => "undecided",
        DnsErrorKind::Lying => "denies-everything",
        DnsErrorKind::Servfail => "servfail",
        DnsErrorKind::Refused => "refused",
        DnsErrorKind::Timeout => "timeout",
        DnsErrorKind::Malformed => "malformed",
        DnsErrorKind::Unreachable => "unreachable",
    }
}

struct Faults<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Faults<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

fn certificate_clause(fault: PkixFault, mx: &Domain, cert: Option<&CertificateFacts>) -> String {
    let on =
        |t: Option<crate::clock::Timestamp>| t.map_or_else(String::new, |t| format!(" on {}", t.utc_day()));
    match fault {
        PkixFault::Expired => match cert {
            Some(c) => format!(
                "the certificate of {mx}, or one it needs, has expired (its own last day is {})",
                c.not_after.utc_day()
            ),
            None => format!("the certificate of {mx} has expired"),
        },
        PkixFault::NotYetValid => {
            format!("the certificate of {mx} becomes valid only{}", on(cert.map(|c| c.not_before)))
        }
        PkixFault::Name => match cert.filter(|c| !c.names.is_empty()) {
            Some(c) => format!("the certificate of {mx} is for other names ({})", c.names.join(", ")),
            None => format!("the certificate of {mx} names no host"),
        },
        PkixFault::Untrusted("self-signed") => format!("the certificate of {mx} is self-signed"),
        PkixFault::Untrusted("unknown-issuer") => {
            format!(
                "the certificate of {mx} comes from no authority that is trusted, or a certificate between is missing"
            )
        }
        PkixFault::Untrusted("weak-key") => {
            format!("the certificate of {mx} has an RSA key of fewer than {STRONG_BITS} bits")
        }
        PkixFault::Untrusted(token) => format!("the certificate of {mx} is not trusted ({token})"),
        PkixFault::Unreadable(token) => format!("the certificate of {mx} cannot be read ({token})"),
    }
}
