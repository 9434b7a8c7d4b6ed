//! `policy list`, `policy show`, `policy refresh`.

use super::args::Policy as Command;
use super::print::{clean, json, moment, relative, table};
use super::{Failure, Io, failed, relay};
use crate::admin::http::MAX_ROWS;
use crate::admin::view::{Policy, PolicyDetail};
use crate::config::Config;
use crate::mtasts::Mode;

pub(super) fn run(command: Command, config: &Config, io: &mut Io<'_>) -> Result<u8, Failure> {
    match command {
        Command::List { output } => {
            let mut list = relay::read(
                config,
                output.online,
                io,
                |client| client.get::<Vec<Policy>>(&format!("/v1/policies?limit={}", MAX_ROWS + 1)),
                async |stores| {
                    let list = stores.policies(None, MAX_ROWS + 1).await.map_err(|e| e.to_string())?;
                    let failing = stores.failing_refreshes().await.map_err(|e| e.to_string())?;
                    Ok(Some(Policy::list(&list, &failing)))
                },
            )?
            .unwrap_or_default();
            if list.len() > MAX_ROWS {
                list.truncate(MAX_ROWS);
                writeln!(io.err, "only the first {MAX_ROWS} policies are shown; there are more")?;
            }
            if output.json {
                json(io.out, &list)?;
            } else {
                let rows: Vec<_> = list.iter().map(|p| row(p, io)).collect();
                table(io.out, &["DOMAIN", "MODE", "ID", "FETCHED", "EXPIRES", "REFRESH", "MX"], &rows)?;
            }
        }
        Command::Show { domain, output } => {
            let detail = relay::read(
                config,
                output.online,
                io,
                |client| client.get::<PolicyDetail>(&format!("/v1/policies/{domain}")),
                async |stores| {
                    let row = stores.policy(domain.clone()).await.map_err(|e| e.to_string())?;
                    let history = stores.policy_history(domain.clone()).await.map_err(|e| e.to_string())?;
                    Ok(PolicyDetail::new(&domain, row, history))
                },
            )?
            .ok_or_else(|| failed(format!("nothing is known about a policy of {domain}")))?;
            if output.json { json(io.out, &detail)? } else { show(&detail, io)? }
        }
        Command::Refresh { domain, json: as_json } => {
            let policy: Policy = relay::change(config, |client| {
                client.post(&format!("/v1/policies/{domain}/refresh"), &serde_json::json!({}))
            })?;
            if as_json { json(io.out, &policy)? } else { describe(&policy, io)? }
        }
    }
    Ok(0)
}

const fn mode(m: Mode) -> &'static str {
    match m {
        Mode::Enforce => "enforce",
        Mode::Testing => "testing",
        Mode::None => "none",
    }
}

fn row(p: &Policy, io: &Io<'_>) -> Vec<String> {
    vec![
        p.domain.to_string(),
        mode(p.mode).to_owned(),
        p.id.clone(),
        relative(p.fetched, io.now),
        relative(p.expires, io.now),
        p.refresh_failing_since
            .map_or_else(|| "ok".to_owned(), |t| format!("failing since {}", relative(t, io.now))),
        p.mx.join(" "),
    ]
}

fn describe(p: &Policy, io: &mut Io<'_>) -> Result<(), Failure> {
    writeln!(io.out, "{}: {}, id {}", p.domain, mode(p.mode), clean(&p.id))?;
    writeln!(io.out, "  mx         {}", clean(&p.mx.join(" ")))?;
    writeln!(io.out, "  fetched    {}", moment(p.fetched, io.now))?;
    writeln!(io.out, "  expires    {}", moment(p.expires, io.now))?;
    writeln!(io.out, "  last used  {}", moment(p.last_used, io.now))?;
    Ok(())
}

fn show(d: &PolicyDetail, io: &mut Io<'_>) -> Result<(), Failure> {
    match &d.policy {
        Some(policy) => describe(policy, io)?,
        None => writeln!(io.out, "{}: no policy is stored", d.domain)?,
    }
    for (what, at) in [
        ("discovery has been failing since", d.grace_started),
        ("refreshes have been failing since", d.refresh_failing_since),
        ("no further fetch before", d.backoff_until),
    ] {
        if let Some(at) = at {
            writeln!(io.out, "  {what} {}", moment(at, io.now))?;
        }
    }
    if let Some(f) = &d.fetch_failure {
        writeln!(io.out, "  last fetch: {} ({}): {}", f.result, clean(&f.reason), clean(&f.detail))?;
    }
    if !d.lines.is_empty() {
        writeln!(io.out, "\nPolicy as fetched")?;
        for line in &d.lines {
            writeln!(io.out, "  {}", clean(line))?;
        }
    }
    if !d.history.is_empty() {
        writeln!(io.out, "\nHistory")?;
        for change in &d.history {
            writeln!(io.out, "  {}  {}", change.at, clean(&change.what))?;
        }
    }
    Ok(())
}
