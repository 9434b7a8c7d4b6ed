//! The decision table of the TLS requirements (section 3), driven through decide, verdict and classify.
//!
//! A row is an input, its outcome and what the day's report says of it. Rows without a verdict (D01 to D05, D28, D34) leave no record and are asserted where they are decided.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use sealpost::clock::Timestamp;
use sealpost::dane::{TlsaAnswer, TlsaLookupFailed, TlsaSet};
use sealpost::delivery::classify::{
    self, Context, Decision, HostFailure, HostRuling, Ruling, after_last_host,
};
use sealpost::delivery::transcript::Transcript;
use sealpost::dns::{DnsError, DnsErrorKind};
use sealpost::mail::{Domain, Mailbox, Reply};
use sealpost::mtasts::{FetchFailure, Mode, Policy, StoredPolicy};
use sealpost::queue::outcome::{FailReason, Stage};
use sealpost::security::Level;
use sealpost::security::decide::{Demand, Gate, MessageKind, Sources, decide};
use sealpost::security::exception::{Allow, Exception};
use sealpost::security::pkix::PkixFault;
use sealpost::security::verdict::{Evidence, HandshakeFault, PeerChain, TlsFacts, TlsState, judge, refused};
use sealpost::tlsrpt::aggregate::{Identity, may_carry, report};
use sealpost::tlsrpt::report::Body;
use sealpost::tlsrpt::{DayCounters, DetailCounter, PolicyCounters, PolicyVerdict, ResultType};

#[path = "tls_report/schema.rs"]
#[expect(dead_code, reason = "another test looks into the report")]
mod schema;

/// The STS column: what policy, whether it lists the host, and what failed on the way to it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sts {
    None,
    OptedOut,
    Enforce { listed: bool, stale: bool },
    Testing { listed: bool },
    Failed(ResultType),
}

/// The server column.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Server {
    NoStarttls,
    Refused,
    Handshake,
    Cert(Option<PkixFault>),
    /// A certificate in which nothing is wrong, and no proof of its key.
    Unproven,
}

const OK: Server = Server::Cert(None);
const EXP: Server = Server::Cert(Some(PkixFault::Expired));
const NAME: Server = Server::Cert(Some(PkixFault::Name));
const UNT: Server = Server::Cert(Some(PkixFault::Untrusted("unknown-issuer")));
const EM: Sts = Sts::Enforce { listed: true, stale: false };
const EX: Sts = Sts::Enforce { listed: false, stale: false };
const FEM: Sts = Sts::Enforce { listed: true, stale: true };
const TM: Sts = Sts::Testing { listed: true };
const TX: Sts = Sts::Testing { listed: false };

/// The TLSA column, and what the certificate of the row is to its records.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tlsa {
    None,
    /// Usable; the certificate matches or does not.
    Server {
        matches: bool,
    },
    /// A DANE-TA record only: the authority matches, the certificate has this fault below it.
    Authority(PkixFault),
    /// None of the records can be used.
    Unusable,
    /// The lookup failed.
    Failed,
}

const DOK: Tlsa = Tlsa::Server { matches: true };
const DNO: Tlsa = Tlsa::Server { matches: false };

/// The columns of one row.
#[derive(Debug, Clone, Copy)]
struct Case {
    host: &'static str,
    /// `S`, `Ns` or `R` in the MX column.
    identified: bool,
    /// `Ni`: the host is the next hop itself.
    implicit: bool,
    tlsa: Tlsa,
    sts: Sts,
    server: Server,
    message: MessageKind,
    operator: Demand,
    require_both: bool,
    /// The EHLO reply inside TLS lists REQUIRETLS.
    offered: bool,
    /// DNSSEC answers are believed.
    dnssec: bool,
}

impl Case {
    fn new(sts: Sts, server: Server, message: MessageKind) -> Self {
        Self {
            host: "mx.example.net",
            identified: false,
            implicit: false,
            tlsa: Tlsa::None,
            sts,
            server,
            message,
            operator: Demand::NOTHING,
            require_both: false,
            offered: false,
            dnssec: true,
        }
    }

    /// For mail with REQUIRETLS, at a host that offers it.
    fn requiretls(sts: Sts, server: Server) -> Self {
        Self { offered: true, ..Self::new(sts, server, MessageKind::RequireTls) }
    }
}

