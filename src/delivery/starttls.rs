//! Delivery: starttls.
