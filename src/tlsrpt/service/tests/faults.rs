//! A process that dies at any call of a port, and a disk that is full.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, pending};

use super::world::{Posts, ToQueue};
use super::*;
use crate::queue::{NewMessage, StoreError};
use crate::tlsrpt::{
    DayCounters, DestinationId, DroppedDays, DueDestination, Kept, NewReport, Planned, PlannedReport,
    ReportNo, SettledMail, Tried, Way,
};

/// Counts calls and lets one of them be the last.
pub(super) struct Gate {
    calls: AtomicUsize,
    /// The call that never comes back, and whether its effect is there.
    last: Option<(usize, bool)>,
    dead: Notify,
    full: AtomicBool,
}

impl Gate {
    pub(super) fn open() -> Arc<Self> {
        Self::shut_at(None)
    }

    pub(super) fn shut_at(last: Option<(usize, bool)>) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), last, dead: Notify::new(), full: AtomicBool::new(false) })
    }

    pub(super) fn fill_disk(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    async fn pass<T>(&self, call: impl Future<Output = T>) -> T {
        let n = self.calls.fetch_add(1, Ordering::Relaxed);
        match self.last {
            Some((last, done)) if n >= last => {
                if done && n == last {
                    let _ = call.await;
                }
                self.dead.notify_one();
                pending().await
            }
            _ => call.await,
        }
    }

    async fn write<T>(
        &self,
        call: impl Future<Output = Result<T, ReportStoreError>>,
    ) -> Result<T, ReportStoreError> {
        if self.full.load(Ordering::Relaxed) {
            return Err(ReportStoreError::Full);
        }
        self.pass(call).await
    }

    pub(super) fn store(self: &Arc<Self>, store: Arc<SqliteStore>) -> Arc<dyn ReportStore> {
        Arc::new(Gated(Arc::clone(self), store))
    }

    pub(super) fn mailer(self: &Arc<Self>, mailer: ToQueue) -> Arc<dyn ReportMailer> {
        Arc::new(Gated(Arc::clone(self), mailer))
    }

    pub(super) fn poster(self: &Arc<Self>, posts: Arc<Posts>) -> Arc<dyn ReportPoster> {
        Arc::new(Gated(Arc::clone(self), posts))
    }
}

struct Gated<T>(Arc<Gate>, T);

type Answer<'a, T> = BoxFuture<'a, Result<T, ReportStoreError>>;

impl ReportStore for Gated<Arc<SqliteStore>> {
    fn fold(&self) -> Answer<'_, bool> {
        self.0.write(self.1.fold()).boxed()
    }
    fn plan(&self, today: Day, window: Duration) -> Answer<'_, Planned> {
        self.0.write(self.1.plan(today, window)).boxed()
    }
    fn drop_old(&self, oldest: Day) -> Answer<'_, DroppedDays> {
        self.0.write(self.1.drop_old(oldest)).boxed()
    }
    fn due_reports(&self, now: Timestamp, limit: usize) -> Answer<'_, Vec<PlannedReport>> {
        self.0.pass(self.1.due_reports(now, limit)).boxed()
    }
    fn planned(&self, day: Day, domain: Domain) -> Answer<'_, Option<PlannedReport>> {
        self.0.pass(self.1.planned(day, domain)).boxed()
    }
    fn counters(&self, day: Day, domain: Domain) -> Answer<'_, Option<DayCounters>> {
        self.0.pass(self.1.counters(day, domain)).boxed()
    }
    fn counted(&self, day: Day, after: Option<Domain>, limit: usize) -> Answer<'_, Vec<Domain>> {
        self.0.pass(self.1.counted(day, after, limit)).boxed()
    }
    fn keep(&self, report: NewReport, cap: u32) -> Answer<'_, Kept> {
        self.0.write(self.1.keep(report, cap)).boxed()
    }
    fn put_off(&self, planned: PlannedReport, until: Timestamp, why: String) -> Answer<'_, ()> {
        self.0.write(self.1.put_off(planned, until, why)).boxed()
    }
    fn unwanted(&self, planned: PlannedReport, why: String) -> Answer<'_, ()> {
        self.0.write(self.1.unwanted(planned, why)).boxed()
    }
    fn destinations(&self, way: Way, now: Timestamp, limit: usize) -> Answer<'_, Vec<DueDestination>> {
        self.0.pass(self.1.destinations(way, now, limit)).boxed()
    }
    fn tried(&self, id: DestinationId, attempt: Tried) -> Answer<'_, ()> {
        self.0.write(self.1.tried(id, attempt)).boxed()
    }
    fn settle_mail(&self) -> Answer<'_, Vec<SettledMail>> {
        self.0.pass(self.1.settle_mail()).boxed()
    }
    fn next_due(&self) -> Answer<'_, NextDue> {
        self.0.pass(self.1.next_due()).boxed()
    }
    fn again(&self, id: ReportNo, now: Timestamp, cap: u32) -> Answer<'_, u32> {
        self.0.write(self.1.again(id, now, cap)).boxed()
    }
    fn purge_reports(&self, oldest: Day) -> Answer<'_, bool> {
        self.0.write(self.1.purge_reports(oldest)).boxed()
    }
    fn reports(&self, filter: ReportFilter, limit: usize) -> Answer<'_, Vec<ListedReport>> {
        self.0.pass(self.1.reports(filter, limit)).boxed()
    }
    fn octets(&self, id: ReportNo) -> Answer<'_, Option<Bytes>> {
        self.0.pass(self.1.octets(id)).boxed()
    }
}

