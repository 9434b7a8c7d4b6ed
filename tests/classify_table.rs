//! What each reply and fault of a transaction means for a recipient: requirements-smtp.md table 2.1, row by row.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use sealpost::delivery::classify::{Context, Decision, Next, recipient};
use sealpost::delivery::transcript::{Fault, Transcript};
use sealpost::mail::{Domain, Reply};
use sealpost::queue::outcome::{DeferReason, FailReason, Stage};
use sealpost::tlsrpt::ResultType;

fn reply(text: &str) -> Reply {
    let (code, words) = text.split_once(' ').unwrap();
    Reply::from_lines(code.parse().unwrap(), &[words.as_bytes()])
}

/// A transaction of two recipients as it was said; empty: no reply. The second recipient is the one judged.
fn transcript(mail: &str, first: &str, second: &str, data: &str, dot: &str) -> Transcript {
    let said = |text: &str| (!text.is_empty()).then(|| reply(text));
    let dot = said(dot);
    Transcript {
        mail: said(mail),
        rcpt: vec![said(first), said(second)],
        data: said(data),
        terminator_sent: dot.is_some(),
        dot,
        fault: None,
    }
}

// OUT-22, OUT-40, OUT-41, OUT-43, OUT-46, OUT-47
#[test]
fn every_reply_of_a_transaction() {
    use Decision::{Deferred, Delivered, Failed};
    use DeferReason::{Protocol, TlsMissing};
    let host = Domain::parse("mx.example.net").unwrap();
    let (later, no) = (Deferred(DeferReason::Reply), Failed(FailReason::Rejected));
    let ok = "250 2.0.0 ok";
    let go = "354 go";
    for (row, t, next, decision, enhanced) in [
        ("dot 2xx", transcript(ok, ok, ok, go, "250 2.6.0 queued"), Next::Settled, Delivered, "2.6.0"),
        ("MAIL 4xx", transcript("451 try later", "", "", "", ""), Next::NextHost, later, "4.0.0"),
        ("MAIL 452", transcript("452 full", "", "", "", ""), Next::NextHost, later, "4.3.1"),
        ("MAIL 5xx", transcript("550 no", "", "", "", ""), Next::Settled, no, "5.0.0"),
        (
            "MAIL 552",
            transcript("552 too big", "", "", "", ""),
            Next::Settled,
            Failed(FailReason::TooLarge),
            "5.3.4",
        ),
        (
            "MAIL 530 in the clear",
            transcript("530 5.7.0 TLS first", "", "", "", ""),
            Next::NextHost,
            Deferred(TlsMissing),
            "4.7.4",
        ),
        ("RCPT 251", transcript(ok, ok, "251 forwards", go, ok), Next::Settled, Delivered, "2.0.0"),
        ("RCPT 4xx", transcript(ok, ok, "450 4.2.1 later", go, ok), Next::NextHost, later, "4.2.1"),
        ("RCPT 452 later", transcript(ok, ok, "452 many", go, ok), Next::SameConnection, later, "4.5.3"),
        ("RCPT 552 later", transcript(ok, ok, "552 many", go, ok), Next::SameConnection, later, "4.5.3"),
        ("RCPT 552 5.2.2", transcript(ok, ok, "552 5.2.2 full", go, ok), Next::Settled, no, "5.2.2"),
        ("RCPT 552 5.3.4", transcript(ok, ok, "552 5.3.4 big", go, ok), Next::Settled, no, "5.3.4"),
        (
            "RCPT 452 first",
            transcript(ok, "550 no", "452 many", "503 no", ""),
            Next::NextHost,
            later,
            "4.0.0",
        ),
        ("RCPT 552 first", transcript(ok, "550 no", "552 many", "503 no", ""), Next::Settled, no, "5.0.0"),
        ("RCPT 5xx", transcript(ok, ok, "550 5.1.1 nobody", go, ok), Next::Settled, no, "5.1.1"),
        // OUT-47: the basic code decides, never an enhanced code that contradicts it.
        ("RCPT 450 5.1.1", transcript(ok, ok, "450 5.1.1 odd", go, ok), Next::NextHost, later, "4.0.0"),
        ("RCPT 550 4.2.0", transcript(ok, ok, "550 4.2.0 odd", go, ok), Next::Settled, no, "5.0.0"),
        ("DATA 4xx", transcript(ok, ok, ok, "451 4.3.0 later", ""), Next::NextHost, later, "4.3.0"),
        ("DATA 5xx", transcript(ok, ok, ok, "554 no", ""), Next::Settled, no, "5.0.0"),
        ("DATA 2xx", transcript(ok, ok, ok, "250 what", ""), Next::NextHost, Deferred(Protocol), "4.5.0"),
        ("dot 4xx", transcript(ok, ok, ok, go, "451 4.7.1 grey"), Next::NextHost, later, "4.7.1"),
        ("dot 421", transcript(ok, ok, ok, go, "421 4.3.2 down"), Next::NextHost, later, "4.3.2"),
        ("dot 5xx", transcript(ok, ok, ok, go, "554 5.7.1 spam"), Next::Settled, no, "5.7.1"),
    ] {
        let context =
            Context { host: &host, clear: Some(ResultType::StarttlsNotSupported), ipv4_left: false };
        let (got, ruling) = recipient(&t, 1, context);
        assert_eq!((got, ruling.decision), (next, decision), "{row}: {}", ruling.text);
        assert_eq!(ruling.enhanced.to_string(), enhanced, "{row}");
        assert!(!ruling.maybe_delivered, "{row}");
    }
}

