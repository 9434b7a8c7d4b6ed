//! The ledger of one lease: every outcome is a commit, with expiry applied and the DSN in it (DSN-14).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rand::RngExt as _;
use uuid::Uuid;

use super::Shared;
use super::dispatch::LONGEST_SLEEP;
use crate::clock::Timestamp;
use crate::delivery::Ledger;
use crate::dsn::compose::{self, DsnContext, DsnKind, Original, Reported};
use crate::dsn::notify;
use crate::mail::{Origin, QueueId};
use crate::observe::fields;
use crate::observe::metrics::words;
use crate::queue::outcome::{DeferReason, Diagnosis, FailReason, Outcome};
use crate::queue::{
    Finish, Lease, LeasedRecipient, MessageMeta, NewMessage, ResultLine, Settled, Step, StoreError,
    TimelineEntry,
};

/// The wait after something of ours went wrong; the attempt does not count.
const LOCAL_TROUBLE: Duration = Duration::from_secs(60);

words! {
    /// What a sender is told.
    pub(super) enum Notice {
        Outcome = "outcome",
        Delay = "delay",
    }
}

pub(super) struct LeaseLedger<'a> {
    shared: &'a Arc<Shared>,
    lease: &'a Lease,
    started: Timestamp,
    /// Recipients whose outcome is known, committed or not: they are never tried again by this process (DUR-10).
    decided: Mutex<BTreeSet<u32>>,
    last_deferral: Mutex<Option<Diagnosis>>,
    delivered: AtomicBool,
}

