//! Rows with `TLS-Required: No`, and our own reports.

use sealpost::delivery::classify::{self, Context, Decision};
use sealpost::delivery::transcript::Transcript;
use sealpost::mail::{Domain, Reply};
use sealpost::queue::outcome::{FailReason, Stage};
use sealpost::security::decide::{Demand, MessageKind};
use sealpost::tlsrpt::ResultType;

use super::columns::*;
use super::judging::*;
use super::report::*;

/// Rows D110 to D115: `TLS-Required: No`.
// RTLS-50, RTLS-53
#[test]
fn every_row_with_tls_required_no() {
    let no = MessageKind::TlsOptional;
    for (id, identified, tlsa, sts, server, outcome, report) in [
        ("D110", false, Tlsa::None, EM, EXP, "ENC", "sts F(certificate-expired)"),
        ("D111", false, Tlsa::None, EM, Server::NoStarttls, "PLAIN", "sts F(starttls-not-supported)"),
        ("D112", false, Tlsa::None, EX, OK, "ENC", "sts F(validation-failure/sts-mx-mismatch)"),
        ("D113", true, DNO, Sts::None, OK, "ENC", "tlsa F(validation-failure/dane-no-match)"),
        ("D114", true, DOK, Sts::None, Server::Handshake, "PLAIN", "tlsa F(validation-failure/tls-alert-40)"),
        ("D115", true, Tlsa::Failed, Sts::None, OK, "ENC", "tlsa F(dnssec-invalid/servfail)"),
        ("D116", false, Tlsa::None, EM, Server::Handshake, "PLAIN", "sts F(validation-failure/tls-alert-40)"),
        ("sound", true, DOK, Sts::None, OK, "DANE", "tlsa S()"),
    ] {
        let (got, verdicts) = judged(Case { identified, tlsa, offered: true, ..Case::new(sts, server, no) });
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// D116, RTLS-51: who insists on TLS and cannot do it refuses this mail for good, and only this.
#[test]
fn d116_a_530_after_a_failed_handshake_returns_mail_that_waits_for_no_tls() {
    let host = Domain::parse("mx.example.net").unwrap();
    let told = |in_the_clear_if_need_be| {
        let mail = Some(Reply::from_lines(530, &[b"5.7.0 STARTTLS first"]));
        let t = Transcript { mail, rcpt: vec![None], ..Transcript::default() };
        let clear = Some(ResultType::ValidationFailure);
        let context = Context { host: &host, clear, ipv4_left: false, in_the_clear_if_need_be };
        classify::recipient(&t, 0, context).1
    };
    let ruling = told(true);
    assert_eq!(ruling.decision, Decision::Failed(FailReason::Rejected));
    assert_eq!(
        (ruling.stage, ruling.code, ruling.enhanced.to_string()),
        (Stage::Mail, Some(530), "5.7.0".into())
    );
    assert_eq!(told(false).enhanced.to_string(), "4.7.4");
}

// RTLS-10, RTLS-54: what the operator demands is no recipient's policy.
#[test]
fn no_header_gets_past_the_operator() {
    for message in [MessageKind::TlsOptional, MessageKind::TlsReport] {
        for (operator, server, outcome) in [
            (Demand::VERIFIED, EXP, "NEXT 4.7.5"),
            (Demand::VERIFIED, Server::NoStarttls, "NEXT 4.7.4"),
            (Demand::ENCRYPTED, Server::NoStarttls, "NEXT 4.7.4"),
            (Demand::ENCRYPTED, UNT, "ENC"),
            (Demand::DANE, OK, "NEXT 4.7.5"),
        ] {
            let case = Case { operator, identified: true, ..Case::new(EM, server, message) };
            assert_eq!(judged(case).0, outcome, "{message:?} {operator:?} {server:?}");
        }
    }
}
