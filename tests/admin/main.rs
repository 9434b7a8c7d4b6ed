//! The admin interface and the commands behind it, over a real socket and the real store.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod commands;
mod doubles;
mod http;
mod reports;
mod status;
