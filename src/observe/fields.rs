//! The names of log fields, each once.
