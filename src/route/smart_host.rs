//! Routing: smart_host.
