//! The manual: threat model, defaults, decisions, operations.

pub mod decisions;
pub mod defaults;
pub mod operations;
pub mod threat_model;
