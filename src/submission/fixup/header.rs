//! [`fix_header`]: one pass over the header section of a submission.

use super::{
    FixedHeader, FixupContext, MAX_FIELDS, MAX_HEADER, Refused, TlsRequired,
    encode::encode_field,
    from::{check_senders, parse_mailboxes},
};
use crate::mail::{Mailbox, reply::sanitise};

/// Checks and completes a header section: the octets up to and including the empty line, or the whole
/// content when there is no empty line (then exactly one is added).
///
/// # Errors
/// [`Refused`]: 554 5.6.0 for what is not one well-formed header section (SIG-05, SIG-11, LIM-06), 550 5.7.1
/// for an author who is not the client's (SUB-25), 550 5.6.7 or 5.6.9 for text that needs SMTPUTF8 (SIG-17).
pub fn fix_header(header_section: &[u8], ctx: &FixupContext<'_>) -> Result<FixedHeader, Refused> {
    if header_section.len() > MAX_HEADER {
        return Err(Refused::malformed("the header section is too large"));
    }
    let text = std::str::from_utf8(header_section)
        .map_err(|_| Refused::malformed("the header section is not valid UTF-8"))?;
    if header_section.contains(&0) {
        return Err(Refused::malformed("the header section has a NUL"));
    }
    let mut pass = Pass {
        ctx,
        out: Vec::with_capacity(text.len() + ctx.received.len() + 256),
        seen: 0,
        fields: 0,
        authors: 0,
        message_id: String::new(),
        needs_smtputf8: false,
        received_count: 0,
        received_by_us: 0,
        tls_required: TlsRequired::Absent,
    };
    pass.out.extend_from_slice(ctx.received.as_bytes());
    let mut rest = text;
    while let Some(field) = next_field(&mut rest)? {
        pass.field(&field)?;
    }
    pass.finish()
}

/// A field of the header section, folded as it came.
struct Field<'a> {
    name: &'a str,
    /// What follows the colon, up to and without the last CRLF.
    body: &'a str,
    /// All of it, with the last CRLF; only a missing one at the very end is missing here too.
    raw: &'a str,
    /// It has a continuation line of nothing but blanks.
    has_blank_line: bool,
}

/// Takes the next field off `rest`; `None` at the empty line or the end.
fn next_field<'a>(rest: &mut &'a str) -> Result<Option<Field<'a>>, Refused> {
    let start = *rest;
    let mut lines = start.split_inclusive('\n');
    let Some(first) = lines.next() else { return Ok(None) };
    if first == "\r\n" {
        return Ok(None);
    }
    let bad_line = || Refused::malformed("the header section has a line that is not a header field");
    let line = content(first).ok_or_else(bad_line)?;
    let (name, _) = line.split_once(':').ok_or_else(bad_line)?;
    let body_at = name.len() + 1;
    // RFC 5322 §4.5: blanks before the colon are obsolete and mean nothing; elsewhere they end the name.
    let name = name.trim_end_matches([' ', '\t']);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(bad_line());
    }
    let (mut len, mut end, mut has_blank_line) = (first.len(), line.len(), false);
    for next in lines.take_while(|l| l.starts_with([' ', '\t'])) {
        let line = content(next).ok_or_else(bad_line)?;
        has_blank_line |= is_blank(line);
        end = len + line.len();
        len += next.len();
    }
    let (raw, tail) = start.split_at_checked(len).unwrap_or((start, ""));
    *rest = tail;
    let body = start.get(body_at..end).unwrap_or("");
    Ok(Some(Field { name, body, raw, has_blank_line }))
}

/// A line without its CRLF; `None` for a CR or LF anywhere else.
fn content(line: &str) -> Option<&str> {
    let line = line.strip_suffix("\r\n").unwrap_or(line);
    (!line.contains(['\r', '\n'])).then_some(line)
}

/// Whether some reader could take the line for the end of the header section.
fn is_blank(line: &str) -> bool {
    line.bytes().all(|b| b <= b' ')
}

struct Pass<'a> {
    ctx: &'a FixupContext<'a>,
    out: Vec<u8>,
    /// Bit `i` for `SINGLE[i]`.
    seen: u32,
    fields: usize,
    authors: usize,
    message_id: String,
    needs_smtputf8: bool,
    received_count: usize,
    received_by_us: usize,
    tls_required: TlsRequired,
}

/// Fields that a header section has at most once (RFC 5322 §3.6, RFC 2045 §3, RFC 2183). A second one lets
/// two readers see two messages, and is how signed mail is forged (RFC 6376 §8.15).
const SINGLE: [&str; 16] = [
    "From",
    "Sender",
    "Date",
    "Message-ID",
    "Reply-To",
    "To",
    "Cc",
    "In-Reply-To",
    "References",
    "Subject",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "Content-ID",
    "Content-Description",
    "Content-Disposition",
];

const FROM: u32 = 1 << 0;
const SENDER: u32 = 1 << 1;
const DATE: u32 = 1 << 2;
const MESSAGE_ID: u32 = 1 << 3;

/// Fields for which no recipient is to be told (RFC 5322 §3.6.3), and the one that only a final delivery
/// may write (RFC 5321 §4.4).
const STRIPPED: [&str; 3] = ["Bcc", "Resent-Bcc", "Return-Path"];

