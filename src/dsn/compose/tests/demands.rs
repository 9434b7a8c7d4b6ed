//! What notifications say of TLS that the sender, the recipient's domain or this relay asked for.

use super::*;
use crate::queue::unmet::Unmet;
use crate::security::decide::Reason;

// RTLS-40, RTLS-41
#[test]
fn a_notification_of_requiretls_mail_is_protected_as_the_mail_was_and_brings_back_no_body() {
    let d = replied(550, "5.1.1", "no");
    for kind in [DsnKind::Failed, delayed(), DsnKind::Relayed] {
        for (tag, body) in [(SenderTls::Required, false), (SenderTls::Unsaid, kind == DsnKind::Failed)] {
            let (dsn, text) = tagged(tag, kind, &d, false, "rejected");
            assert_eq!(dsn.envelope.sender_tls, tag);
            assert_eq!(text.contains("the body"), body, "{kind:?} {tag:?}: RET=FULL");
            assert_eq!(text.contains("Content-Type: text/rfc822-headers"), !body, "{kind:?} {tag:?}");
            assert!(!text.contains("TLS-Required"), "{kind:?} {tag:?}");
        }
    }
}

// RTLS-43
#[test]
fn a_notification_of_mail_with_tls_required_no_says_so_too() {
    let d = replied(530, "5.7.0", "STARTTLS first");
    for kind in [DsnKind::Failed, delayed(), DsnKind::Relayed] {
        let (dsn, text) = tagged(SenderTls::Optional, kind, &d, false, "rejected");
        assert_eq!(dsn.envelope.sender_tls, SenderTls::Optional);
        let (header, _) = text.split_once("\n\n").unwrap();
        assert!(header.contains("\nTLS-Required: No\n"), "{header}");
    }
}

// RTLS-28: in words that a sender understands.
#[test]
fn a_message_that_no_host_can_protect() {
    let d = Diagnosis {
        stage: Stage::Ehlo,
        code: None,
        text: "REQUIRETLS support required: no server for example.org offers it".to_owned(),
        ..replied(550, "5.7.30", "")
    };
    let (_, text) = tagged(SenderTls::Required, DsnKind::Failed, &d, false, "requiretls_missing");
    insta::assert_snapshot!("requiretls_missing", text);
    // D90: no server was asked, and none is said to lack anything.
    let d = Diagnosis { stage: Stage::Policy, ..d };
    let (_, text) = tagged(SenderTls::Required, DsnKind::Failed, &d, false, "requiretls_missing");
    let told = text.replace('\n', " ");
    assert!(
        text.contains("\nStatus: 5.7.30\n") && told.contains("Nothing proves which mail servers"),
        "{text}"
    );
    assert!(!told.contains("promises that"), "{text}");
    let d = Diagnosis {
        stage: Stage::Starttls,
        enhanced: EnhancedCode::new(5, 7, 10),
        text: "Encryption needed: no server for example.org could be reached over verified TLS".to_owned(),
        tls_failure: Some(ResultType::StarttlsNotSupported),
        ..d
    };
    let (_, text) = tagged(SenderTls::Required, DsnKind::Failed, &d, false, "requiretls_missing");
    let told = text.replace('\n', " ");
    assert!(text.contains("\nStatus: 5.7.10\n") && told.contains("offers a protected connection"), "{text}");
}

