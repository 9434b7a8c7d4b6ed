//! Submission: accept.
