//! TLS reports that others sent: JSON, gzip, whole messages, mailboxes.
//!
//! What is read here comes from strangers. Size, expansion, nesting and number are bounded; a fault spoils the one
//! report that has it.

use std::borrow::Cow;
use std::io::Read as _;

use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};
use flate2::read::MultiGzDecoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{ContentType, Message, MessageParser, MimeHeaders};

use super::day::Day;
use super::report::Body;
use crate::clock::Timestamp;

mod json;

/// The most octets of one input, a file as a rule.
pub const MAX_INPUT: usize = 50 << 20;

/// The most octets that all gzip members of one input may become.
pub const MAX_EXPANDED: usize = 100 << 20;

/// The most messages of a mailbox, and the most reports of one input.
pub const MAX_MESSAGES: usize = 100_000;

/// How deep gzip, messages and attachments may lie in each other.
const MAX_DEPTH: u8 = 10;

/// The most octets of a header section that are looked at.
const MAX_HEADER: usize = 64 << 10;

/// The most objects, and the most commas between members and elements, in the JSON of one input: what they stand
/// for takes more memory than they do.
const MAX_OBJECTS: usize = 250_000;
const MAX_COMMAS: usize = 2_000_000;

/// A report, as it was meant.
pub type ReceivedReport = Body;

/// Why there is no report in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Neither JSON nor gzip nor a message.
    #[error("neither JSON nor gzip nor a message")]
    Unknown,
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// A message, but no TLS report in it.
    #[error("a message without a TLS report")]
    NoReport,
    /// JSON, but no TLS report.
    #[error("JSON, but no TLS report: it has no \"policies\"")]
    OtherJson,
    /// What should be JSON is not, or not of that shape.
    #[error("not the JSON of a TLS report: {0}")]
    Json(String),
    /// gzip that ends early or does not hold what its checksum says.
    #[error("damaged gzip: {0}")]
    Gzip(String),
    /// A bound of this reader.
    #[error("too large: {0}")]
    TooLarge(String),
}

/// Reads whatever it is. One element per report found, or per message of a mailbox that held none; never empty.
pub fn read(octets: &[u8]) -> Vec<Result<ReceivedReport, ReadError>> {
    let mut reader =
        Reader { parser: MessageParser::new(), expanded: 0, objects: 0, commas: 0, found: Vec::new() };
    if octets.len() > MAX_INPUT {
        reader.fault(ReadError::TooLarge(format!("more than {} MiB", MAX_INPUT >> 20)));
    } else {
        reader.any(octets, 0);
    }
    reader.found
}

/// The UTC day that a report is about; `None` when its date-range cannot be read.
pub fn day(report: &ReceivedReport) -> Option<Day> {
    let start = report.date_range.start_datetime.as_str();
    match Timestamp::parse_rfc3339(start) {
        Some(at) => Some(Day::of(at)),
        // Without an offset, or with a blank for the T.
        None => start.get(..10)?.parse().ok(),
    }
}

struct Reader {
    parser: MessageParser,
    expanded: usize,
    objects: usize,
    commas: usize,
    found: Vec<Result<ReceivedReport, ReadError>>,
}

impl Reader {
    fn fault(&mut self, why: ReadError) {
        self.found.push(Err(why));
    }

    fn any(&mut self, octets: &[u8], depth: u8) {
        if depth > MAX_DEPTH {
            return self.fault(ReadError::TooLarge("nested too deeply".to_owned()));
        }
        if self.found.len() >= MAX_MESSAGES {
            return;
        }
        // RFC 8259 §8.1: a byte order mark may be ignored.
        let text = octets.strip_prefix(b"\xef\xbb\xbf").unwrap_or(octets).trim_ascii_start();
        match text.first() {
            None => self.fault(ReadError::Empty),
            Some(b'{') => self.json(text),
            Some(b'[') => self.json_array(text),
            Some(0x1f) if text.starts_with(b"\x1f\x8b") => match self.gunzip(text) {
                Ok(plain) => self.any(&plain, depth + 1),
                Err(why) => self.fault(why),
            },
            Some(_) if text.starts_with(b"From ") => self.mailbox(text, depth),
            Some(_) if is_header(text) => self.message(text, depth),
            Some(_) => self.fault(ReadError::Unknown),
        }
    }

