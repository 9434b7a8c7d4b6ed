//! The values that the admin interface speaks in: what `--json` prints, and what tables are made from.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::mail::{Domain, Origin, QueueId};
use crate::mtasts::{Mode, PolicyChange, PolicyRow, StoredPolicy};
use crate::queue::{
    Diagnosis, GENERATED_MAX_AGE, ListedRecipient, MessageMeta, RecipientState, ShownMessage, TimelineEntry,
    Touched,
};
use crate::tlsrpt::ResultType;

/// A row of `queue list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The queue id.
    pub id: QueueId,
    /// The Message-ID field.
    pub message_id: String,
    /// The envelope sender; empty for the null sender.
    pub sender: String,
    /// The recipient.
    pub recipient: String,
    /// Its domain.
    pub domain: Domain,
    /// Where it stands.
    pub state: RecipientState,
    /// What the sender says about TLS: `requiretls`, `tls-required-no` or null.
    #[serde(default)]
    pub sender_tls: Option<String>,
    /// Octets of content.
    pub size: u64,
    /// Arrival.
    pub arrived: Timestamp,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is due; null in a terminal state.
    pub next_attempt: Option<Timestamp>,
    /// When it is returned.
    pub expires: Timestamp,
    /// The last attempt; null before the first.
    pub last: Option<Last>,
}

/// The last attempt of a [`Row`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// When.
    pub time: Timestamp,
    /// The host.
    pub host: Option<Domain>,
    /// Its address.
    pub ip: Option<IpAddr>,
    /// The SMTP reply code; null when the failure was local.
    pub code: Option<u16>,
    /// Always present, as in `4.7.5`.
    pub enhanced: String,
    /// In words.
    pub text: String,
    /// The RFC 8460 result type.
    pub tls_failure: Option<ResultType>,
}

/// When a message is returned: arrival plus lifetime.
pub fn expires(message: &MessageMeta, max_age: Duration) -> Timestamp {
    let age = match message.origin {
        Origin::Submitted => max_age,
        Origin::Dsn | Origin::TlsReport => GENERATED_MAX_AGE,
    };
    message.arrived.after(age)
}

fn sender(message: &MessageMeta) -> String {
    message.reverse_path.mailbox().map_or_else(String::new, ToString::to_string)
}

fn sender_tls(message: &MessageMeta) -> Option<String> {
    message.sender_tls.as_str().map(str::to_owned)
}

impl Row {
    /// A row of the queue, `max_age` being the lifetime of a submitted message.
    pub fn new(r: &ListedRecipient, max_age: Duration) -> Self {
        Self {
            id: r.message.id,
            message_id: r.message.message_id.clone(),
            sender: sender(&r.message),
            recipient: r.path.mailbox().to_string(),
            domain: r.path.domain().clone(),
            state: r.state,
            sender_tls: sender_tls(&r.message),
            size: r.message.size,
            arrived: r.message.arrived,
            attempts: r.attempts,
            next_attempt: r.next_attempt,
            expires: expires(&r.message, max_age),
            last: r.last.as_ref().map(|d| Last {
                time: d.at,
                host: d.host.clone(),
                ip: d.ip,
                code: d.code,
                enhanced: d.enhanced.to_string(),
                text: d.text.clone(),
                tls_failure: d.tls_failure,
            }),
        }
    }
}

/// `queue show --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The queue id.
    pub id: QueueId,
    /// The Message-ID field.
    pub message_id: String,
    /// Where it came from.
    pub origin: Origin,
    /// Who handed it in.
    pub submitter: String,
    /// The envelope sender; empty for the null sender.
    pub sender: String,
    /// `RET=`.
    pub ret: Option<String>,
    /// `ENVID=`, decoded.
    pub envid: Option<String>,
    /// What the sender says about TLS: `requiretls`, `tls-required-no` or null.
    #[serde(default)]
    pub sender_tls: Option<String>,
    /// Needs SMTPUTF8.
    pub smtputf8: bool,
    /// Octets of content.
    pub size: u64,
    /// Arrival.
    pub arrived: Timestamp,
    /// When what is still owed is returned.
    pub expires: Timestamp,
    /// All recipients, finished ones too.
    pub recipients: Vec<Recipient>,
    /// Every attempt, oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// The header section; empty once the content is gone.
    pub header: String,
}

