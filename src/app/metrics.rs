//! Scrapes of the running relay: what its rooms have counted, and what is looked up for each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::metrics::Metrics;
use crate::clock::{Clock, Timestamp};
use crate::delivery::pool::Pool;
use crate::dns::belief::{Belief, Believing};
use crate::dns::cache::CachingResolver;
use crate::dns::hickory::HickoryResolver;
use crate::mtasts::Mode;
use crate::observe::figures::{Crowd, Figures, Stored};
use crate::observe::metrics::text::Sheet;
use crate::observe::metrics::{Word as _, table};
use crate::observe::prometheus::Prometheus;
use crate::queue::manager::Manager;
use crate::queue::{QueueStore, RecipientState};
use crate::security::exception::Exceptions;
use crate::submission::tls::ReloadingCertificate;

/// A scrape is shown again to whoever asks within this time, so that no crowd of askers keeps the relay from its work.
const FRESH: Duration = Duration::from_secs(1);
/// How long a scrape waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the values of histograms go into their buckets; until then each takes memory of its own.
const UPKEEP: Duration = Duration::from_secs(2);
/// The pause between two rounds through the domains with waiting mail.
const ROUND: Duration = Duration::from_secs(10);
/// A round reads in slices of this length, with pauses between them.
const SLICE: Duration = Duration::from_millis(2);
/// These pauses.
const PAUSE: Duration = Duration::from_millis(50);
/// Waiting recipients of one domain that are counted; [`table::QUEUE_DOMAIN`] says so.
const MOST: u64 = 20_000;

/// What is looked at.
pub(super) struct Parts {
    pub(super) figures: Arc<dyn Figures>,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) manager: Manager,
    pub(super) pool: Arc<Pool>,
    pub(super) belief: Arc<Belief>,
    pub(super) answers: Arc<Believing<CachingResolver<HickoryResolver>>>,
    pub(super) exceptions: Arc<Exceptions>,
    pub(super) certificate: Option<Arc<ReloadingCertificate>>,
    pub(super) clock: Arc<dyn Clock>,
    /// Octets of disk that are kept free.
    pub(super) reserve: u64,
}

/// Makes scrapes.
pub(super) struct Scrapes {
    prometheus: Prometheus,
    parts: Parts,
    started: Timestamp,
    crowd: Mutex<Option<Crowd>>,
    last: tokio::sync::Mutex<Option<(Instant, Arc<str>)>>,
    glance: Glance,
}

/// A look at the store that ends in time, and one at a time, so that scrapes take no more than one of its readers.
struct Glance {
    figures: Arc<dyn Figures>,
    looking: Arc<Semaphore>,
}

impl Glance {
    fn at(figures: Arc<dyn Figures>) -> Self {
        Self { figures, looking: Arc::new(Semaphore::new(1)) }
    }

    /// What is stored; `None` when the store does not answer in time, or still owes the answer to an earlier scrape.
    async fn look(&self, now: Timestamp) -> Option<Stored> {
        let place = Arc::clone(&self.looking).try_acquire_owned().ok()?;
        let figures = Arc::clone(&self.figures);
        let look = tokio::spawn(async move {
            let _place = place;
            figures.stored(now).await
        });
        tokio::time::timeout(PATIENCE, look).await.ok()?.ok()?.ok()
    }
}

impl Scrapes {
    /// Of what `prometheus` counts and `parts` tell.
    pub(super) fn new(prometheus: Prometheus, parts: Parts) -> Self {
        let started = parts.clock.now();
        let (crowd, last) = (Mutex::default(), tokio::sync::Mutex::default());
        let glance = Glance::at(Arc::clone(&parts.figures));
        Self { prometheus, parts, started, crowd, last, glance }
    }

    /// Keeps what is counted small, and the crowd of domains known, until `stop`.
    pub(super) async fn upkeep(self: Arc<Self>, stop: CancellationToken) {
        let buckets = async {
            loop {
                tokio::time::sleep(UPKEEP).await;
                self.prometheus.counted().run_upkeep();
            }
        };
        let rounds = async {
            loop {
                let crowd = self.round().await;
                *self.crowd.lock().unwrap_or_else(PoisonError::into_inner) = crowd;
                tokio::time::sleep(ROUND).await;
            }
        };
        stop.run_until_cancelled(async { tokio::join!(buckets, rounds) }).await;
    }

