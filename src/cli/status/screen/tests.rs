//! The screen as people see it.

use super::super::page::WIDTH;
use super::*;
use crate::security::exception::Standing;
use crate::status::Silence;
use crate::status::queue::BusyDomain;
use crate::status::sample::{cause, domain, example, exception, now, ordinary, quiet};

fn screen(s: &Status) -> String {
    let mut out = Vec::new();
    print(s, &mut out, true).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().all(|l| l.chars().count() <= WIDTH), "{text}");
    text
}

#[test]
fn a_quiet_relay() {
    insta::assert_snapshot!(screen(&quiet().status()));
}

#[test]
fn an_ordinary_morning_fits_one_screen() {
    let text = screen(&ordinary().status());
    // One line is the shell's.
    assert!(text.lines().count() < 24, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_relay_that_does_not_answer() {
    let s = ordinary();
    let silence = "the relay does not answer at 127.0.0.1:8025: Connection refused (os error 111)".to_owned();
    let dnssec = s.running.dnssec;
    let status = Status::new(now(), s.place, Err((Silence::Unexpected(silence), dnssec)), Ok(s.stored));
    insta::assert_snapshot!(screen(&status));
}

#[test]
fn however_much_is_wrong_the_screen_ends() {
    let mut s = ordinary();
    let long = format!("{}.example", ["x".repeat(60), "y".repeat(60), "z".repeat(60)].join("."));
    let hostile = "\u{1b}[2J\r\nall is well ".repeat(50);
    let words = ["tls_certificate", "connect", "dns", "reply", "auth", "local", "policy_mx", "loop", "lost"];
    s.stored.queue.causes = words
        .map(|word| Cause { example: Some(example(&long, &hostile)), ..cause(word, 1_000_000, 100_000, 100) })
        .to_vec();
    s.stored.queue.busiest = vec![
        BusyDomain {
            domain: domain(&long),
            recipients: 9_999_999,
            oldest: now(),
            next_attempt: now(),
            cause: "connect".to_owned(),
            suspended_until: Some(now()),
        };
        5
    ];
    s.stored.queue.more = true;
    s.running.dnssec.words = hostile.clone();
    s.place.exceptions = (0..1000).map(|_| exception(&long, Standing::EndsSoon)).collect();
    s.place.certificate.as_mut().unwrap().refused = Some(hostile);
    let text = screen(&s.status());
    assert!(text.lines().count() <= 60, "{} lines:\n{text}", text.lines().count());
    assert!(
        text.contains("at least ") && text.contains("and 5 causes more") && text.ends_with("person.\n"),
        "{text}"
    );
}

#[test]
fn domains_that_are_not_named_are_counted() {
    let mut s = ordinary();
    for (domains, words) in [(3, None), (16, Some("and 13 more"))] {
        s.stored.queue.domains = domains;
        let status = Status::new(now(), s.place.clone(), Ok(s.running.clone()), Ok(s.stored.clone()));
        let text = screen(&status);
        let line = text.lines().find(|l| l.starts_with("domains")).unwrap();
        assert_eq!(words.is_some_and(|w| line.ends_with(w)), words.is_some(), "{line}");
        assert_eq!(line.contains("more"), words.is_some(), "{line}");
    }
}

// What the relay answers is what the command reads.
#[test]
fn the_document_reads_back() {
    for status in [quiet().status(), ordinary().status()] {
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.contains("\"queue\":{\"states\":{\"queued\":"), "{text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
