//! The body of a report: the I-JSON of RFC 8460 §4.4, and its packed form.
//!
//! [`Body`] is the shape, for reports that we write and for those that we read. What we write holds nothing
//! empty: a member without value is absent (RPT-47 to RPT-58).

use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde::{Serialize, Serializer};

use crate::clock::Timestamp;
use crate::mail::Domain;

/// The largest integer that every JSON reader keeps exactly is below this (RFC 7493 §2.2).
pub const MAX_COUNT: u64 = (1 << 53) - 1;

/// A report of ours. It serializes as its body; id, file name and mail header come from it too (RPT-92).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub(super) body: Body,
    pub(super) domain: Domain,
    pub(super) submitter: Domain,
    pub(super) begin: Timestamp,
    pub(super) end: Timestamp,
    pub(super) random: u64,
}

/// The JSON object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Body {
    /// Who reports.
    pub organization_name: String,
    /// The time that it covers.
    pub date_range: DateRange,
    /// Whom to ask.
    pub contact_info: String,
    /// Names the report (RPT-44).
    pub report_id: String,
    /// One element per applied policy.
    pub policies: Vec<Entry>,
}

/// The first and the last second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DateRange {
    /// RFC 3339.
    pub start_datetime: String,
    /// RFC 3339.
    pub end_datetime: String,
}

/// An applied policy and what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// The policy.
    pub policy: Policy,
    /// The sessions.
    pub summary: Summary,
    /// What failed; present even when nothing did (RPT-51).
    pub failure_details: Vec<Detail>,
}

/// A policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// `sts`, `tlsa` or `no-policy-found`.
    pub policy_type: String,
    /// The lines of the policy file, or the TLSA records.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policy_string: Vec<String>,
    /// Whose policy it is; empty only where a peer left it out.
    pub policy_domain: String,
    /// The patterns of an MTA-STS policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

/// How many sessions complied, and how many did not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Summary {
    /// Complied.
    pub total_successful_session_count: u64,
    /// Did not.
    pub total_failure_session_count: u64,
}

/// One kind of failure.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Detail {
    /// The registered name.
    pub result_type: String,
    /// The sender's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sending_mta_ip: Option<String>,
    /// The MX host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving_mx_hostname: Option<String>,
    /// What the MX host calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving_mx_helo: Option<String>,
    /// Its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receiving_ip: Option<String>,
    /// Sessions.
    pub failed_session_count: u64,
    /// A URI with more; never in ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub additional_information: Option<String>,
    /// A short token (RPT-59).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason_code: Option<String>,
}

/// A report as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// `left@right` (RPT-44).
    pub report_id: String,
    /// The file name (RPT-74).
    pub file_name: String,
    /// gzip of the JSON (RPT-75).
    pub gzip: Bytes,
}

/// Why a report cannot be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackError {
    /// Even without failure details it is larger than allowed.
    #[error("the summaries alone take {0} octets")]
    TooLarge(usize),
    /// Serializing or compressing failed.
    #[error("the report cannot be written: {0}")]
    Failed(String),
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.body.serialize(s)
    }
}

impl Report {
    /// The JSON object.
    pub const fn body(&self) -> &Body {
        &self.body
    }

    /// The report-id.
    pub fn report_id(&self) -> &str {
        &self.body.report_id
    }

    /// Sessions that complied, and that did not, over all policies.
    pub fn sessions(&self) -> (u64, u64) {
        self.body.sessions()
    }

    /// `submitter!domain!begin!end!unique.json.gz` (RFC 8460 §5.1, RPT-74).
    pub fn file_name(&self) -> String {
        let Self { domain, submitter, begin, end, random, .. } = self;
        format!("{submitter}!{domain}!{}!{}!{random:016x}.json.gz", begin.as_secs(), end.as_secs())
    }

    /// Compresses it. Beyond `max` octets the rarest failures go, in halves of the rows; the summaries stay
    /// (RPT-76).
    ///
    /// # Errors
    /// [`PackError`].
    pub fn pack(mut self, max: usize) -> Result<Packed, PackError> {
        loop {
            let gzip = self.compress().map_err(PackError::Failed)?;
            if gzip.len() <= max {
                let file_name = self.file_name();
                return Ok(Packed { report_id: self.body.report_id, file_name, gzip: gzip.into() });
            }
            let rows = self.body.policies.iter().map(|p| p.failure_details.len()).max().unwrap_or(0);
            if rows == 0 {
                return Err(PackError::TooLarge(gzip.len()));
            }
            for entry in &mut self.body.policies {
                // In the order of their counts: the last are the rarest.
                entry.failure_details.truncate(rows / 2);
            }
        }
    }

    fn compress(&self) -> Result<Vec<u8>, String> {
        let json = serde_json::to_vec(&self.body).map_err(|e| e.to_string())?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&json).and_then(|()| gzip.finish()).map_err(|e| e.to_string())
    }
}

/// The JSON text of a packed report, octet for octet.
///
/// # Errors
/// In words: what was kept is no packed report.
pub fn unpack(gzip: &[u8]) -> Result<String, String> {
    let mut text = String::new();
    GzDecoder::new(gzip).take(MAX_TEXT).read_to_string(&mut text).map_err(|e| e.to_string())?;
    Ok(text)
}

/// Octets of a text that are unpacked: more than any that was packed has.
const MAX_TEXT: u64 = 1 << 30;

impl Body {
    /// Sessions that complied, and that did not, over all policies.
    pub fn sessions(&self) -> (u64, u64) {
        self.policies.iter().fold((0, 0), |(ok, failed), p| {
            let Summary { total_successful_session_count: s, total_failure_session_count: f } = p.summary;
            (u64::saturating_add(ok, s), u64::saturating_add(failed, f))
        })
    }
}
