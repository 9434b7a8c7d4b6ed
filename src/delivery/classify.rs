//! Delivery: classify.
