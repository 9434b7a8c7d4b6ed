//! The names of log fields, each once, and how much of an address is shown.
//!
//! `tracing` wants field names as literals; these constants are what tests and readers of the log go by.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

/// The event of one attempt and recipient. Never sampled or dropped.
pub const EVENT: &str = "delivery";

/// The fields of a `delivery` event, in the order of the interface description.
pub const DELIVERY: [&str; 32] = [
    "message_id",
    "queue_id",
    "sender",
    "recipient",
    "domain",
    "mx",
    "ip",
    "port",
    "source_ip",
    "outcome",
    "code",
    "enhanced",
    "text",
    "stage",
    "security",
    "mx_secure",
    "tls_version",
    "cipher",
    "policy",
    "policy_mode",
    "policy_id",
    "tls_failure",
    "attempt",
    "delay_total",
    "delay_queue",
    "delay_connect",
    "delay_transfer",
    "size",
    "reused",
    "maybe_delivered",
    "remote_id",
    "next_attempt",
];

static DOMAIN_ONLY: AtomicBool = AtomicBool::new(false);

/// Sets, for the whole process, whether [`shown_address`] leaves local parts out (`log.addresses`).
pub fn show_domain_only(yes: bool) {
    DOMAIN_ONLY.store(yes, Ordering::Relaxed);
}

/// An address as the log may show it. Everything that logs a sender or recipient goes through here.
pub fn shown_address(address: &str) -> Cow<'_, str> {
    if DOMAIN_ONLY.load(Ordering::Relaxed) { domain_of(address) } else { Cow::Borrowed(address) }
}

/// What is left of an address without its local part; the null sender stays what it is.
fn domain_of(address: &str) -> Cow<'_, str> {
    address.rsplit_once('@').map_or(Cow::Borrowed(address), |(_, domain)| Cow::Borrowed(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_part_is_left_out_whatever_it_holds() {
        for (address, want) in [
            ("bob@example.org", "example.org"),
            ("\"a@b\"@example.org", "example.org"),
            ("", ""),
            ("<>", "<>"),
        ] {
            assert_eq!(domain_of(address), want);
        }
    }
}
