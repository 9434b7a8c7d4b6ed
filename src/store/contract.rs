//! What every store owes its callers, tested through the ports. A store offers a [`Site`] and calls [`run`].

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::mail::{
    Domain, EnhancedCode, Envelope, EnvelopeRecipient, ForwardPath, Origin, QueueId, ReversePath,
};
use crate::mtasts::PolicyStore;
use crate::observe::figures::Figures;
use crate::queue::outcome::Stage;
use crate::queue::*;
use crate::status::Overview;
use crate::tlsrpt::{ReportStore, SessionStore};

mod attempts;
mod figures;
mod model;
mod operator;
mod policies;
mod reports;
mod status;

/// How long anything may take that is only to come some time: a machine under load is slow, not wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// A place where a store can be opened again and again, by one process after another.
pub(super) trait Site {
    type Store: QueueStore + PolicyStore + SessionStore + ReportStore + Figures + Overview + 'static;
    /// Opens the store, as a new process does.
    fn open(&self, clock: Arc<dyn Clock>) -> Self::Store;
    /// Ends a store in good order.
    fn close(&self, store: Self::Store) -> BoxFuture<'static, ()>;
    /// Ends a store without a word. Commits are kept, nothing else happens.
    fn kill(&self, store: Self::Store);
}

/// Noon of some day.
pub(super) const NOON: Timestamp = Timestamp::from_millis(1_795_348_800_000);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(NOON))
}

pub(super) fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

pub(super) fn id(n: u64) -> QueueId {
    QueueId::from_bytes(u128::from(n).to_be_bytes())
}

/// Message `n` to these recipients, from `sender@example.net`.
pub(super) fn message(n: u64, recipients: &[&str]) -> NewMessage {
    NewMessage {
        id: id(n),
        origin: Origin::Submitted,
        envelope: Envelope {
            reverse_path: ReversePath::parse("sender@example.net").unwrap(),
            recipients: recipients
                .iter()
                .map(|r| EnvelopeRecipient {
                    path: ForwardPath::parse(r).unwrap(),
                    notify: None,
                    orcpt: None,
                })
                .collect(),
            ret: None,
            envid: None,
            sender_tls: crate::mail::SenderTls::Unsaid,
            smtputf8: false,
            has_8bit: false,
        },
        message_id: format!("<{n}@example.net>"),
        submitter: "app".to_owned(),
        arrived: NOON,
        content: Arc::new(Bytes::from(format!("Subject: {n}\r\n\r\nbody\r\n"))),
        origin_key: None,
    }
}

/// Terms with one wait of ten minutes.
pub(super) fn terms(claim: Option<&str>) -> ClaimTerms {
    ClaimTerms { domain: claim.map(domain), schedule: Arc::new(RetrySchedule::new(vec![10 * MINUTE])) }
}

pub(super) fn diagnosis(text: &str) -> Diagnosis {
    Diagnosis {
        at: NOON,
        stage: Stage::Dot,
        host: Some(domain("mx.example.org")),
        ip: None,
        port: Some(25),
        source_ip: None,
        code: Some(451),
        enhanced: EnhancedCode::parse("4.3.0").unwrap(),
        text: text.to_owned(),
        tls_failure: None,
        maybe_delivered: false,
        security: None,
        waived: None,
        unmet: None,
        promise: None,
        session: None,
        waited_for: None,
        remote_id: None,
    }
}

pub(super) fn delivered() -> Outcome {
    Outcome::Delivered(diagnosis("ok"))
}

pub(super) fn deferred() -> Outcome {
    Outcome::Deferred(DeferReason::Reply, diagnosis("later"))
}

pub(super) fn bounced() -> Outcome {
    Outcome::Failed(FailReason::Rejected, diagnosis("no"))
}

/// The same outcome for some recipients of a lease.
pub(super) fn finish(lease: &Lease, outcome: &Outcome, nos: &[u32]) -> Finish {
    Finish {
        lease: lease.id,
        settled: nos
            .iter()
            .map(|no| Settled { no: *no, outcome: outcome.clone(), next_attempt: None, counted: true })
            .collect(),
        entry: TimelineEntry {
            at: NOON,
            attempt: lease.recipients[0].attempts,
            domain: lease.domain.clone(),
            steps: vec![],
            results: vec![],
        },
        generated: vec![],
    }
}

