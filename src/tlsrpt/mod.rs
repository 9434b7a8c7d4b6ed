//! TLS reporting (RFC 8460): every session leaves its record, and every recipient domain that asks for it gets
//! one report a day.
//!
//! Pure: [`session`] and [`result_type`] (what one session says), [`day`] and [`counters`] (what a day adds up to),
//! [`record`] (who asks for reports), [`aggregate`], [`report`] and [`message`] (what goes out), [`read`] (what
//! others sent).
//! The ports are [`SessionStore`], [`ReportStore`], [`ReportMailer`] and [`ReportPoster`]; [`service`] orchestrates.
//! [`https`] is the adapter of the last.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::mail::{Domain, QueueId};
use crate::queue::{NewMessage, StoreError};

pub mod aggregate;
pub mod counters;
pub mod day;
pub mod https;
pub mod message;
pub mod read;
pub mod record;
pub mod report;
pub mod result_type;
pub mod service;
pub mod session;

pub use counters::{DayCounters, DetailCounter, PolicyCounters};
pub use day::Day;
pub use result_type::ResultType;
pub use session::{AppliedPolicy, FailureDetail, PolicyVerdict, SessionRecord};

/// Where SessionRecords go. A record is a commit of its own; nobody waits for it (RPT-31).
pub trait SessionStore: Send + Sync {
    /// Hands a record over. Never blocks; a store that cannot keep up or write drops the record and logs it.
    fn record(&self, record: SessionRecord);
}

/// Where counters become reports, and reports wait for those who asked for them. Every call is one commit.
///
/// The life of a report: counted ([`ReportStore::fold`]) → [`ReportStore::plan`] draws its moment →
/// [`ReportStore::due_reports`] gives it out → [`ReportStore::keep`] stores its octets and destinations and deletes the
/// counters, in one commit (RPT-93) → each destination is tried until it ends. A crash between any two of them
/// repeats nothing and loses nothing. Two processes on one store never get the same report or destination at once.
pub trait ReportStore: Send + Sync {
    /// Counts a slice of the session records that came in. `true` while there are more.
    fn fold(&self) -> BoxFuture<'_, Result<bool, ReportStoreError>>;

    /// Plans a report for every (day before `today`, report domain) that was counted and has none: due at
    /// `day + 1, 00:05 UTC` plus a draw of its own from `[0, window)`, stored once (RPT-70). Does at most a slice.
    fn plan(&self, today: Day, window: Duration) -> BoxFuture<'_, Result<Planned, ReportStoreError>>;

    /// Drops a slice of what was counted on days before `oldest` and never made into a report, plans included, and
    /// says which (RPT-71).
    fn drop_old(&self, oldest: Day) -> BoxFuture<'_, Result<DroppedDays, ReportStoreError>>;

