//! The way in: listeners, authentication, header fix-up, and the single door from outside.

pub mod accept;
pub mod auth;
pub mod fixup;
pub mod smtp_connection;
pub mod smtp_listener;
