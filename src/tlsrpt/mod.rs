//! TLS reporting (RFC 8460): for now, that every session leaves its record. Reports come later.

pub mod record;
pub mod result_type;

pub use record::{AppliedPolicy, FailureDetail, PolicyVerdict, SessionRecord};
pub use result_type::ResultType;

/// Where SessionRecords go. A record is a commit of its own; nobody waits for it (RPT-31).
pub trait SessionStore: Send + Sync {
    /// Hands a record over. Never blocks; a store that cannot keep up or write drops the record and logs it.
    fn record(&self, record: SessionRecord);
}