    /// Up to `limit` planned reports whose moment has come, oldest first.
    fn due_reports(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<PlannedReport>, ReportStoreError>>;

    /// The plan of one report, due or not; `None` when there is none (any more).
    fn planned(
        &self,
        day: Day,
        domain: Domain,
    ) -> BoxFuture<'_, Result<Option<PlannedReport>, ReportStoreError>>;

    /// What was counted for a domain on a day, records not yet folded left out; `None` when nothing was.
    fn counters(
        &self,
        day: Day,
        domain: Domain,
    ) -> BoxFuture<'_, Result<Option<DayCounters>, ReportStoreError>>;

    /// The domains counted on a day, in name order after `after`, at most `limit`.
    fn counted(
        &self,
        day: Day,
        after: Option<Domain>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Domain>, ReportStoreError>>;

    /// Stores a made report with its destinations, due at once. For the report of a closed day its plan ends and its
    /// counters go in the same commit; a partial one (`report send` for today) takes nothing away (RPT-93).
    ///
    /// Of the destinations with one receiver, at most `cap` are sent to on a UTC day; those beyond it are stored as
    /// failed (RPT-10).
    ///
    /// [`ReportStoreError::Unknown`] when the plan has ended: somebody else made the report.
    /// [`ReportStoreError::Changed`] when more was counted than `report.sessions`: it is to be made anew.
    fn keep(&self, report: NewReport, cap: u32) -> BoxFuture<'_, Result<Kept, ReportStoreError>>;

    /// Puts a planned report off to `until`: nothing was lost, `why` says what was in the way (RPT-09).
    fn put_off(
        &self,
        planned: PlannedReport,
        until: Timestamp,
        why: String,
    ) -> BoxFuture<'_, Result<(), ReportStoreError>>;

    /// Ends a planned report that nobody asked for: plan and counters go, and `why` is kept for `report list`.
    fn unwanted(&self, planned: PlannedReport, why: String) -> BoxFuture<'_, Result<(), ReportStoreError>>;

    /// Up to `limit` destinations of this kind that are due to be tried, oldest first.
    fn destinations(
        &self,
        way: Way,
        now: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<DueDestination>, ReportStoreError>>;

    /// Writes what a try came to.
    fn tried(&self, id: DestinationId, attempt: Tried) -> BoxFuture<'_, Result<(), ReportStoreError>>;

    /// Takes over what the queue knows of reports by mail: delivered, or ended otherwise. At most a slice; empty when
    /// nothing is left.
    fn settle_mail(&self) -> BoxFuture<'_, Result<Vec<SettledMail>, ReportStoreError>>;

    /// When there will be something to do again.
    fn next_due(&self) -> BoxFuture<'_, Result<NextDue, ReportStoreError>>;

    /// Makes the destinations of a stored report due again, with the same id and octets, as run `n + 1` (`--again`),
    /// within the same `cap`. Answers the number of the run.
    fn again(&self, id: ReportNo, now: Timestamp, cap: u32) -> BoxFuture<'_, Result<u32, ReportStoreError>>;

    /// Deletes a slice of reports of days before `oldest` that have ended, octets and destinations included. `false`
    /// when nothing is left to do.
    fn purge_reports(&self, oldest: Day) -> BoxFuture<'_, Result<bool, ReportStoreError>>;

    /// Reports planned, under way and ended, newest day first.
    fn reports(
        &self,
        filter: ReportFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ListedReport>, ReportStoreError>>;

    /// The packed octets of a report as they were sent; `None` when unknown, or never made.
    fn octets(&self, id: ReportNo) -> BoxFuture<'_, Result<Option<Bytes>, ReportStoreError>>;
}

/// The way into the queue for reports by mail.
pub trait ReportMailer: Send + Sync {
    /// Stores the message and has it delivered. A message whose `origin_key` was stored before is not stored again,
    /// which is no error.
    fn mail(&self, message: NewMessage) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// A report in the store, as long as the store lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct ReportNo(pub i64);

/// A destination of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId(pub i64);

/// What [`ReportStore::plan`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planned {
    /// Reports planned now.
    pub planned: usize,
    /// Whether there is more to do.
    pub more: bool,
}

/// What [`ReportStore::drop_old`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DroppedDays {
    /// Days of domains of which sessions were dropped unsent, with what had been in the way.
    pub days: Vec<(Day, Domain, String)>,
    /// Whether there is more to do.
    pub more: bool,
}

/// A report that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedReport {
    /// The UTC day it covers.
    pub day: Day,
    /// The report domain.
    pub domain: Domain,
    /// When it was due at first.
    pub due: Timestamp,
    /// How often it was put off.
    pub put_off: u32,
}

/// A report that was made, with where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReport {
    /// The UTC day it covers.
    pub day: Day,
    /// The report domain.
    pub domain: Domain,
    /// The report-id, `left@right` (RPT-44).
    pub report_id: String,
    /// The file name (RPT-74).
    pub file_name: String,
    /// gzip of the JSON, as it goes out by mail and by HTTPS.
    pub packed: Bytes,
    /// A copy for the running day.
    pub partial: bool,
    /// Sessions that complied, and that did not: for `report list`.
    pub sessions: (u64, u64),
    /// When it was made.
    pub made: Timestamp,
    /// Where it goes, in the order of the record. Never empty.
    pub destinations: Vec<NewDestination>,
}

/// A report that is stored now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub no: ReportNo,
    /// Destinations beyond the cap of their receiver, to which it does not go.
    pub over_cap: Vec<String>,
}

/// The next moments at which something is due; they may have passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NextDue {
    /// Of a planned report.
    pub report: Option<Timestamp>,
    /// Of a waiting destination by mail.
    pub mail: Option<Timestamp>,
    /// Of a waiting destination by HTTPS.
    pub https: Option<Timestamp>,
}

/// How a report reaches a destination. Slow receivers of the one do not hold up the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the queue: `mailto`.
    Mail,
    /// By POST: everything else.
    Https,
}

/// Where a report goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDestination {
    /// The URI as it stood in the record.
    pub uri: String,
    /// Its host or mail domain, by which the daily cap counts (RPT-10).
    pub receiver: String,
}