    /// Once through all domains with waiting mail; `None` when the store did not answer.
    async fn round(&self) -> Option<Crowd> {
        let (mut crowd, mut after) = (Crowd::default(), None);
        loop {
            let page = self.parts.figures.waiting(after, MOST, SLICE).await.ok()?;
            for (domain, waiting) in page.domains {
                crowd.add(domain, waiting);
            }
            after = page.next;
            if after.is_none() {
                return Some(crowd);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn write(&self) -> String {
        let now = self.parts.clock.now();
        let stored = self.glance.look(now).await;
        let mut sheet = Sheet::after(self.prometheus.counted().render());
        sheet.gauges(&table::BUILD, [([env!("CARGO_PKG_VERSION")], 1.0)]);
        sheet.gauge(&table::STARTED, seconds(self.started));
        sheet.flag(&table::SCRAPE_COMPLETE, stored.is_some());
        if let Some(stored) = &stored {
            write_stored(&mut sheet, stored, now);
        }
        if let Some(crowd) = &*self.crowd.lock().unwrap_or_else(PoisonError::into_inner) {
            sheet.gauges(&table::QUEUE_DOMAIN, crowd.rows().map(|(domain, n)| ([domain], number(n))));
        }
        self.write_running(&mut sheet, now);
        sheet.into_text()
    }

    /// What only the running process knows.
    fn write_running(&self, sheet: &mut Sheet, now: Timestamp) {
        let p = &self.parts;
        sheet.gauge(&table::ATTEMPTS_RUNNING, number(p.manager.running() as u64));
        sheet.gauge(&table::CONNECTIONS_OPEN, number(p.pool.open() as u64));
        let entries = p.answers.inner().entries();
        sheet.gauges(&table::DNS_CACHE_ENTRIES, entries.map(|(record, n)| ([record.word()], number(n))));
        sheet.flag(&table::DNSSEC_BELIEVED, p.belief.holds());
        sheet.flag(&table::DNSSEC_PROVEN, p.belief.proven().is_believed());
        write_exceptions(sheet, &p.exceptions, now);
        let health = p.queue.health();
        sheet.flag(&table::DB_WRITABLE, health.writable);
        sheet.gauge(&table::DISK_FREE, number(health.free));
        sheet.gauge(&table::DISK_RESERVE, number(p.reserve));
        if let Some(end) = p.certificate.as_ref().and_then(|c| c.expires()) {
            sheet.gauge(&table::CERTIFICATE_END, seconds(end));
        }
    }
}

impl Metrics for Scrapes {
    fn scrape(&self) -> BoxFuture<'_, Arc<str>> {
        async move {
            // One at a time: who comes meanwhile gets what the first one got.
            let mut last = self.last.lock().await;
            if let Some((at, text)) = &*last
                && at.elapsed() < FRESH
            {
                return Arc::clone(text);
            }
            let text: Arc<str> = self.write().await.into();
            *last = Some((Instant::now(), Arc::clone(&text)));
            text
        }
        .boxed()
    }
}

fn write_stored(sheet: &mut Sheet, stored: &Stored, now: Timestamp) {
    // Every state is there from the start; a cause that this release does not know counts as none.
    let owed = RecipientState::ALL.into_iter().filter(|state| !state.is_terminal());
    let mut recipients: BTreeMap<[&str; 2], u64> = owed.map(|state| ([state.as_str(), ""], 0)).collect();
    for (state, cause, n) in &stored.recipients {
        *recipients.entry([state.as_str(), cause.map_or("", |c| c.as_str())]).or_default() += n;
    }
    sheet.gauges(&table::QUEUE_RECIPIENTS, recipients.into_iter().map(|(labels, n)| (labels, number(n))));
    sheet.gauge(&table::QUEUE_OLDEST, stored.oldest.map_or(0.0, |at| now.since(at).as_secs_f64()));
    sheet.gauge(&table::QUEUE_SUSPENDED, number(stored.suspended));
    let policies = [Mode::Enforce, Mode::Testing, Mode::None].map(|mode| {
        let n = stored.policies.iter().filter(|(m, _)| *m == mode).map(|(_, n)| n).sum();
        ([mode.as_str()], number(n))
    });
    sheet.gauges(&table::POLICIES, policies);
    sheet.gauge(&table::POLICIES_FAILING, number(stored.failing));
    sheet.gauge(&table::REPORTS_DUE, number(stored.reports_due));
    let destinations = [("waiting", stored.destinations_waiting), ("queued", stored.destinations_queued)];
    sheet.gauges(&table::REPORT_DESTINATIONS, destinations.map(|(state, n)| ([state], number(n))));
    sheet.gauge(&table::DB_SIZE, number(stored.octets));
}

/// One series for each domain and permission, of the entry that is in force or else ends last.
fn write_exceptions(sheet: &mut Sheet, exceptions: &Exceptions, now: Timestamp) {
    let mut shown: BTreeMap<[&str; 2], (bool, Timestamp, bool)> = BTreeMap::new();
    for (e, ended) in exceptions.iter() {
        let this = (now <= e.until && !ended, e.until, ended);
        let row = shown.entry([e.domain.as_str(), e.allow.as_str()]).or_insert(this);
        *row = this.max(*row);
    }
    let rows = || shown.iter().map(|(labels, row)| (*labels, *row));
    let flag = |yes: bool| f64::from(u8::from(yes));
    sheet.gauges(&table::EXCEPTION_END, rows().map(|(labels, (_, until, _))| (labels, seconds(until))));
    sheet.gauges(&table::EXCEPTION_IN_FORCE, rows().map(|(labels, (holds, ..))| (labels, flag(holds))));
    sheet.gauges(&table::EXCEPTION_ENDED_EARLY, rows().map(|(labels, (.., ended))| (labels, flag(ended))));
}

#[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact beyond 2^53")]
const fn number(n: u64) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "seconds are exact for longer than anybody waits")]
const fn seconds(at: Timestamp) -> f64 {
    at.as_secs() as f64
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::mail::Domain;
    use crate::observe::figures::Page;
    use crate::queue::{DeferReason, StoreError};
    use crate::security::exception::{Allow, Exception};

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    fn lines(sheet: Sheet) -> Vec<String> {
        sheet.into_text().lines().filter(|l| l.starts_with("sealpost")).map(str::to_owned).collect()
    }

    /// A store that answers when it is let.
    struct Slow {
        go: Arc<Semaphore>,
        asked: AtomicUsize,
    }

    impl Figures for Slow {
        fn stored(&self, _: Timestamp) -> BoxFuture<'_, Result<Stored, StoreError>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            async { self.go.acquire().await.map(|_| Stored::default()).map_err(|_| StoreError::Closed) }
                .boxed()
        }

        fn waiting(
            &self,
            _: Option<Vec<u8>>,
            _: u64,
            _: Duration,
        ) -> BoxFuture<'_, Result<Page, StoreError>> {
            async { Ok(Page::default()) }.boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_waited_for_briefly_and_by_one_scrape_only() {
        let slow = Arc::new(Slow { go: Arc::new(Semaphore::new(0)), asked: AtomicUsize::new(0) });
        let glance = Glance::at(Arc::clone(&slow) as _);
        let (now, begun) = (Timestamp::from_millis(0), Instant::now());
        assert_eq!(glance.look(now).await, None);
        assert_eq!(begun.elapsed(), PATIENCE);
        assert_eq!(glance.look(now).await, None);
        assert_eq!(
            (begun.elapsed(), slow.asked.load(Ordering::Relaxed)),
            (PATIENCE, 1),
            "at once, and nobody asked"
        );
        slow.go.add_permits(1);
        while glance.looking.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(glance.look(now).await, Some(Stored::default()));
    }

    #[test]
    fn every_state_is_there_and_no_series_comes_twice() {
        let stored = Stored {
            recipients: vec![
                (RecipientState::Deferred, Some(DeferReason::TlsMissing), 3),
                (RecipientState::Deferred, None, 1),
                (RecipientState::Deferred, None, 1),
                (RecipientState::Delivering, None, 2),
            ],
            oldest: Some(at("2026-11-22T07:00:00Z")),
            policies: vec![(Mode::Testing, 4)],
            ..Stored::default()
        };
        let mut sheet = Sheet::default();
        write_stored(&mut sheet, &stored, at("2026-11-22T08:00:00Z"));
        let lines = lines(sheet);
        assert_eq!(
            lines[..9],
            [
                "sealpost_queue_recipients{state=\"deferred\",cause=\"\"} 2",
                "sealpost_queue_recipients{state=\"deferred\",cause=\"tls_missing\"} 3",
                "sealpost_queue_recipients{state=\"delivering\",cause=\"\"} 2",
                "sealpost_queue_recipients{state=\"held\",cause=\"\"} 0",
                "sealpost_queue_recipients{state=\"queued\",cause=\"\"} 0",
                "sealpost_queue_oldest_age_seconds 3600",
                "sealpost_queue_domains_suspended 0",
                "sealpost_policies{mode=\"enforce\"} 0",
                "sealpost_policies{mode=\"testing\"} 4",
            ]
        );
    }

    #[test]
    fn exceptions_say_until_when_they_hold_and_which_of_them_ended_early() {
        let exception = |domain: &str, day: &str| Exception {
            domain: Domain::parse(domain).unwrap(),
            allow: Allow::Plain,
            until: at(&format!("{day}T23:59:59Z")),
            reason: "a\" reason\n".to_owned(),
            by: "ops".to_owned(),
        };
        let over = exception("a.example", "2026-11-21");
        let renewed = exception("a.example", "2026-11-30");
        let healed = exception("b.example", "2026-12-24");
        let all = Exceptions::new([over, renewed, healed.clone()], &[healed.key()]);
        let mut sheet = Sheet::default();
        write_exceptions(&mut sheet, &all, at("2026-11-22T08:00:00Z"));
        assert_eq!(
            lines(sheet),
            [
                "sealpost_exception_end_timestamp_seconds{domain=\"a.example\",allow=\"plain\"} 1796083199",
                "sealpost_exception_end_timestamp_seconds{domain=\"b.example\",allow=\"plain\"} 1798156799",
                "sealpost_exception_in_force{domain=\"a.example\",allow=\"plain\"} 1",
                "sealpost_exception_in_force{domain=\"b.example\",allow=\"plain\"} 0",
                "sealpost_exception_ended_early{domain=\"a.example\",allow=\"plain\"} 0",
                "sealpost_exception_ended_early{domain=\"b.example\",allow=\"plain\"} 1",
            ]
        );
    }
}
