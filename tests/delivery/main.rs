//! Attempts at delivery against servers on loopback: the real walk over routes and policies that are given.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod authority;
mod client_hello;
mod dane;
mod exception;
mod hostile;
mod large_tlsa;
mod pool;
mod sender_tls;
mod server;
mod short_key;
mod smart_host;
mod starttls;
mod transfer;
mod unproven;
mod walk;
mod whole;
mod world;
