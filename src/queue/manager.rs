//! Queue: manager.