impl Pass<'_> {
    fn field(&mut self, field: &Field<'_>) -> Result<(), Refused> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Refused::malformed("the header section has too many fields"));
        }
        if STRIPPED.iter().any(|n| n.eq_ignore_ascii_case(field.name)) {
            return Ok(());
        }
        if let Some(i) = SINGLE.iter().position(|n| n.eq_ignore_ascii_case(field.name)) {
            let bit = 1 << i;
            if self.seen & bit != 0 {
                return Err(Refused::malformed(format!("the {} field occurs twice", field.name)));
            }
            self.seen |= bit;
            self.single(bit, field)?;
        } else if field.name.eq_ignore_ascii_case("Received") {
            self.received_count += 1;
            self.received_by_us += usize::from(names_us(field.body, self.ctx.hostname.as_str()));
        } else if field.name.eq_ignore_ascii_case("TLS-Required") {
            self.tls_required = match (self.tls_required, says_no(field.body)) {
                (TlsRequired::Absent | TlsRequired::No, true) => TlsRequired::No,
                _ => TlsRequired::Malformed,
            };
        }
        self.write(field)
    }

    /// The checks of a field that occurs once.
    fn single(&mut self, bit: u32, field: &Field<'_>) -> Result<(), Refused> {
        match bit {
            FROM => {
                let list = parse_mailboxes(field.body, "From")?;
                check_senders(&list, self.ctx.allowed_senders, "From")?;
                self.authors = list.len();
            }
            SENDER => {
                let list = parse_mailboxes(field.body, "Sender")?;
                if list.len() != 1 {
                    return Err(Refused::malformed("the Sender field has more than one address"));
                }
                check_senders(&list, self.ctx.allowed_senders, "Sender")?;
            }
            MESSAGE_ID => self.message_id = sanitise(field.body),
            _ => {}
        }
        Ok(())
    }

    fn write(&mut self, field: &Field<'_>) -> Result<(), Refused> {
        if !field.raw.is_ascii() {
            if !self.ctx.smtputf8_declared {
                return encode_field(field.name, field.body, &mut self.out);
            }
            self.needs_smtputf8 = true;
        }
        // Verifiers do not find a signed field with blanks before its colon, and nobody may generate one (RFC 5322 §4).
        let raw = field.raw.get(field.name.len()..).unwrap_or_default().trim_start_matches([' ', '\t']);
        self.out.extend_from_slice(field.name.as_bytes());
        if field.has_blank_line {
            // The first line has its colon, so it is never blank.
            for line in raw.split_inclusive('\n').filter(|l| !is_blank(l)) {
                self.out.extend_from_slice(line.as_bytes());
            }
        } else {
            self.out.extend_from_slice(raw.as_bytes());
        }
        if !self.out.ends_with(b"\r\n") {
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Adds what is missing and the empty line.
    fn finish(mut self) -> Result<FixedHeader, Refused> {
        if self.fields == 0 {
            return Err(Refused::malformed("the message has no header section"));
        }
        if self.authors > 1 && self.seen & SENDER == 0 {
            // RFC 5322 §3.6.2: with several authors, Sender says who sent it.
            return Err(Refused::malformed("several addresses in the From field need a Sender field"));
        }
        if self.seen & FROM == 0 {
            self.add_from()?;
        }
        if self.seen & DATE == 0 {
            self.add("Date", &self.ctx.now.to_rfc5322());
        }
        if self.seen & MESSAGE_ID == 0 {
            let domain = self.ctx.reverse_path.mailbox().map_or(self.ctx.hostname, Mailbox::domain);
            self.message_id = format!("<{:032x}@{domain}>", self.ctx.random);
            self.add("Message-ID", &self.message_id.clone());
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(FixedHeader {
            bytes: self.out,
            message_id: self.message_id,
            needs_smtputf8: self.needs_smtputf8,
            received_count: self.received_count,
            received_by_us: self.received_by_us,
            tls_required: self.tls_required,
        })
    }

    /// RFC 6409 §8.1: the envelope sender of a client that we know is a fit author.
    fn add_from(&mut self) -> Result<(), Refused> {
        let Some(author) = self.ctx.reverse_path.mailbox().filter(|_| self.ctx.authenticated) else {
            return Err(Refused::malformed("the message has no From field"));
        };
        let list = parse_mailboxes(&author.to_string(), "From")?;
        check_senders(&list, self.ctx.allowed_senders, "From")?;
        if author.needs_smtputf8() {
            if !self.ctx.smtputf8_declared {
                return Err(Refused::needs_smtputf8(7, "From"));
            }
            self.needs_smtputf8 = true;
        }
        self.add("From", &format!("<{author}>"));
        Ok(())
    }

    fn add(&mut self, name: &str, body: &str) {
        self.out.extend_from_slice(format!("{name}: {body}\r\n").as_bytes());
    }
}

/// RFC 8689 §3: `[FWS] "No"`, and nothing else, comments neither (RTLS-06).
fn says_no(body: &str) -> bool {
    body.trim_start_matches([' ', '\t', '\r', '\n']).eq_ignore_ascii_case("no")
}

/// Whether the `by` clause of a Received field names `hostname` (LIM-30).
fn names_us(body: &str, hostname: &str) -> bool {
    let mut words = body.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty());
    words.any(|w| w.eq_ignore_ascii_case("by"))
        && words.next().is_some_and(|by| by.trim_end_matches([';', '.']).eq_ignore_ascii_case(hostname))
}

#[cfg(test)]
mod tests;
