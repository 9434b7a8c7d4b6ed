//! What operators ask of the queue, and what they are shown.

use std::sync::Arc;

use super::{Diagnosis, MessageMeta, RecipientState, TimelineEntry};
use crate::clock::Timestamp;
use crate::mail::{Domain, ForwardPath, QueueId};

/// Which recipients an operator means. Empty: all that are still owed a delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// These messages.
    pub ids: Vec<QueueId>,
    /// This recipient address, as stored.
    pub recipient: Option<String>,
    /// This recipient domain.
    pub domain: Option<Domain>,
    /// This state.
    pub state: Option<RecipientState>,
    /// This envelope sender, as stored (empty: the null sender).
    pub sender: Option<String>,
    /// This cause ([`DeferReason::as_str`](super::DeferReason::as_str)).
    pub cause: Option<String>,
}

/// A row of `queue list`.
#[derive(Debug, Clone)]
pub struct ListedRecipient {
    /// The message.
    pub message: Arc<MessageMeta>,
    /// Its place in the envelope.
    pub no: u32,
    /// The address.
    pub path: ForwardPath,
    /// Where it stands.
    pub state: RecipientState,
    /// Attempts so far, a running one included.
    pub attempts: u32,
    /// When it is due, the end of its domain's suspension heeded; `None` in a terminal state.
    pub next_attempt: Option<Timestamp>,
    /// The cause it waits for or ended by. Before the first attempt that of its domain's suspension, else empty.
    pub cause: String,
    /// The last diagnosis; before the first attempt that of its domain's suspension, if there is one.
    pub last: Option<Diagnosis>,
}

/// `queue show`.
#[derive(Debug, Clone)]
pub struct ShownMessage {
    /// The message.
    pub message: Arc<MessageMeta>,
    /// Who handed it in.
    pub submitter: String,
    /// All recipients, finished ones too.
    pub recipients: Vec<ListedRecipient>,
    /// Oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// The header section, as far as it lies in the first part; empty once the content is gone.
    pub header: String,
}

/// What an operator's command did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Touched {
    /// Recipients changed.
    pub recipients: u64,
    /// Messages they belong to.
    pub messages: u64,
    /// Recipients in flight, left alone.
    pub in_flight: u64,
}
