//! Submission: fixup.
