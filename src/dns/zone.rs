//! [`ZoneResolver`]: a resolver that answers from a few lines of text.
//!
//! ```text
//! example.net            MX  10 mx.example.net    ; a comment
//! null.example           MX  0 .
//! mx.example.net         A   192.0.2.1
//! alias.example          CNAME example.net
//! _25._tcp.mx.example.net TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971
//! 1.2.0.192.in-addr.arpa PTR mx.example.net
//! _mta-sts.example.net   60 TXT "v=STSv1; " "id=1;"
//! bad.example            MX  SERVFAIL             ; or BOGUS REFUSED TIMEOUT MALFORMED UNREACHABLE
//! dead.example           ANY TIMEOUT
//! secure example.net                              ; the AD bit for this name and all below, denials included
//! ```
//!
//! A name with records, or with names below it, exists; every other name is NXDOMAIN. A number before the
//! type is the TTL; else it is 300 s.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, ready};

use super::{Answer, Data, DnsError, DnsErrorKind, DnsResult, Family, Mx, Resolver};
use crate::dane::Tlsa;
use crate::mail::Domain;

/// The resolver. Its zone can be changed while others ask it, and it remembers what it was asked.
#[derive(Debug)]
pub struct ZoneResolver {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    secure: Vec<Domain>,
    queries: Vec<String>,
    forgotten: Vec<Domain>,
}

#[derive(Debug, Clone)]
struct Line {
    owner: Domain,
    record: String,
    ttl: Duration,
    data: Rdata,
}

#[derive(Debug, Clone)]
enum Rdata {
    Mx(Mx),
    Address(IpAddr),
    Txt(Vec<u8>),
    Cname(Domain),
    Tlsa(Tlsa),
    Ptr(Domain),
    Fails(DnsErrorKind),
    /// The name is said not to exist, to questions of this type alone.
    Denied,
}

/// A line that is no zone text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a zone line: {0}")]
pub struct ZoneError(pub String);

impl ZoneResolver {
    /// A resolver for the zone in `text`.
    ///
    /// # Errors
    /// [`ZoneError`] with the first line that cannot be read.
    pub fn new(text: &str) -> Result<Self, ZoneError> {
        let zone = Self { state: Mutex::default() };
        zone.add(text)?;
        Ok(zone)
    }

    /// Adds lines to the zone.
    ///
    /// # Errors
    /// [`ZoneError`]; the lines before the bad one have been added.
    pub fn add(&self, text: &str) -> Result<(), ZoneError> {
        for line in text.lines() {
            let tokens = tokens(line);
            let mut state = self.lock();
            match tokens.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                [] => {}
                ["secure", name] => state.secure.push(domain(name, line)?),
                [owner, rest @ ..] => state.lines.push(parse_line(owner, rest, line)?),
            }
        }
        Ok(())
    }

    /// Puts `text` in place of all records of the names that it mentions.
    ///
    /// # Errors
    /// [`ZoneError`].
    pub fn replace(&self, text: &str) -> Result<(), ZoneError> {
        let fresh = Self::new(text)?;
        for line in fresh.lock().lines.iter() {
            self.remove(&line.owner);
        }
        self.add(text)
    }

    /// Drops all records of `name`.
    pub fn remove(&self, name: &Domain) {
        self.lock().lines.retain(|l| l.owner != *name);
    }

    /// Every question so far, in order, as `MX example.net`.
    pub fn queries(&self) -> Vec<String> {
        self.lock().queries.clone()
    }

    /// Every name that [`Resolver::forget`] was called with.
    pub fn forgotten(&self) -> Vec<Domain> {
        self.lock().forgotten.clone()
    }

    /// Empties the log of questions.
    pub fn clear_queries(&self) {
        self.lock().queries.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask<T>(
        &self,
        name: &Domain,
        record: &'static str,
        pick: impl Fn(&Rdata) -> Option<T>,
    ) -> DnsResult<T> {
        let mut state = self.lock();
        state.queries.push(format!("{record} {name}"));
        let fail = |kind| DnsError { kind, name: name.clone(), record, server: None };
        let (mut at, mut secure, mut ttl) = (name.clone(), true, Duration::MAX);
        let expanded = |at: Domain| (at != *name).then_some(at);
        for _ in 0..=MAX_CHAIN {
            secure &= state.secure.iter().any(|s| at.is_at_or_below(s));
            let here = || state.lines.iter().filter(|l| l.owner == at);
            let typed = || here().filter(|l| l.record == record || l.record == "ANY");
            if let Some(kind) = typed().find_map(|l| match l.data {
                Rdata::Fails(kind) => Some(kind),
                _ => None,
            }) {
                return Err(fail(kind));
            }
            if typed().any(|l| matches!(l.data, Rdata::Denied)) {
                return Ok(Answer { data: Data::NxDomain, secure, ttl, expanded: expanded(at) });
            }
            let found: Vec<T> = typed().filter_map(|l| pick(&l.data)).collect();
            if !found.is_empty() {
                ttl = typed().map(|l| l.ttl).fold(ttl, Duration::min);
                return Ok(Answer { data: Data::Records(found), secure, ttl, expanded: expanded(at) });
            }
            let alias = here().find_map(|l| match &l.data {
                Rdata::Cname(target) => Some((target.clone(), l.ttl)),
                _ => None,
            });
            let Some((target, alias_ttl)) = alias else {
                let ttl = ttl.min(DEFAULT_TTL);
                let exists = state.lines.iter().any(|l| l.owner.is_at_or_below(&at));
                let data = if exists { Data::NoData } else { Data::NxDomain };
                return Ok(Answer { data, secure, ttl, expanded: expanded(at) });
            };
            (at, ttl) = (target, ttl.min(alias_ttl));
        }
        Err(fail(DnsErrorKind::Malformed))
    }
}

