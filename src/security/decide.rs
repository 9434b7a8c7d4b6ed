//! Joins every source of a demand on one host's session into one [`TlsPolicy`].
//!
//! Pure, and the only place where a demand is made. Sources are joined, never assigned: no source can take
//! back what another asked for (STS-74), but for an operator's dated [`Exception`], which names itself in everything that
//! follows. A new source is one more field of [`Sources`] and, where it asks for
//! another kind of proof, one more field of [`Demand`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::dane::{TlsaAnswer, TlsaSet};
use crate::mail::{Domain, Origin, ReversePath, SenderTls};
use crate::mtasts::{FetchFailure, Mode, StoredPolicy};
use crate::security::exception::Exception;
use crate::security::failure::{NoDane, TlsFailure};

/// What a session must be before MAIL may be sent on it. A lattice: [`Demand::join`] is its union.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// TLS, whoever the peer is.
    pub tls: bool,
    /// TLS with a certificate that proves the host, by PKIX, or by DANE where that may stand for it (R6).
    pub verified: bool,
    /// TLS with a chain to a trusted authority and a certificate for the host's name.
    pub pkix: bool,
    /// TLS with a certificate that matches a TLSA record of the host.
    pub dane: bool,
}

impl Demand {
    /// Nothing: TLS is used where it is offered.
    pub const NOTHING: Self = Self { tls: false, verified: false, pkix: false, dane: false };
    /// TLS, the peer not authenticated.
    pub const ENCRYPTED: Self = Self { tls: true, ..Self::NOTHING };
    /// TLS, authenticated by PKIX, or by DANE in its place.
    pub const VERIFIED: Self = Self { verified: true, ..Self::ENCRYPTED };
    /// TLS, authenticated by PKIX.
    pub const PKIX: Self = Self { pkix: true, ..Self::VERIFIED };
    /// TLS, authenticated by DANE.
    pub const DANE: Self = Self { dane: true, ..Self::ENCRYPTED };

    /// Both demands together. Never weaker than either.
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        Self {
            tls: self.tls || other.tls,
            verified: self.verified || other.verified,
            pkix: self.pkix || other.pkix,
            dane: self.dane || other.dane,
        }
    }

    /// Whether the peer is to be authenticated, one way or another.
    pub const fn authenticated(self) -> bool {
        self.verified || self.pkix || self.dane
    }
}

/// Who asked for something: `mta-sts`, `dane`, `requiretls` or `local` in every text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The recipient domain's enforce policy (RFC 8461 §5).
    #[serde(rename = "mta-sts")]
    MtaSts,
    /// The host's TLSA records (RFC 7672 §2.2).
    #[serde(rename = "dane")]
    Dane,
    /// The sender of the message (RFC 8689 §4.2.1).
    #[serde(rename = "requiretls")]
    Sender,
    /// The operator.
    #[serde(rename = "local")]
    Operator,
}

impl Reason {
    /// The word in texts: `TLS is required by <word> policy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MtaSts => "mta-sts",
            Self::Dane => "dane",
            Self::Sender => "requiretls",
            Self::Operator => "local",
        }
    }
}

/// How a message itself changes what is demanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Recipient policies bind.
    Normal,
    /// REQUIRETLS: they bind, and an assured name, an authenticated host and the same promise from it are demanded
    /// besides (RFC 8689 §4.2.1).
    RequireTls,
    /// REQUIRETLS with the null reverse-path: they bind. The parameter goes along where all that is met; a host that
    /// lacks it gets the notification all the same (RFC 8689 §5, RTLS-32, RTLS-42).
    RequireTlsNotice,
    /// `TLS-Required: No`: what a recipient domain published is looked at and reported, and stands in nobody's way
    /// (RFC 8689 §4.2.2).
    TlsOptional,
    /// A TLS report of ours: delivered whatever TLS does, and never recorded (RFC 8460 §3).
    TlsReport,
}

