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
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::decide::{self, Life, Limits, Step, Txt};
use super::policy::{self, Mode, Policy};
use super::record;
use super::{
    Applicable, Discovery, DomainMemory, FetchFailure, PolicyFetcher, PolicyRow, PolicyStore, StoreFailed,
    StoredPolicy,
};
use crate::clock::{Clock, Timestamp};
use crate::dns::flight::Flights;
use crate::dns::{Data, DnsError, DnsErrorKind, Resolver};
use crate::mail::Domain;
use crate::tlsrpt::ResultType;

mod clock_watch;
mod upkeep;

use clock_watch::ClockWatch;

/// What the service is told; the defaults are those of the specification.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// `mta_sts.enabled`: false finds no policy anywhere and asks nobody.
    pub enabled: bool,
    /// Grace, back-off and their like.
    pub limits: Limits,
    /// The end of a fetch, whatever the fetcher does (STS-29): 60 s.
    pub fetch_timeout: Duration,
    /// Fetches at the same time (STS-26): 64.
    pub max_fetches: usize,
    /// How long a delivery waits for one of them: 60 s.
    pub slot_wait: Duration,
    /// Size of the rows kept in memory, in bytes: 64 MiB.
    pub memory: u64,
    /// Age at which a policy has been refreshed at the latest (STS-49): 24 h.
    pub refresh_after: Duration,
    /// How far before that a refresh may come; each policy has its own moment: 3 h.
    pub refresh_spread: Duration,
    /// The wait after a refresh that failed: 1 h.
    pub refresh_retry: Duration,
    /// Refreshes at the same time: 8.
    pub refresh_parallel: usize,
    /// Policies that no delivery used for so long lapse unrefreshed: 180 days.
    pub unused_after: Duration,
    /// The pause between unconditional refetches after an enforce failure (STS-55): 1 h.
    pub refetch_pause: Duration,
    /// How long an expired and unused policy is kept (STS-56): 30 days.
    pub keep_expired: Duration,
    /// How often due refreshes are looked for: 1 min.
    pub tick: Duration,
    /// The disagreement of wall and monotonic time that makes the clock doubted (STS-57): 1 h.
    pub clock_jump: Duration,
    /// The like between the last time written and the start: 1 day.
    pub start_gap: Duration,
    /// How long a doubted clock expires nothing: 24 h.
    pub doubt: Duration,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        Self {
            enabled: true,
            limits: Limits::default(),
            fetch_timeout: minute,
            max_fetches: 64,
            slot_wait: minute,
            memory: 64 << 20,
            refresh_after: hour * 24,
            refresh_spread: hour * 3,
            refresh_retry: hour,
            refresh_parallel: 8,
            unused_after: hour * 24 * 180,
            refetch_pause: hour,
            keep_expired: hour * 24 * 30,
            tick: minute,
            clock_jump: hour,
            start_gap: hour * 24,
            doubt: hour * 24,
        }
    }
}

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
    /// What the policy host served; `None` when the TXT side gave no id.
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
        inner.get(domain, &stored.id).await.is_ok_and(|fresh| differs(&stored, &fresh))
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
        Applicable { policy: self.inner.valid(&row), fetch_failure: None }
    }

    /// Whether an enforce policy is stored and holds; asks nobody outside. A null MX or NXDOMAIN may be forged
    /// then (NMX-06). True as well when the store cannot say.
    pub async fn has_enforce(&self, domain: &Domain) -> bool {
        match self.inner.load(domain).await {
            Ok(row) => self.inner.valid(&row).is_some_and(|p| p.policy.mode == Mode::Enforce),
            Err(_) => true,
        }
    }

    /// TXT record and policy file as they are now. Stores nothing, counts nothing, uses up no back-off.
    pub async fn look_live(&self, domain: &Domain) -> LiveLook {
        let row = self.inner.load(domain).await.unwrap_or_default();
        let (txt, dns_error) = self.inner.ask_txt(domain).await;
        let live = match &txt {
            Txt::Id(id) => Some(match self.inner.download(domain, id).await {
                Ok(policy) => Ok(Arc::new(policy)),
                Err(NotFetched::Failed(failure)) => Err(failure),
                Err(NotFetched::NoSlot) => {
                    Err(FetchFailure::fetch_error("busy", "too many fetches are under way"))
                }
            }),
            Txt::Nothing(_) | Txt::Failed => None,
        };
        let applicable = match &live {
            Some(Ok(policy)) => Applicable { policy: Some(Arc::clone(policy)), fetch_failure: None },
            Some(Err(failure)) => applicable(self.inner.valid(&row), Some(failure.clone())),
            None => {
                let policy = self.inner.valid(&row);
                let failure = policy.is_some().then(|| undiscovered(&txt, dns_error.as_ref()));
                applicable(policy, failure)
            }
        };
        LiveLook { txt, dns_error, live, stored: row.policy, memory: row.memory, applicable }
    }
}

