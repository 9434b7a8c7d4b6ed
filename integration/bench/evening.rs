//! A day of 100,000 sessions to 5,000 domains that ask for reports, and the evening on which those are made and sent.
//!
//! The store, the counting, the planning, the making and the signing are the real ones, in a process of their own
//! whose every octet and tick is theirs. Doubles stand for the DNS, the receivers of POSTs and the time, which would
//! cost more than what is measured. Half of what goes out is POSTed, the other half is handed to the queue.

use std::collections::HashMap;
use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::clock::{Clock as _, ManualClock, Timestamp};
use sealpost::dkim::{Algorithm, Signers, SigningKey, keygen};
use sealpost::dns::zone::ZoneResolver;
use sealpost::mail::{Domain, Mailbox};
use sealpost::queue::{NewMessage, QueueStore as _, StoreError};
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use sealpost::tlsrpt::service::{Parts, ReportService, ReportSettings};
use sealpost::tlsrpt::{
    AppliedPolicy, FailureDetail, PolicyVerdict, Posted, ReportFilter, ReportMailer, ReportPoster,
    ReportStore as _, ResultType, SessionRecord, SessionStore as _,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::ledger::Count;
use crate::meter::{Meter, Usage};

/// The command that makes this program the process that is measured.
pub(crate) const COMMAND: &str = "evening";
/// The day, or the evening, may take so long before a run is given up.
const PATIENCE: Duration = Duration::from_secs(600);
/// Sessions between two waits for the store, fewer than fit its inbox: a day has more time than this.
const SLICE: usize = 1000;
/// Ways in which each report goes out.
const WAYS: usize = 2;

/// What the measured process says at the end.
#[derive(Debug, Serialize, Deserialize)]
struct Outcome {
    /// Different destinations that were reached.
    unique: usize,
    /// Arrivals in all.
    arrivals: usize,
    /// Sessions that the reports tell of.
    sessions: u64,
}

/// What was measured.
pub(crate) struct Evening {
    /// Of the evening alone, but for memory: that of the day too.
    pub(crate) usage: Usage,
    /// Seconds that the day took.
    pub(crate) day: f64,
    /// Reports at their receivers.
    pub(crate) count: Count,
    /// What was wrong.
    pub(crate) trouble: Vec<String>,
}

/// One day and its evening, in a process of their own.
pub(crate) async fn measure(dir: &Path, sessions: usize, domains: usize) -> Result<Evening> {
    std::fs::create_dir(dir)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(COMMAND)
        .arg(dir)
        .args([sessions.to_string(), domains.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let root = child.id().context("it has ended")?;
    let mut said = BufReader::new(child.stdout.take().context("stdout")?).lines();
    let mut stdin = child.stdin.take().context("stdin")?;
    let mut line = async || {
        let line = tokio::time::timeout(PATIENCE, said.next_line()).await.context("it takes too long")??;
        line.context("it has ended")
    };
    let meter = Meter::start(root, dir);
    line().await?;
    let day = meter.stop();
    let meter = Meter::start(root, dir);
    stdin.write_all(b"\n").await?;
    let outcome: Outcome = serde_json::from_str(&line().await?)?;
    let usage = meter.stop();
    drop(stdin);
    let mut trouble = Vec::new();
    if !child.wait().await?.success() {
        trouble.push("it did not end well".to_owned());
    }
    let (expected, Outcome { unique, arrivals, sessions: told }) = (domains * WAYS, outcome);
    let duplicates = arrivals - unique;
    for (wrong, words) in [
        (unique != expected, format!("{unique} of {expected} arrived")),
        (duplicates > 0, format!("{duplicates} duplicates")),
        (told != sessions as u64, format!("reports tell of {told} of {sessions} sessions")),
    ] {
        trouble.extend(wrong.then_some(words));
    }
    let usage = Usage { peak_memory: usage.peak_memory.max(day.peak_memory), ..usage };
    let count = Count { accepted: expected, unique, duplicates, ..Count::default() };
    Ok(Evening { usage, day: day.seconds, count, trouble })
}

/// The measured process: a line when the day is recorded, another when all reports are out; it goes on at a line.
pub(crate) async fn play(mut words: impl Iterator<Item = String>) -> Result<()> {
    let dir = words.next().context("a folder")?;
    let sessions: usize = words.next().context("sessions")?.parse()?;
    let domains: usize = words.next().context("domains")?.parse()?;
    let names = (0..domains).map(|n| domain(&format!("d{n}.test"))).collect::<Result<Vec<_>>>()?;
    let noon = Timestamp::parse_rfc3339("2026-11-22T12:00:00Z").context("noon")?;
    let clock = Arc::new(ManualClock::new(noon));
    let zone = ZoneResolver::new("").map_err(|e| anyhow!("{e}"))?;
    for (n, name) in names.iter().enumerate() {
        let rua = format!("https://r{}.test/{name},mailto:tlsrpt@{name}", n % 50);
        zone.add(&format!("_smtp._tls.{name} TXT \"v=TLSRPTv1; rua={rua}\"")).map_err(|e| anyhow!("{e}"))?;
    }
    let store = Arc::new(SqliteStore::open(&SqliteSettings::new(Path::new(&dir)), Arc::clone(&clock) as _)?);
    let arrived = Arc::new(Arrived { store: Arc::clone(&store), seen: Mutex::default() });
    let settings = ReportSettings {
        from: Some(Mailbox::parse("tls-reports@sender.test").map_err(|e| anyhow!("{e}"))?),
        // The clock jumps over the window, and waits are for what is due by the clock.
        tick: Duration::from_millis(100),
        ..ReportSettings::new(domain("relay.test")?)
    };
    let parts = Parts {
        store: Arc::clone(&store) as _,
        resolver: Arc::new(zone),
        mailer: Arc::clone(&arrived) as _,
        poster: Arc::clone(&arrived) as _,
        signers: Signers::new(vec![key("rsa", Algorithm::Rsa)?, key("ed25519", Algorithm::Ed25519)?]),
        clock: Arc::clone(&clock) as _,
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(ReportService::new(settings, parts).run(stop.clone()));

    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = rusqlite::Connection::open_with_flags(Path::new(&dir).join("queue.db"), flags)?;
    for (n, name) in (0..sessions).zip(names.iter().cycle()) {
        store.record(session(name, clock.now(), n / domains, !(n + n / domains).is_multiple_of(10))?);
        while n % SLICE == SLICE - 1 && committed(&database)? <= n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    while committed(&database)? < sessions {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(database);
    proceed("recorded")?;
    clock.advance(Duration::from_secs(86_400));
    while arrived.count().0 < domains * WAYS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await?;
    let (unique, arrivals) = arrived.count();
    let reports = store.reports(ReportFilter::default(), domains + 1).await?;
    let sessions = reports.iter().map(|r| r.sessions.0 + r.sessions.1).sum();
    proceed(&serde_json::to_string(&Outcome { unique, arrivals, sessions })?)?;
    store.close().await;
    Ok(())
}

/// Says where it is, and waits for the word to go on, or the end of those who would say it.
fn proceed(words: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{words}")?;
    out.flush()?;
    std::io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Sessions that were ever stored.
fn committed(database: &rusqlite::Connection) -> Result<usize> {
    let query = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'session_record'";
    let stored: i64 = database.query_row(query, [], |row| row.get(0))?;
    Ok(usize::try_from(stored)?)
}

/// A session with one of three hosts behind a name; a failed one for a reason.
fn session(name: &Domain, at: Timestamp, host: usize, success: bool) -> Result<SessionRecord> {
    let details = FailureDetail { result: ResultType::StarttlsNotSupported, reason: None };
    Ok(SessionRecord {
        at,
        report_domain: name.clone(),
        sending_ip: Some([192, 0, 2, 1].into()),
        mx_host: Some(domain(&format!("mx.{name}"))?),
        mx_helo: Some(format!("mx{}.{name}", host % 3)),
        receiving_ip: Some([198, 51, 100, 7].into()),
        verdicts: vec![PolicyVerdict {
            policy: AppliedPolicy::NoPolicyFound { domain: name.clone() },
            success,
            details: if success { vec![] } else { vec![details] },
        }],
    })
}

fn domain(text: &str) -> Result<Domain> {
    Domain::parse_host(text).map_err(|e| anyhow!("{text}: {e}"))
}

fn key(selector: &str, algorithm: Algorithm) -> Result<SigningKey> {
    let pem = keygen::generate(algorithm).context("no random numbers")?;
    SigningKey::from_pem(domain("sender.test")?, selector.to_owned(), &pem).map_err(|e| anyhow!("{e}"))
}

/// The queue, receivers who take every POST, and how often each was reached.
struct Arrived {
    store: Arc<SqliteStore>,
    seen: Mutex<HashMap<String, usize>>,
}

impl Arrived {
    fn note(&self, destination: String) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(destination).or_default() += 1;
    }

    /// Different destinations, and arrivals in all.
    fn count(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.len(), seen.values().sum())
    }
}

impl ReportMailer for Arrived {
    fn mail(&self, message: NewMessage) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let to = message.envelope.recipients.iter().map(|r| r.path.to_string()).collect();
            self.store.enqueue(message, None).await?;
            self.note(to);
            Ok(())
        }
        .boxed()
    }
}

impl ReportPoster for Arrived {
    fn post<'a>(&'a self, url: &'a str, _packed: Bytes) -> BoxFuture<'a, Posted> {
        self.note(url.to_owned());
        std::future::ready(Posted::Accepted { reply: "HTTP 200 OK".to_owned() }).boxed()
    }
}
