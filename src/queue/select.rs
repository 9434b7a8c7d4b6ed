//! Queue: select.
