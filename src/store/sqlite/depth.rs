//! How many recipients stand where: kept with every change of a state, in the commit that changes it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::Connection;

use super::rows::code;
use crate::queue::{DeferReason, RecipientState};

/// Where a recipient that is still owed a delivery stands, and what it waits for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Standing {
    state: i64,
    cause: Cow<'static, str>,
}

impl Standing {
    /// Waiting or held, for the cause of the row.
    pub(super) fn of(state: RecipientState, cause: Option<&str>) -> Self {
        let text = cause.unwrap_or_default();
        // Most are words of ours, which need no copy.
        let cause = match DeferReason::parse(text) {
            Some(reason) => Cow::Borrowed(reason.as_str()),
            None => Cow::Owned(text.to_owned()),
        };
        Self { state: code(state), cause }
    }

    /// An attempt is under way.
    pub(super) fn delivering() -> Self {
        Self::of(RecipientState::Delivering, None)
    }
}

/// What a transaction has changed so far, one line for each change, so that a job's own part can be taken back.
#[derive(Debug, Default)]
pub(super) struct Changes(Vec<(Standing, i64)>);

impl Changes {
    /// `n` recipients came, or went.
    pub(super) fn note(&mut self, standing: Standing, n: i64) {
        if n != 0 {
            self.0.push((standing, n));
        }
    }

    /// How much there is to take back to.
    pub(super) const fn mark(&self) -> usize {
        self.0.len()
    }

    /// What came after `mark` has not happened.
    pub(super) fn back_to(&mut self, mark: usize) {
        self.0.truncate(mark);
    }

    /// Writes the sums, before the commit.
    pub(super) fn write(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut sums: BTreeMap<&Standing, i64> = BTreeMap::new();
        for (standing, n) in &self.0 {
            *sums.entry(standing).or_default() += n;
        }
        for (standing, n) in sums.into_iter().filter(|(_, n)| *n != 0) {
            change(conn, standing, n)?;
        }
        Ok(())
    }
}

/// Adds `n` to one count.
pub(super) fn change(conn: &Connection, standing: &Standing, n: i64) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO queue_depth VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET recipients = recipients + excluded.recipients",
    )?
    .execute((standing.state, &*standing.cause, n))
    .map(|_| ())
}