/// `PLAIN`, `ENC`, `PKIX` or `NEXT code`, with ` +R` where MAIL carries REQUIRETLS; `ABSENT code` for what is final where all
/// hosts say so (R9); and the verdicts.
fn row(sts: Sts, server: Server, message: MessageKind) -> (String, Vec<PolicyVerdict>) {
    judged(Case::new(sts, server, message))
}

/// For a host whose name is assured, by DNSSEC or because it is the next hop itself, or is not.
fn row_at(
    host: &'static str,
    name_assured: bool,
    sts: Sts,
    server: Server,
    message: MessageKind,
) -> (String, Vec<PolicyVerdict>) {
    judged(Case { host, implicit: name_assured, ..Case::new(sts, server, message) })
}

/// The certificates of all rows: an authority, and what it signed.
struct Certificates {
    authority: CertificateDer<'static>,
    sound: CertificateDer<'static>,
    expired: CertificateDer<'static>,
    elsewhere: CertificateDer<'static>,
}

static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf = |name: &str, last: (i32, u8, u8)| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(last.0, last.1, last.2);
        params.signed_by(&KeyPair::generate().unwrap(), &authority).unwrap().der().clone()
    };
    Certificates {
        sound: leaf("mx.example.net", (2090, 1, 1)),
        expired: leaf("mx.example.net", (2020, 1, 1)),
        elsewhere: leaf("elsewhere.example", (2090, 1, 1)),
        authority: CertificateDer::from(authority.as_ref().der().to_vec()),
    }
});

/// 2026-11-22.
const NOW: Timestamp = Timestamp::from_millis(1_795_333_080_000);

/// What the DNS says, and the chain that the host shows.
fn dane_column(tlsa: Tlsa) -> (TlsaAnswer, Vec<CertificateDer<'static>>) {
    let base = Domain::parse("mx.example.net").unwrap();
    let c = &*CERTIFICATES;
    let record = |usage, certificate: &CertificateDer<'_>| sealpost::dane::Tlsa {
        usage,
        selector: 0,
        matching: 0,
        data: certificate.to_vec(),
    };
    let found = |record| TlsaAnswer::Found(Arc::new(TlsaSet { base: base.clone(), records: vec![record] }));
    match tlsa {
        Tlsa::None => (TlsaAnswer::None, vec![c.sound.clone()]),
        Tlsa::Server { matches: true } => (found(record(3, &c.sound)), vec![c.sound.clone()]),
        Tlsa::Server { matches: false } => (found(record(3, &c.expired)), vec![c.sound.clone()]),
        Tlsa::Authority(fault) => {
            let leaf = if fault == PkixFault::Expired { &c.expired } else { &c.elsewhere };
            (found(record(2, &c.authority)), vec![leaf.clone(), c.authority.clone()])
        }
        Tlsa::Unusable => (found(record(1, &c.sound)), vec![c.sound.clone()]),
        Tlsa::Failed => {
            let kind = DnsErrorKind::Servfail;
            let error = DnsError { kind, name: base.clone(), record: "TLSA", server: None };
            (TlsaAnswer::Failed(TlsaLookupFailed { base, error }), Vec::new())
        }
    }
}

fn judged(case: Case) -> (String, Vec<PolicyVerdict>) {
    let (outcome, verdicts) = ruled(case);
    (outcome.unwrap_or_else(|ruling| next(&ruling)), verdicts)
}

fn next(ruling: &HostRuling) -> String {
    match &ruling.permanent {
        Some(p) => {
            assert_eq!(p.decision, Decision::Failed(FailReason::RequireTls));
            format!("ABSENT {}", p.enhanced)
        }
        None => format!("NEXT {}", ruling.transient.enhanced),
    }
}

