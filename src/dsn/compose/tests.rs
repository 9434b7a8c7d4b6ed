//! Golden notifications, and the laws that every one of them keeps.

use std::time::Duration;

use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;

use super::*;
use crate::mail::{EnhancedCode, Orcpt, Ret, SenderTls, Xtext};
use crate::queue::outcome::{CertificateFacts, Promise, Stage};
use crate::security::exception::{Allow, Waived};
use crate::tlsrpt::ResultType;

mod demands;

const HEADER: &[u8] =
    b"Received: from app by relay.example.net; x\r\nFrom: app@example.net\r\nSubject: hello\r\n\r\n";

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T07:38:00Z").unwrap()
}

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn message() -> MessageMeta {
    MessageMeta {
        id: QueueId::from_bytes([7; 16]),
        origin: Origin::Submitted,
        reverse_path: ReversePath::parse("app@example.net").unwrap(),
        ret: None,
        envid: None,
        sender_tls: SenderTls::Unsaid,
        smtputf8: false,
        has_8bit: false,
        size: 1000,
        arrived: now().before(Duration::from_secs(4 * 3600)),
        message_id: "<m1@example.net>".to_owned(),
    }
}

fn recipient(address: &str) -> LeasedRecipient {
    LeasedRecipient {
        no: 0,
        path: ForwardPath::parse(address).unwrap(),
        notify: None,
        orcpt: None,
        attempts: 7,
        next_attempt: now(),
        last: None,
    }
}

fn replied(code: u16, enhanced: &str, text: &str) -> Diagnosis {
    Diagnosis {
        at: now(),
        stage: Stage::Rcpt,
        host: Some(domain("mx1.example.org")),
        ip: Some("192.0.2.25".parse().unwrap()),
        port: Some(25),
        source_ip: Some("10.9.8.7".parse().unwrap()),
        code: Some(code),
        enhanced: EnhancedCode::parse(enhanced).unwrap(),
        text: text.to_owned(),
        tls_failure: None,
        maybe_delivered: false,
        security: None,
        waived: None,
        unmet: None,
        promise: None,
        session: None,
        waited_for: None,
        remote_id: None,
    }
}

fn policy_failure() -> Diagnosis {
    Diagnosis {
        stage: Stage::Starttls,
        code: None,
        tls_failure: Some(ResultType::CertificateExpired),
        promise: Some(Promise {
            kind: "mta-sts".to_owned(),
            mode: "enforce".to_owned(),
            id: "20260101T000000".to_owned(),
            mx: vec!["mx1.example.org".to_owned(), "*.mail.example.org".to_owned()],
            fetched: Some(now().before(Duration::from_secs(86_400))),
            expires: Some(now().after(Duration::from_secs(6 * 86_400))),
            broken: Some("the certificate expired on 2026-11-20".to_owned()),
            certificate: Some(CertificateFacts {
                names: vec!["mx1.example.org".to_owned()],
                issuer: "C=XX, O=Example Trust, CN=Example CA 3".to_owned(),
                not_before: now().before(Duration::from_secs(92 * 86_400)),
                not_after: now().before(Duration::from_secs(2 * 86_400)),
                sha256: "ab".repeat(32),
            }),
            would_match: Vec::new(),
        }),
        ..replied(250, "4.7.5", "certificate of mx1.example.org not acceptable: expired")
    }
}

fn delayed() -> DsnKind {
    DsnKind::Delayed { retry_until: now().after(Duration::from_secs(5 * 86_400)), also_waiting: 0 }
}

fn write(
    kind: DsnKind,
    message: &MessageMeta,
    reported: &[Reported<'_>],
    original: Original<'_>,
) -> (NewMessage, String) {
    let settings = DsnSettings::new(domain("relay.example.net"));
    let ctx = DsnContext { settings: &settings, id: QueueId::from_bytes([9; 16]), now: now(), random: 42 };
    let dsn = compose(kind, message, reported, original, &ctx);
    let content = dsn.content.in_memory().unwrap();
    for line in content.split_inclusive(|b| *b == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 1000, "{:?}", String::from_utf8_lossy(line));
    }
    (dsn, String::from_utf8_lossy(&content).replace("\r\n", "\n"))
}

