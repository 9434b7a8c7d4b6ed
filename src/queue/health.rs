//! How many sessions a host may have and when it is left alone (QUE-09), and for how long a domain is (QUE-34).
//!
//! Pure: time is passed in, as time since some fixed moment of this process. TLS, certificate and policy
//! failures never come here: they belong to a domain and its messages, not to a host.

use std::time::Duration;

use crate::mail::ReversePath;

/// Sessions that a host may have before it has proved anything.
pub const START_SESSIONS: usize = 2;
/// Deliveries in a row, per session allowed, that earn one session more.
const GROWTH_PER_SESSION: usize = 1;
/// The first pause; each following one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// Within which a second sender must draw 4.7.x before it is the host's trouble.
const SUSPICION: Duration = Duration::from_secs(300);

/// What a pause means for mail that is not in it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No connection or no greeting: the next host is taken.
    Dial,
    /// At MAIL, DATA or the dot: the domain's other mail waits, and does not move on to the next MX.
    Dialogue,
}

/// A host that is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Until when.
    pub until: Duration,
    /// What happened.
    pub trouble: Trouble,
}

/// The standing of one host: address, port and our source address.
#[derive(Debug, Clone)]
pub struct HostHealth {
    limit: usize,
    successes: usize,
    failures: u32,
    pause: Option<Pause>,
    suspicion: Option<(Duration, ReversePath)>,
    /// Whose password it refused: one entry per user of a rule.
    refused: Vec<Refusal>,
}

/// A password that was refused, and is not shown for a while: to show it for each message would lock the account (OUT-56).
#[derive(Debug, Clone)]
struct Refusal {
    user: String,
    times: u32,
    until: Duration,
}

impl Default for HostHealth {
    fn default() -> Self {
        Self {
            limit: START_SESSIONS,
            successes: 0,
            failures: 0,
            pause: None,
            suspicion: None,
            refused: Vec::new(),
        }
    }
}

impl HostHealth {
    /// How many sessions the host may have, `ceiling` being the operator's limit.
    pub fn limit(&self, ceiling: usize) -> usize {
        self.limit.min(ceiling).max(1)
    }

    /// The pause that holds at `now`.
    pub fn pause(&self, now: Duration) -> Option<Pause> {
        self.pause.filter(|p| now < p.until)
    }

    /// A message went through: slow growth, as of Postfix's 1/N feedback.
    pub fn delivered(&mut self, ceiling: usize) {
        self.failures = 0;
        self.pause = None;
        self.suspicion = None;
        self.successes += 1;
        if self.successes >= self.limit * GROWTH_PER_SESSION {
            self.successes = 0;
            self.limit = (self.limit + 1).min(ceiling.max(1));
        }
    }

    /// Trouble: half the sessions, and a pause of 1, 2, 4 … 30 minutes. Trouble during a pause is the same trouble.
    pub fn trouble(&mut self, trouble: Trouble, now: Duration) {
        if self.pause(now).is_some() {
            return;
        }
        self.limit = (self.limit / 2).max(1);
        self.successes = 0;
        let wait = wait_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(Pause { until: now.saturating_add(wait), trouble });
    }

    /// 4.7.x at MAIL, DATA or the dot: about the sender as long as only one sender draws it.
    pub fn refused_sender(&mut self, sender: &ReversePath, now: Duration) {
        match &self.suspicion {
            Some((since, other)) if now.saturating_sub(*since) <= SUSPICION => {
                if other != sender {
                    self.suspicion = None;
                    self.trouble(Trouble::Dialogue, now);
                }
            }
            _ => self.suspicion = Some((now, sender.clone())),
        }
    }

    /// The password of `user` was refused. Mail of others goes on, and other mail that goes through says nothing about it.
    pub fn password_refused(&mut self, user: &str, now: Duration) {
        if self.withholds_password(user, now) {
            return;
        }
        let times = self.refused.iter().find(|r| r.user == user).map_or(0, |r| r.times);
        self.password_accepted(user);
        let until = now.saturating_add(wait_after(times));
        self.refused.push(Refusal { user: user.to_owned(), times: times.saturating_add(1), until });
    }

    /// It was taken.
    pub fn password_accepted(&mut self, user: &str) {
        self.refused.retain(|r| r.user != user);
    }

    /// Whether the password of `user` was refused so lately that it is not shown again at `now`.
    pub fn withholds_password(&self, user: &str, now: Duration) -> bool {
        self.refused.iter().any(|r| r.user == user && now < r.until)
    }