impl Resolver for ZoneResolver {
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Mx>> {
        let answer = self.ask(name, "MX", |d| if let Rdata::Mx(mx) = d { Some(mx.clone()) } else { None });
        ready(answer).boxed()
    }

    fn addresses<'a>(&'a self, name: &'a Domain, family: Family) -> BoxFuture<'a, DnsResult<IpAddr>> {
        let record = if family == Family::V4 { "A" } else { "AAAA" };
        let answer = self.ask(name, record, |d| if let Rdata::Address(ip) = d { Some(*ip) } else { None });
        ready(answer).boxed()
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Vec<u8>>> {
        let answer = self.ask(name, "TXT", |d| if let Rdata::Txt(t) = d { Some(t.clone()) } else { None });
        ready(answer).boxed()
    }

    fn tlsa<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Tlsa>> {
        let answer = self.ask(name, "TLSA", |d| if let Rdata::Tlsa(t) = d { Some(t.clone()) } else { None });
        ready(answer).boxed()
    }

    fn cname<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        let answer =
            self.ask(name, "CNAME", |d| if let Rdata::Cname(t) = d { Some(t.clone()) } else { None });
        ready(answer).boxed()
    }

    fn ptr<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        let answer = self.ask(name, "PTR", |d| if let Rdata::Ptr(n) = d { Some(n.clone()) } else { None });
        ready(answer).boxed()
    }

    fn forget(&self, name: &Domain) {
        self.lock().forgotten.push(name.clone());
    }
}

/// Splits at blanks outside quotes and drops the comment; a quoted string keeps its opening quote as a mark.
fn tokens(line: &str) -> Vec<String> {
    let (mut out, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '"' if quoted => quoted = false,
            '"' => {
                quoted = true;
                word.push('"');
            }
            ';' if !quoted => break,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    out.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}

fn domain(text: &str, line: &str) -> Result<Domain, ZoneError> {
    Domain::parse_host(text).map_err(|_| ZoneError(line.to_owned()))
}

fn parse_line(owner: &str, rest: &[&str], line: &str) -> Result<Line, ZoneError> {
    let bad = || ZoneError(line.to_owned());
    let owner = domain(owner, line)?;
    let (ttl, rest) = match rest {
        [number, more @ ..] if number.bytes().all(|b| b.is_ascii_digit()) => {
            (Duration::from_secs(number.parse().map_err(|_| bad())?), more)
        }
        _ => (DEFAULT_TTL, rest),
    };
    let [record, args @ ..] = rest else { return Err(bad()) };
    let data = match (*record, args) {
        (_, ["NXDOMAIN"]) => Rdata::Denied,
        (_, ["BOGUS"]) => Rdata::Fails(DnsErrorKind::Bogus),
        (_, ["SERVFAIL"]) => Rdata::Fails(DnsErrorKind::Servfail),
        (_, ["REFUSED"]) => Rdata::Fails(DnsErrorKind::Refused),
        (_, ["TIMEOUT"]) => Rdata::Fails(DnsErrorKind::Timeout),
        (_, ["MALFORMED"]) => Rdata::Fails(DnsErrorKind::Malformed),
        (_, ["UNREACHABLE"]) => Rdata::Fails(DnsErrorKind::Unreachable),
        ("MX", [preference, exchange]) => Rdata::Mx(Mx {
            preference: preference.parse().map_err(|_| bad())?,
            exchange: if *exchange == "." { None } else { Some(domain(exchange, line)?) },
        }),
        ("A", [ip]) => Rdata::Address(IpAddr::V4(ip.parse().map_err(|_| bad())?)),
        ("AAAA", [ip]) => Rdata::Address(IpAddr::V6(ip.parse().map_err(|_| bad())?)),
        ("PTR", [target]) => Rdata::Ptr(domain(target, line)?),
        ("CNAME", [target]) => Rdata::Cname(domain(target, line)?),
        ("TLSA", [usage, selector, matching, hex]) => Rdata::Tlsa(Tlsa {
            usage: usage.parse().map_err(|_| bad())?,
            selector: selector.parse().map_err(|_| bad())?,
            matching: matching.parse().map_err(|_| bad())?,
            data: octets(hex).ok_or_else(bad)?,
        }),
        ("TXT", [_, ..]) => {
            Rdata::Txt(args.iter().map(|s| s.strip_prefix('"').unwrap_or(s)).collect::<String>().into_bytes())
        }
        _ => return Err(bad()),
    };
    Ok(Line { owner, record: (*record).to_owned(), ttl, data })
}

fn octets(hex: &str) -> Option<Vec<u8>> {
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).ok()?, 16).ok();
    hex.as_bytes().chunks(2).map(pair).collect()
}

const DEFAULT_TTL: Duration = Duration::from_secs(300);
const MAX_CHAIN: usize = 8;