impl MessageKind {
    /// The kind of a message from what is stored of it.
    pub const fn of(origin: Origin, sender_tls: SenderTls, reverse_path: &ReversePath) -> Self {
        match (origin, sender_tls, reverse_path) {
            (Origin::TlsReport, ..) => Self::TlsReport,
            (_, SenderTls::Unsaid, _) => Self::Normal,
            (_, SenderTls::Required, ReversePath::Mailbox(_)) => Self::RequireTls,
            (_, SenderTls::Required, ReversePath::Null) => Self::RequireTlsNotice,
            (_, SenderTls::Optional, _) => Self::TlsOptional,
        }
    }

    /// Whether what recipient domains publish binds.
    pub const fn heeds_policies(self) -> bool {
        matches!(self, Self::Normal | Self::RequireTls | Self::RequireTlsNotice)
    }
}

/// Everything that has a say about one candidate.
#[derive(Debug, Clone)]
pub struct Sources<'a> {
    /// The next-hop domain, which is also the policy domain (STS-60).
    pub next_hop: &'a Domain,
    /// The candidate's name as in the MX record.
    pub host: &'a Domain,
    /// Whether the name came to us securely without any policy: a DNSSEC-secure MX set or a configured host.
    pub name_assured: bool,
    /// Whether the host was identified securely: a DNSSEC-secure MX set or denial of one, or configured. Then DANE
    /// stands for itself (R6).
    pub identified: bool,
    /// The host's TLSA records.
    pub tlsa: &'a TlsaAnswer,
    /// The names that a certificate below a DANE-TA authority may carry (RFC 7672 §3.2.2).
    pub references: &'a [Domain],
    /// `dane.require_both`: an enforce policy must hold beside DANE even where the MX set is secure.
    pub require_both: bool,
    /// The policy in force, of any mode, and whether it lists the host (STS-64).
    pub policy: Option<(&'a Arc<StoredPolicy>, bool)>,
    /// What went wrong getting a live policy (RPT-26).
    pub fetch_failure: Option<&'a FetchFailure>,
    /// What the operator demands for this next hop.
    pub operator: Demand,
    /// The part of it that no exception takes away.
    pub floor: Demand,
    /// The operator's exception in force for the recipient domain.
    pub exception: Option<&'a Arc<Exception>>,
    /// What kind of message asks.
    pub message: MessageKind,
    /// Whether all were asked who could have promised something.
    pub asked: Asked,
}

/// Whether all were asked who could have promised something about a host. Where they were not, what nobody is known to have
/// promised may be promised all the same (RTLS-29). The later, the fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// All, and all answered.
    All,
    /// All who can vouch for a name, DNSSEC and MTA-STS, but nobody for TLSA records: DANE is off.
    AllForNames,
    /// All whom this relay ever asks: its configuration leaves out MTA-STS or DNSSEC.
    AsConfigured,
    /// Fewer than at other times: DNSSEC is not proven now, or whether there is a policy could not be found out.
    Fewer,
}

/// The policy as it applies to one candidate.
#[derive(Debug, Clone)]
pub struct StsPolicy {
    /// The policy with the facts of its fetch; enforce or testing.
    pub stored: Arc<StoredPolicy>,
    /// Whether one of its patterns covers the host.
    pub lists_host: bool,
}

/// What is demanded of a session with one host, why, and what is to be reported.
#[derive(Debug, Clone)]
pub struct TlsPolicy {
    /// The next-hop domain: who is reported to.
    pub next_hop: Domain,
    /// The candidate: what SNI and certificate go by.
    pub host: Domain,
    /// What must hold. Whatever else fails is only reported.
    pub demand: Demand,
    /// Who asked for it; empty when nothing is demanded.
    pub reasons: Vec<Reason>,
    /// What of it the operator asks for.
    pub operator: Demand,
    /// The part of that which no exception and no `minimum_tls` takes away.
    pub floor: Demand,
    /// An enforce or testing policy, evaluated in full either way (STS-73). `None` also where DANE stands in its place (R6).
    pub sts: Option<StsPolicy>,
    /// The host's TLSA records.
    pub tlsa: TlsaAnswer,
    /// The names that a certificate below a DANE-TA authority may carry.
    pub references: Vec<Domain>,
    /// The failure to report beside a cached policy, or in place of one.
    pub fetch_failure: Option<FetchFailure>,
    /// Whether a matching certificate authenticates more than a name that anybody could have forged into the DNS.
    pub name_assured: bool,
    /// Whether TLSA records that match stand for a certificate that PKIX proves: they can be used, and the host was
    /// identified securely (R6).
    pub dane_stands: bool,
    /// Whether all were asked who could have promised something.
    pub asked: Asked,
    /// Whether sessions leave records at all (RPT-27).
    pub recorded: bool,
    /// What kind of message asked.
    pub message: MessageKind,
    /// The exception by which `demand` is less than what was asked for.
    pub waiver: Option<Waiver>,
}

