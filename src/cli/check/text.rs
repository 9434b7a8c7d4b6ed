//! What `check` found, for people: each step, the verdict per host, the final sentence.

use super::report::{HostReport, PolicyFacts, PolicyReport, Probe, Report, RuleReport};
use crate::cli::print::{clean, moment};
use crate::cli::{Failure, Io};
use crate::mtasts::Mode;
use crate::security::decide::TlsPolicy;
use crate::status::Exception;

pub(super) fn print(report: &Report, io: &mut Io<'_>) -> Result<(), Failure> {
    writeln!(io.out, "{} at {}", report.domain, report.at)?;
    match &report.route.error {
        None => writeln!(io.out, "  route     {}", describe_route(report))?,
        Some(words) => writeln!(io.out, "  route     {}", clean(words))?,
    }
    writeln!(io.out, "  dnssec    {}", report.dnssec)?;
    if let Some(r) = &report.rule {
        rule(r, io)?;
    }
    for e in &report.exceptions {
        exception(e, io)?;
    }
    policy(&report.policy, io)?;
    for host in &report.hosts {
        print_host(host, io)?;
    }
    let refused = if report.requiretls.accepted { "" } else { REFUSED };
    writeln!(io.out, "  requiretls {}{refused}", clean(&report.requiretls.sentence))?;
    writeln!(io.out)?;
    writeln!(io.out, "{}", clean(&report.sentence))?;
    if let Some(advice) = report.advice {
        writeln!(io.out, "What to do: {advice}")?;
    }
    if let Some(at) = report.configuration_changed {
        writeln!(
            io.out,
            "The configuration was changed at {at}, and the relay runs with that of its start: restart it."
        )?;
    }
    Ok(())
}

/// What is said where the listener does not offer REQUIRETLS.
const REFUSED: &str = " Senders cannot ask for it here: that takes DNSSEC that is believed (see dnssec), mta_sts.enabled and [tls].";

fn rule(r: &RuleReport, io: &mut Io<'_>) -> Result<(), Failure> {
    let hop = r.next_hop.as_ref().map_or_else(String::new, |hop| format!(", next hop {hop}"));
    writeln!(io.out, "  rule      [[destination]] \"{}\"{hop}", r.destination)?;
    writeln!(io.out, "    demands {} ({})", r.minimum_tls, r.because)?;
    if let Some(user) = &r.user {
        writeln!(
            io.out,
            "    auth    as {}, over verified TLS only; whether it is taken is not tried",
            clean(user)
        )?;
    }
    if r.own_roots {
        writeln!(io.out, "    roots   its own in place of [trust]")?;
    }
    let connections = r.max_connections.map(|n| format!("{n} connections"));
    let limits: Vec<String> = r.rate.iter().cloned().chain(connections).collect();
    if !limits.is_empty() {
        writeln!(io.out, "    limits  {}", limits.join(", "))?;
    }
    if let Some(unseen) = &r.unseen {
        writeln!(io.out, "    unseen  {unseen}")?;
    }
    Ok(())
}

fn exception(e: &Exception, io: &mut Io<'_>) -> Result<(), Failure> {
    let words = e.state.words();
    let state = if words.is_empty() { String::new() } else { format!(" ({words})") };
    writeln!(
        io.out,
        "  exception {} until {}, by {}: {}{state}",
        e.allow.as_str(),
        e.until.utc_day(),
        clean(&e.by),
        clean(&e.reason)
    )?;
    Ok(())
}

fn describe_route(report: &Report) -> String {
    let secure = if report.route.secure { "authenticated by DNSSEC" } else { "not authenticated by DNSSEC" };
    match (report.route.kind, report.hosts.len()) {
        ("mx", 1) => format!("MX records naming 1 host, {secure}"),
        ("mx", n) => format!("MX records naming {n} hosts, {secure}"),
        ("implicit mx", _) => format!("no MX record: the domain is its own mail host, {secure}"),
        ("next hop", _) => "a configured next hop; its name is ours and needs no DNSSEC".to_owned(),
        (kind, _) => kind.to_owned(),
    }
}

fn policy(p: &PolicyReport, io: &mut Io<'_>) -> Result<(), Failure> {
    if p.asked {
        writeln!(io.out, "  mta-sts   TXT: {}", clean(p.txt.as_deref().unwrap_or("")))?;
        match (&p.live, &p.live_failure) {
            (Some(facts), _) => writeln!(io.out, "    live    {}", describe(facts, io))?,
            (None, Some(f)) => {
                writeln!(io.out, "    live    {} ({}): {}", f.result, f.reason, clean(&f.detail))?
            }
            (None, None) => writeln!(io.out, "    live    none")?,
        }
    } else {
        writeln!(io.out, "  mta-sts   not asked for: {}", p.not_asked.unwrap_or("no reason"))?;
    }
    match &p.cached {
        Some(facts) => writeln!(io.out, "    cached  {}", describe(facts, io))?,
        None => writeln!(io.out, "    cached  none")?,
    }
    if p.asked {
        match (p.applied, p.applied_mode) {
            (Some(which), Some(mode)) => {
                writeln!(io.out, "    applies the {which} one, mode {}", word(mode))?
            }
            _ => writeln!(io.out, "    applies none: MTA-STS asks for nothing")?,
        }
        if let Some(when) = &p.live_applies {
            writeln!(io.out, "    fetches the live one {when}")?;
        }
    }
    Ok(())
}

const fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Testing => "testing",
        Mode::None => "none",
    }
}

fn describe(p: &PolicyFacts, io: &Io<'_>) -> String {
    format!(
        "{}, id {}, mx {}, fetched {}, expires {}",
        word(p.mode),
        clean(&p.id),
        clean(&p.mx.join(" ")),
        moment(p.fetched, io.now),
        moment(p.expires, io.now)
    )
}

fn print_host(host: &HostReport, io: &mut Io<'_>) -> Result<(), Failure> {
    let listed = match host.listed {
        Some(true) => ", listed by the policy",
        Some(false) => ", NOT listed by the policy",
        None => "",
    };
    let role = if host.is_hop { "next hop".to_owned() } else { format!("mx {:<5}", host.preference) };
    writeln!(io.out, "  {role}  {}{listed}", host.name)?;
    match &host.no_address {
        Some(words) => writeln!(io.out, "    address {}", clean(words))?,
        None => {
            let all: Vec<String> = host.addresses.iter().map(ToString::to_string).collect();
            let secure = match (host.addresses_from, host.addresses_secure) {
                ("dns", true) => " (authenticated by DNSSEC)",
                ("dns", false) => " (not authenticated by DNSSEC)",
                _ => " (from the configuration)",
            };
            writeln!(io.out, "    address {}{secure}", all.join(" "))?;
        }
    }
    match (&host.tlsa.base, &host.tlsa.error) {
        (Some(base), Some(error)) => writeln!(io.out, "    tlsa    below {base}: {}", clean(error))?,
        (Some(base), None) => {
            for line in &host.tlsa.records {
                let note = if line.usable { "" } else { " (cannot be used)" };
                writeln!(io.out, "    tlsa    {} below {base}, authenticated by DNSSEC{note}", line.record)?;
            }
        }
        (None, _) => writeln!(io.out, "    tlsa    {}", host.tlsa.none.unwrap_or("none"))?,
    }
    writeln!(io.out, "    demand  {}", host.demand)?;
    for p in &host.probes {
        print_probe(p, io)?;
    }
    writeln!(io.out, "    verdict {}", clean(&host.verdict))?;
    Ok(())
}

fn print_probe(p: &Probe, io: &mut Io<'_>) -> Result<(), Failure> {
    let requiretls = if p.requiretls { ", REQUIRETLS offered" } else { "" };
    writeln!(io.out, "    probe   {}: {}{requiretls}", p.address, clean(&p.tls))?;
    if let Some(c) = &p.certificate {
        writeln!(io.out, "            certificate for {}", clean(&c.names.join(" ")))?;
        writeln!(io.out, "            valid {} to {}", c.not_before, moment(c.not_after, io.now))?;
        writeln!(io.out, "            issued by {}", clean(&c.issuer))?;
        writeln!(io.out, "            sha256 {}", c.sha256)?;
    }
    for fault in &p.certificate_faults {
        let count = if p.faults_count { "" } else { ", of no account where a TLSA record decides" };
        writeln!(io.out, "            fault: {}{count}", clean(fault))?;
    }
    for t in &p.tlsa {
        writeln!(io.out, "            tlsa {}: {}", t.record, clean(&t.words))?;
    }
    if let Some(broken) = &p.broken {
        writeln!(io.out, "            promise broken: {}", clean(broken))?;
    }
    if let Some(waived) = &p.exception {
        writeln!(io.out, "            exception: {}", clean(&waived.to_string()))?;
    }
    if let Some(words) = &p.exception_insufficient {
        writeln!(io.out, "            exception: {}", clean(words))?;
    }
    if let Some(error) = &p.error {
        writeln!(io.out, "            failure: {}", clean(error))?;
    }
    Ok(())
}

/// What is demanded of a host, in one clause.
pub(super) fn demand(policy: &TlsPolicy) -> String {
    // What an exception cannot take away is demanded as ever: a password is shown to nobody else.
    if policy.waiver.is_some() && !policy.demand.authenticated() {
        return if policy.demand.tls {
            "TLS is required, with any certificate: an exception lets the rest be missing".to_owned()
        } else {
            "nothing is required: an exception lets even TLS be missing".to_owned()
        };
    }
    if policy.demand.dane && policy.wants_pkix() {
        format!(
            "TLS is required by {} policy, with a certificate that matches a TLSA record and is valid for {}",
            policy.required_by(),
            policy.host
        )
    } else if policy.demand.dane {
        format!(
            "TLS is required by {} policy, with a certificate that matches a TLSA record",
            policy.required_by()
        )
    } else if policy.demand.verified {
        format!(
            "TLS is required by {} policy, with a certificate valid for {}",
            policy.required_by(),
            policy.host
        )
    } else if policy.demand.tls {
        format!("TLS is required by {} policy", policy.required_by())
    } else {
        "nothing is required: TLS is used where it is offered".to_owned()
    }
}
