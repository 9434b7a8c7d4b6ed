//! The policy service: what MTA-STS says about a domain at this delivery attempt, and everything that keeps
//! the stored policies true: fetches, back-off, grace, refresh, purge (RFC 8461 §3.3, §5, §10.2).
//!
//! Rows of the [`PolicyStore`] are kept in memory in front of it, bounded, so a busy domain costs no read.
//! When the store fails the memory carries on, and an unwritten policy is written later. No lock and no store
//! transaction is held across a lookup or a fetch; concurrent attempts for one domain share them (STS-58).
//!
//! The caller asks only for domains that are routed by name and have no null MX (STS-62, NMX-07).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::decide::{self, Step, Txt};
use super::policy::Mode;
use super::{Applicable, Discovery, DomainMemory, FetchFailure, PolicyFetcher, PolicyStore, StoredPolicy};
use crate::clock::{Clock, Timestamp};
use crate::dns::flight::Flights;
use crate::dns::{DnsError, DnsErrorKind, Resolver};
use crate::mail::Domain;

mod clock_watch;
mod discovery;
mod fetching;
pub mod metrics;
mod rows;
mod settings;
mod upkeep;

pub use settings::ServiceSettings;

use clock_watch::ClockWatch;
use rows::{Lifted, Row};

/// The service. One instance serves the whole relay; cloning is cheap and shares it.
#[derive(Clone)]
pub struct PolicyService {
    inner: Arc<Inner>,
}

/// Everything `check` shows about a domain's policy, asked now and stored nowhere.
#[derive(Debug, Clone)]
pub struct LiveLook {
    /// What the TXT lookup said.
    pub txt: Txt,
    /// Why, when it failed.
    pub dns_error: Option<DnsError>,
    /// What a delivery would do first: only where it fetches does it go by `live`.
    pub step: Step,
    /// What the policy host served; `None` when nothing names an id.
    pub live: Option<Result<Arc<StoredPolicy>, FetchFailure>>,
    /// The stored policy, expired or not.
    pub stored: Option<Arc<StoredPolicy>>,
    /// The memory beside it.
    pub memory: DomainMemory,
    /// What a delivery would go by.
    pub applicable: Applicable,
}

