//! The TLSA base domains of a host (RFC 7672 §2.2.2, §2.2.3).
//!
//! The name at which TLSA records are looked up has to be one that DNSSEC vouches for: the host's own name, or the
//! name at the end of its CNAMEs when every link of the chain is authenticated.

use crate::mail::Domain;

/// What the address lookups of a host said about its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName<'a> {
    /// The exchange name as in the MX record.
    pub name: &'a Domain,
    /// The name at the end of its CNAMEs, when it is an alias.
    pub expanded: Option<&'a Domain>,
    /// Whether the whole answer of at least one family was authenticated (DANE-08).
    pub secure: bool,
}

/// Where TLSA records may lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bases {
    /// DANE does not apply: asking for TLSA would cost time and prove nothing (DANE-07).
    None,
    /// The answer is insecure, but begins with an alias: only a question for the CNAME itself tells whether that
    /// first link is authenticated (RFC 7672 §2.2.2). If it is, the base is the name itself, and nothing else.
    IfAliasIsSecure,
    /// These, in order; the first with authenticated records counts (DANE-09).
    Names(Vec<Domain>),
}

/// The candidates for a host.
pub fn bases(host: &HostName<'_>) -> Bases {
    match (host.secure, host.expanded) {
        (false, None) => Bases::None,
        (false, Some(_)) => Bases::IfAliasIsSecure,
        (true, None) => Bases::Names(vec![host.name.clone()]),
        // The expanded name first, then the original; names in between never (RFC 7672 §2.2.2).
        (true, Some(expanded)) => Bases::Names(vec![expanded.clone(), host.name.clone()]),
    }
}

/// `_<port>._tcp.<base>` with the port in use (RFC 7672 §2.2.3, DANE-10); `None` when no such name can be.
pub fn owner(base: &Domain, port: u16) -> Option<Domain> {
    base.with_prefix(&format!("_{port}._tcp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(text: &str) -> Domain {
        Domain::parse(text).unwrap()
    }

    // DANE-07, DANE-09
    #[test]
    fn the_base_is_a_name_that_dnssec_vouches_for() {
        let (mx, end) = (domain("mx.example"), domain("h1.provider.example"));
        let ask = |secure, expanded| bases(&HostName { name: &mx, expanded, secure });
        assert_eq!(ask(false, None), Bases::None);
        assert_eq!(ask(false, Some(&end)), Bases::IfAliasIsSecure);
        assert_eq!(ask(true, None), Bases::Names(vec![mx.clone()]));
        assert_eq!(ask(true, Some(&end)), Bases::Names(vec![end.clone(), mx.clone()]));
    }

    // DANE-10
    #[test]
    fn the_owner_name_carries_the_port_in_use() {
        assert_eq!(owner(&domain("mx.example"), 25).unwrap().as_str(), "_25._tcp.mx.example");
        assert_eq!(owner(&domain("mx.example"), 2525).unwrap().as_str(), "_2525._tcp.mx.example");
        let longest = format!("{}.example", ["a"; 120].join("."));
        assert_eq!(owner(&domain(&longest), 25), None, "no room for two more labels");
    }
}
