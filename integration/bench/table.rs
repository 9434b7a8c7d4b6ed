//! Medians, goals, the table and the JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use crate::contender::Contender;
use crate::measure::Run;

/// More work of others than this, in cores, makes a run noisy.
const NOISE: f64 = 0.3;

/// How Sealpost's delivery is held, said wherever the rates are shown.
const HELD: &str = "Delivery held while accepting: Postfix by `static:HOLD`; Sealpost by the suspension that it \
                    writes itself once every MX host of a domain refuses connections.";

/// A figure of a run.
type Figure = fn(&Run) -> f64;

/// Against which Postfix.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    /// The tuned one.
    Tuned,
    /// The stock one.
    Stock,
    /// Nobody: the figure itself is asked for.
    Nobody,
}

/// A row of the table: a figure of one measure, and what is asked of its ratio, Sealpost to Postfix, or of itself.
struct Row {
    /// The goal's number, empty for a row without one.
    goal: &'static str,
    measure: &'static str,
    title: &'static str,
    figure: Figure,
    against: Against,
    /// Ratios to reach, or figures: `must`, `stretch`.
    wanted: Option<(f64, f64)>,
    /// Whether more is better.
    more: bool,
}

#[derive(Serialize)]
struct Summary {
    goal: &'static str,
    measure: &'static str,
    title: &'static str,
    sealpost: Option<f64>,
    postfix_tuned: Option<f64>,
    postfix_stock: Option<f64>,
    ratio: Option<f64>,
    must: Option<f64>,
    stretch: Option<f64>,
    verdict: &'static str,
}

const RATE: Figure = |r| r.rate;
const ACCEPT_RATE: Figure = |r| r.accept_rate;
const P50: Figure = |r| r.acknowledged.p50;
const P99: Figure = |r| r.acknowledged.p99;
const DELAY: Figure = |r| r.delay.p50;
/// Seconds for 10,000 messages.
const CPU: Figure = |r| r.usage.cpu / r.messages as f64 * 10_000.0;
const MEMORY: Figure = |r| r.usage.peak_memory as f64 / 1e6;
const FLUSHES: Figure = |r| r.usage.flushes.map_or(f64::NAN, |n| n as f64 / r.messages as f64);
const CONNECTIONS: Figure = |r| r.count.connections as f64 / r.messages as f64;
const IDLE: Figure = |r| r.idle_memory.map_or(f64::NAN, |n| n as f64 / 1e6);
const BANNER: Figure = |r| r.to_banner.unwrap_or(f64::NAN);
const WHOLE_CPU: Figure = |r| r.usage.cpu;

