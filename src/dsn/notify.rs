//! Whether a notification is due (RFC 3461 §4.1, §5.2; RFC 5321 §4.5.5).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Domain, Notify, Origin, ReversePath};

/// Whether the sender is told that a recipient failed: asked for, or not declined (DSN-03).
pub fn failure_due(origin: Origin, reverse_path: &ReversePath, notify: Option<Notify>) -> bool {
    may_be_told(origin, reverse_path) && Notify::wants_failure(notify)
}

/// Whether the sender may be told that a recipient waits (DSN-04). How often is the business of
/// [`DelayThrottle`].
pub fn delay_due(origin: Origin, reverse_path: &ReversePath, notify: Option<Notify>) -> bool {
    may_be_told(origin, reverse_path) && Notify::allows_delay(notify)
}

/// Whether the sender is told, after the reply to the final dot, that a recipient's host took the message
/// and will say no more (RFC 3461 §5.2.2 b, DSN-05).
pub fn relayed_due(
    origin: Origin,
    reverse_path: &ReversePath,
    notify: Option<Notify>,
    remote_offers_dsn: bool,
) -> bool {
    may_be_told(origin, reverse_path) && Notify::wants_success(notify) && !remote_offers_dsn
}

/// Nobody reads what goes to the null sender, and a notification about our own notification or report
/// would be the start of a loop (DSN-02, DSN-15, RPT-86).
const fn may_be_told(origin: Origin, reverse_path: &ReversePath) -> bool {
    matches!(origin, Origin::Submitted) && matches!(reverse_path, ReversePath::Mailbox(_))
}

/// At most one delay notification per sender, recipient domain and cause in an hour (DSN-04).
///
/// In memory: after a restart one more may be sent. Bounded: beyond its capacity the oldest key is
/// forgotten, and may be told again early.
#[derive(Debug)]
pub struct DelayThrottle {
    told: HashMap<Key, Timestamp>,
    order: VecDeque<(Timestamp, Key)>,
    capacity: usize,
}

type Key = (ReversePath, Domain, String);

impl DelayThrottle {
    /// How long one notification speaks for all.
    pub const WINDOW: Duration = Duration::from_secs(3600);

    /// A throttle that remembers at most `capacity` keys (at least one).
    pub fn new(capacity: usize) -> Self {
        Self { told: HashMap::new(), order: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Whether a notification may go out now; if so, the next hour of its key begins.
    pub fn permit(&mut self, sender: &ReversePath, domain: &Domain, cause: &str, now: Timestamp) -> bool {
        while self.order.front().is_some_and(|(at, _)| !Self::holds(*at, now)) {
            self.forget_oldest();
        }
        let key = (sender.clone(), domain.clone(), cause.to_owned());
        if self.told.get(&key).is_some_and(|at| Self::holds(*at, now)) {
            return false;
        }
        if self.told.len() >= self.capacity {
            self.forget_oldest();
        }
        self.told.insert(key.clone(), now);
        self.order.push_back((now, key));
        true
    }

    /// A moment in the future means that the clock was set back; it holds nothing.
    fn holds(at: Timestamp, now: Timestamp) -> bool {
        at <= now && now.since(at) < Self::WINDOW
    }

    fn forget_oldest(&mut self) {
        if let Some((at, key)) = self.order.pop_front()
            && self.told.get(&key) == Some(&at)
        {
            self.told.remove(&key);
        }
    }
}

impl Default for DelayThrottle {
    fn default() -> Self {
        Self::new(10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> ReversePath {
        ReversePath::parse("app@example.net").unwrap()
    }

    // DSN-02, DSN-03, DSN-04, DSN-05
    #[test]
    fn notify_decides_outcome_by_outcome() {
        // NOTIFY, then whether due: failure, delay, relayed (host without DSN), relayed (host with DSN).
        for (notify, want) in [
            ("", [true, true, false, false]),
            ("NEVER", [false, false, false, false]),
            ("FAILURE", [true, false, false, false]),
            ("DELAY", [false, true, false, false]),
            ("SUCCESS", [false, false, true, false]),
            ("SUCCESS,FAILURE", [true, false, true, false]),
            ("SUCCESS,DELAY", [false, true, true, false]),
            ("FAILURE,DELAY", [true, true, false, false]),
            ("SUCCESS,FAILURE,DELAY", [true, true, true, false]),
        ] {
            let n = Notify::parse(notify);
            let all = |origin, path: &ReversePath| {
                [
                    failure_due(origin, path, n),
                    delay_due(origin, path, n),
                    relayed_due(origin, path, n, false),
                    relayed_due(origin, path, n, true),
                ]
            };
            assert_eq!(all(Origin::Submitted, &sender()), want, "NOTIFY={notify}");
            assert_eq!(
                all(Origin::Submitted, &ReversePath::Null),
                [false; 4],
                "null sender, NOTIFY={notify}"
            );
            assert_eq!(all(Origin::Dsn, &sender()), [false; 4], "DSN, NOTIFY={notify}");
            assert_eq!(all(Origin::TlsReport, &sender()), [false; 4], "TLS report, NOTIFY={notify}");
        }
    }

    // DSN-04
    #[test]
    fn ten_thousand_waiting_messages_make_one_notice_an_hour() {
        let mut throttle = DelayThrottle::default();
        let domain = Domain::parse("example.org").unwrap();
        let start = Timestamp::from_millis(1_795_333_080_000);
        let minutes = |m: u64| start.after(Duration::from_secs(60 * m));
        let sent = (0..10_000).filter(|_| throttle.permit(&sender(), &domain, "dns", start)).count();
        assert_eq!(sent, 1);
        assert!(!throttle.permit(&sender(), &domain, "dns", minutes(59)));
        assert!(throttle.permit(&sender(), &domain, "connect", minutes(59)), "another cause");
        assert!(throttle.permit(&ReversePath::parse("b@example.net").unwrap(), &domain, "dns", minutes(59)));
        assert!(throttle.permit(&sender(), &domain, "dns", minutes(60)));
        assert!(
            throttle.permit(&sender(), &domain, "dns", start.before(DelayThrottle::WINDOW)),
            "clock set back"
        );
    }

    #[test]
    fn the_throttle_never_holds_more_than_its_capacity() {
        let mut throttle = DelayThrottle::new(3);
        let now = Timestamp::from_millis(0);
        for i in 0..50 {
            let domain = Domain::parse(&format!("d{i}.example")).unwrap();
            assert!(throttle.permit(&sender(), &domain, "dns", now));
            assert!(throttle.told.len() <= 3 && throttle.order.len() <= 3);
        }
    }
}
