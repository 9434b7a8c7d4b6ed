//! DNS: cache.
