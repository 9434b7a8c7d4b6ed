//! Who is left alone for now, and for how long.

use std::time::Duration;

use super::{DomainPlaces, Places};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::{Diagnosis, Lease};

/// The longest pause: a suspension of an hour, and a minute for whoever is late.
const LONGEST_PAUSE: Duration = Duration::from_secs(3660);

impl DomainPlaces {
    /// Whether nothing of the domain may begin now.
    pub(super) fn is_closed(&self, now: Timestamp) -> bool {
        self.waits_for_session || self.paused_until.is_some_and(|until| until > now)
    }
}

impl Places {
    /// Closes `domain` until a moment (`None`: until a session frees) and gives back what it had leased.
    pub(in crate::queue::manager) fn close(&self, domain: &Domain, until: Option<Timestamp>) -> Vec<Lease> {
        let mut state = self.lock();
        let d = state.domains.entry(domain.clone()).or_default();
        match until {
            Some(until) => d.paused_until = d.paused_until.max(Some(until)),
            None => d.waits_for_session = true,
        }
        let back: Vec<Lease> = d.ready.drain(..).collect();
        d.pace.put_back(back.len());
        back
    }

    /// A session freed: domains that waited for one may try again.
    pub(in crate::queue::manager) fn session_freed(&self) -> bool {
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
    pub(in crate::queue::manager) fn expire_pauses(&self, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.lock();
        for d in state.domains.values_mut() {
            d.paused_until = d.paused_until.filter(|until| *until > now && until.since(now) <= LONGEST_PAUSE);
            d.pace.settle(now);
        }
        let next = state.domains.values().filter_map(|d| d.paused_until).min();
        state.domains.retain(|_, d| !d.is_idle());
        next
    }

    /// Whether some domain waits for a session.
    pub(in crate::queue::manager) fn waits_for_session(&self) -> bool {
        self.lock().domains.values().any(|d| d.waits_for_session)
    }

    /// An operator wants it tried now.
    pub(in crate::queue::manager) fn forget_pauses(&self, domains: &[Domain]) {
        let mut state = self.lock();
        for (name, d) in &mut state.domains {
            if domains.is_empty() || domains.contains(name) {
                d.paused_until = None;
                d.waits_for_session = false;
            }
        }
    }

    /// Remembers, or forgets, what a domain in trouble last ran into.
    pub(in crate::queue::manager) fn set_trouble(&self, domain: &Domain, trouble: Option<Diagnosis>) {
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
    pub(in crate::queue::manager) fn troubled(&self) -> Vec<(Domain, Diagnosis)> {
        let state = self.lock();
        state.domains.iter().filter_map(|(name, d)| Some((name.clone(), d.trouble.clone()?))).collect()
    }
}
