//! DSN: notify.
