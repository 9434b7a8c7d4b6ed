//! What waits and why, added up from one walk over the waiting recipients.

use std::collections::HashMap;
use std::mem;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::{Domain, QueueId};
use crate::queue::outcome::CertificateFacts;
use crate::queue::{DeferReason, Diagnosis};

/// Domains that are named.
const NAMED: usize = 5;
/// Certificate names that are given of an example.
const NAMES: usize = 3;
/// Mail that has waited for so long is past its first attempts: what is not broken has gone by then.
pub const LONG: Duration = Duration::from_secs(3600);
/// What a cause is called that this release does not know.
const UNKNOWN: &str = "unknown";

/// The queue at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueStanding {
    /// Recipients still owed a delivery, by state.
    pub states: States,
    /// Domains for which mail waits.
    pub domains: u64,
    /// Those of them that are left alone now, after a probe that failed (QUE-34).
    pub suspended: u64,
    /// Arrival of the oldest recipient that waits.
    pub oldest: Option<Timestamp>,
    /// The next attempt at any that waits, suspensions heeded.
    pub next_attempt: Option<Timestamp>,
    /// What waits for the same cause, most recipients first. What was never tried and has nothing in its way is in none.
    pub causes: Vec<Cause>,
    /// The domains for which most recipients wait; at most five.
    pub busiest: Vec<BusyDomain>,
    /// Recipients that were put aside because their rows cannot be read; they are among the held.
    pub damaged: u64,
    /// When a message was last done with, all recipients delivered or returned.
    pub last_finished: Option<Timestamp>,
    /// Of what waits (not what is under an attempt, or held) that which came an hour ago or more.
    pub long: Share,
    /// Of these, what came after a message was last done with.
    pub long_since: Share,
    /// More waits than was counted: every number is too low.
    pub more: bool,
}

/// Recipients by state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct States {
    /// Never leased.
    pub queued: Count,
    /// An attempt is under way.
    pub delivering: Count,
    /// Tried, due again.
    pub deferred: Count,
    /// Put aside.
    pub held: Count,
}

/// A part of what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Recipients.
    pub recipients: u64,
    /// Their domains.
    pub domains: u64,
}

impl Share {
    /// Adds recipients of a domain that is not among these yet.
    fn add(&mut self, recipients: u64) {
        self.recipients += recipients;
        self.domains += u64::from(recipients > 0);
    }
}

/// How many, and since when.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Recipients.
    pub recipients: u64,
    /// Arrival of the oldest.
    pub oldest: Option<Timestamp>,
}

impl Count {
    /// Adds recipients of which the oldest arrived at this moment.
    pub fn add(&mut self, recipients: u64, oldest: Timestamp) {
        self.recipients += recipients;
        self.oldest = earlier(self.oldest, oldest);
    }
}

/// What waits for one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// As in `queue list --cause`.
    pub cause: String,
    /// Recipients.
    pub recipients: u64,
    /// Their domains.
    pub domains: u64,
    /// Arrival of the oldest.
    pub oldest: Timestamp,
    /// The next attempt at any of them.
    pub next_attempt: Timestamp,
    /// One of the domain with the most of them; `None` when it could not be read.
    pub example: Option<Example>,
}

impl Cause {
    /// What is known about the cause.
    pub fn reason(&self) -> Option<DeferReason> {
        DeferReason::parse(&self.cause)
    }
}

/// A recipient that waits, as its timeline tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its message, for `queue show`.
    pub id: QueueId,
    /// Its domain.
    pub domain: Domain,
    /// When it was tried last.
    pub at: Timestamp,
    /// The host that it was about.
    pub host: Option<Domain>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The SMTP reply code; `None` when the failure was local.
    pub code: Option<u16>,
    /// Always present, as in `4.7.5`.
    pub enhanced: String,
    /// What happened, in words.
    pub text: String,
    /// Whether the domain itself promised what is missing.
    pub promised: bool,
    /// The certificate that was shown, when that is what the mail waits for.
    pub certificate: Option<ShownCertificate>,
}

/// A certificate in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownCertificate {
    /// The first few of its names.
    pub names: Vec<String>,
    /// Its last day.
    pub not_after: Timestamp,
}

