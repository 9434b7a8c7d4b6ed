//! Receiving content after 354, as it streams (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Only the octets CR LF `.` CR LF end the content, looked for in what the client sent, before any change to
//! it. Everything else that other servers have taken for an end is content, and content with a bare CR or LF
//! is refused, at the real end and not before: what follows an early reply would be read as commands (SUB-40).

use super::Answer;

/// What one message may measure.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets without dot-stuffing (LIM-01). Beyond twice as much, reading stops ([`Progress::TooMuch`]).
    pub message: u64,
    /// Octets of one line (LIM-04).
    pub line: u64,
    /// Octets of the header section (LIM-06).
    pub header: u64,
    /// Fields of the header section (LIM-06).
    pub fields: u32,
}

impl Limits {
    /// The limits for messages of up to `message` octets.
    pub const fn new(message: u64) -> Self {
        Self { message, line: 1024 * 1024, header: 256 * 1024, fields: 1000 }
    }
}

/// What [`Receiver::feed`] wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More input.
    More,
    /// The content is complete; so many octets of the input belonged to it.
    End(usize),
    /// Far beyond the limit: the connection is to be closed, since its end may never come (SUB-50).
    TooMuch,
}

/// What was seen of a complete content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scan {
    /// Octets, without dot-stuffing and terminator.
    pub size: u64,
    /// Octets of the header section with the empty line after it, or of all where there is no empty line.
    pub header: u64,
    /// Octets of the longest line, CRLF not included.
    pub longest_line: u64,
    /// An octet above 127 in the header section.
    pub header_8bit: bool,
    /// An octet above 127 after it.
    pub body_8bit: bool,
}

/// Takes the content apart, in pieces of any size.
#[derive(Debug)]
pub struct Receiver {
    limits: Limits,
    at: At,
    raw: u64,
    line: u64,
    fields: u32,
    in_header: bool,
    scan: Scan,
    fault: Option<Fault>,
}

/// Where in a line the receiver is, in the octets as sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// After CRLF.
    Start,
    /// After CRLF and a dot, which is not content in any case.
    Dot,
    /// After CRLF, dot and CR.
    DotCr,
    /// In a line.
    Within,
    /// In a line, after CR.
    Cr,
}

/// Why the content is refused at its end. The first one found counts, but line ends go before all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    BareLineEnd,
    Nul,
    TooBig,
    LongLine,
    BigHeader,
}