impl<'a> LeaseLedger<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, lease: &'a Lease) -> Self {
        let started = shared.clock.now();
        Self {
            shared,
            lease,
            started,
            decided: Mutex::default(),
            last_deferral: Mutex::default(),
            delivered: AtomicBool::new(false),
        }
    }

    /// Recipients without an outcome, by their place in the envelope.
    pub(super) fn undecided(&self) -> Vec<u32> {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        self.lease.recipients.iter().map(|r| r.no).filter(|no| !decided.contains(no)).collect()
    }

    /// Whether anything became of some recipient.
    pub(super) fn has_outcome(&self) -> bool {
        !self.decided.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// The last deferral that was recorded, if any.
    pub(super) fn last_deferral(&self) -> Option<Diagnosis> {
        self.last_deferral.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether some recipient was delivered.
    pub(super) fn delivered(&self) -> bool {
        self.delivered.load(Ordering::Relaxed)
    }

    /// The attempt panicked: what it had not settled waits, 4.3.0 (DUR-21). It counts, with the full back-off: the
    /// panic may have come after the dot, or come again.
    pub(super) async fn record_panic(&self) {
        let words = "an internal error ended the attempt; see the log";
        let diagnosis = Diagnosis::local(self.shared.clock.now(), words.to_owned());
        let outcomes = self
            .undecided()
            .into_iter()
            .map(|no| (no, Outcome::Deferred(DeferReason::Interrupted, diagnosis.clone())));
        if let Err(error) = self.record(outcomes.collect(), Vec::new()).await {
            tracing::error!(event = "outcome-not-recorded", queue_id = %self.lease.message.id, %error);
        }
    }

    async fn commit(&self, outcomes: Vec<(u32, Outcome)>, steps: Vec<Step>) -> Result<(), StoreError> {
        let now = self.shared.clock.now();
        self.decided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(outcomes.iter().map(|(no, _)| *no));
        let mut settled = Vec::with_capacity(outcomes.len());
        for (no, outcome) in outcomes {
            let Some(recipient) = self.lease.recipients.iter().find(|r| r.no == no) else { continue };
            settled.push((recipient, self.settle(recipient, outcome, now).await));
        }
        if settled.is_empty() {
            return Ok(());
        }
        let generated = self.notifications(&settled, now).await;
        // The dispatcher knows nothing of what falls due before its next look.
        let soon = now.after(LONGEST_SLEEP);
        let due_soon =
            !generated.is_empty() || settled.iter().any(|(_, s)| s.next_attempt.is_some_and(|t| t <= soon));
        let notices = generated.len() as u64;
        let finish = Finish {
            lease: self.lease.id,
            entry: self.entry(&settled, steps, now),
            settled: settled.iter().map(|(_, s)| s.clone()).collect(),
            generated,
        };
        self.finish(finish).await?;
        let metrics = &self.shared.settings.metrics;
        metrics.notifications.add(Notice::Outcome, notices);
        if due_soon {
            self.shared.wake.notify_one();
        }
        for (recipient, s) in &settled {
            match &s.outcome {
                Outcome::Deferred(reason, d) => {
                    if *reason == DeferReason::Damaged {
                        let (queue_id, domain) = (self.lease.message.id, &self.lease.domain);
                        tracing::error!(event = "message-damaged", %queue_id, %domain, text = d.text, "it cannot be sent as it is stored");
                    }
                    *self.last_deferral.lock().unwrap_or_else(PoisonError::into_inner) = Some(d.clone());
                }
                Outcome::Delivered(_) => {
                    metrics.delays.took(now.since(self.lease.message.arrived));
                    self.delivered.store(true, Ordering::Relaxed);
                }
                Outcome::Failed(..) => {}
            }
            self.log(recipient, s, now);
            metrics.ended(&self.lease.domain, &s.outcome);
        }
        Ok(())
    }

    /// Commits, and keeps at it: the fact must not be lost, and no new attempt begins meanwhile (DUR-10). In a task
    /// of its own: who cuts the attempt off does not undo what a host has already said.
    async fn finish(&self, finish: Finish) -> Result<(), StoreError> {
        let (shared, id) = (Arc::clone(self.shared), self.lease.message.id);
        let task = self.shared.tasks.spawn(async move {
            let done = shared.persist(&id, || shared.store.finish(finish.clone())).await;
            if let Err(error) = &done {
                tracing::error!(event = "outcome-not-recorded", queue_id = %id, %error);
            }
            done
        });
        task.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Turns an outcome into the new state of its row: lifetime and next attempt are decided here.
    async fn settle(&self, recipient: &LeasedRecipient, outcome: Outcome, now: Timestamp) -> Settled {
        let (reason, diagnosis) = match outcome {
            Outcome::Deferred(reason, diagnosis) => (reason, diagnosis),
            done => return Settled { no: recipient.no, outcome: done, next_attempt: None, counted: true },
        };
        // Trouble of this machine is no completed attempt: nobody was asked, so it neither counts nor ends a message,
        // however long it lasts (`What always holds` 1, QUE-06). A damaged message is no such trouble: it was tried
        // as far as it can be, will not heal by waiting, and its sender must learn of it at the end.
        let counted = reason != DeferReason::Local;
        if !counted {
            if now >= expires(self.shared, &self.lease.message) {
                let (queue_id, domain) = (self.lease.message.id, &self.lease.domain);
                tracing::error!(event = "kept-past-its-lifetime", %queue_id, %domain, text = diagnosis.text, "it cannot be tried until the trouble of this machine ends");
            }
            let outcome = Outcome::Deferred(reason, diagnosis);
            return Settled {
                no: recipient.no,
                outcome,
                next_attempt: Some(now.after(LOCAL_TROUBLE)),
                counted,
            };
        }
        let expires = expires(self.shared, &self.lease.message);
        if now >= expires {
            // STS-53: before the end, a fresh look; a policy that changed earns one more attempt, and one only.
            let had_it = recipient.last.as_ref().is_some_and(|d| d.at >= expires);
            if reason.is_policy() && !had_it && self.shared.deliverer.final_look(&self.lease.domain).await {
                let outcome = Outcome::Deferred(reason, diagnosis);
                return Settled { no: recipient.no, outcome, next_attempt: Some(now), counted };
            }
            let diagnosis = Diagnosis { waited_for: Some(reason), ..diagnosis };
            let outcome = Outcome::Failed(FailReason::Expired, diagnosis);
            return Settled { no: recipient.no, outcome, next_attempt: None, counted };
        }
        let random = rand::rng().random::<f64>();
        // The last attempt falls on the end of the lifetime, so that none is returned untried (QUE-06).
        let next = now.after(self.shared.settings.schedule.wait(recipient.attempts, random)).min(expires);
        Settled {
            no: recipient.no,
            outcome: Outcome::Deferred(reason, diagnosis),
            next_attempt: Some(next),
            counted,
        }
    }

    fn entry(
        &self,
        settled: &[(&LeasedRecipient, Settled)],
        steps: Vec<Step>,
        now: Timestamp,
    ) -> TimelineEntry {
        TimelineEntry {
            at: now,
            attempt: self.lease.recipients.iter().map(|r| r.attempts).max().unwrap_or(0),
            domain: self.lease.domain.clone(),
            steps,
            results: settled
                .iter()
                .map(|(recipient, s)| ResultLine {
                    recipient: recipient.path.to_string(),
                    outcome: s.outcome.word().to_owned(),
                    cause: cause(&s.outcome).to_owned(),
                    diagnosis: s.outcome.diagnosis().clone(),
                })
                .collect(),
        }
    }

    /// The failure and relayed DSNs that this commit owes (DSN-01, DSN-05).
    async fn notifications(
        &self,
        settled: &[(&LeasedRecipient, Settled)],
        now: Timestamp,
    ) -> Vec<NewMessage> {
        let message = &self.lease.message;
        let due =
            |wanted: fn(&Outcome) -> bool, allowed: &dyn Fn(&LeasedRecipient) -> bool| -> Vec<Reported<'_>> {
                settled
                    .iter()
                    .filter(|(recipient, s)| wanted(&s.outcome) && allowed(recipient))
                    .map(|(recipient, s)| reported(recipient, &s.outcome))
                    .collect()
            };
        let failed = due(|o| matches!(o, Outcome::Failed(..)), &|r| {
            notify::failure_due(message.origin, &message.reverse_path, r.notify)
        });
        let relayed = due(
            |o| matches!(o, Outcome::Delivered(d) if !d.session.as_ref().is_some_and(|s| s.dsn_offered)),
            &|r| notify::relayed_due(message.origin, &message.reverse_path, r.notify, false),
        );
        if failed.is_empty() && relayed.is_empty() {
            if message.origin == Origin::Dsn
                && settled.iter().any(|(_, s)| matches!(s.outcome, Outcome::Failed(..)))
            {
                // DSN-15: a notification that cannot be delivered ends here, and says so.
                tracing::warn!(event = "double-bounce", queue_id = %message.id, domain = %self.lease.domain);
                self.shared.settings.metrics.double_bounces.count(());
            }
            return Vec::new();
        }
        let content = match &self.lease.content {
            Some(content) => content.clone(),
            None => self.first_part().await,
        };
        let mut out = Vec::new();
        for (kind, reported) in [(DsnKind::Failed, failed), (DsnKind::Relayed, relayed)] {
            if !reported.is_empty() {
                out.push(compose_dsn(self.shared, kind, message, &reported, &content, now));
            }
        }
        out
    }

    async fn first_part(&self) -> Bytes {
        match self.shared.store.content(self.lease.message.id, 0).await {
            Ok(part) => part.unwrap_or_default(),
            Err(error) => {
                tracing::error!(event = "content-not-read", queue_id = %self.lease.message.id, %error);
                Bytes::new()
            }
        }
    }

    /// One line per attempt and recipient, never sampled: the names are those of the interface.
    fn log(&self, recipient: &LeasedRecipient, s: &Settled, now: Timestamp) {
        let message = &self.lease.message;
        let d = s.outcome.diagnosis();
        let session = d.session.clone().unwrap_or_default();
        let promise = d.promise.as_ref();
        let sender = message.reverse_path.to_string();
        let rcpt = recipient.path.to_string();
        let word = |v: Option<&'static str>| v.unwrap_or_default();
        tracing::info!(
            event = fields::EVENT,
            message_id = message.message_id,
            queue_id = %message.id,
            sender = &*fields::shown_address(&sender),
            recipient = &*fields::shown_address(&rcpt),
            domain = %self.lease.domain,
            mx = d.host.as_ref().map(ToString::to_string).unwrap_or_default(),
            ip = d.ip.map(|ip| ip.to_string()).unwrap_or_default(),
            port = d.port.unwrap_or_default(),
            source_ip = d.source_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            outcome = s.outcome.word(),
            code = d.code.unwrap_or_default(),
            enhanced = %d.enhanced,
            text = &*fields::shown_text(&d.text),
            stage = d.stage.as_str(),
            security = word(d.security.map(|l| l.as_str())),
            mx_secure = session.mx_secure,
            tls_version = session.tls_version.unwrap_or_default(),
            cipher = session.cipher.unwrap_or_default(),
            policy = promise.map_or("", |p| p.kind.as_str()),
            policy_mode = promise.map_or("", |p| p.mode.as_str()),
            policy_id = promise.map_or("", |p| p.id.as_str()),
            exception = d.waived.as_ref().map(ToString::to_string).unwrap_or_default(),
            tls_failure = word(d.tls_failure.map(|f| f.as_str())),
            attempt = recipient.attempts,
            delay_total = seconds(now.since(message.arrived)),
            delay_queue = seconds(self.started.since(message.arrived)),
            delay_connect = seconds(Duration::from_millis(session.connect_ms)),
            delay_transfer = seconds(Duration::from_millis(session.transfer_ms)),
            size = message.size,
            reused = session.reused,
            maybe_delivered = d.maybe_delivered,
            remote_id = d.remote_id.as_deref().unwrap_or_default(),
            next_attempt = s.next_attempt.map(|t| t.to_rfc3339()).unwrap_or_default(),
            sender_tls = word(message.sender_tls.as_str()),
            requiretls = session.requiretls,
            cause = cause(&s.outcome),
            body_8bit = if session.body_8bit_undeclared { "undeclared" } else { "" },
        );
    }
}

impl Ledger for LeaseLedger<'_> {
    fn record(
        &self,
        outcomes: Vec<(u32, Outcome)>,
        steps: Vec<Step>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.commit(outcomes, steps).boxed()
    }
}