/// A demand that an exception lowered.
#[derive(Debug, Clone)]
pub struct Waiver {
    /// The permission.
    pub exception: Arc<Exception>,
    /// What was asked for.
    pub full: Demand,
    /// Why the host would not even be contacted.
    pub blocked: Option<TlsFailure>,
}

impl TlsPolicy {
    /// Who requires TLS, for the text of a failure.
    pub fn required_by(&self) -> String {
        let words: Vec<_> = self.reasons.iter().map(|r| r.as_str()).collect();
        words.join(" and ")
    }

    /// The TLSA records that a certificate is matched with; `None` where none can be used.
    pub fn dane(&self) -> Option<&TlsaSet> {
        self.tlsa.usable()
    }

    /// Whether it is certain that nobody but the sender has a say about TLS with this host: no policy of the domain, in force
    /// or perhaps, and no rule of the operator.
    pub fn is_senders_alone(&self) -> bool {
        self.reasons == [Reason::Sender]
            && self.sts.is_none()
            && self.fetch_failure.is_none()
            && self.asked == Asked::All
    }

    /// Whether nothing but a certificate that PKIX proves will do.
    pub const fn wants_pkix(&self) -> bool {
        self.demand.pkix || self.demand.verified && !self.dane_stands
    }

    /// Whether anybody asked for TLS, an exception or not: what such a host says before it proves itself may be
    /// anybody's word (STS-76).
    pub const fn owes_tls(&self) -> bool {
        self.demand.tls || self.waiver.is_some()
    }

    /// The name for SNI: the TLSA base domain (RFC 7672 §8.1, DANE-32), else the MX host (RFC 8461 §7.1).
    pub fn sni(&self) -> &Domain {
        self.dane().map_or(&self.host, |set| &set.base)
    }
}

/// Whether a host may be contacted at all.
#[derive(Debug, Clone)]
pub enum Gate {
    /// No connection, for this reason. The policy is for the record.
    Refuse(TlsPolicy, TlsFailure),
    /// It may be dialled; no MAIL before `verdict` says so.
    Contact(TlsPolicy),
}