/// A row in memory; cheap to clone.
#[derive(Debug, Clone, Default)]
struct Row {
    policy: Option<Arc<StoredPolicy>>,
    memory: DomainMemory,
}

impl Row {
    /// About the bytes it occupies.
    fn weight(&self) -> u32 {
        let texts = |lines: &[String]| lines.iter().map(|l| l.len() + 32).sum::<usize>();
        let policy = self.policy.as_ref().map_or(0, |p| texts(&p.policy.lines) + texts(&p.policy.mx));
        let failure =
            self.memory.backoff.as_ref().map_or(0, |b| texts(&b.failure.lines) + b.failure.detail.len());
        u32::try_from(512 + policy + failure).unwrap_or(u32::MAX)
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

/// Until when the pauses of STS-25 and STS-55 are void, because an operator wants it tried (`queue retry`).
#[derive(Debug, Default)]
struct Lifted {
    all: Option<Timestamp>,
    domains: HashMap<Domain, Timestamp>,
}

impl Lifted {
    fn of(&self, domain: &Domain) -> Option<Timestamp> {
        self.all.max(self.domains.get(domain).copied())
    }
}

impl Inner {
    async fn discover(self: Arc<Self>, domain: &Domain) -> Discovery {
        let Ok(mut row) = self.load(domain).await else {
            // Whether an enforce policy is stored cannot be known, and mail must not go out on a guess.
            return Discovery::Wait(unavailable(domain, "stored MTA-STS policy"));
        };
        let (txt, dns_error) = self.ask_txt(domain).await;
        let mut failure = None;
        let mut step = self.step(&row, &txt);
        if let Step::Fetch { id } = &step {
            match self.get(domain, id).await {
                Ok(policy) => return Discovery::Known(self.used(domain, Some(policy), None)),
                Err(NotFetched::NoSlot) => {
                    return match self.valid(&row) {
                        Some(policy) => Discovery::Known(self.used(domain, Some(policy), None)),
                        // Going on would send the first message unprotected because we are busy.
                        None => Discovery::Wait(unavailable(domain, "MTA-STS policy")),
                    };
                }
                Err(NotFetched::Failed(why)) => {
                    failure = Some(why);
                    row = self.load(domain).await.unwrap_or(row);
                    // The failure is in the memory now, so the next step is never the same fetch.
                    step = self.step(&row, &txt);
                }
            }
        }
        match step {
            Step::Wait { start } => {
                if start {
                    let now = self.clock.now();
                    self.remember(domain, &row, |m| m.grace_started = Some(now)).await;
                }
                tracing::warn!(%domain, event = "sts-discovery-dns-error", error = ?dns_error, "waiting");
                let error = dns_error.unwrap_or_else(|| unavailable(domain, "TXT"));
                Discovery::Wait(error)
            }
            Step::UseStored => Discovery::Known(self.used(domain, self.valid(&row), None)),
            Step::UseStoredUndiscovered => {
                let policy = self.valid(&row);
                let why = undiscovered(&txt, dns_error.as_ref());
                if policy.as_ref().is_some_and(|p| p.policy.mode != Mode::None) {
                    tracing::warn!(%domain, reason = %why.reason, "policy not discovered; the stored one applies");
                }
                Discovery::Known(self.used(domain, policy, Some(why)))
            }
            Step::BackedOff | Step::Fetch { .. } => {
                let failure = failure.or_else(|| row.memory.backoff.as_ref().map(|b| b.failure.clone()));
                Discovery::Known(self.used(domain, self.valid(&row), failure))
            }
            Step::NoPolicy => {
                if txt == Txt::Failed {
                    tracing::warn!(%domain, event = "sts-discovery-dns-error", error = ?dns_error, "going on without a policy");
                }
                Discovery::Known(Applicable::default())
            }
        }
    }

    fn step(&self, row: &Row, txt: &Txt) -> Step {
        let now = self.clock.now();
        decide::step(row.policy.as_deref(), &row.memory, txt, now, self.no_expiry(), &self.settings.limits)
    }

    fn life(&self, row: &Row) -> Option<(Arc<StoredPolicy>, Life)> {
        let policy = row.policy.clone()?;
        let life =
            decide::life(&policy, &row.memory, self.clock.now(), self.no_expiry(), &self.settings.limits);
        Some((policy, life))
    }

    /// The stored policy while it applies.
    fn valid(&self, row: &Row) -> Option<Arc<StoredPolicy>> {
        self.life(row).filter(|(_, life)| *life != Life::Over).map(|(policy, _)| policy)
    }

    /// Notes the use of a policy, to the hour, and puts it together with what went wrong.
    fn used(
        &self,
        domain: &Domain,
        policy: Option<Arc<StoredPolicy>>,
        failure: Option<FetchFailure>,
    ) -> Applicable {
        let now = self.clock.now();
        if policy.as_ref().is_some_and(|p| now.since(p.last_used) >= TOUCH_EVERY) {
            self.store.touch(domain, now);
            let _writer = self.row_writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mut row) = self.rows.get(domain) {
                if let Some(stored) = &mut row.policy {
                    Arc::make_mut(stored).last_used = now;
                }
                self.rows.insert(domain.clone(), row);
            }
        }
        applicable(policy, failure)
    }

    /// The TXT side of discovery (RFC 8461 §3.1), at exactly this owner name (STS-01, STS-61).
    async fn ask_txt(&self, domain: &Domain) -> (Txt, Option<DnsError>) {
        let Some(name) = domain.with_prefix("_mta-sts") else {
            return (Txt::Nothing(record::NoRecord::Missing), None);
        };
        match self.resolver.txt(&name).await {
            Err(e) => (Txt::Failed, Some(e)),
            Ok(answer) => {
                let records = match answer.data {
                    Data::Records(records) => records,
                    Data::NoData | Data::NxDomain => Vec::new(),
                };
                (record::policy_id(&records).map_or_else(Txt::Nothing, Txt::Id), None)
            }
        }
    }

    /// Fetches the policy and stores it under `id`, or writes the failure down. Shared by all who want the same.
    async fn get(self: &Arc<Self>, domain: &Domain, id: &str) -> Result<Arc<StoredPolicy>, NotFetched> {
        let key = (domain.clone(), id.to_owned());
        let inner = Arc::clone(self);
        let (name, wanted) = key.clone();
        let work = async move {
            match inner.download(&name, &wanted).await {
                Ok(policy) => Ok(inner.keep(policy).await),
                Err(NotFetched::Failed(failure)) => {
                    inner.note_failure(&name, &wanted, &failure).await;
                    Err(NotFetched::Failed(failure))
                }
                Err(NotFetched::NoSlot) => Err(NotFetched::NoSlot),
            }
        };
        self.gets.join(&key, || work.boxed()).await
    }

    async fn download(&self, domain: &Domain, id: &str) -> Result<StoredPolicy, NotFetched> {
        let slot = timeout(self.settings.slot_wait, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else { return Err(NotFetched::NoSlot) };
        let body = match timeout(self.settings.fetch_timeout, self.fetcher.fetch(domain)).await {
            Ok(Ok(body)) => body,
            Ok(Err(failure)) => return Err(NotFetched::Failed(failure)),
            Err(_) => {
                return Err(NotFetched::Failed(FetchFailure::fetch_error(
                    "timeout",
                    "the policy host did not finish in time",
                )));
            }
        };
        let policy = Policy::parse(&body).map_err(|e| {
            NotFetched::Failed(FetchFailure {
                result: ResultType::StsPolicyInvalid,
                detail: e.to_string(),
                reason: e.token,
                lines: policy::raw_lines(&body),
            })
        })?;
        let now = self.clock.now();
        let expires = now.after(policy.max_age);
        Ok(StoredPolicy {
            domain: domain.clone(),
            id: id.to_owned(),
            policy,
            fetched: now,
            expires,
            last_used: now,
        })
    }

    /// Puts a fetched policy in the place of the stored one.
    async fn keep(&self, fresh: StoredPolicy) -> Arc<StoredPolicy> {
        let domain = fresh.domain.clone();
        let row = self.load(&domain).await.unwrap_or_default();
        let before = row.policy.clone();
        let now = fresh.fetched;
        let fresh = Arc::new(fresh);
        let memory_before = row.memory.clone();
        let row = self.change(&domain, &row, |row| {
            row.policy = Some(Arc::clone(&fresh));
            row.memory.backoff = None;
            row.memory.refresh_failing_since = None;
            row.memory.refresh_tried = Some(now);
        });
        let enforced = before.as_ref().is_some_and(|p| p.policy.mode == Mode::Enforce && now < p.expires);
        if enforced && fresh.policy.mode != Mode::Enforce {
            tracing::warn!(%domain, event = "sts-policy-downgrade", mode = %fresh.policy.mode, id = %fresh.id, "the domain took its enforce policy back");
        }
        let change = decide::change(before.as_deref(), &fresh);
        if let Err(e) = self.store.save((*fresh).clone(), change.clone()).await {
            tracing::error!(%domain, error = %e, "the policy is kept in memory until the store takes it");
            self.unsaved().insert(domain.clone(), ((*fresh).clone(), change));
        } else {
            self.unsaved().remove(&domain);
        }
        if row.memory != memory_before {
            self.write_memory(&domain, row.memory).await;
        }
        fresh
    }

    /// Back-off, failing refresh, and the downgrade when the policy had only waited for this (STS-25, STS-57).
    async fn note_failure(&self, domain: &Domain, id: &str, failure: &FetchFailure) {
        tracing::warn!(%domain, id, result = %failure.result, reason = %failure.reason, detail = %failure.detail, "policy not fetched");
        let now = self.clock.now();
        let row = self.load(domain).await.unwrap_or_default();
        let was_due = self.life(&row).filter(|(_, life)| *life == Life::Due);
        let limits = &self.settings.limits;
        self.remember(domain, &row, |m| {
            m.backoff = Some(decide::next_backoff(m.backoff.as_ref(), id, failure, now, limits));
            m.refresh_tried = Some(now);
            m.refresh_failing_since = m.refresh_failing_since.or(Some(now));
        })
        .await;
        if let Some((policy, _)) = was_due {
            tracing::warn!(%domain, event = "sts-policy-expired-downgrade", mode = %policy.policy.mode, expired = %policy.expires, "the policy ran out and cannot be had again");
        }
    }

    /// The row of `domain`, from memory or the store, without limits that an operator has lifted.
    async fn load(&self, domain: &Domain) -> Result<Row, StoreFailed> {
        let mut row = self.load_row(domain).await?;
        let lifted = self.lifted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = lifted.of(domain) {
            let memory = &mut row.memory;
            memory.backoff = memory.backoff.take().filter(|b| b.until.before(b.step) > since);
            memory.last_refetch = memory.last_refetch.filter(|at| *at > since);
        }
        Ok(row)
    }

    async fn load_row(&self, domain: &Domain) -> Result<Row, StoreFailed> {
        if let Some(row) = self.rows.get(domain) {
            return Ok(row);
        }
        let PolicyRow { policy, memory } = self.store.load(domain).await.inspect_err(|e| {
            tracing::error!(%domain, error = %e, "stored policy not readable");
        })?;
        let unsaved = self.unsaved().get(domain).map(|(policy, _)| policy.clone());
        let row = Row { policy: unsaved.or(policy).map(Arc::new), memory };
        let _writer = self.row_writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.rows.entry(domain.clone()).or_insert(row).into_value())
    }

    /// Changes the row in memory; `base` stands in for one that was evicted meanwhile.
    fn change(&self, domain: &Domain, base: &Row, change: impl FnOnce(&mut Row)) -> Row {
        let _writer = self.row_writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut row = self.rows.get(domain).unwrap_or_else(|| base.clone());
        change(&mut row);
        self.rows.insert(domain.clone(), row.clone());
        row
    }

    /// Changes the memory of `domain` here and in the store.
    async fn remember(&self, domain: &Domain, base: &Row, change: impl FnOnce(&mut DomainMemory)) {
        let row = self.change(domain, base, |row| change(&mut row.memory));
        self.write_memory(domain, row.memory).await;
    }

    async fn write_memory(&self, domain: &Domain, memory: DomainMemory) {
        if let Err(e) = self.store.remember(domain.clone(), memory).await {
            tracing::error!(%domain, error = %e, "back-off and grace are kept in memory only");
        }
    }

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
    Applicable { policy, fetch_failure: failure.filter(|_| !silent) }
}

fn differs(a: &StoredPolicy, b: &StoredPolicy) -> bool {
    a.policy.mode != b.policy.mode || a.policy.mx != b.policy.mx
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

const TOUCH_EVERY: Duration = Duration::from_secs(3600);

/// Domains whose limits are lifted one by one; beyond that they are lifted for all.
const MAX_LIFTED: usize = 1000;

#[cfg(test)]
mod tests;
