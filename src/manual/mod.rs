//! The manual: threat model, defaults, decisions, operations.
