//! Judging a certificate chain against the authorities and one name, after the handshake and with every cause.
//!
//! rustls stops at the first fault and looks at the chain before the name; reports need all of them (RPT-22),
//! so chain and name are verified apart, and a chain that is out of date is looked at once more at a time when
//! its leaf was valid. Names go by `dNSName` alone: a common name is never consulted (RFC 8461 §4.2, NAME-04),
//! a wildcard stands for exactly one whole left-most label (RFC 6125 §6.4.3, NAME-03).

use std::fmt;
use std::time::Duration;

use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, RootCertStore};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::outcome::CertificateFacts;
use crate::security::weak_rsa::WeakKey;
use crate::tlsrpt::{FailureDetail, ResultType};

/// One reason why a chain is not acceptable for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PkixFault {
    /// The leaf, or an issuer that it needs, is past its last day.
    Expired,
    /// The leaf, or an issuer that it needs, is before its first day.
    NotYetValid,
    /// No DNS name of the leaf covers the host.
    Name,
    /// The chain leads to no authority that we trust, or breaks a rule; a short stable token.
    Untrusted(&'static str),
    /// The certificate cannot be read at all; a short stable token.
    Unreadable(&'static str),
}

impl PkixFault {
    /// The registered result type and reason token (RFC 8460 §4.3, RPT §1.2.4).
    pub fn detail(self) -> FailureDetail {
        let (result, reason) = match self {
            Self::Expired => (ResultType::CertificateExpired, None),
            Self::Name => (ResultType::CertificateHostMismatch, None),
            Self::NotYetValid => (ResultType::CertificateNotTrusted, Some("not-yet-valid")),
            Self::Untrusted(token) => (ResultType::CertificateNotTrusted, Some(token)),
            Self::Unreadable(token) => (ResultType::ValidationFailure, Some(token)),
        };
        FailureDetail { result, reason: reason.map(str::to_owned) }
    }
}

impl fmt::Display for PkixFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("expired"),
            Self::NotYetValid => f.write_str("not yet valid"),
            Self::Name => f.write_str("name mismatch"),
            Self::Untrusted(token) => write!(f, "untrusted ({token})"),
            Self::Unreadable(token) => write!(f, "unreadable ({token})"),
        }
    }
}

/// Every fault of `chain` (leaf first) for `host` at `now`; empty when the chain and the name hold.
pub fn judge(
    chain: &[CertificateDer<'_>],
    host: &Domain,
    roots: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
    now: Timestamp,
) -> Vec<PkixFault> {
    let Some((leaf, issuers)) = chain.split_first() else {
        return vec![PkixFault::Unreadable("no-certificate")];
    };
    let parsed = match ParsedCertificate::try_from(leaf) {
        Ok(parsed) => parsed,
        Err(e) => return vec![fault_of(&e, leaf)],
    };
    let mut faults = chain_faults(leaf, &parsed, issuers, roots, algorithms, now);
    if !covers(&parsed, host) {
        faults.push(PkixFault::Name);
    }
    faults
}

/// The faults of the chain alone: none of the name. Issuers with too short a key are the verifier's to refuse; the leaf's key
/// signs nothing in the chain, so it is looked at here (RFC 9325 §4.5).
pub(crate) fn chain_faults(
    leaf: &CertificateDer<'_>,
    parsed: &ParsedCertificate<'_>,
    issuers: &[CertificateDer<'_>],
    roots: &RootCertStore,
    algorithms: &WebPkiSupportedAlgorithms,
    now: Timestamp,
) -> Vec<PkixFault> {
    let at = |secs: i64| {
        verify_server_cert_signed_by_trust_anchor(
            parsed,
            roots,
            issuers,
            UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(secs).unwrap_or(0))),
            algorithms.all,
        )
        .err()
        .map(|e| fault_of(&e, leaf))
    };
    let mut faults = Vec::new();
    if let Some(fault) = at(now.as_secs()) {
        faults.push(fault);
        // The calendar hides everything else: ask again for a moment inside the leaf's validity.
        let out_of_date = |f: &PkixFault| matches!(f, PkixFault::Expired | PkixFault::NotYetValid);
        if out_of_date(&fault)
            && let Some(facts) = facts(leaf)
            && let Some(behind) = at(facts.not_after.as_secs())
            && !out_of_date(&behind)
        {
            faults.push(behind);
        }
    }
    if WeakKey::of(leaf).is_some() {
        faults.push(PkixFault::Untrusted("weak-key"));
    }
    faults
}

/// Whether a DNS name of the certificate covers `host`.
pub(crate) fn covers(parsed: &ParsedCertificate<'_>, host: &Domain) -> bool {
    ServerName::try_from(host.as_str()).is_ok_and(|name| match name {
        // An address is no DNS name; an MX never is one (NAME-06).
        ServerName::IpAddress(_) => false,
        name => verify_server_name(parsed, &name).is_ok(),
    })
}

pub(crate) fn fault_of(error: &rustls::Error, leaf: &CertificateDer<'_>) -> PkixFault {
    let rustls::Error::InvalidCertificate(cause) = error else {
        return PkixFault::Untrusted("other");
    };
    match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => PkixFault::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => PkixFault::NotYetValid,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            PkixFault::Name
        }
        CertificateError::UnknownIssuer if self_signed(leaf) => PkixFault::Untrusted("self-signed"),
        CertificateError::UnknownIssuer => PkixFault::Untrusted("unknown-issuer"),
        CertificateError::BadSignature => PkixFault::Untrusted("bad-signature"),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            PkixFault::Untrusted("wrong-purpose")
        }
        CertificateError::Revoked => PkixFault::Untrusted("revoked"),
        CertificateError::BadEncoding => PkixFault::Unreadable("certificate-encoding"),
        CertificateError::UnhandledCriticalExtension => PkixFault::Unreadable("critical-extension"),
        CertificateError::Other(_) if self_signed(leaf) => PkixFault::Untrusted("self-signed"),
        _ => PkixFault::Untrusted("constraints"),
    }
}

fn self_signed(leaf: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(leaf).is_ok_and(|(_, c)| c.issuer() == c.subject())
}

/// What people need to find the certificate again; `None` when it cannot be read.
pub fn facts(leaf: &CertificateDer<'_>) -> Option<CertificateFacts> {
    let (_, cert) = X509Certificate::from_der(leaf).ok()?;
    let names = cert
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|san| {
            let dns = san.value.general_names.iter().filter_map(|n| match n {
                GeneralName::DNSName(name) => Some(crate::mail::reply::sanitise(name)),
                _ => None,
            });
            dns.take(20).collect()
        })
        .unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    let date = |t: i64| Timestamp::from_millis(t.saturating_mul(1000));
    Some(CertificateFacts {
        names,
        issuer: crate::mail::reply::sanitise(&cert.issuer().to_string()),
        not_before: date(cert.validity().not_before.timestamp()),
        not_after: date(cert.validity().not_after.timestamp()),
        sha256: digest.as_ref().iter().map(|b| format!("{b:02x}")).collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests;
