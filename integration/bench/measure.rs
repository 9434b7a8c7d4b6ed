//! The runs: what is done in each, and in which order.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::contender::{Contender, Running};
use crate::evening;
use crate::ledger::{Count, Ledger};
use crate::loader::{self, Load, Loaded};
use crate::meter::{self, Meter, Usage};
use crate::options::Options;
use crate::sink::Sink;
use crate::site::{DARK, Site, domain};
use crate::table;

/// The sink may be silent so long before a run is given up.
const STALL: Duration = Duration::from_secs(60);

/// How long a contender may be busy with deferring before the sink comes up.
const SETTLE: Duration = Duration::from_secs(120);

/// One kind of run.
#[derive(Debug, Clone)]
pub(crate) struct Measure {
    /// As in `--measure` and the JSON.
    pub(crate) name: String,
    /// How mail goes through; `None`: the reports of a large day.
    kind: Option<Kind>,
    clients: usize,
    size: usize,
    messages: usize,
    domains: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Delivery is held: the rate at which messages become durable.
    Accept,
    /// Accepting and delivering at once, from the first message sent to the last one received.
    Relay,
    /// The sink is down while messages come in; from the flush, with the sink up, to the last one received.
    Drain,
}

/// Everything known about one run.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    /// Name of the measure.
    pub(crate) measure: String,
    /// Who was measured.
    pub(crate) contender: Contender,
    /// From 1.
    pub(crate) round: u32,
    /// Messages sent; sessions of a day.
    pub(crate) messages: usize,
    /// Messages a second: accepted, relayed or drained; reports sent.
    pub(crate) rate: f64,
    /// Messages a second that were accepted meanwhile (for a drain: before it, the sink down); sessions recorded.
    pub(crate) accept_rate: f64,
    /// Milliseconds from the end of data to the 250.
    pub(crate) acknowledged: Percentiles,
    /// Milliseconds from MAIL to the 250.
    pub(crate) transaction: Percentiles,
    /// Milliseconds from the end of data to arrival.
    pub(crate) delay: Percentiles,
    /// What it cost.
    pub(crate) usage: Usage,
    /// Both ends.
    pub(crate) count: Count,
    /// Seconds from start to greeting; `None` when nobody greets.
    pub(crate) to_banner: Option<f64>,
    /// Octets (PSS) at rest after the start; `None` when nothing rests.
    pub(crate) idle_memory: Option<u64>,
    /// What was wrong with this run; such a run counts against G16 and in no median.
    pub(crate) trouble: Vec<String>,
}

/// Exact ones, by sorting.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Percentiles {
    /// The middle.
    pub(crate) p50: f64,
    /// One in a hundred is worse.
    pub(crate) p99: f64,
}

