//! The policy file (RFC 8461 §3.2).

use std::time::Duration;

/// What a policy asks of senders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Deliver only over verified TLS to a listed host.
    Enforce,
    /// Evaluate and report, deliver anyway.
    Testing,
    /// As if there were no policy.
    None,
}

/// A parsed policy together with the text it was parsed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// `mode:`.
    pub mode: Mode,
    /// `mx:` patterns in canonical form (`mx.example.com`, `*.example.com`), in file order.
    pub mx: Vec<String>,
    /// `max_age:`, clamped to 31557600 s.
    pub max_age: Duration,
    /// The lines as fetched, without terminators, unknown keys and all (RPT-47).
    pub lines: Vec<String>,
}

/// Why a body is no policy: the reason token of RPT §1.2.4 (`missing-max_age`, `policy-bom`…) .
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an MTA-STS policy: {token}")]
pub struct PolicyError {
    /// Short stable token.
    pub token: String,
}
