//! What the relay tells about itself.

pub mod fields;
pub mod log;
