//! One table per rule, and the law of the one header section.

use super::*;
use crate::clock::Timestamp;
use crate::mail::{Domain, ReversePath};
use crate::submission::fixup::SenderRule;
use proptest::prelude::*;

const RECEIVED: &str = "Received: from app.example.org ([192.0.2.7])\r\n\tby relay.example.org with ESMTPSA id x;\r\n\tSun, 22 Nov 2026 07:38:00 +0000\r\n";
const ADDED: &str =
    "Date: Sun, 22 Nov 2026 07:38:00 +0000\r\nMessage-ID: <0000000000000000000000000000002a@example.org>\r\n";

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

// SIG-12
#[test]
fn blanks_before_the_colon_of_a_field_go() {
    let kept =
        With::default().kept("From \t: app1@example.org\r\nSubject : a :\r\n b\r\nX-Y :\r\n \r\n c\r\n");
    assert_eq!(kept, "From: app1@example.org\r\nSubject: a :\r\n b\r\nX-Y:\r\n c\r\n");
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
        ("an mbox line", "From app1@example.org Sun Nov 22 07:38:00 2026\r\nFrom: app1@example.org\r\n\r\n"),
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
    assert!(With { smtputf8: true, ..With::default() }.fix(b"From: a@b.example\r\nX: \xff\r\n\r\n").is_err());
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
            let whole = format!("{out}BODY\r\n");
            let parsed = mail_parser::MessageParser::new().parse(whole.as_bytes()).unwrap();
            prop_assert_eq!(parsed.root_part().raw_body_offset() as usize, out.len(), "{:?}", out);
        }
    }

    #[test]
    fn any_header_is_read_without_panic(octets: Vec<u8>) {
        let _ = With::default().fix(&octets);
        let _ = With::rules(&["@a.example"]).fix(&[b"From: ", &octets[..], b"\r\n\r\n"].concat());
    }
}