/// A recipient of a [`Message`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// The address.
    pub recipient: String,
    /// Its domain.
    pub domain: Domain,
    /// Where it stands.
    pub state: RecipientState,
    /// Attempts so far.
    pub attempts: u32,
    /// When it is due; null in a terminal state.
    pub next_attempt: Option<Timestamp>,
    /// Why it waits, or how it ended; empty before the first attempt.
    pub cause: String,
    /// Everything known about the last attempt, promise and certificate included.
    pub last: Option<Diagnosis>,
}

impl Message {
    /// A message of the queue.
    pub fn new(m: &ShownMessage, max_age: Duration) -> Self {
        Self {
            id: m.message.id,
            message_id: m.message.message_id.clone(),
            origin: m.message.origin,
            submitter: m.submitter.clone(),
            sender: sender(&m.message),
            ret: m.message.ret.map(|r| r.as_str().to_owned()),
            envid: m.message.envid.as_ref().map(crate::mail::Xtext::decoded),
            sender_tls: sender_tls(&m.message),
            smtputf8: m.message.smtputf8,
            size: m.message.size,
            arrived: m.message.arrived,
            expires: expires(&m.message, max_age),
            recipients: m
                .recipients
                .iter()
                .map(|r| Recipient {
                    recipient: r.path.mailbox().to_string(),
                    domain: r.path.domain().clone(),
                    state: r.state,
                    attempts: r.attempts,
                    next_attempt: r.next_attempt,
                    cause: r.cause.clone(),
                    last: r.last.clone(),
                })
                .collect(),
            timeline: m.timeline.clone(),
            header: m.header.clone(),
        }
    }
}

/// What `queue retry` did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The counts.
    #[serde(flatten)]
    pub touched: Touched,
    /// Rows in flight, left alone; at most 100 of them.
    pub flying: Vec<Row>,
}

/// A row of `policy list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// The policy domain.
    pub domain: Domain,
    /// What it asks for.
    pub mode: Mode,
    /// The id of the TXT record.
    pub id: String,
    /// Its MX patterns.
    pub mx: Vec<String>,
    /// Seconds.
    pub max_age: u64,
    /// The last successful fetch.
    pub fetched: Timestamp,
    /// Until when it holds.
    pub expires: Timestamp,
    /// The last delivery that used it.
    pub last_used: Timestamp,
    /// Since when it could not be refreshed; null while that works.
    pub refresh_failing_since: Option<Timestamp>,
}

impl Policy {
    /// The rows of `policy list`.
    pub fn list(policies: &[StoredPolicy], failing: &[(Domain, Timestamp)]) -> Vec<Self> {
        let failing: std::collections::HashMap<_, _> = failing.iter().map(|(d, since)| (d, *since)).collect();
        let row = |p: &StoredPolicy| Self {
            refresh_failing_since: failing.get(&p.domain).copied(),
            ..Self::from(p)
        };
        policies.iter().map(row).collect()
    }
}

impl From<&StoredPolicy> for Policy {
    fn from(p: &StoredPolicy) -> Self {
        Self {
            domain: p.domain.clone(),
            mode: p.policy.mode,
            id: p.id.clone(),
            mx: p.policy.mx.clone(),
            max_age: p.policy.max_age.as_secs(),
            fetched: p.fetched,
            expires: p.expires,
            last_used: p.last_used,
            refresh_failing_since: None,
        }
    }
}

