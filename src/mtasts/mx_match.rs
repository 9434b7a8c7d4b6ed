//! Which hosts a policy lists (RFC 8461 §4.1).

use super::Policy;
use crate::mail::Domain;

impl Policy {
    /// Whether the policy lists `host`: the exchange name as published in the MX record, or the domain itself
    /// for an implicit MX (STS-64 to 66). Says nothing about the mode.
    pub fn allows(&self, host: &Domain) -> bool {
        self.mx.iter().any(|pattern| matches(pattern, host))
    }
}

/// A wildcard stands for exactly one label, the left-most (RFC 8461 §4.1). Both sides are canonical already.
fn matches(pattern: &str, host: &Domain) -> bool {
    match pattern.strip_prefix("*.") {
        Some(base) => host.as_str().split_once('.').is_some_and(|(_, rest)| rest == base),
        None => host.as_str() == pattern,
    }
}
