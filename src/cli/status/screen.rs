//! The screen of `status`: 80 columns, 24 lines while little is wrong, and never more than a few screens. Into a pipe
//! nothing is wrapped or cut.
//!
//! What should be looked at comes last, because that is what a terminal still shows.

use std::io;
use std::time::Duration;

use super::page::Page;
use crate::cli::print::relative;
use crate::clock::{Timestamp, rough};
use crate::config::size;
use crate::standing::{Check, Finding, Mark};
use crate::status::queue::{Cause, Count, Example, QueueStanding};
use crate::status::{PolicyStanding, ReportStanding, Status, counted};

/// Causes, exceptions and findings that are shown; `--json` has all.
const CAUSES: usize = 4;
const EXCEPTIONS: usize = 3;
const FINDINGS: usize = 6;
/// Lines of a finding; what to do is never cut off.
const FINDING_LINES: usize = 4;
/// Where the text of a finding begins.
const FINDING_MARGIN: usize = 6;
/// How much further an example is set in than the row that it belongs to.
const INDENT: usize = 2;
/// Mail that came within this time.
const FRESH: Duration = Duration::from_secs(60);

/// `terminal`: where `out` leads.
pub(super) fn print(s: &Status, out: &mut dyn io::Write, terminal: bool) -> io::Result<()> {
    let mut page = Page::new(out, terminal);
    head(s, &mut page)?;
    match &s.stored {
        Some(stored) => {
            queue(&stored.queue, s.at, &mut page)?;
            policies(&stored.policies, s.at, &mut page)?;
            reports(&stored.reports, s.at, &mut page)?;
        }
        None => page.section("queue", "the database cannot be read", 1)?,
    }
    // Said in full below, when it is to be looked at.
    let lines = if s.look_at.iter().any(|f| f.check == Check::Dnssec) { 1 } else { 2 };
    page.section("dnssec", &s.dnssec.words, lines)?;
    exceptions(s, &mut page)?;
    look_at(s, &mut page)
}

fn head(s: &Status, page: &mut Page<'_>) -> io::Result<()> {
    page.line(&format!("{}, sealpost {}, at {}", s.hostname, s.version, s.at))?;
    let mut parts = Vec::new();
    match &s.relay {
        Some(relay) => {
            let word = if relay.draining { "stopping, ran" } else { "up" };
            parts.push(format!("{word} {}", rough(s.at.since(relay.started))));
            let at = relay.listeners.iter().map(|l| format!("{} {}", l.protocol, l.address));
            parts.extend(at);
        }
        None => parts.push("does not answer".to_owned()),
    }
    parts.extend(s.disk.as_ref().map(|d| format!("{} free", size::rough(d.free))));
    page.section("relay", &parts.join(", "), 2)
}

fn queue(q: &QueueStanding, now: Timestamp, page: &mut Page<'_>) -> io::Result<()> {
    let states = &q.states;
    let all = [
        (&states.queued, "queued"),
        (&states.delivering, "delivering"),
        (&states.deferred, "deferred"),
        (&states.held, "held"),
    ];
    let state = |(count, word): (&Count, &str)| {
        // What has just come says nothing by its age.
        let oldest = count.oldest.map(|t| now.since(t)).filter(|age| *age >= FRESH);
        let oldest = oldest.map_or_else(String::new, |age| format!(" (oldest {})", rough(age)));
        format!("{} {word}{oldest}", count.recipients)
    };
    let all: Vec<_> = all.into_iter().filter(|(count, _)| count.recipients > 0).map(state).collect();
    if all.is_empty() {
        return page.section("queue", "empty", 1);
    }
    let mut text = if q.more { "at least ".to_owned() } else { String::new() };
    text.push_str(&all.join(", "));
    if q.domains > 0 {
        text.push_str(&format!(" for {}", counted(q.domains, "domain")));
    }
    if q.suspended > 0 {
        text.push_str(&format!(", {} left alone after a failed probe", q.suspended));
    }
    page.section("queue", &text, 3)?;
    if !q.causes.is_empty() {
        page.row(&columns("WAITS FOR", "RECIPIENTS", "DOMAINS", "OLDEST", "NEXT"))?;
    }
    for cause in q.causes.iter().take(CAUSES) {
        print_cause(cause, now, page)?;
    }
    left_out(q.causes.len(), CAUSES, "cause", page)?;
    if q.domains > 1 {
        let busy = q.busiest.iter().map(|b| format!("{} {}", b.domain, b.recipients));
        let busy = busy.collect::<Vec<_>>().join(", ");
        match q.domains.saturating_sub(q.busiest.len() as u64) {
            0 => page.section("domains", &busy, 1)?,
            n => page.section_with("domains", &format!("{busy},"), &format!("and {n} more"), 1)?,
        }
    }
    Ok(())
}

fn columns(cause: &str, recipients: &str, domains: &str, oldest: &str, next: &str) -> String {
    format!("{cause:<20} {recipients:>10}  {domains:>7}  {oldest:>6}  {next}")
}