/// Joins the sources for one candidate (R3 to R6, and of R9 what can be known before a connection).
pub fn decide(sources: &Sources<'_>) -> Gate {
    let heeds = sources.message.heeds_policies();
    let usable = sources.tlsa.usable().is_some();
    // R6: DANE replaces MTA-STS where the host itself was identified securely. With an insecure MX set both must
    // pass: who forges that could point it to a signed host of his own, and so switch the policy off.
    let replaced = usable && sources.identified && !sources.require_both;
    let sts = sources
        .policy
        .filter(|(stored, _)| stored.policy.mode != Mode::None && !replaced)
        .map(|(stored, lists_host)| StsPolicy { stored: Arc::clone(stored), lists_host });
    let enforced = heeds && sts.as_ref().is_some_and(|s| s.stored.policy.mode == Mode::Enforce);
    // RFC 7672 §2.2: records that cannot be used still demand TLS (DANE-19).
    let dane = match sources.tlsa {
        TlsaAnswer::Found(_) if !heeds => Demand::NOTHING,
        TlsaAnswer::Found(_) if usable => Demand::DANE,
        TlsaAnswer::Found(_) => Demand::ENCRYPTED,
        TlsaAnswer::None | TlsaAnswer::Failed(_) => Demand::NOTHING,
    };
    let sts_demand = if enforced { Demand::PKIX } else { Demand::NOTHING };
    // R9: authenticated by DANE where there are usable records, else by PKIX (RTLS-23, RTLS-24).
    let sender = match sources.message {
        MessageKind::RequireTls if usable => Demand::DANE,
        MessageKind::RequireTls => Demand::PKIX,
        _ => Demand::NOTHING,
    };
    let mut demand = Demand::NOTHING;
    let mut reasons = Vec::new();
    let asked = [
        (Reason::MtaSts, sts_demand),
        (Reason::Dane, dane),
        (Reason::Sender, sender),
        (Reason::Operator, sources.operator),
    ];
    for (reason, wanted) in asked {
        if wanted != Demand::NOTHING {
            demand = demand.join(wanted);
            reasons.push(reason);
        }
    }
    // RTLS-20, RTLS-21: a testing policy came over verified HTTPS like any other.
    let listed = sources.policy.is_some_and(|(p, listed)| listed && p.policy.mode != Mode::None);
    let name_assured = sources.name_assured || listed;
    // A cached policy of mode none lapses in silence (RFC 8461 §8.3, STS-51).
    let opted_out = sources.policy.is_some_and(|(p, _)| p.policy.mode == Mode::None);
    // DANE-34: who forges an unsigned MX set could name a signed host of his own (RFC 7672 §2.2.1).
    let lack = match (usable, sources.identified) {
        (false, _) => Some(NoDane::NoRecords),
        (true, false) => Some(NoDane::MxNotSigned),
        (true, true) => None,
    };
    let blocked = if let TlsaAnswer::Failed(failed) = sources.tlsa
        && heeds
    {
        Some(TlsFailure::TlsaLookup(failed.clone()))
    } else if let (true, Some(lack)) = (sources.operator.dane, lack) {
        Some(TlsFailure::DaneRequired(lack))
    } else if enforced && !sts.as_ref().is_some_and(|s| s.lists_host) {
        Some(TlsFailure::NotListed)
    } else if sources.message == MessageKind::RequireTls && !name_assured {
        Some(match sources.fetch_failure {
            // D103: there may be a policy that lists the host.
            Some(failure) => TlsFailure::PolicyNotFetched(failure.clone()),
            None => TlsFailure::NameNotAssured { conclusive: sources.asked <= Asked::AllForNames },
        })
    } else {
        None
    };
    // Where nothing is asked for, there is nothing to be let off; what cannot be found out may have been asked for.
    // What a sender asks for himself is not the operator's to let off (RFC 8689 §4.2.1).
    let waivable = sources.message != MessageKind::RequireTls && (demand.tls || blocked.is_some());
    let waiver = sources.exception.filter(|_| waivable).map(|exception| Waiver {
        exception: Arc::clone(exception),
        full: demand,
        blocked: blocked.clone(),
    });
    if let Some(waiver) = &waiver {
        demand = waiver.exception.allow.demand().join(sources.floor);
    }
    let policy = TlsPolicy {
        next_hop: sources.next_hop.clone(),
        host: sources.host.clone(),
        demand,
        reasons,
        operator: sources.operator,
        floor: sources.floor,
        fetch_failure: sources.fetch_failure.filter(|_| !opted_out && !replaced).cloned(),
        name_assured,
        dane_stands: replaced,
        asked: sources.asked,
        recorded: sources.message != MessageKind::TlsReport,
        message: sources.message,
        sts,
        tlsa: sources.tlsa.clone(),
        references: sources.references.to_vec(),
        waiver,
    };
    // The floor is no promise of the recipient's: an exception does not reach it.
    let below_floor = sources.floor.dane && lack.is_some();
    match blocked.filter(|_| policy.waiver.is_none() || below_floor) {
        Some(failure) => Gate::Refuse(policy, failure),
        None => Gate::Contact(policy),
    }
}
