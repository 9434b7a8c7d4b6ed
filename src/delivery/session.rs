//! Delivery: session.