pub(super) fn all_of(lease: &Lease, outcome: &Outcome) -> Finish {
    let nos: Vec<u32> = lease.recipients.iter().map(|r| r.no).collect();
    finish(lease, outcome, &nos)
}

/// State, attempts and cause of a recipient.
pub(super) async fn stands(store: &impl QueueStore, n: u64, no: usize) -> (RecipientState, u32, String) {
    let shown = store.show(id(n)).await.unwrap().unwrap();
    let r = &shown.recipients[no];
    (r.state, r.attempts, r.cause.clone())
}

pub(super) async fn claim(store: &impl QueueStore, name: &str, limit: usize) -> Vec<Lease> {
    store.claim(domain(name), Which::Due, limit, terms(None)).await.unwrap()
}

pub(super) async fn due_names(store: &impl QueueStore) -> Vec<String> {
    let due = store.due(DueQuery { after: None, limit: 100 }).await.unwrap();
    due.domains.into_iter().map(|d| d.domain.to_string()).collect()
}

/// Every test of the contract, each at a site of its own.
pub(super) async fn run<S: Site>(site: impl Fn() -> S) {
    attempts::what_was_acknowledged_is_there_after_a_start(site()).await;
    attempts::a_claim_with_the_enqueue_is_a_lease(site()).await;
    attempts::later_work_of_a_busy_domain_is_not_forgotten(site()).await;
    attempts::no_recipient_is_leased_twice_at_once(site()).await;
    attempts::a_lease_holds_at_most_a_transaction(site()).await;
    attempts::an_outcome_and_its_dsn_are_one_commit(site()).await;
    attempts::content_goes_with_the_last_recipient(site()).await;
    attempts::the_origin_outlives_attempts_and_restarts(site()).await;
    attempts::what_the_sender_says_about_tls_outlives_attempts_and_restarts(site()).await;
    attempts::a_release_restores_what_was_before(site()).await;
    attempts::an_uncounted_deferral_takes_the_attempt_back(site()).await;
    attempts::interruptions_are_brought_forward_until_they_look_like_poison(site()).await;
    attempts::a_lease_ends_with_its_owner(site()).await;
    attempts::large_content_comes_back_part_by_part(site()).await;
    attempts::content_that_cannot_be_read_leaves_nothing(site()).await;
    operator::every_domain_with_due_work_is_found(site()).await;
    operator::a_suspended_domain_is_skipped_until_its_probe(site()).await;
    operator::expired_mail_of_a_dead_domain_is_claimed_by_age(site()).await;
    operator::delay_warnings_are_given_once(site()).await;
    operator::an_origin_key_counts_for_ever(site()).await;
    operator::retry_makes_due_what_matches(site()).await;
    operator::lists_are_filtered(site()).await;
    operator::history_is_purged_by_age_and_by_size(site()).await;
    operator::a_clock_set_back_leaves_nothing_stuck(site()).await;
    policies::a_policy_outlives_the_process(site()).await;
    policies::a_policy_is_purged_only_long_after_its_last_use(site()).await;
    policies::refresh_takes_the_oldest_that_was_not_tried(site()).await;
    reports::sessions_add_up_by_day_domain_and_policy(site()).await;
    reports::a_report_is_planned_once_at_a_moment_of_its_own(site()).await;
    reports::a_report_is_kept_once_and_takes_its_counters(site()).await;
    reports::a_plan_is_put_off_or_ends_without_a_report(site()).await;
    reports::destinations_are_tried_until_they_end(site()).await;
    reports::reports_are_listed_by_id_day_and_domain(site()).await;
    figures::recipients_are_counted_by_state_and_cause(site()).await;
    figures::what_waits_is_counted_domain_by_domain_in_pages(site()).await;
    figures::policies_suspensions_and_reports_are_counted(site()).await;
    status::what_waits_is_counted_with_its_causes(site()).await;
    status::policies_and_reports_are_counted(site()).await;
    model::the_store_follows_the_model(site).await;
}
