//! [`fix_header`]: one pass over the header section of a submission.

use super::{
    FixedHeader, FixupContext, MAX_FIELDS, MAX_HEADER, Refused,
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
        if field.has_blank_line {
            // The first line has its colon, so it is never blank.
            for line in field.raw.split_inclusive('\n').filter(|l| !is_blank(l)) {
                self.out.extend_from_slice(line.as_bytes());
            }
        } else {
            self.out.extend_from_slice(field.raw.as_bytes());
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

/// Whether the `by` clause of a Received field names `hostname` (LIM-30).
fn names_us(body: &str, hostname: &str) -> bool {
    let mut words = body.split([' ', '\t', '\r', '\n']).filter(|w| !w.is_empty());
    words.any(|w| w.eq_ignore_ascii_case("by"))
        && words.next().is_some_and(|by| by.trim_end_matches([';', '.']).eq_ignore_ascii_case(hostname))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::mail::{Domain, ReversePath};
    use crate::submission::fixup::SenderRule;
    use proptest::prelude::*;

    const RECEIVED: &str = "Received: from app.example.org ([192.0.2.7])\r\n\tby relay.example.org with ESMTPSA id x;\r\n\tSun, 22 Nov 2026 07:38:00 +0000\r\n";
    const ADDED: &str = "Date: Sun, 22 Nov 2026 07:38:00 +0000\r\nMessage-ID: <0000000000000000000000000000002a@example.org>\r\n";

    struct With {
        rules: Vec<SenderRule>,
        smtputf8: bool,
        authenticated: bool,
        sender: &'static str,
    }

    impl Default for With {
        fn default() -> Self {
            Self { rules: Vec::new(), smtputf8: false, authenticated: true, sender: "app1@example.org" }
        }
    }

    impl With {
        fn rules(texts: &[&str]) -> Self {
            Self { rules: texts.iter().map(|t| SenderRule::parse(t).unwrap()).collect(), ..Self::default() }
        }

        fn fix(&self, header: &[u8]) -> Result<FixedHeader, Refused> {
            let ctx = FixupContext {
                hostname: &Domain::parse("relay.example.org").unwrap(),
                reverse_path: &ReversePath::parse(self.sender).unwrap(),
                authenticated: self.authenticated,
                allowed_senders: &self.rules,
                smtputf8_declared: self.smtputf8,
                now: Timestamp::from_millis(1_795_333_080_000),
                random: 42,
                received: RECEIVED,
            };
            fix_header(header, &ctx)
        }

        /// What stands between our Received field and the fields we add.
        fn kept(&self, header: &str) -> String {
            let fixed = self.fix(header.as_bytes()).unwrap_or_else(|e| panic!("{header:?}: {e:?}"));
            let text = String::from_utf8(fixed.bytes).unwrap();
            let text = text.strip_prefix(RECEIVED).unwrap().strip_suffix("\r\n").unwrap();
            text.replace(ADDED, "")
        }

        fn refusal(&self, header: &str) -> String {
            match self.fix(header.as_bytes()) {
                Ok(_) => "accepted".to_owned(),
                Err(e) => format!("{} {}", e.code, e.enhanced),
            }
        }
    }

    // SIG-01
    #[test]
    fn a_complete_header_only_gets_our_received_on_top() {
        let header = "Received: from a by b; x\r\nX-b: 1\r\nreceived: from c\r\n\tby d; x\r\nFROM:app1@example.org\r\nSubject: a  b \r\n\tc\r\nDate: whenever\r\nMessage-ID: <m@example.org>\r\nX-a: 2\r\n\r\n";
        let fixed = With::default().fix(header.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(fixed.bytes).unwrap(), format!("{RECEIVED}{header}"));
        assert_eq!(fixed.message_id, "<m@example.org>");
        assert_eq!((fixed.received_count, fixed.received_by_us, fixed.needs_smtputf8), (2, 0, false));
    }

    // SIG-04, SIG-06
    #[test]
    fn what_is_missing_is_added_at_the_end() {
        let fixed = With::default().fix(b"From: app1@example.org\r\n\r\n").unwrap();
        let want = format!("{RECEIVED}From: app1@example.org\r\n{ADDED}\r\n");
        assert_eq!(String::from_utf8(fixed.bytes).unwrap(), want);
        assert_eq!(fixed.message_id, "<0000000000000000000000000000002a@example.org>");

        let null = With { sender: "", ..With::default() };
        let text = String::from_utf8(null.fix(b"From: a@b.example\r\n\r\n").unwrap().bytes).unwrap();
        assert!(text.contains("\r\nMessage-ID: <0000000000000000000000000000002a@relay.example.org>\r\n"));

        assert_eq!(With::default().kept("X: y\r\n\r\n"), "X: y\r\nFrom: <app1@example.org>\r\n");
        let stranger = With { authenticated: false, ..With::default() };
        assert_eq!(stranger.refusal("X: y\r\n\r\n"), "554 5.6.0");
        assert_eq!(null.refusal("X: y\r\n\r\n"), "554 5.6.0");
        assert_eq!(With::rules(&["b@example.org"]).refusal("X: y\r\n\r\n"), "550 5.7.1");
    }

    // SIG-05, HS-022
    #[test]
    fn a_header_without_an_empty_line_gets_exactly_one() {
        let fixed = With::default().fix(b"From: app1@example.org\r\nTo: bob@example.net\r\n").unwrap();
        let want = format!("{RECEIVED}From: app1@example.org\r\nTo: bob@example.net\r\n{ADDED}\r\n");
        assert_eq!(String::from_utf8(fixed.bytes).unwrap(), want);
    }

    // SIG-05, SIG-11, SUB-41, HS-021, HS-081, HS-083, HS-084
    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for (what, header) in [
            ("nothing", ""),
            ("only an empty line", "\r\n"),
            ("an empty line first", "\r\nFrom: app1@example.org\r\n\r\n"),
            ("a blank first", " From: app1@example.org\r\n\r\n"),
            ("a line without a colon", "From: app1@example.org\r\nhello\r\n\r\n"),
            (
                "an mbox line",
                "From app1@example.org Sun Nov 22 07:38:00 2026\r\nFrom: app1@example.org\r\n\r\n",
            ),
            ("no name", ": x\r\nFrom: app1@example.org\r\n\r\n"),
            ("a blank inside a name", "X y: z\r\nFrom: app1@example.org\r\n\r\n"),
            ("a name that is not ASCII", "X\u{fc}: z\r\nFrom: app1@example.org\r\n\r\n"),
            ("a bare CR", "From: app1@example.org\rX: y\r\n\r\n"),
            ("a bare LF", "From: app1@example.org\nX: y\r\n\r\n"),
            ("a NUL", "From: app1@example.org\r\nX: \0\r\n\r\n"),
            ("two From", "From: app1@example.org\r\nFrom: ceo@example.org\r\n\r\n"),
            ("two From, one obsolete", "From : ceo@other.example\r\nFrom: app1@example.org\r\n\r\n"),
            ("two Subject", "From: app1@example.org\r\nSubject: a\r\nSUBJECT : b\r\n\r\n"),
            ("two Date", "From: app1@example.org\r\nDate: a\r\nDate: a\r\n\r\n"),
            ("two To", "From: app1@example.org\r\nTo: a@b.example\r\nTo: c@d.example\r\n\r\n"),
            ("two Content-Type", "From: app1@example.org\r\nContent-Type: a/b\r\nContent-Type: a/b\r\n\r\n"),
            ("two MIME-Version", "From: app1@example.org\r\nMIME-Version: 1.0\r\nMIME-Version: 1.0\r\n\r\n"),
            ("authors without Sender", "From: app1@example.org,\r\n ceo@other.example\r\n\r\n"),
            ("two senders", "From: app1@example.org\r\nSender: a@b.example, c@d.example\r\n\r\n"),
            ("an empty From", "From:\r\n\r\n"),
        ] {
            assert_eq!(With::default().refusal(header), "554 5.6.0", "{what}");
        }
        let authors = "From: app1@example.org, b@example.org\r\nSender: app1@example.org\r\n";
        assert_eq!(With::default().kept(authors), authors);
    }

    // SIG-17
    #[test]
    fn octets_that_are_not_utf8_are_refused() {
        let e = With::default().fix(b"From: app1@example.org\r\nSubject: \xe9\r\n\r\n").unwrap_err();
        assert_eq!((e.code, e.enhanced.to_string().as_str()), (554, "5.6.0"));
        assert!(
            With { smtputf8: true, ..With::default() }.fix(b"From: a@b.example\r\nX: \xff\r\n\r\n").is_err()
        );
    }

    // SIG-05: some readers trim a line before they ask whether it is empty.
    #[test]
    fn a_folded_line_of_blanks_cannot_end_the_header() {
        let header = "From: app1@example.org\r\nSubject: a\r\n \t\r\n b\r\nX:\r\n \r\n\r\nbody";
        assert_eq!(With::default().kept(header), "From: app1@example.org\r\nSubject: a\r\n b\r\nX:\r\n");
    }

    // SIG-07, HS-086
    #[test]
    fn blind_copies_and_return_paths_are_taken_out() {
        let header = "Return-Path: <x@example.com>\r\nFrom: app1@example.org\r\nBCC : a@b.example,\r\n c@d.example\r\nbcc: e@f.example\r\nResent-Bcc: x\r\nTo: bob@example.net\r\n";
        assert_eq!(With::default().kept(header), "From: app1@example.org\r\nTo: bob@example.net\r\n");
    }

    // LIM-06
    #[test]
    fn a_header_section_is_bounded() {
        let fields = |n: usize| format!("From: app1@example.org\r\n{}\r\n", "X: y\r\n".repeat(n));
        assert!(With::default().fix(fields(999).as_bytes()).is_ok());
        assert_eq!(With::default().refusal(&fields(1000)), "554 5.6.0");
        let octets = |n: usize| format!("From: app1@example.org\r\n{}\r\n", "X: y\r\n y\r\n".repeat(n / 9));
        assert_eq!(With::default().refusal(&octets(256 * 1024)), "554 5.6.0");
        let folded = format!("From: app1@example.org\r\nX: y\r\n{}\r\n", " y\r\n".repeat(65_000));
        assert!(folded.len() < 256 * 1024 && With::default().fix(folded.as_bytes()).is_ok());
        let more = format!("From: app1@example.org\r\nX: y\r\n{}\r\n", " y\r\n".repeat(66_000));
        assert_eq!(With::default().refusal(&more), "554 5.6.0");
    }

    // LIM-30, HS-080
    #[test]
    fn received_fields_are_counted_and_ours_are_known() {
        let header = "Received: from a (b)\r\n\tby RELAY.example.org with ESMTP; x\r\nReceived: by relay.example.org; x\r\nReceived: from relay.example.org by other.example; x\r\nReceived: from nearby by\r\n\trelay.example.org.evil.example; x\r\nFrom: app1@example.org\r\n\r\n";
        let fixed = With::default().fix(header.as_bytes()).unwrap();
        assert_eq!((fixed.received_count, fixed.received_by_us), (4, 2));
    }

    // SUB-25, HS-082, HS-083
    #[test]
    fn every_author_is_held_to_the_sender_rules() {
        let with = With::rules(&["app1@example.org", "@example.net"]);
        for (from, want) in [
            ("From: app1@example.org", "accepted"),
            ("From: App <app1@example.org>", "accepted"),
            ("From: any.body@EXAMPLE.net", "accepted"),
            ("From: =?utf-8?q?J=C3=BCrgen?= <app1@example.org>", "accepted"),
            ("From: \"Doe, John\" (x) <app1@example.org> (y)", "accepted"),
            ("From: app1 (comment) @ (c) example.org", "accepted"),
            ("From: \"app1\"@example.org", "accepted"),
            ("From: ceo@other.example", "550 5.7.1"),
            ("From: app1@sub.example.net", "550 5.7.1"),
            ("From: ceo@example.org", "550 5.7.1"),
            ("From: App1@example.org", "550 5.7.1"),
            (
                "From: app1@example.org (x <ceo@other.example>), ceo@other.example\r\nSender: app1@example.org",
                "550 5.7.1",
            ),
            ("From: app1@example.org,\r\n\tceo@other.example\r\nSender: app1@example.org", "550 5.7.1"),
            ("From: app1@example.org\r\nSender: ceo@other.example", "550 5.7.1"),
            ("From: \"app1@example.org\" <ceo@other.example>", "550 5.7.1"),
            ("From: app1@\r\n other.example", "550 5.7.1"),
            ("From: app1@example.org(.other.example)", "accepted"),
            ("From: app1@example.org.(x)other.example", "550 5.7.1"),
            ("From: =?utf-8?q?=3Cceo=40other.example=3E=2C?= <app1@example.org>", "550 5.7.1"),
            ("From: =?utf-8?B?PGNlb0BvdGhlci5leGFtcGxlPiw=?= <app1@example.org>", "550 5.7.1"),
            ("From: =?utf-8?q?=3Cceo=40?= =?utf-8?q?other.example=3E?= <app1@example.org>", "550 5.7.1"),
            ("From: J. R. R. Tolkien <app1@example.org>", "accepted"),
            ("From: =?utf-8?q?ceo=40other.example?=", "554 5.6.0"),
            ("From: app1@example.org <ceo@other.example>", "554 5.6.0"),
            ("From: ceo@other.example <app1@example.org>", "554 5.6.0"),
            ("From: <ceo@other.example> <app1@example.org>", "554 5.6.0"),
            ("From: <app1@example.org> ceo@other.example", "554 5.6.0"),
            ("From: app1@example.org ceo@other.example", "554 5.6.0"),
            ("From: <@other.example:app1@example.org>", "554 5.6.0"),
            ("From: group: app1@example.org;", "554 5.6.0"),
            ("From: app1@example.org,", "554 5.6.0"),
            ("From: \"app1@example.org", "554 5.6.0"),
            ("From: (app1@example.org", "554 5.6.0"),
            ("From: app1@example.org)", "554 5.6.0"),
            ("From: <app1@example.org", "554 5.6.0"),
            ("From: a\u{1}b <app1@example.org>", "554 5.6.0"),
            ("From: app1@[192.0.2.1]", "554 5.6.0"),
            ("From: app1", "554 5.6.0"),
        ] {
            assert_eq!(with.refusal(&format!("{from}\r\n\r\n")), want, "{from:?}");
        }
        assert_eq!(With::default().refusal("From: root@localhost\r\n\r\n"), "accepted", "no rules");
    }

    // SIG-17
    #[test]
    fn raw_utf8_is_encoded_where_it_may_stand() {
        for (header, want) in [
            ("Subject: gr\u{fc}n ist", "Subject: =?utf-8?B?Z3LDvG4=?=\r\n ist\r\n"),
            ("X-Note: a \u{fc} \u{e4} b", "X-Note: a\r\n =?utf-8?B?w7wgw6Q=?=\r\n b\r\n"),
            ("Subject: =?utf-8?q?x?= \u{fc}", "Subject: =?utf-8?q?x?=\r\n =?utf-8?B?IMO8?=\r\n"),
            (
                "To: J\u{fc}rgen M <a@b.example>, c@d.example",
                "To: =?utf-8?B?SsO8cmdlbiBN?=\r\n <a@b.example>,\r\n <c@d.example>\r\n",
            ),
            (
                "Cc: \"X, Y\" <c@d.example>, a@b.example (\u{fc})",
                "Cc: \"X, Y\" <c@d.example>,\r\n =?utf-8?B?w7w=?=\r\n <a@b.example>\r\n",
            ),
        ] {
            let kept = With::default().kept(&format!("{header}\r\nFrom: app1@example.org\r\n\r\n"));
            assert_eq!(kept, format!("{want}From: app1@example.org\r\n"));
        }
        for (header, want) in [
            ("To: \u{fc}@b.example", "550 5.6.7"),
            ("To: a@b\u{fc}cher.example", "550 5.6.7"),
            ("References: <\u{fc}@b.example>", "550 5.6.9"),
            ("Content-Type: text/plain; name=\u{fc}", "550 5.6.9"),
        ] {
            let header = format!("{header}\r\nFrom: app1@example.org\r\n\r\n");
            assert_eq!(With::default().refusal(&header), want, "{header}");
            let declared = With { smtputf8: true, ..With::default() }.fix(header.as_bytes()).unwrap();
            assert!(declared.needs_smtputf8 && declared.bytes.windows(2).any(|w| w == "\u{fc}".as_bytes()));
        }
    }

    #[test]
    fn encoded_text_reads_back() {
        let subject = "\u{65e5}\u{672c}\u{8a9e} ".repeat(40) + "end \u{1f980} x";
        let kept = With::default().kept(&format!("Subject: {subject}\r\nFrom: a@b.example\r\n\r\n"));
        assert!(kept.split("\r\n").all(|l| l.len() <= 76), "{kept}");
        let read =
            mail_parser::MessageParser::new().parse(kept.as_bytes()).unwrap().subject().unwrap().to_owned();
        assert_eq!(read, subject);
    }

    proptest! {
        // SIG-05: one boundary, wherever a reader looks for it, and every line ends in CRLF.
        #[test]
        fn any_octets_are_refused_or_make_one_header_section(
            lines in proptest::collection::vec("[ \t\u{fc}a-cA-C:<>@,.\"()\\\\=?\r\n;-]{0,24}", 0..8),
            declared: bool,
        ) {
            let text = format!("From: a@b.example\r\n{}\r\n\r\n", lines.join("\r\n"));
            if let Ok(fixed) = (With { smtputf8: declared, ..With::default() }).fix(text.as_bytes()) {
                let out = String::from_utf8(fixed.bytes).unwrap();
                prop_assert_eq!(out.matches("\r\n\r\n").count(), 1, "{:?}", out);
                prop_assert!(out.ends_with("\r\n\r\n"));
                let body = out.strip_suffix("\r\n\r\n").unwrap();
                for line in body.split("\r\n") {
                    prop_assert!(!line.trim().is_empty() && !line.contains(['\r', '\n']), "{:?}", out);
                }
                prop_assert!(declared || out.is_ascii());
            }
        }

        #[test]
        fn any_header_is_read_without_panic(octets: Vec<u8>) {
            let _ = With::default().fix(&octets);
            let _ = With::rules(&["@a.example"]).fix(&[b"From: ", &octets[..], b"\r\n\r\n"].concat());
        }
    }
}
