//! Whether what the DNS publishes lets others verify what we sign (SIG-14, RPT-82).

use std::fmt;

use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::record::{BadRecord, EMAIL, KeyRecord, TLSRPT};
use super::{Algorithm, SigningKey};

/// RSA keys below this many bits are weak (RFC 8301 §3.2).
const STRONG_RSA: usize = 2048;

/// Something about a published key that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is no TXT record.
    Missing,
    /// More than one TXT record, so verifiers may take either (RFC 6376 §3.6.2.2).
    Several(usize),
    /// The record is none by RFC 6376 §3.6.1.
    Syntax(BadRecord),
    /// `p=` is empty.
    Revoked,
    /// `k=` is not the algorithm of our key.
    OtherType {
        /// What is published.
        published: String,
        /// What ours is.
        ours: Algorithm,
    },
    /// `p=` is not our key.
    OtherKey,
    /// The published RSA key has too few bits.
    TooShort(usize),
    /// `h=` does not allow sha256.
    NoSha256,
    /// `s=` keeps verifiers of ordinary mail from using the key (RPT-83).
    NotForMail,
    /// `s=` keeps readers of TLS reports from using the key (RFC 8460 §3).
    NotForReports,
    /// `s=` is a list, which some verifiers take for one unknown word.
    ServiceList,
    /// `t=y`: the domain is testing, and verifiers may take signatures for none.
    Testing,
}

impl Finding {
    /// Whether signatures count for nothing, or not for all purposes, with somebody; otherwise it is mere advice.
    pub const fn breaks(&self) -> bool {
        !matches!(self, Self::Several(_) | Self::ServiceList | Self::Testing)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no TXT record is published"),
            Self::Several(n) => write!(f, "{n} TXT records are published: verifiers may take any; leave one"),
            Self::Syntax(e) => write!(f, "the TXT record is not a DKIM key: {e}"),
            Self::Revoked => f.write_str("the key is revoked: p= is empty"),
            Self::OtherType { published, ours } => {
                write!(f, "the published key has k={published}, ours is k={}", ours.key_type())
            }
            Self::OtherKey => f.write_str("the published key is not that of the private key: signatures fail"),
            Self::TooShort(bits) => {
                write!(f, "the published RSA key has {bits} bits; write one of at least {STRONG_RSA}")
            }
            Self::NoSha256 => f.write_str("h= does not allow sha256: signatures fail"),
            Self::NotForMail => f.write_str("s= lacks email: ordinary verifiers ignore the key, and DMARC fails"),
            Self::NotForReports => {
                f.write_str("s= lacks tlsrpt: receivers of TLS reports may ignore the key; leave s= out")
            }
            Self::ServiceList => {
                f.write_str("s= is a list, which some verifiers (dkimpy) cannot read: leave s= out, which means all services")
            }
            Self::Testing => f.write_str("t=y says that the domain is testing DKIM: verifiers may ignore signatures"),
        }
    }
}

/// Compares what is published at [`SigningKey::record_name`] with the key; empty: all is well. Each element of
/// `txt` is one record, its strings joined; `reports`: the key also signs TLS reports.
///
/// A lookup that failed is not an empty `txt`: there is nothing to be said then.
pub fn published(key: &SigningKey, txt: &[Vec<u8>], reports: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    if txt.len() > 1 {
        findings.push(Finding::Several(txt.len()));
    }
    // Of several, the one that would do: that the others are there is said already.
    let judged: Vec<Vec<Finding>> = txt.iter().map(|text| one(key, text, reports)).collect();
    match judged.into_iter().min_by_key(|found| found.iter().filter(|f| f.breaks()).count()) {
        Some(found) => findings.extend(found),
        None => findings.push(Finding::Missing),
    }
    findings
}

fn one(key: &SigningKey, text: &[u8], reports: bool) -> Vec<Finding> {
    let record = match KeyRecord::parse(text) {
        Ok(record) => record,
        Err(bad) => return vec![Finding::Syntax(bad)],
    };
    if record.key.is_empty() {
        return vec![Finding::Revoked];
    }
    let mut findings = Vec::new();
    if record.key_type != key.algorithm().key_type() {
        findings.push(Finding::OtherType { published: record.key_type.clone(), ours: key.algorithm() });
    } else if record.key != key.public_key() {
        findings.push(Finding::OtherKey);
    }
    if record.key_type == Algorithm::Rsa.key_type()
        && let Some(bits) = rsa_bits(&record.key).filter(|bits| *bits < STRONG_RSA)
    {
        findings.push(Finding::TooShort(bits));
    }
    if !record.hashes.is_empty() && !record.hashes.iter().any(|h| h == "sha256") {
        findings.push(Finding::NoSha256);
    }
    if !record.serves(EMAIL) {
        findings.push(Finding::NotForMail);
    }
    if reports && !record.serves(TLSRPT) {
        findings.push(Finding::NotForReports);
    }
    if record.services.len() > 1 {
        findings.push(Finding::ServiceList);
    }
    if record.flags.iter().any(|t| t == "y") {
        findings.push(Finding::Testing);
    }
    findings
}

fn rsa_bits(der: &[u8]) -> Option<usize> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    match info.parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        _ => None,
    }
}
