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

impl RecipientState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Delivering,
        Self::Deferred,
        Self::Held,
        Self::Delivered,
        Self::Bounced,
        Self::Deleted,
    ];

    /// The word of `queue list --state` and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivering => "delivering",
            Self::Deferred => "deferred",
            Self::Held => "held",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Deleted => "deleted",
        }
    }

    /// The inverse of [`RecipientState::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Whether the recipient waits for its next attempt.
    pub const fn is_waiting(self) -> bool {
        matches!(self, Self::Queued | Self::Deferred)
    }

    /// Whether nothing more will happen to the recipient.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Delivered | Self::Bounced | Self::Deleted)
    }

    /// The state diagram: whether a recipient in this state may next be in `to`.
    ///
    /// Only an attempt leads to `delivered`, `deferred` or `bounced`; `delivering` goes back to `queued` when a
    /// first lease is handed back unused. An operator's delete never hits a recipient in flight (QUE-37).
    pub const fn may_become(self, to: Self) -> bool {
        match self {
            Self::Queued | Self::Deferred => matches!(to, Self::Delivering | Self::Held | Self::Deleted),
            Self::Delivering => {
                matches!(to, Self::Queued | Self::Deferred | Self::Delivered | Self::Bounced)
            }
            Self::Held => matches!(to, Self::Queued | Self::Deferred | Self::Deleted),
            Self::Delivered | Self::Bounced | Self::Deleted => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // QUE-02
    #[test]
    fn words_read_back_and_are_those_of_json() {
        for state in RecipientState::ALL {
            assert_eq!(RecipientState::parse(state.as_str()), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.as_str()));
        }
        assert_eq!(RecipientState::parse("Queued"), None);
    }

    // QUE-02
    #[test]
    fn terminal_states_have_no_way_out_and_only_an_attempt_ends_a_recipient_by_itself() {
        for from in RecipientState::ALL {
            for to in RecipientState::ALL {
                if from.is_terminal() || from == to {
                    assert!(!from.may_become(to), "{from:?} -> {to:?}");
                }
                if matches!(to, RecipientState::Delivered | RecipientState::Bounced) {
                    assert_eq!(from.may_become(to), from == RecipientState::Delivering, "{from:?} -> {to:?}");
                }
            }
            assert!(!(from.is_waiting() && from.is_terminal()));
        }
        assert!(!RecipientState::Delivering.may_become(RecipientState::Deleted));
    }
}