/// Takes all measures and prints the table.
pub(crate) async fn all(options: &Options, scratch: &Path, private: bool) -> Result<ExitCode> {
    let site = Site::start(scratch, private).await.context("the private internet")?;
    let mut runs = Vec::new();
    let measures = measures(options);
    for round in 1..=options.rounds() {
        for measure in &measures {
            for contender in contenders(options, measure, private) {
                let number = runs.len() as u64 + 1;
                let dir = scratch.join(format!("run-{number}"));
                let run = once(measure, contender, round, number, &site, &dir).await;
                let run = run.with_context(|| format!("{} of {}", measure.name, contender.name()))?;
                eprintln!("{}", table::progress(&run));
                runs.push(run);
                // After every run, so that an interrupted bench has something to show.
                if let Some(file) = &options.json {
                    let text = table::json(&runs, scratch)?;
                    std::fs::write(file, text).with_context(|| file.display().to_string())?;
                }
                if !options.keep {
                    std::fs::remove_dir_all(&dir)?;
                }
            }
        }
    }
    print!("{}", table::text(&runs));
    Ok(if runs.iter().all(|r| r.trouble.is_empty()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn contenders<'a>(
    options: &'a Options,
    measure: &'a Measure,
    private: bool,
) -> impl Iterator<Item = Contender> + 'a {
    Contender::ALL.into_iter().filter(move |contender| {
        // The profiles differ in delivery only; held mail is accepted alike.
        let same_again = measure.kind == Some(Kind::Accept) && *contender == Contender::PostfixStock;
        // Nobody else makes reports.
        let alone = measure.kind.is_none() && *contender != Contender::Sealpost;
        options.wants(*contender) && !same_again && !alone && (private || *contender == Contender::Sealpost)
    })
}

fn measures(options: &Options) -> Vec<Measure> {
    let less = if options.quick { 10 } else { 1 };
    let measure = |kind: Kind, clients, kilobytes: usize, messages: usize, domains: usize| {
        let name = match kind {
            Kind::Accept => format!("accept-{clients}-{kilobytes}k"),
            Kind::Relay => format!("relay-{domains}"),
            Kind::Drain => format!("drain-{domains}"),
        };
        let domains =
            if kind == Kind::Accept { vec![DARK.to_owned()] } else { (0..domains).map(domain).collect() };
        Measure {
            name,
            kind: Some(kind),
            clients,
            size: kilobytes * 1024,
            messages: messages / less,
            domains,
        }
    };
    let mut all = vec![
        measure(Kind::Accept, 1, 4, 2_000, 1),
        measure(Kind::Accept, 20, 4, 10_000, 1),
        measure(Kind::Accept, 100, 4, 10_000, 1),
        measure(Kind::Relay, 20, 4, 5_000, 1),
        measure(Kind::Relay, 20, 4, 5_000, 100),
        measure(Kind::Drain, 20, 4, 10_000, 100),
        Measure {
            name: "evening-5000".to_owned(),
            kind: None,
            clients: 0,
            size: 0,
            messages: 100_000 / less,
            domains: (0..5_000 / less).map(domain).collect(),
        },
    ];
    if options.full {
        all.push(measure(Kind::Accept, 20, 100, 4_000, 1));
        all.push(measure(Kind::Drain, 20, 4, 10_000, 1000));
    }
    all.retain(|m| m.name.contains(&options.measure));
    all
}

async fn once(
    measure: &Measure,
    contender: Contender,
    round: u32,
    number: u64,
    site: &Site,
    dir: &Path,
) -> Result<Run> {
    let Some(kind) = measure.kind else {
        return evening(measure, contender, round, dir).await;
    };
    let ledger = Arc::new(Ledger::new(number, measure.messages));
    let load = Load { clients: measure.clients, size: measure.size, domains: measure.domains.clone() };
    let running = Running::start(contender, site, dir.to_owned(), kind == Kind::Accept).await?;
    let mut sink = None;
    if kind == Kind::Relay {
        sink = Some(Sink::start(site, &ledger).await?);
    }
    let mut meter = Meter::start(running.root, dir);
    let loaded = loader::run(running.submission, &load, &ledger).await?;
    let mut trouble: Vec<String> = loaded.refusal.iter().map(|r| format!("refused: {r}")).collect();
    let took = match kind {
        Kind::Accept => loaded.took,
        Kind::Relay => arrive(&ledger, &loaded, loaded.start, &mut trouble).await,
        Kind::Drain => {
            if !meter::quiet(running.root, SETTLE).await {
                trouble.push("still busy long after the last message".to_owned());
            }
            meter.stop();
            sink = Some(Sink::start(site, &ledger).await?);
            meter = Meter::start(running.root, dir);
            let start = Instant::now();
            running.flush().await?;
            arrive(&ledger, &loaded, start, &mut trouble).await
        }
    };
    let usage = meter.stop();
    let (to_banner, idle_memory) = (Some(running.to_banner.as_secs_f64()), Some(running.idle_memory));
    // What is on its way twice arrives before the contender is quiet.
    if kind != Kind::Accept {
        meter::quiet(running.root, Duration::from_secs(5)).await;
    }
    if let Err(error) = running.stop().await {
        trouble.push(format!("stop: {error:#}"));
    }
    drop(sink);
    let count = ledger.count();
    trouble.extend(wrong(kind, &count, measure.messages));
    Ok(Run {
        measure: measure.name.clone(),
        contender,
        round,
        messages: measure.messages,
        rate: count.accepted as f64 / took.as_secs_f64(),
        accept_rate: loaded.accepted as f64 / loaded.took.as_secs_f64(),
        acknowledged: percentiles(loaded.acknowledged),
        transaction: percentiles(loaded.whole),
        delay: percentiles(ledger.delays()),
        usage,
        count,
        to_banner,
        idle_memory,
        trouble,
    })
}

async fn evening(measure: &Measure, contender: Contender, round: u32, dir: &Path) -> Result<Run> {
    let domains = measure.domains.len();
    let evening = evening::measure(dir, measure.messages, domains).await?;
    Ok(Run {
        measure: measure.name.clone(),
        contender,
        round,
        messages: measure.messages,
        rate: domains as f64 / evening.usage.seconds,
        accept_rate: measure.messages as f64 / evening.day,
        acknowledged: Percentiles::default(),
        transaction: Percentiles::default(),
        delay: Percentiles::default(),
        usage: evening.usage,
        count: evening.count,
        to_banner: None,
        idle_memory: None,
        trouble: evening.trouble,
    })
}

/// Waits for everything accepted, and says how long it took from `start`.
async fn arrive(ledger: &Ledger, loaded: &Loaded, start: Instant, trouble: &mut Vec<String>) -> Duration {
    if !ledger.wait(loaded.accepted, STALL).await {
        trouble.push(format!("nothing arrived for {} s", STALL.as_secs()));
    }
    ledger.until_last_arrival(start)
}

/// G16, as words.
fn wrong(kind: Kind, count: &Count, messages: usize) -> Vec<String> {
    let expected = if kind == Kind::Accept { 0 } else { count.accepted };
    let checks = [
        (count.accepted != messages, format!("{} of {messages} accepted", count.accepted)),
        (count.unique != expected, format!("{} of {expected} arrived", count.unique)),
        (count.duplicates > 0, format!("{} duplicates", count.duplicates)),
        (count.plain > 0, format!("{} in the clear", count.plain)),
        (count.strange > 0, format!("{} of no known run", count.strange)),
    ];
    checks.into_iter().filter_map(|(wrong, words)| wrong.then_some(words)).collect()
}

fn percentiles(mut all: Vec<Duration>) -> Percentiles {
    all.sort_unstable();
    let at = |percent: usize| {
        let rank = (all.len() * percent).div_ceil(100).max(1) - 1;
        all.get(rank).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
    };
    Percentiles { p50: at(50), p99: at(99) }
}