/// The same, with all that is said about a host that gets no mail.
fn ruled(case: Case) -> (Result<String, HostRuling>, Vec<PolicyVerdict>) {
    let Case { host, identified, implicit, tlsa, sts, server, message, operator, require_both, .. } = case;
    let (tlsa, chain) = dane_column(tlsa);
    let (nh, mx) = (Domain::parse("example.net").unwrap(), Domain::parse(host).unwrap());
    let stored = |mode| {
        let now = Timestamp::from_millis(0);
        let max_age = Duration::from_secs(86_400);
        let policy =
            Policy { mode, mx: vec!["mx.example.net".into()], max_age, lines: vec!["version: STSv1".into()] };
        Arc::new(StoredPolicy {
            domain: nh.clone(),
            id: "1".into(),
            policy,
            fetched: now,
            expires: now,
            last_used: now,
        })
    };
    let fetch = |result| {
        let (reason, lines) = match result {
            ResultType::StsPolicyInvalid => ("missing-max_age", vec!["version: STSv1".to_owned()]),
            ResultType::StsWebpkiInvalid => ("expired", Vec::new()),
            _ => ("http-500", Vec::new()),
        };
        FetchFailure { result, reason: reason.into(), detail: String::new(), lines }
    };
    let (policy, failure) = match sts {
        Sts::None => (None, None),
        Sts::OptedOut => (Some((stored(Mode::None), false)), None),
        Sts::Enforce { listed, stale } => {
            (Some((stored(Mode::Enforce), listed)), stale.then(|| fetch(ResultType::StsPolicyFetchError)))
        }
        Sts::Testing { listed } => (Some((stored(Mode::Testing), listed)), None),
        Sts::Failed(result) => (None, Some(fetch(result))),
    };
    let gate = decide(&Sources {
        next_hop: &nh,
        host: &mx,
        name_assured: identified || implicit,
        identified,
        tlsa: &tlsa,
        references: std::slice::from_ref(&mx),
        require_both,
        policy: policy.as_ref().map(|(p, listed)| (p, *listed)),
        fetch_failure: failure.as_ref(),
        operator,
        floor: Demand::NOTHING,
        exception: None,
        message,
        dnssec: case.dnssec,
    });
    let (policy, judgement) = match gate {
        Gate::Refuse(policy, failure) => {
            let judgement = refused(&policy, failure);
            (policy, judgement)
        }
        Gate::Contact(policy) => {
            let tls = match server {
                Server::NoStarttls => TlsState::NotOffered,
                Server::Refused => TlsState::Refused(Reply::from_lines(454, &[b"no"])),
                Server::Handshake => {
                    TlsState::Failed(HandshakeFault { token: "tls-alert-40".into(), words: "x".into() })
                }
                Server::Cert(_) | Server::Unproven => TlsState::On(Arc::new(TlsFacts {
                    version: "TLSv1.3".into(),
                    cipher: "x".into(),
                    sni: Some(mx.clone()),
                    signature_verified: server != Server::Unproven,
                    pkix: match server {
                        Server::Cert(fault) => fault.into_iter().collect(),
                        _ => Vec::new(),
                    },
                    certificate: None,
                    chain: PeerChain {
                        certificates: chain,
                        algorithms: rustls::crypto::aws_lc_rs::default_provider()
                            .signature_verification_algorithms,
                        judged: NOW,
                    },
                })),
            };
            let requiretls = case.offered && matches!(tls, TlsState::On(_));
            let judgement = judge(&policy, &Evidence { host: mx, tls, requiretls });
            (policy, judgement)
        }
    };
    let outcome = match &judgement.cleared {
        Ok(cleared) => {
            let level = match cleared.level() {
                Level::Plain => "PLAIN",
                Level::Dane if policy.demand.pkix => "BOTH",
                Level::Dane => "DANE",
                Level::Verified if policy.demand.pkix => "PKIX",
                _ => "ENC",
            };
            Ok(format!("{level}{}", if cleared.requiretls() { " +R" } else { "" }))
        }
        Err(failure) => {
            let ruling = classify::host(&HostFailure::Tls(failure), &policy.host, &policy);
            assert!(matches!(ruling.transient.decision, Decision::Deferred(_)));
            // (c): nothing that TLS does is final, but for what a sender asked for.
            assert!(ruling.permanent.is_none() || message == MessageKind::RequireTls);
            Err(ruling)
        }
    };
    (outcome, judgement.verdicts)
}

