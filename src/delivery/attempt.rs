//! Delivery: attempt.
