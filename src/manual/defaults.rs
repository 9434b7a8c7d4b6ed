//! # Defaults
//!
//! One line, `hostname`, makes a usable relay: it listens on loopback, trusts this machine, delivers to port 25 and
//! keeps promises. Each default stands once, with its reason, in [`crate::config::defaults`]; `sealpost config init`
//! writes a file that shows them all, `sealpost config show` prints what is in force. The principles:
//!
//! - **Open to nobody.** Listener, admin interface and trusted networks are loopback. Widening any of them is a line
//!   that somebody wrote.
//! - **Promises are kept without being asked for.** MTA-STS is on; switching it off warns at every start.
//! - **Mail waits long enough for people.** [`MAX_AGE`](crate::config::defaults::MAX_AGE) is what RFC 5321 §4.5.4.1
//!   asks for, and the sender is told after [`DELAY_WARNING_AFTER`](crate::config::defaults::DELAY_WARNING_AFTER): long
//!   enough for a restart, short enough to telephone the same day.
//! - **Retries come quickly, then slowly** ([`RETRY`](crate::config::defaults::RETRY)): most troubles last minutes, the
//!   rest last hours.
//! - **Receivers are not pressed.** A host is met with two connections, which grow on success up to
//!   [`MAX_CONNECTIONS_PER_HOST`](crate::config::defaults::MAX_CONNECTIONS_PER_HOST) and halve on trouble.
//! - **The disk is never filled.** Below [`RESERVE`](crate::config::defaults::RESERVE) new mail gets 452, while what is
//!   queued is still delivered; timelines are bounded by age and size.
//! - **A stop does not cut transactions.** [`DRAIN`](crate::config::defaults::DRAIN) is longer than most of them last.
//! - **DNSSEC is believed only where the answer cannot have been changed on its way**: `dns.dnssec = "auto"` takes the
//!   AD bit of a resolver on this machine, and of none other.
