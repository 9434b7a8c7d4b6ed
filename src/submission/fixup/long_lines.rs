//! Lines over 998 octets (RFC 5322 §2.1.1): MIME leaves become quoted-printable, header lines are refolded.
//!
//! One pass over the message with a stack of open boundaries; what the parts decode to stays the same
//! (SIG-18, OUT-55).

use mail_builder::encoders::QuotedPrintableEncoder;
use mail_parser::{MessageParser, MimeHeaders};

use super::{MAX_LINE, Refused};

/// The deepest nesting that is walked (LIM-06).
const MAX_DEPTH: usize = 100;

/// Octets of an encoded line (RFC 2045 §6.7, §6.8), the soft line break not counted.
const ENCODED_LINE: usize = 75;

/// Rewrites a whole message so that no line has more than 998 octets; a message without such a line comes
/// back as it is.
///
/// # Errors
/// 554 5.6.0 when that cannot be done without changing what the message says: no blank to fold a header
/// line at, a long line outside every leaf or under a signature (RFC 1847), an unknown encoding, or parts
/// nested deeper than 100.
pub fn reencode_long_lines(message: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut walk =
        Walk { rest: message, out: Vec::with_capacity(message.len() * 5 / 4), open: Vec::new(), depth: 0 };
    let mut next = Some(Next { top: true, default_message: false });
    while let Some(entity) = next {
        next = walk.entity(entity)?;
    }
    if lines(&walk.out).any(is_long) {
        return Err(too_long());
    }
    Ok(walk.out)
}

fn too_long() -> Refused {
    Refused::malformed("a line is longer than 998 octets and cannot be re-encoded")
}

/// What comes next on the walk.
struct Next {
    /// The message itself, whose MIME-Version may be missing.
    top: bool,
    /// RFC 2046 §5.1.5: parts of a digest are messages unless they say otherwise.
    default_message: bool,
}

struct Open {
    boundary: Vec<u8>,
    digest: bool,
    signed: bool,
    /// Nesting outside this multipart.
    depth: usize,
}

struct Walk<'a> {
    rest: &'a [u8],
    out: Vec<u8>,
    open: Vec<Open>,
    depth: usize,
}

enum Kind {
    Multipart(Open),
    Message,
    Leaf(Encoding),
}

enum Encoding {
    None,
    QuotedPrintable,
    Base64,
    Unknown,
}

impl<'a> Walk<'a> {
    /// Reads one entity up to where the next one begins; `None` at the end of the message.
    fn entity(&mut self, this: Next) -> Result<Option<Next>, Refused> {
        if self.depth > MAX_DEPTH {
            return Err(Refused::malformed("the parts of the message are nested too deeply"));
        }
        let header = self.take_header();
        match self.kind(header, this.default_message)? {
            Kind::Multipart(open) => {
                refold(header, &mut self.out)?;
                self.open.push(open);
                self.depth += 1;
                let preamble = self.take_body();
                self.copy(preamble)?;
            }
            Kind::Message => {
                refold(header, &mut self.out)?;
                self.depth += 1;
                return Ok(Some(Next { top: false, default_message: false }));
            }
            Kind::Leaf(encoding) => self.leaf(header, encoding, this.top)?,
        }
        self.delimiter()
    }

    fn leaf(&mut self, header: &[u8], encoding: Encoding, top: bool) -> Result<(), Refused> {
        let body = self.take_body();
        if !lines(body).any(is_long) {
            refold(header, &mut self.out)?;
            self.out.extend_from_slice(body);
            return Ok(());
        }
        if self.open.iter().any(|o| o.signed) {
            return Err(too_long());
        }
        // The CRLF before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
        let (body, line_end) = match body.strip_suffix(b"\r\n") {
            Some(body) if !self.rest.is_empty() => (body, &b"\r\n"[..]),
            _ => (body, &b""[..]),
        };
        match encoding {
            Encoding::None => {
                self.leaf_header(header, top)?;
                let encoded = QuotedPrintableEncoder::new().preserve_line_breaks().encode(body);
                self.out.extend_from_slice(&encoded.map_err(|_| too_long())?);
            }
            Encoding::QuotedPrintable => {
                refold(header, &mut self.out)?;
                break_quoted_printable(body, &mut self.out);
            }
            Encoding::Base64 => {
                refold(header, &mut self.out)?;
                break_base64(body, &mut self.out);
            }
            Encoding::Unknown => return Err(too_long()),
        }
        self.out.extend_from_slice(line_end);
        Ok(())
    }

