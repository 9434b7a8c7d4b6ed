//! The queue: what it promises, and the port behind which it is kept.
//!
//! A recipient leaves the queue only by delivery, by a failure recorded in the same commit as the DSN where
//! one is due, or by an operator's named command (`What always holds` 1). The unit of work is the
//! [`Lease`]: at most [`MAX_TRANSACTION`] recipients of one message that share a recipient domain.
//!
//! Pure: [`state`], [`schedule`], [`select`], [`rate`], [`health`]. Orchestration: [`manager`]. The port is
//! [`QueueStore`]; the store, not its caller, judges leases and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::mail::{
    Domain, Envelope, ForwardPath, Notify, Orcpt, Origin, QueueId, Ret, ReversePath, SenderTls, Xtext,
};

mod advice;
mod content;
pub mod health;
mod listing;
pub mod manager;
pub mod outcome;
pub mod rate;
mod reply_line;
pub mod schedule;
pub mod select;
pub mod state;
pub mod unmet;

pub use content::ContentSource;
pub use listing::{Filter, ListedRecipient, ShownMessage, Touched};
pub use outcome::{DeferReason, Diagnosis, FailReason, Outcome};
pub use schedule::RetrySchedule;
pub use state::RecipientState;

/// The most recipients of one transaction (RFC 5321 §4.5.3.1.8, OUT-52).
pub const MAX_TRANSACTION: usize = 100;

/// The most octets of content in one row, and so in one [`QueueStore::content`] answer.
pub const CONTENT_PART: usize = 256 * 1024;

/// The lifetime of what we make ourselves, DSNs and TLS reports, whatever `queue.max_age` says (QUE-05, RPT-87).
pub const GENERATED_MAX_AGE: Duration = Duration::from_secs(86_400);

/// The queue as rows. Every call is one commit; a call that returns `Ok` is on disk.
pub trait QueueStore: Send + Sync {
    /// Stores message, recipients and content. With `claim`, the recipients of that one domain (the first
    /// [`MAX_TRANSACTION`] of them) are written as `delivering` and come back leased; all others are `queued`, due now.
    ///
    /// A message whose `origin_key` was stored before is not stored again: `Enqueued::already_there`.
    fn enqueue(
        &self,
        message: NewMessage,
        claim: Option<ClaimTerms>,
    ) -> BoxFuture<'_, Result<Enqueued, StoreError>>;

    /// Domains with due work that are not suspended, in name order after `query.after`, and when to ask again.
    fn due(&self, query: DueQuery) -> BoxFuture<'_, Result<Due, StoreError>>;

    /// Leases up to `limit` transactions of `domain`, the oldest due ones first: attempts plus one, next
    /// attempt set by `terms`, committed before it returns (QUE-03).
    fn claim(
        &self,
        domain: Domain,
        which: Which,
        limit: usize,
        terms: ClaimTerms,
    ) -> BoxFuture<'_, Result<Vec<Lease>, StoreError>>;

    /// The content of a message, part by part; `None` after the last.
    fn content(&self, id: QueueId, part: u32) -> BoxFuture<'_, Result<Option<Bytes>, StoreError>>;