/// The report of a day on which these sessions were all; it fits RFC 8460 §4.4 (RPT-60, RPT-61).
fn reported(sessions: &[Vec<PolicyVerdict>]) -> Body {
    let mut policies: Vec<PolicyCounters> = Vec::new();
    for verdict in sessions.iter().flatten() {
        let details = verdict.details.iter().map(|d| DetailCounter {
            result: d.result,
            reason: d.reason.clone(),
            mx_host: Domain::parse("mx.example.net").ok(),
            mx_helo: None,
            sending_ip: None,
            receiving_ip: None,
            count: 1,
        });
        policies.push(PolicyCounters {
            policy: verdict.policy.clone(),
            success: u64::from(verdict.success),
            failure: u64::from(!verdict.success),
            details: details.collect(),
        });
    }
    let counted = DayCounters {
        day: "2026-03-01".parse().unwrap(),
        domain: Domain::parse("example.net").unwrap(),
        policies,
    };
    let contact = Mailbox::parse("tls-reports@relay.example").unwrap();
    let report = report(&counted, &Identity { organization: "Relay".into(), contact }, None, 1);
    schema::check(&serde_json::to_vec(&report).unwrap()).unwrap();
    report.body().clone()
}

/// The last column: what the report says.
fn entry(body: &Body) -> String {
    let words = body.policies.iter().map(|entry| {
        let kind = match entry.policy.policy_type.as_str() {
            "no-policy-found" => "none",
            other => other,
        };
        let details = entry.failure_details.iter().map(|d| match &d.failure_reason_code {
            Some(reason) => format!("{}/{reason}", d.result_type),
            None => d.result_type.clone(),
        });
        let (ok, failed) =
            (entry.summary.total_successful_session_count, entry.summary.total_failure_session_count);
        let sessions = match (ok, failed) {
            (1, 0) => "S".to_owned(),
            (0, 1) => "F".to_owned(),
            (ok, failed) => format!("S{ok} F{failed}"),
        };
        format!("{kind} {sessions}({})", details.collect::<Vec<_>>().join("+"))
    });
    words.collect::<Vec<_>>().join(" ")
}

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

