//! Delivery: pool.