    /// The header of a leaf that becomes quoted-printable.
    fn leaf_header(&mut self, header: &[u8], top: bool) -> Result<(), Refused> {
        let (fields, empty_line) = match header.strip_suffix(b"\r\n") {
            Some(fields) if fields.is_empty() || fields.ends_with(b"\r\n") => (fields, &b"\r\n"[..]),
            _ => (header, &b""[..]),
        };
        let mut kept = Vec::with_capacity(header.len() + 64);
        let (mut dropping, mut has_version) = (false, false);
        for line in lines(fields) {
            if !line.starts_with(b" ") && !line.starts_with(b"\t") {
                dropping = has_name(line, b"Content-Transfer-Encoding");
                has_version |= has_name(line, b"MIME-Version");
            }
            if !dropping {
                kept.extend_from_slice(line);
            }
        }
        if top && !has_version {
            kept.extend_from_slice(b"MIME-Version: 1.0\r\n");
        }
        kept.extend_from_slice(b"Content-Transfer-Encoding: quoted-printable\r\n");
        kept.extend_from_slice(empty_line);
        refold(&kept, &mut self.out)
    }

    /// After a body: closes what the delimiter line closes, and says whether an entity follows.
    fn delimiter(&mut self) -> Result<Option<Next>, Refused> {
        loop {
            let Some(line) = lines(self.rest).next() else { return Ok(None) };
            let Some((at, closing)) = self.matches(line) else { return Ok(None) };
            self.rest = self.rest.get(line.len()..).unwrap_or_default();
            self.out.extend_from_slice(line);
            self.open.truncate(at + 1);
            if let Some(open) = self.open.last() {
                self.depth = open.depth + 1;
                if !closing {
                    return Ok(Some(Next { top: false, default_message: open.digest }));
                }
                self.depth = open.depth;
            }
            self.open.pop();
            let epilogue = self.take_body();
            self.copy(epilogue)?;
        }
    }

    fn copy(&mut self, text: &[u8]) -> Result<(), Refused> {
        if lines(text).any(is_long) {
            return Err(too_long());
        }
        self.out.extend_from_slice(text);
        Ok(())
    }

    /// Everything up to the empty line, that one included; less when a delimiter or the end comes first.
    fn take_header(&mut self) -> &'a [u8] {
        self.take_until(|line| line == b"\r\n")
    }

    /// Everything up to the next delimiter line or the end.
    fn take_body(&mut self) -> &'a [u8] {
        self.take_until(|_| false)
    }

    fn take_until(&mut self, is_last: impl Fn(&[u8]) -> bool) -> &'a [u8] {
        let mut end = 0;
        for line in lines(self.rest) {
            if self.matches(line).is_some() {
                break;
            }
            end += line.len();
            if is_last(line) {
                break;
            }
        }
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, &[]));
        self.rest = rest;
        taken
    }

    /// Which open boundary a line is a delimiter of, innermost first, and whether it closes it.
    fn matches(&self, line: &[u8]) -> Option<(usize, bool)> {
        let line = line.strip_prefix(b"--")?.trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(i, open)| match line.strip_prefix(&*open.boundary)? {
            b"" => Some((i, false)),
            b"--" => Some((i, true)),
            _ => None,
        })
    }

    /// What an entity is, by its header.
    fn kind(&self, header: &[u8], default_message: bool) -> Result<Kind, Refused> {
        let parsed = MessageParser::new().with_mime_headers().parse_headers(header);
        let encoding = match parsed.as_ref().and_then(|m| m.content_transfer_encoding()) {
            None => Encoding::None,
            Some(e) => match e.trim().to_ascii_lowercase().as_str() {
                "7bit" | "8bit" | "binary" => Encoding::None,
                "quoted-printable" => Encoding::QuotedPrintable,
                "base64" => Encoding::Base64,
                _ => Encoding::Unknown,
            },
        };
        let Some(content_type) = parsed.as_ref().and_then(|m| m.content_type()) else {
            return Ok(if default_message { Kind::Message } else { Kind::Leaf(encoding) });
        };
        let subtype = content_type.subtype().unwrap_or_default();
        let is_identity = matches!(encoding, Encoding::None);
        if content_type.ctype().eq_ignore_ascii_case("multipart") && is_identity {
            let boundary = content_type.attribute("boundary").filter(|b| !b.is_empty() && b.len() <= 200);
            return Ok(Kind::Multipart(Open {
                boundary: boundary.ok_or_else(too_long)?.trim_end().as_bytes().to_vec(),
                digest: subtype.eq_ignore_ascii_case("digest"),
                signed: subtype.eq_ignore_ascii_case("signed"),
                depth: self.depth,
            }));
        }
        let is_message = content_type.ctype().eq_ignore_ascii_case("message")
            && ["rfc822", "global"].iter().any(|s| s.eq_ignore_ascii_case(subtype));
        Ok(if is_message && is_identity { Kind::Message } else { Kind::Leaf(encoding) })
    }
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|b| *b == b'\n')
}

