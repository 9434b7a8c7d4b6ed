//! MTA-STS: fetch.
