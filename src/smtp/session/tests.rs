use super::*;

struct Open;

impl Judge for Open {
    fn sender(&self, path: &ReversePath) -> Result<(), Answer> {
        match path.to_string().as_str() {
            "foreign@example.org" => Err(Answer::new(550, 7, 1, "not yours")),
            _ => Ok(()),
        }
    }
}

fn session(auth_required: bool, trusted: bool, tls: bool) -> Session {
    let terms = Terms {
        hostname: Domain::parse("relay.example.net").unwrap(),
        session: "s".into(),
        max_message_size: 1000,
        max_recipients: 1000,
        can_tls: true,
        can_auth: true,
        auth_required,
        trusted,
        requiretls: true,
        max_auth_failures: 3,
    };
    Session::new(terms, tls)
}

fn say(session: &mut Session, line: &str) -> String {
    let mut out = Vec::new();
    let step = match session.line(line.as_bytes(), &Open, &mut out) {
        Step::Verify(c) if c.password == "secret" => session.authenticated(Verdict::Right, &mut out),
        Step::Verify(_) => session.authenticated(Verdict::Wrong, &mut out),
        Step::StartTls => {
            session.start_tls(&mut out);
            Step::Line
        }
        step => step,
    };
    let text = String::from_utf8(out).unwrap();
    let last = text.lines().last().unwrap().to_owned();
    match step {
        Step::Close | Step::Abort => format!("{last} |"),
        _ => last,
    }
}

fn dialogue(mut session: Session, lines: &[(&str, &str)]) {
    for (i, (line, want)) in lines.iter().enumerate() {
        let got = say(&mut session, line);
        let (want, closes) = want.strip_suffix('|').map_or((*want, false), |w| (w, true));
        assert!(got.starts_with(want.trim_end()) && got.ends_with('|') == closes, "{i} {line}: {got}");
    }
}

