//! What an operator should look at: each sentence says what, where, and what to do.
//!
//! `bad` is what this relay fails at and only a person can mend here; `note` is everything else, above all what others
//! break: a recipient domain with a bad certificate is no reason to wake anybody.

use std::time::Duration;

use super::queue::{Cause, LONG, QueueStanding};
use super::{
    Besides, ConfigurationFile, Exception, PolicyStanding, Relay, ReportStanding, Silence, Status, counted,
};
use crate::clock::{Timestamp, rough};
use crate::config::{no_room, runs_out};
use crate::queue::DeferReason;
use crate::route::smart_host::Rules;
use crate::security::decide::Demand;
use crate::security::exception::Standing;
use crate::standing::{Check, Finding, Mark, relay};

/// Mail that waits longer for one cause is spoken of: its sender is told by then, too.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The same for causes that only we can mend. A relay that has just started gets as long to work off what waits.
const OURS_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Mail whose lifetime ends within this time is spoken of.
const RETURNED_SOON: Duration = Duration::from_secs(24 * 3600);
/// So many domains for which mail has waited long are no accident when nothing gets through.
const STANDSTILL_DOMAINS: u64 = 10;
/// Nor are so few recipients, when they came after the last success: there was nothing that could have gone instead of them
/// and went.
const STANDSTILL_RECIPIENTS: u64 = 3;
/// And not all of them at one domain: that is its own trouble.
const STANDSTILL_APART: u64 = 2;

/// Everything, the worst first.
pub(super) fn look_at(s: &Status, besides: Besides) -> Vec<Finding> {
    let Besides { silence, unreadable, standing, max_age, rules } = besides;
    let mut all = Vec::new();
    all.extend(silence.as_ref().map(silent));
    all.extend(process(s));
    all.extend(unreadable.map(|words| {
        Check::Store.bad(
            "",
            words,
            "see the log and the disk; a damaged database is restored, or moved away, by you",
        )
    }));
    all.extend(s.disk.as_ref().and_then(|d| {
        let words = no_room(&d.data_dir, d.free, d.needed)?;
        Some(Check::Disk.bad("queue.reserve", words, "make room, or move data_dir to a larger disk"))
    }));
    all.extend(certificate(s));
    if let Some(stored) = &s.stored {
        let queue = &stored.queue;
        all.extend(standstill(queue, s.relay.as_ref(), s.at));
        let waits = |cause| waits(cause, is_ours(cause, &rules), queue, s.at, max_age);
        all.extend(queue.causes.iter().filter_map(waits));
        all.extend(held(queue));
    }
    all.extend(dnssec(s));
    all.extend(s.configuration.as_ref().and_then(configuration));
    // That there is no sender is said below, by what waits for one.
    all.extend(standing.into_iter().filter(|f| f.mark == Mark::Bad && f.check != Check::Configuration));
    if let Some(stored) = &s.stored {
        all.extend(reports(&stored.reports));
        all.extend(policies(&stored.policies, s.at));
    }
    all.extend(s.exceptions.iter().filter(|e| e.state != Standing::InForce).map(exception));
    all.sort_by_key(|f| f.mark != Mark::Bad);
    all
}

fn silent(silence: &Silence) -> Finding {
    match silence {
        Silence::Unexpected(words) => Check::Relay.bad(
            "admin.listen",
            words,
            "start it (`sealpost serve`), or see in its log why it does not run",
        ),
        Silence::Configured => Check::Relay.note(
            "admin.listen",
            "the relay cannot be asked: what only it knows is not shown",
            "give it an address to listen on",
        ),
    }
}

fn process(s: &Status) -> Vec<Finding> {
    let (Some(relay), Some(ready)) = (&s.relay, &s.readiness) else { return Vec::new() };
    let mut found = Vec::new();
    if !ready.store_writable {
        found.push(Check::Store.bad(
            "",
            "the database takes no commits: no mail is accepted or delivered",
            "see its last error in the log; a damaged database is restored or moved away by you",
        ));
    }
    if relay.draining {
        let text =
            "the relay was told to stop: it makes no new attempts, and ends when the running ones have";
        found.push(Check::Relay.note("", text, ""));
    } else if !ready.listeners_up {
        found.push(Check::Relay.bad("listener", "not every listener listens", "see the log"));
    }
    found
}

