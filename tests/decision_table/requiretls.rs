//! Rows with REQUIRETLS.

use sealpost::dane::TlsaAnswer;
use sealpost::delivery::classify::{self, Decision, HostFailure, HostRuling, Ruling, after_last_host};
use sealpost::mail::Domain;
use sealpost::queue::outcome::FailReason;
use sealpost::security::decide::{Asked, Demand, Gate, MessageKind, Sources, decide};
use sealpost::tlsrpt::ResultType;

use super::columns::*;
use super::judging::*;
use super::report::*;

/// Rows D90 to D104: REQUIRETLS. `S` and `I` as beside TLSA records; `N` is an implicit MX with an insecure denial.
// RTLS-20 to RTLS-26, RTLS-29, RTLS-32, RPT-66
#[test]
fn every_row_with_requiretls() {
    const S: (bool, bool) = (true, false);
    const I: (bool, bool) = (false, false);
    const N: (bool, bool) = (false, true);
    let f0 = Sts::Failed(ResultType::StsPolicyFetchError);
    let (none, x) = (Tlsa::None, Tlsa::Unusable);
    let fetch = "sts F(sts-policy-fetch-error/http-500)";
    for (id, (identified, implicit), tlsa, sts, server, outcome, report) in [
        ("D90", I, none, Sts::None, OK, "ABSENT 5.7.30", ""),
        ("D90 opted out", I, none, Sts::OptedOut, OK, "ABSENT 5.7.30", ""),
        ("D90 Tx", I, none, TX, OK, "ABSENT 5.7.30", ""),
        ("D90 Ex", I, none, EX, OK, "NEXT 4.7.0", "sts F(validation-failure/sts-mx-mismatch)"),
        ("D91", I, none, EM, OK, "PKIX +R", "sts S()"),
        ("D91 stale", I, none, FEM, OK, "PKIX +R", "sts S(sts-policy-fetch-error/http-500)"),
        ("D92", I, none, TM, OK, "PKIX +R", "sts S()"),
        ("D92 unt", I, none, TM, UNT, "NEXT 4.7.5", "sts F(certificate-not-trusted/unknown-issuer)"),
        ("D94", I, none, EM, EXP, "NEXT 4.7.5", "sts F(certificate-expired)"),
        ("D95", I, none, EM, Server::NoStarttls, "NEXT 4.7.4", "sts F(starttls-not-supported)"),
        ("D95 Tm", I, none, TM, Server::NoStarttls, "NEXT 4.7.4", "sts F(starttls-not-supported)"),
        (
            "D95 F",
            S,
            none,
            Sts::None,
            Server::Refused,
            "NEXT 4.7.4",
            "none F(starttls-not-supported/starttls-reply-454)",
        ),
        (
            "D95 H",
            S,
            none,
            Sts::None,
            Server::Handshake,
            "NEXT 4.7.5",
            "none F(validation-failure/tls-alert-40)",
        ),
        ("D96", S, DOK, Sts::None, UNT, "DANE +R", "tlsa S()"),
        ("D96 Dno", S, DNO, Sts::None, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
        ("D96 I", I, DOK, Sts::None, OK, "ABSENT 5.7.30", ""),
        ("D96 I Tm", I, DOK, TM, UNT, "DANE +R", "tlsa S() sts F(certificate-not-trusted/unknown-issuer)"),
        ("D96 E", S, Tlsa::Failed, Sts::None, OK, "NEXT 4.7.5", "tlsa F(dnssec-invalid/servfail)"),
        ("D97", S, none, Sts::None, OK, "PKIX +R", "none S()"),
        ("D98", S, none, Sts::None, UNT, "NEXT 4.7.5", "none S()"),
        ("D98 name", S, none, Sts::None, NAME, "NEXT 4.7.5", "none S()"),
        ("D99", S, none, Sts::None, Server::NoStarttls, "ABSENT 5.7.10", "none F(starttls-not-supported)"),
        ("D99 f0", S, none, f0, Server::NoStarttls, "NEXT 4.7.4", fetch),
        (
            "D99 X",
            S,
            x,
            Sts::None,
            Server::NoStarttls,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported+tlsa-invalid/all-unusable)",
        ),
        ("D100", S, x, Sts::None, OK, "PKIX +R", "tlsa F(tlsa-invalid/all-unusable)"),
        ("D100 unt", S, x, Sts::None, UNT, "NEXT 4.7.5", "tlsa F(tlsa-invalid/all-unusable)"),
        ("D101", N, none, Sts::None, OK, "PKIX +R", "none S()"),
        ("D101 name", N, none, Sts::None, NAME, "NEXT 4.7.5", "none S()"),
        ("D103", I, none, f0, OK, "NEXT 4.7.0", fetch),
        ("D103 P", I, none, f0, Server::NoStarttls, "NEXT 4.7.0", fetch),
        ("D103 S", S, none, f0, OK, "PKIX +R", fetch),
    ] {
        let case = Case { identified, implicit, tlsa, ..Case::requiretls(sts, server) };
        let (got, verdicts) = judged(case);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// D93, RTLS-25, RPT-66: the session is a success of TLS, and not for this mail.
#[test]
fn d93_a_host_that_does_not_offer_requiretls_lacks_it_for_good() {
    for (id, identified, tlsa, sts, report) in [
        ("D93", false, Tlsa::None, EM, "sts S()"),
        ("D93 T", false, Tlsa::None, TM, "sts S()"),
        ("D93 S", true, Tlsa::None, Sts::None, "none S()"),
        ("D93 U", true, DOK, Sts::None, "tlsa S()"),
    ] {
        let case = Case { identified, tlsa, offered: false, ..Case::requiretls(sts, OK) };
        let (got, verdicts) = judged(case);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), ("ABSENT 5.7.30", report), "{id}");
        // Somebody who is not the host says nothing about it.
        let (got, _) = judged(Case { server: UNT, tlsa: Tlsa::None, ..case });
        assert_eq!(got, "NEXT 4.7.5", "{id}");
    }
}