#[rustfmt::skip]
const ROWS: &[Row] = &[
    goal("G3", "accept-1-4k", "accept, 1 client, /s", RATE, (1.5, 2.5), true),
    plain("accept-1-4k", "  p50 ms", P50), plain("accept-1-4k", "  p99 ms", P99),
    plain("accept-1-4k", "  CPU s per 10,000", CPU), plain("accept-1-4k", "  peak memory MB", MEMORY),
    goal("G15", "accept-1-4k", "  disk flushes a message", FLUSHES, (1.0, 1.0), true),
    goal("G1", "accept-20-4k", "accept, 20 clients, /s", RATE, (3.0, 6.0), true),
    plain("accept-20-4k", "  p50 ms", P50),
    goal("G2", "accept-20-4k", "  p99 ms", P99, (0.5, 0.25), false),
    plain("accept-20-4k", "  CPU s per 10,000", CPU), plain("accept-20-4k", "  peak memory MB", MEMORY),
    plain("accept-20-4k", "  disk flushes a message", FLUSHES),
    goal("G4", "accept-100-4k", "accept, 100 clients, /s", RATE, (3.0, 6.0), true),
    plain("accept-100-4k", "  p50 ms", P50),
    goal("G4", "accept-100-4k", "  p99 ms", P99, (0.5, 0.5), false),
    plain("accept-100-4k", "  CPU s per 10,000", CPU), plain("accept-100-4k", "  peak memory MB", MEMORY),
    goal("G5", "accept-20-100k", "accept, 20 clients, 100 KB, /s", RATE, (1.0, 1.5), true),
    plain("accept-20-100k", "  p99 ms", P99),
    plain("relay-1", "relay end to end, 1 domain, /s", RATE),
    plain("relay-1", "  delay p50 ms", DELAY), plain("relay-1", "  connections a message", CONNECTIONS),
    plain("relay-1", "  CPU s per 10,000", CPU), plain("relay-1", "  peak memory MB", MEMORY),
    goal("G6", "relay-100", "relay end to end, 100 domains, /s", RATE, (2.5, 5.0), true),
    stock("G6", "relay-100", "  the same, against stock", RATE, (3.0, 3.0), true),
    plain("relay-100", "  accept /s", ACCEPT_RATE),
    goal("G7", "relay-100", "  accept p99 ms", P99, (1.0, 0.5), false),
    plain("relay-100", "  delay p50 ms", DELAY), plain("relay-100", "  connections a message", CONNECTIONS),
    goal("G10", "relay-100", "  CPU s per 10,000", CPU, (0.4, 0.2), false),
    goal("G12", "relay-100", "  peak memory MB", MEMORY, (0.5, 0.2), false),
    goal("G8", "drain-100", "drain, 100 domains, /s", RATE, (2.0, 4.0), true),
    plain("drain-100", "  accept /s while down", ACCEPT_RATE), plain("drain-100", "  connections a message", CONNECTIONS),
    goal("G11", "drain-100", "  CPU s per 10,000", CPU, (0.5, 0.25), false),
    plain("drain-100", "  peak memory MB", MEMORY),
    plain("drain-1000", "drain, 1,000 domains, /s", RATE), plain("drain-1000", "  connections a message", CONNECTIONS),
    plain("drain-1000", "  CPU s per 10,000", CPU),
    // A tenth of the sessions and domains with --quick.
    alone("evening-5000", "100,000 sessions to 5,000 domains in one day: the evening's work, CPU s", WHOLE_CPU, (60.0, 20.0)),
    alone("evening-5000", "  peak memory MB", MEMORY, (100.0, 50.0)),
    plain("evening-5000", "  reports /s", RATE),
    goal("G13", "", "idle memory MB", IDLE, (3.0, 1.5), false),
    goal("G13", "", "start to greeting, s", BANNER, (0.3, 0.3), false),
];

const fn goal(
    goal: &'static str,
    measure: &'static str,
    title: &'static str,
    figure: Figure,
    wanted: (f64, f64),
    more: bool,
) -> Row {
    Row { goal, measure, title, figure, against: Against::Tuned, wanted: Some(wanted), more }
}

const fn stock(
    name: &'static str,
    measure: &'static str,
    title: &'static str,
    figure: Figure,
    wanted: (f64, f64),
    more: bool,
) -> Row {
    Row { against: Against::Stock, ..goal(name, measure, title, figure, wanted, more) }
}

const fn alone(measure: &'static str, title: &'static str, figure: Figure, most: (f64, f64)) -> Row {
    Row { against: Against::Nobody, ..goal("", measure, title, figure, most, false) }
}

const fn plain(measure: &'static str, title: &'static str, figure: Figure) -> Row {
    Row { goal: "", measure, title, figure, against: Against::Tuned, wanted: None, more: true }
}

impl Row {
    /// Figures of the sound runs of one contender, smallest first.
    fn figures(&self, runs: &[Run], contender: Contender) -> Vec<f64> {
        let of_it = runs.iter().filter(|r| r.contender == contender && r.trouble.is_empty());
        let of_it = of_it.filter(|r| self.measure.is_empty() || r.measure == self.measure);
        let mut figures: Vec<f64> = of_it.map(self.figure).filter(|f| f.is_finite()).collect();
        figures.sort_unstable_by(f64::total_cmp);
        figures
    }

    fn summary(&self, runs: &[Run]) -> Summary {
        let of = |contender| median(&self.figures(runs, contender));
        let (sealpost, tuned, stock) =
            (of(Contender::Sealpost), of(Contender::PostfixTuned), of(Contender::PostfixStock));
        let other = match self.against {
            Against::Tuned => tuned,
            Against::Stock => stock,
            Against::Nobody => None,
        };
        let ratio = sealpost.zip(other).filter(|(_, o)| *o > 0.0).map(|(s, o)| s / o);
        let judged = if self.against == Against::Nobody { sealpost } else { ratio };
        let reached = |figure: f64, goal: f64| if self.more { figure >= goal } else { figure <= goal };
        let verdict = match (judged, self.wanted) {
            (Some(judged), Some((_, stretch))) if reached(judged, stretch) => "stretch",
            (Some(judged), Some((must, _))) if reached(judged, must) => "must",
            (Some(_), Some(_)) => "MISSED",
            _ => "",
        };
        Summary {
            goal: self.goal,
            measure: self.measure,
            title: self.title,
            sealpost,
            postfix_tuned: tuned,
            postfix_stock: stock,
            ratio,
            must: self.wanted.map(|w| w.0),
            stretch: self.wanted.map(|w| w.1),
            verdict,
        }
    }
}