// OUT-20, OUT-23, OUT-44, OUT-45
#[test]
fn every_fault_of_a_transaction() {
    use DeferReason::{Damaged, Local, Lost, Protocol, Uncertain};
    let host = Domain::parse("mx.example.net").unwrap();
    let closing = || Fault::Closing(reply("421 4.3.2 bye"));
    for (row, stage, fault, past_dot, next, reason, enhanced) in [
        ("lost at MAIL", Stage::Mail, Fault::Lost, false, Next::NextHost, Lost, "4.4.2"),
        ("timeout at RCPT", Stage::Rcpt, Fault::Timeout, false, Next::NextHost, Lost, "4.4.2"),
        ("421 at RCPT", Stage::Rcpt, closing(), false, Next::NextHost, DeferReason::Reply, "4.3.2"),
        ("lost in content", Stage::Data, Fault::Lost, false, Next::NextHost, Lost, "4.4.2"),
        ("lost after the dot", Stage::Dot, Fault::Lost, true, Next::Settled, Uncertain, "4.4.2"),
        ("timeout after the dot", Stage::Dot, Fault::Timeout, true, Next::Settled, Uncertain, "4.4.2"),
        ("not SMTP", Stage::Rcpt, Fault::Protocol("x"), false, Next::NextHost, Protocol, "4.5.0"),
        ("not SMTP after the dot", Stage::Dot, Fault::Protocol("x"), true, Next::Settled, Uncertain, "4.5.0"),
        ("ours", Stage::Data, Fault::Local("x".into()), false, Next::Settled, Local, "4.3.0"),
        ("damaged", Stage::Data, Fault::Damaged("x".into()), false, Next::Settled, Damaged, "4.3.0"),
    ] {
        let mut t = transcript("", "", "", "", "");
        if matches!(stage, Stage::Data | Stage::Dot) {
            t = transcript("250 ok", "250 ok", "250 ok", "354 go", "");
        }
        (t.fault, t.terminator_sent) = (Some((stage, fault)), past_dot);
        let (got, ruling) = recipient(&t, 1, Context { host: &host, clear: None, ipv4_left: false });
        assert_eq!((got, ruling.decision), (next, Decision::Deferred(reason)), "{row}");
        assert_eq!(
            (ruling.enhanced.to_string().as_str(), ruling.maybe_delivered),
            (enhanced, past_dot),
            "{row}"
        );
    }
    // A 5xx that came before the connection broke stands; a 2xx is void.
    let mut t = transcript("250 ok", "550 5.1.1 nobody", "250 ok", "", "");
    t.fault = Some((Stage::Data, Fault::Lost));
    let context = Context { host: &host, clear: None, ipv4_left: false };
    assert_eq!(recipient(&t, 0, context).1.decision, Decision::Failed(FailReason::Rejected));
    assert_eq!(recipient(&t, 1, context).1.decision, Decision::Deferred(Lost));
}
