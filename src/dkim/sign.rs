//! DKIM-Signature fields (RFC 6376 §3.5, §5).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canonical::{BodyHash, relaxed_field};
use super::key::SigningKey;
use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::submission::fixup;

/// Fields that are signed wherever they occur (SIG-10, RPT-81), beside those of [`SIGNED_FAMILIES`].
const SIGNED: [&str; 14] = [
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Auto-Submitted",
    "TLS-Required",
    "TLS-Report-Domain",
    "TLS-Report-Submitter",
];

/// Beginnings of names whose fields are signed too.
const SIGNED_FAMILIES: [&str; 3] = ["MIME-", "Content-", "List-"];

/// Fields named once more than they occur, so that a second one breaks the signature (SIG-11, RFC 6376 §8.15). Not
/// the fields that mailing lists add.
const SEALED: [&str; 6] = ["From", "To", "Subject", "Date", "Content-Type", "MIME-Version"];

/// Longer names than this are not signed: they would not fit a folded line, and nobody reads them.
const MAX_NAME: usize = 60;

/// The columns that a folded line aims at (RFC 5322 §2.1.1).
const COLUMNS: usize = 76;

/// The keys of this relay. Cloning is cheap; the default has none, and signs nothing.
#[derive(Debug, Clone, Default)]
pub struct Signers {
    keys: Arc<[SigningKey]>,
    validity: Option<Duration>,
}

impl Signers {
    /// All keys, in the order in which their signatures stand. Signatures do not expire.
    pub fn new(keys: Vec<SigningKey>) -> Self {
        Self { keys: keys.into(), validity: None }
    }

    /// Signatures say in `x=` that they expire after this span (SIG-10: the longest lifetime in the queue, and two days).
    pub fn valid_for(self, validity: Duration) -> Self {
        Self { validity: Some(validity), ..self }
    }

    /// The keys.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// Whether mail from this domain is signed, by it or by a parent (SIG-13).
    pub fn signs_for(&self, from: &Domain) -> bool {
        self.keys.iter().any(|k| from.is_at_or_below(k.domain()))
    }

    /// Whether mail from this domain is signed by the domain itself (RPT-80).
    pub fn signs_exactly(&self, from: &Domain) -> bool {
        self.keys.iter().any(|k| from == k.domain())
    }

    /// The DKIM-Signature fields to put on top of a message; empty without a key for the domain of its From field.
    pub fn sign(&self, message: &[u8], now: Timestamp) -> Vec<u8> {
        let end = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(message.len(), |i| i + 4);
        let (header, body) = message.split_at_checked(end).unwrap_or((message, b""));
        let Some(mut signing) = self.start(header) else { return Vec::new() };
        signing.body(body);
        signing.finish(now)
    }

    /// Begins to sign a message of which the header section is at hand, its empty line included or not; `None`
    /// without a key for the domain of its From field.
    pub fn start<'a>(&'a self, header: &'a [u8]) -> Option<Signing<'a>> {
        let fields = fields(header);
        let from = fields.iter().find(|f| f.name.eq_ignore_ascii_case("From"))?;
        let authors = fixup::author_domains(std::str::from_utf8(from.body).ok()?);
        // The closest domain of the first author for whom there is one.
        let domain = authors.iter().find_map(|author| {
            let above = self.keys.iter().map(SigningKey::domain).filter(|d| author.is_at_or_below(d));
            above.max_by_key(|d| d.as_str().len())
        })?;
        Some(Signing { signers: self, domain, header: SignedHeader::of(&fields), body: BodyHash::default() })
    }
}

/// A signature in the making.
pub struct Signing<'a> {
    signers: &'a Signers,
    domain: &'a Domain,
    header: SignedHeader,
    body: BodyHash,
}

impl<'a> Signing<'a> {
    /// The domain that signs.
    pub const fn domain(&self) -> &'a Domain {
        self.domain
    }

    /// Takes the next piece of the body.
    pub fn body(&mut self, piece: &[u8]) {
        self.body.update(piece);
    }

    /// The DKIM-Signature fields, one for each key of the domain.
    pub fn finish(self, now: Timestamp) -> Vec<u8> {
        let body_hash = STANDARD.encode(self.body.finish());
        let mut out = Vec::new();
        for key in self.signers.keys.iter().filter(|k| k.domain() == self.domain) {
            let mut tags = vec![
                "v=1;".to_owned(),
                format!("a={};", key.algorithm().signature()),
                "c=relaxed/relaxed;".to_owned(),
                format!("d={};", self.domain),
                format!("s={};", key.selector()),
                format!("t={};", now.as_secs()),
            ];
            if let Some(validity) = self.signers.validity {
                tags.push(format!("x={};", now.after(validity).as_secs()));
            }
            tags.push(format!("bh={body_hash};"));
            let unsigned = render(&tags, &self.header.names, "");
            let mut input = self.header.canonical.clone();
            let value = unsigned.strip_prefix(FIELD).and_then(|v| v.strip_prefix(':')).unwrap_or_default();
            relaxed_field(FIELD, value.trim_end().as_bytes(), &mut input);
            if let Some(signature) = key.sign(&input) {
                out.extend_from_slice(
                    render(&tags, &self.header.names, &STANDARD.encode(signature)).as_bytes(),
                );
            }
        }
        out
    }
}

