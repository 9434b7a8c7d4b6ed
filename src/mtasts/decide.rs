//! MTA-STS: decide.