    fn json(&mut self, text: &[u8]) {
        let found = self.count(text).and_then(|()| match json::body(text) {
            Ok(Some(report)) => Ok(report),
            Ok(None) => Err(ReadError::OtherJson),
            Err(e) => Err(ReadError::Json(e.to_string())),
        });
        self.found.push(found);
    }

    /// An array of reports, as `report preview` prints it.
    fn json_array(&mut self, text: &[u8]) {
        if let Err(why) = self.count(text) {
            return self.fault(why);
        }
        match serde_json::from_slice::<Vec<&serde_json::value::RawValue>>(text) {
            Ok(list) if list.is_empty() => self.fault(ReadError::OtherJson),
            Ok(list) => {
                for report in list {
                    match json::body(report.get().as_bytes()) {
                        Ok(Some(report)) => self.found.push(Ok(report)),
                        Ok(None) => self.fault(ReadError::OtherJson),
                        Err(e) => self.fault(ReadError::Json(e.to_string())),
                    }
                }
            }
            Err(e) => self.fault(ReadError::Json(e.to_string())),
        }
    }

    /// Counts what will take memory, before it does.
    fn count(&mut self, text: &[u8]) -> Result<(), ReadError> {
        self.objects += text.iter().filter(|b| **b == b'{').count();
        self.commas += text.iter().filter(|b| **b == b',').count();
        if self.objects > MAX_OBJECTS || self.commas > MAX_COMMAS {
            return Err(ReadError::TooLarge("too many rows".to_owned()));
        }
        Ok(())
    }

    fn gunzip(&mut self, octets: &[u8]) -> Result<Vec<u8>, ReadError> {
        let room = MAX_EXPANDED.saturating_sub(self.expanded);
        let mut plain = Vec::new();
        let limit = u64::try_from(room).unwrap_or(0).saturating_add(1);
        let read = MultiGzDecoder::new(octets).take(limit).read_to_end(&mut plain);
        self.expanded = self.expanded.saturating_add(plain.len());
        if plain.len() > room {
            return Err(ReadError::TooLarge(format!("gzip of more than {} MiB", MAX_EXPANDED >> 20)));
        }
        match read {
            Ok(_) => Ok(plain),
            Err(e) => Err(ReadError::Gzip(e.to_string())),
        }
    }

    /// RFC 4155: messages, each after a line that begins `From `, follows an empty line and has a header after it;
    /// not every writer escapes the `From ` of a text.
    fn mailbox(&mut self, text: &[u8], depth: u8) {
        let mut message = 0;
        let mut after_blank = true;
        let mut at = 0;
        let mut count = 0;
        for line in text.split_inclusive(|b| *b == b'\n') {
            let next = text.get(at + line.len()..).unwrap_or_default();
            if after_blank && line.starts_with(b"From ") && is_header(next) {
                if at > 0 {
                    self.message(text.get(message..at).unwrap_or_default(), depth);
                }
                message = at + line.len();
                count += 1;
                if count > MAX_MESSAGES {
                    return self.fault(ReadError::TooLarge(format!("more than {MAX_MESSAGES} messages")));
                }
            }
            after_blank = line.trim_ascii().is_empty();
            at += line.len();
        }
        self.message(text.get(message..).unwrap_or_default(), depth);
    }

    fn message(&mut self, octets: &[u8], depth: u8) {
        let before = self.found.len();
        self.part(octets, depth);
        if self.found.len() == before {
            self.fault(ReadError::NoReport);
        }
    }