// RTLS-28, RTLS-29, D94
#[test]
fn mail_that_waited_for_required_tls_until_its_end_says_what_it_needed() {
    let certificate = Diagnosis { promise: None, ..policy_failure() };
    let unfetched = Diagnosis {
        stage: Stage::Policy,
        code: None,
        tls_failure: None,
        ..replied(250, "4.7.0", "REQUIRETLS: MTA-STS policy of example.org could not be fetched: 500")
    };
    let unknown = Diagnosis { enhanced: EnhancedCode::new(4, 4, 3), ..unfetched.clone() };
    let rule = Diagnosis { unmet: unmet(&[Reason::Operator], false), ..certificate.clone() };
    let (network, greylisted) = (replied(451, "4.4.1", "timed out"), replied(451, "4.7.1", "come again"));
    for (what, cause, d, status, told) in [
        ("a certificate", "tls_certificate", &certificate, "5.7.10", true),
        ("a policy", "requiretls", &unfetched, "5.7.10", true),
        ("whether there is a policy", "dns", &unknown, "5.7.10", true),
        ("a rule of ours", "tls_certificate", &rule, "4.7.5", false),
        ("the network", "connect", &network, "4.4.1", false),
        ("the host's own wish", "reply", &greylisted, "4.7.1", false),
        ("a row of old, whose cause is not known", "expired", &certificate, "5.7.10", true),
    ] {
        let (_, text) = tagged(SenderTls::Required, DsnKind::Failed, d, true, cause);
        assert!(text.contains(&format!("\nStatus: {status}\n")), "{what}: {text}");
        assert_eq!(text.contains("You asked that your message travels"), told, "{what}: {text}");
        let (_, text) = tagged(SenderTls::Unsaid, DsnKind::Failed, d, true, cause);
        assert!(text.contains("\nStatus: 4.") && !text.contains("You asked"), "DSN-09: {what}");
    }
    // While it waits nothing is final.
    let (_, text) = tagged(SenderTls::Required, delayed(), &certificate, false, "");
    assert!(text.contains("\nStatus: 4.7.5\n") && text.contains("You asked"), "{text}");
    // What the recipient's domain promised and broke is for its postmaster.
    let (_, text) = tagged(SenderTls::Required, DsnKind::Failed, &policy_failure(), true, "expired");
    assert!(text.contains("To the postmaster of example.org") && text.contains("\nStatus: 5.7.10\n"));
}

/// The human part of a notification, lines joined.
fn told(tag: SenderTls, kind: DsnKind, d: &Diagnosis, cause: &str) -> String {
    let (_, text) = tagged(tag, kind, d, cause == "expired", cause);
    text.replace('\n', " ")
}

fn unmet(by: &[Reason], next_hop: bool) -> Option<Unmet> {
    Some(Unmet { by: by.to_vec(), next_hop, fixed: None, token: None, certificate: None })
}

// DANE: what the certificate would match stands beside the records, in the same form.
#[test]
fn a_postmaster_can_compare_the_certificate_with_the_records() {
    let mut d = policy_failure();
    let promise = d.promise.as_mut().unwrap();
    (promise.kind, promise.mode) = ("dane".to_owned(), String::new());
    promise.mx = vec![format!("3 1 1 {}", "b0".repeat(32))];
    promise.would_match = vec![format!("3 1 1 {}", "a0".repeat(32))];
    let bob = recipient("bob@example.org");
    let report = [Reported { recipient: &bob, diagnosis: &d, expired: false, cause: "tls_certificate" }];
    let text = only_header(delayed(), &report);
    let words: Vec<&str> = text.split_whitespace().collect();
    let words = words.join(" ");
    assert!(words.contains(&format!("Records 3 1 1 {}", "b0".repeat(32))), "{text}");
    assert!(words.contains(&format!("Matches 3 1 1 {}", "a0".repeat(32))), "{text}");
    assert!(text.contains("publish TLSA records that match the certificate"), "{text}");
}

// RTLS-28: it is the next hop that lacks it, whatever the domain's own hosts would offer.
#[test]
fn a_next_hop_that_lacks_requiretls_is_named() {
    for (detail, next_hop, words) in [
        (
            30,
            true,
            "The mail server mx1.example.org, by which mail for example.org goes, does not promise that",
        ),
        (
            10,
            true,
            "mx1.example.org, by which mail for example.org goes, does not offer a protected connection",
        ),
        (30, false, "No mail server of example.org promises that"),
        (10, false, "No mail server of example.org offers a protected connection"),
    ] {
        let enhanced = EnhancedCode::new(5, 7, detail);
        let d = Diagnosis {
            code: None,
            enhanced,
            unmet: unmet(&[Reason::Sender], next_hop),
            ..replied(550, "5.7.30", "")
        };
        let text = told(SenderTls::Required, DsnKind::Failed, &d, "requiretls_missing");
        assert!(text.contains(words), "{text}");
    }
}