fn only_header(kind: DsnKind, reported: &[Reported<'_>]) -> String {
    let (dsn, text) = write(kind, &message(), reported, Original { header: HEADER, full: None });
    check(&dsn);
    text
}

/// DSN-06, DSN-13, DSN-17: what holds for every notification.
fn check(dsn: &NewMessage) {
    assert_eq!(dsn.origin, Origin::Dsn);
    assert_eq!(dsn.envelope.reverse_path, ReversePath::Null);
    assert_eq!(dsn.envelope.ret, None);
    assert!(dsn.envelope.recipients.iter().all(|r| r.notify == Some(Notify::Never)));
    let content = dsn.content.in_memory().unwrap();
    let parsed = MessageParser::default().parse(&content[..]).unwrap();
    let report = parsed.content_type().unwrap();
    assert_eq!((report.ctype(), report.subtype()), ("multipart", Some("report")));
    assert_eq!(report.attribute("report-type"), Some("delivery-status"));
    assert_eq!(parsed.header_raw("Auto-Submitted").unwrap().trim(), "auto-replied");
    assert_eq!(parsed.message_id(), Some(dsn.message_id.trim_matches(['<', '>'])));
    let types: Vec<_> = (1..4)
        .map(|i| parsed.part(i).unwrap().content_type().unwrap())
        .map(|t| format!("{}/{}", t.ctype(), t.subtype().unwrap()))
        .collect();
    assert_eq!(types[..2], ["text/plain", "message/delivery-status"]);
    assert!(matches!(&*types[2], "message/rfc822" | "text/rfc822-headers"), "{types:?}");
    let human = parsed.part(1).unwrap().text_contents().unwrap();
    for line in human.lines() {
        assert!(line.len() < 78 && line.bytes().all(|b| (32..127).contains(&b)), "{line:?}");
    }
    let whole = String::from_utf8_lossy(&content).into_owned();
    assert!(!whole.contains("10.9.8.7"), "no address of ours");
}

// DSN-01, DSN-08, DSN-13, DSN-17
#[test]
fn a_refused_message() {
    let bob = recipient("bob@example.org");
    let carol = recipient("carol@example.org");
    let (unknown, full) = (replied(550, "5.1.1", "no such user here"), replied(552, "5.2.2", "mailbox full"));
    insta::assert_snapshot!(
        "refused",
        only_header(
            DsnKind::Failed,
            &[
                Reported { recipient: &bob, diagnosis: &unknown, expired: false, cause: "rejected" },
                Reported { recipient: &carol, diagnosis: &full, expired: false, cause: "rejected" },
            ]
        )
    );
}

// DSN-09
#[test]
fn an_expired_message_keeps_its_transient_status() {
    let bob = recipient("bob@example.org");
    let d = replied(451, "4.3.0", "try again later");
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: true, cause: "reply" }];
    insta::assert_snapshot!("expired", only_header(DsnKind::Failed, &report));
    let d = Diagnosis { code: None, enhanced: EnhancedCode::new(5, 0, 0), ..d };
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: true, cause: "connect" }];
    let text = only_header(DsnKind::Failed, &report);
    assert!(text.contains("\nStatus: 4.4.7\n") && text.contains("\nAction: failed\n"), "{text}");
    assert!(!text.contains("\nDiagnostic-Code") && !text.contains("\nRemote-MTA"), "no remote spoke: {text}");
}

// DSN-04, DSN-08 and the words made to be forwarded
#[test]
fn a_message_delayed_by_a_policy() {
    let bob = recipient("bob@example.org");
    let d = policy_failure();
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "tls_certificate" }];
    let DsnKind::Delayed { retry_until, .. } = delayed() else { unreachable!() };
    let kind = DsnKind::Delayed { retry_until, also_waiting: 12 };
    insta::assert_snapshot!("delayed_by_policy", only_header(kind, &report));
}

