//! Who may work: places per domain and in all, what is leased and not yet begun, and who is left alone for now.
//!
//! A [`Place`] is one running transaction. It gives itself back when dropped, so a panic cannot leak it. All of
//! this is in memory and of this node; what must survive a restart (suspensions) is a row of the store.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::rate::Bucket;
use crate::queue::{Diagnosis, Lease};
use crate::route::smart_host::Rules;

/// The longest pause: a suspension of an hour, and a minute for whoever is late.
const LONGEST_PAUSE: Duration = Duration::from_secs(3660);

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
    bucket: Option<Bucket>,
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
            && self.bucket.is_none()
    }

    fn is_closed(&self, now: Timestamp) -> bool {
        self.waits_for_session || self.paused_until.is_some_and(|until| until > now)
    }

    /// Transactions that may begin now, as far as the rate goes.
    fn tokens(&self, now: Timestamp) -> usize {
        self.bucket.as_ref().map_or(usize::MAX, |bucket| bucket.tokens(now))
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

    /// Takes up to `wanted` transactions off what the rate of `domain` allows, and says how many it got.
    fn draw(&self, state: &mut State, domain: &Domain, wanted: usize, now: Timestamp) -> usize {
        let Some(rate) = self.rules.of(domain).and_then(|rule| rule.rate) else { return wanted };
        let d = state.domains.entry(domain.clone()).or_default();
        d.bucket.get_or_insert_with(|| Bucket::new(rate)).take(wanted, now)
    }

    /// Gives back what no message was sent for.
    pub(super) fn refund(&self, domain: &Domain, transactions: usize) {
        if let Some(bucket) = self.lock().domains.get_mut(domain).and_then(|d| d.bucket.as_mut()) {
            bucket.put_back(transactions);
        }
    }

    /// When the rate lets the next message of some domain go for which the store has more.
    pub(super) fn next_by_rate(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.lock();
        let waits = |d: &&DomainPlaces| d.backlog && !d.is_closed(now);
        let buckets = state.domains.values().filter(waits).filter_map(|d| d.bucket.as_ref());
        buckets.filter(|bucket| bucket.tokens(now) == 0).map(|bucket| bucket.next(now)).min()
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
                    self.limit(domain).saturating_sub(d.active + d.ready.len()).min(d.tokens(now))
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
        if let Some(bucket) = &mut d.bucket {
            bucket.put_back(if closed { asked } else { asked.saturating_sub(leases.len()) });
        }
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

    /// Closes `domain` until a moment (`None`: until a session frees) and gives back what it had leased.
    pub(super) fn close(&self, domain: &Domain, until: Option<Timestamp>) -> Vec<Lease> {
        let mut state = self.lock();
        let d = state.domains.entry(domain.clone()).or_default();
        match until {
            Some(until) => d.paused_until = d.paused_until.max(Some(until)),
            None => d.waits_for_session = true,
        }
        let back: Vec<Lease> = d.ready.drain(..).collect();
        if let Some(bucket) = &mut d.bucket {
            bucket.put_back(back.len());
        }
        back
    }

    /// Everything that is leased and not begun, for the shutdown.
    pub(super) fn drain_ready(&self) -> Vec<Lease> {
        let mut state = self.lock();
        state.domains.values_mut().flat_map(|d| d.ready.drain(..)).collect()
    }

    /// A session freed: domains that waited for one may try again.
    pub(super) fn session_freed(&self) -> bool {
        let mut state = self.lock();
        let mut any = false;
        for d in state.domains.values_mut() {
            any |= std::mem::take(&mut d.waits_for_session);
        }
        state.domains.retain(|_, d| !d.is_idle());
        any
    }

    /// Ends pauses that have run out, and tells when the next one does. A pause that ends later than any can was
    /// made by a clock that has been set back since (DUR-17).
    pub(super) fn expire_pauses(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.lock();
        for d in state.domains.values_mut() {
            d.paused_until = d.paused_until.filter(|until| *until > now && until.since(now) <= LONGEST_PAUSE);
            d.bucket = d.bucket.take().filter(|bucket| !bucket.is_full(now));
        }
        let next = state.domains.values().filter_map(|d| d.paused_until).min();
        state.domains.retain(|_, d| !d.is_idle());
        next
    }

    /// Whether some domain waits for a session.
    pub(super) fn waits_for_session(&self) -> bool {
        self.lock().domains.values().any(|d| d.waits_for_session)
    }

    /// An operator wants it tried now.
    pub(super) fn forget_pauses(&self, domains: &[Domain]) {
        let mut state = self.lock();
        for (name, d) in &mut state.domains {
            if domains.is_empty() || domains.contains(name) {
                d.paused_until = None;
                d.waits_for_session = false;
            }
        }
    }

    /// Remembers, or forgets, what a domain in trouble last ran into.
    pub(super) fn set_trouble(&self, domain: &Domain, trouble: Option<Diagnosis>) {
        let mut state = self.lock();
        match trouble {
            Some(diagnosis) => state.domains.entry(domain.clone()).or_default().trouble = Some(diagnosis),
            None => {
                if let Some(d) = state.domains.get_mut(domain) {
                    d.trouble = None;
                }
            }
        }
    }

    /// Domains in trouble.
    pub(super) fn troubled(&self) -> Vec<(Domain, Diagnosis)> {
        let state = self.lock();
        state.domains.iter().filter_map(|(name, d)| Some((name.clone(), d.trouble.clone()?))).collect()
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
mod tests {
    use super::*;
    use crate::route::smart_host::Rule;

    fn lease() -> Lease {
        let message = crate::queue::MessageMeta {
            id: crate::mail::QueueId::from_bytes([1; 16]),
            origin: crate::mail::Origin::Submitted,
            reverse_path: crate::mail::ReversePath::Null,
            ret: None,
            envid: None,
            sender_tls: crate::mail::SenderTls::Unsaid,
            smtputf8: false,
            has_8bit: false,
            size: 1,
            arrived: Timestamp::from_millis(0),
            message_id: String::new(),
        };
        let (id, domain) = (crate::queue::LeaseId(1), d("a.example"));
        Lease { id, message: Arc::new(message), domain, recipients: Vec::new(), content: None }
    }

    fn d(name: &str) -> Domain {
        Domain::parse(name).unwrap()
    }

    // QUE-31
    #[test]
    fn a_domain_has_its_own_limit_and_all_have_one() {
        let now = Timestamp::from_millis(0);
        let places = Places::new(3, 2, 1000);
        let a1 = places.take(&d("a.example"), now);
        let a2 = places.take(&d("a.example"), now);
        assert!(a1.is_some() && a2.is_some());
        assert!(places.take(&d("a.example"), now).is_none());
        let b = places.take(&d("b.example"), now);
        assert!(b.is_some());
        assert!(places.take(&d("c.example"), now).is_none(), "three in all");
        drop(b);
        assert!(places.take(&d("c.example"), now).is_some());
    }

    #[test]
    fn a_paused_domain_gets_no_place_until_its_pause_ends() {
        let now = Timestamp::from_millis(0);
        let later = Timestamp::from_millis(60_000);
        let places = Places::new(3, 2, 1000);
        places.close(&d("a.example"), Some(later));
        assert!(places.take(&d("a.example"), now).is_none());
        assert_eq!(places.room(&d("a.example"), now), 0);
        assert_eq!(places.expire_pauses(now), Some(later));
        assert_eq!(places.expire_pauses(later), None);
        assert_eq!(places.room(&d("a.example"), later), 2);
    }

    // DUR-17
    #[test]
    fn a_pause_does_not_outlast_a_clock_that_was_set_back() {
        let places = Places::new(3, 2, 1000);
        let noon = Timestamp::from_millis(86_400_000);
        places.close(&d("a.example"), Some(noon.after(Duration::from_secs(600))));
        let yesterday = Timestamp::from_millis(0);
        assert_eq!(places.expire_pauses(yesterday), None);
        assert_eq!(places.room(&d("a.example"), yesterday), 2);
    }

    // QUE-34
    #[test]
    fn a_domain_closed_while_it_is_claimed_for_gets_no_worker() {
        let now = Timestamp::from_millis(0);
        let places = Places::new(3, 2, 1000);
        assert_eq!(places.begin_claim(&d("a.example"), 1, now), Some(1));
        assert_eq!(places.room(&d("a.example"), now), 0, "one claim at a time");
        places.close(&d("a.example"), Some(Timestamp::from_millis(60_000)));
        let claimed = places.end_claim(&d("a.example"), vec![lease()], 1, true, now);
        assert_eq!((claimed.mine.is_some(), claimed.others.len(), claimed.back.len()), (false, 0, 1));
        assert_eq!(places.free(), 3);
    }

    fn limited(rule: Rule) -> Places {
        let rule = Rule { pattern: "*.example".into(), ..rule };
        Places::new(10, 5, 1000).under(Arc::new(Rules::new([rule])))
    }

    // A wildcard's limits are of each domain that it matches.
    #[test]
    fn a_rule_has_its_own_number_of_connections_for_each_domain() {
        let now = Timestamp::from_millis(0);
        let places = limited(Rule { max_connections: Some(1), ..Rule::default() });
        let (a, b) = (places.take(&d("a.example"), now), places.take(&d("b.example"), now));
        assert!(a.is_some() && b.is_some());
        assert!(places.take(&d("a.example"), now).is_none());
        assert_eq!((places.room(&d("a.example"), now), places.room(&d("c.example"), now)), (0, 1));
        assert_eq!(places.room(&d("example.net"), now), 5);
    }

    #[test]
    fn mail_of_a_domain_leaves_no_faster_than_its_rate() {
        let (now, name) = (Timestamp::from_millis(0), d("a.example"));
        let later = |ms| Timestamp::from_millis(ms);
        let places = limited(Rule { rate: crate::config::Rate::parse("60/m"), ..Rule::default() });
        assert!(places.take(&name, now).is_some(), "the first");
        assert!(places.take(&name, now).is_none() && places.room(&name, now) == 0);
        assert!(places.take(&d("b.example"), now).is_some(), "another domain has a bucket of its own");
        assert_eq!(places.next_by_rate(now), Some(later(1000)), "what waits is looked for then");
        assert_eq!(places.begin_claim(&name, 5, now), None);
        assert_eq!(places.begin_claim(&name, 5, later(1000)), Some(1));
        let claimed = places.end_claim(&name, Vec::new(), 1, false, later(1000));
        assert!(claimed.others.is_empty());
        assert_eq!(places.room(&name, later(1000)), 1, "nothing was there to be sent");
        // A bucket that is full again says nothing, and is forgotten with its domain.
        places.expire_pauses(later(60_000));
        assert!(places.lock().domains.is_empty());
    }

    #[test]
    fn content_in_memory_is_bounded_and_given_back() {
        let now = Timestamp::from_millis(0);
        let places = Places::new(3, 2, 1000);
        let mut a = places.take(&d("a.example"), now).unwrap();
        let mut b = places.take(&d("b.example"), now).unwrap();
        assert!(a.reserve_content(900));
        assert!(!b.reserve_content(200));
        drop(a);
        assert!(b.reserve_content(200));
    }
}
