//! DSN: compose.
