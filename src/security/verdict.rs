//! Compares what is demanded of a session with what was seen of it.
//!
//! Pure. [`judge`] is the only maker of a [`Clearance`], and no MAIL can be sent without one, in the clear or
//! not. It also makes the report entries (R12), so that delivery and report cannot disagree.

use std::fmt;
use std::sync::Arc;

use crate::mail::{Domain, Reply};
use crate::queue::outcome::{CertificateFacts, Promise};
use crate::security::Level;
use crate::security::decide::{Reason, StsPolicy, TlsPolicy};
use crate::security::pkix::PkixFault;
use crate::tlsrpt::{AppliedPolicy, FailureDetail, PolicyVerdict, ResultType};

/// What was seen of a session up to and including the EHLO after TLS.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The name under which the host was dialled, and asked for in SNI.
    pub host: Domain,
    /// How STARTTLS went.
    pub tls: TlsState,
}

/// How STARTTLS went.
#[derive(Debug, Clone)]
pub enum TlsState {
    /// The EHLO reply lacks the keyword, or the host takes HELO only (TLS-09).
    NotOffered,
    /// STARTTLS was answered other than 220.
    Refused(Reply),
    /// The handshake failed after the 220; the connection is gone.
    Failed(HandshakeFault),
    /// TLS is up and the host has greeted again inside it.
    On(Arc<TlsFacts>),
}

impl TlsState {
    /// Why the session is in the clear; `None` when it is not.
    pub const fn missing(&self) -> Option<ResultType> {
        match self {
            Self::NotOffered | Self::Refused(_) => Some(ResultType::StarttlsNotSupported),
            Self::Failed(_) => Some(ResultType::ValidationFailure),
            Self::On(_) => None,
        }
    }
}

/// A failed handshake: a short stable token (RPT-59) and the story for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandshakeFault {
    /// `tls-alert-40`, `handshake-timeout`, `handshake-eof`…
    pub token: String,
    /// In words.
    pub words: String,
}

/// What is known about an established TLS session.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// Whether SNI was sent (it is the host's name then).
    pub sni_sent: bool,
    /// Whether the peer proved that it has the key of the leaf. Checked strictly whenever a proof is demanded.
    pub signature_verified: bool,
    /// Every fault of the chain for the host's name; empty when it holds.
    pub pkix: Vec<PkixFault>,
    /// The leaf, for people.
    pub certificate: Option<CertificateFacts>,
}

impl TlsFacts {
    /// The faults of the certificate, the missing proof of its key included.
    fn faults(&self) -> Vec<PkixFault> {
        let mut faults = self.pkix.clone();
        if !self.signature_verified {
            faults.push(PkixFault::Untrusted("bad-signature"));
        }
        faults
    }
}

/// Leave to send MAIL on the session that was judged. Only [`judge`] makes one.
#[derive(Debug)]
pub struct Clearance {
    level: Level,
}

impl Clearance {
    /// The security of the session, as logs, timeline and `check` say it.
    pub const fn level(&self) -> Level {
        self.level
    }
}

/// Why a session does not meet its demand. Always temporary (`What always holds` 2).
#[derive(Debug, Clone)]
pub enum TlsFailure {
    /// An enforce policy does not list the host.
    NotListed,
    /// STARTTLS is not offered.
    NotOffered,
    /// STARTTLS was refused.
    Refused(Reply),
    /// The handshake failed.
    Handshake(HandshakeFault),
    /// The certificate does not hold; at least one fault.
    Certificate(Vec<PkixFault>),
}

impl TlsFailure {
    /// Every cause as a report entry's detail.
    pub fn details(&self) -> Vec<FailureDetail> {
        let one = |result, reason: Option<String>| vec![FailureDetail { result, reason }];
        match self {
            Self::NotListed => one(ResultType::ValidationFailure, Some("sts-mx-mismatch".to_owned())),
            Self::NotOffered => one(ResultType::StarttlsNotSupported, None),
            Self::Refused(r) => {
                one(ResultType::StarttlsNotSupported, Some(format!("starttls-reply-{}", r.code)))
            }
            Self::Handshake(h) => one(ResultType::ValidationFailure, Some(h.token.clone())),
            Self::Certificate(faults) => faults.iter().map(|f| f.detail()).collect(),
        }
    }

    /// The first cause's result type: `tls_failure` of the log line.
    pub fn result_type(&self) -> ResultType {
        self.details().first().map_or(ResultType::ValidationFailure, |d| d.result)
    }

