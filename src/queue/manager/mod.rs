//! The queue at work: finds due transactions, hands them to workers, commits what became of them.
//!
//! One dispatcher asks the store which domains have due work and shares the free places among them
//! ([`super::select`]). A worker holds one place, tries one transaction after another of its domain, and
//! writes every outcome through its `ledger` before anything else happens. Sweeps warn senders, end
//! lifetimes that a dead host kept waiting, and purge history.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::delivery::{AttemptReport, Ledger};
use crate::dkim::Signers;
use crate::dsn::compose::DsnSettings;
use crate::dsn::notify::DelayThrottle;
use crate::mail::{Domain, Envelope, Origin, QueueId};
use crate::queue::{
    ClaimTerms, GENERATED_MAX_AGE, Intake, Lease, Permit, QueueStore, RetrySchedule, StoreError, Suspension,
};
use crate::route::smart_host::Rules;

mod dispatch;
mod ledger;
pub mod metrics;
mod places;
mod sweep;
mod worker;

use metrics::QueueMetrics;
use places::{Place, Places};

/// The first and the longest wait before a write that the store had no room or no time for is tried again (DUR-10).
const COMMIT_RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What the manager needs to know; times that only tests change have their meaning here.
#[derive(Debug, Clone)]
pub struct ManagerSettings {
    /// `queue.max_age`: the lifetime of submitted mail (RFC 5321 §4.5.4.1).
    pub max_age: Duration,
    /// The lifetime of what we generate ourselves (QUE-05).
    pub generated_max_age: Duration,
    /// `queue.delay_warning_after`; `None` for no warnings.
    pub delay_warning_after: Option<Duration>,
    /// `queue.retry`.
    pub schedule: Arc<RetrySchedule>,
    /// `queue.history`.
    pub history: Duration,
    /// `queue.history_limit`, octets.
    pub history_limit: u64,
    /// Places per domain, where no rule says otherwise.
    pub places_per_domain: usize,
    /// Places in all.
    pub places: usize,
    /// Rules for some domains: connections and rates.
    pub rules: Arc<Rules>,
    /// Octets of content that may wait in memory for their worker.
    pub content_budget: u64,
    /// `delivery.drain`: how long running attempts may go on after SIGTERM.
    pub drain: Duration,
    /// The least time between two looks for due work, so that a flood of arrivals costs one look.
    pub look_interval: Duration,
    /// How often the sweeps run.
    pub sweep_interval: Duration,
    /// For the notifications.
    pub dsn: DsnSettings,
    /// The keys that sign them (SIG-19).
    pub signers: Signers,
    /// What is counted.
    pub metrics: QueueMetrics,
}

impl ManagerSettings {
    /// Defaults for a relay of this name.
    pub fn new(hostname: Domain) -> Self {
        Self {
            max_age: Duration::from_secs(5 * 86_400),
            generated_max_age: GENERATED_MAX_AGE,
            delay_warning_after: Some(Duration::from_secs(4 * 3600)),
            schedule: Arc::new(RetrySchedule::default()),
            history: Duration::from_secs(7 * 86_400),
            history_limit: 1 << 30,
            places_per_domain: 20,
            places: 500,
            rules: Arc::default(),
            content_budget: 64 << 20,
            drain: Duration::from_secs(120),
            look_interval: Duration::from_millis(10),
            sweep_interval: Duration::from_secs(60),
            dsn: DsnSettings { hostname, max_returned: 50_000 },
            signers: Signers::default(),
            metrics: QueueMetrics::default(),
        }
    }

    /// How long a message of this origin may wait; evaluated at use, never frozen into a row (QUE-05).
    pub const fn lifetime(&self, origin: Origin) -> Duration {
        match origin {
            Origin::Submitted => self.max_age,
            Origin::Dsn | Origin::TlsReport => self.generated_max_age,
        }
    }
}

/// Tries one transaction. `delivery::attempt` is the real one.
pub trait Deliverer: Send + Sync {
    /// Tries the lease and writes every outcome into the ledger. On `cancel` it ends soon, with what is settled.
    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        ledger: &'a dyn Ledger,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, AttemptReport>;

    /// A last fresh look at the policy of a domain before a lifetime ends; `true` when it changed (STS-53).
    fn final_look<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool>;

    /// Resolves when a session that somebody may wait for has come free.
    fn freed(&self) -> BoxFuture<'_, ()>;
}

/// The running queue. Cloning gives another handle.
#[derive(Clone)]
pub struct Manager {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ManagerSettings,
    store: Arc<dyn QueueStore>,
    deliverer: Arc<dyn Deliverer>,
    clock: Arc<dyn Clock>,
    places: Places,
    throttle: Mutex<DelayThrottle>,
    /// Suspensions that this process knows of, running or run out; the rows are in the store.
    suspended: Mutex<HashMap<Domain, Suspension>>,
    wake: Notify,
    tasks: TaskTracker,
    draining: CancellationToken,
    cancel: CancellationToken,
}

