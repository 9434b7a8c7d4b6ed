//! The SMTP protocol as data, without I/O: what a client may say to us and what we answer (RFC 5321).
//!
//! [`command`] reads lines, [`session`] decides what follows from them, [`data`] receives content, and
//! [`answer`] and [`ehlo`] write what goes back.

pub mod answer;
pub mod command;
pub mod data;
pub mod ehlo;
pub mod sasl;
pub mod session;

pub use answer::Answer;
