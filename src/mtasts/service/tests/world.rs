//! The world of these tests: a zone, a scripted policy host, a store in memory, and a clock that stands still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::Notify;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::dns::Resolver;
use crate::dns::zone::ZoneResolver;
use crate::mail::Domain;
use crate::mtasts::service::metrics::PolicyMetrics;
use crate::mtasts::service::{PolicyService, ServiceSettings};
use crate::mtasts::{
    Applicable, Discovery, DomainMemory, FetchFailure, PolicyChange, PolicyFetcher, PolicyRow, PolicyStore,
    StoreFailed, StoredPolicy,
};
use crate::observe::prometheus::Prometheus;

pub(super) const T0: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86400);

/// Rows in memory. Can be told to fail.
#[derive(Default)]
pub(super) struct MemoryStore {
    pub(super) rows: Mutex<BTreeMap<Domain, PolicyRow>>,
    pub(super) history: Mutex<Vec<String>>,
    pub(super) broken: AtomicBool,
}

impl MemoryStore {
    pub(super) fn row(&self, domain: &Domain) -> PolicyRow {
        self.rows.lock().unwrap().get(domain).cloned().unwrap_or_default()
    }

    pub(super) fn up<T>(&self, value: impl FnOnce() -> T) -> BoxFuture<'static, Result<T, StoreFailed>>
    where
        T: Send + 'static,
    {
        let broken = self.broken.load(Ordering::SeqCst);
        ready(if broken { Err(StoreFailed("disk on fire".into())) } else { Ok(value()) }).boxed()
    }
}

impl PolicyStore for MemoryStore {
    fn load<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<PolicyRow, StoreFailed>> {
        self.up(|| self.row(domain))
    }

    fn save(&self, policy: StoredPolicy, change: Option<String>) -> BoxFuture<'_, Result<(), StoreFailed>> {
        self.up(|| {
            self.history.lock().unwrap().extend(change);
            let mut rows = self.rows.lock().unwrap();
            let domain = policy.domain.clone();
            rows.entry(domain).or_default().policy = Some(policy);
        })
    }

    fn remember(&self, domain: Domain, memory: DomainMemory) -> BoxFuture<'_, Result<(), StoreFailed>> {
        self.up(|| self.rows.lock().unwrap().entry(domain).or_default().memory = memory)
    }

    fn touch(&self, domain: &Domain, at: Timestamp) {
        if let Some(policy) = self.rows.lock().unwrap().get_mut(domain).and_then(|r| r.policy.as_mut()) {
            policy.last_used = at;
        }
    }

    fn due_for_refresh(
        &self,
        fetched_before: Timestamp,
        tried_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>> {
        self.up(|| {
            let rows = self.rows.lock().unwrap();
            let due = rows.values().filter(|r| r.memory.refresh_tried.is_none_or(|t| t < tried_before));
            due.filter_map(|r| r.policy.clone()).filter(|p| p.fetched < fetched_before).take(limit).collect()
        })
    }

    fn purge(&self, before: Timestamp) -> BoxFuture<'_, Result<usize, StoreFailed>> {
        self.up(|| {
            let mut rows = self.rows.lock().unwrap();
            let many = rows.len();
            rows.retain(|_, r| r.policy.as_ref().is_none_or(|p| p.expires.max(p.last_used) >= before));
            many - rows.len()
        })
    }

    fn failing(&self) -> BoxFuture<'_, Result<Vec<(Domain, Timestamp)>, StoreFailed>> {
        self.up(|| {
            let rows = self.rows.lock().unwrap();
            rows.iter().filter_map(|(d, r)| Some((d.clone(), r.memory.refresh_failing_since?))).collect()
        })
    }

    fn list(
        &self,
        after: Option<Domain>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>> {
        self.up(|| {
            let rows = self.rows.lock().unwrap();
            let later = rows.iter().filter(|(d, _)| after.as_ref().is_none_or(|a| *d > a));
            later.filter_map(|(_, r)| r.policy.clone()).take(limit).collect()
        })
    }

    fn history<'a>(&'a self, _: &'a Domain) -> BoxFuture<'a, Result<Vec<PolicyChange>, StoreFailed>> {
        self.up(Vec::new)
    }
}

/// A policy host that serves what it was told last, and counts.
#[derive(Default)]
pub(super) struct Host {
    pub(super) serves: Mutex<Option<Result<String, FetchFailure>>>,
    pub(super) gets: Mutex<Vec<String>>,
    pub(super) in_flight: AtomicUsize,
    pub(super) most_in_flight: AtomicUsize,
    /// While set, a fetch waits for `go`.
    pub(super) stalls: AtomicBool,
    pub(super) go: Notify,
}

