//! Security: decide.
