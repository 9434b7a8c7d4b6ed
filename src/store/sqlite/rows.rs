//! Between rows and the vocabulary: state codes, packed keys, and values that are read back as they were checked
//! on the way in.

use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use crate::clock::Timestamp;
use crate::mail::{Domain, ForwardPath, Notify, Orcpt, Origin, QueueId, Ret, ReversePath, SenderTls, Xtext};
use crate::queue::{Diagnosis, LeasedRecipient, MessageMeta, RecipientState, Suspension};
use crate::tlsrpt::Day;

/// Codes of `recipient.state`. The SQL relies on their order: up to 1 it waits, up to 3 it is still owed.
const STATES: [RecipientState; 7] = [
    RecipientState::Queued,
    RecipientState::Deferred,
    RecipientState::Delivering,
    RecipientState::Held,
    RecipientState::Delivered,
    RecipientState::Bounced,
    RecipientState::Deleted,
];

/// Bits of a packed key that name a place within a message.
const PLACE_BITS: u32 = 20;

/// The most recipients or parts of a message.
pub(super) const PLACES: u32 = 1 << PLACE_BITS;

/// The code of a state.
pub(super) fn code(state: RecipientState) -> i64 {
    STATES.iter().position(|s| *s == state).and_then(|p| i64::try_from(p).ok()).unwrap_or(-1)
}

/// The state behind a code.
pub(super) fn state(row: &Row<'_>, column: usize) -> rusqlite::Result<RecipientState> {
    let code: i64 = row.get(column)?;
    usize::try_from(code).ok().and_then(|c| STATES.get(c)).copied().ok_or_else(|| bad(column, "not a state"))
}

/// `recipient.id`, `content.id`: the key of a place within message `seq`.
pub(super) const fn key(seq: i64, place: u32) -> i64 {
    (seq << PLACE_BITS) | (place as i64)
}

/// All keys of message `seq`, first and last.
pub(super) const fn keys(seq: i64) -> (i64, i64) {
    (key(seq, 0), key(seq, PLACES - 1))
}

/// The message of a packed key.
pub(super) const fn message_of(key: i64) -> i64 {
    key >> PLACE_BITS
}

/// The place within the message of a packed key.
pub(super) fn place_of(key: i64) -> u32 {
    u32::try_from(key & i64::from(PLACES - 1)).unwrap_or_default()
}

pub(super) fn bad(column: usize, why: &str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, why.into())
}

/// A row that cannot be read back: damage, or the work of a release that knew another grammar.
pub(super) const fn is_damage(e: &rusqlite::Error) -> bool {
    use rusqlite::Error;
    matches!(
        e,
        Error::FromSqlConversionFailure(..)
            | Error::InvalidColumnType(..)
            | Error::IntegralValueOutOfRange(..)
            | Error::Utf8Error(..)
    )
}

/// Reads a row of a list; `None` for a damaged one, which must not hide the others. `column` holds the row's key.
pub(super) fn readable<T>(
    row: &Row<'_>,
    column: usize,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    match read(row) {
        Err(e) if is_damage(&e) => {
            let key: i64 = row.get(column)?;
            tracing::error!(event = "row-damaged", row = key, error = %e, "a row of the queue cannot be read; it is left out");
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// A number of rows, as SQL counts them.
pub(super) fn number(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

/// A time.
pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_millis)
}

/// Text as SQLite keeps it, which may be no UTF-8 when it is damaged.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl ToSql for Text<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}

/// A time that may be absent.
pub(super) fn maybe_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_millis))
}

/// A domain.
pub(super) fn domain(row: &Row<'_>, column: usize) -> rusqlite::Result<Domain> {
    Domain::parse_host(row.get_ref(column)?.as_str()?).map_err(|_| bad(column, "not a domain"))
}

/// A count.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    Ok(row.get::<_, i64>(column)?.try_into().unwrap_or_default())
}

/// A UTC day.
pub(super) fn day(row: &Row<'_>, column: usize) -> rusqlite::Result<Day> {
    row.get_ref(column)?.as_str()?.parse().map_err(|_| bad(column, "not a day"))
}