/// Every row with a TLSA column: the host of a secure (`S`) or insecure (`I`) MX set.
#[test]
fn every_row_with_tlsa() {
    const S: bool = true;
    const I: bool = false;
    let x = Tlsa::Unusable;
    for (id, identified, tlsa, sts, server, outcome, report) in [
        ("D50 exp", S, DOK, Sts::None, EXP, "DANE", "tlsa S()"),
        ("D50 name", S, DOK, Sts::None, NAME, "DANE", "tlsa S()"),
        ("D50 unt", S, DOK, Sts::None, UNT, "DANE", "tlsa S()"),
        ("D51", S, DNO, Sts::None, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
        (
            "D52",
            S,
            Tlsa::Authority(PkixFault::Name),
            Sts::None,
            NAME,
            "NEXT 4.7.5",
            "tlsa F(certificate-host-mismatch)",
        ),
        (
            "D53",
            S,
            Tlsa::Authority(PkixFault::Expired),
            Sts::None,
            EXP,
            "NEXT 4.7.5",
            "tlsa F(certificate-expired)",
        ),
        ("D54 P", S, DOK, Sts::None, Server::NoStarttls, "NEXT 4.7.4", "tlsa F(starttls-not-supported)"),
        (
            "D54 F",
            S,
            DOK,
            Sts::None,
            Server::Refused,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported/starttls-reply-454)",
        ),
        (
            "D55",
            S,
            DOK,
            Sts::None,
            Server::Handshake,
            "NEXT 4.7.5",
            "tlsa F(validation-failure/tls-alert-40)",
        ),
        ("D56 ok", S, x, Sts::None, OK, "ENC", "tlsa F(tlsa-invalid/all-unusable)"),
        ("D56 unt", S, x, Sts::None, UNT, "ENC", "tlsa F(tlsa-invalid/all-unusable)"),
        (
            "D57",
            S,
            x,
            Sts::None,
            Server::NoStarttls,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported+tlsa-invalid/all-unusable)",
        ),
        ("D58", S, Tlsa::None, Sts::None, Server::NoStarttls, "PLAIN", "none F(starttls-not-supported)"),
        ("D59", S, Tlsa::Failed, Sts::None, OK, "NEXT 4.7.5", "tlsa F(dnssec-invalid/servfail)"),
        ("D59 E", S, Tlsa::Failed, EM, OK, "NEXT 4.7.5", "tlsa F(dnssec-invalid/servfail)"),
        ("D60", S, Tlsa::None, Sts::None, OK, "ENC", "none S()"),
        ("D70", S, DOK, EM, EXP, "DANE", "tlsa S()"),
        ("D71", S, DNO, EM, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
        ("D72", S, DOK, EX, OK, "DANE", "tlsa S()"),
        ("D73", I, DOK, EM, OK, "BOTH", "tlsa S() sts S()"),
        ("D74", I, DOK, EM, NAME, "NEXT 4.7.5", "tlsa S() sts F(certificate-host-mismatch)"),
        ("D75", I, DNO, EM, OK, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match) sts S()"),
        ("D76", I, DOK, EX, OK, "NEXT 4.7.0", "sts F(validation-failure/sts-mx-mismatch)"),
        ("D77", I, DOK, Sts::None, UNT, "DANE", "tlsa S()"),
        ("D78", I, DOK, TM, UNT, "DANE", "tlsa S() sts F(certificate-not-trusted/unknown-issuer)"),
        ("D79", S, x, EM, OK, "PKIX", "tlsa F(tlsa-invalid/all-unusable) sts S()"),
        (
            "D80",
            S,
            x,
            EM,
            UNT,
            "NEXT 4.7.5",
            "tlsa F(tlsa-invalid/all-unusable) sts F(certificate-not-trusted/unknown-issuer)",
        ),
        (
            "D81",
            S,
            x,
            TM,
            Server::NoStarttls,
            "NEXT 4.7.4",
            "tlsa F(starttls-not-supported+tlsa-invalid/all-unusable) sts F(starttls-not-supported)",
        ),
    ] {
        let case = Case { identified, tlsa, ..Case::new(sts, server, MessageKind::Normal) };
        let (got, verdicts) = judged(case);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// D63, DANE-34: what the operator demands.
#[test]
fn dane_demanded_by_the_operator_needs_usable_records() {
    let n =
        Case { identified: true, operator: Demand::DANE, ..Case::new(Sts::None, OK, MessageKind::Normal) };
    for (tlsa, outcome, report) in [
        (Tlsa::None, "NEXT 4.7.5", "tlsa F(dane-required)"),
        (Tlsa::Unusable, "NEXT 4.7.5", "tlsa F(dane-required)"),
        (DOK, "DANE", "tlsa S()"),
        (DNO, "NEXT 4.7.5", "tlsa F(validation-failure/dane-no-match)"),
    ] {
        let (got, verdicts) = judged(Case { tlsa, ..n });
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{tlsa:?}");
    }
}

/// Rows D90 to D104: REQUIRETLS. `S` and `I` as above; `N` is an implicit MX with an insecure denial.
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
    let off = |sts| Case { dnssec: false, ..Case::requiretls(sts, OK) };
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
        dnssec: true,
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
            vec![host_ruling(Case { dnssec: false, ..Case::requiretls(Sts::None, OK) })],
            "4.7.0",
        ),
    ] {
        let ruling = last(hosts);
        assert!(matches!(ruling.decision, Decision::Deferred(_)), "{id}");
        assert_eq!(ruling.enhanced.to_string(), enhanced, "{id}: {}", ruling.text);
    }
}

// An operator's exception speaks for the operator and the recipient's domain, never for the sender.
#[test]
fn no_exception_lets_a_host_off_what_the_sender_requires() {
    let host = Domain::parse("mx.example.net").unwrap();
    let exception = Arc::new(Exception {
        domain: host.clone(),
        allow: Allow::Plain,
        until: NOW,
        reason: "x".into(),
        by: "ops".into(),
    });
    let demanded = |message, name_assured| {
        let gate = decide(&Sources {
            next_hop: &host,
            host: &host,
            name_assured,
            identified: name_assured,
            tlsa: &TlsaAnswer::None,
            references: &[],
            require_both: false,
            policy: None,
            fetch_failure: None,
            operator: Demand::VERIFIED,
            floor: Demand::NOTHING,
            exception: Some(&exception),
            message,
            dnssec: true,
        });
        match gate {
            Gate::Contact(policy) => Some((policy.demand, policy.waiver.is_some())),
            Gate::Refuse(..) => None,
        }
    };
    let let_off = Some((Demand::NOTHING, true));
    assert_eq!(demanded(MessageKind::Normal, false), let_off);
    assert_eq!(demanded(MessageKind::RequireTlsNotice, false), let_off);
    assert_eq!(demanded(MessageKind::RequireTls, true), Some((Demand::VERIFIED, false)));
    assert_eq!(demanded(MessageKind::RequireTls, false), None);
}

