//! Whether a certificate chain matches the TLSA records of its host (RFC 7672 §3, RFC 7671 §5).
//!
//! Any one record that matches is enough (DANE-30). A DANE-EE record binds the certificate or its key and nothing
//! else: no name, no date (RFC 7672 §3.1.1). A DANE-TA record makes one authority the only trust anchor, and then
//! path, dates and names count as ever (RFC 7672 §3.1.2).

use std::fmt;

use rustls::RootCertStore;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, Der, TrustAnchor};
use rustls::server::ParsedCertificate;
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::tlsa::{Matching, Presented, Selector, Usable, Usage};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::security::pkix::{self, PkixFault};
use crate::tlsrpt::{FailureDetail, ResultType};

/// Why a chain does not satisfy the TLSA records of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DaneFault {
    /// No record matches.
    NoMatch,
    /// A DANE-TA record names an authority, and what stands below it does not hold.
    BelowAuthority(PkixFault),
    /// The peer did not prove that it has the key of its certificate (DANE-23).
    Unproven,
}

impl DaneFault {
    /// The registered result type and reason token (RFC 8460 §4.3).
    pub fn detail(self) -> FailureDetail {
        let failure =
            |token: &str| FailureDetail { result: ResultType::ValidationFailure, reason: Some(token.into()) };
        match self {
            Self::NoMatch => failure("dane-no-match"),
            Self::Unproven => failure("bad-signature"),
            Self::BelowAuthority(fault) => fault.detail(),
        }
    }
}

impl fmt::Display for DaneFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch => f.write_str("matches no TLSA record"),
            Self::Unproven => f.write_str("the peer did not prove that it has the certificate's key"),
            Self::BelowAuthority(fault) => {
                write!(f, "{fault} (below the authority that a TLSA record names)")
            }
        }
    }
}

/// What else a verdict needs to know.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// The names of which the certificate must have one, where a DANE-TA record is matched (RFC 7672 §3.2.2).
    pub references: &'a [Domain],
    /// How signatures of certificates may be made.
    pub algorithms: &'a WebPkiSupportedAlgorithms,
    /// When.
    pub now: Timestamp,
}

/// Empty when some record matches `chain` (leaf first); else what came closest.
pub fn verify(records: &[Usable<'_>], chain: &[CertificateDer<'_>], terms: Terms<'_>) -> Vec<DaneFault> {
    let Some((leaf, issuers)) = chain.split_first() else { return vec![DaneFault::NoMatch] };
    let presented: Vec<Presented<'_>> = chain.iter().map(Presented::new).collect();
    let is_leaf = |r: &Usable<'_>| presented.first().is_some_and(|leaf| r.matches(leaf));
    if records.iter().any(|r| r.usage == Usage::Server && is_leaf(r)) {
        return Vec::new();
    }
    let mut closest: Option<Vec<DaneFault>> = None;
    let authorities = records.iter().filter(|r| r.usage == Usage::Authority);
    for anchor in authorities.flat_map(|r| anchors(r, &presented)).take(MOST_ANCHORS) {
        let faults = below(&anchor, leaf, issuers, terms);
        if faults.is_empty() {
            return Vec::new();
        }
        closest.get_or_insert(faults);
    }
    closest.unwrap_or_else(|| vec![DaneFault::NoMatch])
}

/// Anchors tried. A set of 64 KiB and a long chain could name thousands, each of which costs signatures to verify.
const MOST_ANCHORS: usize = 16;

/// A trust anchor that a record names.
struct Anchor {
    anchor: TrustAnchor<'static>,
    /// Certificates that may stand between it and the leaf, where its own certificate says so (DANE-27).
    path_length: Option<u32>,
}

/// The trust anchors that `record` names: those it matches in the presented chain, above the leaf (RFC 7671 §5.2), and
/// the one that it carries itself (RFC 7671 §5.2.2, §5.2.3; DANE-25, DANE-26).
fn anchors(record: &Usable<'_>, chain: &[Presented<'_>]) -> Vec<Anchor> {
    let matched = chain.iter().skip(1).filter(|c| record.matches(c));
    let mut found: Vec<Anchor> = matched.filter_map(|c| anchor_of(c.certificate, record.selector)).collect();
    if record.matching == Matching::Full {
        match record.selector {
            Selector::Certificate => {
                found.extend(anchor_of(&CertificateDer::from(record.data), record.selector));
            }
            // A key has no name: it stands for whoever issued a certificate of the chain.
            Selector::Key => {
                found.extend(chain.iter().filter_map(|c| anchor_by_key(c.certificate, record.data)))
            }
        }
    }
    found
}

