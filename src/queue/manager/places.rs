//! Who may work: places per domain and in all, what is leased and not yet begun, and who is left alone for now.
//!
//! A [`Place`] is one running transaction. It gives itself back when dropped, so a panic cannot leak it. All of
//! this is in memory and of this node; what must survive a restart (suspensions) is a row of the store.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::{Diagnosis, Lease};
use crate::route::smart_host::Rules;

use pace::Pace;

mod pace;
mod pauses;

/// The state of one domain. Dropped as soon as it says nothing.
#[derive(Default)]
struct DomainPlaces {
    /// Running transactions and permits.
    active: usize,
    /// Leased, and waiting for one of this domain's own workers.
    ready: VecDeque<Lease>,
    /// The store may have more due rows than were leased.
    backlog: bool,
    /// A claim for this domain is under way.
    claiming: bool,
    /// Nothing is tried before.
    paused_until: Option<Timestamp>,
    /// No session was free; nothing is tried until one frees.
    waits_for_session: bool,
    /// The last deferral while the domain was in trouble: it speaks for messages that could not be tried (QUE-34).
    trouble: Option<Diagnosis>,
    /// How fast its mail may leave, where a rule says so.
    pace: Pace,
}

impl DomainPlaces {
    fn is_idle(&self) -> bool {
        self.active == 0
            && self.ready.is_empty()
            && !self.backlog
            && !self.claiming
            && self.paused_until.is_none()
            && !self.waits_for_session
            && self.trouble.is_none()
            && self.pace.says_nothing()
    }
}

#[derive(Default)]
struct State {
    domains: HashMap<Domain, DomainPlaces>,
    active: usize,
    content: u64,
    /// Domains that had something leased when there was no place for it.
    stranded: VecDeque<Domain>,
}

pub(super) struct Places {
    state: Arc<Mutex<State>>,
    total: usize,
    per_domain: usize,
    rules: Arc<Rules>,
    content_budget: u64,
    /// Some domain with due work has no place at all: places take turns.
    starved: AtomicBool,
    /// Some domain could use more places than it has: a free one is news.
    hungry: AtomicBool,
}

/// The right to run one transaction of `domain`.
pub(super) struct Place {
    state: Arc<Mutex<State>>,
    pub(super) domain: Domain,
    content: u64,
    content_budget: u64,
    /// Transactions served since the place was given out.
    served: u32,
}

/// Transactions that a place serves for one domain while another domain waits for a place: the quantum of
/// fairness (QUE-30).
const TURN: u32 = 10;

impl Places {
    pub(super) fn new(total: usize, per_domain: usize, content_budget: u64) -> Self {
        Self {
            state: Arc::default(),
            total: total.max(1),
            per_domain: per_domain.max(1),
            rules: Arc::default(),
            content_budget,
            starved: AtomicBool::new(false),
            hungry: AtomicBool::new(false),
        }
    }

    /// With rules for some domains: how many connections they get, and how fast their mail may leave.
    pub(super) fn under(self, rules: Arc<Rules>) -> Self {
        Self { rules, ..self }
    }