// RTLS-28
#[test]
fn a_delay_of_requiretls_mail_says_that_this_is_asked_for_as_well() {
    let greylisted = replied(451, "4.7.1", "come again");
    for (what, tag, kind, d, cause, said) in [
        ("a reply", SenderTls::Required, delayed(), &greylisted, "reply", true),
        ("a promise", SenderTls::Required, delayed(), &policy_failure(), "tls_certificate", true),
        ("no tag", SenderTls::Unsaid, delayed(), &greylisted, "reply", false),
        ("the end", SenderTls::Required, DsnKind::Failed, &greylisted, "rejected", false),
    ] {
        let text = told(tag, kind, d, cause);
        assert_eq!(text.contains("You asked for REQUIRETLS"), said, "{what}: {text}");
    }
    // Where it is what the mail waits for, that is said, once.
    let certificate = Diagnosis { promise: None, ..policy_failure() };
    let text = told(SenderTls::Required, delayed(), &certificate, "tls_certificate");
    assert!(
        text.contains("(REQUIRETLS). At the moment") && !text.contains("You asked for REQUIRETLS"),
        "{text}"
    );
}

// RFC 8689 §4.2.2: the wish is about what the recipient's domain asks for.
#[test]
fn tls_required_no_does_not_reach_a_rule_of_our_own() {
    let own = Diagnosis { unmet: unmet(&[Reason::Operator], false), ..policy_failure() };
    for (kind, cause) in [(delayed(), "tls_certificate"), (DsnKind::Failed, "expired")] {
        let text = told(SenderTls::Optional, kind, &own, cause);
        assert!(text.contains("people who run this mail system demand a protected connection"), "{text}");
        assert!(
            text.contains("does not reach their demand") && text.contains("tell the people who run"),
            "{text}"
        );
        assert!(
            !text.contains("To the postmaster of"),
            "the broken promise is not what it waits for: {text}"
        );
    }
    let text = told(SenderTls::Unsaid, delayed(), &own, "tls_certificate");
    assert!(!text.contains("TLS-Required: No"), "{text}");
    let text = told(SenderTls::Optional, delayed(), &replied(451, "4.7.1", "come again"), "reply");
    assert!(!text.contains("people who run"), "{text}");
}

// RFC 8689 §4.2.2
#[test]
fn a_receipt_says_what_tls_required_no_let_pass() {
    let broken = Diagnosis { tls_failure: None, ..policy_failure() };
    let mut testing = broken.clone();
    testing.promise.as_mut().unwrap().mode = "testing".to_owned();
    let mut kept = broken.clone();
    kept.promise.as_mut().unwrap().broken = None;
    for (what, tag, kind, d, said) in [
        ("let pass", SenderTls::Optional, DsnKind::Relayed, &broken, true),
        ("kept", SenderTls::Optional, DsnKind::Relayed, &kept, false),
        ("testing", SenderTls::Optional, DsnKind::Relayed, &testing, false),
        ("not wished", SenderTls::Unsaid, DsnKind::Relayed, &broken, false),
        ("not delivered", SenderTls::Optional, DsnKind::Failed, &broken, false),
    ] {
        let text = told(tag, kind, d, "");
        assert_eq!(
            text.contains("handed over although its mail server does not meet"),
            said,
            "{what}: {text}"
        );
        assert_eq!(
            text.contains("domain asks for: the certificate expired on 2026-11-20."),
            said,
            "{what}: {text}"
        );
    }
}
