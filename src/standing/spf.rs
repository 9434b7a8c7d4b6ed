//! SPF from the sender's side (RFC 7208): would `domain` let this address send for it?
//!
//! [`evaluate`] asks nothing itself: it works on the answers there are and says which one it lacks, and whoever
//! drives it finds that and calls it anew. Macros, `exists` and `ptr` depend on more than the address and are not
//! worked out: where the verdict hangs on one of them it is [`Spf::Unknown`].

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::dns::Family;
use crate::mail::Domain;

/// A question to the DNS.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Question {
    /// TXT records, the strings of each joined.
    Txt(Domain),
    /// The hosts of MX records.
    Mx(Domain),
    /// Addresses of one family.
    Addresses(Domain, Family),
}

/// What the DNS said to a [`Question`]; a denial is an empty list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// To [`Question::Txt`].
    Texts(Vec<Vec<u8>>),
    /// To [`Question::Mx`].
    Hosts(Vec<Domain>),
    /// To [`Question::Addresses`].
    Addresses(Vec<IpAddr>),
    /// No answer, in words.
    Failed(String),
}

/// The answers so far.
pub type Facts = HashMap<Question, Fact>;

/// How a receiver would judge (RFC 7208 §2.6). The text names the term that decided, or the trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spf {
    /// The address may send.
    Pass(String),
    /// It may not.
    Fail(String),
    /// Probably not.
    SoftFail(String),
    /// The record says nothing about it.
    Neutral(String),
    /// There is no record.
    None,
    /// The record is broken.
    PermError(String),
    /// The DNS does not answer.
    TempError(String),
    /// The verdict hangs on a term that is not worked out here.
    Unknown(String),
}

/// Terms of one evaluation that make receivers ask the DNS (RFC 7208 §4.6.4).
const MOST_LOOKUPS: usize = 10;
/// Lookups of one evaluation that find nothing (RFC 7208 §4.6.4).
const MOST_VOID: usize = 2;
/// MX hosts whose addresses one `mx` may take (RFC 7208 §4.6.4).
const MOST_HOSTS: usize = 10;
/// Octets of a record that are read.
const MOST_OCTETS: usize = 4096;

/// Judges `ip` by the record of `domain`.
///
/// # Errors
/// The question whose answer is lacking in `facts`.
pub fn evaluate(domain: &Domain, ip: IpAddr, facts: &Facts) -> Result<Spf, Question> {
    let mut walk = Walk { ip: ip.to_canonical(), facts, lookups: 0, void: 0 };
    match walk.domain(domain) {
        Ok(verdict) => Ok(verdict),
        Err(Stop::Lacks(question)) => Err(question),
        Err(Stop::Verdict(verdict)) => Ok(verdict),
    }
}

/// What ends an evaluation early.
enum Stop {
    Lacks(Question),
    Verdict(Spf),
}

struct Walk<'a> {
    ip: IpAddr,
    facts: &'a Facts,
    lookups: usize,
    void: usize,
}

impl<'a> Walk<'a> {
    /// RFC 7208 §4.4 to §4.7 and §6.1.
    fn domain(&mut self, domain: &Domain) -> Result<Spf, Stop> {
        let Some(text) = self.record(domain)? else { return Ok(Spf::None) };
        let record = Record::parse(&text)
            .map_err(|term| perm(format!("{domain}: {term:?} is no term of an SPF record")))?;
        // A term that would let the address pass if it matched cannot turn a later pass into anything else.
        let mut unsure = None;
        for term in &record.terms {
            let told = format!("{} of {domain}", term.text);
            match self.matches(term, domain)? {
                Some(true) => {
                    let verdict = term.qualifier.verdict(told);
                    return Ok(match (unsure, verdict) {
                        (None, verdict) | (Some(_), verdict @ Spf::Pass(_)) => verdict,
                        (Some(unsure), _) => Spf::Unknown(unsure),
                    });
                }
                Some(false) => {}
                None if term.qualifier == Qualifier::Pass => unsure = unsure.or(Some(told)),
                None => return Ok(Spf::Unknown(told)),
            }
        }
        let rest = match record.redirect {
            Some(Target::Macro) => Spf::Unknown(format!("redirect of {domain}")),
            Some(Target::Own) => return Err(perm(format!("{domain}: redirect without a domain"))),
            Some(Target::Name(next)) => {
                self.count()?;
                match self.domain(&next)? {
                    Spf::None => {
                        return Err(perm(format!("{next}, where {domain} redirects, has no record")));
                    }
                    verdict => verdict,
                }
            }
            None => Spf::Neutral(format!("the record of {domain} does not mention the address")),
        };
        Ok(match (unsure, rest) {
            (None, rest) | (Some(_), rest @ Spf::Pass(_)) => rest,
            (Some(unsure), _) => Spf::Unknown(unsure),
        })
    }

