//! DNS: hickory.
