//! Accepting connections: caps, and an accept loop that nothing stops but its token (LIM-13).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::metrics::Connected;
use super::smtp_connection::{self, Service};
use super::{Listener, Protocol};

/// Wait after an error of the machine, such as too many open files.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The connections of all listeners together, counted.
pub struct Slots {
    most: usize,
    most_per_source: usize,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's place; given back when dropped.
struct Slot {
    slots: Arc<Slots>,
    source: IpAddr,
}

impl Slots {
    /// At most `most` connections, and `most_per_source` per IPv4 address or IPv6 /64 that is not trusted.
    pub fn new(most: usize, most_per_source: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_source, taken: Mutex::default() })
    }

    fn take(self: &Arc<Self>, peer: IpAddr, trusted: bool) -> Option<Slot> {
        let source = source(peer);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_source) = &mut *taken;
        let here = by_source.get(&source).copied().unwrap_or(0);
        if *all >= self.most || (!trusted && here >= self.most_per_source) {
            return None;
        }
        *all += 1;
        by_source.insert(source, here + 1);
        Some(Slot { slots: Arc::clone(self), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.0 = taken.0.saturating_sub(1);
        if let Some(n) = taken.1.get_mut(&self.source) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                taken.1.remove(&self.source);
            }
        }
    }
}

/// Whom connections are counted against: an IPv4 address, or the /64 that one IPv6 host has to itself.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => v4.into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

/// Serves a bound socket until `close`: then no connection is accepted any more, clients get 421 at their next
/// pause, content in progress has [`super::Timers::close`] to end, and the call returns after the last of them.
pub async fn serve(
    socket: TcpListener,
    rules: Listener,
    service: Arc<Service>,
    slots: Arc<Slots>,
    close: CancellationToken,
) {
    let rules = Arc::new(rules);
    let sessions = TaskTracker::new();
    // One descriptor in reserve, so that the queue of connections can be emptied when there are no others.
    let mut reserve = File::open("/dev/null").ok();
    while let Some(accepted) = close.run_until_cancelled(socket.accept()).await {
        let (tcp, peer) = match accepted {
            Ok((tcp, peer)) => (tcp, peer.ip()),
            Err(e) if is_ours(&e) => {
                error!(event = "accept-failed", address = %rules.address, error = %e);
                drop(reserve.take());
                if let Ok(Ok((tcp, _))) = tokio::time::timeout(BACK_OFF, socket.accept()).await {
                    drop(tcp);
                }
                reserve = File::open("/dev/null").ok();
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
            // The client has gone already.
            Err(_) => continue,
        };
        let Some(slot) = slots.take(peer, service.settings().trusts(peer)) else {
            warn!(event = "too-many-connections", address = %rules.address, client = %peer);
            service.metrics().connections.count(Connected::TurnedAway);
            turn_away(tcp, rules.protocol);
            continue;
        };
        service.metrics().connections.count(Connected::Accepted);
        let open = service.metrics().open.hold();
        let (service, rules, close) = (Arc::clone(&service), Arc::clone(&rules), close.clone());
        sessions.spawn(async move {
            let _held = (slot, open);
            smtp_connection::run(&service, &rules, tcp, peer, &close).await;
        });
    }
    drop(socket);
    info!(event = "listener-closed", address = %rules.address, sessions = sessions.len());
    sessions.close();
    sessions.wait().await;
}

/// Whether an error of `accept` says something about this machine rather than about one connection (accept(2)).
fn is_ours(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// One reply, if it fits into the socket's buffer, and no work (LIM-13). In TLS there is nothing to say it with.
fn turn_away(tcp: TcpStream, protocol: Protocol) {
    if let (Protocol::Smtp, Ok(mut tcp)) = (protocol, tcp.into_std()) {
        let _ = tcp.write(b"421 4.7.0 too many connections\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // LIM-13
    #[test]
    fn connections_are_counted_by_source_and_in_all() {
        let slots = Slots::new(4, 2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let a = slots.take(ip("192.0.2.1"), false);
        let b = slots.take(ip("::ffff:192.0.2.1"), false);
        assert!(a.is_some() && b.is_some());
        assert!(slots.take(ip("192.0.2.1"), false).is_none(), "a third one, in whatever spelling");
        let c = slots.take(ip("2001:db8::1"), false);
        let d = slots.take(ip("2001:db8::ffff"), false);
        assert!(c.is_some() && d.is_some());
        assert!(slots.take(ip("192.0.2.9"), true).is_none(), "the cap of all");
        drop((a, c));
        assert!(slots.take(ip("2001:db8:0:0:1::"), false).is_some(), "one of that /64 is left");
        let e = slots.take(ip("192.0.2.1"), true);
        assert!(e.is_some());
        drop((b, d, e));
        assert!(slots.taken.lock().unwrap().1.is_empty(), "nothing is remembered of who has gone");
    }
}
