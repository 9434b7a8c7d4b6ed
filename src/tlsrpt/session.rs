//! [`SessionRecord`]: one immutable fact per session and report domain (RFC 8460 §4.3, RPT-11, RPT-20).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::result_type::ResultType;
use crate::clock::Timestamp;
use crate::mail::Domain;

/// What one session, or one attempt given up for a TLS-policy reason, says about one report domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// The moment of the verdict; its UTC day is the day of the report (RPT-29).
    pub at: Timestamp,
    /// The recipient domain, or the next hop's when smart-hosted (RPT-11).
    pub report_domain: Domain,
    /// Our address on that connection.
    pub sending_ip: Option<IpAddr>,
    /// The candidate's name as in the MX record.
    pub mx_host: Option<Domain>,
    /// First word of the EHLO reply or greeting: printable ASCII, at most 255 octets (RPT-55).
    pub mx_helo: Option<String>,
    /// The address connected to; `None` when nothing was connected.
    pub receiving_ip: Option<IpAddr>,
    /// One verdict per applied policy; never empty.
    pub verdicts: Vec<PolicyVerdict>,
}

/// Success or failure under one applied policy (RPT-22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVerdict {
    /// The policy judged by.
    pub policy: AppliedPolicy,
    /// Whether policy-compliant TLS was negotiated.
    pub success: bool,
    /// What failed. May be non-empty on a success: a stale policy carries its fetch failure (RPT-26).
    pub details: Vec<FailureDetail>,
}

/// An entry of `policies` in a report (RPT-23, RPT-46).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum AppliedPolicy {
    /// An MTA-STS policy, or the failed attempt to get one.
    Sts {
        /// The policy domain.
        domain: Domain,
        /// The fetched lines verbatim; empty when nothing was fetched (RPT-47).
        lines: Vec<String>,
        /// The policy's patterns; empty when nothing was fetched (RPT-49).
        mx: Vec<String>,
    },
    /// TLSA records of a host.
    Tlsa {
        /// The TLSA base domain.
        domain: Domain,
        /// One element per record, `u s m HEX`.
        records: Vec<String>,
    },
    /// Neither of them.
    NoPolicyFound {
        /// The recipient domain (RPT-48).
        domain: Domain,
    },
}

/// One cause of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FailureDetail {
    /// The registered name.
    pub result: ResultType,
    /// A short stable token, never a peer's text (RPT-59).
    pub reason: Option<String>,
}
