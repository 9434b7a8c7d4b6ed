//! # Defaults
//!
//! Each default stands once, with its reason, in [`crate::config::defaults`]. `sealpost config init` writes
//! a file that shows them all; `sealpost config show` prints what is in force.