    fn limit(&self, domain: &Domain) -> usize {
        self.rules.of(domain).and_then(|rule| rule.max_connections).unwrap_or(self.per_domain)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a message that is arriving, unless its domain is busy, paused or has older mail waiting.
    pub(super) fn take(&self, domain: &Domain, now: Timestamp) -> Option<Place> {
        let mut state = self.lock();
        if state.active >= self.total {
            return None;
        }
        let busy = state.domains.get(domain).is_some_and(|d| {
            d.active >= self.limit(domain) || d.is_closed(now) || d.backlog || !d.ready.is_empty()
        });
        let busy = busy || self.draw(&mut state, domain, 1, now) == 0;
        if busy {
            // What is stored without a lease is work that the domain's workers are to look for.
            if let Some(d) = state.domains.get_mut(domain) {
                d.backlog = true;
            }
            return None;
        }
        Some(self.occupy(&mut state, domain))
    }

    fn occupy(&self, state: &mut State, domain: &Domain) -> Place {
        state.active += 1;
        state.domains.entry(domain.clone()).or_default().active += 1;
        Place {
            state: Arc::clone(&self.state),
            domain: domain.clone(),
            content: 0,
            content_budget: self.content_budget,
            served: 0,
        }
    }

    /// How many more transactions of `domain` may be leased now.
    pub(super) fn room(&self, domain: &Domain, now: Timestamp) -> usize {
        let state = self.lock();
        state.domains.get(domain).map_or_else(
            || self.limit(domain),
            |d| {
                if d.claiming || d.is_closed(now) {
                    0
                } else {
                    self.limit(domain).saturating_sub(d.active + d.ready.len()).min(d.pace.tokens(now))
                }
            },
        )
    }

    /// Free places in all.
    pub(super) fn free(&self) -> usize {
        self.total.saturating_sub(self.lock().active)
    }

    /// Marks a claim of up to `wanted` transactions of `domain` as under way, and says how many may be claimed; none
    /// when a claim already is, or the rate allows none.
    pub(super) fn begin_claim(&self, domain: &Domain, wanted: usize, now: Timestamp) -> Option<usize> {
        let mut state = self.lock();
        let d = state.domains.entry(domain.clone()).or_default();
        if d.claiming {
            return None;
        }
        let allowed = self.draw(&mut state, domain, wanted, now);
        let d = state.domains.entry(domain.clone()).or_default();
        d.claiming = allowed > 0;
        d.backlog |= allowed == 0;
        d.claiming.then_some(allowed)
    }

    /// Takes in what a claim brought: the first for the worker that asked, if one did, the others with a place of
    /// their own where there is one. A domain that was closed meanwhile gets nothing.
    pub(super) fn end_claim(
        &self,
        domain: &Domain,
        leases: Vec<Lease>,
        asked: usize,
        for_worker: bool,
        now: Timestamp,
    ) -> Claimed {
        let mut state = self.lock();
        let mut claimed = Claimed::default();
        let d = state.domains.entry(domain.clone()).or_default();
        d.claiming = false;
        d.backlog = leases.len() >= asked;
        let closed = d.is_closed(now);
        d.pace.put_back(if closed { asked } else { asked.saturating_sub(leases.len()) });
        if closed {
            d.backlog |= !leases.is_empty();
            claimed.back = leases;
            return claimed;
        }
        d.ready.extend(leases);
        if for_worker {
            claimed.mine = d.ready.pop_front();
        }
        // While some domain has no place at all, one that has some gets no more.
        let most = if self.starved.load(Ordering::Relaxed) { 1 } else { self.limit(domain) };
        while state.active < self.total {
            let Some(d) = state.domains.get_mut(domain).filter(|d| d.active < most) else { break };
            let Some(lease) = d.ready.pop_front() else { break };
            let place = self.occupy(&mut state, domain);
            claimed.others.push((lease, place));
        }
        if state.domains.get(domain).is_some_and(|d| d.active == 0 && !d.ready.is_empty()) {
            state.stranded.push_back(domain.clone());
        }
        forget_if_idle(&mut state, domain);
        claimed
    }

    /// A lease that found no place when it came, and a place for it, if there is one now.
    pub(super) fn rescue(&self) -> Option<(Lease, Place)> {
        let mut state = self.lock();
        while state.active < self.total {
            let domain = state.stranded.pop_front()?;
            let lease =
                state.domains.get_mut(&domain).filter(|d| d.active == 0).and_then(|d| d.ready.pop_front());
            if let Some(lease) = lease {
                let place = self.occupy(&mut state, &domain);
                return Some((lease, place));
            }
        }
        None
    }

    /// The next lease for the worker at `place`, or how many it should claim; `Rest` when its domain is closed,
    /// nothing waits, or the place has served its turn and is needed elsewhere.
    pub(super) fn next(&self, place: &mut Place, now: Timestamp) -> Next {
        place.served = place.served.saturating_add(1);
        let mut state = self.lock();
        let Some(d) = state.domains.get_mut(&place.domain) else { return Next::Rest };
        if d.is_closed(now) {
            return Next::Rest;
        }
        // What is leased already is finished with; nobody else can take it.
        if let Some(lease) = d.ready.pop_front() {
            return Next::Lease(Box::new(lease));
        }
        if place.served >= TURN && self.starved.load(Ordering::Relaxed) {
            return Next::Rest;
        }
        if d.backlog && !d.claiming {
            // Enough for everybody at work here, and as much again so that nobody waits for a commit.
            let wanted = d.active.max(1).saturating_mul(2);
            let allowed = self.draw(&mut state, &place.domain, wanted, now);
            if allowed > 0
                && let Some(d) = state.domains.get_mut(&place.domain)
            {
                d.claiming = true;
                return Next::Claim(allowed);
            }
        }
        Next::Rest
    }

    /// Whether somebody waits for a place.
    pub(super) fn is_hungry(&self) -> bool {
        self.hungry.load(Ordering::Relaxed)
    }

    /// Whether the store may have more due rows of `domain`.
    pub(super) fn has_backlog(&self, domain: &Domain) -> bool {
        self.lock().domains.get(domain).is_some_and(|d| d.backlog)
    }

    /// Whether `domain` has a place.
    pub(super) fn is_served(&self, domain: &Domain) -> bool {
        self.lock().domains.get(domain).is_some_and(|d| d.active > 0)
    }

    /// Notes what the last look at all domains had to leave for want of places.
    pub(super) fn set_want(&self, want: Want) {
        self.hungry.store(want.hungry, Ordering::Relaxed);
        self.starved.store(want.starved, Ordering::Relaxed);
    }

    /// The store has due rows of `domain`.
    pub(super) fn note_backlog(&self, domain: &Domain) {
        if let Some(d) = self.lock().domains.get_mut(domain) {
            d.backlog = true;
        }
    }

    /// Everything that is leased and not begun, for the shutdown.
    pub(super) fn drain_ready(&self) -> Vec<Lease> {
        let mut state = self.lock();
        state.domains.values_mut().flat_map(|d| d.ready.drain(..)).collect()
    }
}

/// What a claim brought.
#[derive(Default)]
pub(super) struct Claimed {
    /// For the worker that asked.
    pub(super) mine: Option<Lease>,
    /// With places of their own.
    pub(super) others: Vec<(Lease, Place)>,
    /// To be given back: the domain is closed.
    pub(super) back: Vec<Lease>,
}

/// What a look at all domains left undone for want of places.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Want {
    /// Some domain got less than it had room for.
    pub(super) hungry: bool,
    /// Some domain has nothing at all.
    pub(super) starved: bool,
}

/// What a worker does next.
pub(super) enum Next {
    /// Try this.
    Lease(Box<Lease>),
    /// Claim up to so many; the claim is marked as begun.
    Claim(usize),
    /// Give the place back.
    Rest,
}

impl Place {
    /// Counts content that waits in memory; `false` when the budget is spent.
    pub(super) fn reserve_content(&mut self, octets: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.content.saturating_add(octets) > self.content_budget {
            return false;
        }
        state.content += octets;
        self.content += octets;
        true
    }

    /// The content has been sent or dropped.
    pub(super) fn release_content(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.content = state.content.saturating_sub(std::mem::take(&mut self.content));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.release_content();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.active = state.active.saturating_sub(1);
        if let Some(d) = state.domains.get_mut(&self.domain) {
            d.active = d.active.saturating_sub(1);
        }
        forget_if_idle(&mut state, &self.domain);
    }
}

fn forget_if_idle(state: &mut State, domain: &Domain) {
    if state.domains.get(domain).is_some_and(DomainPlaces::is_idle) {
        state.domains.remove(domain);
    }
}

#[cfg(test)]
mod tests;
