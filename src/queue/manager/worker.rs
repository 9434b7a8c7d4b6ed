//! A worker: one place, one transaction after another of one domain.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::ledger::LeaseLedger;
use super::places::{Next, Place};
use super::{Shared, dispatch, sweep};
use crate::clock::Timestamp;
use crate::delivery::AttemptReport;
use crate::mail::Domain;
use crate::queue::{Diagnosis, Lease, Suspension};

/// The first suspension of a domain whose hosts cannot be reached; each failed probe doubles it (QUE-34).
const FIRST_SUSPENSION: Duration = Duration::from_secs(60);
/// The longest.
const LONGEST_SUSPENSION: Duration = Duration::from_secs(3600);

/// Starts a worker with its first transaction.
pub(super) fn spawn(shared: &Arc<Shared>, lease: Lease, place: Place) {
    let shared_in = Arc::clone(shared);
    shared.tasks.spawn(async move { work(&shared_in, lease, place).await });
}

async fn work(shared: &Arc<Shared>, first: Lease, mut place: Place) {
    let domain = place.domain.clone();
    let mut lease = first;
    loop {
        let open = attempt(shared, lease).await;
        place.release_content();
        if !open || shared.draining.is_cancelled() {
            break;
        }
        match shared.places.next(&mut place, shared.clock.now()) {
            Next::Lease(next) => lease = *next,
            Next::Claim(n) => match dispatch::claim_begun(shared, &domain, n, true).await {
                Some(next) => lease = next,
                None => break,
            },
            Next::Rest => break,
        }
    }
    drop(place);
    if shared.draining.is_cancelled() {
        // Leased for one of us, and nobody will begin it (DUR-18).
        give_back(shared, shared.places.drain_ready()).await;
        return;
    }
    rescue(shared);
    // A worker that leaves work behind, or a place that others wait for, is news.
    if shared.places.is_hungry() || shared.places.has_backlog(&domain) {
        shared.wake.notify_one();
    }
}

/// Starts what is leased and found no place before.
pub(super) fn rescue(shared: &Arc<Shared>) {
    while let Some((lease, place)) = shared.places.rescue() {
        spawn(shared, lease, place);
    }
}

/// Tries one lease; `false` when the domain is closed for now.
async fn attempt(shared: &Arc<Shared>, lease: Lease) -> bool {
    let ledger = LeaseLedger::new(shared, &lease);
    let begun = shared.clock.monotonic();
    let run = shared.deliverer.run(&lease, &ledger, &shared.cancel);
    // DUR-21: a panic ends this attempt and nothing else.
    let ended = AssertUnwindSafe(run).catch_unwind().await;
    shared.settings.metrics.attempts.took(shared.clock.monotonic().saturating_sub(begun));
    let Ok(report) = ended else {
        tracing::error!(event = "attempt-panicked", queue_id = %lease.message.id, domain = %lease.domain);
        ledger.record_panic().await;
        return true;
    };
    let open = settle_domain(shared, &lease.domain, &report).await;
    let handed_back = report.hand_back.map(|h| (h.recipients, h.until));
    let closed = handed_back.is_some() && !shared.cancel.is_cancelled();
    let until = handed_back.as_ref().and_then(|(_, until)| *until);
    // Whatever has no outcome goes back as it was; a worker never keeps rows (QUE-38).
    let left = ledger.undecided();
    if !left.is_empty() {
        release(shared, &lease, left).await;
    }
    if let Some(trouble) = ledger.last_deferral().filter(|_| closed) {
        shared.places.set_trouble(&lease.domain, Some(trouble));
    }
    if ledger.delivered() {
        shared.places.set_trouble(&lease.domain, None);
    }
    if closed {
        // Nothing was sent for what this lease took off the rate.
        if !ledger.has_outcome() {
            shared.places.refund(&lease.domain, 1);
        }
        let ready = shared.places.close(&lease.domain, until);
        give_back(shared, ready).await;
        shared.wake.notify_one();
    }
    open && !closed
}

/// Writes what the attempt says about the domain as a whole; `false` when it is suspended now.
async fn settle_domain(shared: &Arc<Shared>, domain: &Domain, report: &AttemptReport) -> bool {
    if let Some(diagnosis) = &report.unreachable {
        suspend(shared, domain, diagnosis).await;
        return false;
    }
    if report.reached {
        let was_suspended = shared.suspensions().remove(domain).is_some();
        if was_suspended {
            write_suspension(shared, domain, None).await;
            shared.places.forget_pauses(std::slice::from_ref(domain));
            shared.wake.notify_one();
        }
    }
    true
}

async fn suspend(shared: &Arc<Shared>, domain: &Domain, diagnosis: &Diagnosis) {
    let now = shared.clock.now();
    let suspension = {
        let mut suspended = shared.suspensions();
        // Attempts that ran side by side fail together; the first of them decides.
        if suspended.get(domain).is_some_and(|s| s.until > now) {
            return;
        }
        let step = suspended.get(domain).map_or(1, |s| s.step.saturating_add(1));
        let suspension =
            Suspension { until: now.after(suspension_length(step)), step, last: diagnosis.clone() };
        suspended.insert(domain.clone(), suspension.clone());
        suspension
    };
    tracing::warn!(event = "domain-suspended", domain = %domain, until = %suspension.until, reason = %diagnosis.text);
    let until: Timestamp = suspension.until;
    write_suspension(shared, domain, Some(suspension)).await;
    let ready = shared.places.close(domain, Some(until));
    give_back(shared, ready).await;
    sweep::expire_waiting(shared, domain, diagnosis).await;
    shared.wake.notify_one();
}

fn suspension_length(step: u32) -> Duration {
    FIRST_SUSPENSION
        .saturating_mul(1_u32.checked_shl(step.saturating_sub(1)).unwrap_or(u32::MAX))
        .min(LONGEST_SUSPENSION)
}

async fn write_suspension(shared: &Arc<Shared>, domain: &Domain, suspension: Option<Suspension>) {
    if let Err(error) = shared.store.suspend(domain.clone(), suspension).await {
        tracing::error!(event = "suspension-not-written", domain = %domain, %error);
    }
}

/// Hands leases back that were never begun.
pub(super) async fn give_back(shared: &Arc<Shared>, leases: Vec<Lease>) {
    for lease in leases {
        let recipients = lease.recipients.iter().map(|r| r.no).collect();
        release(shared, &lease, recipients).await;
    }
}

/// Hands recipients back, and keeps at it: what stays leased is tried by nobody before the next start.
async fn release(shared: &Arc<Shared>, lease: &Lease, recipients: Vec<u32>) {
    let released =
        shared.persist(&lease.message.id, || shared.store.release(lease.id, recipients.clone(), None));
    if let Err(error) = released.await {
        tracing::error!(event = "release-failed", queue_id = %lease.message.id, %error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // QUE-34
    #[test]
    fn suspensions_double_from_a_minute_to_an_hour() {
        let minutes: Vec<u64> = (1..=9).map(|s| suspension_length(s).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(suspension_length(u32::MAX), LONGEST_SUSPENSION);
    }
}