impl Host {
    pub(super) fn policy(mode: &str, mx: &str, max_age: u64) -> String {
        format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: {max_age}\n")
    }

    pub(super) fn serve(&self, body: &str) {
        *self.serves.lock().unwrap() = Some(Ok(body.to_owned()));
    }

    pub(super) fn fail(&self, reason: &str) {
        *self.serves.lock().unwrap() = Some(Err(FetchFailure::fetch_error(reason, "as told")));
    }

    pub(super) fn gets(&self) -> usize {
        self.gets.lock().unwrap().len()
    }
}

impl PolicyFetcher for Host {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<u8>, FetchFailure>> {
        async move {
            self.gets.lock().unwrap().push(domain.to_string());
            let now = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_flight.fetch_max(now, Ordering::SeqCst);
            if self.stalls.load(Ordering::SeqCst) {
                self.go.notified().await;
            }
            tokio::task::yield_now().await;
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            let told = self.serves.lock().unwrap().clone();
            told.unwrap_or_else(|| Err(FetchFailure::fetch_error("connect", "nobody there")))
                .map(String::into_bytes)
        }
        .boxed()
    }
}

pub(super) struct World {
    pub(super) dns: Arc<ZoneResolver>,
    pub(super) host: Arc<Host>,
    pub(super) store: Arc<MemoryStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) service: PolicyService,
    pub(super) domain: Domain,
    /// What the first start counts.
    pub(super) counted: Prometheus,
}

pub(super) fn world() -> World {
    let (dns, host, store) =
        (Arc::new(ZoneResolver::new("x TXT x").unwrap()), Arc::new(Host::default()), Arc::default());
    let clock = Arc::new(ManualClock::new(T0));
    let counted = Prometheus::new().unwrap();
    let metrics = PolicyMetrics::new(&counted.registry());
    let settings = ServiceSettings { metrics, ..ServiceSettings::default() };
    let service = start(&dns, &host, &store, &clock, settings);
    World { dns, host, store, clock, service, domain: Domain::parse("d.example").unwrap(), counted }
}

pub(super) fn start(
    dns: &Arc<ZoneResolver>,
    host: &Arc<Host>,
    store: &Arc<MemoryStore>,
    clock: &Arc<ManualClock>,
    settings: ServiceSettings,
) -> PolicyService {
    PolicyService::new(
        settings,
        Arc::clone(dns) as Arc<dyn Resolver>,
        Arc::clone(host) as Arc<dyn PolicyFetcher>,
        Arc::clone(store) as Arc<dyn PolicyStore>,
        Arc::clone(clock) as Arc<dyn Clock>,
    )
}

impl World {
    pub(super) fn publish(&self, id: &str) {
        self.dns.replace(&format!("_mta-sts.d.example TXT \"v=STSv1; id={id};\"")).unwrap();
    }

    pub(super) fn unpublish(&self) {
        self.dns.remove(&self.domain.with_prefix("_mta-sts").unwrap());
    }

    pub(super) fn break_dns(&self) {
        self.dns.replace("_mta-sts.d.example TXT SERVFAIL").unwrap();
    }

    /// A domain with id 1 and an enforce policy for mx.d.example, a week long, that is in the cache.
    pub(super) async fn enforced() -> Self {
        let w = world();
        w.publish("1");
        w.host.serve(&Host::policy("enforce", "mx.d.example", 7 * 86400));
        assert_eq!(w.look().await, "enforce 1");
        w
    }

    pub(super) fn restart(&mut self) {
        self.service = start(&self.dns, &self.host, &self.store, &self.clock, ServiceSettings::default());
    }

    /// One discovery, as `mode id` and the reason of a failure; `wait` for a wait.
    pub(super) async fn look(&self) -> String {
        match self.service.discover(&self.domain).await {
            Discovery::Wait(e) => format!("wait {:?}", e.kind),
            Discovery::Known(a) => said(&a),
        }
    }

    /// The like, as `check` sees it.
    pub(super) async fn look_live(&self) -> String {
        said(&self.service.look_live(&self.domain).await.applicable)
    }

    pub(super) fn stored(&self) -> StoredPolicy {
        self.store.row(&self.domain).policy.expect("a stored policy")
    }
}

fn said(a: &Applicable) -> String {
    let policy =
        a.policy.as_ref().map_or_else(|| "nothing".into(), |p| format!("{} {}", p.policy.mode, p.id));
    a.fetch_failure.as_ref().map_or_else(|| policy.clone(), |f| format!("{policy} ({})", f.reason))
}