impl Receiver {
    /// A receiver that stands right after the CRLF of DATA.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            at: At::Start,
            raw: 0,
            line: 0,
            fields: 0,
            in_header: true,
            scan: Scan::default(),
            fault: None,
        }
    }

    /// Takes input and appends content to `out`, without dot-stuffing. Once the content is faulty nothing more is appended.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Progress {
        let mut rest = input;
        while let Some((&first, tail)) = rest.split_first() {
            match (self.at, first) {
                (At::Start, b'.') => (self.at, rest) = (At::Dot, tail),
                (At::Start, _) => self.at = At::Within,
                (At::Dot, b'\r') => (self.at, rest) = (At::DotCr, tail),
                (At::Dot, _) => self.at = At::Within,
                (At::DotCr, b'\n') => {
                    self.raw += (input.len() - tail.len()) as u64;
                    return Progress::End(input.len() - tail.len());
                }
                (At::Cr, b'\n') => {
                    self.end_line(out);
                    rest = tail;
                }
                // A CR that no LF follows.
                (At::DotCr | At::Cr, _) => {
                    self.blame(Fault::BareLineEnd);
                    self.at = At::Within;
                }
                (At::Within, _) => rest = self.text(rest, out),
            }
        }
        self.raw += input.len() as u64;
        if self.raw > self.limits.message.saturating_mul(2).max(64 * 1024) {
            Progress::TooMuch
        } else {
            Progress::More
        }
    }

    /// Octets taken so far, as sent.
    pub const fn raw(&self) -> u64 {
        self.raw
    }

    /// Whether the header section has not ended yet.
    pub const fn in_header(&self) -> bool {
        self.in_header
    }

    /// What was seen, after [`Progress::End`].
    ///
    /// # Errors
    /// The one reply to give where the content is refused for its form or size.
    pub fn finish(mut self) -> Result<Scan, Answer> {
        if self.in_header {
            self.scan.header = self.scan.size;
        }
        match self.fault {
            None if self.scan.size == 0 => Err(Answer::new(554, 6, 0, "the message is empty")),
            None => Ok(self.scan),
            Some(Fault::BareLineEnd) => {
                Err(Answer::new(550, 5, 2, "a line ends with CR LF; a bare CR or LF is not accepted"))
            }
            Some(Fault::Nul) => Err(Answer::new(554, 6, 0, "the message has a NUL octet")),
            Some(Fault::TooBig) => {
                Err(Answer::new(552, 3, 4, format!("the limit is {} octets", self.limits.message)))
            }
            Some(Fault::LongLine) => Err(Answer::new(554, 6, 0, "a line is far too long")),
            Some(Fault::BigHeader) => Err(Answer::new(554, 6, 0, "the header section is too big")),
        }
    }

    /// Takes text up to the next CR, and the CRLF if it is at hand. `rest` is not empty.
    fn text<'a>(&mut self, rest: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
        let cr = rest.iter().position(|b| *b == b'\r');
        let (text, after) = rest.split_at(cr.unwrap_or(rest.len()));
        if !text.is_empty() {
            self.inspect(text);
            self.push(text, out);
        }
        match after.split_first() {
            None => after,
            Some((_, after_cr)) => {
                self.at = At::Cr;
                after_cr
            }
        }
    }

    fn inspect(&mut self, text: &[u8]) {
        if text.contains(&b'\n') {
            self.blame(Fault::BareLineEnd);
        }
        if text.contains(&0) {
            self.blame(Fault::Nul);
        }
        if !text.is_ascii() {
            *(if self.in_header { &mut self.scan.header_8bit } else { &mut self.scan.body_8bit }) = true;
        }
        // A line that starts with a blank continues a field (RFC 5322 §2.2.3).
        if self.in_header && self.line == 0 && !text.starts_with(b" ") && !text.starts_with(b"\t") {
            self.fields += 1;
            if self.fields > self.limits.fields {
                self.blame(Fault::BigHeader);
            }
        }
        self.line += text.len() as u64;
        self.scan.longest_line = self.scan.longest_line.max(self.line);
        if self.line > self.limits.line {
            self.blame(Fault::LongLine);
        }
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.push(b"\r\n", out);
        if self.in_header && self.line == 0 {
            self.in_header = false;
            self.scan.header = self.scan.size;
        }
        self.line = 0;
        self.at = At::Start;
    }

    fn push(&mut self, octets: &[u8], out: &mut Vec<u8>) {
        self.scan.size += octets.len() as u64;
        if self.scan.size > self.limits.message {
            self.blame(Fault::TooBig);
        }
        if self.in_header && self.scan.size > self.limits.header {
            self.blame(Fault::BigHeader);
        }
        if self.fault.is_none() {
            out.extend_from_slice(octets);
        }
    }

    fn blame(&mut self, fault: Fault) {
        self.fault = Some(self.fault.map_or(fault, |earlier| earlier.min(fault)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn receive(wire: &[u8], piece: usize, limits: Limits) -> (Result<Scan, u16>, Vec<u8>, usize) {
        let (mut receiver, mut out, mut used) = (Receiver::new(limits), Vec::new(), 0);
        for chunk in wire.chunks(piece.max(1)) {
            match receiver.feed(chunk, &mut out) {
                Progress::More => used += chunk.len(),
                Progress::End(n) => return (receiver.finish().map_err(|a| a.code), out, used + n),
                Progress::TooMuch => return (Err(421), out, used),
            }
        }
        (Err(0), out, used)
    }

    fn stuff(content: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        for line in content.split_inclusive(|b| *b == b'\n') {
            if line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".\r\n");
        wire
    }

    // SUB-40, SUB-41, HS-001…HS-014
    #[test]
    fn no_other_sequence_ends_content() {
        for (name, fake, want) in [
            ("LF . LF", "\n.\n", Err(550)),
            ("LF . CRLF", "\n.\r\n", Err(550)),
            ("CRLF . LF", "\r\n.\n", Err(550)),
            ("CR . CR", "\r.\r", Err(550)),
            ("CR . CRLF", "\r.\r\n", Err(550)),
            ("CRLF . CR", "\r\n.\r", Err(550)),
            ("CRLF . CRCRLF", "\r\n.\r\r\n", Err(550)),
            ("CRCRLF . CRLF", "\r\r\n..\r\n", Err(550)),
            ("LFCR . LFCR", "\n\r.\n\r", Err(550)),
            ("NUL before the dot", "\r\n\0.\r\n", Err(554)),
            ("NUL after the dot", "\r\n.\0\r\n", Err(554)),
            ("dot and blank", "\r\n. \r\n", Ok(())),
            ("two dots", "\r\n..\r\n", Ok(())),
            ("NEL", "\u{85}.\u{85}", Ok(())),
        ] {
            let wire = format!("A: b\r\n\r\nbody{fake}MAIL FROM:<evil@example.org>\r\nx\r\n.\r\n");
            for piece in [1, 2, 3, 7, wire.len()] {
                let (got, _, used) = receive(wire.as_bytes(), piece, Limits::new(10_000));
                assert_eq!(got.map(|_| ()), want, "{name}, pieces of {piece}");
                assert_eq!(used, wire.len(), "{name}: one end, the real one");
            }
        }
    }

    // LIM-01, SUB-50
    #[test]
    fn size_is_counted_without_stuffing_and_judged_at_the_end() {
        let wire = |n: usize| stuff(&[b"a: b\r\n\r\n".as_slice(), &b".aaaaaa\r\n".repeat(n), b""].concat());
        let size = 8 + 9 * 2000;
        let (ok, out, _) = receive(&wire(2000), 700, Limits::new(size));
        assert_eq!((ok.unwrap().size, out.len() as u64), (size, size));
        let (one_less, out, used) = receive(&wire(2000), 700, Limits::new(size - 1));
        assert_eq!(one_less, Err(552));
        assert_eq!(used, wire(2000).len(), "read to the end");
        assert!((out.len() as u64) < size, "what is over the limit is not kept");
        assert_eq!(receive(&wire(200_000), 700, Limits::new(size)).0, Err(421));
    }

    // LIM-04, LIM-06
    #[test]
    fn lines_and_headers_have_limits() {
        let limits = Limits { message: 1_000_000, line: 100, header: 500, fields: 10 };
        for (name, content, want) in [
            ("line of 100", format!("a: b\r\n\r\n{}\r\n", "x".repeat(100)), Ok(100)),
            ("line of 101", format!("a: b\r\n\r\n{}\r\n", "x".repeat(101)), Err(554)),
            ("10 fields", format!("{}\r\nx\r\n", "a: b\r\n c\r\n".repeat(10)), Ok(4)),
            ("11 fields", format!("{}\r\nx\r\n", "a: b\r\n".repeat(11)), Err(554)),
            ("11 lines like fields in the body", format!("a: b\r\n\r\n{}", "a: b\r\n".repeat(11)), Ok(4)),
            ("500 octets of header", format!("a:{}\r\n\r\nx\r\n", "\r\n 3456".repeat(70) + "1234"), Ok(9)),
            (
                "501 octets of header",
                format!("a:{}\r\n\r\nx\r\n", "\r\n 3456".repeat(70) + "12345"),
                Err(554),
            ),
            ("header without end", "a: b\r\n ccc\r\n".repeat(60), Err(554)),
            ("nothing", String::new(), Err(554)),
        ] {
            let (got, ..) = receive(&stuff(content.as_bytes()), 11, limits);
            assert_eq!(got.map(|s| s.longest_line), want, "{name}");
        }
    }

    // SUB-56
    #[test]
    fn the_scan_tells_header_from_body() {
        let (got, out, _) = receive(b"S: \xfc\r\n\r\nplain\r\n.\r\nQUIT\r\n", 5, Limits::new(1000));
        let scan = got.unwrap();
        assert_eq!((scan.header, scan.header_8bit, scan.body_8bit), (8, true, false));
        assert_eq!(out, b"S: \xfc\r\n\r\nplain\r\n");
        let (got, ..) = receive(b"S: u\r\n\r\n\xfc\r\n.\r\n", 5, Limits::new(1000));
        assert!(got.is_ok_and(|s| s.body_8bit && !s.header_8bit));
        let (got, ..) = receive(b"S: u\r\nT: v\r\n.\r\n", 5, Limits::new(1000));
        assert!(got.is_ok_and(|s| s.header == s.size), "no empty line: all of it is header");
    }

    proptest! {
        // SUB-42
        #[test]
        fn stuffing_and_unstuffing_are_inverse(
            lines in proptest::collection::vec("[.]{0,3}[^\r\n\u{0}]{0,20}", 1..20),
            piece in 1usize..40,
        ) {
            let content: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let (got, out, used) = receive(&stuff(content.as_bytes()), piece, Limits::new(100_000));
            prop_assert!(got.is_ok());
            prop_assert_eq!(out, content.as_bytes());
            prop_assert_eq!(used, stuff(content.as_bytes()).len());
        }

        // SUB-40
        #[test]
        fn the_end_is_where_crlf_dot_crlf_first_stands(
            octets in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..200),
            piece in 1usize..9,
        ) {
            let wire = [octets.as_slice(), b"\r\n.\r\n"].concat();
            let all = [b"\r\n".as_slice(), &wire].concat();
            let want = all.windows(5).position(|w| w == b"\r\n.\r\n").unwrap() + 3;
            let (_, _, used) = receive(&wire, piece, Limits::new(100_000));
            prop_assert_eq!(used, want);
        }
    }
}
