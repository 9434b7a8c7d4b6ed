use super::*;
use crate::clock::Timestamp;
use crate::queue::outcome::Promise;

fn waits(reason: &str, unmet: Option<Unmet>) -> (DeferReason, Diagnosis) {
    let d = Diagnosis::local(Timestamp::from_millis(0), String::new());
    (DeferReason::parse(reason).unwrap(), Diagnosis { unmet, ..d })
}

fn asked(by: &[Reason]) -> Unmet {
    Unmet { by: by.to_vec(), next_hop: false, fixed: None, token: None, certificate: None }
}

fn promise(kind: &str) -> Promise {
    Promise {
        kind: kind.to_owned(),
        mode: if kind == "dane" { String::new() } else { "enforce".to_owned() },
        id: "mx.example".to_owned(),
        mx: Vec::new(),
        fetched: None,
        expires: None,
        broken: Some("matches none".to_owned()),
        certificate: None,
        would_match: Vec::new(),
    }
}

#[test]
fn advice_names_whose_rule_it_is_and_only_ways_that_are_open() {
    use Reason::{Dane, MtaSts, Operator, Sender};
    let hop = |by: &[Reason]| Unmet { next_hop: true, ..asked(by) };
    let unknown = |u: Unmet| Unmet { token: Some("unknown-issuer".to_owned()), ..u };
    let password = |u: Unmet| Unmet { fixed: Some(Fixed::Password), ..u };
    let all =
        ["[[destination]]", "REQUIRETLS", "lower minimum_tls", "`roots`", "next hop", "password", "promises"];
    for (what, cause, unmet, said) in [
        ("a rule", "tls_certificate", asked(&[Operator]), &["[[destination]]", "lower minimum_tls"][..]),
        (
            "a rule, no authority",
            "tls_certificate",
            unknown(asked(&[Operator])),
            &["[[destination]]", "lower minimum_tls"],
        ),
        (
            "a next hop",
            "tls_missing",
            hop(&[Operator]),
            &["[[destination]]", "lower minimum_tls", "next hop"],
        ),
        (
            "a next hop, no authority",
            "tls_certificate",
            unknown(hop(&[Operator])),
            &["[[destination]]", "lower minimum_tls", "`roots`", "next hop"],
        ),
        (
            "a next hop with a password",
            "tls_certificate",
            password(unknown(hop(&[Operator]))),
            &["[[destination]]", "`roots`", "next hop", "password"],
        ),
        ("the sender", "tls_handshake", asked(&[Sender]), &["REQUIRETLS"]),
        ("both", "tls_certificate", asked(&[Sender, Operator]), &["[[destination]]", "REQUIRETLS"]),
        ("the domain too", "tls_certificate", asked(&[MtaSts, Operator]), &["promises"]),
        ("the domain", "tls_missing", asked(&[Dane]), &["promises"]),
    ] {
        let promised = unmet.is_promised();
        let (reason, mut d) = waits(cause, Some(unmet));
        d.promise = promised.then(|| promise("mta-sts"));
        let advice = d.advice(reason);
        for word in all {
            assert_eq!(advice.contains(word), said.contains(&word), "{what}, {word}: {advice}");
        }
    }
}

// RFC 7672 §2.2
#[test]
fn dane_has_words_of_its_own() {
    let (reason, mut d) = waits("tls_certificate", Some(asked(&[Reason::Dane])));
    d.promise = Some(promise("dane"));
    let advice = d.advice(reason);
    assert!(
        advice.contains("publish TLSA records that match") && !advice.contains("valid certificate"),
        "{advice}"
    );
    // The operator alone asks for records that nobody published: nothing failed, and no resolver is to be asked.
    let (reason, mut d) = waits("tlsa_lookup", Some(asked(&[Reason::Operator])));
    d.tls_failure = Some(ResultType::DaneRequired);
    for unmet in [d.unmet.clone(), None] {
        // Older rows call it a promise of the domain.
        let d = Diagnosis { unmet, promise: Some(promise("dane")), ..d.clone() };
        let advice = d.advice(reason);
        assert!(advice.contains("does not publish both") && advice.contains("minimum_tls"), "{advice}");
        assert!(!advice.contains("resolver") && !d.promised(), "{advice}");
    }
    d.tls_failure = Some(ResultType::DnssecInvalid);
    d.unmet = Some(asked(&[Reason::Dane]));
    assert!(d.advice(reason).contains("Ask your resolver"), "a lookup that failed");
}

// RTLS-43: a promise that the sender looks away from is not what its mail waits for.
#[test]
fn a_broken_promise_counts_only_where_it_is_asked_for() {
    let (reason, mut d) = waits("tls_certificate", Some(asked(&[Reason::Operator])));
    d.promise = Some(promise("mta-sts"));
    assert!(!d.promised() && d.advice(reason).contains("Your [[destination]] asks"));
    d.unmet = None;
    assert!(d.promised(), "older rows");
}

// TLS-10: the host itself wants TLS, and said so inside a session.
#[test]
fn a_host_that_wants_tls_itself_is_no_rule_of_anybody() {
    let (reason, mut d) = waits("tls_missing", None);
    d.code = Some(530);
    let advice = d.advice(reason);
    assert!(advice.contains("takes mail over TLS only") && !advice.contains("[[destination]]"), "{advice}");
}
