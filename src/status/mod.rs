//! What an operator sees at one glance: what waits and why, which promises are kept in mind, which reports are due, and
//! what wants a person (`sealpost status`, `/v1/status`).
//!
//! Pure. [`Overview`] is the port to what is stored, [`queue`] adds up what waits, and [`look`] decides what should be
//! looked at. The running relay adds what only it knows ([`Running`]); without it the rest is still told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use crate::admin::view::Readiness;
use crate::clock::Timestamp;
use crate::dns::belief::Mode as Believed;
use crate::dns::self_test::Trouble;
use crate::mail::Domain;
use crate::mtasts::{Mode, decide};
use crate::queue::StoreError;
use crate::route::smart_host::Rules;
use crate::security::exception::{Allow, Exceptions, Standing};
use crate::standing::{Finding, sound};
use crate::tlsrpt::{Day, ReportNo};

pub mod look;
pub mod queue;
#[cfg(test)]
pub(crate) mod sample;

use queue::QueueStanding;

/// The most rows of one kind that are counted; what waits beyond them makes the numbers too low, and that is said.
pub const MOST_COUNTED: usize = 1_000_000;
/// Policies, and reports, that are named.
pub const NAMED: usize = 5;
/// Days of reports, today included, of which the outcome is told.
pub const REPORT_DAYS: u32 = 2;

/// A store that can be looked over.
pub trait Overview: Send + Sync {
    /// What is stored at one moment. Only reads, by indexes, and at most [`MOST_COUNTED`] rows of a kind.
    fn overview(&self, now: Timestamp) -> BoxFuture<'_, Result<Stored, StoreError>>;
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The queue.
    pub queue: QueueStanding,
    /// The policy cache.
    pub policies: PolicyStanding,
    /// The TLS reports.
    pub reports: ReportStanding,
}

/// The policy cache at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStanding {
    /// In force, by mode.
    pub enforce: u64,
    /// In force, by mode.
    pub testing: u64,
    /// In force, by mode.
    pub none: u64,
    /// Kept in mind although they are over.
    pub expired: u64,
    /// In force and promising something, and every refresh of them fails.
    pub failing: u64,
    /// Those of them that run out first; at most [`NAMED`].
    pub failing_first: Vec<FailingPolicy>,
}

/// A policy whose refreshes fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingPolicy {
    /// The policy domain.
    pub domain: Domain,
    /// What it asks for.
    pub mode: Mode,
    /// Since when its refreshes fail.
    pub since: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
    /// It runs out soon, and with it what it asks for (STS-50).
    pub urgent: bool,
    /// What the last fetch ran into; empty when that is not known.
    pub why: String,
}

impl PolicyStanding {
    /// Counts a policy whose refreshes fail, and names it while it is among the first to run out; `max_age`: its own.
    pub fn fails(&mut self, policy: FailingPolicy, max_age: Duration, now: Timestamp) {
        if policy.mode == Mode::None || policy.expires <= now {
            return;
        }
        self.failing += 1;
        let urgent = decide::runs_out(policy.expires, max_age, policy.since, now);
        let place = self.failing_first.partition_point(|p| p.expires <= policy.expires);
        self.failing_first.insert(place, FailingPolicy { urgent, ..policy });
        self.failing_first.truncate(NAMED);
    }
}

/// The TLS reports at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportStanding {
    /// Domains with sessions of today, which will be in tomorrow's reports.
    pub counted_today: u64,
    /// Planned, not made yet.
    pub due: u64,
    /// When the next of them is due.
    pub next: Option<Timestamp>,
    /// On the way to a receiver.
    pub on_the_way: u64,
    /// The day from which on the following are counted.
    pub since: Day,
    /// Reports made.
    pub made: u64,
    /// Receivers that took none.
    pub failed: u64,
    /// Reports that were dropped unsent.
    pub dropped: u64,
    /// The newest failures; at most [`NAMED`].
    pub failures: Vec<ReportFailure>,
    /// Why no report can be made at all; `None` while they can, and where nobody knows.
    #[serde(default)]
    pub obstacle: Option<String>,
}

/// A receiver that took no report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportFailure {
    /// For `report show`.
    pub no: ReportNo,
    /// The day that the report is about.
    pub day: Day,
    /// The report domain.
    pub domain: Domain,
    /// Where it should have gone.
    pub uri: String,
    /// What was answered.
    pub reply: String,
}

impl ReportStanding {
    /// Nothing was counted yet.
    pub fn new(now: Timestamp) -> Self {
        Self {
            counted_today: 0,
            due: 0,
            next: None,
            on_the_way: 0,
            since: Day::of(now).earlier(REPORT_DAYS),
            made: 0,
            failed: 0,
            dropped: 0,
            failures: Vec::new(),
            obstacle: None,
        }
    }
}

/// What only the running relay knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The process.
    pub relay: Relay,
    /// Whether it can do its work.
    pub readiness: Readiness,
    /// What is believed about DNSSEC.
    pub dnssec: Dnssec,
    /// What was found of the standing of its reports (`report check`).
    pub standing: Vec<Finding>,
    /// Why no report can be made.
    pub reports_wait: Option<String>,
    /// Its configuration.
    pub configuration: ConfigurationFile,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relay {
    /// Since when it runs.
    pub started: Timestamp,
    /// It was told to stop: no new attempts are made.
    pub draining: bool,
    /// Where applications and operators reach it.
    pub listeners: Vec<Listening>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// Where.
    pub address: SocketAddr,
    /// `smtp`, `smtps` or `admin`.
    pub protocol: String,
}

