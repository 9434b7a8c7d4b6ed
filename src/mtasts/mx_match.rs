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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::mtasts::Mode;

    // STS-64, STS-65, STS-66, NAME-01, NAME-03, NAME-07
    #[test]
    fn a_pattern_lists_its_name_or_one_label_below_its_wildcard() {
        for (pattern, host, want) in [
            ("*.example.com", "MX1.Example.COM.", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "xexample.com", false),
            ("mx.example.com", "mx.example.com.", true),
            ("mx.example.com", "a.mx.example.com", false),
            ("mx.example.com", "mx.example.co", false),
            ("example.com", "example.com", true),
            ("*.com", "example.com", true),
            ("*.example.com", "_mx.example.com.", true),
            ("h1.prov.net", "mx.example.com", false),
        ] {
            let policy = Policy {
                mode: Mode::Enforce,
                mx: vec![pattern.to_owned()],
                max_age: Duration::from_secs(1),
                lines: Vec::new(),
            };
            assert_eq!(policy.allows(&Domain::parse_host(host).unwrap()), want, "{pattern} {host}");
        }
    }
}