/// `policy show --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDetail {
    /// The domain.
    pub domain: Domain,
    /// The stored policy, expired or not.
    pub policy: Option<Policy>,
    /// Its text, line by line.
    pub lines: Vec<String>,
    /// When failed discovery started the time of grace.
    pub grace_started: Option<Timestamp>,
    /// Since when refreshes have been failing.
    pub refresh_failing_since: Option<Timestamp>,
    /// No further fetch of the failing id before this.
    pub backoff_until: Option<Timestamp>,
    /// What the failed fetch ran into.
    pub fetch_failure: Option<crate::mtasts::FetchFailure>,
    /// What changed, oldest first.
    pub history: Vec<Change>,
}

/// A line of [`PolicyDetail::history`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// In words.
    pub what: String,
}

impl PolicyDetail {
    /// What is stored about `domain`; `None` when that is nothing.
    pub fn new(domain: &Domain, row: PolicyRow, history: Vec<PolicyChange>) -> Option<Self> {
        if row == PolicyRow::default() && history.is_empty() {
            return None;
        }
        let PolicyRow { policy, memory } = row;
        Some(Self {
            domain: domain.clone(),
            policy: policy
                .as_ref()
                .map(|p| Policy { refresh_failing_since: memory.refresh_failing_since, ..Policy::from(p) }),
            lines: policy.map(|p| p.policy.lines).unwrap_or_default(),
            grace_started: memory.grace_started,
            refresh_failing_since: memory.refresh_failing_since,
            backoff_until: memory.backoff.as_ref().map(|b| b.until),
            fetch_failure: memory.backoff.map(|b| b.failure),
            history: history.into_iter().map(|c| Change { at: c.at, what: c.what }).collect(),
        })
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// Commits succeed.
    pub store_writable: bool,
    /// Octets free where the database lies.
    pub disk_free: u64,
    /// New mail has room: more than `queue.reserve`, and than two of the largest messages, is free.
    pub disk_ok: bool,
    /// All listeners of the configuration listen.
    pub listeners_up: bool,
    /// `trust-ad` or `off`, and why, in words.
    pub dnssec: String,
}

impl Readiness {
    /// Whether mail can be taken.
    pub const fn ready(&self) -> bool {
        self.store_writable && self.disk_ok && self.listeners_up
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{ForwardPath, ReversePath, SenderTls};
    use std::sync::Arc;

    fn listed(origin: Origin) -> ListedRecipient {
        ListedRecipient {
            message: Arc::new(MessageMeta {
                id: QueueId::from_bytes([7; 16]),
                origin,
                reverse_path: ReversePath::Null,
                ret: None,
                envid: None,
                sender_tls: SenderTls::Unsaid,
                smtputf8: false,
                has_8bit: false,
                size: 42,
                arrived: Timestamp::from_millis(1_795_333_080_000),
                message_id: "<a@example.net>".into(),
            }),
            no: 0,
            path: ForwardPath::parse("bob@example.org").unwrap(),
            state: RecipientState::Deferred,
            attempts: 1,
            next_attempt: None,
            cause: "reply".into(),
            last: None,
        }
    }

    #[test]
    fn a_row_has_the_promised_shape_and_reads_back() {
        let row = Row::new(&listed(Origin::Submitted), Duration::from_secs(5 * 86400));
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(
            text,
            "{\"id\":\"070w3ge1r70w3ge1r70w3ge1r7\",\"message_id\":\"<a@example.net>\",\"sender\":\"\",\
             \"recipient\":\"bob@example.org\",\"domain\":\"example.org\",\"state\":\"deferred\",\"sender_tls\":null,\"size\":42,\
             \"arrived\":\"2026-11-22T07:38:00Z\",\"attempts\":1,\"next_attempt\":null,\
             \"expires\":\"2026-11-27T07:38:00Z\",\"last\":null}"
        );
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }

    // QUE-05, RPT-87
    #[test]
    fn our_own_messages_live_a_day() {
        for (origin, max_age) in
            [(Origin::Dsn, 5 * 86400), (Origin::TlsReport, 5 * 86400), (Origin::Dsn, 3600)]
        {
            let row = Row::new(&listed(origin), Duration::from_secs(max_age));
            assert_eq!(row.expires.to_rfc3339(), "2026-11-23T07:38:00Z");
        }
    }
}