    /// The one SPF record of `domain` (RFC 7208 §4.5).
    fn record(&mut self, domain: &Domain) -> Result<Option<String>, Stop> {
        let Fact::Texts(texts) = self.fact(Question::Txt(domain.clone()))? else { return Ok(None) };
        let mut records = texts.iter().filter(|t| is_spf(t));
        match (records.next(), records.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(perm(format!("{domain} has more than one SPF record"))),
            (Some(text), None) if text.len() > MOST_OCTETS || !text.is_ascii() => {
                Err(perm(format!("the SPF record of {domain} is too long or not ASCII")))
            }
            (Some(text), None) => Ok(Some(String::from_utf8_lossy(text).into_owned())),
        }
    }

    /// Whether a mechanism matches; `None`: not worked out here (RFC 7208 §5).
    fn matches(&mut self, term: &Term, domain: &Domain) -> Result<Option<bool>, Stop> {
        let (target, v4, v6) = match &term.mechanism {
            Mechanism::All => return Ok(Some(true)),
            Mechanism::Net(net) => return Ok(Some(net.contains(&self.ip))),
            Mechanism::Elsewhere => {
                self.count()?;
                return Ok(None);
            }
            Mechanism::Include(target) | Mechanism::A(target, ..) | Mechanism::Mx(target, ..) => {
                self.count()?;
                let target = match target {
                    Target::Macro => return Ok(None),
                    Target::Own => domain,
                    Target::Name(name) => name,
                };
                match &term.mechanism {
                    Mechanism::A(_, v4, v6) | Mechanism::Mx(_, v4, v6) => (target, *v4, *v6),
                    _ => return self.include(target).map(Some).or_else(unsure),
                }
            }
        };
        if matches!(term.mechanism, Mechanism::A(..)) {
            return self.address(target, v4, v6, true).map(Some);
        }
        let Fact::Hosts(hosts) = self.fact(Question::Mx(target.clone()))? else { return Ok(Some(false)) };
        if hosts.is_empty() {
            self.void()?;
        }
        if hosts.len() > MOST_HOSTS {
            return Err(perm(format!("{target} has more than {MOST_HOSTS} MX records")));
        }
        for host in hosts {
            if self.address(host, v4, v6, false)? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }

    /// RFC 7208 §5.2.
    fn include(&mut self, target: &Domain) -> Result<bool, Stop> {
        match self.domain(target)? {
            Spf::Pass(_) => Ok(true),
            Spf::Fail(_) | Spf::SoftFail(_) | Spf::Neutral(_) => Ok(false),
            Spf::None => Err(perm(format!("{target}, which is included, has no SPF record"))),
            verdict => Err(Stop::Verdict(verdict)),
        }
    }

    fn address(&mut self, host: &Domain, v4: u8, v6: u8, counts: bool) -> Result<bool, Stop> {
        let family = if self.ip.is_ipv4() { Family::V4 } else { Family::V6 };
        let length = if self.ip.is_ipv4() { v4 } else { v6 };
        let Fact::Addresses(found) = self.fact(Question::Addresses(host.clone(), family))? else {
            return Ok(false);
        };
        if found.is_empty() && counts {
            self.void()?;
        }
        Ok(found.iter().any(|a| IpNet::new(*a, length).is_ok_and(|net| net.contains(&self.ip))))
    }

    fn fact(&self, question: Question) -> Result<&'a Fact, Stop> {
        let facts: &'a Facts = self.facts;
        match facts.get(&question) {
            None => Err(Stop::Lacks(question)),
            Some(Fact::Failed(why)) => Err(Stop::Verdict(Spf::TempError(why.clone()))),
            Some(fact) => Ok(fact),
        }
    }