impl ReportMailer for Gated<ToQueue> {
    fn mail(&self, message: NewMessage) -> BoxFuture<'_, Result<(), StoreError>> {
        self.0.pass(self.1.mail(message)).boxed()
    }
}

impl ReportPoster for Gated<Arc<Posts>> {
    fn post<'a>(&'a self, url: &'a str, packed: Bytes) -> BoxFuture<'a, Posted> {
        self.0.pass(self.1.post(url, packed)).boxed()
    }
}

// RPT-93, RPT-44: the process dies before or after the effect of every single call; the next one finishes the day.
#[tokio::test(flavor = "multi_thread")]
async fn a_death_at_any_call_leaves_one_report_id_for_each_day_and_domain() {
    let mut at = 0;
    loop {
        let mut reached = false;
        for done in [false, true] {
            reached |= dies(at, done).await;
        }
        if !reached {
            break;
        }
        at += 1;
    }
    assert!(at > 20, "only {at} calls were made");
}

/// Whether the call was reached.
async fn dies(at: usize, done: bool) -> bool {
    let mut w = World::new();
    // One after the other, so that every call is the last in some run.
    w.settings.parallel = 1;
    w.asks("a.example", "mailto:tlsrpt@a.example,https://reports.example/a");
    w.asks("b.example", "https://reports.example/b");
    let gate = Gate::shut_at(Some((at, done)));
    let relay = w.open_behind(&gate);
    let of = Day::of(w.clock.now());
    for name in ["a.example", "b.example", "silent.example"] {
        relay.session(name, true).await;
    }
    w.clock.advance(DAY);
    w.settle_clock(&relay);
    let died = tokio::select! {
        () = relay.step() => false,
        () = gate.dead.notified() => true,
    };
    drop(relay);
    let relay = w.open();
    for _ in 0..4 {
        relay.step().await;
        w.clock.advance(HOUR);
    }
    let told = format!("died {} call {at}", if done { "after" } else { "before" });
    let reports = relay.reports().await;
    let names: Vec<_> = reports.iter().map(|r| (r.day, r.domain.as_str(), r.state)).collect();
    let expected = [
        (of, "a.example", ReportState::Delivered),
        (of, "b.example", ReportState::Delivered),
        (of, "silent.example", ReportState::Unwanted),
    ];
    assert_eq!(names, expected, "{told}");
    assert!(relay.store.counted(of, None, 9).await.unwrap().is_empty(), "{told}");
    let mails = relay.mails().await;
    assert_eq!(mails.len(), 1, "{told}");
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for body in w.posts.bodies() {
        assert_eq!(body.sessions(), (1, 0), "{told}");
        ids.entry(body.policies[0].policy.policy_domain.clone()).or_default().push(body.report_id);
    }
    for report in &reports[..2] {
        let seen = &ids[report.domain.as_str()];
        // A POST whose answer was lost with the process is repeated; a receiver knows it by its id.
        assert!(seen.len() <= 2 && seen.iter().all(|id| *id == report.report_id), "{told}: {seen:?}");
        assert!(seen.len() == 1 || died, "{told}: {seen:?}");
    }
    let text = relay.content(&mails[0]).await;
    assert!(text.contains(&reports[0].report_id), "{told}");
    relay.close().await;
    died
}

// A full disk while the outbox is written: the work stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_delays_reports_and_loses_none() {
    let w = World::new();
    w.asks("a.example", "mailto:tlsrpt@a.example,https://reports.example/a");
    let gate = Gate::open();
    let relay = w.open_behind(&gate);
    relay.session("a.example", true).await;
    relay.step().await;
    w.clock.advance(DAY);
    gate.fill_disk(true);
    relay.step().await;
    relay.step().await;
    assert!(w.posts.bodies().is_empty() && relay.reports().await.is_empty());
    assert!(relay.service.inner.memory().store_failed, "and it was said");
    // Room for the plan and the report, but not for what came of sending it.
    gate.fill_disk(false);
    let _ = relay.service.inner.make_round().await;
    gate.fill_disk(true);
    relay.send().await;
    assert_eq!(relay.reports().await[0].state, ReportState::Sending);
    gate.fill_disk(false);
    w.clock.advance(MINUTE);
    relay.step().await;
    let report = relay.reports().await.remove(0);
    assert_eq!(report.state, ReportState::Delivered);
    assert_eq!(relay.mails().await.len(), 1, "the queue knew it by its origin key");
    assert!(w.posts.bodies().iter().all(|b| b.report_id == report.report_id));
    assert!(!relay.service.inner.memory().store_failed);
    relay.close().await;
}