    /// A message or a part of one. Parts that lie too deep are passed over, as other mail is.
    ///
    /// The parser reads headers only: it would follow messages in messages as far as they go.
    fn part(&mut self, octets: &[u8], depth: u8) {
        if depth > MAX_DEPTH {
            return;
        }
        let (header, body) = split_header(octets);
        let header = header.get(..MAX_HEADER).unwrap_or(header);
        let Some(part) = self.parser.parse_headers(header) else { return };
        let media = media(&part);
        let boundary = part.content_type().and_then(|t| t.attribute("boundary"));
        match (media.as_str(), boundary) {
            (multipart, Some(boundary)) if multipart.starts_with("multipart/") => {
                for piece in pieces(body, boundary.as_bytes()) {
                    self.part(piece, depth + 1);
                }
            }
            ("message/rfc822" | "message/global", _) => {
                let message = decoded(&part, body);
                self.part(message.trim_ascii_start(), depth + 1);
            }
            (media, _) if may_hold_report(media, part.attachment_name()) => {
                self.any(&decoded(&part, body), depth + 1);
            }
            _ => {}
        }
    }
}

/// A header section with its empty line, and what follows.
fn split_header(octets: &[u8]) -> (&[u8], &[u8]) {
    let mut at = 0;
    for line in octets.split_inclusive(|b| *b == b'\n') {
        at += line.len();
        if matches!(line, b"\n" | b"\r\n") {
            break;
        }
    }
    octets.split_at_checked(at).unwrap_or((octets, b""))
}

/// `type/subtype` in lower case; empty when there is none.
fn media(part: &Message<'_>) -> String {
    let of = |t: &ContentType<'_>| format!("{}/{}", t.c_type, t.c_subtype.as_deref().unwrap_or_default());
    part.content_type().map(of).unwrap_or_default().to_ascii_lowercase()
}

/// What lies between the delimiters of a multipart (RFC 2046 §5.1.1); the last one may be missing.
fn pieces<'a>(body: &'a [u8], boundary: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let (mut at, mut begin) = (0, None);
    for line in body.split_inclusive(|b| *b == b'\n') {
        let delimiter =
            line.strip_prefix(b"--").and_then(|l| l.strip_prefix(boundary)).map(<[u8]>::trim_ascii_end);
        if matches!(delimiter, Some(b"" | b"--")) {
            pieces.extend(begin.and_then(|begin| body.get(begin..at)).map(without_line_end));
            begin = Some(at + line.len());
            if delimiter == Some(b"--") || pieces.len() == MAX_MESSAGES {
                return pieces;
            }
        }
        at += line.len();
    }
    pieces.extend(begin.and_then(|begin| body.get(begin..)));
    pieces
}

/// The line end before a delimiter belongs to the delimiter.
fn without_line_end(piece: &[u8]) -> &[u8] {
    let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
    piece.strip_suffix(b"\r").unwrap_or(piece)
}

/// A body without its transfer encoding (RFC 2045 §6). What is no base64 among base64 is passed over (§6.8).
fn decoded<'a>(part: &Message<'_>, body: &'a [u8]) -> Cow<'a, [u8]> {
    let encoding = part.content_transfer_encoding().map(|e| e.trim().to_ascii_lowercase());
    match encoding.as_deref() {
        Some("base64") => {
            let of_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
            let mut digits: Vec<u8> =
                body.iter().take_while(|b| **b != b'=').copied().filter(of_base64).collect();
            if digits.len() % 4 == 1 {
                digits.pop();
            }
            LENIENT.decode(digits).unwrap_or_default().into()
        }
        Some("quoted-printable") => quoted_printable_decode(body).unwrap_or_default().into(),
        _ => body.into(),
    }
}

/// Base64 without padding, whatever the bits that pad it.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Whether the type or the file name of an attachment announces a TLS report. DMARC reports arrive as gzip too.
fn may_hold_report(media: &str, name: Option<&str>) -> bool {
    let named = name.map(|n| n.trim().to_ascii_lowercase());
    let by_name = named.map(|n| n.ends_with(".json") || n.ends_with(".json.gz"));
    match media {
        "application/tlsrpt+gzip" | "application/tlsrpt+json" => true,
        "application/gzip" | "application/x-gzip" | "application/json" => by_name.unwrap_or(true),
        _ => by_name.unwrap_or(false),
    }
}

/// Whether the first line is a header field (RFC 5322 §2.2).
fn is_header(text: &[u8]) -> bool {
    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
    let colon = line.iter().position(|b| *b == b':').unwrap_or(0);
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    (1..=100).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests;
