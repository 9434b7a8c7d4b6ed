//! What the SessionRecords of one report domain add up to on one UTC day (RFC 8460 §4.2, RPT-29, RPT-30).

use std::net::IpAddr;

use super::day::Day;
use super::result_type::ResultType;
use super::session::AppliedPolicy;
use crate::mail::Domain;

/// Everything counted for one report domain on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayCounters {
    /// The UTC day.
    pub day: Day,
    /// The report domain (RPT-11).
    pub domain: Domain,
    /// One element per distinct applied policy, oldest first.
    pub policies: Vec<PolicyCounters>,
}

/// The sessions judged by one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyCounters {
    /// The policy.
    pub policy: AppliedPolicy,
    /// Sessions that complied.
    pub success: u64,
    /// Sessions that did not.
    pub failure: u64,
    /// What failed, and where.
    pub details: Vec<DetailCounter>,
}

/// One row of failure details. An absent value was never known, or was given up to bound the rows (RPT-30).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetailCounter {
    /// The registered name.
    pub result: ResultType,
    /// Our token for it (RPT-59).
    pub reason: Option<String>,
    /// The candidate's name as in the MX record.
    pub mx_host: Option<Domain>,
    /// First word of its greeting or EHLO reply.
    pub mx_helo: Option<String>,
    /// Our address.
    pub sending_ip: Option<IpAddr>,
    /// Its address.
    pub receiving_ip: Option<IpAddr>,
    /// Sessions; at least 1.
    pub count: u64,
}
