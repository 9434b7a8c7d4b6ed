//! How often a line of the log may be provoked by the same peer (LIM-31).
//!
//! A line that names a client or a domain, and no message, is one that a stranger can have written as often as he likes:
//! at most `LINES` of a kind in a `WINDOW` per network or domain. What was left out is counted and said afterwards.
//! A line that names a message (`queue_id`) tells what became of it and is never left out, `delivery` before all; nor is
//! an error.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines of one kind and peer in a window.
const LINES: u32 = 20;
/// The window.
const WINDOW: Duration = Duration::from_secs(60);
/// Kinds and peers that are told apart. Those that find no room share one count.
const KEYS: usize = 4096;
/// Counts said one by one when a window is over; the others are added up.
const SAID: usize = 20;

static LIMITER: OnceLock<Arc<Limiter>> = OnceLock::new();

/// The limiter of this process.
pub(super) fn of_process() -> Arc<Limiter> {
    Arc::clone(LIMITER.get_or_init(Arc::default))
}

/// Says once a window what was left out. Never ends.
pub async fn report() {
    loop {
        tokio::time::sleep(WINDOW).await;
        let mut left_out = of_process().take(Instant::now());
        let rest = left_out.split_off(left_out.len().min(SAID));
        for LeftOut { of, peer, lines } in left_out {
            tracing::warn!(event = "lines-left-out", of, peer, lines);
        }
        if !rest.is_empty() {
            let lines: u64 = rest.iter().map(|l| l.lines).sum();
            tracing::warn!(event = "lines-left-out", of = "", peer = "others", lines);
        }
    }
}

/// Counts lines.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    counts: Mutex<HashMap<(Identifier, String), Count>>,
}

#[derive(Debug)]
struct Count {
    of: String,
    since: Instant,
    lines: u32,
    left_out: u64,
}

/// What was not written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// The event.
    pub(super) of: String,
    /// Whose lines.
    pub(super) peer: String,
    /// How many.
    pub(super) lines: u64,
}

impl Limiter {
    /// Whether a line of this kind about this peer may be written now.
    fn permit(&self, kind: Identifier, of: &str, peer: String, now: Instant) -> bool {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (kind, peer);
        if counts.len() >= KEYS && !counts.contains_key(&key) {
            counts.retain(|_, c| c.left_out > 0 || now.saturating_duration_since(c.since) < WINDOW);
            if counts.len() >= KEYS {
                key.1 = "others".to_owned();
            }
        }
        let count = counts.entry(key).or_insert_with(|| Count {
            of: of.to_owned(),
            since: now,
            lines: 0,
            left_out: 0,
        });
        if now.saturating_duration_since(count.since) >= WINDOW {
            (count.since, count.lines) = (now, 0);
        }
        if count.lines >= LINES {
            count.left_out += 1;
            return false;
        }
        count.lines += 1;
        true
    }

    /// What was left out since this was asked last, the most first; windows that are over are forgotten.
    fn take(&self, now: Instant) -> Vec<LeftOut> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::new();
        for ((_, peer), count) in counts.iter_mut().filter(|(_, c)| c.left_out > 0) {
            let lines = std::mem::take(&mut count.left_out);
            out.push(LeftOut { of: count.of.clone(), peer: peer.clone(), lines });
        }
        counts.retain(|_, c| now.saturating_duration_since(c.since) < WINDOW);
        out.sort_by_key(|l| std::cmp::Reverse(l.lines));
        out
    }
}

/// Asks the limiter before a line is written.
pub(super) struct Limit(pub(super) Arc<Limiter>);

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let meta = event.metadata();
        let has = |name| meta.fields().field(name).is_some();
        if *meta.level() == Level::ERROR || has("queue_id") || !(has("client") || has("domain")) {
            return true;
        }
        let mut peer = Peer::default();
        event.record(&mut peer);
        self.0.permit(meta.callsite(), &peer.event, peer.network(), Instant::now())
    }
}

/// Who a line is about.
#[derive(Default)]
struct Peer {
    event: String,
    name: String,
}