// RTLS-29: without DNSSEC nobody can know that a name is not assured.
#[test]
fn without_dnssec_a_missing_name_assurance_is_broken_and_not_absent() {
    let off = |sts| Case { asked: Asked::Fewer, ..Case::requiretls(sts, OK) };
    for (id, sts, outcome, report) in [
        ("D90", Sts::None, "NEXT 4.7.0", ""),
        ("D90 Tx", TX, "NEXT 4.7.0", ""),
        ("D91", EM, "PKIX +R", "sts S()"),
        ("D92", TM, "PKIX +R", "sts S()"),
    ] {
        let (got, verdicts) = judged(off(sts));
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
    let implicit = Case { implicit: true, ..off(Sts::None) };
    assert_eq!(judged(implicit).0, "PKIX +R");
    // What the host itself says of REQUIRETLS is said inside verified TLS, whatever the DNS is worth.
    assert_eq!(judged(Case { offered: false, ..off(EM) }).0, "ABSENT 5.7.30");
}

/// What all hosts of an attempt come to (R10).
fn last(hosts: impl IntoIterator<Item = HostRuling>) -> Ruling {
    after_last_host(&hosts.into_iter().collect::<Vec<_>>()).unwrap().1
}

/// A host of no promise that does not answer.
fn unreachable_host() -> HostRuling {
    let host = Domain::parse("mx.example.net").unwrap();
    let Gate::Contact(policy) = decide(&Sources {
        next_hop: &host,
        host: &host,
        name_assured: true,
        identified: true,
        tlsa: &TlsaAnswer::None,
        references: &[],
        require_both: false,
        policy: None,
        fetch_failure: None,
        operator: Demand::NOTHING,
        floor: Demand::NOTHING,
        exception: None,
        message: MessageKind::RequireTls,
        asked: Asked::All,
    }) else {
        panic!("an assured name may be contacted");
    };
    let at = "192.0.2.1:25".parse().unwrap();
    classify::host(&HostFailure::Connect { at, words: "timed out".into(), local: false }, &host, &policy)
}

fn host_ruling(case: Case) -> HostRuling {
    ruled(case).0.unwrap_err()
}

// R10, RTLS-28, RTLS-29, D90, D93, D99, D102
#[test]
fn requiretls_mail_is_returned_only_when_every_host_lacks_something() {
    let unassured = || host_ruling(Case::requiretls(Sts::None, OK));
    let unsupported = || host_ruling(Case { offered: false, ..Case::requiretls(EM, OK) });
    let secure = |server| host_ruling(Case { identified: true, ..Case::requiretls(Sts::None, server) });
    let unencrypted = || secure(Server::NoStarttls);
    for (id, hosts, enhanced, text) in [
        (
            "D90",
            vec![unassured(), unassured()],
            "5.7.30",
            "REQUIRETLS support required: no server for example.net offers it",
        ),
        (
            "D93",
            vec![unsupported()],
            "5.7.30",
            "REQUIRETLS support required: no server for example.net offers it",
        ),
        (
            "D99",
            vec![unencrypted()],
            "5.7.10",
            "Encryption needed: no server for example.net could be reached over verified TLS",
        ),
        (
            "D90 without DANE, which vouches for no name",
            vec![host_ruling(Case { asked: Asked::AllForNames, ..Case::requiretls(Sts::None, OK) })],
            "5.7.30",
            "REQUIRETLS support required: no server for example.net offers it",
        ),
        (
            "all",
            vec![unsupported(), unassured(), unencrypted()],
            "5.7.30",
            "REQUIRETLS support required: no server for example.net offers it",
        ),
    ] {
        let ruling = last(hosts);
        assert_eq!(ruling.decision, Decision::Failed(FailReason::RequireTls), "{id}");
        assert_eq!((ruling.enhanced.to_string().as_str(), &*ruling.text), (enhanced, text), "{id}");
    }
    let timeout = unreachable_host();
    for (id, hosts, enhanced) in [
        ("D102", vec![timeout.clone(), unsupported()], "4.4.1"),
        ("D102 other order", vec![unsupported(), timeout], "4.4.1"),
        ("a bad certificate may be mended", vec![unsupported(), secure(EXP)], "4.7.5"),
        (
            "a policy may come",
            vec![
                host_ruling(Case::requiretls(Sts::Failed(ResultType::StsPolicyFetchError), OK)),
                unencrypted(),
            ],
            "4.7.0",
        ),
        (
            "without DNSSEC",
            vec![host_ruling(Case { asked: Asked::Fewer, ..Case::requiretls(Sts::None, OK) })],
            "4.7.0",
        ),
        (
            "MTA-STS is off, and a policy might list the host",
            vec![host_ruling(Case { asked: Asked::AsConfigured, ..Case::requiretls(Sts::None, OK) })],
            "4.7.0",
        ),
        (
            "DANE is off, and records might promise TLS",
            vec![host_ruling(Case {
                asked: Asked::AllForNames,
                identified: true,
                ..Case::requiretls(Sts::None, Server::NoStarttls)
            })],
            "4.7.4",
        ),
    ] {
        let ruling = last(hosts);
        assert!(matches!(ruling.decision, Decision::Deferred(_)), "{id}");
        assert_eq!(ruling.enhanced.to_string(), enhanced, "{id}: {}", ruling.text);
    }
}

// D104, RTLS-32, RTLS-42: a notification is delivered where its message would not be, and carries the parameter where it can.
#[test]
fn d104_a_notification_goes_on_without_the_parameter_where_it_must() {
    let notice = |identified, offered, sts, server| {
        let kind = MessageKind::RequireTlsNotice;
        judged(Case { identified, offered, ..Case::new(sts, server, kind) })
    };
    let (got, verdicts) = notice(false, true, Sts::None, Server::NoStarttls);
    assert_eq!((&*got, &*entry(&reported(&[verdicts]))), ("PLAIN", "none F(starttls-not-supported)"));
    for (id, identified, offered, sts, server, outcome) in [
        ("nothing assured", false, true, Sts::None, OK, "ENC"),
        ("offered", false, true, EM, OK, "PKIX +R"),
        ("offered, testing", false, true, TM, OK, "ENC +R"),
        ("offered, secure MX", true, true, Sts::None, OK, "ENC +R"),
        ("not offered", false, false, EM, OK, "PKIX"),
        ("another certificate", true, true, Sts::None, NAME, "ENC"),
        ("a promise is a promise", false, true, EM, Server::NoStarttls, "NEXT 4.7.4"),
        ("not fetched", false, true, Sts::Failed(ResultType::StsPolicyFetchError), UNT, "ENC"),
    ] {
        assert_eq!(notice(identified, offered, sts, server).0, outcome, "{id}");
    }
}