    /// Commits what became of some recipients of a lease, one line of timeline, and the messages that follow
    /// from it (DSN-14). Recipients not named stay leased. Content is dropped with the last recipient that needs it.
    fn finish(&self, finish: Finish) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Hands recipients back as they were before the lease, due again at `until` (at once for `None`); the
    /// attempt does not count.
    fn release(
        &self,
        lease: LeaseId,
        recipients: Vec<u32>,
        until: Option<Timestamp>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Writes or ends the suspension of a domain (QUE-34).
    fn suspend(
        &self,
        domain: Domain,
        suspension: Option<Suspension>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Recipients whose delay warning is due: waiting, never warned, arrived before `arrived_before`, at most
    /// `limit`, oldest first, grouped by the caller (DSN-04). They follow the recipient `after` in that order; from
    /// the start for `None`, and for a recipient that is no longer known.
    fn delayed(
        &self,
        arrived_before: Timestamp,
        after: Option<(QueueId, u32)>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Delayed>, StoreError>>;

    /// Marks recipients as warned and enqueues the warnings, in one commit.
    fn warned(
        &self,
        recipients: Vec<(QueueId, u32)>,
        generated: Vec<NewMessage>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Deletes a slice of history older than `history`, or beyond `limit` octets of timeline. `false` when nothing is left to do.
    fn purge(&self, history: Duration, limit: u64) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Renews the heartbeat of this owner (QUE-38).
    fn heartbeat(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// One row per recipient still owed a delivery (or in the state asked for), oldest first.
    fn list(&self, filter: Filter, limit: usize) -> BoxFuture<'_, Result<Vec<ListedRecipient>, StoreError>>;

    /// A message with its recipients and timeline; `None` when unknown.
    fn show(&self, id: QueueId) -> BoxFuture<'_, Result<Option<ShownMessage>, StoreError>>;

    /// Makes waiting recipients due now and ends the suspension of their domains. Rows in flight are left and counted.
    fn retry(&self, filter: Filter) -> BoxFuture<'_, Result<Touched, StoreError>>;

    /// Whether the store can still write, and how much room its disk has.
    fn health(&self) -> StoreHealth;
}

/// The queue as the door from outside sees it: a permit to deliver at once, asked for before the message is
/// stored and never waited for (`Speed, from the start`). Implemented by [`manager`].
pub trait Intake: Send + Sync {
    /// A free delivery slot for one domain of `envelope`, if there is one and the relay is not draining.
    fn permit(&self, envelope: &Envelope) -> Option<Permit>;
    /// A message was stored: its lease goes to a worker, and due work is looked for.
    fn arrived(&self, permit: Option<Permit>, lease: Option<Lease>);
    /// The terms of [`QueueStore::enqueue`] for a permit's domain.
    fn terms(&self, permit: &Permit) -> ClaimTerms;
}

/// A delivery slot of `domain`. Dropping it gives the slot back.
pub struct Permit {
    /// The domain whose recipients may be leased with the enqueue.
    pub domain: Domain,
    /// Gives the slot back when dropped.
    pub guard: Box<dyn std::any::Any + Send>,
}

/// A message on its way into the queue.
#[derive(Clone)]
pub struct NewMessage {
    /// Chosen by the caller, so that the trace field can name it.
    pub id: QueueId,
    /// Where it came from.
    pub origin: Origin,
    /// Sender, recipients and their wishes.
    pub envelope: Envelope,
    /// The Message-ID field, for people; empty when there is none.
    pub message_id: String,
    /// Who handed it in, for people: a user name, or a network address.
    pub submitter: String,
    /// Time of arrival; lifetime counts from here.
    pub arrived: Timestamp,
    /// What will be sent, octet for octet: CRLF line ends, no dot-stuffing, no terminator.
    pub content: Arc<dyn ContentSource>,
    /// Unique for ever, for messages that must not be made twice (`tlsrpt/…`).
    pub origin_key: Option<String>,
}

/// How leased rows look while they are leased.
#[derive(Debug, Clone)]
pub struct ClaimTerms {
    /// For [`QueueStore::enqueue`]: the domain whose recipients are leased. Ignored by [`QueueStore::claim`].
    pub domain: Option<Domain>,
    /// From which the next attempt is pre-set (QUE-03).
    pub schedule: Arc<RetrySchedule>,
}

/// What [`QueueStore::enqueue`] did.
#[derive(Debug, Clone)]
pub struct Enqueued {
    /// The lease asked for.
    pub lease: Option<Lease>,
    /// The origin key was known; nothing was stored.
    pub already_there: bool,
}

/// Which transactions [`QueueStore::claim`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those whose next attempt has come.
    Due,
    /// Those that arrived too long ago, due or not: a failed probe ends their lifetime for them (QUE-34).
    ArrivedBefore {
        /// What was submitted: before this moment.
        submitted: Timestamp,
        /// What we made ourselves, DSNs and reports: before this one (QUE-05, RPT-87).
        generated: Timestamp,
    },
}

/// The lease of one transaction.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Names the lease to the store.
    pub id: LeaseId,
    /// The message.
    pub message: Arc<MessageMeta>,
    /// The domain that all its recipients share.
    pub domain: Domain,
    /// At least one, at most [`MAX_TRANSACTION`].
    pub recipients: Vec<LeasedRecipient>,
    /// The content, when it is at hand; else it is read from the store part by part.
    pub content: Option<Bytes>,
}

/// A lease, as the store knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseId(pub i64);

/// A message without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageMeta {
    /// The queue id.
    pub id: QueueId,
    /// Where it came from.
    pub origin: Origin,
    /// The envelope sender.
    pub reverse_path: ReversePath,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`.
    pub envid: Option<Xtext>,
    /// What the sender says about TLS on the way.
    pub sender_tls: SenderTls,
    /// Needs SMTPUTF8.
    pub smtputf8: bool,
    /// Has octets above 127.
    pub has_8bit: bool,
    /// Octets of content.
    pub size: u64,
    /// Time of arrival.
    pub arrived: Timestamp,
    /// The Message-ID field.
    pub message_id: String,
}

/// One recipient of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedRecipient {
    /// Its place in the envelope: with the queue id, its name everywhere above the store.
    pub no: u32,
    /// The address.
    pub path: ForwardPath,
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`.
    pub orcpt: Option<Orcpt>,
    /// Attempts, this one included.
    pub attempts: u32,
    /// When it is due again should this process die.
    pub next_attempt: Timestamp,
    /// The diagnosis of the attempt before, if any.
    pub last: Option<Diagnosis>,
}

/// What became of recipients of a lease.
#[derive(Clone)]
pub struct Finish {
    /// The lease.
    pub lease: LeaseId,
    /// Some or all of its recipients.
    pub settled: Vec<Settled>,
    /// A line of the message's timeline.
    pub entry: TimelineEntry,
    /// DSNs that follow, stored in the same commit.
    pub generated: Vec<NewMessage>,
}

/// The new state of one recipient.
#[derive(Debug, Clone)]
pub struct Settled {
    /// Its place in the envelope.
    pub no: u32,
    /// The outcome; a `Deferred` whose lifetime has ended arrives here as `Failed(Expired)`.
    pub outcome: Outcome,
    /// For a deferral: when it is due again; `None` keeps what the lease pre-set.
    pub next_attempt: Option<Timestamp>,
    /// For a deferral: whether the attempt counts (`false` for [`DeferReason::Local`]).
    pub counted: bool,
}

/// One attempt at one transaction, as `queue show` tells it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TimelineEntry {
    /// When the attempt ended.
    pub at: Timestamp,
    /// The attempt's number.
    pub attempt: u32,
    /// The recipient domain.
    pub domain: Domain,
    /// One line per host tried, skipped or refused, in order: what happened there, in words.
    pub steps: Vec<Step>,
    /// How the recipients of this commit ended.
    pub results: Vec<ResultLine>,
}

/// What happened at one host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Step {
    /// The host, when it had come to hosts.
    pub host: Option<Domain>,
    /// The address dialled.
    pub ip: Option<std::net::IpAddr>,
    /// In words, at most 1 KiB.
    pub what: String,
}