/// A value stored as JSON that has to be there.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// A diagnosis is for people: one that cannot be read must not keep its recipient from being delivered.
pub(super) fn diagnosis(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Diagnosis>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(|text| serde_json::from_str(text).ok()))
}

/// `message.id`.
pub(super) fn queue_id(row: &Row<'_>, column: usize) -> rusqlite::Result<QueueId> {
    row.get(column).map(QueueId::from_bytes)
}

/// The columns that [`meta`] reads, of a table `m`.
pub(super) const META: &str = "m.id, m.origin, m.sender, m.ret, m.envid, m.smtputf8, m.has_8bit, m.size, m.arrived, \
                               m.message_id, m.sender_tls";
/// How many there are.
pub(super) const META_COLUMNS: usize = 11;

/// A message from the columns [`META`], which are the first of the row.
pub(super) fn meta(row: &Row<'_>) -> rusqlite::Result<Arc<MessageMeta>> {
    let text = |column| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
    let origin = text(1)?.and_then(Origin::parse).ok_or_else(|| bad(1, "not an origin"))?;
    let sender = text(2)?.unwrap_or_default();
    Ok(Arc::new(MessageMeta {
        id: queue_id(row, 0)?,
        origin,
        reverse_path: ReversePath::parse(sender).map_err(|_| bad(2, "not a reverse-path"))?,
        ret: text(3)?.and_then(Ret::parse),
        envid: text(4)?.and_then(Xtext::parse),
        // A tag that cannot be read must not turn into none.
        sender_tls: match text(10)? {
            None => SenderTls::Unsaid,
            Some(word) => {
                SenderTls::parse(word).ok_or_else(|| bad(10, "not what a sender says about TLS"))?
            }
        },
        smtputf8: row.get(5)?,
        has_8bit: row.get(6)?,
        size: row.get::<_, i64>(7)?.try_into().unwrap_or_default(),
        arrived: time(row, 8)?,
        message_id: row.get(9)?,
    }))
}

/// The columns that [`recipient`] reads, of a table `r`.
pub(super) const RECIPIENT: &str = "r.id, r.address, r.notify, r.orcpt, r.attempts, r.next_attempt, r.last";

/// How many there are.
pub(super) const RECIPIENT_COLUMNS: usize = 7;

/// A recipient from the columns [`RECIPIENT`], which begin at `first`.
pub(super) fn recipient(row: &Row<'_>, first: usize) -> rusqlite::Result<LeasedRecipient> {
    let text = |column| row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from);
    Ok(LeasedRecipient {
        no: place_of(row.get(first)?),
        path: text(first + 1)?
            .and_then(|a| ForwardPath::parse(a).ok())
            .ok_or_else(|| bad(first + 1, "not an address"))?,
        notify: text(first + 2)?.and_then(Notify::parse),
        orcpt: text(first + 3)?.and_then(Orcpt::parse),
        attempts: row.get(first + 4)?,
        next_attempt: time(row, first + 5)?,
        last: diagnosis(row, first + 6)?,
    })
}

/// A suspension from three columns that are NULL when there is none.
pub(super) fn suspension(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Suspension>> {
    let Some(until) = maybe_time(row, first)? else { return Ok(None) };
    Ok(Some(Suspension { until, step: row.get(first + 1)?, last: json(row, first + 2)? }))
}

/// The number of a message.
pub(super) fn seq_of(conn: &Connection, id: QueueId) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT seq FROM message WHERE id = ?1")?
        .query_row([id.as_bytes()], |r| r.get(0))
        .optional()
}

#[cfg(test)]
mod tests {
    use super::*;

    // QUE-02
    #[test]
    fn the_codes_order_the_states_as_the_sql_relies_on() {
        for s in RecipientState::ALL {
            assert_eq!(code(s) <= 1, s.is_waiting(), "{s:?}");
            assert_eq!(code(s) >= 4, s.is_terminal(), "{s:?}");
        }
    }

    #[test]
    fn packed_keys_unpack() {
        for (seq, place) in [(1, 0), (7, 99), (1 << 40, PLACES - 1)] {
            let k = key(seq, place);
            assert_eq!((message_of(k), place_of(k)), (seq, place));
            assert!(keys(seq).0 <= k && k <= keys(seq).1);
        }
    }
}
