//! The dispatcher: looks for due work, shares the places, leases, starts workers.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, worker};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::select::{self, Wish};
use crate::queue::{DueDomain, DueQuery, Which};

/// Domains per question to the store.
const PAGE: usize = 200;
/// The longest sleep; a jump of the wall clock is noticed within it (DUR-17).
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The pause after the store failed, and until sessions are looked for again when none freed.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>) {
    while !shared.draining.is_cancelled() {
        let wait = look(&shared).await;
        tokio::select! {
            () = shared.wake.notified() => {}
            () = session_freed(&shared) => {}
            () = tokio::time::sleep(wait) => {
                shared.places.session_freed();
            }
            () = shared.draining.cancelled() => {}
        }
        // A flood of arrivals costs one look per interval, not one each.
        tokio::time::sleep(shared.settings.look_interval).await;
    }
    worker::give_back(&shared, shared.places.drain_ready()).await;
}

/// Resolves when a session frees that some domain waits for.
async fn session_freed(shared: &Shared) {
    loop {
        shared.deliverer.freed().await;
        if shared.places.session_freed() {
            return;
        }
    }
}

/// Looks at every domain with due work once, and says how long nothing new can fall due.
async fn look(shared: &Arc<Shared>) -> Duration {
    let now = shared.clock.now();
    let mut next = shared.places.expire_pauses(now);
    let mut after = None;
    let mut starved = false;
    loop {
        let page = match shared.store.due(DueQuery { after: after.take(), limit: PAGE }).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(event = "queue-read-failed", %error);
                return RETRY;
            }
        };
        next = earliest(next, page.next);
        let last = page.domains.last().map(|d| d.domain.clone());
        let full = page.domains.len() >= PAGE;
        starved |= start(shared, page.domains, now).await;
        match last {
            Some(last) if full && !shared.draining.is_cancelled() => after = Some(last),
            _ => break,
        }
    }
    shared.places.set_starved(starved);
    let wait = next.map_or(LONGEST_SLEEP, |t| t.since(shared.clock.now()).min(LONGEST_SLEEP));
    // Work that waits only for places or sessions is not due again at a moment: workers wake us, and a session
    // that freed while we looked is looked for again.
    if starved || shared.places.waits_for_session() {
        RETRY.min(wait.max(Duration::from_millis(50)))
    } else {
        wait.max(Duration::from_millis(50))
    }
}

const fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.as_millis() < b.as_millis() { a } else { b }),
        (a, None) => a,
        (None, b) => b,
    }
}

/// Leases for one page of domains. `true` when some domain got less than it had room for.
async fn start(shared: &Arc<Shared>, due: Vec<DueDomain>, now: Timestamp) -> bool {
    let wishes: Vec<Wish> = due
        .into_iter()
        .map(|d| {
            let room = shared.places.room(&d.domain, now);
            // A suspension that has run out lets one probe through (QUE-34).
            let room = if d.probe.is_some() { room.min(1) } else { room };
            if let Some(probe) = d.probe {
                shared.suspensions().entry(d.domain.clone()).or_insert(probe);
            }
            shared.places.note_backlog(&d.domain);
            Wish { domain: d.domain, room }
        })
        .collect();
    let wanted: usize = wishes.iter().map(|w| w.room).sum();
    let shares = select::share(wishes, shared.places.free());
    let given: usize = shares.iter().map(|(_, n)| *n).sum();
    let claims = shares.into_iter().map(|(domain, n)| claim(shared, domain, n));
    futures_util::future::join_all(claims).await;
    given < wanted
}

/// Leases up to `n` transactions of a domain and starts a worker for each that has a place.
pub(super) async fn claim(shared: &Arc<Shared>, domain: Domain, n: usize) {
    if shared.places.begin_claim(&domain) {
        for (lease, place) in claim_begun(shared, &domain, n).await {
            worker::spawn(shared, lease, place);
        }
    }
}

/// The second half of a claim that is already marked as begun. What may not begin any more goes back.
pub(super) async fn claim_begun(
    shared: &Arc<Shared>,
    domain: &Domain,
    n: usize,
) -> Vec<(crate::queue::Lease, super::Place)> {
    let leases = match shared.store.claim(domain.clone(), Which::Due, n, shared.terms()).await {
        Ok(leases) => leases,
        Err(error) => {
            tracing::error!(event = "claim-failed", domain = %domain, %error);
            Vec::new()
        }
    };
    let (run, back) = if shared.draining.is_cancelled() {
        shared.places.end_claim(domain, Vec::new(), n, shared.clock.now());
        (Vec::new(), leases)
    } else {
        shared.places.end_claim(domain, leases, n, shared.clock.now())
    };
    worker::give_back(shared, back).await;
    run
}
