//! What the relay tells about itself.

pub mod fields;
pub mod limit;
pub mod log;
