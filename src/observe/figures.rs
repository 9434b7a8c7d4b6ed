//! What is looked up in the store when metrics are read: the port, and the domains with most waiting mail.
//!
//! Counts of the queue are kept by the store as it goes, so that a look costs the same however much waits.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::mtasts::Mode;
use crate::queue::{DeferReason, RecipientState, StoreError};

/// A store that can be counted. It only reads, and no writer waits for it.
pub trait Figures: Send + Sync {
    /// What is stored at one moment; `now` tells suspensions that hold from those that have run out.
    fn stored(&self, now: Timestamp) -> BoxFuture<'_, Result<Stored, StoreError>>;

    /// Waiting recipients by domain, in name order after `after`, for as long as `patience` lasts: at least one domain
    /// where there is one. Of a domain at most `most` are counted.
    fn waiting(
        &self,
        after: Option<Vec<u8>>,
        most: u64,
        patience: Duration,
    ) -> BoxFuture<'_, Result<Page, StoreError>>;
}

/// What is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Recipients still owed a delivery, by state and by what they wait for; what an attempt is under way for has no cause.
    pub recipients: Vec<(RecipientState, Option<DeferReason>, u64)>,
    /// Arrival of the oldest message that still owes a delivery.
    pub oldest: Option<Timestamp>,
    /// Domains that are left alone now (QUE-34).
    pub suspended: u64,
    /// MTA-STS policies by mode.
    pub policies: Vec<(Mode, u64)>,
    /// Those of them whose last refresh failed.
    pub failing: u64,
    /// TLS reports planned and not made.
    pub reports_due: u64,
    /// Destinations of reports that wait to be tried.
    pub destinations_waiting: u64,
    /// Destinations of reports whose mail lies in the queue.
    pub destinations_queued: u64,
    /// Octets of the database.
    pub octets: u64,
}

/// Some domains with waiting recipients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// How many recipients wait for each; `None` for a domain that cannot be read.
    pub domains: Vec<(Option<Domain>, u64)>,
    /// Where to go on; `None` when that was all.
    pub next: Option<Vec<u8>>,
}

/// The domains for which most recipients wait, and how many wait for all others: as many series as it has places,
/// whatever is in the queue (LIM-32).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crowd {
    first: BTreeSet<(Reverse<u64>, Domain)>,
    others: u64,
}

impl Crowd {
    /// Domains that are named.
    pub const PLACES: usize = 50;
    /// The name of the rest, which is no domain's.
    pub const OTHERS: &'static str = "other";

    /// Counts `waiting` recipients of one domain.
    pub fn add(&mut self, domain: Option<Domain>, waiting: u64) {
        match domain.filter(|d| d.as_str() != Self::OTHERS) {
            Some(domain) => {
                self.first.insert((Reverse(waiting), domain));
            }
            None => self.others += waiting,
        }
        if self.first.len() > Self::PLACES
            && let Some((Reverse(fewest), _)) = self.first.pop_last()
        {
            self.others += fewest;
        }
    }

    /// The named domains, most first, then the rest.
    pub fn rows(&self) -> impl Iterator<Item = (&str, u64)> {
        let named = self.first.iter().map(|(Reverse(n), domain)| (domain.as_str(), *n));
        named.chain([(Self::OTHERS, self.others)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // LIM-32
    #[test]
    fn ten_thousand_domains_make_as_many_series_as_there_are_places() {
        let mut crowd = Crowd::default();
        let mut sum = 0;
        for n in 0..10_000_u64 {
            let waiting = n * 7919 % 10_000 + 1;
            sum += waiting;
            crowd.add(Some(Domain::parse(&format!("d{n}.example")).unwrap()), waiting);
        }
        let rows: Vec<_> = crowd.rows().collect();
        assert_eq!(rows.len(), Crowd::PLACES + 1);
        assert_eq!(rows.iter().map(|(_, n)| n).sum::<u64>(), sum, "nothing is left out");
        let named: Vec<u64> = rows[..Crowd::PLACES].iter().map(|(_, n)| *n).collect();
        assert_eq!(named, (9951..=10_000).rev().collect::<Vec<u64>>(), "the most crowded ones, most first");
        assert_eq!(rows[Crowd::PLACES].0, "other");
    }

    #[test]
    fn nobody_takes_the_name_of_the_rest() {
        let mut crowd = Crowd::default();
        crowd.add(Some(Domain::parse_host("other").unwrap()), 3);
        crowd.add(None, 4);
        assert_eq!(crowd.rows().collect::<Vec<_>>(), [("other", 7)]);
    }
}
