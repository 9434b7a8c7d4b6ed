//! `report check`, and `check` without a domain: how this relay stands in the eyes of others.

use std::sync::Arc;

use serde::Serialize;

use super::print::{clean, json};
use super::{Failure, Io, failed, relay};
use crate::app::{self, outbound};
use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::mail::Domain;
use crate::standing::{Finding, Mark, sound};
use crate::store::sqlite::SqliteStore;

/// What `--json` prints.
#[derive(Serialize)]
struct Standing<'a> {
    hostname: &'a Domain,
    at: Timestamp,
    sound: bool,
    findings: &'a [Finding],
}

/// `report check`.
pub(super) fn reports(as_json: bool, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    let findings = relay::block_on(async {
        let (resolver, _) = outbound::resolver(config, &clock(), Default::default())?;
        app::standing::reports(config, &*resolver).await
    })?
    .map_err(failed)?;
    print(&findings, as_json, config, io)
}

/// `check` without a domain.
pub(super) fn own(probe: bool, as_json: bool, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    let findings = relay::block_on(async {
        let clock = clock();
        let (resolver, self_test) = outbound::resolver(config, &clock, Default::default())?;
        // No relay has run here yet, or we may not read its database: then nothing is known of its clock.
        let last_written = match SqliteStore::open_read_only(&config.data_dir) {
            Ok(stores) => stores.last_written().await.unwrap_or_default(),
            Err(_) => None,
        };
        app::standing::relay(config, &*resolver, &self_test, clock.now(), last_written, probe).await
    })?
    .map_err(failed)?;
    print(&findings, as_json, config, io)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(app::SystemClock::new())
}

fn print(findings: &[Finding], as_json: bool, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    let status = u8::from(!sound(findings));
    if as_json {
        let standing = Standing { hostname: &config.hostname, at: io.now, sound: status == 0, findings };
        json(io.out, &standing)?;
        return Ok(status);
    }
    writeln!(io.out, "{} at {}", config.hostname, io.now)?;
    for f in findings {
        let mark = match f.mark {
            Mark::Good => "ok",
            Mark::Note => "note",
            Mark::Bad => "BAD",
        };
        let subject = if f.subject.is_empty() { String::new() } else { format!("{}: ", f.subject) };
        writeln!(io.out, "  {mark:<4}  {:<13}  {}{}", f.check.as_str(), clean(&subject), clean(&f.text))?;
        if !f.advice.is_empty() {
            writeln!(io.out, "  {:<4}  {:<13}  what to do: {}", "", "", clean(&f.advice))?;
        }
    }
    let count = |mark| findings.iter().filter(|f| f.mark == mark).count();
    let sentence = match (count(Mark::Bad), count(Mark::Note)) {
        (0, 0) => "All is as it should be.".to_owned(),
        (0, notes) => format!("Nothing would fail; {notes} to look at."),
        (bad, 0) => format!("{bad} would fail."),
        (bad, notes) => format!("{bad} would fail; {notes} more to look at."),
    };
    writeln!(io.out, "\n{sentence}")?;
    Ok(status)
}
