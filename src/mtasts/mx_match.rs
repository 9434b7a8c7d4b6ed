//! MTA-STS: mx_match.