fn print_cause(c: &Cause, now: Timestamp, page: &mut Page<'_>) -> io::Result<()> {
    let (recipients, domains) = (c.recipients.to_string(), c.domains.to_string());
    let oldest = rough(now.since(c.oldest));
    page.row(&columns(&c.cause, &recipients, &domains, &oldest, &due(c.next_attempt, now)))?;
    match &c.example {
        Some(example) => page.note(&words(example), INDENT, 2),
        None => Ok(()),
    }
}

/// What happened where, with the domain, the host and the certificate unless that is said already.
fn words(e: &Example) -> String {
    let code = e.code.map_or_else(String::new, |c| format!("{c} "));
    let host = e.host.as_ref().filter(|host| !e.text.contains(host.as_str()));
    let host = host.map_or_else(String::new, |host| format!("{host}: "));
    let named = host.contains(e.domain.as_str()) || e.text.contains(e.domain.as_str());
    let domain = if named { String::new() } else { format!("{}: ", e.domain) };
    let unsaid =
        e.certificate.as_ref().filter(|c| !c.names.iter().any(|name| e.text.contains(name.as_str())));
    let shown = unsaid
        .map_or_else(String::new, |c| format!(" [for {}, to {}]", c.names.join(", "), c.not_after.utc_day()));
    format!("{domain}{host}{code}{} {}{shown}", e.enhanced, e.text)
}

/// `now`, also for what is overdue.
fn due(t: Timestamp, now: Timestamp) -> String {
    relative(t.max(now), now)
}

fn policies(p: &PolicyStanding, now: Timestamp, page: &mut Page<'_>) -> io::Result<()> {
    let mut text = format!("{} enforce, {} testing, {} none", p.enforce, p.testing, p.none);
    if p.expired > 0 {
        text.push_str(&format!("; {} expired", p.expired));
    }
    if let Some(first) = p.failing_first.first() {
        let first = format!("{} ends {}", first.domain, due(first.expires, now));
        text.push_str(&format!("; {} failing: {first}", p.failing));
    }
    page.section("policies", &text, 2)
}

fn reports(r: &ReportStanding, now: Timestamp, page: &mut Page<'_>) -> io::Result<()> {
    let mut parts = Vec::new();
    parts.extend(r.next.map(|next| format!("{} due, next {}", r.due, due(next, now))));
    if r.on_the_way > 0 {
        parts.push(format!("{} on the way", r.on_the_way));
    }
    let mut made = format!("{} made", r.made);
    for (n, word) in [(r.failed, "not taken"), (r.dropped, "dropped")] {
        if n > 0 {
            made.push_str(&format!(", {n} {word}"));
        }
    }
    parts.push(format!("{made} since {}", r.since));
    parts.push(format!("{} today", counted(r.counted_today, "domain")));
    page.section("reports", &parts.join("; "), 2)
}

fn exceptions(s: &Status, page: &mut Page<'_>) -> io::Result<()> {
    for (n, e) in s.exceptions.iter().take(EXCEPTIONS).enumerate() {
        let state = if e.state.holds() { "" } else { "; no longer in force" };
        let (allow, until) = (e.allow.as_str(), e.until.utc_day());
        let text = format!("{} {allow} until {until}, by {}: {}{state}", e.domain, e.by, e.reason);
        page.section(if n == 0 { "exceptions" } else { "" }, &text, 2)?;
    }
    left_out(s.exceptions.len(), EXCEPTIONS, "exception", page)
}

fn left_out(all: usize, shown: usize, what: &str, page: &mut Page<'_>) -> io::Result<()> {
    match all.saturating_sub(shown) as u64 {
        0 => Ok(()),
        n => page.section("", &format!("and {} more: --json has all", counted(n, what)), 1),
    }
}

fn look_at(s: &Status, page: &mut Page<'_>) -> io::Result<()> {
    for f in s.look_at.iter().take(FINDINGS) {
        let mark = if f.mark == Mark::Bad { "BAD" } else { "note" };
        let (text, advice) = sentence(f);
        page.named(mark, &text, &advice, FINDING_MARGIN, FINDING_LINES)?;
    }
    left_out(s.look_at.len(), FINDINGS, "thing", page)?;
    let bad = s.look_at.iter().filter(|f| f.mark == Mark::Bad).count() as u64;
    let notes = (s.look_at.len() as u64).saturating_sub(bad);
    page.line(&match (bad, notes) {
        (0, 0) => "Nothing to look at.".to_owned(),
        (0, notes) => format!("Nothing needs a person here; {} to look at.", counted(notes, "thing")),
        (1, _) => "1 thing needs a person.".to_owned(),
        (bad, _) => format!("{bad} things need a person."),
    })
}

/// What and where; and what to do.
fn sentence(f: &Finding) -> (String, String) {
    let subject = if f.subject.is_empty() { String::new() } else { format!(" {}", f.subject) };
    let (stop, advice) = match &*f.advice {
        "" => ("", String::new()),
        advice => (".", format!("What to do: {advice}")),
    };
    (format!("{}{subject}: {}{stop}", f.check.as_str(), f.text), advice)
}

#[cfg(test)]
mod tests;
