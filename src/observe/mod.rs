//! What the relay tells about itself.

pub mod fields;
pub mod figures;
pub mod limit;
pub mod log;
pub mod metrics;
pub mod prometheus;
