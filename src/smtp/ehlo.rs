//! The reply to EHLO: what this server offers (RFC 5321 §4.1.1.1).

use crate::mail::Domain;

/// What depends on the session.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The greatest message, in octets (RFC 1870).
    pub max_message_size: u64,
    /// TLS can be started: there is a certificate and TLS is not on yet (RFC 3207 §4.2, SUB-12).
    pub starttls: bool,
    /// Inside TLS, and there are users (SUB-20).
    pub auth: bool,
    /// Inside TLS, and it would be kept on the way onward (RFC 8689 §4.2.1, RTLS-01).
    pub requiretls: bool,
}

/// Appends the reply. Not offered, deliberately: CHUNKING, BINARYMIME, DELIVERBY, FUTURERELEASE, ETRN.
pub fn write(hostname: &Domain, offer: Offer, out: &mut Vec<u8>) {
    let mut lines =
        vec![hostname.to_string(), "PIPELINING".to_owned(), format!("SIZE {}", offer.max_message_size)];
    if offer.starttls {
        lines.push("STARTTLS".to_owned());
    }
    if offer.auth {
        lines.push("AUTH PLAIN LOGIN".to_owned());
    }
    if offer.requiretls {
        lines.push("REQUIRETLS".to_owned());
    }
    lines.extend(["ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN"].map(str::to_owned));
    let last = lines.len() - 1;
    for (i, line) in lines.iter().enumerate() {
        let separator = if i == last { ' ' } else { '-' };
        out.extend_from_slice(format!("250{separator}{line}\r\n").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SUB-07, SUB-12, SUB-20, SUB-50, SUB-52, SUB-55, SUB-58
    #[test]
    fn only_what_works_is_offered() {
        let host = Domain::parse("relay.example.net").unwrap();
        let ehlo = |starttls, auth, requiretls| {
            let mut out = Vec::new();
            write(&host, Offer { max_message_size: 1000, starttls, auth, requiretls }, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            ehlo(true, false, false),
            "250-relay.example.net\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-STARTTLS\r\n\
             250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n"
        );
        assert!(ehlo(false, false, true).contains("250-REQUIRETLS\r\n"));
        let inside = ehlo(false, true, false);
        assert!(inside.contains("250-AUTH PLAIN LOGIN\r\n") && !inside.contains("STARTTLS"), "{inside}");
        for never in ["CHUNKING", "ETRN", "DELIVERBY", "REQUIRETLS", "BINARYMIME", "FUTURERELEASE"] {
            assert!(!inside.contains(never));
        }
    }
}
