//! The decision table of the TLS requirements (section 3), driven through decide, verdict and classify.
//!
//! Rows whose columns exist now: no TLSA, no REQUIRETLS. A row is an input, its outcome and its report entry.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sealpost::clock::Timestamp;
use sealpost::delivery::classify::{self, Decision, HostFailure};
use sealpost::mail::{Domain, Reply};
use sealpost::mtasts::{FetchFailure, Mode, Policy, StoredPolicy};
use sealpost::security::Level;
use sealpost::security::decide::{Demand, Gate, MessageKind, Sources, decide};
use sealpost::security::pkix::PkixFault;
use sealpost::security::verdict::{Evidence, HandshakeFault, TlsFacts, TlsState, judge, refused};
use sealpost::tlsrpt::{AppliedPolicy, PolicyVerdict, ResultType};

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

/// `PLAIN`, `ENC`, `PKIX` or `NEXT code`; and the entry: kind, success, details.
fn row(sts: Sts, server: Server, message: MessageKind) -> (String, Vec<PolicyVerdict>) {
    let (nh, mx) = (Domain::parse("example.net").unwrap(), Domain::parse("mx.example.net").unwrap());
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
    let fetch =
        |result| FetchFailure { result, reason: "http-500".into(), detail: String::new(), lines: Vec::new() };
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
        name_assured: false,
        policy: policy.as_ref().map(|(p, listed)| (p, *listed)),
        fetch_failure: failure.as_ref(),
        operator: Demand::NOTHING,
        message,
    });
    let (policy, judgement) = match gate {
        Gate::Refuse(policy) => {
            let judgement = refused(&policy);
            (policy, judgement)
        }
        Gate::Contact(policy) => {
            let tls = match server {
                Server::NoStarttls => TlsState::NotOffered,
                Server::Refused => TlsState::Refused(Reply::from_lines(454, &[b"no"])),
                Server::Handshake => {
                    TlsState::Failed(HandshakeFault { token: "tls-alert-40".into(), words: "x".into() })
                }
                Server::Cert(fault) => TlsState::On(Arc::new(TlsFacts {
                    version: "TLSv1.3".into(),
                    cipher: "x".into(),
                    sni_sent: true,
                    signature_verified: true,
                    pkix: fault.into_iter().collect(),
                    certificate: None,
                })),
            };
            let judgement = judge(&policy, &Evidence { host: mx, tls });
            (policy, judgement)
        }
    };
    let outcome = match &judgement.cleared {
        Ok(cleared) => match cleared.level() {
            Level::Plain => "PLAIN".to_owned(),
            Level::Verified if policy.demand.pkix => "PKIX".to_owned(),
            _ => "ENC".to_owned(),
        },
        Err(failure) => {
            let ruling = classify::host(&HostFailure::Tls(failure), &policy.host, &policy);
            assert!(ruling.permanent.is_none() && matches!(ruling.transient.decision, Decision::Deferred(_)));
            format!("NEXT {}", ruling.transient.enhanced)
        }
    };
    (outcome, judgement.verdicts)
}

