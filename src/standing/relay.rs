//! What others make of this relay before they read a word of its mail: its name, its reach, its clock.

use std::net::IpAddr;
use std::time::Duration;

use super::reports::records;
use super::{ASK_AGAIN, Check, Finding, Mark, Source};
use crate::clock::Timestamp;
use crate::dns::DnsResult;
use crate::dns::belief::Mode;
use crate::dns::self_test::Trouble;
use crate::mail::Domain;

/// The names of a source address, and what lies behind each.
#[derive(Debug, Clone)]
pub struct Names {
    /// PTR records of the address.
    pub ptr: DnsResult<Domain>,
    /// For each of them, whether it leads back to the address.
    pub back: Vec<(Domain, DnsResult<IpAddr>)>,
    /// The addresses of the EHLO name, of the same family.
    pub ehlo: DnsResult<IpAddr>,
}

/// PTR against EHLO name (RFC 5321 §4.1.4, RFC 1912 §2.1): what many receivers ask for before they take mail.
pub fn name(source: &Source, names: &Names) -> Finding {
    let (check, address, ehlo) = (Check::Ptr, source.address, &source.ehlo);
    if !source.public {
        return check.note(
            address,
            "an address that the Internet does not see: which one it sees instead cannot be known here",
            format!("make sure that the address which mail leaves from has a PTR record for {ehlo}"),
        );
    }
    let owner = format!("ask the owner of {address} for a PTR record {ehlo}, and give {ehlo} that address");
    let found = match records(&names.ptr) {
        Ok([]) => return check.bad(address, "has no PTR record: many hosts refuse its mail", owner),
        Ok(found) => found,
        Err(e) => return check.bad(address, e.to_string(), ASK_AGAIN),
    };
    let leads_back = |answer: &DnsResult<IpAddr>| records(answer).is_ok_and(|all| all.contains(&address));
    let all = found.iter().map(Domain::as_str).collect::<Vec<_>>().join(", ");
    if found.contains(ehlo) && leads_back(&names.ehlo) {
        return check.good(address, format!("is named {ehlo}, as EHLO says, and {ehlo} leads back to it"));
    }
    if let Some(e) = names.back.iter().find_map(|(_, answer)| answer.as_ref().err()) {
        return check.bad(address, e.to_string(), ASK_AGAIN);
    }
    match names.back.iter().find(|(_, answer)| leads_back(answer)) {
        Some((name, _)) => check.note(
            address,
            format!(
                "is named {name}, which leads back to it, but EHLO says {ehlo}: some hosts want them to agree"
            ),
            format!("set hostname = \"{name}\", or {owner}"),
        ),
        None => check.bad(
            address,
            format!("is named {all}, which does not lead back to it: many hosts refuse its mail"),
            owner,
        ),
    }
}

/// When nothing can be said about where mail leaves from.
pub fn no_source() -> Finding {
    Check::Ptr.bad(
        "",
        "this machine has no address to send from",
        "give it an address and a route to the Internet",
    )
}

/// Whether hosts could be reached at port 25; each with the words of its failure.
pub fn reach(port: u16, tried: &[(String, Result<(), String>)]) -> Finding {
    let check = Check::Port25;
    let failed = || {
        let each = tried.iter().filter_map(|(host, r)| r.as_ref().err().map(|e| format!("{host}: {e}")));
        each.collect::<Vec<_>>().join("; ")
    };
    match tried.iter().find(|(_, r)| r.is_ok()) {
        _ if tried.is_empty() => check.note(
            port,
            "not tried: no domain of this configuration has an MX host elsewhere",
            "try a domain that you know: sealpost check DOMAIN --probe",
        ),
        Some((host, _)) => check.good(port, format!("{host} answers")),
        None => check.bad(
            port,
            failed(),
            "see whether the provider of this machine lets mail out; many do so only when asked",
        ),
    }
}

/// The resolver and DNSSEC: who is believed, whether that holds now, what the self-test found to look at, and all of it in
/// words. What makes all mail wait fails, and so does a belief that was configured and had to be withdrawn, which leaves
/// promises unkept (DANE-02).
pub fn dnssec(mode: Mode, believed: bool, trouble: Option<Trouble>, words: &str) -> Finding {
    let check = Check::Dnssec;
    let withdrawn = !believed && matches!(mode, Mode::TrustAd | Mode::Validate);
    let stops_mail =
        matches!(trouble, Some(Trouble::NoAnswer | Trouble::DoesNotHold | Trouble::NoSignatures));
    match dnssec_advice(mode, trouble) {
        _ if believed && trouble.is_none() => check.good("", words),
        advice if withdrawn || stops_mail => check.bad("", words, advice),
        advice => check.note("", words, advice),
    }
}