fn certificate(s: &Status) -> Vec<Finding> {
    let Some(c) = &s.certificate else { return Vec::new() };
    let (check, file) = (Check::Certificate, c.file.display());
    let refused = c.refused.as_ref().map(|why| {
        let text = format!("what {file} holds now cannot be used: {why}; the one before stays in use");
        check.bad("tls.certificate", text, "mend the files of [tls]; they are read again at once")
    });
    let ends = runs_out(c.expires, s.at).map(|ends| {
        let (text, advice) = (format!("{file} {ends}"), "renew it");
        if c.expires <= s.at {
            check.bad("tls.certificate", text, advice)
        } else {
            check.note("tls.certificate", text, advice)
        }
    });
    refused.into_iter().chain(ends).collect()
}

/// Nothing goes out any more, whatever the causes are: what waits at one domain is its own trouble, what waits everywhere is
/// ours.
fn standstill(q: &QueueStanding, relay: Option<&Relay>, now: Timestamp) -> Option<Finding> {
    let just_started = relay.is_some_and(|r| now.since(r.started) < OURS_PATIENCE);
    let moves = q.last_finished.is_some_and(|last| now.since(last) < LONG);
    let (all, since) = (q.long, q.long_since);
    let still = all.domains >= STANDSTILL_DOMAINS
        || since.domains >= STANDSTILL_APART && since.recipients >= STANDSTILL_RECIPIENTS;
    (still && !moves && !just_started).then(|| {
        let since = q.last_finished.map_or_else(String::new, |last| format!(" since {last}"));
        Check::Queue.bad(
            "standstill",
            format!(
                "no message got through{since}, and {} at {} wait for an hour and more",
                counted(all.recipients, "recipient"),
                counted(all.domains, "domain")
            ),
            "look at the causes, and at this machine's network and resolver: `sealpost check --probe`",
        )
    })
}

/// Whether only we can mend it: it is about this machine, or about what our own rule demands or leads to. What the domain
/// promised, and what the sender asked for, is theirs.
fn is_ours(c: &Cause, rules: &Rules) -> bool {
    let Some(reason) = c.reason() else { return false };
    if matches!(reason, DeferReason::Auth | DeferReason::Local | DeferReason::Damaged) {
        return true;
    }
    let example = c.example.as_ref().filter(|e| !e.promised);
    let Some(rule) = example.and_then(|e| rules.of(&e.domain)) else { return false };
    match reason {
        DeferReason::TlsMissing
        | DeferReason::TlsHandshake
        | DeferReason::TlsCertificate
        | DeferReason::TlsaLookup => rule.next_hop.is_some() || rule.demand() != Demand::NOTHING,
        DeferReason::Connect
        | DeferReason::Lost
        | DeferReason::Protocol
        | DeferReason::Dns
        | DeferReason::Forbidden
        | DeferReason::Loop => rule.next_hop.is_some(),
        _ => false,
    }
}

fn waits(c: &Cause, ours: bool, q: &QueueStanding, now: Timestamp, max_age: Duration) -> Option<Finding> {
    let reason = c.reason();
    let age = now.since(c.oldest);
    if age < if ours { OURS_PATIENCE } else { PATIENCE } {
        return None;
    }
    let mut text = format!(
        "{} at {} wait, the oldest for {}",
        counted(c.recipients, "recipient"),
        counted(c.domains, "domain"),
        rough(age)
    );
    let left = c.oldest.after(max_age).since(now);
    if left <= RETURNED_SOON {
        text.push_str(&format!(", and goes back to its sender in {}", rough(left)));
    }
    if reason == Some(DeferReason::Connect) && q.suspended > 0 {
        text.push_str(&format!("; {} left alone after a failed probe", counted(q.suspended, "domain")));
    }
    let advice = match (reason, &c.example) {
        (Some(reason), Some(example)) if reason.is_policy() && example.promised => format!(
            "tell the postmaster of {} what `sealpost queue show {}` says; an [[exception]] lets the mail go",
            example.domain, example.id
        ),
        (Some(reason), example) => reason.advice(example.as_ref().is_none_or(|e| e.promised)).to_owned(),
        (None, _) => format!("`sealpost queue list --cause {}`", c.cause),
    };
    Some(if ours {
        Check::Queue.bad(&c.cause, text, advice)
    } else {
        Check::Queue.note(&c.cause, text, advice)
    })
}