impl Manager {
    /// Puts the queue together; nothing runs before [`Manager::start`].
    pub fn new(
        settings: ManagerSettings,
        store: Arc<dyn QueueStore>,
        deliverer: Arc<dyn Deliverer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let places = Places::new(settings.places, settings.places_per_domain, settings.content_budget)
            .under(Arc::clone(&settings.rules));
        Self {
            shared: Arc::new(Shared {
                settings,
                store,
                deliverer,
                clock,
                places,
                throttle: Mutex::default(),
                suspended: Mutex::default(),
                wake: Notify::new(),
                tasks: TaskTracker::new(),
                draining: CancellationToken::new(),
                cancel: CancellationToken::new(),
            }),
        }
    }

    /// Starts the dispatcher and the sweeps.
    pub fn start(&self) {
        let tasks = &self.shared.tasks;
        tasks.spawn(dispatch::run(Arc::clone(&self.shared)));
        tasks.spawn(sweep::run(Arc::clone(&self.shared)));
    }

    /// Looks for due work soon, and forgets the pauses and suspensions of these domains (all, when empty).
    pub fn wake(&self, domains: &[Domain]) {
        self.shared.places.forget_pauses(domains);
        self.shared.suspensions().retain(|domain, _| !(domains.is_empty() || domains.contains(domain)));
        self.shared.wake.notify_one();
    }

    /// Attempts under way.
    pub fn running(&self) -> usize {
        self.shared.settings.places.saturating_sub(self.shared.places.free())
    }

    /// Whether it was told to make no new attempts.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.is_cancelled()
    }

    /// No new attempts from now on; mail is still accepted (DUR-18).
    pub fn stop_claiming(&self) {
        self.shared.draining.cancel();
        self.shared.wake.notify_one();
    }

    /// Waits for running attempts up to `drain`, then ends the others; unfinished rows go back uncounted (DUR-18).
    pub async fn drain(&self) {
        self.stop_claiming();
        self.shared.tasks.close();
        if tokio::time::timeout(self.shared.settings.drain, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(
                event = "drain-timeout",
                "running attempts are ended; their mail is tried again after the start"
            );
            self.shared.cancel.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(10), self.shared.tasks.wait()).await;
        }
    }

    /// Ends running attempts at once: the second signal (DUR-18).
    pub fn abandon(&self) {
        self.stop_claiming();
        self.shared.cancel.cancel();
    }
}

/// What a permit holds: a place, and how many recipients the message has in all.
struct Ticket {
    place: Place,
    recipients: usize,
}

impl Intake for Manager {
    fn permit(&self, envelope: &Envelope) -> Option<Permit> {
        if self.shared.draining.is_cancelled() {
            return None;
        }
        // At most one domain of a message goes the short way, and only the first few are worth asking for.
        let now = self.shared.clock.now();
        let mut domains: Vec<&Domain> = envelope.recipients.iter().take(8).map(|r| r.path.domain()).collect();
        domains.dedup();
        domains.into_iter().find_map(|domain| {
            let place = self.shared.places.take(domain, now)?;
            let ticket = Ticket { place, recipients: envelope.recipients.len() };
            Some(Permit { domain: domain.clone(), guard: Box::new(ticket) })
        })
    }

    fn arrived(&self, permit: Option<Permit>, lease: Option<Lease>) {
        let mut everything_leased = false;
        if let (Some(permit), Some(mut lease)) = (permit, lease)
            && let Ok(ticket) = permit.guard.downcast::<Ticket>()
        {
            let Ticket { mut place, recipients } = *ticket;
            if lease.content.as_ref().is_some_and(|content| !place.reserve_content(content.len() as u64)) {
                lease.content = None;
            }
            everything_leased = lease.recipients.len() == recipients;
            worker::spawn(&self.shared, lease, place);
        }
        if !everything_leased {
            self.shared.wake.notify_one();
        }
    }

    fn terms(&self, permit: &Permit) -> ClaimTerms {
        ClaimTerms {
            domain: Some(permit.domain.clone()),
            schedule: Arc::clone(&self.shared.settings.schedule),
        }
    }
}

impl Shared {
    /// Writes, and keeps at it while the disk is full or the database locked (DUR-10, DUR-12). Gives up when the
    /// process is about to end.
    async fn persist<'a>(
        &'a self,
        id: &QueueId,
        write: impl Fn() -> BoxFuture<'a, Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        let mut wait = COMMIT_RETRY.0;
        loop {
            match write().await {
                Err(error @ (StoreError::Full | StoreError::Busy)) => {
                    tracing::error!(event = "outcome-waits-for-store", queue_id = %id, %error);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => wait = (wait * 2).min(COMMIT_RETRY.1),
                        () = self.cancel.cancelled() => return Err(error),
                    }
                }
                done => return done,
            }
        }
    }

    fn terms(&self) -> ClaimTerms {
        ClaimTerms { domain: None, schedule: Arc::clone(&self.settings.schedule) }
    }

    fn suspensions(&self) -> MutexGuard<'_, HashMap<Domain, Suspension>> {
        self.suspended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
