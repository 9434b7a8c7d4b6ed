//! Open sessions, lent again, and how many there may be.
//!
//! Sessions are kept by MX name, address, port, our source address and whose they are, and lent only through
//! [`verdict`](crate::security::verdict) on their evidence with the borrower's own demand (OUT-51). Limits and
//! pauses go by address, port and source address, whatever the name (QUE-31). Both are per process.
//!
//! A verdict may verify dozens of signatures, so nobody judges while all others wait for the lock: a session stays where it
//! is and anybody's to take until its judge comes back for it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::mail::{Domain, ReversePath};
use crate::queue::health::{HostHealth, Pause, Trouble};
use crate::security::verdict::Evidence;

use super::session::Session;

/// For how long the standing of a host is remembered after its last use.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Below so many hosts nobody looks for those to forget.
const MANY_HOSTS: usize = 1024;

/// Limits of the pool.
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// `delivery.max_connections`.
    pub max_connections: usize,
    /// `delivery.max_connections_per_host`.
    pub max_per_host: usize,
    /// `delivery.max_messages_per_connection`.
    pub max_messages: u32,
    /// How long a session is used at most (OUT-50).
    pub max_age: Duration,
    /// How long an unused session is kept (OUT-50).
    pub idle: Duration,
    /// How long a host stays `IPv4 first` after a refusal of IPv6 (OUT-40).
    pub ipv4_first: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            max_connections: 500,
            max_per_host: 20,
            max_messages: 100,
            max_age: Duration::from_secs(300),
            idle: Duration::from_secs(5),
            ipv4_first: Duration::from_secs(24 * 3600),
        }
    }
}

/// What limits go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostKey {
    /// Address and port.
    pub to: SocketAddr,
    /// Our source address, where one is configured.
    pub source: Option<IpAddr>,
}

/// What sessions are kept by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The MX name that SNI and certificate went by.
    pub name: Domain,
    /// The host.
    pub host: HostKey,
    /// Whose sessions these are: 0 for everybody's, else those of one rule (`Route::lane`).
    pub lane: u32,
}

/// The pool. Shared by all workers.
pub struct Pool {
    settings: PoolSettings,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Default)]
struct State {
    open: usize,
    /// Connections ever, for the number of the next one.
    opened: u64,
    hosts: HashMap<HostKey, Host>,
    idle: HashMap<Key, Vec<Idle>>,
    ipv4_first: HashMap<Domain, Duration>,
    reaping: bool,
    /// So many hosts known, and those of no use are forgotten.
    forget_at: usize,
}

#[derive(Default)]
struct Host {
    open: usize,
    health: HostHealth,
    /// When a place was last asked for.
    used: Duration,
    freed: Arc<Notify>,
}

struct Idle {
    session: Session,
    slot: Slot,
    since: Instant,
}

/// The right to one connection to one host. Dropping it frees the place.
pub struct Slot {
    /// Its own, for as long as the connection lasts.
    number: u64,
    pool: Weak<Pool>,
    host: HostKey,
}

/// What the pool answers at once.
pub enum Grant {
    /// An open session that meets the borrower's demand.
    Session(Box<Session>, Slot),
    /// A place for a new one.
    Dial(Slot),
    /// The host is left alone for a while.
    Paused(Pause),
    /// No place at the moment.
    Full,
}

impl Host {
    /// Whether somebody uses it, or its standing still says something.
    fn is_needed(&self, now: Duration) -> bool {
        let old = now.saturating_sub(self.used) >= REMEMBERED && self.health.is_free(now);
        self.open > 0 || Arc::strong_count(&self.freed) > 1 || !(old || self.health.is_forgettable(now))
    }
}

impl State {
    /// Keeps the hosts known within twice those that matter, whoever sends us where.
    fn forget_some(&mut self, now: Duration) {
        if self.hosts.len() >= self.forget_at {
            self.hosts.retain(|_, h| h.is_needed(now));
            self.forget_at = (self.hosts.len() * 2).max(MANY_HOSTS);
        }
    }

    /// What a borrower with these verdicts may do about the sessions that have been idle for less than `idle`.
    fn look(&mut self, key: &Key, idle: Duration, verdicts: &Verdicts) -> Look {
        let Some(list) = self.idle.get_mut(key) else { return Look::Nothing };
        let verdict = |i: &Idle| verdicts.iter().find(|(n, _)| *n == i.slot.number).map(|(_, suits)| *suits);
        // The one used last is the likeliest to be alive.
        let find = |wanted| list.iter().rposition(|i| verdict(i) == wanted && i.since.elapsed() < idle);
        if let Some(at) = find(Some(true)) {
            let Idle { session, slot, .. } = list.swap_remove(at);
            return Look::Take(Box::new(session), slot);
        }
        let unjudged = find(None).and_then(|at| list.get(at));
        unjudged.map_or(Look::Nothing, |i| Look::Judge(i.slot.number, i.session.seen.evidence.clone()))
    }
}

