//! What became of each message of a run, by its id.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// The header field that carries a message's id, `run.number`.
pub(crate) const ID_FIELD: &str = "X-Bench-Id";

/// The two ends of a run, side by side.
pub(crate) struct Ledger {
    /// Tells messages of this run from others.
    pub(crate) run: u64,
    origin: Instant,
    messages: Vec<Entry>,
    /// Different messages that arrived.
    unique: AtomicUsize,
    /// Nanoseconds since `origin` of the last first arrival.
    last_arrival: AtomicU64,
    /// Messages whose MAIL came over a connection without TLS.
    pub(crate) plain: AtomicUsize,
    /// Messages that nobody sent in this run.
    pub(crate) strange: AtomicUsize,
    /// Connections to MX hosts.
    pub(crate) connections: AtomicUsize,
    /// TLS handshakes, resumed ones included.
    pub(crate) handshakes: AtomicUsize,
    /// Resumed TLS sessions.
    pub(crate) resumed: AtomicUsize,
}

#[derive(Default)]
struct Entry {
    /// Nanoseconds since `origin` when its last octet was sent; 0 when not sent.
    sent: AtomicU64,
    /// 1 when the contender said 250.
    accepted: AtomicU32,
    /// Arrivals at the sink.
    arrivals: AtomicU32,
    /// Nanoseconds from sending to the first arrival.
    delay: AtomicU64,
}

/// The count of a finished run (G16).
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Count {
    /// Messages that the contender accepted.
    pub(crate) accepted: usize,
    /// Accepted messages that arrived.
    pub(crate) unique: usize,
    /// Arrivals beyond the first.
    pub(crate) duplicates: usize,
    /// Arrivals in the clear.
    pub(crate) plain: usize,
    /// Arrivals of messages of no run, or of an earlier one.
    pub(crate) strange: usize,
    /// Connections to MX hosts.
    pub(crate) connections: usize,
    /// TLS handshakes.
    pub(crate) handshakes: usize,
    /// Resumed ones among them.
    pub(crate) resumed: usize,
}

impl Ledger {
    /// A ledger for so many messages.
    pub(crate) fn new(run: u64, messages: usize) -> Self {
        Self {
            run,
            origin: Instant::now(),
            messages: (0..messages).map(|_| Entry::default()).collect(),
            unique: AtomicUsize::new(0),
            last_arrival: AtomicU64::new(0),
            plain: AtomicUsize::new(0),
            strange: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            handshakes: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
        }
    }

    /// How many messages there are to send.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The last octet of a message is about to go out.
    pub(crate) fn sent(&self, number: usize) {
        if let Some(entry) = self.messages.get(number) {
            entry.sent.store(self.now(), Ordering::Relaxed);
        }
    }

    /// The contender took responsibility.
    pub(crate) fn accepted(&self, number: usize) {
        if let Some(entry) = self.messages.get(number) {
            entry.accepted.store(1, Ordering::Relaxed);
        }
    }

    /// A message arrived whose id field holds `id`.
    pub(crate) fn arrived(&self, id: Option<(u64, usize)>) {
        let entry = id.filter(|(run, _)| *run == self.run).and_then(|(_, number)| self.messages.get(number));
        let Some(entry) = entry else {
            self.strange.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if entry.arrivals.fetch_add(1, Ordering::Relaxed) == 0 {
            let now = self.now();
            entry.delay.store(now.saturating_sub(entry.sent.load(Ordering::Relaxed)), Ordering::Relaxed);
            self.last_arrival.fetch_max(now, Ordering::Relaxed);
            self.unique.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Different messages that have arrived so far.
    pub(crate) fn unique(&self) -> usize {
        self.unique.load(Ordering::Relaxed)
    }

    /// Waits until `count` different messages have arrived; `false` when nothing came for `patience`.
    pub(crate) async fn wait(&self, count: usize, patience: Duration) -> bool {
        let (mut seen, mut since) = (self.unique(), Instant::now());
        while seen < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
            if self.unique() != seen {
                (seen, since) = (self.unique(), Instant::now());
            } else if since.elapsed() > patience {
                return false;
            }
        }
        true
    }

    /// From `start` to the last arrival.
    pub(crate) fn until_last_arrival(&self, start: Instant) -> Duration {
        let last = self.origin + Duration::from_nanos(self.last_arrival.load(Ordering::Relaxed));
        last.saturating_duration_since(start)
    }

    /// From the end of sending to arrival, of every message that arrived.
    pub(crate) fn delays(&self) -> Vec<Duration> {
        let arrived = self.messages.iter().filter(|e| e.arrivals.load(Ordering::Relaxed) > 0);
        arrived.map(|e| Duration::from_nanos(e.delay.load(Ordering::Relaxed))).collect()
    }

    /// The count at both ends.
    pub(crate) fn count(&self) -> Count {
        let mut count = Count {
            plain: self.plain.load(Ordering::Relaxed),
            strange: self.strange.load(Ordering::Relaxed),
            connections: self.connections.load(Ordering::Relaxed),
            handshakes: self.handshakes.load(Ordering::Relaxed),
            resumed: self.resumed.load(Ordering::Relaxed),
            ..Count::default()
        };
        for entry in &self.messages {
            let accepted = entry.accepted.load(Ordering::Relaxed) == 1;
            let arrivals = entry.arrivals.load(Ordering::Relaxed) as usize;
            count.accepted += usize::from(accepted);
            count.unique += usize::from(accepted && arrivals > 0);
            count.duplicates += arrivals.saturating_sub(1);
        }
        count
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
