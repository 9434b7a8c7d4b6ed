//! The DNS as the relay needs it: a few questions, and answers that keep apart what must not be confused.
//!
//! "No such name" and "no such record" are answers; everything else that is not data is an error, and an
//! error never makes mail bounce (`What always holds` 2). The AD bit is kept in every answer, negative ones
//! included, so that DANE (RFC 7672 §2.1.1) can be decided on the same values.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::dane::Tlsa;
use crate::mail::Domain;

pub mod anchor;
pub mod belief;
pub mod cache;
pub mod flight;
pub mod hickory;
pub mod self_test;
pub mod zone;

/// The port. One instance serves the whole relay; every call has a deadline of its own.
pub trait Resolver: Send + Sync {
    /// MX records of `name`, following CNAMEs (RFC 5321 §5.1), in no particular order.
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Mx>>;
    /// Addresses of one family of `name`, following CNAMEs.
    fn addresses<'a>(&'a self, name: &'a Domain, family: Family) -> BoxFuture<'a, DnsResult<IpAddr>>;
    /// TXT records of `name`, following CNAMEs; the strings of each record joined without separator
    /// (RFC 8461 §3.1).
    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Vec<u8>>>;
    /// TLSA records of `name`, following CNAMEs (RFC 7672 §2.2.3).
    fn tlsa<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Tlsa>>;
    /// The CNAME record of `name` itself, not followed: whether the first link of a chain is authenticated, whatever
    /// the rest is (RFC 7672 §2.2.2).
    fn cname<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>>;
    /// PTR records of `name`, which [`reverse_name`] makes, following CNAMEs (RFC 2317); targets that are no host
    /// names are left out.
    fn ptr<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>>;
    /// Drops what is cached about `name` and names below it, because an operator asked for fresh answers.
    fn forget(&self, name: &Domain);
}

/// Whether DNSSEC may be relied on, for one purpose or another. Shared by all who ask.
#[derive(Debug, Clone, Default)]
pub struct Dnssec(Arc<AtomicBool>);

impl Dnssec {
    /// Relied on from the start, or not.
    pub fn new(believed: bool) -> Self {
        Self(Arc::new(AtomicBool::new(believed)))
    }

    /// Whether it is relied on now.
    pub fn is_believed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What a look at the resolver has shown; `true` when it is news.
    pub fn set(&self, believed: bool) -> bool {
        self.0.swap(believed, Ordering::Relaxed) != believed
    }
}

/// The name at which the DNS keeps the names of `ip` (RFC 1035 §3.5, RFC 3596 §2.5). Always `Some`.
pub fn reverse_name(ip: IpAddr) -> Option<Domain> {
    let labels: Vec<String> = match ip.to_canonical() {
        IpAddr::V4(v4) => v4.octets().iter().rev().map(ToString::to_string).collect(),
        IpAddr::V6(v6) => v6
            .octets()
            .iter()
            .rev()
            .flat_map(|o| [format!("{:x}", o & 15), format!("{:x}", o >> 4)])
            .collect(),
    };
    let top = if ip.to_canonical().is_ipv4() { "in-addr" } else { "ip6" };
    Domain::parse_host(&format!("{}.{top}.arpa", labels.join("."))).ok()
}

/// What a lookup ends in.
pub type DnsResult<T> = Result<Answer<T>, DnsError>;

/// A definite answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// What the name holds.
    pub data: Data<T>,
    /// Whether a resolver that we trust said that DNSSEC authenticates the whole answer, CNAMEs and denial included.
    pub secure: bool,
    /// How long the answer may be used (OUT-10).
    pub ttl: Duration,
    /// The name at the end of the CNAMEs, when the name asked for is an alias.
    pub expanded: Option<Domain>,
}

/// Data, or one of the two kinds of denial (RFC 2308).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data<T> {
    /// At least one record.
    Records(Vec<T>),
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
}

/// One MX record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host; `None` for the root, which says "no mail service" (RFC 7505 §3).
    pub exchange: Option<Domain>,
}

/// Address family of a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// A lookup that gave no answer. Always temporary for the mail that waits on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{record} lookup of {name} failed: {kind}{}", At(.server))]
pub struct DnsError {
    /// What went wrong.
    pub kind: DnsErrorKind,
    /// The name asked for.
    pub name: Domain,
    /// The record type asked for, as in `MX`.
    pub record: &'static str,
    /// The resolver that said so, when one said anything.
    pub server: Option<SocketAddr>,
}

/// The ways to get no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsErrorKind {
    /// DNSSEC validation failed.
    Bogus,
    /// DNSSEC validation fails for everything, the root included: the keys that are believed or the clock are wrong, not this name.
    WrongKeys,
    /// The validator of this process could not settle it.
    Undecided,
    /// The resolver denies names that exist, so that its denial of this one says nothing (OUT-04).
    Lying,
    /// The resolver answered SERVFAIL.
    Servfail,
    /// The resolver refused, or does not implement the question.
    Refused,
    /// Nobody answered in time.
    Timeout,
    /// The answer was no DNS message, answered something else, or its CNAMEs make a loop or a chain over eight.
    Malformed,
    /// No resolver could be reached at all.
    Unreachable,
}

impl fmt::Display for DnsErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bogus => "DNSSEC validation failed",
            Self::WrongKeys => {
                "DNSSEC validation fails for every name, the self-test's too: the root keys that are believed \
                 (dns.trust_anchor, or those of the resolver) or the clock are wrong"
            }
            Self::Undecided => {
                "the DNSSEC validator gave up on it (a known weakness of hickory 0.26, no verdict on the domain)"
            }
            Self::Lying => "the resolver denies names that exist, so its denial says nothing",
            Self::Servfail => "the resolver answered SERVFAIL",
            Self::Refused => "the resolver refused the question",
            Self::Timeout => "no answer in time",
            Self::Malformed => "the answer cannot be used (malformed, or a CNAME loop)",
            Self::Unreachable => "no resolver can be reached",
        })
    }
}

struct At<'a>(&'a Option<SocketAddr>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |s| write!(f, " (resolver {s})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_names_in_reverse() {
        for (ip, want) in [
            ("192.0.2.7", "7.2.0.192.in-addr.arpa"),
            ("::ffff:192.0.2.7", "7.2.0.192.in-addr.arpa"),
            ("2001:db8::1f", "f.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"),
        ] {
            assert_eq!(reverse_name(ip.parse().unwrap()).unwrap().as_str(), want);
        }
    }
}