// A password goes to hosts that prove by DANE who they are, where the rule says so: no exception reaches that.
#[test]
fn no_exception_reaches_below_the_floor() {
    let host = Domain::parse("mx.example.net").unwrap();
    let (domain, until) = (host.clone(), NOW);
    let allow = Allow::Encrypt;
    let exception = Arc::new(Exception { domain, allow, until, reason: "x".into(), by: "ops".into() });
    for tlsa in [Tlsa::None, Tlsa::Unusable, Tlsa::Failed, DOK] {
        let gate = decide(&Sources {
            next_hop: &host,
            host: &host,
            name_assured: true,
            identified: true,
            tlsa: &dane_column(tlsa).0,
            references: &[],
            require_both: false,
            policy: None,
            fetch_failure: None,
            operator: Demand::DANE,
            floor: Demand::DANE,
            exception: Some(&exception),
            message: MessageKind::Normal,
            dnssec: true,
        });
        assert_eq!(matches!(gate, Gate::Contact(_)), tlsa == DOK, "{tlsa:?}");
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

// What always holds, sentence 5; RFC 8446 §4.4.3, DANE-19, DANE-23: a session without proof of the key serves mail that
// demands nothing. The report says the like, and any handshake is a success for who asked for none (RPT-24).
#[test]
fn a_session_without_proof_serves_only_mail_that_demands_nothing() {
    let (n, x, no) = (MessageKind::Normal, Tlsa::Unusable, MessageKind::TlsOptional);
    let (nothing, encrypt) = (Demand::NOTHING, Demand::ENCRYPTED);
    for (id, tlsa, sts, operator, message, outcome, report) in [
        ("D10", Tlsa::None, Sts::None, nothing, n, "ENC", "none S()"),
        ("D41", Tlsa::None, TM, nothing, n, "ENC", "sts F(certificate-not-trusted/bad-signature)"),
        ("D23", Tlsa::None, EM, nothing, n, "NEXT 4.7.5", "sts F(certificate-not-trusted/bad-signature)"),
        (
            "encrypt",
            Tlsa::None,
            Sts::None,
            encrypt,
            n,
            "NEXT 4.7.5",
            "none F(validation-failure/bad-signature)",
        ),
        (
            "encrypt, No",
            Tlsa::None,
            Sts::None,
            encrypt,
            no,
            "NEXT 4.7.5",
            "none F(validation-failure/bad-signature)",
        ),
        (
            "encrypt, Tm",
            Tlsa::None,
            TM,
            encrypt,
            n,
            "NEXT 4.7.5",
            "sts F(certificate-not-trusted/bad-signature)",
        ),
        (
            "D56",
            x,
            Sts::None,
            nothing,
            n,
            "NEXT 4.7.5",
            "tlsa F(tlsa-invalid/all-unusable+validation-failure/bad-signature)",
        ),
        (
            "D56 No",
            x,
            Sts::None,
            nothing,
            no,
            "ENC",
            "tlsa F(tlsa-invalid/all-unusable+validation-failure/bad-signature)",
        ),
        ("D50", DOK, Sts::None, nothing, n, "NEXT 4.7.5", "tlsa F(validation-failure/bad-signature)"),
    ] {
        let case = Case { tlsa, operator, identified: true, ..Case::new(sts, Server::Unproven, message) };
        let (got, verdicts) = judged(case);
        assert_eq!((&*got, &*entry(&reported(&[verdicts]))), (outcome, report), "{id}");
    }
}

// `dane.require_both`.
#[test]
fn require_both_asks_for_the_policy_beside_dane() {
    let both = |tlsa, sts, server| {
        let case = Case::new(sts, server, MessageKind::Normal);
        judged(Case { identified: true, require_both: true, tlsa, ..case }).0
    };
    assert_eq!(both(DOK, EM, OK), "BOTH");
    assert_eq!(both(DOK, EM, EXP), "NEXT 4.7.5");
    assert_eq!(both(DNO, EM, OK), "NEXT 4.7.5");
    assert_eq!(both(DOK, EX, OK), "NEXT 4.7.0");
    assert_eq!(both(DOK, Sts::None, EXP), "DANE");
}

fn any_tlsa() -> impl Strategy<Value = Tlsa> {
    prop_oneof![
        Just(Tlsa::None),
        Just(DOK),
        Just(DNO),
        Just(Tlsa::Unusable),
        Just(Tlsa::Failed),
        Just(Tlsa::Authority(PkixFault::Name)),
    ]
}

fn any_sts() -> impl Strategy<Value = Sts> {
    prop_oneof![
        Just(Sts::None),
        Just(Sts::OptedOut),
        (any::<bool>(), any::<bool>()).prop_map(|(listed, stale)| Sts::Enforce { listed, stale }),
        any::<bool>().prop_map(|listed| Sts::Testing { listed }),
        Just(Sts::Failed(ResultType::StsPolicyFetchError)),
        Just(Sts::Failed(ResultType::StsPolicyInvalid)),
        Just(Sts::Failed(ResultType::StsWebpkiInvalid)),
    ]
}

fn any_server() -> impl Strategy<Value = Server> {
    prop_oneof![
        Just(Server::NoStarttls),
        Just(Server::Refused),
        Just(Server::Handshake),
        Just(OK),
        Just(EXP),
        Just(NAME),
        Just(UNT),
        Just(Server::Unproven),
    ]
}

fn any_demand() -> impl Strategy<Value = Demand> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(tls, pkix, dane)| Demand {
        tls: tls || pkix || dane,
        pkix,
        dane,
    })
}

