//! What happens by the clock and not by an attempt: delay warnings, ended lifetimes, history, the heartbeat.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Shared;
use super::ledger::{self, LeaseLedger, Notice};
use crate::dsn::compose::{DsnKind, Reported};
use crate::dsn::notify;
use crate::mail::{Domain, QueueId};
use crate::queue::outcome::{FailReason, Outcome};
use crate::queue::{DeferReason, Delayed, Diagnosis, Lease, Step, Suspension, Which};

/// Recipients looked at in one go for warnings.
const WARNINGS: usize = 2000;
/// So many times per sweep; the next sweep goes on from there. What no warning is permitted for yet is passed over, so
/// that however much of it waits, every sender gets its turn.
const WARNING_PAGES: usize = 5;
/// Transactions per commit when lifetimes end without a dial.
const EXPIRIES: usize = 50;
/// Slices of history per sweep, so that purging never holds the writer long (DUR-03).
const PURGES: usize = 50;
/// How often the owner says that it lives (QUE-38).
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(super) async fn run(shared: Arc<Shared>) {
    // Not at once: after a long stop, mail is tried before its sender is told that it waits.
    let first = tokio::time::Instant::now() + shared.settings.sweep_interval;
    let mut sweeps = tokio::time::interval_at(first, shared.settings.sweep_interval);
    let mut beats = tokio::time::interval(HEARTBEAT);
    for timer in [&mut sweeps, &mut beats] {
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    let mut warned_up_to = None;
    loop {
        tokio::select! {
            () = shared.draining.cancelled() => return,
            // Nothing is lost with a heartbeat that is not waited for, and a locked database holds up no drain.
            _ = beats.tick() => tokio::select! {
                () = shared.draining.cancelled() => return,
                written = shared.store.heartbeat() => if let Err(error) = written {
                    tracing::error!(event = "heartbeat-failed", %error);
                }
            },
            _ = sweeps.tick() => sweep(&shared, &mut warned_up_to).await,
        }
    }
}

async fn sweep(shared: &Arc<Shared>, warned_up_to: &mut Option<(QueueId, u32)>) {
    if let Some(after) = shared.settings.delay_warning_after {
        for _ in 0..WARNING_PAGES {
            *warned_up_to = warn_senders(shared, after, *warned_up_to).await;
            if warned_up_to.is_none() || shared.draining.is_cancelled() {
                break;
            }
        }
    }
    let long_ago = shared.clock.now().before(Suspension::FORGOTTEN);
    shared.suspensions().retain(|_, s| s.until >= long_ago);
    for (domain, diagnosis) in shared.places.troubled() {
        expire_waiting(shared, &domain, &diagnosis).await;
    }
    for _ in 0..PURGES {
        match shared.store.purge(shared.settings.history, shared.settings.history_limit).await {
            Ok(true) if !shared.draining.is_cancelled() => {}
            Ok(_) => break,
            Err(error) => {
                tracing::error!(event = "purge-failed", %error);
                break;
            }
        }
    }
}

/// DSN-04: one delay DSN per sender, domain and cause an hour, naming how many further messages wait. Says up to which
/// recipient it has come; `None` when that was the last.
async fn warn_senders(
    shared: &Arc<Shared>,
    wait: Duration,
    after: Option<(QueueId, u32)>,
) -> Option<(QueueId, u32)> {
    let now = shared.clock.now();
    let delayed = match shared.store.delayed(now.before(wait), after, WARNINGS).await {
        Ok(delayed) => delayed,
        Err(error) => {
            tracing::error!(event = "queue-read-failed", %error);
            return None;
        }
    };
    let last = delayed.last().filter(|_| delayed.len() >= WARNINGS).map(|d| (d.message.id, d.recipient.no));
    let mut groups: BTreeMap<(String, Domain, String), Vec<(Delayed, Diagnosis)>> = BTreeMap::new();
    let mut silent = Vec::new();
    for d in delayed {
        if !notify::delay_due(d.message.origin, &d.message.reverse_path, d.recipient.notify) {
            silent.push((d.message.id, d.recipient.no));
            continue;
        }
        let waits_its_turn =
            || Diagnosis::local(now, "it waits for its turn: many messages wait for this domain".to_owned());
        let diagnosis = d
            .suspension
            .as_ref()
            .map(|s| s.last.clone())
            .or_else(|| d.recipient.last.clone())
            .unwrap_or_else(waits_its_turn);
        let key = (
            d.message.reverse_path.to_string(),
            d.recipient.path.domain().clone(),
            diagnosis.enhanced.to_string(),
        );
        groups.entry(key).or_default().push((d, diagnosis));
    }
    if !silent.is_empty() {
        mark_warned(shared, silent, Vec::new()).await;
    }
    for ((_, domain, cause), group) in groups {
        let Some((first, _)) = group.first() else { continue };
        let sender = &first.message.reverse_path;
        let permitted = shared
            .throttle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .permit(sender, &domain, &cause, now);
        if permitted {
            warn_one(shared, &group).await;
        }
    }
    last
}

async fn warn_one(shared: &Arc<Shared>, group: &[(Delayed, Diagnosis)]) {
    let now = shared.clock.now();
    let Some((first, _)) = group.first() else { return };
    let message = &first.message;
    let of_first = || group.iter().filter(|(d, _)| d.message.id == message.id);
    let outcomes: Vec<(&Delayed, &Diagnosis)> = of_first().map(|(d, diagnosis)| (d, diagnosis)).collect();
    let reported: Vec<Reported<'_>> = outcomes
        .iter()
        .map(|(d, diagnosis)| Reported {
            recipient: &d.recipient,
            diagnosis,
            expired: false,
            cause: cause(d),
        })
        .collect();
    let others: std::collections::BTreeSet<QueueId> =
        group.iter().map(|(d, _)| d.message.id).filter(|id| *id != message.id).collect();
    let kind =
        DsnKind::Delayed { retry_until: ledger::expires(shared, message), also_waiting: others.len() as u64 };
    let first_part = shared.store.content(message.id, 0).await.ok().flatten().unwrap_or_default();
    let dsn = ledger::compose_dsn(shared, kind, message, &reported, &first_part, now);
    tracing::info!(event = "delay-warning", queue_id = %message.id, dsn_id = %dsn.id, domain = %first.recipient.path.domain());
    let all = group.iter().map(|(d, _)| (d.message.id, d.recipient.no)).collect();
    mark_warned(shared, all, vec![dsn]).await;
}

/// Why it waits. A domain is suspended when no host of it can be reached.
fn cause(delayed: &Delayed) -> &str {
    if delayed.suspension.is_some() { DeferReason::Connect.as_str() } else { &delayed.cause }
}

async fn mark_warned(
    shared: &Arc<Shared>,
    who: Vec<(QueueId, u32)>,
    generated: Vec<crate::queue::NewMessage>,
) {
    let notices = generated.len() as u64;
    match shared.store.warned(who, generated).await {
        Ok(()) if notices > 0 => {
            shared.settings.metrics.notifications.add(Notice::Delay, notices);
            shared.wake.notify_one();
        }
        Ok(()) => {}
        Err(error) => tracing::error!(event = "warning-not-written", %error),
    }
}

/// A failed probe counts as the completed attempt of every message that waited on it: those whose lifetime had
/// ended by then are returned without a dial (QUE-34, QUE-07).
pub(super) async fn expire_waiting(shared: &Arc<Shared>, domain: &Domain, diagnosis: &Diagnosis) {
    let ended = Which::ArrivedBefore {
        submitted: diagnosis.at.before(shared.settings.max_age),
        generated: diagnosis.at.before(shared.settings.generated_max_age),
    };
    loop {
        let claimed = shared.store.claim(domain.clone(), ended, EXPIRIES, shared.terms()).await;
        let leases = match claimed {
            Ok(leases) => leases,
            Err(error) => {
                tracing::error!(event = "claim-failed", domain = %domain, %error);
                return;
            }
        };
        let last = leases.len() < EXPIRIES;
        for lease in leases {
            expire(shared, &lease, diagnosis).await;
        }
        if last {
            return;
        }
    }
}

async fn expire(shared: &Arc<Shared>, lease: &Lease, diagnosis: &Diagnosis) {
    let ledger = LeaseLedger::new(shared, lease);
    // A domain is suspended when no host of it can be reached.
    let diagnosis = Diagnosis { waited_for: Some(DeferReason::Connect), ..diagnosis.clone() };
    let outcomes = lease
        .recipients
        .iter()
        .map(|r| (r.no, Outcome::Failed(FailReason::Expired, diagnosis.clone())))
        .collect();
    let what = "not dialled: the last probe of this domain failed, and the lifetime of the message has ended";
    let step = Step { host: diagnosis.host.clone(), ip: None, what: what.to_owned() };
    if let Err(error) = crate::delivery::Ledger::record(&ledger, outcomes, vec![step]).await {
        tracing::error!(event = "outcome-not-recorded", queue_id = %lease.message.id, %error);
    }
}
