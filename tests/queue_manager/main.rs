//! The queue at work, on the real store with a scripted deliverer: what is tried, what waits, what is returned.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

mod fairness;
mod hosts;
mod lifetime;
mod notices;
mod store_and_shutdown;
mod world;
