//! The SMTP protocol as data, without I/O: what a client may say to us and what we answer (RFC 5321).

pub mod command;
pub mod data;
pub mod ehlo;
pub mod session;
