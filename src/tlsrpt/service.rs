//! The day of the reports: plans, makes and sends them (RFC 8460 §4, §5), and what operators ask of it.
//!
//! Three loops: `make` turns what was counted into reports, and `send` tries their destinations, those by mail and
//! those by HTTPS each in a loop of its own, so that slow receivers of POSTs keep no mail. Whatever
//! happens between two calls of a port, a restart goes on where the store says (RPT-93). `operator` is
//! `report preview` and `report send`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::aggregate::Identity;
use super::day::Day;
use super::{NextDue, ReportMailer, ReportPoster, ReportStore, ReportStoreError};
use crate::clock::{Clock, Timestamp};
use crate::dkim::Signers;
use crate::dns::Resolver;
use crate::mail::{Domain, Mailbox};

mod clock_watch;
mod make;
pub mod metrics;
mod operator;
mod send;

pub use operator::{Preview, RefusedReport, SendSummary, SentReport, already, to_come, without_identity};

use clock_watch::ClockWatch;
use metrics::ReportMetrics;

/// What the service is told.
#[derive(Debug, Clone)]
pub struct ReportSettings {
    /// Whether reports are made at all. Without, counters only go when they are old.
    pub enabled: bool,
    /// organization-name; empty: the hostname.
    pub organization: String,
    /// The sender of reports by mail. Without it reports wait.
    pub from: Option<Mailbox>,
    /// contact-info; `None`: `from`.
    pub contact: Option<Mailbox>,
    /// Our name.
    pub hostname: Domain,
    /// Reports leave at a random moment of this span after 00:05 UTC: 4 h.
    pub send_window: Duration,
    /// Destinations with one receiver per UTC day (RPT-10): 5000.
    pub per_receiver: u32,
    /// Octets of a packed report (RPT-76): 10 MB.
    pub max_packed: usize,
    /// Whole days for which counters wait to become a report (RPT-71): 2.
    pub days: u32,
    /// How long a destination is tried, from its first try on (RPT-87): 24 h.
    pub retry_for: Duration,
    /// The wait after the first failed try; it doubles: 5 min.
    pub first_wait: Duration,
    /// Up to this: 4 h.
    pub longest_wait: Duration,
    /// How long a receiver that did not take one report is not asked to take others: 5 min.
    pub receiver_pause: Duration,
    /// Days for which reports that have ended are listed: 30.
    pub history: u32,
    /// The longest sleep: 1 min.
    pub tick: Duration,
    /// Reports made, and destinations tried, at once: 16.
    pub parallel: usize,
    /// A step of the wall clock larger than this is a jump: 10 min.
    pub clock_jump: Duration,
    /// For so long after a jump forward no day counts as closed, and nothing as too old: 1 h.
    pub doubt: Duration,
    /// What is counted.
    pub metrics: ReportMetrics,
}

impl ReportSettings {
    /// The defaults for a relay of this name; without `from` reports wait.
    pub fn new(hostname: Domain) -> Self {
        Self {
            enabled: true,
            organization: String::new(),
            from: None,
            contact: None,
            hostname,
            send_window: Duration::from_secs(4 * 3600),
            per_receiver: 5000,
            max_packed: 10_000_000,
            days: 2,
            retry_for: Duration::from_secs(24 * 3600),
            first_wait: Duration::from_secs(5 * 60),
            longest_wait: Duration::from_secs(4 * 3600),
            receiver_pause: Duration::from_secs(5 * 60),
            history: 30,
            tick: Duration::from_secs(60),
            parallel: 16,
            clock_jump: Duration::from_secs(10 * 60),
            doubt: Duration::from_secs(3600),
            metrics: ReportMetrics::default(),
        }
    }

    /// Who reports.
    ///
    /// # Errors
    /// The obstacle, in words.
    pub fn identity(&self) -> Result<Identity, String> {
        let contact = self.contact.as_ref().or(self.from.as_ref());
        let contact = contact.ok_or_else(|| "tls_rpt.from is not set".to_owned())?;
        let organization = Some(self.organization.trim()).filter(|o| !o.is_empty());
        Ok(Identity {
            organization: organization.unwrap_or(self.hostname.as_str()).to_owned(),
            contact: contact.clone(),
        })
    }
}