/// Of open sessions, by number: whether they suit one borrower. A host has few, and none is judged twice.
type Verdicts = Vec<(u64, bool)>;

/// What is to be done next.
enum Look {
    /// This one suits.
    Take(Box<Session>, Slot),
    /// Nobody knows yet of this one.
    Judge(u64, Evidence),
    /// None suits.
    Nothing,
}

impl Pool {
    /// An empty pool.
    pub fn new(settings: PoolSettings, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { settings, clock, state: Mutex::default(), freed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session whose evidence `suits`, or a place to dial, or neither, at once.
    pub fn try_acquire(self: &Arc<Self>, key: &Key, suits: &dyn Fn(&Evidence) -> bool) -> Grant {
        self.lend(key, suits, &mut Verdicts::new())
    }

    /// The like, for a borrower who may have judged before.
    fn lend(
        self: &Arc<Self>,
        key: &Key,
        suits: &dyn Fn(&Evidence) -> bool,
        verdicts: &mut Verdicts,
    ) -> Grant {
        let now = self.clock.monotonic();
        loop {
            let mut state = self.lock();
            if let Some(pause) = state.hosts.get(&key.host).and_then(|h| h.health.pause(now)) {
                return Grant::Paused(pause);
            }
            match state.look(key, self.settings.idle, verdicts) {
                Look::Take(session, slot) => return Grant::Session(session, slot),
                // One answer with the last look: no session comes back in between.
                Look::Nothing => return self.place(state, key, now),
                Look::Judge(number, evidence) => {
                    drop(state);
                    verdicts.push((number, suits(&evidence)));
                }
            }
        }
    }

    /// A place for a new connection, at the cost of an idle one if need be.
    fn place(self: &Arc<Self>, mut state: MutexGuard<'_, State>, key: &Key, now: Duration) -> Grant {
        let mut unwanted = Vec::new();
        let limit = self.settings.max_per_host;
        state.forget_some(now);
        let host = state.hosts.entry(key.host).or_default();
        host.used = now;
        if host.open >= host.health.limit(limit) {
            // A session that nobody needs may stand in the way of one that somebody does.
            let of_host: Option<Key> =
                state.idle.iter().find(|(k, l)| k.host == key.host && !l.is_empty()).map(|(k, _)| k.clone());
            match of_host.and_then(|k| state.idle.get_mut(&k)).and_then(Vec::pop) {
                Some(idle) => unwanted.push(idle),
                None => return Grant::Full,
            }
        } else if state.open >= self.settings.max_connections {
            match state.idle.values_mut().find_map(Vec::pop) {
                Some(idle) => unwanted.push(idle),
                None => return Grant::Full,
            }
        }
        state.open += 1;
        state.opened += 1;
        let number = state.opened;
        state.hosts.entry(key.host).or_default().open += 1;
        drop(state);
        for idle in unwanted {
            idle.session.quit();
        }
        Grant::Dial(Slot { number, pool: Arc::downgrade(self), host: key.host })
    }

    /// As [`Pool::try_acquire`], waiting up to `patience` for a place. [`Grant::Full`] when none came.
    pub async fn acquire(
        self: &Arc<Self>,
        key: &Key,
        suits: &(dyn Fn(&Evidence) -> bool + Sync),
        patience: Duration,
    ) -> Grant {
        let until = Instant::now() + patience;
        let mut verdicts = Verdicts::new();
        loop {
            let host_freed = Arc::clone(&self.lock().hosts.entry(key.host).or_default().freed);
            // Registered before looking, so that no place freed in between is missed.
            let (here, anywhere) = (host_freed.notified(), self.freed.notified());
            tokio::pin!(here, anywhere);
            here.as_mut().enable();
            anywhere.as_mut().enable();
            let grant = self.lend(key, suits, &mut verdicts);
            if !matches!(grant, Grant::Full) {
                return grant;
            }
            let crowded = self.lock().open >= self.settings.max_connections;
            let freed = async {
                tokio::select! {
                    () = here => {}
                    () = anywhere, if crowded => {}
                }
            };
            if tokio::time::timeout_at(until, freed).await.is_err() {
                return Grant::Full;
            }
        }
    }

    /// Takes a session back. It is kept when it may serve again, and closed otherwise.
    pub fn put_back(self: &Arc<Self>, session: Session, slot: Slot, key: &Key) {
        let spent = session.transactions >= self.settings.max_messages
            || session.opened.elapsed() >= self.settings.max_age
            || session.fallback
            || !session.is_alive();
        let paused = self.pause(&slot.host).is_some();
        if spent || paused {
            session.quit();
            return;
        }
        let mut state = self.lock();
        state.idle.entry(key.clone()).or_default().push(Idle { session, slot, since: Instant::now() });
        if let Some(host) = state.hosts.get(&key.host) {
            host.freed.notify_one();
        }
        if !std::mem::replace(&mut state.reaping, true) {
            tokio::spawn(reap(Arc::downgrade(self), self.settings.idle));
        }
        drop(state);
        self.freed.notify_waiters();
    }

    /// Resolves when a place or a session frees somewhere: work that was handed back may be tried again.
    pub async fn freed(&self) {
        self.freed.notified().await;
    }

    /// Connections open now, idle ones included.
    pub fn open(&self) -> usize {
        self.lock().open
    }

    /// The pause of a host, if it has one.
    pub fn pause(&self, host: &HostKey) -> Option<Pause> {
        let now = self.clock.monotonic();
        self.lock().hosts.get(host).and_then(|h| h.health.pause(now))
    }

    /// A message went through.
    pub fn delivered(&self, host: &HostKey) {
        let ceiling = self.settings.max_per_host;
        if let Some(h) = self.lock().hosts.get_mut(host) {
            h.health.delivered(ceiling);
        }
    }

    /// Trouble of a host (QUE-09).
    pub fn trouble(&self, host: &HostKey, trouble: Trouble) {
        let now = self.clock.monotonic();
        if let Some(h) = self.lock().hosts.get_mut(host) {
            h.health.trouble(trouble, now);
        }
    }

    /// Our password for `user` was taken, or refused for good (OUT-56).
    pub fn password(&self, host: &HostKey, user: &str, accepted: bool) {
        let now = self.clock.monotonic();
        if let Some(h) = self.lock().hosts.get_mut(host) {
            if accepted {
                h.health.password_accepted(user);
            } else {
                h.health.password_refused(user, now);
            }
        }
    }

    /// Whether the password of `user` is not shown to `host` for now, because it was refused a moment ago.
    pub fn withholds_password(&self, host: &HostKey, user: &str) -> bool {
        let now = self.clock.monotonic();
        self.lock().hosts.get(host).is_some_and(|h| h.health.withholds_password(user, now))
    }

    /// 4.7.x at MAIL, DATA or the dot: trouble once two senders drew it.
    pub fn refused_sender(&self, host: &HostKey, sender: &ReversePath) {
        let now = self.clock.monotonic();
        if let Some(h) = self.lock().hosts.get_mut(host) {
            h.health.refused_sender(sender, now);
        }
    }

    /// Ends all pauses, because an operator wants mail tried now.
    pub fn end_pauses(&self) {
        for host in self.lock().hosts.values_mut() {
            host.health.end_pause();
        }
        self.freed.notify_waiters();
    }

    /// Remembers that a host refused IPv6 for what IPv4 delivered (OUT-40).
    pub fn prefer_ipv4(&self, name: &Domain) {
        let now = self.clock.monotonic();
        let until = now.saturating_add(self.settings.ipv4_first);
        let mut state = self.lock();
        state.ipv4_first.retain(|_, u| now < *u);
        state.ipv4_first.insert(name.clone(), until);
    }

    /// Whether IPv4 is to be tried first at a host.
    pub fn prefers_ipv4(&self, name: &Domain) -> bool {
        let now = self.clock.monotonic();
        self.lock().ipv4_first.get(name).is_some_and(|until| now < *until)
    }

    /// Closes every idle session: at shutdown, and when settings change.
    pub fn close_idle(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        for i in idle.into_values().flatten() {
            i.session.quit();
        }
    }

    /// Drops what has been idle too long, and hosts of which nothing is to be remembered. `false` when no
    /// session is idle any more.
    fn sweep(&self) -> bool {
        let now = self.clock.monotonic();
        let mut old = Vec::new();
        let mut state = self.lock();
        for list in state.idle.values_mut() {
            let (stale, fresh) =
                std::mem::take(list).into_iter().partition(|i| i.since.elapsed() >= self.settings.idle);
            *list = fresh;
            old.extend::<Vec<Idle>>(stale);
        }
        state.idle.retain(|_, list| !list.is_empty());
        state.hosts.retain(|_, h| h.is_needed(now));
        state.reaping = !state.idle.is_empty();
        let more = state.reaping;
        drop(state);
        for idle in old {
            idle.session.quit();
        }
        more
    }
}

async fn reap(pool: Weak<Pool>, idle: Duration) {
    loop {
        tokio::time::sleep(idle.min(Duration::from_secs(1))).await;
        if !pool.upgrade().is_some_and(|p| p.sweep()) {
            return;
        }
    }
}

impl Slot {
    /// The host it is for.
    pub const fn host(&self) -> &HostKey {
        &self.host
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut state = pool.lock();
        state.open = state.open.saturating_sub(1);
        if let Some(host) = state.hosts.get_mut(&self.host) {
            host.open = host.open.saturating_sub(1);
            host.freed.notify_one();
        }
        drop(state);
        pool.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests;
