//! Fix-up: what a header section must look like before the relay vouches for it (RFC 6409 §8).
//!
//! [`fix_header`] runs for every message, once, over the header section alone. It puts our Received field on
//! top, adds a missing Date, Message-ID or From, takes out what recipients must not see, and refuses what
//! two readers could read in two ways. Fields that need no change keep their octets and their order.
//!
//! [`reencode_long_lines`] is the exception path, for messages with a line over 998 octets.
//!
//! Nothing here is stored; a [`Refused`] is the reply to the end of data.

mod encode;
mod from;
mod header;
mod long_lines;

pub use from::{SenderRule, author_domains};
pub use header::fix_header;
pub use long_lines::reencode_long_lines;

use crate::clock::Timestamp;
use crate::mail::{Domain, EnhancedCode, ReversePath};

/// The most octets of a header section (LIM-06).
pub const MAX_HEADER: usize = 256 * 1024;

/// The most fields of a header section (LIM-06).
pub const MAX_FIELDS: usize = 1000;

/// The most octets of a line without its CRLF (RFC 5322 §2.1.1).
pub const MAX_LINE: usize = 998;

/// What fix-up needs to know about the transaction.
#[derive(Debug, Clone, Copy)]
pub struct FixupContext<'a> {
    /// Our host name.
    pub hostname: &'a Domain,
    /// The envelope sender.
    pub reverse_path: &'a ReversePath,
    /// Whether the client proved who it is, so that its envelope sender may become the author.
    pub authenticated: bool,
    /// Who the client may write as; empty: anybody.
    pub allowed_senders: &'a [SenderRule],
    /// MAIL carried SMTPUTF8.
    pub smtputf8_declared: bool,
    /// For a missing Date field.
    pub now: Timestamp,
    /// For a missing Message-ID field.
    pub random: u128,
    /// Our Received field, folded, ending in CRLF.
    pub received: &'a str,
}

/// A header section that is fit to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedHeader {
    /// All fields and the empty line after them.
    pub bytes: Vec<u8>,
    /// The Message-ID, for people: printable ASCII, at most 1 KiB.
    pub message_id: String,
    /// The header has octets that only SMTPUTF8 can carry (RFC 6531 §3.5).
    pub needs_smtputf8: bool,
    /// What the TLS-Required fields say (RFC 8689 §3).
    pub tls_required: TlsRequired,
    /// Received fields that the message came with; ours on top is not counted (LIM-30).
    pub received_count: usize,
    /// Those among them whose `by` clause names us.
    pub received_by_us: usize,
}

/// What the TLS-Required fields of a header section come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsRequired {
    /// There is none.
    #[default]
    Absent,
    /// `No`, by all of them (RTLS-07).
    No,
    /// Something that RFC 8689 does not define: of no effect.
    Malformed,
}

/// The reply that a message gets instead of a place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// 550 or 554.
    pub code: u16,
    /// 5.6.0, 5.6.7, 5.6.9 or 5.7.1.
    pub enhanced: EnhancedCode,
    /// For the submitter: one line of printable ASCII.
    pub text: String,
}

impl Refused {
    /// 554 5.6.0: the content is not a message.
    fn malformed(text: impl Into<String>) -> Self {
        Self { code: 554, enhanced: EnhancedCode::new(5, 6, 0), text: text.into() }
    }

    /// 550 5.7.1: the client may not write as this author.
    fn not_permitted(text: impl Into<String>) -> Self {
        Self { code: 550, enhanced: EnhancedCode::new(5, 7, 1), text: text.into() }
    }

    /// 550 5.6.7 or 5.6.9: the header has what only SMTPUTF8 can carry, and MAIL did not say so (RFC 6531 §3.5).
    fn needs_smtputf8(detail: u16, field: &str) -> Self {
        Self {
            code: 550,
            enhanced: EnhancedCode::new(5, 6, detail),
            text: format!("the {field} field has non-ASCII characters that need SMTPUTF8"),
        }
    }
}
