//! Security: verdict.
