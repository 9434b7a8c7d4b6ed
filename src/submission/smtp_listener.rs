//! Submission: smtp_listener.