proptest! {
    // (a): enforce never yields an unauthenticated delivery.
    #[test]
    fn enforce_never_delivers_unauthenticated(listed: bool, stale: bool, server in any_server()) {
        let (got, _) = row(Sts::Enforce { listed, stale }, server, MessageKind::Normal);
        prop_assert!(got == "PKIX" || got.starts_with("NEXT"), "{}", got);
    }

    // (d): fresh or cached makes no difference to the outcome.
    #[test]
    fn a_stale_policy_decides_like_a_fresh_one(listed: bool, server in any_server()) {
        let at = |stale| row(Sts::Enforce { listed, stale }, server, MessageKind::Normal).0;
        prop_assert_eq!(at(true), at(false));
    }

    // (e): a policy never turns a non-delivery into a delivery.
    #[test]
    fn a_policy_never_helps_delivery(
        sts in any_sts(), server in any_server(), tlsa in any_tlsa(), identified: bool, operator in any_demand(), no: bool
    ) {
        let message = if no { MessageKind::TlsOptional } else { MessageKind::Normal };
        let of = |sts| judged(Case { identified, tlsa, operator, ..Case::new(sts, server, message) }).0;
        prop_assert!(!of(Sts::None).starts_with("NEXT") || of(sts).starts_with("NEXT"));
    }

    // RTLS-20 to RTLS-26: mail with REQUIRETLS goes to an authenticated host with an assured name, with the parameter, or not
    // at all.
    #[test]
    fn requiretls_is_all_or_nothing(
        sts in any_sts(), server in any_server(), tlsa in any_tlsa(), identified: bool, implicit: bool, offered: bool, dnssec: bool
    ) {
        let case = Case { identified, implicit, tlsa, offered, dnssec, ..Case::requiretls(sts, server) };
        let (got, _) = judged(case);
        let listed = matches!(sts, Sts::Enforce { listed: true, .. } | Sts::Testing { listed: true });
        let assured = identified || implicit || listed;
        let sent = ["DANE +R", "BOTH +R", "PKIX +R"].contains(&&*got);
        prop_assert!(sent || got.starts_with("NEXT") || got.starts_with("ABSENT"), "{}", got);
        prop_assert!(!sent || (assured && offered && matches!(server, Server::Cert(_))), "{}", got);
        // What the recipient's domain promised, or what failed, is never the reason for a bounce.
        if got == "ABSENT 5.7.10" {
            prop_assert!(server == Server::NoStarttls && matches!(sts, Sts::None | Sts::OptedOut));
        }
        // Wherever it goes, ordinary mail goes too.
        let ordinary = judged(Case { message: MessageKind::Normal, ..case }).0;
        prop_assert!(!sent || !ordinary.starts_with("NEXT"), "{}", ordinary);
        prop_assert!(!ordinary.contains("+R"));
    }

    // RTLS-50, D118: nothing that a recipient's domain publishes stops mail that asks for no TLS.
    #[test]
    fn no_policy_stops_mail_with_tls_required_no(sts in any_sts(), server in any_server(), tlsa in any_tlsa(), identified: bool) {
        for message in [MessageKind::TlsOptional, MessageKind::TlsReport] {
            let (got, verdicts) = judged(Case { identified, tlsa, ..Case::new(sts, server, message) });
            prop_assert!(!got.starts_with("NEXT"), "{}", got);
            prop_assert_eq!(verdicts.is_empty(), message == MessageKind::TlsReport);
        }
    }

    // What always holds, sentence 5.
    #[test]
    fn who_demands_tls_gets_a_proven_handshake(
        sts in any_sts(), tlsa in any_tlsa(), identified: bool, operator in any_demand(), no: bool, require_both: bool
    ) {
        let message = if no { MessageKind::TlsOptional } else { MessageKind::Normal };
        let at = |server| judged(Case { identified, tlsa, operator, require_both, ..Case::new(sts, server, message) }).0;
        // Nothing is demanded where mail would go in the clear.
        let demands_nothing = at(Server::NoStarttls) == "PLAIN";
        let unproven = at(Server::Unproven);
        prop_assert_eq!(&*unproven == "ENC", demands_nothing, "{}", unproven);
        prop_assert!(demands_nothing || unproven.starts_with("NEXT 4.7."), "{}", unproven);
    }

    // (b), DANE-37: usable TLSA records never yield less than DANE.
    #[test]
    fn usable_records_never_yield_less_than_dane(matches: bool, identified: bool, sts in any_sts(), server in any_server()) {
        let case = Case::new(sts, server, MessageKind::Normal);
        let (got, _) = judged(Case { identified, tlsa: Tlsa::Server { matches }, ..case });
        prop_assert!(["DANE", "BOTH"].contains(&&*got) || got.starts_with("NEXT"), "{}", got);
    }

    // (a) beside records that cannot be used, (c): an enforce policy holds, and `judged` asserts that nothing is a bounce.
    #[test]
    fn unusable_records_take_nothing_from_a_policy(listed: bool, identified: bool, server in any_server()) {
        let case = Case::new(Sts::Enforce { listed, stale: false }, server, MessageKind::Normal);
        let (got, _) = judged(Case { identified, tlsa: Tlsa::Unusable, ..case });
        prop_assert!(got == "PKIX" || got.starts_with("NEXT"), "{}", got);
    }

    // (f), RPT-60: with TLSA records too.
    #[test]
    fn entries_carry_only_what_is_legal_for_them(tlsa in any_tlsa(), identified: bool, sts in any_sts(), server in any_server()) {
        let case = Case::new(sts, server, MessageKind::Normal);
        let verdicts = judged(Case { identified, tlsa, ..case }).1;
        prop_assert!(!verdicts.is_empty());
        let _ = reported(&[verdicts]);
    }

    // (f), (c): every failure names a type that is legal for its entry (RPT-60, RPT-61; `reported` checks it of
    // the report too), and `row` asserts that none is a bounce.
    #[test]
    fn every_failure_names_a_legal_result_type(sts in any_sts(), server in any_server(), assured: bool) {
        let (_, verdicts) = row_at("mx.example.net", assured, sts, server, MessageKind::Normal);
        prop_assert!(!verdicts.is_empty());
        for verdict in &verdicts {
            prop_assert!(verdict.success || !verdict.details.is_empty());
            prop_assert!(verdict.details.iter().all(|d| may_carry(&verdict.policy, d.result)));
        }
        let said = reported(std::slice::from_ref(&verdicts));
        for (verdict, entry) in verdicts.iter().zip(&said.policies) {
            // Nothing was renamed on the way.
            let told: Vec<_> = entry.failure_details.iter().map(|d| d.result_type.clone()).collect();
            prop_assert!(verdict.details.iter().all(|d| told.contains(&d.result.to_string())));
            prop_assert_eq!(entry.summary.total_successful_session_count, u64::from(verdict.success));
        }
        // RPT-27: our own reports leave nothing.
        prop_assert!(row_at("mx.example.net", assured, sts, server, MessageKind::TlsReport).1.is_empty());
    }

    // STS-74
    #[test]
    fn joining_never_weakens(a in any_demand(), b in any_demand()) {
        let joined = a.join(b);
        prop_assert_eq!(joined, b.join(a));
        prop_assert_eq!(joined.join(a), joined);
        prop_assert!((joined.tls || !a.tls) && (joined.pkix || !a.pkix) && (joined.dane || !a.dane));
    }
}
