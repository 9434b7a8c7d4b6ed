//! Delivery status notifications (RFC 3461, RFC 3464, RFC 6522): whether one is due, and its text.

pub mod compose;
pub mod notify;
