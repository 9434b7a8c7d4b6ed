//! MTA-STS: service.