    fn count(&mut self) -> Result<(), Stop> {
        self.lookups += 1;
        if self.lookups > MOST_LOOKUPS {
            return Err(perm(format!("the record needs more than {MOST_LOOKUPS} lookups")));
        }
        Ok(())
    }

    fn void(&mut self) -> Result<(), Stop> {
        self.void += 1;
        if self.void > MOST_VOID {
            return Err(perm(format!("more than {MOST_VOID} lookups of the record find nothing")));
        }
        Ok(())
    }
}

fn perm(why: String) -> Stop {
    Stop::Verdict(Spf::PermError(why))
}

/// An include that is not worked out leaves the including term open; every other stop stands.
fn unsure(stop: Stop) -> Result<Option<bool>, Stop> {
    match stop {
        Stop::Verdict(Spf::Unknown(_)) => Ok(None),
        stop => Err(stop),
    }
}

fn is_spf(text: &[u8]) -> bool {
    text.split_at_checked(6).is_some_and(|(v, rest)| {
        v.eq_ignore_ascii_case(b"v=spf1") && matches!(rest.first(), None | Some(b' '))
    })
}

/// A record, read.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    terms: Vec<Term>,
    redirect: Option<Target>,
}

#[derive(Debug, PartialEq, Eq)]
struct Term {
    qualifier: Qualifier,
    mechanism: Mechanism,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Qualifier {
    Pass,
    Fail,
    SoftFail,
    Neutral,
}

impl Qualifier {
    fn verdict(self, told: String) -> Spf {
        match self {
            Self::Pass => Spf::Pass(told),
            Self::Fail => Spf::Fail(told),
            Self::SoftFail => Spf::SoftFail(told),
            Self::Neutral => Spf::Neutral(told),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Mechanism {
    All,
    Net(IpNet),
    Include(Target),
    /// With the lengths of its IPv4 and IPv6 networks.
    A(Target, u8, u8),
    Mx(Target, u8, u8),
    /// `exists`, `ptr`.
    Elsewhere,
}

/// Whose records a term is about.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    /// The domain that the record belongs to.
    Own,
    Name(Domain),
    /// Whatever a macro makes of it.
    Macro,
}

impl Record {
    /// Reads a whole record before anything of it counts (RFC 7208 §4.6); the term that is none otherwise.
    fn parse(text: &str) -> Result<Self, String> {
        let (mut terms, mut redirect) = (Vec::new(), None);
        for word in text.split(' ').skip(1).filter(|w| !w.is_empty()) {
            let bad = || word.to_owned();
            match modifier(word) {
                Some((name, value)) if name.eq_ignore_ascii_case("redirect") => {
                    if redirect.replace(target(Some(value)).ok_or_else(bad)?).is_some() {
                        return Err(bad());
                    }
                }
                // exp, and what is not known (RFC 7208 §6).
                Some(_) => {}
                None => terms.push(Term::parse(word).ok_or_else(bad)?),
            }
        }
        // RFC 7208 §6.1: redirect is of no account beside `all`.
        if terms.iter().any(|t| t.mechanism == Mechanism::All) {
            redirect = None;
        }
        Ok(Self { terms, redirect })
    }
}

/// `name=value` (RFC 7208 §4.6.1).
fn modifier(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let all = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    (starts && all).then_some((name, value))
}

impl Term {
    fn parse(text: &str) -> Option<Self> {
        let (qualifier, rest) = match text.split_at_checked(1)? {
            ("+", rest) => (Qualifier::Pass, rest),
            ("-", rest) => (Qualifier::Fail, rest),
            ("~", rest) => (Qualifier::SoftFail, rest),
            ("?", rest) => (Qualifier::Neutral, rest),
            _ => (Qualifier::Pass, text),
        };
        let end = rest.find([':', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at_checked(end)?;
        let mechanism = match (name.to_ascii_lowercase().as_str(), rest.strip_prefix(':')) {
            ("all", None) if rest.is_empty() => Mechanism::All,
            ("include", Some(spec)) => Mechanism::Include(target(Some(spec))?),
            ("a", spec) => {
                let (target, v4, v6) = with_lengths(spec, rest)?;
                Mechanism::A(target, v4, v6)
            }
            ("mx", spec) => {
                let (target, v4, v6) = with_lengths(spec, rest)?;
                Mechanism::Mx(target, v4, v6)
            }
            ("ip4", Some(spec)) => Mechanism::Net(net(spec).filter(|n| matches!(n, IpNet::V4(_)))?),
            ("ip6", Some(spec)) => Mechanism::Net(net(spec).filter(|n| matches!(n, IpNet::V6(_)))?),
            ("exists", Some(spec)) if !spec.is_empty() => Mechanism::Elsewhere,
            ("ptr", spec) if spec.is_some() || rest.is_empty() => Mechanism::Elsewhere,
            _ => return None,
        };
        Some(Self { qualifier, mechanism, text: text.to_owned() })
    }
}

/// A domain-spec; `None` when it is none.
fn target(spec: Option<&str>) -> Option<Target> {
    match spec {
        None => Some(Target::Own),
        Some(spec) if spec.contains('%') => Some(Target::Macro),
        Some(spec) => Domain::parse_host(spec).ok().map(Target::Name),
    }
}

/// `[":" domain-spec] ["/" length] ["//" length]` (RFC 7208 §5.6); `rest` is the text after the name.
fn with_lengths(spec: Option<&str>, rest: &str) -> Option<(Target, u8, u8)> {
    let text = spec.unwrap_or(rest);
    // A macro may hold slashes of its own, and needs no lengths here.
    if spec.is_some_and(|s| s.contains('%')) {
        return Some((Target::Macro, 32, 128));
    }
    let (text, v6) = match text.split_once("//") {
        Some((text, length)) => (text, number(length, 128)?),
        None => (text, 128),
    };
    let (name, v4) = match text.split_once('/') {
        Some((name, length)) => (name, number(length, 32)?),
        None => (text, 32),
    };
    Some((target(spec.map(|_| name))?, v4, v6))
}

fn number(text: &str, most: u8) -> Option<u8> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| plain && *n <= most)
}

fn net(text: &str) -> Option<IpNet> {
    match text.split_once('/') {
        Some((ip, length)) => {
            let ip: IpAddr = ip.parse().ok()?;
            IpNet::new(ip, number(length, if ip.is_ipv4() { 32 } else { 128 })?).ok()
        }
        None => text.parse::<IpAddr>().ok().map(IpNet::from),
    }
}

impl fmt::Display for Spf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass(by) => write!(f, "pass, by {by}"),
            Self::Fail(by) => write!(f, "fail, by {by}"),
            Self::SoftFail(by) => write!(f, "softfail, by {by}"),
            Self::Neutral(by) => write!(f, "neutral: {by}"),
            Self::None => f.write_str("none: there is no SPF record"),
            Self::PermError(why) => write!(f, "permerror: {why}"),
            Self::TempError(why) => write!(f, "temperror: {why}"),
            Self::Unknown(term) => write!(f, "it hangs on {term}, which is not worked out here"),
        }
    }
}

#[cfg(test)]
mod tests;