impl Peer {
    /// One who has a whole IPv6 network at his disposal is one peer.
    fn network(&self) -> String {
        match self.name.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            Ok(IpAddr::V6(ip)) => {
                let [a, b, c, d, ..] = ip.segments();
                format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            Ok(IpAddr::V4(ip)) => ip.to_string(),
            Err(_) => self.name.clone(),
        }
    }
}

impl Visit for Peer {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => value.clone_into(&mut self.event),
            "client" | "domain" => value.clone_into(&mut self.name),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "event" | "client" | "domain") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// The lines that pass, by event.
    #[derive(Clone, Default)]
    struct Passed(Arc<Mutex<HashMap<String, u32>>>);

    impl<S: Subscriber> Layer<S> for Passed {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut peer = Peer::default();
            event.record(&mut peer);
            *self.0.lock().unwrap().entry(peer.event).or_default() += 1;
        }
    }

    // LIM-31
    #[test]
    fn a_peer_provokes_so_many_lines_and_no_more_and_what_became_of_mail_is_never_left_out() {
        let (passed, limiter) = (Passed::default(), Arc::<Limiter>::default());
        let log = tracing_subscriber::registry().with(passed.clone()).with(Limit(Arc::clone(&limiter)));
        tracing::subscriber::with_default(log, || {
            for n in 0..100_u32 {
                let neighbour = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, u16::try_from(n).unwrap());
                tracing::info!(event = "one", client = %Ipv6Addr::LOCALHOST);
                tracing::info!(event = "network", client = %neighbour);
                tracing::info!(event = "many", client = %std::net::Ipv4Addr::from(n));
                tracing::warn!(event = "domain", domain = "a.example");
                tracing::info!(event = "delivery", queue_id = "x", domain = "a.example");
                tracing::error!(event = "error", domain = "a.example");
                tracing::info!(event = "ours");
            }
        });
        let passed = passed.0.lock().unwrap().clone();
        for (event, want) in [
            ("one", LINES),
            ("network", LINES),
            ("many", 100),
            ("domain", LINES),
            ("delivery", 100),
            ("error", 100),
            ("ours", 100),
        ] {
            assert_eq!(passed.get(event), Some(&want), "{event}");
        }
        let mut left_out = limiter.take(Instant::now());
        left_out.sort_by(|a, b| a.of.cmp(&b.of));
        let said: Vec<_> = left_out.iter().map(|l| (&*l.of, &*l.peer, l.lines)).collect();
        assert_eq!(
            said,
            [("domain", "a.example", 80), ("network", "2001:db8:0:1::/64", 80), ("one", "::/64", 80)]
        );
        assert!(limiter.take(Instant::now()).is_empty(), "said once");
    }

    // LIM-31
    #[test]
    fn a_new_window_begins_and_the_table_is_bounded() {
        let limiter = Limiter::default();
        let kind = {
            let found = Arc::new(Mutex::new(None));
            struct Find(Arc<Mutex<Option<Identifier>>>);
            impl<S: Subscriber> Layer<S> for Find {
                fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                    *self.0.lock().unwrap() = Some(event.metadata().callsite());
                }
            }
            let log = tracing_subscriber::registry().with(Find(Arc::clone(&found)));
            tracing::subscriber::with_default(log, || tracing::info!("x"));
            found.lock().unwrap().clone().unwrap()
        };
        let start = Instant::now();
        let ask = |peer: &str, at| limiter.permit(kind.clone(), "x", peer.to_owned(), at);
        assert_eq!((0..30).filter(|_| ask("a", start)).count(), 20);
        assert!(!ask("a", start + WINDOW / 2) && ask("a", start + WINDOW));
        let strangers = (0..3 * KEYS).filter(|n| ask(&n.to_string(), start + WINDOW)).count();
        assert!(strangers <= KEYS + 20, "{strangers}");
        assert!(limiter.counts.lock().unwrap().len() <= KEYS + 1);
        limiter.take(start + 3 * WINDOW);
        assert!(limiter.counts.lock().unwrap().is_empty());
    }
}
