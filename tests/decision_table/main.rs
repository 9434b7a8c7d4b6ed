//! The decision table of the TLS requirements (section 3), driven through decide, verdict and classify.
//!
//! A row is an input, its outcome and what the day's report says of it. Rows that are decided before
//! a session (D01 to D05, D28, D34…) leave no record and stand in `before_a_session`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod before_a_session;
mod columns;
mod dane;
mod exceptions;
mod judging;
mod policies;
mod properties;
mod report;
mod requiretls;
mod tls_required_no;
mod unproven;