/// One line for a finished run.
pub(crate) fn progress(run: &Run) -> String {
    let cpu = CPU(run);
    let noise = if run.usage.other_cpu > NOISE { " NOISY" } else { "" };
    let mut line = format!(
        "{} {:<14} {:<13} {:>7.0}/s  p50 {:.1} p99 {:.1} ms  CPU {cpu:.1} s/10k  {:.0} MB  other {:.2} cores{noise}",
        run.round,
        run.measure,
        run.contender.name(),
        run.rate,
        run.acknowledged.p50,
        run.acknowledged.p99,
        MEMORY(run),
        run.usage.other_cpu,
    );
    if !run.trouble.is_empty() {
        let _ = write!(line, "  TROUBLE: {}", run.trouble.join("; "));
    }
    line
}

/// The table, in Markdown.
pub(crate) fn text(runs: &[Run]) -> String {
    let mut out = String::from(
        "\n| goal | measure | Sealpost | Postfix tuned | Postfix stock | ratio | must | stretch | reached |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for row in ROWS {
        let summary = row.summary(runs);
        if summary.sealpost.or(summary.postfix_tuned).or(summary.postfix_stock).is_none() {
            continue;
        }
        let cell = |contender| spread(&row.figures(runs, contender));
        let bound = |goal: Option<f64>| {
            goal.map_or(String::new(), |g| format!("{} {g}", if row.more { "≥" } else { "≤" }))
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            row.goal,
            row.title.replace("  ", "– "),
            cell(Contender::Sealpost),
            cell(Contender::PostfixTuned),
            cell(Contender::PostfixStock),
            summary.ratio.map_or(String::new(), |r| format!("{r:.2}")),
            bound(summary.must),
            bound(summary.stretch),
            summary.verdict,
        );
    }
    let troubled = runs.iter().filter(|r| !r.trouble.is_empty()).count();
    let g16 = if troubled == 0 { "holds" } else { "MISSED" };
    let noisy = runs.iter().filter(|r| r.usage.other_cpu > NOISE).count();
    let mut others: Vec<f64> = runs.iter().map(|r| r.usage.other_cpu).collect();
    others.sort_unstable_by(f64::total_cmp);
    let _ = writeln!(
        out,
        "\nMedians (smallest–largest) of sound runs. Ratios: Sealpost to Postfix. {HELD}\n\
         G16, every accepted message and every report arrived exactly once and never in the clear: {g16} ({} runs, {troubled} troubled).\n\
         CPU of other programs: {} cores (median); {noisy} of {} runs above {NOISE}.",
        runs.len(),
        median(&others).map_or(String::new(), |m| format!("{m:.2}")),
        runs.len(),
    );
    out
}

/// Everything measured.
pub(crate) fn json(runs: &[Run], dir: &Path) -> Result<String> {
    let summary: Vec<Summary> = ROWS.iter().map(|r| r.summary(runs)).collect();
    let document = serde_json::json!({
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": said("uname", &["-sr"]),
        "filesystem": said("stat", &["-f", "-c", "%T", &dir.display().to_string()]),
        "postfix": said("postconf", &["-dh", "mail_version"]),
        "held": HELD,
        "summary": summary,
        "runs": runs,
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// What a program prints; empty when it cannot be run.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some((low + high) / 2.0)
}

fn spread(sorted: &[f64]) -> String {
    let digits = |f: f64| match f {
        f if f.abs() >= 100.0 => format!("{f:.0}"),
        f if f.abs() >= 10.0 => format!("{f:.1}"),
        f => format!("{f:.2}"),
    };
    match (median(sorted), sorted.first(), sorted.last()) {
        (Some(middle), Some(low), Some(high)) if sorted.len() > 1 => {
            format!("{} ({}–{})", digits(middle), digits(*low), digits(*high))
        }
        (Some(middle), ..) => digits(middle),
        _ => "–".to_owned(),
    }
}
