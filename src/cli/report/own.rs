//! `report preview`, `report send`, `report list`, `report show`: the reports of this relay.

use crate::admin::client::{encode, query};
use crate::admin::http::MAX_ROWS;
use crate::admin::reports::{Previewed, ReportRequest, ShownReport};
use crate::app;
use crate::cli::args::Output;
use crate::cli::print::{clean, json, moment, noted_table, relative, table};
use crate::cli::{Failure, Io, failed, relay};
use crate::config::Config;
use crate::mail::Domain;
use crate::status::counted;
use crate::store::sqlite::SqliteReader;
use crate::tlsrpt::service::{Preview, SendSummary, already, to_come, without_identity};
use crate::tlsrpt::{
    Day, DestinationState, ListedDestination, ListedReport, ReportFilter, ReportState, read as received,
};

use super::read::Sum;

pub(super) fn preview(
    day: Option<Day>,
    domain: Option<Domain>,
    output: Output,
    config: &Config,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let pairs = [("day", day.map(|d| d.to_string())), ("domain", domain.as_ref().map(ToString::to_string))];
    let path = format!("/v1/reports/preview{}", query(&pairs));
    let now = io.now;
    let found = relay::read(
        config,
        output.online,
        io,
        |client| client.get::<Previewed>(&path),
        async |stores| offline_preview(config, stores, day, domain.clone(), now).await.map(Some),
    )?
    .unwrap_or_default();
    if found.more {
        writeln!(io.err, "only the first {} reports are shown; name a --domain", Preview::LIMIT)?;
    }
    if output.json {
        // The texts as they are, so that nothing is rewritten on the way.
        writeln!(io.out, "[{}]", found.reports.join(",\n"))?;
        return Ok(0);
    }
    let which = day.unwrap_or_else(|| Day::of(now));
    if found.reports.is_empty() {
        writeln!(io.out, "No session was counted on {which}: there is nothing to report.")?;
        return Ok(0);
    }
    let mut sum = Sum::default();
    for text in &found.reports {
        received::read(text.as_bytes()).iter().flatten().for_each(|report| sum.add(report));
    }
    writeln!(
        io.out,
        "{} as they would be sent now, to those domains that ask for them; --json prints them\n",
        counted(found.reports.len() as u64, "report")
    )?;
    sum.print(io)?;
    Ok(0)
}

/// From the database of a relay that does not run. Sessions that it has not counted yet are left out.
async fn offline_preview(
    config: &Config,
    stores: &SqliteReader,
    day: Option<Day>,
    domain: Option<Domain>,
    now: crate::clock::Timestamp,
) -> Result<Previewed, String> {
    let identity = app::report_settings(config).identity().map_err(|e| without_identity(&e))?;
    let today = Day::of(now);
    let day = day.unwrap_or(today);
    if day > today {
        return Err(to_come(day, today));
    }
    let filter = ReportFilter { id: None, day: Some(day), domain: domain.clone() };
    let words = |e: crate::queue::StoreError| e.to_string();
    let domains = match domain {
        Some(domain) => vec![domain],
        None => stores.counted(day, None, Preview::LIMIT + 1).await.map_err(words)?,
    };
    let mut preview = Preview { reports: Vec::new(), more: domains.len() > Preview::LIMIT };
    for domain in domains.into_iter().take(Preview::LIMIT) {
        if let Some(counters) = stores.counters(day, domain).await.map_err(words)? {
            preview.add(&counters, &identity, (day == today).then_some(now))?;
        }
    }
    if preview.reports.is_empty() && day != today {
        already(day, &stores.reports(filter, MAX_ROWS).await.map_err(|e| e.to_string())?)?;
    }
    Ok(preview.into())
}

pub(super) fn send(
    request: &ReportRequest,
    as_json: bool,
    config: &Config,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let done: SendSummary = relay::change(config, |client| client.post("/v1/reports/send", request))?;
    if as_json {
        json(io.out, &done)?;
    } else {
        print_sent(&done, io)?;
    }
    Ok(u8::from(done.sent.is_empty()))
}

fn print_sent(done: &SendSummary, io: &mut Io<'_>) -> Result<(), Failure> {
    let SendSummary { day, sent, refused } = done;
    if sent.is_empty() && refused.is_empty() {
        writeln!(io.out, "No session was counted on {day}: there is nothing to report.")?;
        return Ok(());
    }
    if !sent.is_empty() {
        let rows: Vec<_> = sent
            .iter()
            .map(|s| {
                let how = match (s.partial, s.run) {
                    (true, _) => "so far",
                    (false, 0) => "whole day",
                    (false, _) => "again",
                };
                let row = vec![s.domain.to_string(), how.to_owned(), s.report_id.clone()];
                (row, s.destinations.clone())
            })
            .collect();
        writeln!(
            io.out,
            "{} of {day} on the way; `sealpost report list` shows the answers",
            counted(sent.len() as u64, "report")
        )?;
        noted_table(io.out, &["DOMAIN", "COVERS", "REPORT-ID"], &rows)?;
    }
    if !refused.is_empty() {
        let gap = if sent.is_empty() { "" } else { "\n" };
        writeln!(io.out, "{gap}{} not sent", counted(refused.len() as u64, "report"))?;
        let rows: Vec<_> = refused.iter().map(|r| vec![r.domain.to_string(), r.why.clone()]).collect();
        table(io.out, &["DOMAIN", "WHY"], &rows)?;
    }
    Ok(())
}

