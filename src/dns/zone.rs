//! DNS: zone.
