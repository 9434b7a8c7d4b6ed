//! Submission: auth.
