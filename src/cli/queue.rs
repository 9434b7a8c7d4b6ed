//! `queue list`, `queue show`, `queue retry`.

use super::args::Queue as Command;
use super::print::{clean, json, moment, relative, table};
use super::{Failure, Io, failed, relay};
use crate::admin::client::query;
use crate::admin::http::RetryRequest;
use crate::admin::view::{Message, Recipient, Retried, Row};
use crate::config::{Config, size};
use crate::queue::outcome::Promise;
use crate::queue::{DeferReason, Diagnosis, Filter, RecipientState};
use crate::status::counted;

/// More rows than this are not touched without asking.
const ASK_ABOVE: usize = 100;

pub(super) fn run(command: Command, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    match command {
        Command::List { select, limit, output } => {
            let filter = select.filter(Vec::new(), None);
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            // One more than asked for tells whether there are more.
            let asked = limit.saturating_add(1);
            let mut rows = relay::read(
                config,
                output.online,
                io,
                |client| client.get::<Vec<Row>>(&list_path(&filter, asked)),
                async |stores| {
                    let rows = stores.list(filter.clone(), asked).await.map_err(|e| e.to_string())?;
                    Ok(Some(rows.iter().map(|r| Row::new(r, config.queue.max_age)).collect()))
                },
            )?
            .unwrap_or_default();
            let cut = rows.len() > limit;
            rows.truncate(limit);
            if output.json {
                json(io.out, &rows)?
            } else {
                print_rows(&rows, io)?
            }
            if cut {
                let more = "there are more: narrow the selection or raise --limit";
                writeln!(io.err, "only the {limit} oldest rows are shown; {more}")?;
            }
        }
        Command::Show { id, output } => {
            let message = relay::read(
                config,
                output.online,
                io,
                |client| client.get::<Message>(&format!("/v1/queue/{id}")),
                async |stores| {
                    let message = stores.show(id).await.map_err(|e| e.to_string())?;
                    Ok(message.map(|m| Message::new(&m, config.queue.max_age)))
                },
            )?
            .ok_or_else(|| failed(format!("no message {id} in queue or history")))?;
            if output.json { json(io.out, &message)? } else { print_message(&message, io)? }
        }
        Command::Retry { ids, select, recipient, all, yes, json: as_json } => {
            let filter = select.filter(ids, recipient);
            if filter == Filter::default() && !all {
                let words =
                    "say which: message ids, --domain, --state, --sender, --cause, --recipient, or --all";
                return Err(Failure::Words(2, words.to_owned()));
            }
            if !yes && !confirmed(config, &filter, io)? {
                return Err(failed("nothing was changed"));
            }
            // A mistyped id must not look like work done.
            for id in &filter.ids {
                let path = format!("/v1/queue/{id}");
                relay::change(config, |client| client.get::<Message>(&path))?;
            }
            let request = RetryRequest { filter, all };
            let done: Retried = relay::change(config, |client| client.post("/v1/queue/retry", &request))?;
            if as_json {
                json(io.out, &done)?
            } else {
                print_retried(&done, io)?
            }
            let nothing = done.touched.recipients == 0 && done.touched.in_flight == 0;
            if nothing && !request.filter.ids.is_empty() {
                io.out.flush()?;
                return Err(failed("nothing of it waits: `sealpost queue show ID` says what became of it"));
            }
        }
    }
    Ok(0)
}

fn list_path(filter: &Filter, limit: usize) -> String {
    let state = filter.state.map(|s| word(s).to_owned());
    let ids: Vec<String> = filter.ids.iter().map(ToString::to_string).collect();
    let pairs = [
        ("ids", (!ids.is_empty()).then(|| ids.join(","))),
        ("domain", filter.domain.as_ref().map(ToString::to_string)),
        ("state", state),
        ("sender", filter.sender.clone()),
        ("cause", filter.cause.clone()),
        ("recipient", filter.recipient.clone()),
        ("limit", Some(limit.to_string())),
    ];
    format!("/v1/queue{}", query(&pairs))
}

const fn word(state: RecipientState) -> &'static str {
    match state {
        RecipientState::Queued => "queued",
        RecipientState::Delivering => "delivering",
        RecipientState::Deferred => "deferred",
        RecipientState::Held => "held",
        RecipientState::Delivered => "delivered",
        RecipientState::Bounced => "bounced",
        RecipientState::Deleted => "deleted",
    }
}

