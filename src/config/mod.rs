//! The configuration file: read raw, checked once, immutable ever after.
