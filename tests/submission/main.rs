//! The submission listeners against clients on real sockets, polite and hostile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

mod client;
mod dialogue;
mod hostile;
mod process;
mod relay;
mod sender_tls;
mod sockets;