impl Example {
    /// A recipient for `domain` and what is known about its last attempt.
    pub fn new(id: QueueId, domain: Domain, d: Diagnosis) -> Self {
        let shown = |c: CertificateFacts| ShownCertificate {
            names: c.names.into_iter().take(NAMES).collect(),
            not_after: c.not_after,
        };
        Self {
            promised: d.promised(),
            id,
            domain,
            at: d.at,
            host: d.host,
            ip: d.ip,
            code: d.code,
            enhanced: d.enhanced.to_string(),
            text: d.text,
            certificate: d.promise.filter(|p| p.broken.is_some()).and_then(|p| p.certificate).map(shown),
        }
    }
}

/// A domain for which mail waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusyDomain {
    /// Its name.
    pub domain: Domain,
    /// Recipients.
    pub recipients: u64,
    /// Arrival of the oldest.
    pub oldest: Timestamp,
    /// The next attempt at any of them.
    pub next_attempt: Timestamp,
    /// What most of them wait for; empty while none of them was tried and nothing is in the way.
    pub cause: String,
    /// Until when the domain is left alone.
    pub suspended_until: Option<Timestamp>,
}

/// One recipient that waits, as the census sees it.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'a> {
    /// What it waits for; `None`: never tried.
    pub cause: Option<&'a str>,
    /// Arrival.
    pub arrived: Timestamp,
    /// When it is due, suspensions apart.
    pub next_attempt: Timestamp,
}

/// Adds up waiting recipients domain by domain. What it keeps does not grow with their number, nor with that of domains.
#[derive(Debug)]
pub struct Census<K> {
    now: Timestamp,
    domain: Option<(Domain, Option<Timestamp>)>,
    /// Of the domain at hand, by cause; `None`: never tried and nothing in the way.
    here: Vec<(Option<&'static str>, Tally<K>)>,
    /// Of the domain at hand, what has waited long; and what of that came after the last success.
    here_long: (u64, u64),
    causes: HashMap<&'static str, (Tally<K>, u64)>,
    standing: QueueStanding,
}

/// Recipients of one kind; `example` is the one that came first.
#[derive(Debug, Clone, Copy)]
struct Tally<K> {
    recipients: u64,
    /// Domains; of an example's domain its recipients.
    most: u64,
    oldest: Timestamp,
    next: Timestamp,
    example: K,
}

impl<K: Copy> Census<K> {
    /// Nobody was counted yet; `last_finished`: when a message was last done with.
    pub fn new(now: Timestamp, last_finished: Option<Timestamp>) -> Self {
        Self {
            now,
            domain: None,
            here: Vec::new(),
            here_long: (0, 0),
            causes: HashMap::new(),
            standing: QueueStanding { last_finished, ..QueueStanding::default() },
        }
    }

    /// What comes from now on is of this domain, which did not come before; `suspended`: it was found dead, and is not
    /// tried again before then (QUE-34).
    pub fn domain(&mut self, domain: Domain, suspended: Option<Timestamp>) {
        self.close();
        self.domain = Some((domain, suspended));
    }

    /// One recipient of the domain at hand; `key`, which finds it again, is asked for where it becomes an example.
    pub fn count(&mut self, w: Waiting<'_>, key: impl FnOnce() -> K) {
        let Some((_, suspended)) = &self.domain else { return };
        let next = suspended.map_or(w.next_attempt, |until| until.max(w.next_attempt));
        let states = &mut self.standing.states;
        let state = if w.cause.is_some() { &mut states.deferred } else { &mut states.queued };
        state.add(1, w.arrived);
        if self.now.since(w.arrived) >= LONG {
            self.here_long.0 += 1;
            self.here_long.1 += u64::from(self.standing.last_finished.is_none_or(|last| w.arrived > last));
        }
        // A recipient that was never tried waits for what its domain is suspended for.
        let cause = w.cause.or_else(|| suspended.map(|_| DeferReason::Connect.as_str()));
        let met = |cause: Option<&str>| self.here.iter().position(|(c, _)| *c == cause);
        // Nearly always it was met before, under its own name.
        let place = met(cause).or_else(|| met(cause.map(known)));
        match place.and_then(|place| self.here.get_mut(place)) {
            Some((_, tally)) => {
                tally.recipients += 1;
                tally.oldest = tally.oldest.min(w.arrived);
                tally.next = tally.next.min(next);
            }
            None => {
                let first = Tally { recipients: 1, most: 0, oldest: w.arrived, next, example: key() };
                self.here.push((cause.map(known), first));
            }
        }
    }