    /// An operator wants it tried now.
    pub fn end_pause(&mut self) {
        self.pause = None;
        self.refused.clear();
    }

    /// Whether nothing holds at `now`.
    pub fn is_free(&self, now: Duration) -> bool {
        self.pause(now).is_none() && self.refused.iter().all(|r| r.until <= now)
    }

    /// Whether nothing would be lost by forgetting this host.
    pub fn is_forgettable(&self, now: Duration) -> bool {
        self.limit == START_SESSIONS
            && self.failures == 0
            && self.refused.is_empty()
            && self.pause(now).is_none()
    }
}

/// 1, 2, 4 … 30 minutes, after so many times before.
fn wait_after(times: u32) -> Duration {
    FIRST_PAUSE.saturating_mul(1 << times.min(5)).min(LONGEST_PAUSE)
}

/// How long a domain is suspended after its `step`th failed probe in a row, 1 for the first: 1 min, doubling, at
/// most an hour (QUE-34).
pub fn suspension(step: u32) -> Duration {
    let doubled = 1_u32.checked_shl(step.saturating_sub(1).min(6)).unwrap_or(64);
    Duration::from_secs(60).saturating_mul(doubled).min(Duration::from_secs(3600))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(60);

    // QUE-09
    #[test]
    fn sessions_start_at_two_grow_on_success_and_halve_on_trouble() {
        let mut h = HostHealth::default();
        assert_eq!(h.limit(20), 2);
        for _ in 0..1000 {
            h.delivered(20);
        }
        assert_eq!(h.limit(20), 20);
        h.trouble(Trouble::Dialogue, MIN);
        assert_eq!(h.limit(20), 10);
        for i in 0..10 {
            h.trouble(Trouble::Dialogue, MIN * 100 * (i + 1));
        }
        assert_eq!(h.limit(20), 1);
    }

    // QUE-09
    #[test]
    fn pauses_double_from_one_minute_to_thirty_and_a_success_ends_them() {
        let mut h = HostHealth::default();
        let mut now = Duration::ZERO;
        let mut waits = Vec::new();
        for _ in 0..7 {
            h.trouble(Trouble::Dial, now);
            h.trouble(Trouble::Dial, now);
            let until = h.pause(now).unwrap().until;
            waits.push((until - now).as_secs() / 60);
            now = until;
            assert_eq!(h.pause(now), None);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        h.delivered(20);
        h.trouble(Trouble::Dial, now);
        assert_eq!(h.pause(now).unwrap().until - now, MIN);
    }

    // QUE-09
    #[test]
    fn only_two_senders_within_five_minutes_make_a_reputation_refusal_trouble() {
        let (a, b) = (ReversePath::parse("a@x.example").unwrap(), ReversePath::parse("b@x.example").unwrap());
        let mut h = HostHealth::default();
        h.refused_sender(&a, MIN);
        h.refused_sender(&a, MIN * 2);
        assert_eq!(h.pause(MIN * 2), None);
        h.refused_sender(&b, MIN * 7);
        assert_eq!(h.pause(MIN * 7), None);
        h.refused_sender(&a, MIN * 8);
        assert!(h.pause(MIN * 8).is_some());
    }

    // OUT-56
    #[test]
    fn a_refused_password_is_withheld_by_itself() {
        let mut h = HostHealth::default();
        let mut now = MIN;
        for wait in [1, 2, 4, 8, 16, 30, 30] {
            h.password_refused("alice", now);
            h.password_refused("alice", now);
            assert!(h.withholds_password("alice", now) && !h.withholds_password("bob", now));
            assert!(h.pause(now).is_none() && !h.is_free(now), "mail of others goes on");
            // Which says nothing of alice.
            h.delivered(20);
            h.password_accepted("bob");
            assert!(h.withholds_password("alice", now + MIN * wait - Duration::from_secs(1)));
            now += MIN * wait;
            assert!(!h.withholds_password("alice", now) && h.is_free(now) && !h.is_forgettable(now));
        }
        h.password_accepted("alice");
        h.password_refused("alice", now);
        assert!(!h.withholds_password("alice", now + MIN));
        h.password_refused("alice", now + MIN);
        h.end_pause();
        assert!(!h.withholds_password("alice", now + MIN), "an operator wants it tried");
    }

    // QUE-34
    #[test]
    fn suspensions_double_from_a_minute_to_an_hour() {
        let steps: Vec<u64> = (1..=9).map(|s| suspension(s).as_secs() / 60).collect();
        assert_eq!(steps, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(suspension(u32::MAX).as_secs(), 3600);
    }
}