const FIELD: &str = "DKIM-Signature";

/// Writes the field, folded. Whatever the value of `b=`, the rest stays the same in relaxed form.
fn render(tags: &[String], names: &[String], b: &str) -> String {
    let mut lines = Lines { out: format!("{FIELD}:"), column: FIELD.len() + 1 };
    for tag in tags {
        lines.word(tag);
    }
    // Names are parted by colons, at which the list may be folded.
    for (i, name) in names.iter().enumerate() {
        let end = if i + 1 == names.len() { ';' } else { ':' };
        if i == 0 { lines.word(&format!("h={name}{end}")) } else { lines.glued(&format!("{name}{end}")) }
    }
    lines.word("b=");
    let mut rest = b;
    while !rest.is_empty() {
        if lines.column >= COLUMNS {
            lines.fold();
        }
        let (piece, tail) = rest.split_at_checked(COLUMNS - lines.column).unwrap_or((rest, ""));
        lines.put(piece);
        rest = tail;
    }
    lines.out.push_str("\r\n");
    lines.out
}

/// Text in lines of at most [`COLUMNS`], but for words that are longer.
struct Lines {
    out: String,
    column: usize,
}

impl Lines {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
        self.column += text.len();
    }

    fn fold(&mut self) {
        self.out.push_str("\r\n\t");
        self.column = 1;
    }

    /// A word with a blank or a fold before it.
    fn word(&mut self, text: &str) {
        if self.column + 1 + text.len() > COLUMNS {
            self.fold()
        } else {
            self.put(" ")
        }
        self.put(text);
    }

    /// Text with nothing or a fold before it.
    fn glued(&mut self, text: &str) {
        if self.column + text.len() > COLUMNS {
            self.fold();
        }
        self.put(text);
    }
}

/// What a signature says of the header section.
struct SignedHeader {
    /// `h=`, in the order of `canonical`.
    names: Vec<String>,
    /// The signed fields in relaxed form, each with its line end.
    canonical: Vec<u8>,
}

impl SignedHeader {
    /// Fields are taken from the bottom up, as verifiers look for them (RFC 6376 §5.4.2).
    fn of(fields: &[Field<'_>]) -> Self {
        let (mut names, mut canonical) = (Vec::new(), Vec::new());
        for field in fields.iter().rev().filter(|f| f.is_signed()) {
            names.push(field.name.to_owned());
            relaxed_field(field.name, field.body, &mut canonical);
            canonical.extend_from_slice(b"\r\n");
        }
        names.extend(SEALED.map(str::to_owned));
        Self { names, canonical }
    }
}

/// A field as it stands in the header section.
struct Field<'a> {
    /// Without the blanks that may stand before the colon (RFC 5322 §4.5).
    name: &'a str,
    /// From the colon to the end of the last line.
    body: &'a [u8],
}

impl Field<'_> {
    fn is_signed(&self) -> bool {
        // A name with anything else in it, a semicolon say, could not be told from the tags around it.
        let plain =
            self.name.len() <= MAX_NAME && self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let family = |f: &str| self.name.get(..f.len()).is_some_and(|n| n.eq_ignore_ascii_case(f));
        plain
            && (SIGNED.iter().any(|n| n.eq_ignore_ascii_case(self.name))
                || SIGNED_FAMILIES.iter().any(|f| family(f)))
    }
}

/// The fields of a header section that is well-formed; what is not a field is left out.
fn fields(header: &[u8]) -> Vec<Field<'_>> {
    let mut out = Vec::new();
    let mut rest = header;
    while !rest.is_empty() && !rest.starts_with(b"\r\n") {
        let (field, tail) = rest.split_at_checked(field_len(rest)).unwrap_or((rest, b""));
        rest = tail;
        let Some(colon) = field.iter().position(|b| *b == b':') else { continue };
        let (name, body) = field.split_at_checked(colon).unwrap_or_default();
        if let Ok(name) = std::str::from_utf8(name) {
            out.push(Field {
                name: name.trim_end_matches([' ', '\t']),
                body: body.get(1..).unwrap_or_default(),
            });
        }
    }
    out
}

/// The octets of the first field, its continuation lines included.
fn field_len(header: &[u8]) -> usize {
    let mut len = 0;
    loop {
        let Some(line) = header.get(len..).filter(|l| !l.is_empty()) else { return len };
        if len > 0 && !matches!(line.first(), Some(b' ' | b'\t')) {
            return len;
        }
        len += line.iter().position(|b| *b == b'\n').map_or(line.len(), |i| i + 1);
    }
}
