//! DANE for SMTP (RFC 7672): which TLSA records bind a session with a host, and whether its certificate matches.
//!
//! Pure: [`eligible`] (where the records lie), [`tlsa`] (which of them can be used), [`verify`] (whether one matches).

pub mod eligible;
pub mod tlsa;
pub mod verify;

pub use tlsa::{Tlsa, TlsaSet};
pub use verify::DaneFault;
