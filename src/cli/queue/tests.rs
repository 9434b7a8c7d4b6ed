//! What `queue show` says of a recipient that waits.

use super::*;
use crate::clock::Timestamp;
use crate::mail::{Domain, EnhancedCode};
use crate::queue::outcome::CertificateFacts;
use crate::queue::unmet::Unmet;
use crate::security::decide::Reason;

fn shown(cause: &str, last: Diagnosis) -> String {
    let recipient = Recipient {
        recipient: "bob@good.test".to_owned(),
        domain: Domain::parse("good.test").unwrap(),
        state: RecipientState::Deferred,
        attempts: 1,
        next_attempt: None,
        cause: cause.to_owned(),
        last: Some(last),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = Timestamp::from_millis(0);
    let mut io =
        Io { input: &mut &b""[..], interactive: false, out: &mut out, terminal: false, err: &mut err, now };
    print_recipient(&recipient, &mut io).unwrap();
    String::from_utf8(out).unwrap()
}

fn certificate() -> CertificateFacts {
    let day = Timestamp::from_millis(0);
    CertificateFacts {
        names: vec!["mx.good.test".to_owned()],
        issuer: "CN=Lab".to_owned(),
        not_before: day,
        not_after: day,
        sha256: "cc".repeat(32),
    }
}

fn waits(text: &str) -> Diagnosis {
    Diagnosis::local(Timestamp::from_millis(0), text.to_owned())
}

// RFC 7672: records, not a mode, an id and patterns.
#[test]
fn a_promise_is_shown_in_the_words_of_its_kind() {
    let promise = |kind: &str, mode: &str, mx: &[&str], would_match: &[&str]| Promise {
        kind: kind.to_owned(),
        mode: mode.to_owned(),
        id: if kind == "dane" { "mx.good.test" } else { "2026" }.to_owned(),
        mx: mx.iter().map(ToString::to_string).collect(),
        fetched: None,
        expires: None,
        broken: Some("it matches none".to_owned()),
        certificate: Some(certificate()),
        would_match: would_match.iter().map(ToString::to_string).collect(),
    };
    for (promise, said, unsaid) in [
        (
            promise("dane", "", &["3 1 1 b0", "3 0 1 b1"], &["3 1 1 a0", "3 0 1 a1"]),
            &[
                "      promise: TLSA records of mx.good.test: 3 1 1 b0, 3 0 1 b1\n",
                "      the certificate shown would match: 3 1 1 a0, 3 0 1 a1\n",
                "what to do: The domain has TLSA records",
            ][..],
            &[", id ", " mx ", "valid certificate"][..],
        ),
        (
            promise("dane", "", &[], &[]),
            &["promise: TLSA records of mx.good.test, if it has any\n"],
            &[", id "],
        ),
        (
            promise("mta-sts", "enforce", &["mx.good.test"], &[]),
            &["promise: mta-sts enforce, id 2026, mx mx.good.test\n", "promises a valid certificate"],
            &["TLSA", "would match"],
        ),
    ] {
        let text = shown("tls_certificate", Diagnosis { promise: Some(promise), ..waits("no") });
        assert!(said.iter().all(|s| text.contains(s)), "{text}");
        assert!(!unsaid.iter().any(|s| text.contains(s)), "{text}");
        assert_eq!(text.matches("certificate: for mx.good.test, issued by CN=Lab\n").count(), 1, "{text}");
    }
}

// README: `queue show` shows the certificate that was shown, whoever asks for another.
#[test]
fn the_certificate_that_a_rule_of_our_own_does_not_take_is_shown() {
    let unmet = Unmet {
        by: vec![Reason::Operator],
        next_hop: false,
        fixed: None,
        token: None,
        certificate: Some(certificate()),
    };
    let text = shown("tls_certificate", Diagnosis { unmet: Some(unmet), ..waits("no") });
    for part in
        ["certificate: for mx.good.test, issued by CN=Lab\n", "SHA-256 cccc", "Your [[destination]] asks"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("promise") && !text.contains("REQUIRETLS"), "{text}");
}

#[test]
fn a_code_is_shown_once() {
    let enhanced = EnhancedCode::new(4, 7, 8);
    let d = waits("mx.good.test refused our user and password: 535 5.7.8 bad");
    let text = shown("auth", Diagnosis { code: Some(535), enhanced, ..d });
    assert!(
        text.contains("auth: 4.7.8 mx.good.test refused our user and password: 535 5.7.8 bad\n"),
        "{text}"
    );
}