    /// Ends the domain at hand.
    fn close(&mut self) {
        let here = mem::take(&mut self.here);
        let (long, long_since) = mem::take(&mut self.here_long);
        let Some((domain, suspended)) = self.domain.take() else { return };
        let Some(first) = here.first().map(|(_, t)| *t) else { return };
        let mut whole = BusyDomain {
            domain,
            recipients: 0,
            oldest: first.oldest,
            next_attempt: first.next,
            cause: String::new(),
            suspended_until: suspended.filter(|until| *until > self.now),
        };
        let mut most = 0;
        for (cause, tally) in here {
            whole.recipients += tally.recipients;
            whole.oldest = whole.oldest.min(tally.oldest);
            whole.next_attempt = whole.next_attempt.min(tally.next);
            let Some(cause) = cause else { continue };
            if tally.recipients > most {
                most = tally.recipients;
                whole.cause = cause.to_owned();
            }
            self.causes
                .entry(cause)
                .and_modify(|(sum, domains)| {
                    sum.recipients += tally.recipients;
                    sum.oldest = sum.oldest.min(tally.oldest);
                    sum.next = sum.next.min(tally.next);
                    *domains += 1;
                    if tally.recipients > sum.most {
                        (sum.most, sum.example) = (tally.recipients, tally.example);
                    }
                })
                .or_insert((Tally { most: tally.recipients, ..tally }, 1));
        }
        let s = &mut self.standing;
        s.domains += 1;
        s.long.add(long);
        s.long_since.add(long_since);
        s.suspended += u64::from(whole.suspended_until.is_some());
        s.oldest = earlier(s.oldest, whole.oldest);
        s.next_attempt = earlier(s.next_attempt, whole.next_attempt);
        let place = s.busiest.partition_point(|b| b.recipients >= whole.recipients);
        s.busiest.insert(place, whole);
        s.busiest.truncate(NAMED);
    }

    /// Everybody was counted. What is still to be found: the example of each cause, by its key.
    pub fn end(mut self) -> (QueueStanding, Vec<K>) {
        self.close();
        let mut causes: Vec<_> = self.causes.into_iter().collect();
        causes.sort_by_key(|(name, (tally, _))| (std::cmp::Reverse(tally.recipients), *name));
        let cause = |(name, (tally, domains)): &(&str, (Tally<K>, u64))| Cause {
            cause: (*name).to_owned(),
            recipients: tally.recipients,
            domains: *domains,
            oldest: tally.oldest,
            next_attempt: tally.next,
            example: None,
        };
        self.standing.causes = causes.iter().map(cause).collect();
        (self.standing, causes.iter().map(|(_, (tally, _))| tally.example).collect())
    }
}

fn known(word: &str) -> &'static str {
    DeferReason::parse(word).map_or(UNKNOWN, DeferReason::as_str)
}

