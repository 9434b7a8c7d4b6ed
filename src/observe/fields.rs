//! The names of log fields, each once, and how much of an address is shown.
//!
//! `tracing` wants field names as literals; these constants are what tests and readers of the log go by.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

/// The event of one attempt and recipient. Never sampled or dropped.
pub const EVENT: &str = "delivery";

/// The fields of a `delivery` event, in the order of the interface description. Each is on every line: a text without
/// a value is `""`, a number without one is 0.
pub const DELIVERY: [&str; 35] = [
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
    "exception",
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
    "sender_tls",
    "requiretls",
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

/// Words of others as the log may show them: what looks like an address in them loses its local part too.
pub fn shown_text(text: &str) -> Cow<'_, str> {
    if DOMAIN_ONLY.load(Ordering::Relaxed) { without_local_parts(text) } else { Cow::Borrowed(text) }
}

fn without_local_parts(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('@').enumerate() {
        if i > 0 {
            // What was written last is the local part of what follows.
            let start = match out.strip_suffix('"').map(|quoted| quoted.rfind('"')) {
                Some(Some(open)) => open,
                _ => {
                    let end = out.char_indices().rev().find(|(_, c)| ends_local_part(*c));
                    end.map_or(0, |(at, c)| at + c.len_utf8())
                }
            };
            out.truncate(start);
            out.push_str("…@");
        }
        out.push_str(part);
    }
    Cow::Owned(out)
}

/// What cannot stand in a local part without quotes.
fn ends_local_part(c: char) -> bool {
    c.is_whitespace() || c.is_control() || "<>()[],;:\"".contains(c)
}

/// What is left of an address without its local part; the null sender stays what it is.
fn domain_of(address: &str) -> Cow<'_, str> {
    address.rsplit_once('@').map_or(Cow::Borrowed(address), |(_, domain)| Cow::Borrowed(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_lose_their_local_parts() {
        for (text, want) in [
            ("550 5.1.1 <bob@example.org>: no such user", "550 5.1.1 <…@example.org>: no such user"),
            ("no such user bob+x@example.org", "no such user …@example.org"),
            ("\"bob b\"@example.org is unknown", "…@example.org is unknown"),
            ("<a@x.example>,<b@y.example>", "<…@x.example>,<…@y.example>"),
            ("<bücher@example.org>", "<…@example.org>"),
            ("a\u{2003}b@c", "a\u{2003}…@c"),
            ("@", "…@"),
            ("\"@", "\"…@"),
            ("queue full", "queue full"),
        ] {
            assert_eq!(without_local_parts(text), want);
        }
    }

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
