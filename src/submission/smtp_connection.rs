//! Submission: smtp_connection.
