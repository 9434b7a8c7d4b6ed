//! Trace fields: the Received line that this relay adds (RFC 5321 §4.4, RFC 3848, RFC 6531 §3.7.3).

use std::net::IpAddr;

use super::domain::Domain;
use super::message::QueueId;
use crate::clock::Timestamp;

/// What a Received field says about how a message came in.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    /// The argument of EHLO or HELO, as given.
    pub helo: &'a str,
    /// The peer's address.
    pub client: IpAddr,
    /// Our host name.
    pub by: &'a Domain,
    /// The transmission type: TLS, AUTH, ESMTP and UTF-8 decide the `with` word.
    pub with: With,
    /// The id in the queue.
    pub id: QueueId,
    /// Protocol version and cipher suite, when TLS was on.
    pub tls: Option<&'a str>,
    /// The recipient, when there is exactly one (more would disclose blind copies, RFC 5321 §7.2).
    pub only_recipient: Option<&'a str>,
    /// Time of arrival.
    pub at: Timestamp,
}

/// The four facts behind the `with` word.
#[derive(Debug, Clone, Copy, Default)]
pub struct With {
    /// EHLO rather than HELO.
    pub extended: bool,
    /// Inside TLS.
    pub tls: bool,
    /// After AUTH.
    pub authenticated: bool,
    /// MAIL carried SMTPUTF8.
    pub utf8: bool,
}

impl With {
    /// `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA` or the UTF8SMTP forms.
    pub fn word(self) -> String {
        if !self.extended {
            return "SMTP".to_owned();
        }
        let base = if self.utf8 { "UTF8SMTP" } else { "ESMTP" };
        format!("{base}{}{}", if self.tls { "S" } else { "" }, if self.authenticated { "A" } else { "" })
    }
}

impl Received<'_> {
    /// The folded header field, ending in CRLF.
    pub fn render(&self) -> String {
        let helo = if is_domain_or_literal(self.helo) { self.helo } else { "unknown" };
        let mut out = format!(
            "Received: from {helo} ([{}])\r\n\tby {} with {}",
            literal(self.client),
            self.by,
            self.with.word()
        );
        out.push_str(&format!(" id {}", self.id));
        if let Some(tls) = self.tls {
            let clean: String = tls
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
                .collect();
            out.push_str(&format!("\r\n\t(using {clean})"));
        }
        if let Some(rcpt) = self.only_recipient.filter(|r| r.len() < 400) {
            out.push_str(&format!("\r\n\tfor <{rcpt}>"));
        }
        out.push_str(&format!(";\r\n\t{}\r\n", self.at.to_rfc5322()));
        out
    }
}

/// RFC 5321 §4.1.3: `192.0.2.1` or `IPv6:2001:db8::1`, without brackets.
fn literal(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("IPv6:{v6}"),
    }
}

/// SIG-03: an EHLO argument goes into the header only when it can be nothing but a name or a literal.
pub fn is_domain_or_literal(arg: &str) -> bool {
    if let Some(inner) = arg.strip_prefix('[').and_then(|a| a.strip_suffix(']')) {
        let v6 = inner.strip_prefix("IPv6:").unwrap_or(inner);
        return v6.parse::<IpAddr>().is_ok();
    }
    arg.len() <= 255 && Domain::parse_host(arg).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(helo: &str) -> String {
        Received {
            helo,
            client: "::ffff:192.0.2.7".parse().unwrap(),
            by: &Domain::parse("relay.example.net").unwrap(),
            with: With { extended: true, tls: true, authenticated: true, utf8: false },
            id: QueueId::from_bytes([7; 16]),
            tls: Some("TLSv1.3 TLS13_AES_256_GCM_SHA384"),
            only_recipient: Some("bob@example.org"),
            at: Timestamp::from_millis(1_795_333_080_000),
        }
        .render()
    }

    // SIG-02
    #[test]
    fn a_received_field_names_peer_protocol_and_id() {
        assert_eq!(
            received("app.example.net"),
            "Received: from app.example.net ([192.0.2.7])\r\n\tby relay.example.net with ESMTPSA \
             id 070w3ge1r70w3ge1r70w3ge1r7\r\n\t(using TLSv1.3 TLS13_AES_256_GCM_SHA384)\r\n\tfor <bob@example.org>;\r\n\t\
             Sun, 22 Nov 2026 07:38:00 +0000\r\n"
        );
    }

    // SIG-03, HS-087
    #[test]
    fn a_forged_helo_cannot_add_a_clause() {
        let line = received("a) by evil.example; Mon, 1 Jan 2024 00:00:00 +0000 (x");
        assert!(line.starts_with("Received: from unknown ("), "{line}");
        assert_eq!(line.matches(" by ").count() + line.matches("\tby ").count(), 1, "{line}");
        assert!(received("[127.0.0.1]").starts_with("Received: from [127.0.0.1] ("));
        assert!(received("[IPv6:::1]").starts_with("Received: from [IPv6:::1] ("));
        assert!(received("[127.0.0.1\r\nX: y]").starts_with("Received: from unknown ("));
    }
}