impl PolicyService {
    /// A service over these ports. Call [`PolicyService::note_start`] before the first discovery and
    /// keep [`PolicyService::run`] running.
    pub fn new(
        settings: ServiceSettings,
        resolver: Arc<dyn Resolver>,
        fetcher: Arc<dyn PolicyFetcher>,
        store: Arc<dyn PolicyStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let rows = moka::sync::Cache::builder()
            .max_capacity(settings.memory)
            .weigher(|_: &Domain, row: &Row| row.weight())
            .build();
        let inner = Inner {
            rows,
            row_writer: Mutex::new(()),
            unsaved: Mutex::default(),
            lifted: Mutex::default(),
            discoveries: Flights::new(),
            gets: Flights::new(),
            slots: Semaphore::new(settings.max_fetches),
            watch: Mutex::new(ClockWatch::new(clock.now(), clock.monotonic())),
            settings,
            resolver,
            fetcher,
            store,
            clock,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Compares the clock with `last_written`, the latest time found in the store: more than a day between
    /// them, either way, and nothing expires for 24 h while everything is refreshed (STS-57).
    pub fn note_start(&self, last_written: Option<Timestamp>) {
        let Some(last) = last_written else { return };
        let now = self.inner.clock.now();
        if now.since(last).max(last.since(now)) > self.inner.settings.start_gap {
            tracing::warn!(%last, %now, "the clock is far from the last time written: no policy expires for a day");
            self.inner.watch().doubt(self.inner.clock.monotonic(), self.inner.settings.doubt);
        }
    }

    /// The policy to apply at this delivery attempt. Blocks while a new policy is fetched (STS-29).
    pub async fn discover(&self, domain: &Domain) -> Discovery {
        if !self.inner.settings.enabled {
            return Discovery::Known(Applicable::default());
        }
        let inner = Arc::clone(&self.inner);
        let name = domain.clone();
        self.inner.discoveries.join(domain, || async move { inner.discover(&name).await }.boxed()).await
    }

    /// After an attempt that an enforce policy stopped: fetches once more although the id is unchanged,
    /// because operators change the TXT record before the file (STS-55). At most once an hour per domain.
    /// True when a policy with another content was found.
    pub async fn after_enforce_failure(&self, domain: &Domain) -> bool {
        let inner = &self.inner;
        let (Ok(row), now) = (inner.load(domain).await, inner.clock.now()) else { return false };
        let Some(stored) = row.policy.clone() else { return false };
        let pause = inner.settings.refetch_pause;
        let recent = row.memory.last_refetch.is_some_and(|t| t <= now && now.since(t) < pause);
        if recent || decide::is_backed_off(&row.memory, &stored.id, now, &inner.settings.limits) {
            return false;
        }
        inner.remember(domain, &row, |m| m.last_refetch = Some(now)).await;
        inner.get(domain, &stored.id).await.is_ok_and(|fresh| decide::differs(&stored, &fresh))
    }

    /// The last look before an enforce failure becomes final (STS-53): asks for the TXT record past every
    /// cache, and fetches when the id is new. True when that brought a policy: try again under it.
    pub async fn final_look(&self, domain: &Domain) -> bool {
        let Ok(row) = self.inner.load(domain).await else { return false };
        if let Some(name) = domain.with_prefix("_mta-sts") {
            self.inner.resolver.forget(&name);
        }
        match (self.inner.ask_txt(domain).await.0, &row.policy) {
            (Txt::Id(id), Some(stored)) if stored.id != id => self.inner.get(domain, &id).await.is_ok(),
            _ => false,
        }
    }

    /// Fetches because an operator says so, whatever back-off runs and whatever the DNS cache holds.
    ///
    /// # Errors
    /// What stood in the way; a stored policy stays.
    pub async fn refresh(&self, domain: &Domain) -> Result<Arc<StoredPolicy>, FetchFailure> {
        self.inner.resolver.forget(domain);
        let stored = self.inner.load(domain).await.ok().and_then(|row| row.policy);
        let (txt, error) = self.inner.ask_txt(domain).await;
        let id = match (&txt, stored) {
            (Txt::Id(id), _) => id.clone(),
            (_, Some(stored)) => stored.id.clone(),
            (_, None) => return Err(undiscovered(&txt, error.as_ref())),
        };
        self.inner.get(domain, &id).await.map_err(|e| match e {
            NotFetched::Failed(failure) => failure,
            NotFetched::NoSlot => {
                FetchFailure::fetch_error("busy", "all fetches that are allowed at a time are under way")
            }
        })
    }

    /// Voids the back-off of failed fetches and the pause between refetches that run now, for `domains`, or for all
    /// when there are none.
    pub fn lift_limits(&self, domains: &[Domain]) {
        let now = self.inner.clock.now();
        let mut lifted = self.inner.lifted.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.is_empty() || lifted.domains.len() >= MAX_LIFTED {
            *lifted = Lifted { all: Some(now), domains: HashMap::new() };
        }
        for domain in domains {
            lifted.domains.insert(domain.clone(), now);
        }
    }

    /// The stored policy while it applies, and nothing that was looked up now (`check --from-cache`).
    pub async fn cached(&self, domain: &Domain) -> Applicable {
        let row = self.inner.load(domain).await.unwrap_or_default();
        Applicable { policy: self.inner.valid(&row), ..Applicable::default() }
    }

    /// Whether an enforce policy is stored and holds; asks nobody outside. A null MX or NXDOMAIN may be forged
    /// then (NMX-06). True as well when the store cannot say.
    pub async fn has_enforce(&self, domain: &Domain) -> bool {
        match self.inner.load(domain).await {
            Ok(row) => self.inner.valid(&row).is_some_and(|p| p.policy.mode == Mode::Enforce),
            Err(_) => true,
        }
    }

    /// TXT record and policy file as they are now, and what a delivery would go by, which need not be that file. Stores nothing,
    /// counts nothing, uses up no back-off.
    pub async fn look_live(&self, domain: &Domain) -> LiveLook {
        let inner = &self.inner;
        let row = inner.load(domain).await.unwrap_or_default();
        let (txt, dns_error) = inner.ask_txt(domain).await;
        let step = inner.step(&row, &txt);
        let live = match (&txt, &step) {
            (Txt::Id(id), _) | (_, Step::Fetch { id }) => Some((id, inner.download(domain, id).await)),
            (Txt::Nothing(_) | Txt::Failed, _) => None,
        };
        let stored = |step, row, failure| inner.comes_to(step, row, &txt, dns_error.as_ref(), failure);
        let applicable = match (&step, &live) {
            (Step::Fetch { .. }, Some((_, Ok(policy)))) => {
                Some(applicable(Some(Arc::new(policy.clone())), None))
            }
            (Step::Fetch { id }, Some((_, Err(NotFetched::Failed(failure))))) => {
                let mut failed = row.clone();
                inner.failed_now(&mut failed.memory, id, failure);
                stored(&inner.step(&failed, &txt), &failed, Some(failure.clone()))
            }
            _ => stored(&step, &row, None),
        };
        let live = live.map(|(_, fetched)| match fetched {
            Ok(policy) => Ok(Arc::new(policy)),
            Err(NotFetched::Failed(failure)) => Err(failure),
            Err(NotFetched::NoSlot) => {
                Err(FetchFailure::fetch_error("busy", "too many fetches are under way"))
            }
        });
        let applicable = applicable.unwrap_or_default();
        LiveLook { txt, dns_error, step, live, stored: row.policy, memory: row.memory, applicable }
    }
}

/// Why a fetch brought no policy.
#[derive(Debug, Clone)]
enum NotFetched {
    /// The domain's side failed; written down as such.
    Failed(FetchFailure),
    /// Ours did: every permitted fetch was under way. Says nothing about the domain.
    NoSlot,
}

struct Inner {
    settings: ServiceSettings,
    resolver: Arc<dyn Resolver>,
    fetcher: Arc<dyn PolicyFetcher>,
    store: Arc<dyn PolicyStore>,
    clock: Arc<dyn Clock>,
    rows: moka::sync::Cache<Domain, Row>,
    /// Held while a row is read, changed and put back.
    row_writer: Mutex<()>,
    /// Policies that the store did not take, with their history line.
    unsaved: Mutex<HashMap<Domain, (StoredPolicy, Option<String>)>>,
    discoveries: Flights<Domain, Discovery>,
    gets: Flights<(Domain, String), Result<Arc<StoredPolicy>, NotFetched>>,
    slots: Semaphore,
    watch: Mutex<ClockWatch>,
    lifted: Mutex<Lifted>,
}

impl Inner {
    /// Looks at the clock, and says whether expiry is suspended (STS-57).
    fn no_expiry(&self) -> bool {
        let s = &self.settings;
        self.watch().look(self.clock.now(), self.clock.monotonic(), s.clock_jump, s.doubt)
    }

    fn watch(&self) -> MutexGuard<'_, ClockWatch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unsaved(&self) -> MutexGuard<'_, HashMap<Domain, (StoredPolicy, Option<String>)>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Mode none behaves as if there were no policy, so nothing about it is reported (RPT-64).
fn applicable(policy: Option<Arc<StoredPolicy>>, failure: Option<FetchFailure>) -> Applicable {
    let silent = policy.as_ref().is_some_and(|p| p.policy.mode == Mode::None);
    let outdated = failure.is_some();
    Applicable { policy, fetch_failure: failure.filter(|_| !silent), outdated, lookup_failed: None }
}

fn undiscovered(txt: &Txt, error: Option<&DnsError>) -> FetchFailure {
    match txt {
        Txt::Nothing(why) => FetchFailure::fetch_error("txt-missing", why.as_str()),
        Txt::Id(_) | Txt::Failed => FetchFailure::fetch_error(
            "txt-error",
            &error.map_or_else(|| "the TXT lookup failed".to_owned(), ToString::to_string),
        ),
    }
}

/// A wait that no resolver caused, in the only words that [`Discovery::Wait`] has.
fn unavailable(domain: &Domain, record: &'static str) -> DnsError {
    DnsError { kind: DnsErrorKind::Timeout, name: domain.clone(), record, server: None }
}

/// Domains whose limits are lifted one by one; beyond that they are lifted for all.
const MAX_LIFTED: usize = 1000;

#[cfg(test)]
mod tests;