fn is_long(line: &[u8]) -> bool {
    line.strip_suffix(b"\r\n").unwrap_or(line).len() > MAX_LINE
}

fn has_name(line: &[u8], name: &[u8]) -> bool {
    line.split(|b| *b == b':').next().is_some_and(|n| n.trim_ascii_end().eq_ignore_ascii_case(name))
}

/// Copies header lines, breaking long ones before a blank (RFC 5322 §2.2.3).
fn refold(header: &[u8], out: &mut Vec<u8>) -> Result<(), Refused> {
    for line in lines(header) {
        let mut rest = line;
        while is_long(rest) {
            // No part may consist of blanks alone: a reader could take it for the end of the header.
            let printable = rest.iter().position(|b| *b > b' ').ok_or_else(too_long)?;
            let head = rest.get(..=MAX_LINE).unwrap_or(rest);
            let at = head.iter().rposition(|b| matches!(b, b' ' | b'\t')).filter(|at| *at > printable);
            let (head, tail) = at.and_then(|at| rest.split_at_checked(at)).ok_or_else(too_long)?;
            if tail.iter().all(|b| *b <= b' ') {
                // Blanks at the end of a line mean nothing.
                rest = head;
                if is_long(rest) {
                    return Err(too_long());
                }
                out.extend_from_slice(rest);
                rest = b"\r\n";
                break;
            }
            out.extend_from_slice(head);
            out.extend_from_slice(b"\r\n");
            rest = tail;
        }
        out.extend_from_slice(rest);
    }
    Ok(())
}

/// Adds soft line breaks (RFC 2045 §6.7), never inside an escape.
fn break_quoted_printable(body: &[u8], out: &mut Vec<u8>) {
    for line in lines(body) {
        let mut rest = line;
        while is_long(rest) {
            let head = rest.get(..ENCODED_LINE).unwrap_or(rest);
            let escape = head.iter().rposition(|b| *b == b'=').filter(|at| at + 3 > head.len());
            let (head, tail) = rest.split_at_checked(escape.unwrap_or(ENCODED_LINE)).unwrap_or((rest, &[]));
            out.extend_from_slice(head);
            out.extend_from_slice(b"=\r\n");
            rest = tail;
        }
        out.extend_from_slice(rest);
    }
}