pub(super) fn list(
    filter: ReportFilter,
    output: Output,
    config: &Config,
    io: &mut Io<'_>,
) -> Result<u8, Failure> {
    let pairs = [
        ("day", filter.day.map(|d| d.to_string())),
        ("domain", filter.domain.as_ref().map(ToString::to_string)),
        ("limit", Some((MAX_ROWS + 1).to_string())),
    ];
    let mut found = relay::read(
        config,
        output.online,
        io,
        |client| client.get::<Vec<ListedReport>>(&format!("/v1/reports{}", query(&pairs))),
        async |stores| {
            stores.reports(filter.clone(), MAX_ROWS + 1).await.map(Some).map_err(|e| e.to_string())
        },
    )?
    .unwrap_or_default();
    if found.len() > MAX_ROWS {
        found.truncate(MAX_ROWS);
        writeln!(io.err, "only the newest {MAX_ROWS} reports are shown; name a --day or a --domain")?;
    }
    if output.json {
        json(io.out, &found)?;
        return Ok(0);
    }
    let rows: Vec<_> = found.iter().map(|report| row(report, io)).collect();
    noted_table(io.out, &["ID", "DAY", "DOMAIN", "STATE", "GOOD", "FAILED", "WHEN"], &rows)?;
    Ok(0)
}

/// A report, and a line for each destination, or for why there is none.
fn row(report: &ListedReport, io: &Io<'_>) -> (Vec<String>, Vec<String>) {
    let row = vec![
        report.no.0.to_string(),
        report.day.to_string(),
        report.domain.to_string(),
        stands(report),
        known(report, report.sessions.0),
        known(report, report.sessions.1),
        relative(report.at, io.now),
    ];
    let why = Some(report.why.clone()).filter(|why| !why.is_empty());
    let to = report.destinations.iter().map(|d| format!("{}: {}", name(d), answer(d, io)));
    (row, why.into_iter().chain(to).collect())
}

/// A number of sessions; it goes with the counters of a report that is never made.
fn known(report: &ListedReport, sessions: u64) -> String {
    match report.state {
        ReportState::Unwanted | ReportState::Dropped => "-".to_owned(),
        _ => sessions.to_string(),
    }
}

fn stands(report: &ListedReport) -> String {
    let word = match report.state {
        ReportState::Due => "due",
        ReportState::Sending => "sending",
        ReportState::Delivered => "delivered",
        ReportState::Failed => "failed",
        ReportState::Unwanted => "unwanted",
        ReportState::Dropped => "dropped",
    };
    if report.partial { format!("{word}, partial") } else { word.to_owned() }
}

fn name(d: &ListedDestination) -> String {
    if d.run == 0 { d.uri.clone() } else { format!("{} (again, {})", d.uri, d.run) }
}

fn answer(d: &ListedDestination, io: &Io<'_>) -> String {
    let word = match (d.state, d.attempts) {
        (DestinationState::Waiting, 0) => "not tried yet",
        (DestinationState::Waiting, _) => "waits",
        (DestinationState::Queued, _) => "in the queue",
        (DestinationState::Accepted, _) => "accepted",
        (DestinationState::Failed, _) => "failed",
    };
    let mut text = word.to_owned();
    if d.attempts > 1 {
        text = format!("{text}, {} tries", d.attempts);
    }
    if let (DestinationState::Waiting, Some(next)) = (d.state, d.next) {
        text = format!("{text}, next {}", relative(next, io.now));
    }
    // What the receiver answers comes with the end of the mail; `queue show` tells the rest.
    if let (DestinationState::Queued, Some(mail)) = (d.state, d.mail) {
        return format!("{text} as {mail}");
    }
    if d.reply.is_empty() { text } else { format!("{text}: {}", d.reply) }
}

pub(super) fn show(id: &str, output: Output, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    let shown = relay::read(
        config,
        output.online,
        io,
        |client| client.get::<ShownReport>(&format!("/v1/reports/{}", encode(id))),
        async |stores| {
            let filter = ReportFilter { id: Some(id.to_owned()), ..ReportFilter::default() };
            let list = stores.reports(filter, 1).await.map_err(|e| e.to_string())?;
            let Some(report) = list.into_iter().next() else { return Ok(None) };
            let octets = stores.report_octets(report.no).await.map_err(|e| e.to_string())?;
            ShownReport::new(report, octets).map(Some)
        },
    )?
    .ok_or_else(|| failed(format!("no report {}; `sealpost report list` names them", clean(id))))?;
    let ShownReport { report, text } = &shown;
    let missing = || match report.state {
        ReportState::Due => "it is not made yet: `sealpost report preview` shows what it will say".to_owned(),
        _ => format!("it was never made: {}", report.why),
    };
    if output.json {
        let text = text.as_ref().ok_or_else(|| failed(missing()))?;
        writeln!(io.out, "{text}")?;
        return Ok(0);
    }
    describe(report, io)?;
    match text {
        Some(text) => writeln!(io.out, "\n{}", clean(text))?,
        None => writeln!(io.out, "\n{}", clean(&missing()))?,
    }
    Ok(0)
}

fn describe(report: &ListedReport, io: &mut Io<'_>) -> Result<(), Failure> {
    writeln!(io.out, "Report {} about {} on {}: {}", report.no.0, report.domain, report.day, stands(report))?;
    if !report.report_id.is_empty() {
        writeln!(io.out, "  report-id  {}", clean(&report.report_id))?;
    }
    let when = if report.state == ReportState::Due { "due " } else { "made" };
    writeln!(io.out, "  {when}       {}", moment(report.at, io.now))?;
    let (good, failed) = (known(report, report.sessions.0), known(report, report.sessions.1));
    writeln!(io.out, "  sessions   {good} good, {failed} failed")?;
    for d in &report.destinations {
        writeln!(io.out, "  to         {}: {}", clean(&name(d)), clean(&answer(d, io)))?;
    }
    if !report.why.is_empty() {
        writeln!(io.out, "  why        {}", clean(&report.why))?;
    }
    Ok(())
}
