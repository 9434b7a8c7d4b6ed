//! Compares what is demanded of a session with what was seen of it.
//!
//! Pure. [`judge`] is the only maker of a [`Clearance`], and no MAIL can be sent without one, in the clear or
//! not. It also makes the report entries (R12), so that delivery and report cannot disagree.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::CertificateDer;

use crate::clock::Timestamp;
use crate::dane::DaneFault;
use crate::dane::verify::{self, Terms};
use crate::mail::{Domain, Reply};
use crate::queue::outcome::{CertificateFacts, Promise};
use crate::security::Level;
use crate::security::decide::{Asked, Demand, MessageKind, Reason, TlsPolicy};
use crate::security::exception::Waived;
pub use crate::security::failure::{NoDane, TlsFailure};
use crate::security::pkix::PkixFault;
use crate::tlsrpt::{PolicyVerdict, ResultType};

mod by_record;
mod entries;

pub use by_record::RecordVerdict;
pub use entries::refused;
use entries::{overlooked, promise, verdicts};

/// What was seen of a session up to and including the EHLO after TLS.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// The name under which the host was dialled, and asked for in SNI.
    pub host: Domain,
    /// How STARTTLS went.
    pub tls: TlsState,
    /// Whether the EHLO reply inside TLS lists REQUIRETLS. What was said before TLS does not count (RTLS-25).
    pub requiretls: bool,
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

    /// What is known about the TLS session, when there is one.
    pub fn facts(&self) -> Option<&TlsFacts> {
        match self {
            Self::On(facts) => Some(facts),
            Self::NotOffered | Self::Refused(_) | Self::Failed(_) => None,
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

impl HandshakeFault {
    /// The peer's signature of the handshake is wrong, or of a kind that nobody here can verify.
    pub fn unproven() -> Self {
        let words = "the peer did not prove that it has the certificate's key";
        Self { token: "bad-signature".to_owned(), words: words.to_owned() }
    }
}

/// What is known about an established TLS session.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The name sent in SNI, when one was.
    pub sni: Option<Domain>,
    /// Whether the peer proved that it has the key of the leaf. Checked strictly whenever TLS is demanded.
    pub signature_verified: bool,
    /// Every fault of the chain for the host's name; empty when it holds.
    pub pkix: Vec<PkixFault>,
    /// The chain as the peer sent it, for TLSA records to be matched with.
    pub chain: PeerChain,
    /// The leaf, for people.
    pub certificate: Option<CertificateFacts>,
}

/// A chain with what it is judged by.
#[derive(Clone)]
pub struct PeerChain {
    /// Leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// How signatures of certificates may be made.
    pub algorithms: WebPkiSupportedAlgorithms,
    /// The time of the handshake.
    pub judged: Timestamp,
}

impl fmt::Debug for PeerChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} certificates", self.certificates.len())
    }
}

impl TlsFacts {
    /// What the TLSA records of `policy` have against the peer; `None` where there are none to match with.
    fn dane_faults(&self, policy: &TlsPolicy) -> Option<Vec<DaneFault>> {
        let set = policy.dane()?;
        let terms = Terms {
            references: &policy.references,
            algorithms: &self.chain.algorithms,
            now: self.chain.judged,
        };
        let mut faults = verify::verify(&set.usable(), &self.chain.certificates, terms);
        // A certificate without proof of its key could be anybody's copy (DANE-23).
        if faults.is_empty() && !self.signature_verified {
            faults.push(DaneFault::Unproven);
        }
        Some(faults)
    }

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
    requiretls: bool,
}

