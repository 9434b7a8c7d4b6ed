//! The SQLite store: one writer thread with group commit, WAL, `synchronous=FULL`.