/// When the lifetime of a message ends, by the settings of now (QUE-05).
pub(super) fn expires(shared: &Shared, message: &MessageMeta) -> Timestamp {
    message.arrived.after(shared.settings.lifetime(message.origin))
}

pub(super) const fn cause(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered(_) => "",
        Outcome::Deferred(reason, _) => reason.as_str(),
        Outcome::Failed(reason, _) => reason.as_str(),
    }
}

pub(super) fn reported<'a>(recipient: &'a LeasedRecipient, outcome: &'a Outcome) -> Reported<'a> {
    let diagnosis = outcome.diagnosis();
    let expired = matches!(outcome, Outcome::Failed(FailReason::Expired, _));
    // That it expired is not why it could not be delivered.
    let waited_for = diagnosis.waited_for.filter(|_| expired).map(DeferReason::as_str);
    Reported { recipient, diagnosis, expired, cause: waited_for.unwrap_or_else(|| cause(outcome)) }
}

/// Composes one DSN from what lies in the first part of the content, and signs it (SIG-19).
pub(super) fn compose_dsn(
    shared: &Shared,
    kind: DsnKind,
    message: &MessageMeta,
    reported: &[Reported<'_>],
    first_part: &[u8],
    now: Timestamp,
) -> NewMessage {
    let end = first_part.windows(4).position(|w| w == b"\r\n\r\n").map_or(first_part.len(), |i| i + 2);
    let whole = message.size == first_part.len() as u64;
    let context = DsnContext {
        settings: &shared.settings.dsn,
        id: QueueId::from_bytes(*Uuid::now_v7().as_bytes()),
        now,
        random: rand::rng().random(),
    };
    let original =
        Original { header: first_part.get(..end).unwrap_or_default(), full: whole.then_some(first_part) };
    let mut dsn = compose::compose(kind, message, reported, original, &context);
    if let Some(content) = dsn.content.in_memory() {
        let signatures = shared.settings.signers.sign(&content, now);
        dsn.content = Arc::new(Bytes::from([signatures.as_slice(), &content].concat()));
    }
    dsn
}

fn seconds(d: Duration) -> f64 {
    (d.as_secs_f64() * 1000.0).round() / 1000.0
}