/// A destination whose turn has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueDestination {
    /// Names it to the store.
    pub id: DestinationId,
    /// The URI as it stood in the record.
    pub uri: String,
    /// Its host or mail domain.
    pub receiver: String,
    /// The mail that it goes by, if it goes by mail: drawn with the destination, so that a repeat is recognised.
    pub mail: QueueId,
    /// 0 for the first sending, one more for each `--again`.
    pub run: u32,
    /// Tries before this one.
    pub attempts: u32,
    /// The first try, when there was one: a day later it ends (RPT-87).
    pub first: Option<Timestamp>,
    /// The report.
    pub report: ReportNo,
    /// The UTC day.
    pub day: Day,
    /// The report domain.
    pub domain: Domain,
    /// The report-id.
    pub report_id: String,
    /// The file name.
    pub file_name: String,
    /// The last obstacle; empty before the first try.
    pub reply: String,
}

/// What a try of a destination came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// When.
    pub at: Timestamp,
    /// The result.
    pub state: DestinationState,
    /// The receiver's answer or the obstacle, for people.
    pub reply: String,
    /// For [`DestinationState::Waiting`]: when the next try is due.
    pub next: Option<Timestamp>,
    /// Whether it counts as a try; `false` when the obstacle was our own.
    pub counted: bool,
}

/// A report by mail that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledMail {
    /// The UTC day.
    pub day: Day,
    /// The report domain.
    pub domain: Domain,
    /// The report-id.
    pub report_id: String,
    /// The URI.
    pub uri: String,
    /// Whether the receiver took it.
    pub accepted: bool,
    /// What it answered, or how the mail ended.
    pub reply: String,
}

/// Where a destination stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DestinationState {
    /// To be tried, for the first time or again.
    Waiting,
    /// The mail lies in the queue.
    Queued,
    /// The receiver took it.
    Accepted,
    /// The receiver refused it, or a day has passed.
    Failed,
}

/// Where a report stands, as `report list` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportState {
    /// Planned; not made yet.
    Due,
    /// Made; no receiver has taken it yet.
    Sending,
    /// At least one receiver has taken it (RPT-08).
    Delivered,
    /// Every receiver has refused it, or its time has run out.
    Failed,
    /// The domain asks for no reports.
    Unwanted,
    /// The day became two days old before the report could be made.
    Dropped,
}

/// Which reports [`ReportStore::reports`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportFilter {
    /// This number or report-id.
    pub id: Option<String>,
    /// This day.
    pub day: Option<Day>,
    /// This report domain.
    pub domain: Option<Domain>,
}

/// A row of `report list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListedReport {
    /// Its number.
    pub no: ReportNo,
    /// The report-id; empty before it is made.
    pub report_id: String,
    /// The UTC day.
    pub day: Day,
    /// The report domain.
    pub domain: Domain,
    /// A copy for the running day.
    pub partial: bool,
    /// Where it stands.
    pub state: ReportState,
    /// When it is due, or was made.
    pub at: Timestamp,
    /// Sessions that complied, and that did not.
    pub sessions: (u64, u64),
    /// Why it was put off, dropped or unwanted; empty otherwise.
    pub why: String,
    /// Where it goes.
    pub destinations: Vec<ListedDestination>,
}

/// A destination in `report list`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListedDestination {
    /// The URI.
    pub uri: String,
    /// 0 for the first sending, one more for each `--again`.
    pub run: u32,
    /// Where it stands.
    pub state: DestinationState,
    /// Tries so far.
    pub attempts: u32,
    /// The last answer or obstacle; empty before the first.
    pub reply: String,
    /// When the next try is due.
    pub next: Option<Timestamp>,
    /// The mail, for `queue show`.
    pub mail: Option<QueueId>,
}

/// The store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportStoreError {
    /// The disk is full: the work stays where it is and is tried again.
    #[error("the disk is full")]
    Full,
    /// More was counted since the report was made: nothing was stored.
    #[error("more was counted meanwhile")]
    Changed,
    /// There is no such report or destination (any more).
    #[error("there is no such report")]
    Unknown,
    /// Anything else. The text is for the log.
    #[error("the report store failed: {0}")]
    Failed(String),
}

/// One HTTPS POST of a report (RFC 8460 §5.4).
pub trait ReportPoster: Send + Sync {
    /// Posts `packed` as `application/tlsrpt+gzip` to `url`, an `https` URI of a rua field. Follows nothing, keeps
    /// nothing, ends within its time limit.
    fn post<'a>(&'a self, url: &'a str, packed: Bytes) -> BoxFuture<'a, Posted>;
}

/// What came of a POST (RPT-89). `reply` is one line for `report list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Posted {
    /// Any 2xx.
    Accepted {
        /// The status line.
        reply: String,
    },
    /// 408, 429, 5xx, 3xx, a certificate that does not hold, the network.
    Later {
        /// What was in the way.
        reply: String,
        /// Retry-After, when one was given.
        after: Option<Duration>,
    },
    /// Any other 4xx, or a URL that may not be asked: given up.
    Refused {
        /// The status line, or the reason.
        reply: String,
    },
}
