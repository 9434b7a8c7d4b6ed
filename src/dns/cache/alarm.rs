//! [`Alarm`]: lookups that fail one after another are a reason to look at the resolver at once.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

/// Failures without an answer between them that ring. One domain's broken servers do it too, so that a look costs little
/// and whoever waits for the alarm bounds how often it is taken.
const FAILURES: u32 = 3;

/// Rings when lookups fail in a row, for whatever reason: a resolver that is dead, refuses us or believes in the wrong keys
/// fails at every name. Denials are answers.
#[derive(Debug, Default)]
pub struct Alarm {
    in_a_row: AtomicU32,
    bell: Notify,
}

impl Alarm {
    /// A lookup ended, with an answer or without.
    pub(crate) fn heard(&self, answered: bool) {
        if answered {
            self.in_a_row.store(0, Ordering::Relaxed);
        } else if self.in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= FAILURES {
            self.in_a_row.store(0, Ordering::Relaxed);
            self.bell.notify_one();
        }
    }

    /// Ends when it has rung since it was waited for last.
    pub async fn rings(&self) {
        self.bell.notified().await;
    }
}
