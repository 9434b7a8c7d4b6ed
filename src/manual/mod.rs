//! The manual: threat model, defaults, decisions, operations.
//!
//! [`threat_model`] says what Sealpost protects against and what not, [`defaults`] what an operator gets who writes
//! nothing, [`decisions`] why it is as it is and at what price, [`operations`] what to do with it.

pub mod decisions;
pub mod defaults;
pub mod operations;
pub mod threat_model;
