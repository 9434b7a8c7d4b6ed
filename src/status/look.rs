//! What an operator should look at: each sentence says what, where, and what to do.
//!
//! `bad` is what this relay fails at and only a person can mend here; `note` is everything else, above all what others
//! break: a recipient domain with a bad certificate is no reason to wake anybody.

use std::time::Duration;

use super::queue::{Cause, QueueStanding};
use super::{Besides, Exception, PolicyStanding, ReportStanding, Silence, Status, counted};
use crate::clock::{Timestamp, rough};
use crate::config::{no_room, runs_out};
use crate::queue::DeferReason;
use crate::security::exception::Standing;
use crate::standing::{Check, Finding, Mark, relay};

/// Mail that waits longer for one cause is spoken of: its sender is told by then, too.
const PATIENCE: Duration = Duration::from_secs(4 * 3600);
/// The same for causes that only we can mend.
const OURS_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Mail whose lifetime ends within this time is spoken of.
const RETURNED_SOON: Duration = Duration::from_secs(24 * 3600);
/// So many domains that cannot be reached are no accident when nothing else gets through.
const STANDSTILL_DOMAINS: u64 = 10;
/// Nothing got through for so long.
const STANDSTILL: Duration = Duration::from_secs(3600);

/// Everything, the worst first.
pub(super) fn look_at(s: &Status, besides: Besides) -> Vec<Finding> {
    let Besides { silence, unreadable, standing, max_age } = besides;
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
        all.extend(standstill(queue, s.at));
        all.extend(queue.causes.iter().filter_map(|cause| waits(cause, queue, s.at, max_age)));
        all.extend(held(queue));
    }
    all.extend(dnssec(s));
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

/// Nothing goes out any more: one domain that cannot be reached is its own trouble, many at once are ours.
fn standstill(q: &QueueStanding, now: Timestamp) -> Option<Finding> {
    let network = q.causes.iter().filter(|c| {
        let reason = c.reason();
        reason == Some(DeferReason::Connect) || reason == Some(DeferReason::Dns)
    });
    let network = network.filter(|c| now.since(c.oldest) >= STANDSTILL);
    let domains: u64 = network.map(|c| c.domains).sum();
    let since = q.last_finished.filter(|last| now.since(*last) < STANDSTILL);
    (domains >= STANDSTILL_DOMAINS && since.is_none()).then(|| {
        let since = q.last_finished.map_or_else(String::new, |last| format!(" since {last}"));
        Check::Queue.bad(
            "network",
            format!("no message got through{since}, and {domains} domains cannot be reached"),
            "look at this machine's network and resolver: `sealpost check --probe`",
        )
    })
}

fn waits(c: &Cause, q: &QueueStanding, now: Timestamp, max_age: Duration) -> Option<Finding> {
    let reason = c.reason();
    let ours = matches!(reason, Some(DeferReason::Auth | DeferReason::Local | DeferReason::Damaged));
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
    Some(relay::dnssec(d.configured, d.believed, d.warned, &d.words)).filter(|f| f.mark != Mark::Good)
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