#[test]
fn a_message_that_expired_under_a_policy() {
    let bob = recipient("bob@example.org");
    let mut d = policy_failure();
    d.tls_failure = Some(ResultType::ValidationFailure);
    d.promise.as_mut().unwrap().certificate = None;
    d.promise.as_mut().unwrap().broken = Some("the policy does not list mx1.example.org".to_owned());
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: true, cause: "policy_mx" }];
    insta::assert_snapshot!("expired_by_policy", only_header(DsnKind::Failed, &report));
}

// DSN-17: what was let pass, and what is between us and our next hop, is not what a message could not be delivered for.
#[test]
fn a_message_that_expired_says_what_it_waited_for() {
    let bob = recipient("bob@example.org");
    let let_pass =
        Diagnosis { promise: policy_failure().promise, ..replied(451, "4.3.0", "try again later") };
    let report = [Reported { recipient: &bob, diagnosis: &let_pass, expired: true, cause: "reply" }];
    let text = only_header(DsnKind::Failed, &report).replace('\n', " ");
    assert!(text.contains("asked us to try again later"), "{text}");
    assert!(!text.contains("To the postmaster") && !text.contains("does not meet that rule"), "{text}");

    let auth = Diagnosis { stage: Stage::Auth, ..replied(535, "4.7.8", "relay refused our password") };
    let report = [Reported { recipient: &bob, diagnosis: &auth, expired: true, cause: "auth" }];
    let text = only_header(DsnKind::Failed, &report).replace('\n', " ");
    assert!(text.contains("Our own system had a problem") && text.contains(" Status: 4.7.8 "), "{text}");
    assert!(!text.contains("password") && !text.contains("535") && !text.contains("Remote-MTA"), "{text}");
}

// Whoever's mail went less protected than its recipient's domain asks for learns by whose word, once per exception.
#[test]
fn an_exception_is_named_once() {
    let (bob, carol) = (recipient("bob@example.org"), recipient("carol@example.org"));
    let waived = Waived {
        allow: Allow::Encrypt,
        until: Timestamp::parse_rfc3339("2026-12-24T23:59:59Z").unwrap(),
        reason: "their certificate ran out, ticket 4711".to_owned(),
        by: "ops".to_owned(),
        failure: "the certificate of mx1.example.org has expired".to_owned(),
    };
    let d = Diagnosis { waived: Some(waived), ..replied(550, "5.1.1", "no such user here") };
    let report = [
        Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "rejected" },
        Reported { recipient: &carol, diagnosis: &d, expired: false, cause: "rejected" },
    ];
    for kind in [DsnKind::Failed, delayed(), DsnKind::Relayed] {
        let text = only_header(kind, &report).split_whitespace().collect::<Vec<_>>().join(" ");
        let told = "Until 2026-12-24, by permission of ops (their certificate ran out, ticket 4711), mail for example.org \
                    is handed over although its mail server does not meet what is asked of it: the certificate of \
                    mx1.example.org has expired.";
        assert_eq!(text.matches(told).count(), 1, "{text}");
    }
}

// RFC 8461 §5: testing mode holds nothing up, so nobody is told that it did.
#[test]
fn a_policy_in_testing_mode_is_not_blamed() {
    let bob = recipient("bob@example.org");
    let mut d = policy_failure();
    d.promise.as_mut().unwrap().mode = "testing".to_owned();
    for (mode, cause, blamed) in [
        ("enforce", "tls_certificate", true),
        ("testing", "tls_certificate", false),
        ("enforce", "connect", false),
    ] {
        d.promise.as_mut().unwrap().mode = mode.to_owned();
        let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause }];
        let text = only_header(delayed(), &report);
        assert_eq!(text.contains("To the postmaster of example.org"), blamed, "{mode} {cause}");
    }
}

#[test]
fn a_message_delayed_by_the_network() {
    let bob = recipient("bob@example.org");
    let d = Diagnosis {
        code: None,
        text: "connect from 10.9.8.7 to mx1.example.org: timed out".to_owned(),
        ..replied(250, "4.4.1", "")
    };
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "connect" }];
    insta::assert_snapshot!("delayed_by_network", only_header(delayed(), &report));
}