fn entry(verdicts: &[PolicyVerdict]) -> String {
    let words = verdicts.iter().map(|v| {
        let kind = match v.policy {
            AppliedPolicy::Sts { .. } => "sts",
            AppliedPolicy::NoPolicyFound { .. } => "none",
            AppliedPolicy::Tlsa { .. } => "tlsa",
        };
        let details: Vec<_> = v.details.iter().map(|d| d.result.as_str()).collect();
        format!("{kind} {}({})", if v.success { "S" } else { "F" }, details.join("+"))
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn every_row_without_tlsa_and_requiretls() {
    let n = MessageKind::Normal;
    for (id, sts, server, message, outcome, report) in [
        ("D10 ok", Sts::None, OK, n, "ENC", "none S()"),
        ("D10 exp", Sts::None, EXP, n, "ENC", "none S()"),
        ("D10 unt", Sts::None, UNT, n, "ENC", "none S()"),
        ("D11", Sts::None, Server::NoStarttls, n, "PLAIN", "none F(starttls-not-supported)"),
        ("D12", Sts::None, Server::Refused, n, "PLAIN", "none F(starttls-not-supported)"),
        ("D13", Sts::None, Server::Handshake, n, "PLAIN", "none F(validation-failure)"),
        ("D20", EM, OK, n, "PKIX", "sts S()"),
        ("D21", EM, EXP, n, "NEXT 4.7.5", "sts F(certificate-expired)"),
        ("D22", EM, NAME, n, "NEXT 4.7.5", "sts F(certificate-host-mismatch)"),
        ("D23", EM, UNT, n, "NEXT 4.7.5", "sts F(certificate-not-trusted)"),
        ("D24", EM, Server::NoStarttls, n, "NEXT 4.7.4", "sts F(starttls-not-supported)"),
        ("D25", EM, Server::Refused, n, "NEXT 4.7.4", "sts F(starttls-not-supported)"),
        ("D26", EM, Server::Handshake, n, "NEXT 4.7.5", "sts F(validation-failure)"),
        ("D27", EX, OK, n, "NEXT 4.7.0", "sts F(validation-failure)"),
        ("D29", FEM, OK, n, "PKIX", "sts S(sts-policy-fetch-error)"),
        ("D30", FEM, EXP, n, "NEXT 4.7.5", "sts F(certificate-expired+sts-policy-fetch-error)"),
        ("D31", Sts::Failed(ResultType::StsPolicyFetchError), UNT, n, "ENC", "sts F(sts-policy-fetch-error)"),
        ("D32", Sts::Failed(ResultType::StsPolicyInvalid), OK, n, "ENC", "sts F(sts-policy-invalid)"),
        ("D33", Sts::Failed(ResultType::StsWebpkiInvalid), OK, n, "ENC", "sts F(sts-webpki-invalid)"),
        (
            "D36",
            FEM,
            Server::NoStarttls,
            n,
            "NEXT 4.7.4",
            "sts F(starttls-not-supported+sts-policy-fetch-error)",
        ),
        ("D38", Sts::OptedOut, Server::NoStarttls, n, "PLAIN", "none F(starttls-not-supported)"),
        ("D40", TM, OK, n, "ENC", "sts S()"),
        ("D41", TM, EXP, n, "ENC", "sts F(certificate-expired)"),
        ("D42", TM, Server::NoStarttls, n, "PLAIN", "sts F(starttls-not-supported)"),
        ("D43", TM, Server::Handshake, n, "PLAIN", "sts F(validation-failure)"),
        ("D44", TX, OK, n, "ENC", "sts F(validation-failure)"),
        ("D118 exp", EM, EXP, MessageKind::TlsReport, "ENC", ""),
        ("D118 unlisted", EX, Server::NoStarttls, MessageKind::TlsReport, "PLAIN", ""),
    ] {
        let (got, verdicts) = row(sts, server, message);
        assert_eq!((&*got, &*entry(&verdicts)), (outcome, report), "{id}");
    }
}

fn any_sts() -> impl Strategy<Value = Sts> {
    prop_oneof![
        Just(Sts::None),
        Just(Sts::OptedOut),
        (any::<bool>(), any::<bool>()).prop_map(|(listed, stale)| Sts::Enforce { listed, stale }),
        any::<bool>().prop_map(|listed| Sts::Testing { listed }),
        Just(Sts::Failed(ResultType::StsPolicyInvalid)),
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
    ]
}

fn any_demand() -> impl Strategy<Value = Demand> {
    (any::<bool>(), any::<bool>()).prop_map(|(tls, pkix)| Demand { tls: tls || pkix, pkix })
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
    fn a_policy_never_helps_delivery(sts in any_sts(), server in any_server()) {
        let without = row(Sts::None, server, MessageKind::Normal).0;
        let with = row(sts, server, MessageKind::Normal).0;
        prop_assert!(!without.starts_with("NEXT") || with.starts_with("NEXT"));
    }

    // (f), (c): every failure names a type that is legal for its entry, and `row` asserts that none is a bounce.
    #[test]
    fn every_failure_names_a_legal_result_type(sts in any_sts(), server in any_server()) {
        for verdict in row(sts, server, MessageKind::Normal).1 {
            prop_assert!(verdict.success || !verdict.details.is_empty());
            if matches!(verdict.policy, AppliedPolicy::NoPolicyFound { .. }) {
                let legal = [ResultType::StarttlsNotSupported, ResultType::ValidationFailure];
                prop_assert!(verdict.details.iter().all(|d| legal.contains(&d.result)));
            }
        }
    }

    // STS-74
    #[test]
    fn joining_never_weakens(a in any_demand(), b in any_demand()) {
        let joined = a.join(b);
        prop_assert_eq!(joined, b.join(a));
        prop_assert_eq!(joined.join(a), joined);
        prop_assert!((joined.tls || !a.tls) && (joined.pkix || !a.pkix));
    }
}
