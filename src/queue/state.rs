//! [`RecipientState`] and the transitions between states (QUE-02).

use serde::{Deserialize, Serialize};

/// Where a recipient stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientState {
    /// Never leased.
    Queued,
    /// An attempt is under way.
    Delivering,
    /// Tried, due again.
    Deferred,
    /// An operator's doing.
    Held,
    /// Done.
    Delivered,
    /// Returned to the sender; an ended lifetime is a reason.
    Bounced,
    /// Removed by an operator.
    Deleted,
}