/// What is believed about DNSSEC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dnssec {
    /// Who is believed, the self-test apart.
    pub mode: Believed,
    /// The configuration has answers believed.
    pub configured: bool,
    /// They are believed now.
    pub believed: bool,
    /// The self-test has shown why.
    pub proven: bool,
    /// The self-test found something to look at.
    pub warned: bool,
    /// What that is; null when it found nothing.
    pub trouble: Option<Trouble>,
    /// All of it in words, as in `/readyz`.
    pub words: String,
}

/// The configuration that the relay runs with, against its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationFile {
    /// The file.
    pub file: PathBuf,
    /// When it was written last, where that has changed its text since the start of the relay.
    pub changed: Option<Timestamp>,
    /// Why it cannot be read any more.
    pub unreadable: Option<String>,
}

/// The disk that the queue lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where.
    pub data_dir: PathBuf,
    /// Octets free.
    pub free: u64,
    /// At so many or less, new mail is refused.
    pub needed: u64,
}

/// The certificate of `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The file.
    pub file: PathBuf,
    /// The last moment of what is shown to clients.
    pub expires: Timestamp,
    /// Why what the files hold now is not shown.
    pub refused: Option<String>,
}

/// An exception, with how it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The recipient domain.
    pub domain: Domain,
    /// How it stands.
    pub state: Standing,
    /// What is allowed.
    pub allow: Allow,
    /// The last moment.
    pub until: Timestamp,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
}

impl Exception {
    /// All of them, of all domains.
    pub fn all(exceptions: &Exceptions, now: Timestamp) -> Vec<Self> {
        let report = |(e, state): (&Arc<crate::security::exception::Exception>, Standing)| Self {
            domain: e.domain.clone(),
            state,
            allow: e.allow,
            until: e.until,
            reason: e.reason.clone(),
            by: e.by.clone(),
        };
        exceptions.standing(now).map(report).collect()
    }
}

/// What this relay is configured to be, and what lies beside its store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub hostname: Domain,
    /// The disk; `None` when it cannot be looked at.
    pub disk: Option<Disk>,
    /// The certificate; `None` without `[tls]`, or when it cannot be read.
    pub certificate: Option<Certificate>,
    /// The exceptions.
    pub exceptions: Vec<Exception>,
    /// `queue.max_age`.
    pub max_age: Duration,
    /// The rules per recipient domain.
    pub rules: Arc<Rules>,
}

/// Why nobody answers for the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Silence {
    /// It should: these words say what happened instead.
    Unexpected(String),
    /// It was configured so.
    Configured,
}

/// The whole answer, as one JSON document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The relay's name.
    pub hostname: Domain,
    /// The moment that all of it is about.
    pub at: Timestamp,
    /// Nothing of `look_at` needs a person: none is marked `bad`.
    pub sound: bool,
    /// What an operator should look at, the worst first.
    pub look_at: Vec<Finding>,
    /// The process; null when it does not answer.
    pub relay: Option<Relay>,
    /// The answer of `/readyz`; null when it does not answer.
    pub readiness: Option<Readiness>,
    /// The configuration that the relay runs with; null when it does not answer.
    pub configuration: Option<ConfigurationFile>,
    /// The disk.
    pub disk: Option<Disk>,
    /// The certificate of `[tls]`.
    pub certificate: Option<Certificate>,
    /// `queue`, `policies` and `reports`; absent when the database cannot be read.
    #[serde(flatten)]
    pub stored: Option<Stored>,
    /// What is believed about DNSSEC.
    pub dnssec: Dnssec,
    /// The exceptions of the configuration.
    pub exceptions: Vec<Exception>,
}

impl Status {
    /// Puts together what is known at `now`. Without a running relay, `Dnssec` is what the configuration says; what is
    /// stored may be unreadable, and then these words say why.
    pub fn new(
        now: Timestamp,
        place: Place,
        running: Result<Running, (Silence, Dnssec)>,
        stored: Result<Stored, String>,
    ) -> Self {
        let (mut stored, unreadable) = match stored {
            Ok(stored) => (Some(stored), None),
            Err(words) => (None, Some(words)),
        };
        let (relay, readiness, configuration, dnssec, standing, silence) = match running {
            Ok(r) => {
                if let Some(stored) = &mut stored {
                    stored.reports.obstacle = r.reports_wait;
                }
                (Some(r.relay), Some(r.readiness), Some(r.configuration), r.dnssec, r.standing, None)
            }
            Err((silence, dnssec)) => (None, None, None, dnssec, Vec::new(), Some(silence)),
        };
        let mut status = Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: place.hostname,
            at: now,
            sound: true,
            look_at: Vec::new(),
            relay,
            readiness,
            configuration,
            disk: place.disk,
            certificate: place.certificate,
            stored,
            dnssec,
            exceptions: place.exceptions,
        };
        let besides = Besides { silence, unreadable, standing, max_age: place.max_age, rules: place.rules };
        status.look_at = look::look_at(&status, besides);
        status.sound = sound(&status.look_at);
        status
    }
}

/// What is looked at and is no part of the answer.
struct Besides {
    silence: Option<Silence>,
    unreadable: Option<String>,
    standing: Vec<Finding>,
    max_age: Duration,
    rules: Arc<Rules>,
}

/// `1 domain`, `2 domains`.
pub fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}
