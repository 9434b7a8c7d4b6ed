//! From the columns of a row to its outcome, through decide, verdict and classify.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::CertificateDer;
use sealpost::clock::Timestamp;
use sealpost::dane::{TlsaAnswer, TlsaLookupFailed, TlsaSet};
use sealpost::delivery::classify::{self, Decision, HostFailure, HostRuling};
use sealpost::dns::{DnsError, DnsErrorKind};
use sealpost::mail::{Domain, Reply};
use sealpost::mtasts::{FetchFailure, Mode, Policy, StoredPolicy};
use sealpost::queue::outcome::FailReason;
use sealpost::security::Level;
use sealpost::security::decide::{Demand, Gate, MessageKind, Sources, decide};
use sealpost::security::pkix::PkixFault;
use sealpost::security::verdict::{Evidence, HandshakeFault, PeerChain, TlsFacts, TlsState, judge, refused};
use sealpost::tlsrpt::{PolicyVerdict, ResultType};

use super::columns::*;

/// `PLAIN`, `ENC`, `PKIX` or `NEXT code`, with ` +R` where MAIL carries REQUIRETLS; `ABSENT code` for what is final where all
/// hosts say so (R9); and the verdicts.
pub(super) fn row(sts: Sts, server: Server, message: MessageKind) -> (String, Vec<PolicyVerdict>) {
    judged(Case::new(sts, server, message))
}

/// For a host whose name is assured, by DNSSEC or because it is the next hop itself, or is not.
pub(super) fn row_at(
    host: &'static str,
    name_assured: bool,
    sts: Sts,
    server: Server,
    message: MessageKind,
) -> (String, Vec<PolicyVerdict>) {
    judged(Case { host, implicit: name_assured, ..Case::new(sts, server, message) })
}

/// The certificates of all rows: an authority, and what it signed.
pub(super) struct Certificates {
    pub(super) authority: CertificateDer<'static>,
    pub(super) sound: CertificateDer<'static>,
    pub(super) expired: CertificateDer<'static>,
    pub(super) elsewhere: CertificateDer<'static>,
}

pub(super) static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(|| {
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
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_333_080_000);

/// What the DNS says, and the chain that the host shows.
pub(super) fn dane_column(tlsa: Tlsa) -> (TlsaAnswer, Vec<CertificateDer<'static>>) {
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

pub(super) fn judged(case: Case) -> (String, Vec<PolicyVerdict>) {
    let (outcome, verdicts) = ruled(case);
    (outcome.unwrap_or_else(|ruling| next(&ruling)), verdicts)
}

pub(super) fn next(ruling: &HostRuling) -> String {
    match &ruling.permanent {
        Some(p) => {
            assert_eq!(p.decision, Decision::Failed(FailReason::RequireTls));
            format!("ABSENT {}", p.enhanced)
        }
        None => format!("NEXT {}", ruling.transient.enhanced),
    }
}

/// What is seen of a server that shows this chain.
pub(super) fn session(server: Server, mx: &Domain, chain: Vec<CertificateDer<'static>>) -> TlsState {
    match server {
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
                algorithms: rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms,
                judged: NOW,
            },
        })),
    }
}

/// The same, with all that is said about a host that gets no mail.
pub(super) fn ruled(case: Case) -> (Result<String, HostRuling>, Vec<PolicyVerdict>) {
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
        asked: case.asked,
    });
    let (policy, judgement) = match gate {
        Gate::Refuse(policy, failure) => {
            let judgement = refused(&policy, failure);
            (policy, judgement)
        }
        Gate::Contact(policy) => {
            let tls = session(server, &mx, chain);
            let requiretls = case.offered && matches!(tls, TlsState::On(_));
            let judgement = judge(&policy, &Evidence { host: mx, tls, requiretls });
            (policy, judgement)
        }
    };
    let outcome = match &judgement.cleared {
        Ok(cleared) => {
            let level = match cleared.level() {
                Level::Plain => "PLAIN",
                Level::Dane if policy.wants_pkix() => "BOTH",
                Level::Dane => "DANE",
                Level::Verified if policy.demand.verified => "PKIX",
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
