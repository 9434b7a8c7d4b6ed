//! The result types of RFC 8460 §4.3 and the entries they may sit in.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observe::metrics::Word;

/// Why a session failed its policy: the registered names, and no others (RPT-52).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResultType {
    /// The EHLO reply lacks STARTTLS, or STARTTLS was answered other than 220.
    StarttlsNotSupported,
    /// No DNS-ID of the certificate covers the host.
    CertificateHostMismatch,
    /// The certificate, or one it needs, is past its last day.
    CertificateExpired,
    /// Anything else that makes the chain unacceptable.
    CertificateNotTrusted,
    /// Any other failure after STARTTLS was accepted, and the MX gate of MTA-STS.
    ValidationFailure,
    /// Secure TLSA records, none usable.
    TlsaInvalid,
    /// A DNSSEC failure on the way to the TLSA records.
    DnssecInvalid,
    /// The operator demands DANE where there is none.
    DaneRequired,
    /// The policy could not be fetched.
    StsPolicyFetchError,
    /// The policy was fetched and is no policy.
    StsPolicyInvalid,
    /// The policy host's certificate does not hold.
    StsWebpkiInvalid,
}

impl ResultType {
    /// Every registered name.
    pub const ALL: [Self; 11] = [
        Self::StarttlsNotSupported,
        Self::CertificateHostMismatch,
        Self::CertificateExpired,
        Self::CertificateNotTrusted,
        Self::ValidationFailure,
        Self::TlsaInvalid,
        Self::DnssecInvalid,
        Self::DaneRequired,
        Self::StsPolicyFetchError,
        Self::StsPolicyInvalid,
        Self::StsWebpkiInvalid,
    ];

    /// The name as RFC 8460 §4.3 registers it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StarttlsNotSupported => "starttls-not-supported",
            Self::CertificateHostMismatch => "certificate-host-mismatch",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotTrusted => "certificate-not-trusted",
            Self::ValidationFailure => "validation-failure",
            Self::TlsaInvalid => "tlsa-invalid",
            Self::DnssecInvalid => "dnssec-invalid",
            Self::DaneRequired => "dane-required",
            Self::StsPolicyFetchError => "sts-policy-fetch-error",
            Self::StsPolicyInvalid => "sts-policy-invalid",
            Self::StsWebpkiInvalid => "sts-webpki-invalid",
        }
    }

    /// The inverse of [`ResultType::as_str`].
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == name)
    }
}

impl Word for ResultType {
    const ALL: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl fmt::Display for ResultType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