/// Breaks the lines of base 64 anew; line ends mean nothing there (RFC 2045 §6.8).
fn break_base64(body: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    for b in body.iter().filter(|b| !b.is_ascii_whitespace()) {
        if column == ENCODED_LINE + 1 {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
        out.push(*b);
        column += 1;
    }
    if body.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(message: &str) -> String {
        let out = reencode_long_lines(message.as_bytes()).unwrap_or_else(|e| panic!("{e:?}"));
        assert!(
            lines(&out).all(|l| !is_long(l) && l.ends_with(b"\r\n")),
            "{}",
            String::from_utf8_lossy(&out)
        );
        String::from_utf8(out).unwrap()
    }

    fn body_text(message: &str, part: usize) -> String {
        let parsed = MessageParser::default().parse(message.as_bytes()).unwrap();
        String::from_utf8(parsed.part(u32::try_from(part).unwrap()).unwrap().contents().to_vec()).unwrap()
    }

    // SIG-18: decoded content equal
    #[test]
    fn a_long_leaf_becomes_quoted_printable() {
        let html = format!("<p>{}</p>\r\n  end = \u{fc}\t\r\n", "a = b ".repeat(17_000));
        let out = rewrite(&format!(
            "Subject: x\r\nContent-Transfer-Encoding:\r\n 8bit\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}"
        ));
        assert!(out.starts_with("Subject: x\r\nContent-Type: text/html; charset=utf-8\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"), "{}", &out[..200]);
        assert_eq!(body_text(&out, 0), html);
    }

    #[test]
    fn a_message_without_a_long_line_stays_as_it_is() {
        let at_limit = format!("Subject: x\r\n\r\n{}\r\n", "a".repeat(998));
        assert_eq!(rewrite(&at_limit), at_limit);
        assert_ne!(rewrite(&format!("Subject: x\r\n\r\n{}\r\n", "a".repeat(999))), at_limit);
    }

    // SIG-18
    #[test]
    fn only_the_long_leaf_of_a_nested_message_changes() {
        let long = "x".repeat(1500);
        let message = |cte: &str, text: &str| {
            format!(
                "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n\tboundary=\"o u\"\r\n\r\npreamble\r\n--o u\r\n\r\nshort\r\n--o u\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nContent-Type: multipart/alternative; boundary=ou\r\n\r\n--ou\r\nContent-Type: text/plain\r\n{cte}\r\n{text}\r\n--ou--\r\nepilogue\r\n--o u--\r\n\r\nend\r\n"
            )
        };
        let out = rewrite(&message("", &long));
        let soft: String = long
            .as_bytes()
            .chunks(75)
            .map(|c| std::str::from_utf8(c).unwrap())
            .collect::<Vec<_>>()
            .join("=\r\n");
        assert_eq!(out, message("Content-Transfer-Encoding: quoted-printable\r\n", &soft));
    }

    // SIG-18
    #[test]
    fn encoded_leaves_are_only_broken_anew() {
        use base64::Engine as _;
        let octets: Vec<u8> = (0..2000_u32).map(|i| (i % 251) as u8).collect();
        let encoded = base64::engine::general_purpose::STANDARD.encode(&octets);
        let out = rewrite(&format!(
            "Content-Type: application/x\r\nContent-Transfer-Encoding: BASE64\r\n\r\n{encoded}\r\n"
        ));
        let parsed = MessageParser::default().parse(out.as_bytes()).unwrap();
        assert_eq!(parsed.part(0).unwrap().contents(), octets);

        let qp = "=C3=BC a".repeat(300);
        let out = rewrite(&format!(
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{qp}\r\n"
        ));
        assert_eq!(body_text(&out, 0), "\u{fc} a".repeat(300) + "\r\n");
    }

    // SIG-18
    #[test]
    fn long_header_lines_are_folded_at_blanks() {
        let references = "<id@example.org> ".repeat(100);
        let out = rewrite(&format!("References: {references}\r\nSubject: x\r\n\r\nb\r\n"));
        assert_eq!(
            out.replace("\r\n ", " ").replace(' ', ""),
            format!("References:{references}\r\nSubject:x\r\n\r\nb\r\n").replace(' ', "")
        );
        assert!(!out.contains("\r\n \r\n"));
        let blanks = rewrite(&format!("Subject: x{}\r\n\r\nb\r\n", " ".repeat(2000)));
        assert!(blanks.ends_with("\r\n\r\nb\r\n") && blanks.matches("\r\n\r\n").count() == 1);
    }

    // SIG-18, LIM-06
    #[test]
    fn what_cannot_be_rewritten_faithfully_is_refused() {
        let long = "x".repeat(999);
        let nested: String = (0..101)
            .map(|i| format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n"))
            .collect();
        for (what, message) in [
            ("a header word", format!("X: {long}\r\n\r\nb\r\n")),
            (
                "signed content",
                format!("Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n{long}\r\n--b--\r\n"),
            ),
            (
                "a preamble",
                format!(
                    "Content-Type: multipart/mixed; boundary=b\r\n\r\n{long}\r\n--b\r\n\r\nx\r\n--b--\r\n"
                ),
            ),
            ("an unknown encoding", format!("Content-Transfer-Encoding: x-uuencode\r\n\r\n{long}\r\n")),
            ("no boundary", format!("Content-Type: multipart/mixed\r\n\r\n{long}\r\n")),
            ("too deep", format!("{nested}\r\n{long}\r\n")),
        ] {
            let e = reencode_long_lines(message.as_bytes()).expect_err(what);
            assert_eq!((e.code, e.enhanced.to_string().as_str()), (554, "5.6.0"), "{what}");
        }
    }

    proptest::proptest! {
        // OUT-55
        #[test]
        fn no_long_line_ever_comes_out(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    "Content-Type: multipart/mixed; boundary=b\r\n", "Content-Type: message/rfc822\r\n", "--b\r\n", "--b--\r\n",
                    "\r\n", "text =\r\n", "Content-Transfer-Encoding: base64\r\n", "X: y\r\n", "LONG", "LONG\r\n",
                ]),
                0..20,
            ),
        ) {
            let message = pieces.concat().replace("LONG", &"a b".repeat(400));
            if let Ok(out) = reencode_long_lines(message.as_bytes()) {
                proptest::prop_assert!(!lines(&out).any(is_long));
            }
        }
    }
}
