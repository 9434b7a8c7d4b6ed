//! Routing: mx.