// DSN-05
#[test]
fn a_relayed_message() {
    let bob = recipient("bob@example.org");
    let d = replied(250, "2.0.0", "queued as 4711");
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "" }];
    insta::assert_snapshot!("relayed", only_header(DsnKind::Relayed, &report));
}

// DSN-10
#[test]
fn envelope_id_and_original_recipient_come_back_only_when_given() {
    let mut bob = recipient("bob@example.org");
    let d = replied(550, "5.1.1", "no");
    let text = only_header(
        DsnKind::Failed,
        &[Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "rejected" }],
    );
    assert!(!text.contains("Original-Envelope-Id") && !text.contains("Original-Recipient"));
    bob.orcpt = Orcpt::parse("rfc822;x+40y");
    let message = MessageMeta { envid: Xtext::parse("QQ+2B1"), ..message() };
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "rejected" }];
    let (_, text) = write(DsnKind::Failed, &message, &report, Original { header: HEADER, full: None });
    assert!(
        text.contains("\n\nOriginal-Envelope-Id: QQ+1\nReporting-MTA: dns; relay.example.net\n"),
        "{text}"
    );
    assert!(
        text.contains("\n\nOriginal-Recipient: rfc822;x+40y\nFinal-Recipient: rfc822; bob@example.org\n"),
        "{text}"
    );
}

fn tagged(
    sender_tls: SenderTls,
    kind: DsnKind,
    d: &Diagnosis,
    expired: bool,
    cause: &str,
) -> (NewMessage, String) {
    let bob = recipient("bob@example.org");
    let message = MessageMeta { sender_tls, ret: Some(Ret::Full), ..message() };
    let report = [Reported { recipient: &bob, diagnosis: d, expired, cause }];
    let full = [HEADER, b"the body\r\n"].concat();
    let (dsn, text) = write(kind, &message, &report, Original { header: HEADER, full: Some(&full) });
    check(&dsn);
    (dsn, text)
}

// DSN-07, DSN-23
#[test]
fn the_whole_message_comes_back_only_on_request_and_when_small() {
    let bob = recipient("bob@example.org");
    let d = replied(550, "5.1.1", "no");
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "rejected" }];
    let small = [HEADER, b"b\xc3\xbc \xff\r\n"].concat();
    let large = [HEADER, &b"0123456\r\n".repeat(6000)[..]].concat();
    let lone_cr = [HEADER, b"a\rb\r\n"].concat();
    for (what, ret, kind, full, whole) in [
        ("asked for", Some(Ret::Full), DsnKind::Failed, &small, true),
        ("not asked for", None, DsnKind::Failed, &small, false),
        ("headers asked for", Some(Ret::Hdrs), DsnKind::Failed, &small, false),
        ("too large", Some(Ret::Full), DsnKind::Failed, &large, false),
        ("not fit to be sent", Some(Ret::Full), DsnKind::Failed, &lone_cr, false),
        ("a delay", Some(Ret::Full), delayed(), &small, false),
    ] {
        let message = MessageMeta { ret, ..message() };
        let (dsn, text) = write(kind, &message, &report, Original { header: HEADER, full: Some(full) });
        check(&dsn);
        assert_eq!(text.contains("Content-Type: message/rfc822"), whole, "{what}");
        assert_eq!(dsn.envelope.has_8bit, whole, "{what}");
        assert_eq!(
            text.matches("Content-Transfer-Encoding: 8bit").count(),
            if whole { 2 } else { 0 },
            "{what}"
        );
        let content = dsn.content.in_memory().unwrap();
        let occurs = content.windows(full.len().min(content.len())).any(|w| w == &full[..]);
        assert_eq!(occurs, whole, "octet for octet: {what}");
    }
}