fn anchor_of(certificate: &CertificateDer<'_>, selector: Selector) -> Option<Anchor> {
    let anchor = webpki_anchor(certificate)?;
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let constraint = parsed.basic_constraints().ok().flatten().and_then(|c| c.value.path_len_constraint);
    // A record for a key says nothing about the certificate around it.
    let bound = selector == Selector::Certificate;
    let name_constraints = anchor.name_constraints.filter(|_| bound);
    let anchor = TrustAnchor { name_constraints, ..anchor };
    Some(Anchor { anchor, path_length: constraint.filter(|_| bound) })
}

fn webpki_anchor(certificate: &CertificateDer<'_>) -> Option<TrustAnchor<'static>> {
    let mut store = RootCertStore::empty();
    store.add(certificate.clone().into_owned()).ok()?;
    store.roots.pop()
}

fn anchor_by_key(issued: &CertificateDer<'_>, key: &[u8]) -> Option<Anchor> {
    let (_, parsed) = X509Certificate::from_der(issued).ok()?;
    let inside = |der: &[u8]| Any::from_der(der).ok().map(|(_, any)| Der::from(any.data.to_vec()));
    let anchor = TrustAnchor {
        subject: inside(parsed.issuer().as_raw())?,
        subject_public_key_info: inside(key)?,
        name_constraints: None,
    };
    Some(Anchor { anchor, path_length: None })
}

/// The faults of the leaf with `anchor` as the only authority.
fn below(
    anchor: &Anchor,
    leaf: &CertificateDer<'_>,
    issuers: &[CertificateDer<'_>],
    terms: Terms<'_>,
) -> Vec<DaneFault> {
    let parsed = match ParsedCertificate::try_from(leaf) {
        Ok(parsed) => parsed,
        Err(e) => return vec![DaneFault::BelowAuthority(pkix::fault_of(&e, leaf))],
    };
    let roots = RootCertStore { roots: vec![anchor.anchor.clone()] };
    let mut faults = pkix::chain_faults(leaf, &parsed, issuers, &roots, terms.algorithms, terms.now);
    if faults.is_empty() && anchor.path_length.is_some_and(|most| between(anchor, leaf, issuers) > most) {
        faults.push(PkixFault::Untrusted("path-length"));
    }
    let named = |name: &Domain| pkix::covers(&parsed, name) || common_name_covers(leaf, name);
    if !terms.references.iter().any(named) {
        faults.push(PkixFault::Name);
    }
    faults.into_iter().map(DaneFault::BelowAuthority).collect()
}

/// Authorities between the leaf and the anchor that are not issued by themselves (RFC 5280 §4.2.1.9).
fn between(anchor: &Anchor, leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]) -> u32 {
    let parsed = |der: &CertificateDer<'_>| {
        let (_, c) = X509Certificate::from_der(der).ok()?;
        let inside = |raw: &[u8]| Any::from_der(raw).ok().map(|(_, any)| any.data.to_vec());
        Some((inside(c.subject().as_raw())?, inside(c.issuer().as_raw())?))
    };
    let all: Vec<(Vec<u8>, Vec<u8>)> = issuers.iter().filter_map(parsed).collect();
    let Some((_, mut wanted)) = parsed(leaf) else { return u32::MAX };
    let mut count = 0;
    for _ in 0..issuers.len() {
        if wanted == anchor.anchor.subject.as_ref() {
            break;
        }
        let Some((subject, issuer)) = all.iter().find(|(subject, _)| *subject == wanted) else { break };
        if subject != issuer {
            count += 1;
        }
        wanted.clone_from(issuer);
    }
    count
}

/// RFC 7672 §3.2.3: the common name counts where the certificate has no DNS name at all, and only here (DANE-29).
fn common_name_covers(leaf: &CertificateDer<'_>, host: &Domain) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
    let names = parsed.subject_alternative_name().ok().flatten();
    let has_dns_name =
        names.is_some_and(|san| san.value.general_names.iter().any(|n| matches!(n, GeneralName::DNSName(_))));
    if has_dns_name {
        return false;
    }
    let last = parsed.subject().iter_common_name().last().and_then(|cn| cn.as_str().ok());
    last.is_some_and(|cn| match cn.strip_prefix("*.") {
        // One whole label (NAME-03).
        Some(parent) => {
            host.as_str().split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(parent))
        }
        None => cn.eq_ignore_ascii_case(host.as_str()),
    })
}

#[cfg(test)]
mod tests;