    /// The stored text: a stable prefix, then the detail (requirements §3.2).
    pub fn text(&self, policy: &TlsPolicy) -> String {
        let (nh, mx, by) = (&policy.next_hop, &policy.host, policy.required_by());
        match self {
            Self::NotListed => format!("MX host {mx} is not allowed by the MTA-STS policy of {nh}"),
            Self::NotOffered => {
                format!("TLS is required by {by} policy for {nh}, but {mx} does not offer STARTTLS")
            }
            Self::Refused(reply) => {
                format!("TLS is required by {by} policy for {nh}, but {mx} refused STARTTLS: {reply}")
            }
            Self::Handshake(h) => format!("TLS handshake with {mx} failed: {}", h.words),
            Self::Certificate(faults) => {
                format!("certificate of {mx} not acceptable: {}", Faults(faults))
            }
        }
    }

    /// The failed check in one clause that a layman can forward: [`Promise::broken`].
    fn clause(&self, policy: &TlsPolicy, certificate: Option<&CertificateFacts>) -> String {
        let mx = &policy.host;
        match self {
            Self::NotListed => format!("the mail server {mx} is not on the list of the policy"),
            Self::NotOffered => format!("the mail server {mx} offers no encryption (STARTTLS)"),
            Self::Refused(r) => format!("the mail server {mx} refused encryption (STARTTLS): {r}"),
            Self::Handshake(h) => format!("the TLS handshake with {mx} failed: {}", h.words),
            Self::Certificate(faults) => {
                let clauses: Vec<String> =
                    faults.iter().map(|f| certificate_clause(*f, mx, certificate)).collect();
                clauses.join("; ")
            }
        }
    }
}

struct Faults<'a>(&'a [PkixFault]);

impl fmt::Display for Faults<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

fn certificate_clause(fault: PkixFault, mx: &Domain, cert: Option<&CertificateFacts>) -> String {
    let on =
        |t: Option<crate::clock::Timestamp>| t.map_or_else(String::new, |t| format!(" on {}", t.utc_day()));
    match fault {
        PkixFault::Expired => match cert {
            Some(c) => format!(
                "the certificate of {mx}, or one it needs, has expired (its own last day is {})",
                c.not_after.utc_day()
            ),
            None => format!("the certificate of {mx} has expired"),
        },
        PkixFault::NotYetValid => {
            format!("the certificate of {mx} becomes valid only{}", on(cert.map(|c| c.not_before)))
        }
        PkixFault::Name => match cert.filter(|c| !c.names.is_empty()) {
            Some(c) => format!("the certificate of {mx} is for other names ({})", c.names.join(", ")),
            None => format!("the certificate of {mx} names no host"),
        },
        PkixFault::Untrusted("self-signed") => format!("the certificate of {mx} is self-signed"),
        PkixFault::Untrusted("unknown-issuer") => {
            format!(
                "the certificate of {mx} comes from no authority that is trusted, or a certificate between is missing"
            )
        }
        PkixFault::Untrusted(token) => format!("the certificate of {mx} is not trusted ({token})"),
        PkixFault::Unreadable(token) => format!("the certificate of {mx} cannot be read ({token})"),
    }
}

/// The verdict on one session for one next hop.
#[derive(Debug)]
pub struct Judgement {
    /// Leave to send, or why not.
    pub cleared: Result<Clearance, TlsFailure>,
    /// One entry per applied policy; empty when nothing is to be recorded (RPT-27).
    pub verdicts: Vec<PolicyVerdict>,
    /// What the recipient's domain promised and how it was broken, in testing mode too.
    pub promise: Option<Promise>,
}

