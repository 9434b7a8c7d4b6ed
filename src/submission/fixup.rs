//! Header fix-up: placeholder with the agreed signatures; it only puts the Received field on top.

use crate::clock::Timestamp;
use crate::mail::{Domain, EnhancedCode, Mailbox, ReversePath};

/// What a fix-up needs to know.
pub struct FixupContext<'a> {
    /// Our name.
    pub hostname: &'a Domain,
    /// The envelope sender.
    pub reverse_path: &'a ReversePath,
    /// After AUTH.
    pub authenticated: bool,
    /// Empty: any.
    pub allowed_senders: &'a [SenderRule],
    /// MAIL carried SMTPUTF8.
    pub smtputf8_declared: bool,
    /// Time of arrival.
    pub now: Timestamp,
    /// For the Message-ID.
    pub random: u128,
    /// Our Received field, CRLF-terminated.
    pub received: &'a str,
}

/// Whom a user may send as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderRule {
    /// `@example.net`.
    Domain(Domain),
    /// `a@example.net`.
    Address(Mailbox),
}

impl SenderRule {
    /// Reads a rule.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).ok().map(Self::Domain),
            None => Mailbox::parse(text).ok().map(Self::Address),
        }
    }

    /// Whether the rule covers `mailbox`.
    pub fn permits(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Domain(d) => d == mailbox.domain(),
            Self::Address(a) => a == mailbox,
        }
    }
}

/// A header section fit to send.
pub struct FixedHeader {
    /// Header section with the empty line.
    pub bytes: Vec<u8>,
    /// The Message-ID.
    pub message_id: String,
    /// RFC 6531.
    pub needs_smtputf8: bool,
    /// Received fields.
    pub received_count: usize,
    /// Received fields by us.
    pub received_by_us: usize,
}

/// Why a message is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Reply code.
    pub code: u16,
    /// Enhanced code.
    pub enhanced: EnhancedCode,
    /// Text.
    pub text: String,
}

/// Fixes a header section.
///
/// # Errors
/// [`Refused`].
pub fn fix_header(header_section: &[u8], ctx: &FixupContext<'_>) -> Result<FixedHeader, Refused> {
    let received_count =
        header_section.split(|b| *b == b'\n').filter(|l| l.starts_with(b"Received:")).count();
    let mut bytes = ctx.received.as_bytes().to_vec();
    bytes.extend_from_slice(header_section);
    if !header_section.ends_with(b"\r\n\r\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    let message_id = format!("<{:x}@{}>", ctx.random, ctx.hostname);
    Ok(FixedHeader { bytes, message_id, needs_smtputf8: false, received_count, received_by_us: 0 })
}

/// Re-encodes long lines.
///
/// # Errors
/// [`Refused`].
pub fn reencode_long_lines(message: &[u8]) -> Result<Vec<u8>, Refused> {
    Ok(message.to_vec())
}
