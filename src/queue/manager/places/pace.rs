//! How fast mail of a domain may leave, where a rule says so.

use super::{DomainPlaces, Places, State};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::rate::Bucket;

/// What the rate of one domain leaves over. Without a rule, or with a bucket that would be full, it says nothing.
#[derive(Default)]
pub(super) struct Pace(Option<Bucket>);

impl Pace {
    pub(super) const fn says_nothing(&self) -> bool {
        self.0.is_none()
    }

    /// Transactions that may begin now.
    pub(super) fn tokens(&self, now: Timestamp) -> usize {
        self.0.as_ref().map_or(usize::MAX, |bucket| bucket.tokens(now))
    }

    /// Gives back what was drawn for transactions that no message was sent for.
    pub(super) fn put_back(&mut self, transactions: usize) {
        if let Some(bucket) = &mut self.0 {
            bucket.put_back(transactions);
        }
    }

    /// When the next transaction may begin, if none may now.
    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.as_ref().filter(|bucket| bucket.tokens(now) == 0).map(|bucket| bucket.next(now))
    }

    /// Forgets a bucket that is full again.
    pub(super) fn settle(&mut self, now: Timestamp) {
        self.0 = self.0.take().filter(|bucket| !bucket.is_full(now));
    }
}

impl Places {
    /// Takes up to `wanted` transactions off what the rate of `domain` allows, and says how many it got.
    pub(super) fn draw(&self, state: &mut State, domain: &Domain, wanted: usize, now: Timestamp) -> usize {
        let Some(rate) = self.rules.of(domain).and_then(|rule| rule.rate) else { return wanted };
        let Pace(bucket) = &mut state.domains.entry(domain.clone()).or_default().pace;
        bucket.get_or_insert_with(|| Bucket::new(rate)).take(wanted, now)
    }

    /// Gives back what no message was sent for.
    pub(in crate::queue::manager) fn refund(&self, domain: &Domain, transactions: usize) {
        if let Some(d) = self.lock().domains.get_mut(domain) {
            d.pace.put_back(transactions);
        }
    }

    /// When the rate lets the next message of some domain go for which the store has more.
    pub(in crate::queue::manager) fn next_by_rate(&self, now: Timestamp) -> Option<Timestamp> {
        let state = self.lock();
        let waits = |d: &&DomainPlaces| d.backlog && !d.is_closed(now);
        state.domains.values().filter(waits).filter_map(|d| d.pace.next(now)).min()
    }
}
