//! MTA-STS: record.
