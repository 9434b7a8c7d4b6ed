//! Rows without TLSA records and without a word of the sender: MTA-STS alone.

use sealpost::security::decide::MessageKind;
use sealpost::tlsrpt::ResultType;

use super::columns::*;
use super::judging::*;
use super::report::*;

// RPT-23 to RPT-26, RPT-61, RPT-64
#[test]
fn every_row_without_tlsa_and_requiretls() {
    const FETCH: &str = "sts-policy-fetch-error/http-500";
    let n = MessageKind::Normal;
    let failed = Sts::Failed;
    for (id, sts, server, message, outcome, report) in [
        ("D06 ok", Sts::None, OK, n, "ENC", "none S()".to_owned()),
        ("D10 ok", Sts::None, OK, n, "ENC", "none S()".to_owned()),
        ("D10 exp", Sts::None, EXP, n, "ENC", "none S()".to_owned()),
        ("D10 name", Sts::None, NAME, n, "ENC", "none S()".to_owned()),
        ("D10 unt", Sts::None, UNT, n, "ENC", "none S()".to_owned()),
        ("D11", Sts::None, Server::NoStarttls, n, "PLAIN", "none F(starttls-not-supported)".to_owned()),
        (
            "D12",
            Sts::None,
            Server::Refused,
            n,
            "PLAIN",
            "none F(starttls-not-supported/starttls-reply-454)".to_owned(),
        ),
        (
            "D13",
            Sts::None,
            Server::Handshake,
            n,
            "PLAIN",
            "none F(validation-failure/tls-alert-40)".to_owned(),
        ),
        ("D20", EM, OK, n, "PKIX", "sts S()".to_owned()),
        ("D21", EM, EXP, n, "NEXT 4.7.5", "sts F(certificate-expired)".to_owned()),
        ("D22", EM, NAME, n, "NEXT 4.7.5", "sts F(certificate-host-mismatch)".to_owned()),
        ("D23", EM, UNT, n, "NEXT 4.7.5", "sts F(certificate-not-trusted/unknown-issuer)".to_owned()),
        ("D24", EM, Server::NoStarttls, n, "NEXT 4.7.4", "sts F(starttls-not-supported)".to_owned()),
        (
            "D25",
            EM,
            Server::Refused,
            n,
            "NEXT 4.7.4",
            "sts F(starttls-not-supported/starttls-reply-454)".to_owned(),
        ),
        ("D26", EM, Server::Handshake, n, "NEXT 4.7.5", "sts F(validation-failure/tls-alert-40)".to_owned()),
        ("D27", EX, OK, n, "NEXT 4.7.0", "sts F(validation-failure/sts-mx-mismatch)".to_owned()),
        ("D29", FEM, OK, n, "PKIX", format!("sts S({FETCH})")),
        ("D30", FEM, EXP, n, "NEXT 4.7.5", format!("sts F(certificate-expired+{FETCH})")),
        ("D31", failed(ResultType::StsPolicyFetchError), UNT, n, "ENC", format!("sts F({FETCH})")),
        (
            "D32",
            failed(ResultType::StsPolicyInvalid),
            OK,
            n,
            "ENC",
            "sts F(sts-policy-invalid/missing-max_age)".to_owned(),
        ),
        (
            "D33",
            failed(ResultType::StsWebpkiInvalid),
            OK,
            n,
            "ENC",
            "sts F(sts-webpki-invalid/expired)".to_owned(),
        ),
        ("D35", Sts::None, Server::NoStarttls, n, "PLAIN", "none F(starttls-not-supported)".to_owned()),
        ("D36", FEM, Server::NoStarttls, n, "NEXT 4.7.4", format!("sts F(starttls-not-supported+{FETCH})")),
        ("D38", Sts::OptedOut, Server::NoStarttls, n, "PLAIN", "none F(starttls-not-supported)".to_owned()),
        ("D40", TM, OK, n, "ENC", "sts S()".to_owned()),
        ("D41", TM, EXP, n, "ENC", "sts F(certificate-expired)".to_owned()),
        ("D42", TM, Server::NoStarttls, n, "PLAIN", "sts F(starttls-not-supported)".to_owned()),
        ("D43", TM, Server::Handshake, n, "PLAIN", "sts F(validation-failure/tls-alert-40)".to_owned()),
        ("D44", TX, OK, n, "ENC", "sts F(validation-failure/sts-mx-mismatch)".to_owned()),
        ("D118 exp", EM, EXP, MessageKind::TlsReport, "ENC", String::new()),
        (
            "D118 fetch",
            failed(ResultType::StsPolicyFetchError),
            OK,
            MessageKind::TlsReport,
            "ENC",
            String::new(),
        ),
        ("D118 unlisted", EX, Server::NoStarttls, MessageKind::TlsReport, "PLAIN", String::new()),
    ] {
        let (got, verdicts) = row(sts, server, message);
        assert_eq!((&*got, entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// The same where the name of the host is assured: it changes neither what is demanded nor what is reported.
#[test]
fn rows_of_hosts_with_an_assured_name() {
    let n = MessageKind::Normal;
    for (id, host, sts, server, outcome, report) in [
        ("D45", "example.net", EM, OK, "PKIX", "sts S()"),
        ("D46", "mx.example.net", EM, OK, "PKIX", "sts S()"),
        ("D58", "mx.example.net", Sts::None, Server::NoStarttls, "PLAIN", "none F(starttls-not-supported)"),
        ("D60", "mx.example.net", Sts::None, OK, "ENC", "none S()"),
    ] {
        let (got, verdicts) = row_at(host, true, sts, server, n);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// Rows M1 and M2; RPT-20: every candidate is a session of its own.
#[test]
fn the_candidates_of_one_attempt_add_up() {
    for (id, candidates, report) in [
        ("M1", [(EM, EXP), (EM, OK)], "sts S1 F1(certificate-expired)"),
        (
            "M2",
            [(EX, OK), (EM, Server::NoStarttls)],
            "sts S0 F2(starttls-not-supported+validation-failure/sts-mx-mismatch)",
        ),
    ] {
        let verdicts = candidates.map(|(sts, server)| row(sts, server, MessageKind::Normal).1);
        assert_eq!(entry(&reported(&verdicts)), report, "{id}");
    }
}

// RPT-26, RPT-47, RPT-49: what was fetched is shown, and nothing else.
#[test]
fn a_failed_fetch_shows_only_the_lines_that_came() {
    for (result, lines) in [
        (ResultType::StsPolicyFetchError, &[][..]),
        (ResultType::StsPolicyInvalid, &["version: STSv1".to_owned()]),
        (ResultType::StsWebpkiInvalid, &[]),
    ] {
        let policy =
            reported(&[row(Sts::Failed(result), OK, MessageKind::Normal).1]).policies[0].policy.clone();
        assert_eq!((&*policy.policy_string, &*policy.mx_host), (lines, &[][..]), "{result}");
        assert_eq!(policy.policy_domain, "example.net");
    }
}