// SUB-04, SUB-08, SUB-10, SUB-35, SUB-44, SUB-46, SUB-50, SUB-51, SUB-59
#[test]
fn commands_out_of_order_change_nothing() {
    dialogue(
        session(false, true, false),
        &[
            ("MAIL FROM:<a@example.org>", "503 5.5.1"),
            ("EHLO c", "250 DSN"),
            ("RCPT TO:<b@example.net>", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("MAIL FROM:<foreign@example.org>", "550 5.7.1"),
            ("MAIL FROM:<a@example.org> SIZE=1001", "552 5.3.4"),
            ("MAIL FROM:<a@example.org> SIZE=1000", "250 2.1.0"),
            ("MAIL FROM:<b@example.org>", "503 5.5.1"),
            ("STARTTLS", "503 5.5.1"),
            ("DATA", "503 5.5.1"),
            ("RCPT TO:<x@localhost>", "554 5.1.2"),
            ("DATA", "554 5.5.1"),
            ("RCPT TO:<root@relay.example.net>", "550 5.1.1"),
            ("RCPT TO:<Postmaster>", "550 5.1.1"),
            ("RCPT TO:<b@example.net>", "250 2.1.5"),
            ("DATA now", "501 5.5.4"),
            ("RSET now", "501 5.5.4"),
            ("VRFY b", "252 2.5.0"),
            ("EXPN b", "502 5.5.1"),
            ("TURN", "502 5.5.1"),
            ("HELP", "214 2.0.0"),
            ("NOOP x", "250 2.0.0"),
            ("RSET", "250 2.0.0"),
            ("RCPT TO:<b@example.net>", "503 5.5.1"),
            ("WHAT", "500 5.5.1"),
            ("BDAT 3", "502 5.5.1|"),
        ],
    );
}

// SUB-04, SUB-31, SUB-43
#[test]
fn the_first_transaction_survives_and_copies_collapse() {
    let mut s = session(false, true, false);
    for line in [
        "EHLO c",
        "MAIL FROM:<a@example.org>",
        "MAIL FROM:<b@example.org>",
        "RCPT TO:<\"a.b\"@X.example>",
        "RCPT TO:<a.b@x.EXAMPLE>",
        "RCPT TO:<A.b@x.example>",
        "DATA",
    ] {
        say(&mut s, line);
    }
    let envelope = s.take_envelope().unwrap();
    assert_eq!(envelope.reverse_path.to_string(), "a@example.org");
    let to: Vec<_> = envelope.recipients.iter().map(|r| r.path.to_string()).collect();
    assert_eq!(to, ["a.b@x.example", "A.b@x.example"]);
    let mut out = Vec::new();
    s.content_done(Err(Answer::new(554, 6, 0, "no")), &mut out);
    assert!(say(&mut s, "RCPT TO:<c@example.net>").starts_with("503 5.5.1"));
}

// LIM-08, SUB-35
#[test]
fn recipient_1001_waits_and_the_others_stay() {
    let mut s = session(false, true, false);
    say(&mut s, "EHLO c");
    say(&mut s, "MAIL FROM:<a@example.org>");
    for i in 0..1000 {
        assert!(say(&mut s, &format!("RCPT TO:<u{i}@example.net>")).starts_with("250"));
    }
    assert!(say(&mut s, "RCPT TO:<u1000@example.net>").starts_with("452 4.5.3"));
    assert!(say(&mut s, "RCPT TO:<u7@example.net>").starts_with("250"), "a known one is no further one");
    assert!(say(&mut s, "DATA").starts_with("354 "));
    assert_eq!(s.take_envelope().unwrap().recipients.len(), 1000);
}

// SUB-12, SUB-14, SUB-20, SUB-21, SUB-24
#[test]
fn trust_comes_from_tls_and_auth_or_from_the_network() {
    dialogue(
        session(true, true, false),
        &[
            ("NOOP", "250"),
            ("EHLO c", "250 DSN"),
            ("MAIL FROM:<a@example.org>", "530 5.7.0"),
            ("VRFY a", "530 5.7.0"),
            ("DATA", "530 5.7.0"),
            ("AUTH PLAIN AGFwcDEAc2VjcmV0", "530 5.7.0"),
            ("STARTTLS now", "501 5.5.4"),
            ("STARTTLS", "220 2.0.0"),
            ("MAIL FROM:<a@example.org>", "503 5.5.1"),
            ("AUTH PLAIN AGFwcDEAc2VjcmV0", "503 5.5.1"),
            ("EHLO c", "250 DSN"),
            ("STARTTLS", "503 5.5.1"),
            ("MAIL FROM:<a@example.org>", "530 5.7.0"),
            ("AUTH CRAM-MD5", "504 5.5.4"),
            ("AUTH PLAIN", "334 "),
            ("AGFwcDEAc2VjcmV0", "235 2.7.0"),
            ("AUTH PLAIN AGFwcDEAc2VjcmV0", "503 5.5.1"),
            ("MAIL FROM:<a@example.org>", "250 2.1.0"),
        ],
    );
    dialogue(session(false, true, false), &[("EHLO c", "250"), ("MAIL FROM:<>", "250 2.1.0")]);
    dialogue(session(false, false, false), &[("EHLO c", "250"), ("MAIL FROM:<>", "530 5.7.0")]);
}

// LIM-20, HS-043
#[test]
fn the_third_failure_ends_the_session() {
    dialogue(
        session(true, false, true),
        &[
            ("EHLO c", "250"),
            ("AUTH PLAIN AGFwcDEAYmFk", "535 5.7.8"),
            ("AUTH PLAIN YXBwMQ==", "501 5.5.2"),
            ("AUTH PLAIN AGFwcDEAYmFk", "421 4.7.0|"),
        ],
    );
}

// SUB-05
#[test]
fn a_browser_is_sent_away() {
    for line in ["POST / HTTP/1.1", "GET / HTTP/1.0", "SSH-2.0-x"] {
        dialogue(session(false, true, false), &[(line, "554 5.5.0|")]);
    }
    assert!(session(false, true, false).is_foreign_start(b"\x16\x03\x01"));
}

// LIM-03
#[test]
fn only_auth_lines_may_be_long() {
    let mut s = session(true, false, true);
    assert_eq!(s.max_line(b"NOOP xxx"), 4096);
    assert_eq!(s.max_line(b"auth plain x"), 12290);
    say(&mut s, "EHLO c");
    say(&mut s, "AUTH LOGIN");
    assert_eq!(s.max_line(b"AAAA"), 12290);
    let mut out = Vec::new();
    assert_eq!(s.line_too_long(&mut out), Step::Abort);
    assert!(out.starts_with(b"500 5.5.6"));
}