/// Judges a session on its evidence. The same evidence may be judged again for another next hop (OUT-51).
pub fn judge(policy: &TlsPolicy, evidence: &Evidence) -> Judgement {
    // The evidence speaks of one name only: another candidate's session proves nothing.
    let listed = policy.sts.as_ref().is_none_or(|s| s.lists_host);
    let (level, failure) = match &evidence.tls {
        _ if evidence.host != policy.host => {
            (Level::Plain, Some(TlsFailure::Certificate(vec![PkixFault::Name])))
        }
        TlsState::NotOffered => (Level::Plain, Some(TlsFailure::NotOffered)),
        TlsState::Refused(reply) => (Level::Plain, Some(TlsFailure::Refused(reply.clone()))),
        TlsState::Failed(fault) => (Level::Plain, Some(TlsFailure::Handshake(fault.clone()))),
        TlsState::On(facts) => match facts.faults() {
            faults if !faults.is_empty() => (Level::Encrypted, Some(TlsFailure::Certificate(faults))),
            _ if policy.name_assured => (Level::Verified, None),
            _ => (Level::Encrypted, None),
        },
    };
    let encrypted = level >= Level::Encrypted;
    let authenticated = failure.is_none();
    let met = (!policy.demand.tls || encrypted) && (!policy.demand.pkix || authenticated);
    let blocking = if !listed && policy.reasons.contains(&Reason::MtaSts) {
        Some(TlsFailure::NotListed)
    } else if met {
        None
    } else {
        failure.clone()
    };
    let seen = seen_failures(listed, failure.as_ref());
    let certificate = match &evidence.tls {
        TlsState::On(facts) => facts.certificate.clone(),
        _ => None,
    };
    Judgement {
        verdicts: verdicts(policy, encrypted, &seen),
        promise: promise(policy, &seen, certificate),
        cleared: match blocking {
            None => Ok(Clearance { level }),
            Some(f) => Err(f),
        },
    }
}

/// The entries and the promise of a candidate given up before connecting (R5, RPT-20).
pub fn refused(policy: &TlsPolicy) -> Judgement {
    let seen = [TlsFailure::NotListed];
    Judgement {
        cleared: Err(TlsFailure::NotListed),
        verdicts: verdicts(policy, false, &seen),
        promise: promise(policy, &seen, None),
    }
}

fn seen_failures(listed: bool, failure: Option<&TlsFailure>) -> Vec<TlsFailure> {
    (!listed).then_some(TlsFailure::NotListed).into_iter().chain(failure.cloned()).collect()
}

/// R12 as far as its sources exist: `sts` for an enforce or testing policy, or for one that could not be had;
/// `no-policy-found` only without either.
fn verdicts(policy: &TlsPolicy, encrypted: bool, seen: &[TlsFailure]) -> Vec<PolicyVerdict> {
    if !policy.recorded {
        return Vec::new();
    }
    let fetch = policy.fetch_failure.as_ref();
    let fetch_detail = fetch.map(|f| FailureDetail { result: f.result, reason: Some(f.reason.clone()) });
    let details = || seen.iter().flat_map(TlsFailure::details);
    let verdict = match (&policy.sts, fetch) {
        (Some(StsPolicy { stored, .. }), _) => PolicyVerdict {
            policy: AppliedPolicy::Sts {
                domain: policy.next_hop.clone(),
                lines: stored.policy.lines.clone(),
                mx: stored.policy.mx.clone(),
            },
            success: seen.is_empty(),
            details: details().chain(fetch_detail).collect(),
        },
        // Nothing to judge by, so no session can be called compliant (RPT-26).
        (None, Some(failure)) => PolicyVerdict {
            policy: AppliedPolicy::Sts {
                domain: policy.next_hop.clone(),
                lines: failure.lines.clone(),
                mx: Vec::new(),
            },
            success: false,
            details: fetch_detail.into_iter().collect(),
        },
        // Any completed handshake is a success where nothing was promised (RPT-24).
        (None, None) => PolicyVerdict {
            policy: AppliedPolicy::NoPolicyFound { domain: policy.next_hop.clone() },
            success: encrypted,
            details: if encrypted { Vec::new() } else { details().collect() },
        },
    };
    vec![verdict]
}

fn promise(
    policy: &TlsPolicy,
    seen: &[TlsFailure],
    certificate: Option<CertificateFacts>,
) -> Option<Promise> {
    let StsPolicy { stored, .. } = policy.sts.as_ref()?;
    let clauses: Vec<String> = seen.iter().map(|f| f.clause(policy, certificate.as_ref())).collect();
    Some(Promise {
        kind: "mta-sts".to_owned(),
        mode: mode_word(stored.policy.mode).to_owned(),
        id: stored.id.clone(),
        mx: stored.policy.mx.clone(),
        fetched: Some(stored.fetched),
        expires: Some(stored.expires),
        broken: (!clauses.is_empty()).then(|| clauses.join("; ")),
        certificate,
    })
}

const fn mode_word(mode: crate::mtasts::Mode) -> &'static str {
    match mode {
        crate::mtasts::Mode::Enforce => "enforce",
        crate::mtasts::Mode::Testing => "testing",
        crate::mtasts::Mode::None => "none",
    }
}
