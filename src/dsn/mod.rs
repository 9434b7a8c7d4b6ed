//! Delivery status notifications (RFC 3461, RFC 3464, RFC 6522): whether one is due, and its text.
//!
//! Pure. The queue asks [`notify`] first, reports only the recipients that it says yes to, and commits what
//! [`compose()`] makes together with the outcome that caused it.

pub mod compose;
mod mime;
pub mod notify;
mod postmaster;
mod words;

pub use compose::{DsnContext, DsnKind, DsnSettings, Original, Reported, compose};
pub use notify::{DelayThrottle, delay_due, failure_due, relayed_due};
