//! Where the queue, the policies and the session records are kept. One store so far: [`sqlite`].
//!
//! The contract tests speak to the ports alone: every store runs them.

pub mod sqlite;

#[cfg(test)]
mod contract;