/// One recipient in a timeline entry.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResultLine {
    /// The address.
    pub recipient: String,
    /// `delivered`, `deferred` or `bounced`.
    pub outcome: String,
    /// The cause of a deferral or failure; empty for a delivery.
    pub cause: String,
    /// Everything else.
    pub diagnosis: Diagnosis,
}

/// A domain that is left alone for a while (QUE-34).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Until when nothing is tried.
    pub until: Timestamp,
    /// How many probes in a row have failed; 1 for the first suspension.
    pub step: u32,
    /// What the last probe ran into.
    pub last: Diagnosis,
}

impl Suspension {
    /// So long after its end a suspension says nothing any more: a probe would have renewed or ended it.
    pub const FORGOTTEN: Duration = Duration::from_secs(2 * 86_400);
}

/// What [`QueueStore::due`] is asked.
#[derive(Debug, Clone, Default)]
pub struct DueQuery {
    /// Names greater than this one only; `None` from the start.
    pub after: Option<Domain>,
    /// At most so many domains.
    pub limit: usize,
}

/// What [`QueueStore::due`] answers.
#[derive(Debug, Clone, Default)]
pub struct Due {
    /// Domains with due work, in name order.
    pub domains: Vec<DueDomain>,
    /// When the next work of any domain falls due, suspensions heeded; `None` when nothing waits.
    pub next: Option<Timestamp>,
}

/// A domain with due work.
#[derive(Debug, Clone)]
pub struct DueDomain {
    /// The recipient domain.
    pub domain: Domain,
    /// Its oldest due moment.
    pub since: Timestamp,
    /// A suspension that has run out: one probe, then all or nothing.
    pub probe: Option<Suspension>,
}

/// A recipient whose sender is to be told that it waits.
#[derive(Debug, Clone)]
pub struct Delayed {
    /// The message.
    pub message: Arc<MessageMeta>,
    /// The recipient.
    pub recipient: LeasedRecipient,
    /// Why it waits ([`DeferReason::as_str`]); empty when it was never tried.
    pub cause: String,
    /// The suspension of its domain, whose error speaks for a message that was never tried itself.
    pub suspension: Option<Suspension>,
}

/// How the store feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether commits succeed. `false` after damage that needs an operator (DUR-13).
    pub writable: bool,
    /// Free octets where the database lies.
    pub free: u64,
}

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room (SQLITE_FULL): 452 4.3.1.
    #[error("the disk is full")]
    Full,
    /// Somebody else holds the database (SQLITE_BUSY after the timeout): 451 4.3.0.
    #[error("the database is locked by another process")]
    Busy,
    /// The lease is not ours any more.
    #[error("the lease has ended")]
    LeaseLost,
    /// Reading the content that was to be stored failed.
    #[error("reading the content failed: {0}")]
    Content(String),
    /// Damage or an I/O error: the store is unhealthy (DUR-13).
    #[error("the database failed: {0}")]
    Broken(String),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}