fn earlier(a: Option<Timestamp>, b: Timestamp) -> Option<Timestamp> {
    Some(a.map_or(b, |a| a.min(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    type Row = (&'static str, Option<i64>, u32, Option<&'static str>, i64, i64);

    /// Rows of domain, end of its suspension, key, cause, arrival and next attempt, at minute 100.
    fn census(rows: &[Row]) -> (QueueStanding, Vec<u32>) {
        census_since(None, rows)
    }

    /// The same, when a message was last done with at that minute.
    fn census_since(last: Option<i64>, rows: &[Row]) -> (QueueStanding, Vec<u32>) {
        let mut census = Census::new(at(100), last.map(at));
        let mut before = "";
        for (name, suspended, key, cause, arrived, next) in rows {
            if *name != before {
                census.domain(Domain::parse(name).unwrap(), suspended.map(at));
                before = name;
            }
            let w = Waiting { cause: *cause, arrived: at(*arrived), next_attempt: at(*next) };
            census.count(w, || *key);
        }
        census.end()
    }

    const TLS: Option<&str> = Some("tls_certificate");

    #[test]
    fn what_waits_is_added_up_by_state_cause_and_domain() {
        let (s, examples) = census(&[
            ("a.example", None, 1, TLS, 50, 110),
            ("a.example", None, 2, TLS, 40, 120),
            ("a.example", None, 3, None, 99, 99),
            ("b.example", None, 4, TLS, 30, 130),
            ("b.example", None, 5, Some("reply"), 60, 105),
            ("c.example", None, 6, TLS, 80, 140),
            ("c.example", None, 7, TLS, 80, 160),
            ("c.example", None, 8, TLS, 80, 150),
        ]);
        let count = |recipients, oldest| Count { recipients, oldest: Some(at(oldest)) };
        assert_eq!((s.states.queued, s.states.deferred), (count(1, 99), count(7, 30)));
        assert_eq!((s.domains, s.oldest, s.next_attempt), (3, Some(at(30)), Some(at(99))));
        let causes: Vec<_> =
            s.causes.iter().map(|c| (&*c.cause, c.recipients, c.domains, c.oldest, c.next_attempt)).collect();
        assert_eq!(causes, [("tls_certificate", 6, 3, at(30), at(110)), ("reply", 1, 1, at(60), at(105))]);
        assert_eq!(examples, [6, 5], "of the domain with the most, the one that comes first");
        let busy: Vec<_> = s.busiest.iter().map(|b| (b.domain.as_str(), b.recipients, &*b.cause)).collect();
        let want = [("a.example", 3), ("c.example", 3), ("b.example", 2)];
        assert_eq!(busy, want.map(|(name, n)| (name, n, "tls_certificate")));
    }

    #[test]
    fn what_has_waited_for_an_hour_is_counted_and_what_came_since_the_last_success() {
        let rows: &[Row] = &[
            ("a.example", None, 1, TLS, 10, 110),
            ("a.example", None, 2, None, 40, 110),
            ("a.example", None, 3, TLS, 41, 110),
            ("b.example", None, 4, TLS, 30, 110),
            ("c.example", None, 5, TLS, 90, 110),
        ];
        for (last, since) in [(None, (3, 2)), (Some(9), (3, 2)), (Some(30), (1, 1)), (Some(40), (0, 0))] {
            let (s, _) = census_since(last, rows);
            assert_eq!((s.last_finished, s.long), (last.map(at), Share { recipients: 3, domains: 2 }));
            assert_eq!((s.long_since.recipients, s.long_since.domains), since, "{last:?}");
        }
    }

    // QUE-34
    #[test]
    fn the_suspension_of_a_domain_speaks_for_what_was_never_tried() {
        for (until, suspended, next) in [(Some(160), 1, 160), (Some(90), 0, 99), (None, 0, 99)] {
            let (s, _) = census(&[("a.example", until, 1, None, 99, 99)]);
            assert_eq!((s.suspended, s.next_attempt), (suspended, Some(at(next))), "{until:?}");
            assert_eq!(s.states.queued.recipients, 1);
            let causes: Vec<_> = s.causes.iter().map(|c| &*c.cause).collect();
            assert_eq!(causes, if until.is_some() { vec!["connect"] } else { vec![] });
        }
    }

    #[test]
    fn only_the_busiest_domains_are_named_and_unknown_causes_are_one() {
        let mut census = Census::new(at(100), None);
        for n in 0..50_u32 {
            census.domain(Domain::parse(&format!("d{n:02}.example")).unwrap(), None);
            let cause = format!("cause-of-tomorrow-{n}");
            for key in 0..=n % 10 {
                let w = Waiting { cause: Some(&cause), arrived: at(1), next_attempt: at(200) };
                census.count(w, || key);
            }
        }
        let (s, examples) = census.end();
        let busy: Vec<_> = s.busiest.iter().map(|b| (b.domain.as_str(), b.recipients)).collect();
        let names = ["d09.example", "d19.example", "d29.example", "d39.example", "d49.example"];
        assert_eq!(busy, names.map(|name| (name, 10)));
        assert_eq!((s.domains, s.causes.len(), s.causes[0].domains, examples.len()), (50, 1, 50, 1));
        assert_eq!(s.causes[0].cause, "unknown");
    }

    #[test]
    fn an_empty_queue_is_empty() {
        assert_eq!(census(&[]), (QueueStanding::default(), vec![]));
    }
}
