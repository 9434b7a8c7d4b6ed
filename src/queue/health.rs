//! Queue: health.
