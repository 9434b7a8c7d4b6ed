//! The dispatcher: looks for due work, shares the places, leases, starts workers.

use std::sync::Arc;
use std::time::Duration;

use super::places::Want;
use super::{Shared, worker};
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::queue::select::{self, Wish};
use crate::queue::{DueDomain, DueQuery, Lease, Which};

/// Domains per question to the store.
const PAGE: usize = 200;
/// The shortest sleep, so that work which falls due every millisecond does not cost a look each.
const SHORTEST_SLEEP: Duration = Duration::from_millis(50);
/// The longest sleep; a jump of the wall clock is noticed within it (DUR-17).
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The pause after the store failed, and until sessions are looked for again when none freed.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut cursor = None;
    while !shared.draining.is_cancelled() {
        let wait = look(&shared, &mut cursor).await;
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
///
/// It begins after `cursor`, the last domain that got a place, and goes once around: when places are short, the
/// names at the end of the alphabet get their turn like all others (QUE-30).
async fn look(shared: &Arc<Shared>, cursor: &mut Option<Domain>) -> Duration {
    let now = shared.clock.now();
    worker::rescue(shared);
    let mut next = shared.places.expire_pauses(now);
    let mut want = Want::default();
    let first = cursor.clone();
    let mut after = first.clone();
    let mut wrapped = first.is_none();
    loop {
        let page = match shared.store.due(DueQuery { after: after.take(), limit: PAGE }).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(event = "queue-read-failed", %error);
                return RETRY;
            }
        };
        next = earliest(next, page.next);
        let (full, last) = (page.domains.len() >= PAGE, page.domains.last().map(|d| d.domain.clone()));
        let mut due = page.domains;
        if wrapped && let Some(first) = &first {
            due.retain(|d| d.domain <= *first);
        }
        start(shared, due, now, cursor, &mut want).await;
        if want.starved || shared.draining.is_cancelled() {
            break;
        }
        match last {
            Some(last) if full && !(wrapped && first.as_ref().is_some_and(|f| last >= *f)) => {
                after = Some(last)
            }
            _ if wrapped => break,
            _ => wrapped = true,
        }
    }
    shared.places.set_want(want);
    next = earliest(next, shared.places.next_by_rate(now));
    if want.hungry || shared.places.waits_for_session() {
        // The next free place or session wakes us; this is for one that freed while we looked.
        return RETRY;
    }
    next.map_or(LONGEST_SLEEP, |t| t.since(shared.clock.now()).clamp(SHORTEST_SLEEP, LONGEST_SLEEP))
}

const fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a.as_millis() < b.as_millis() { a } else { b }),
        (a, None) => a,
        (None, b) => b,
    }
}

/// Leases for one page of domains, and notes what had to be left. Once places have run out, a look gives out no
/// more: one that frees meanwhile belongs to the domain after the cursor, not to those before it.
async fn start(
    shared: &Arc<Shared>,
    due: Vec<DueDomain>,
    now: Timestamp,
    cursor: &mut Option<Domain>,
    want: &mut Want,
) {
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
    let wanting: Vec<Domain> = wishes.iter().filter(|w| w.room > 0).map(|w| w.domain.clone()).collect();
    let wanted: usize = wishes.iter().map(|w| w.room).sum();
    let free = if want.hungry { 0 } else { shared.places.free() };
    let shares = select::share(wishes, free);
    want.hungry |= shares.iter().map(|(_, n)| *n).sum::<usize>() < wanted;
    // A share goes out in the order of the wishes, so those without one are the last.
    want.starved |= wanting.iter().skip(shares.len()).any(|domain| !shared.places.is_served(domain));
    if let Some((last, _)) = shares.last() {
        *cursor = Some(last.clone());
    }
    if want.hungry {
        // Before the first of them is at work: it might be done with its whole domain when the look ends.
        shared.places.set_want(*want);
    }
    let claims = shares.into_iter().map(|(domain, n)| claim(shared, domain, n));
    futures_util::future::join_all(claims).await;
}

/// Leases up to `n` transactions of a domain and starts a worker for each that has a place.
async fn claim(shared: &Arc<Shared>, domain: Domain, n: usize) {
    if let Some(n) = shared.places.begin_claim(&domain, n, shared.clock.now()) {
        claim_begun(shared, &domain, n, false).await;
    }
}

/// The second half of a claim that is already marked as begun. Gives the first lease to the worker that asked, if
/// one did; what may not begin any more goes back.
pub(super) async fn claim_begun(
    shared: &Arc<Shared>,
    domain: &Domain,
    n: usize,
    for_worker: bool,
) -> Option<Lease> {
    let leases = match shared.store.claim(domain.clone(), Which::Due, n, shared.terms()).await {
        Ok(leases) => leases,
        Err(error) => {
            tracing::error!(event = "claim-failed", domain = %domain, %error);
            Vec::new()
        }
    };
    let stopping = shared.draining.is_cancelled();
    let (leases, mut back) = if stopping { (Vec::new(), leases) } else { (leases, Vec::new()) };
    let claimed = shared.places.end_claim(domain, leases, n, for_worker, shared.clock.now());
    for (lease, place) in claimed.others {
        worker::spawn(shared, lease, place);
    }
    back.extend(claimed.back);
    worker::give_back(shared, back).await;
    claimed.mine
}