/// What helps depends on who is believed and on what was found.
const fn dnssec_advice(mode: Mode, trouble: Option<Trouble>) -> &'static str {
    match (trouble, mode) {
        (Some(Trouble::NoAnswer), _) => {
            "see whether the resolver runs, can be reached from here and lets this machine ask, or name another one in \
             dns.servers"
        }
        (Some(Trouble::DoesNotHold), Mode::Validate) => {
            "put the keys of the root that is served into the file of dns.trust_anchor, or leave dns.trust_anchor out for \
             those of IANA; and look at the clock"
        }
        (Some(Trouble::DoesNotHold), _) => "look at the resolver's root keys and at its clock",
        (Some(Trouble::NoSignatures), _) => "name a resolver in dns.servers that passes DNSSEC records on",
        (Some(Trouble::Unauthenticated), _) => {
            "have the resolver validate, or write dns.dnssec = \"validate\": until then DANE protects nobody"
        }
        (Some(Trouble::Names), _) => {
            "name a signed domain in dns.self_test.secure, and in dns.self_test.bogus one with broken signatures or none"
        }
        (Some(Trouble::Partial), _) => {
            "mend that resolver, take it out of dns.servers, or name what it knows in dns.self_test"
        }
        (Some(Trouble::Lies), _) | (None, Mode::TrustAd | Mode::Validate) => {
            "mend the resolver, or name another one in dns.servers"
        }
        (None, Mode::NotLocal) => {
            "write dns.dnssec = \"validate\", run a validating resolver on this machine, or name one in \
             dns.trusted_servers: until then DANE protects nobody"
        }
        (None, Mode::Off) => {
            "write dns.dnssec = \"validate\", or \"auto\" with a validating resolver on this machine: until then DANE \
             protects nobody"
        }
    }
}

/// The day of this version: a clock before it is wrong.
const RELEASED: Timestamp = Timestamp::from_millis(1_795_305_600_000);
/// What a clock may go back by, as time servers do.
const SLIP: Duration = Duration::from_secs(60);

/// The clock, against what is known without asking anybody.
pub fn clock(now: Timestamp, last_written: Option<Timestamp>) -> Finding {
    let check = Check::Clock;
    let advice = "let a time server set the clock: certificates, policies and reports go by it";
    match last_written {
        _ if now < RELEASED => {
            check.bad("", format!("says {now}, which is before this version was made"), advice)
        }
        Some(last) if last > now.after(SLIP) => check.bad(
            "",
            format!("says {now}, and the database was last written at {last}: the clock was put back"),
            advice,
        ),
        _ => check.good("", format!("says {now}, and nothing speaks against it")),
    }
}

/// The authorities that others' certificates are judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    /// The base set.
    pub base: BaseRoots,
    /// Certificates of `trust.extra_roots`: file, and last day.
    pub extra: Vec<(String, Timestamp)>,
}

/// Where authorities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BaseRoots {
    /// Compiled in: as old as the version.
    Compiled,
    /// The operating system's.
    System,
    /// Only those of `trust.extra_roots`.
    None,
}

/// When compiled-in authorities should be renewed.
const STALE: Duration = Duration::from_secs(365 * 86_400);
/// How long before an authority's end it is spoken of.
const SOON: Duration = Duration::from_secs(30 * 86_400);

/// The age of the authorities.
pub fn roots(now: Timestamp, roots: &Roots) -> Vec<Finding> {
    let check = Check::Roots;
    let mut findings = vec![match roots.base {
        BaseRoots::Compiled if now > RELEASED.after(STALE) => check.note(
            "webpki",
            format!("the authorities of {} are over a year old", RELEASED.utc_day()),
            "install a newer version of sealpost, or write trust.roots = \"system\"",
        ),
        BaseRoots::Compiled => check.good("webpki", format!("the authorities of {}", RELEASED.utc_day())),
        BaseRoots::System => {
            check.good("system", "the authorities of this system, as old as its last update")
        }
        BaseRoots::None => check.good("none", "only the authorities of trust.extra_roots"),
    }];
    findings.extend(roots.extra.iter().filter(|(_, end)| *end < now.after(SOON)).map(|(file, end)| {
        let (mark, verb) = if *end < now { (Mark::Bad, "ended") } else { (Mark::Note, "ends") };
        check.finding(
            mark,
            file,
            format!("an authority {verb} on {}", end.utc_day()),
            "replace it in trust.extra_roots",
        )
    }));
    findings
}
