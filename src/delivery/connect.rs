//! Delivery: connect.