/// What the service works with.
#[derive(Clone)]
pub struct Parts {
    /// Keeps counters and reports.
    pub store: Arc<dyn ReportStore>,
    /// Asks for `_smtp._tls` records.
    pub resolver: Arc<dyn Resolver>,
    /// Takes reports by mail.
    pub mailer: Arc<dyn ReportMailer>,
    /// Takes reports by HTTPS.
    pub poster: Arc<dyn ReportPoster>,
    /// Signs reports by mail.
    pub signers: Signers,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// Plans, makes and sends reports. Cloning gives another handle.
#[derive(Clone)]
pub struct ReportService {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ReportSettings,
    parts: Parts,
    /// A report was kept: destinations are due, by mail and by HTTPS.
    kept: (Notify, Notify),
    memory: Mutex<Memory>,
}

/// What may be forgotten with the process.
struct Memory {
    watch: ClockWatch,
    /// The day of the last warning about what keeps all reports from being made.
    warned: Option<Day>,
    /// The day of the last purge.
    purged: Option<Day>,
    /// Whether the last word about the store was a complaint.
    store_failed: bool,
    /// Receivers that are left alone until then, and what they said.
    paused: HashMap<String, (Timestamp, String)>,
}

impl ReportService {
    /// Puts the service together; nothing happens before [`ReportService::run`].
    pub fn new(settings: ReportSettings, parts: Parts) -> Self {
        let watch = ClockWatch::new(parts.clock.now(), parts.clock.monotonic());
        let memory =
            Memory { watch, warned: None, purged: None, store_failed: false, paused: HashMap::new() };
        let inner =
            Inner { settings, parts, kept: (Notify::new(), Notify::new()), memory: Mutex::new(memory) };
        Self { inner: Arc::new(inner) }
    }

    /// What keeps every report from being made, in words; `None` also where nobody wants any.
    pub fn obstacle(&self) -> Option<String> {
        self.inner.settings.enabled.then(|| self.inner.obstacle())?
    }

    /// Works until `shutdown`. What is interrupted is done again at the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let making = async {
            loop {
                let round = self.inner.make_round().await;
                tokio::time::sleep(self.inner.nap(round, |next| next.report).await).await;
            }
        };
        let mailing = async {
            loop {
                let round = self.inner.mail_round().await;
                let nap = self.inner.nap(round, |next| next.mail).await;
                let _ = tokio::time::timeout(nap, self.inner.kept.0.notified()).await;
            }
        };
        let posting = async {
            loop {
                let round = self.inner.post_round().await;
                let nap = self.inner.nap(round, |next| next.https).await;
                let _ = tokio::time::timeout(nap, self.inner.kept.1.notified()).await;
            }
        };
        shutdown.run_until_cancelled(async { tokio::join!(making, mailing, posting) }).await;
    }
}

/// Whether a round did all there was to do, or left something for the next tick.
type Round = Result<(), Left>;

/// Why a round ended early.
enum Left {
    /// The store failed, and that was logged.
    Store,
    /// What keeps all reports from being made lasts longer than a moment.
    Obstacle,
}

impl Inner {
    /// Destinations are due.
    fn wake_senders(&self) {
        self.kept.0.notify_one();
        self.kept.1.notify_one();
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the wall clock has just jumped forward and its word about days that have ended is not taken.
    fn in_doubt(&self) -> bool {
        let (wall, monotonic) = (self.parts.clock.now(), self.parts.clock.monotonic());
        self.memory().watch.look(wall, monotonic, self.settings.clock_jump, self.settings.doubt)
    }

    /// The oldest day whose counters are still wanted (RPT-71).
    fn oldest(&self, today: Day) -> Day {
        today.earlier(self.settings.days)
    }

    /// What keeps every report from being made, in words (RPT-80).
    fn obstacle(&self) -> Option<String> {
        let Some(from) = &self.settings.from else {
            return Some("tls_rpt.from is not set".to_owned());
        };
        let domain = from.domain();
        (!self.parts.signers.signs_exactly(domain))
            .then(|| format!("no [[dkim]] entry signs for {domain}, the domain of tls_rpt.from"))
    }

    /// Says that the store failed, once until it works again.
    fn store_failed(&self, error: &ReportStoreError) -> Left {
        if !std::mem::replace(&mut self.memory().store_failed, true) {
            tracing::error!(event = "report-store-failed", %error, "reports stay where they are until the store works again");
        }
        Left::Store
    }

    fn store_works(&self) {
        self.memory().store_failed = false;
    }

    /// How long to sleep after a round: until something is due, at most a tick.
    async fn nap(&self, round: Round, of: fn(NextDue) -> Option<Timestamp>) -> Duration {
        let tick = self.settings.tick;
        let Ok(()) = round else { return tick };
        match self.parts.store.next_due().await.map(of) {
            Ok(Some(next)) => next.since(self.parts.clock.now()).clamp(SHORTEST.min(tick), tick),
            Ok(None) | Err(_) => tick,
        }
    }

    /// The wait after `failed` tries in a row, with ±10 % of jitter.
    fn wait(&self, failed: u32, longest: Duration) -> Duration {
        let doubled = self.settings.first_wait.saturating_mul(1u32.checked_shl(failed.min(20)).unwrap_or(1));
        doubled.min(longest).mul_f64(rand::random_range(0.9..1.1))
    }
}

/// No round follows the one before it sooner.
const SHORTEST: Duration = Duration::from_secs(1);

/// Reports or destinations taken from the store at once.
const PAGE: usize = 64;

/// Words of others on one line of bounded length, for the store and the log.
fn line(text: &str) -> String {
    crate::mail::reply::sanitise(text).chars().take(500).collect()
}

#[cfg(test)]
mod tests;