fn held(q: &QueueStanding) -> Vec<Finding> {
    let (check, aside) = (Check::Queue, q.states.held.recipients.saturating_sub(q.damaged));
    let list = "`sealpost queue list --state held`";
    let damaged = (q.damaged > 0).then(|| {
        let text = format!("{} held, because their rows cannot be read", counted(q.damaged, "recipient"));
        check.bad("held", text, "see `row-damaged` in the log, and look at the disk")
    });
    let aside =
        (aside > 0).then(|| check.note("held", format!("{} held", counted(aside, "recipient")), list));
    damaged.into_iter().chain(aside).collect()
}

fn dnssec(s: &Status) -> Option<Finding> {
    let d = &s.dnssec;
    // Without the relay nobody has tested what is believed.
    if s.relay.is_none() && d.configured {
        return None;
    }
    Some(relay::dnssec(d.mode, d.believed, d.trouble, &d.words)).filter(|f| f.mark != Mark::Good)
}

/// The relay reads its configuration at start only.
fn configuration(c: &ConfigurationFile) -> Option<Finding> {
    let file = c.file.display();
    let (text, advice) = match (&c.unreadable, c.changed) {
        (Some(why), _) => (
            format!("{file} cannot be read any more: {why}; the relay runs with that of its start"),
            "put it back before the next start",
        ),
        (None, Some(at)) => (
            format!("{file} changed at {at}; the relay runs with that of its start"),
            "restart it, after `sealpost config check`",
        ),
        (None, None) => return None,
    };
    Some(Check::Configuration.note("", text, advice))
}

fn reports(r: &ReportStanding) -> Vec<Finding> {
    let check = Check::Reports;
    let obstacle = r.obstacle.as_ref().map(|why| {
        let text = format!("none is sent, and what was counted is dropped after two days: {why}");
        check.note("tls_rpt", text, "see `sealpost report check`, or write tls_rpt.enabled = false")
    });
    let failed = r.failures.first().map(|f| {
        let text = format!(
            "{} took none since {}; {} said to that about {} on {}: {}",
            counted(r.failed, "receiver"),
            r.since,
            f.uri,
            f.domain,
            f.day,
            f.reply
        );
        check.note("receivers", text, format!("`sealpost report show {}`", f.no.0))
    });
    let dropped = (r.dropped > 0 && r.obstacle.is_none()).then(|| {
        let text = format!("{} dropped unsent since {}", counted(r.dropped, "report"), r.since);
        check.note("dropped", text, "`sealpost report list` says why")
    });
    obstacle.into_iter().chain(failed).chain(dropped).collect()
}

fn policies(p: &PolicyStanding, now: Timestamp) -> Option<Finding> {
    let urgent: Vec<_> = p.failing_first.iter().filter(|p| p.urgent).collect();
    let first = urgent.first()?;
    let names: Vec<&str> = urgent.iter().map(|p| p.domain.as_str()).collect();
    let why = if first.why.is_empty() { String::new() } else { format!(": {}", first.why) };
    let text = format!(
        "not refreshed for {}; ends in {}, and with it the promise{why}",
        rough(now.since(first.since)),
        rough(first.expires.since(now))
    );
    Some(Check::Policies.note(names.join(", "), text, format!("`sealpost policy refresh {}`", first.domain)))
}

fn exception(e: &Exception) -> Finding {
    let (allow, until, words) = (e.allow.as_str(), e.until.utc_day(), e.state.words());
    let text = format!("{allow} until {until}, by {} ({}): {words}", e.by, e.reason);
    let advice = if e.state.holds() { "tell its postmaster, or write a later day" } else { "" };
    Check::Exception.note(&e.domain, text, advice)
}

#[cfg(test)]
mod tests;