impl Clearance {
    /// The security of the session, as logs, timeline and `check` say it.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Whether MAIL carries the parameter REQUIRETLS: asked for by the sender, and all that it needs is met (RTLS-26).
    pub const fn requiretls(&self) -> bool {
        self.requiretls
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
    /// What an exception let pass: the session does not meet what was asked for.
    pub waived: Option<Waived>,
    /// What an exception or `TLS-Required: No` let pass, as the log names it; `None` where nothing was missing.
    pub let_pass: Option<ResultType>,
    /// An exception is in force, and the session meets all that it lets be missing.
    pub exception_unneeded: bool,
}

/// What a session showed under each measure that may be applied to it.
struct Findings {
    level: Level,
    /// What stands against a session that wants TLS, whoever the peer is: there is none, or the peer did not prove to have the
    /// key that it shows, and nobody should have gone on with the handshake (RFC 8446 §4.4.3).
    ///
    /// TLSA records that cannot be used (RFC 7672 §2.2, DANE-19), `minimum_tls = "encrypt"` and what an exception with
    /// `allow = "encrypt"` leaves standing ask for TLS with any certificate; one that nothing was signed with is not even
    /// that. A signature of a kind that the library cannot verify proves as little. Who wants mail to go there all the same
    /// writes `allow = "plain"`, with which such a session stays encrypted.
    tls: Option<TlsFailure>,
    /// What stands against a session that wants PKIX: no TLS, or the faults of the chain.
    pkix: Option<TlsFailure>,
    /// What stands against one that wants DANE; `None` also where there are no usable records.
    dane: Option<TlsFailure>,
}

impl Findings {
    fn of(policy: &TlsPolicy, evidence: &Evidence) -> Self {
        let in_the_clear = |failure: TlsFailure| Self {
            level: Level::Plain,
            tls: Some(failure.clone()),
            dane: policy.dane().map(|_| failure.clone()),
            pkix: Some(failure),
        };
        match &evidence.tls {
            // The evidence speaks of one name only: another candidate's session proves nothing.
            _ if evidence.host != policy.host => in_the_clear(TlsFailure::Certificate(vec![PkixFault::Name])),
            TlsState::NotOffered => in_the_clear(TlsFailure::NotOffered),
            TlsState::Refused(reply) => in_the_clear(TlsFailure::Refused(reply.clone())),
            TlsState::Failed(fault) => in_the_clear(TlsFailure::Handshake(fault.clone())),
            TlsState::On(facts) => {
                let faults = facts.faults();
                let dane = facts.dane_faults(policy);
                let level = match &dane {
                    Some(faults) if faults.is_empty() => Level::Dane,
                    _ if faults.is_empty() && policy.name_assured => Level::Verified,
                    _ => Level::Encrypted,
                };
                let unproven = || TlsFailure::Handshake(HandshakeFault::unproven());
                Self {
                    level,
                    tls: (!facts.signature_verified).then(unproven),
                    pkix: (!faults.is_empty()).then_some(TlsFailure::Certificate(faults)),
                    dane: dane.filter(|f| !f.is_empty()).map(TlsFailure::Dane),
                }
            }
        }
    }
}

/// R9: whether the promise goes on with the message (RFC 8689 §2).
fn requiretls_met(policy: &TlsPolicy, evidence: &Evidence, found: &Findings) -> bool {
    let authenticated = if policy.dane().is_some() { found.dane.is_none() } else { found.pkix.is_none() };
    policy.name_assured && found.tls.is_none() && authenticated && evidence.requiretls
}

/// Judges a session on its evidence. The same evidence may be judged again for another next hop (OUT-51).
pub fn judge(policy: &TlsPolicy, evidence: &Evidence) -> Judgement {
    let found = Findings::of(policy, evidence);
    let requiretls = match policy.message {
        MessageKind::RequireTls | MessageKind::RequireTlsNotice => requiretls_met(policy, evidence, &found),
        MessageKind::Normal | MessageKind::TlsOptional | MessageKind::TlsReport => false,
    };
    // Asked last, so that only a host that met everything else is heard on it.
    let unsupported = policy.message == MessageKind::RequireTls && !requiretls;
    let blocking = shortcoming(policy, &found, policy.demand, policy.waiver.is_none())
        .or_else(|| unsupported.then_some(TlsFailure::NoRequireTls));
    let missing = policy.waiver.as_ref().map(|w| match &w.blocked {
        Some(failure) => Some(failure.clone()),
        None => shortcoming(policy, &found, w.full, true),
    });
    // A message that looks away from promises, and promises that cannot be seen now, say nothing about the domain.
    let telling =
        policy.message.heeds_policies() && policy.fetch_failure.is_none() && policy.asked != Asked::Fewer;
    let facts = evidence.tls.facts();
    let waived = missing.as_ref().and_then(Option::as_ref);
    let let_pass = waived.and_then(TlsFailure::result_type).or_else(|| overlooked(policy, &found));
    Judgement {
        verdicts: verdicts(policy, &found),
        exception_unneeded: telling && matches!(missing, Some(None)),
        // What is kept back all the same was let off nothing.
        waived: policy.waiver.as_ref().filter(|_| blocking.is_none()).zip(missing.flatten()).map(
            |(waiver, failure)| {
                let certificate = facts.and_then(|f| f.certificate.as_ref());
                Waived::new(&waiver.exception, failure.clause(policy, certificate))
            },
        ),
        promise: promise(policy, &found, facts),
        let_pass: let_pass.filter(|_| blocking.is_none()),
        cleared: match blocking {
            None => Ok(Clearance { level: found.level, requiretls }),
            Some(f) => Err(f),
        },
    }
}

/// What a session lacks of `demand`; with `listing`, a policy's list of hosts counts too.
fn shortcoming(policy: &TlsPolicy, found: &Findings, demand: Demand, listing: bool) -> Option<TlsFailure> {
    let unlisted = policy.sts.as_ref().is_some_and(|s| !s.lists_host);
    // DANE asks for more than any certificate can make up for: its failure is never rescued (STS-75).
    if listing && unlisted && policy.reasons.contains(&Reason::MtaSts) {
        Some(TlsFailure::NotListed)
    } else if demand.dane && policy.dane().is_none() {
        Some(TlsFailure::DaneRequired(NoDane::NoRecords))
    } else if demand.dane && found.dane.is_some() {
        found.dane.clone()
    } else if (demand.pkix || demand.verified && !(policy.dane_stands && found.level == Level::Dane))
        && found.pkix.is_some()
    {
        found.pkix.clone()
    } else if demand.tls {
        found.tls.clone()
    } else {
        None
    }
}
