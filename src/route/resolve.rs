//! Routing: resolve.