/// Whether at most [`ASK_ABOVE`] rows are meant, or a person says yes.
fn confirmed(config: &Config, filter: &Filter, io: &mut Io<'_>) -> Result<bool, Failure> {
    let rows: Vec<Row> = relay::change(config, |client| client.get(&list_path(filter, ASK_ABOVE + 1)))?;
    if rows.len() <= ASK_ABOVE {
        return Ok(true);
    }
    if !io.interactive {
        return Err(failed(format!("this means more than {ASK_ABOVE} recipients; repeat it with --yes")));
    }
    write!(io.err, "This means more than {ASK_ABOVE} recipients. Go on? [y/N] ")?;
    io.err.flush()?;
    let mut answer = String::new();
    io.input.read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn print_rows(rows: &[Row], io: &mut Io<'_>) -> Result<(), Failure> {
    let cells: Vec<_> = rows
        .iter()
        .map(|r| {
            vec![
                r.id.to_string(),
                word(r.state).to_owned(),
                relative(r.arrived, io.now),
                r.attempts.to_string(),
                r.next_attempt.map_or_else(|| "-".to_owned(), |t| relative(t, io.now)),
                if r.sender.is_empty() { "<>".to_owned() } else { r.sender.clone() },
                r.sender_tls
                    .as_ref()
                    .map_or_else(|| r.recipient.clone(), |tag| format!("{} [{tag}]", r.recipient)),
                r.last.as_ref().map_or_else(String::new, |l| format!("{} {}", l.enhanced, l.text)),
            ]
        })
        .collect();
    table(io.out, &["ID", "STATE", "ARRIVED", "TRIES", "NEXT", "SENDER", "RECIPIENT", "LAST"], &cells)?;
    Ok(())
}

fn print_retried(done: &Retried, io: &mut Io<'_>) -> Result<(), Failure> {
    let t = done.touched;
    writeln!(
        io.out,
        "{} of {}: due now",
        counted(t.recipients, "recipient"),
        counted(t.messages, "message")
    )?;
    for row in &done.flying {
        writeln!(io.out, "in flight, left alone: {} {}", row.id, clean(&row.recipient))?;
    }
    let unnamed = t.in_flight.saturating_sub(done.flying.len() as u64);
    if unnamed > 0 {
        writeln!(io.out, "in flight, left alone: {unnamed} more")?;
    }
    Ok(())
}

fn print_message(m: &Message, io: &mut Io<'_>) -> Result<(), Failure> {
    let now = io.now;
    let sender = if m.sender.is_empty() { "<> (the null sender)" } else { &m.sender };
    writeln!(io.out, "Message {}", m.id)?;
    writeln!(io.out, "  Message-ID  {}", clean(&m.message_id))?;
    writeln!(io.out, "  sender      {}", clean(sender))?;
    writeln!(io.out, "  origin      {}, from {}", m.origin.as_str(), clean(&m.submitter))?;
    writeln!(io.out, "  size        {}", size::format(m.size))?;
    writeln!(io.out, "  arrived     {}", moment(m.arrived, now))?;
    writeln!(io.out, "  expires     {}", moment(m.expires, now))?;
    for (name, value) in [("ENVID", &m.envid), ("RET", &m.ret), ("TLS", &m.sender_tls)] {
        if let Some(value) = value {
            writeln!(io.out, "  {name:<11} {}", clean(value))?;
        }
    }
    writeln!(io.out, "\nRecipients")?;
    for r in &m.recipients {
        print_recipient(r, io)?;
    }
    writeln!(io.out, "\nTimeline")?;
    if m.timeline.is_empty() {
        writeln!(io.out, "  no attempt yet")?;
    }
    for entry in &m.timeline {
        writeln!(io.out, "  {}  attempt {}, {}", entry.at, entry.attempt, entry.domain)?;
        for step in &entry.steps {
            let host = step.host.as_ref().map_or_else(String::new, |h| format!("{h} "));
            let ip = step.ip.map_or_else(String::new, |ip| format!("[{ip}] "));
            writeln!(io.out, "      {host}{ip}{}", clean(&step.what))?;
        }
        for result in &entry.results {
            let cause = if result.cause.is_empty() { String::new() } else { format!(" ({})", result.cause) };
            let reply = reply(&result.diagnosis);
            writeln!(io.out, "      {}: {}{cause}: {reply}", clean(&result.recipient), result.outcome)?;
        }
    }
    if !m.header.is_empty() {
        writeln!(io.out, "\nHeader")?;
        for line in m.header.lines() {
            writeln!(io.out, "  {}", clean(&line.replace('\t', "    ")))?;
        }
    }
    Ok(())
}

fn print_recipient(r: &Recipient, io: &mut Io<'_>) -> Result<(), Failure> {
    let now = io.now;
    let next = r.next_attempt.map_or_else(String::new, |t| format!(", next attempt {}", moment(t, now)));
    writeln!(io.out, "  {}", clean(&r.recipient))?;
    writeln!(io.out, "      {}, attempts so far {}{next}", word(r.state), r.attempts)?;
    let cause = DeferReason::parse(&r.cause);
    if let Some(d) = &r.last {
        let why = if r.cause.is_empty() { "last" } else { r.cause.as_str() };
        writeln!(io.out, "      {why}: {}", reply(d))?;
        let host = d.host.as_ref().map_or_else(String::new, |h| format!(" at {h}"));
        let ip = d.ip.map_or_else(String::new, |ip| format!(" [{ip}]"));
        let level = d.security.map_or_else(String::new, |l| format!(", security {l}"));
        let tls = d.tls_failure.map_or_else(String::new, |f| format!(", TLS failure {f}"));
        writeln!(io.out, "      stage {}{host}{ip}{level}{tls}, {}", d.stage.as_str(), moment(d.at, now))?;
        print_promise(d, io)?;
        if let Some(waived) = &d.waived {
            writeln!(io.out, "      exception: {}", clean(&waived.to_string()))?;
        }
    }
    if let Some(reason) =
        cause.filter(|_| matches!(r.state, RecipientState::Queued | RecipientState::Deferred))
    {
        let advice = r.last.as_ref().map_or_else(|| reason.advice(true).into(), |d| d.advice(reason));
        writeln!(io.out, "      what to do: {advice}")?;
    }
    Ok(())
}

/// What the domain promised, which check failed, and the certificate that was shown.
fn print_promise(d: &Diagnosis, io: &mut Io<'_>) -> Result<(), Failure> {
    if let Some(p) = &d.promise {
        writeln!(io.out, "      promise: {}", clean(&promise(p)))?;
        if let Some(until) = p.expires {
            writeln!(io.out, "      promise holds until {}", moment(until, io.now))?;
        }
        if let Some(broken) = &p.broken {
            writeln!(io.out, "      broken: {}", clean(broken))?;
        }
        if !p.would_match.is_empty() {
            let records = clean(&p.would_match.join(", "));
            writeln!(io.out, "      the certificate shown would match: {records}")?;
        }
    }
    if let Some(c) = d.certificate() {
        writeln!(
            io.out,
            "      certificate: for {}, issued by {}",
            clean(&c.names.join(" ")),
            clean(&c.issuer)
        )?;
        writeln!(
            io.out,
            "      certificate: {} to {}, SHA-256 {}",
            c.not_before,
            c.not_after,
            clean(&c.sha256)
        )?;
    }
    Ok(())
}

/// In the words of its kind: an MTA-STS policy has a mode, an id and patterns, DANE has records.
fn promise(p: &Promise) -> String {
    match (p.kind.as_str(), p.mx.is_empty()) {
        ("dane", false) => format!("TLSA records of {}: {}", p.id, p.mx.join(", ")),
        ("dane", true) => format!("TLSA records of {}, if it has any", p.id),
        (kind, _) => format!("{kind} {}, id {}, mx {}", p.mode, p.id, p.mx.join(" ")),
    }
}

/// `550 5.1.1 no such user`.
fn reply(d: &Diagnosis) -> String {
    let perhaps = if d.maybe_delivered { " (perhaps delivered)" } else { "" };
    format!("{}{perhaps}", clean(&d.line()))
}

#[cfg(test)]
mod tests;