/// What a notification says of the message to bob with this tag.
// RFC 3464 §2.3.6: what the remote host said, as it said it.
#[test]
fn a_code_is_reported_once() {
    for (code, enhanced, text, said) in [
        (250, "2.0.0", "250 2.0.0 ok", "250 2.0.0 ok"),
        (550, "5.1.1", "mx1.example.org said: 550 5.1.1 nobody", "550 5.1.1 nobody"),
        (451, "4.7.8", "mx1.example.org put our AUTH off: 451 4.3.0 later", "451 4.3.0 later"),
        (550, "5.1.1", "no such user", "550 5.1.1 no such user"),
    ] {
        let kind = if code == 250 { DsnKind::Relayed } else { DsnKind::Failed };
        let (_, got) = tagged(SenderTls::Unsaid, kind, &replied(code, enhanced, text), false, "rejected");
        assert!(got.contains(&format!("\nDiagnostic-Code: smtp; {said}\n")), "{got}");
    }
}

// DSN-22
#[test]
fn a_boundary_that_the_original_holds_is_not_used() {
    let bob = recipient("bob@example.org");
    let d = replied(550, "5.1.1", "no");
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "rejected" }];
    let guess = format!("=_{:032x}", 42);
    let full = [HEADER, format!("--{guess}--\r\n--{guess}\r\n").as_bytes()].concat();
    let message = MessageMeta { ret: Some(Ret::Full), ..message() };
    let (dsn, text) =
        write(DsnKind::Failed, &message, &report, Original { header: HEADER, full: Some(&full) });
    check(&dsn);
    assert!(!text.contains(&format!("boundary=\"{guess}\"")));
}

// DSN-20, DSN-21, HR-049, HR-050
#[test]
fn a_peer_cannot_write_a_field() {
    let bob = recipient("bob@example.org");
    let evil = "no\r\nX-Injected: y\r\n\r\n\u{1b}[31m\u{fc} ".to_owned() + &"a".repeat(2000);
    let mut d = policy_failure();
    d.code = Some(550);
    d.text = evil.clone();
    let promise = d.promise.as_mut().unwrap();
    promise.id = evil.clone();
    promise.mx = vec![evil.clone()];
    promise.broken = Some(evil.clone());
    promise.certificate.as_mut().unwrap().issuer = evil.clone();
    promise.certificate.as_mut().unwrap().names = vec![evil];
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "reply" }];
    let message = MessageMeta { message_id: "<x@y>\r\nX-Injected: z".to_owned(), ..message() };
    let (dsn, text) = write(delayed(), &message, &report, Original { header: HEADER, full: None });
    check(&dsn);
    assert!(!text.lines().any(|l| l.starts_with("X-Injected")), "{text}");
    assert!(!text.contains("In-Reply-To"));
}

#[test]
fn an_address_beyond_ascii_is_written_in_seven_bits() {
    let bob = recipient("\u{fc}@example.org");
    let d = replied(550, "5.6.7", "SMTPUTF8 needed");
    let text = only_header(
        DsnKind::Failed,
        &[Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "smtputf8" }],
    );
    assert!(text.contains("\nFinal-Recipient: utf-8; \\x{FC}@example.org\n"), "{text}");
}

proptest! {
    #[test]
    fn any_cause_and_any_words_make_a_report(
        code in proptest::option::of(200_u16..600),
        class in 2_u8..6,
        text: String,
        broken in proptest::option::of(".*"),
        cause in "[a-z_]{0,12}",
        expired: bool,
        which in 0_u8..3,
    ) {
        let bob = recipient("bob@example.org");
        let mut d = policy_failure();
        d.code = code;
        d.enhanced = EnhancedCode::new(class, 1, 1);
        d.text = text;
        d.promise.as_mut().unwrap().broken = broken;
        let kind = [DsnKind::Failed, delayed(), DsnKind::Relayed][usize::from(which)];
        let report = [Reported { recipient: &bob, diagnosis: &d, expired, cause: &cause }];
        let (dsn, text) = write(kind, &message(), &report, Original { header: HEADER, full: None });
        check(&dsn);
        let class = match kind { DsnKind::Failed if !expired => None, DsnKind::Relayed => Some('2'), _ => Some('4') };
        if let Some(class) = class {
            prop_assert!(text.contains(&format!("\nStatus: {class}.")), "{}", text);
        }
    }
}
