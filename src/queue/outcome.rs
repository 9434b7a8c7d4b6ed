//! What an attempt ends in for a recipient, and everything that is said about it afterwards.
//!
//! [`FailReason`] is a closed list without a TLS, certificate, policy or DNSSEC variant, so no such failure
//! can end a message before its lifetime does (`What always holds` 2); what a sender's REQUIRETLS asks for and no host has is
//! the one exception. Log, timeline, `queue show`, DSN and
//! `check` all read one [`Diagnosis`].

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::unmet::Unmet;
use crate::clock::Timestamp;
use crate::mail::{Domain, EnhancedCode};
use crate::observe::metrics::Word;
use crate::security::Level;
use crate::security::exception::Waived;
use crate::tlsrpt::ResultType;

/// How an attempt ended for one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The remote host took responsibility (RFC 5321 §4.2.5).
    Delivered(Diagnosis),
    /// It waits, and says why.
    Deferred(DeferReason, Diagnosis),
    /// It is returned to its sender. Made by `delivery::classify`, and by the queue for an ended lifetime.
    Failed(FailReason, Diagnosis),
}

impl Outcome {
    /// The facts, whatever the verdict.
    pub const fn diagnosis(&self) -> &Diagnosis {
        match self {
            Self::Delivered(d) | Self::Deferred(_, d) | Self::Failed(_, d) => d,
        }
    }

    /// `delivered`, `deferred` or `bounced`: the `outcome` field of the log line.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Delivered(_) => "delivered",
            Self::Deferred(..) => "deferred",
            Self::Failed(..) => "bounced",
        }
    }
}

/// Why a recipient waits. The cause of `queue list --cause` is [`DeferReason::as_str`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeferReason {
    /// The remote host said 4xx.
    Reply,
    /// No connection to any host.
    Connect,
    /// The connection broke or timed out before the final dot.
    Lost,
    /// The final dot was sent and no complete reply came: perhaps delivered (OUT-45).
    Uncertain,
    /// The peer does not speak SMTP as we know it.
    Protocol,
    /// A lookup failed.
    Dns,
    /// An enforce policy does not list the MX host.
    PolicyMx,
    /// TLS is required and not offered.
    TlsMissing,
    /// TLS is required and the handshake failed.
    TlsHandshake,
    /// TLS is required and the certificate does not hold.
    TlsCertificate,
    /// Whether the host has TLSA records cannot be found out, or the operator demands some and it has none (RFC 7672 §2.2).
    TlsaLookup,
    /// The sender asked for REQUIRETLS, and what that needs besides TLS cannot be found out now (RTLS-29).
    RequireTls,
    /// Forged or broken DNS would end the message although a policy speaks against it (NMX-06, OUT-09).
    PolicyContradiction,
    /// The DNS points to addresses that this relay may not dial.
    Forbidden,
    /// A loop, not proven.
    Loop,
    /// Something of ours that may be well again soon: no descriptor, no memory, a locked database. Not counted as an
    /// attempt, and so never the end of a message (QUE-06).
    Local,
    /// The message cannot be read back, or not be sent, as it is stored. Counted like any attempt: it will hardly heal,
    /// and its sender learns of it when its lifetime ends.
    Damaged,
    /// The process ended while the attempt ran (DUR-20).
    Interrupted,
    /// The configured next hop does not take our AUTH: ours to mend, whatever it says (OUT-56).
    Auth,
}

impl DeferReason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::Reply,
        Self::Connect,
        Self::Lost,
        Self::Uncertain,
        Self::Protocol,
        Self::Dns,
        Self::PolicyMx,
        Self::TlsMissing,
        Self::TlsHandshake,
        Self::TlsCertificate,
        Self::TlsaLookup,
        Self::RequireTls,
        Self::PolicyContradiction,
        Self::Forbidden,
        Self::Loop,
        Self::Local,
        Self::Damaged,
        Self::Interrupted,
        Self::Auth,
    ];

    /// The word that the store, `queue list --cause` and JSON use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reply => "reply",
            Self::Connect => "connect",
            Self::Lost => "lost",
            Self::Uncertain => "uncertain",
            Self::Protocol => "protocol",
            Self::Dns => "dns",
            Self::PolicyMx => "policy_mx",
            Self::TlsMissing => "tls_missing",
            Self::TlsHandshake => "tls_handshake",
            Self::TlsCertificate => "tls_certificate",
            Self::TlsaLookup => "tlsa_lookup",
            Self::RequireTls => "requiretls",
            Self::PolicyContradiction => "policy_contradiction",
            Self::Forbidden => "forbidden",
            Self::Loop => "loop",
            Self::Local => "local",
            Self::Damaged => "damaged",
            Self::Interrupted => "interrupted",
            Self::Auth => "auth",
        }
    }

    /// The inverse of [`DeferReason::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == word)
    }

    /// Whether the recipient domain's own promise is what the mail waits for.
    pub const fn is_policy(self) -> bool {
        matches!(
            self,
            Self::PolicyMx
                | Self::TlsMissing
                | Self::TlsHandshake
                | Self::TlsCertificate
                | Self::TlsaLookup
                | Self::PolicyContradiction
        )
    }
}

/// Why a recipient is returned. Closed, and without anything that TLS, a policy or a DNS failure could cause, unless the
/// sender asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// A 5xx in a session that had met its requirements.
    Rejected,
    /// Every host refused to talk at all with 5xx, and none owed us TLS (OUT-22).
    AllHostsRefused,
    /// The domain does not exist (5.1.2).
    NoSuchDomain,
    /// The domain takes no mail (5.1.10).
    NullMx,
    /// No host of the domain has an address (5.4.4, 5.1.2).
    NoAddress,
    /// Mail for the domain loops back to us, or its MX is a loopback address (5.4.6).
    Loop,
    /// Larger than any host takes (5.3.4).
    TooLarge,
    /// Needs SMTPUTF8 and no host offers it (5.6.7, 5.6.9).
    Smtputf8,
    /// The sender asked for REQUIRETLS, and every host conclusively lacks what that needs (5.7.30, 5.7.10; RTLS-29).
    RequireTls,
    /// A stored address cannot be written on the wire (OUT-54, 5.1.3).
    BadAddress,
    /// The lifetime ended; the diagnosis is that of the last attempt (DSN-09).
    Expired,
    /// An operator's command.
    Operator,
}

impl FailReason {
    /// Every reason.
    pub const ALL: [Self; 12] = [
        Self::Rejected,
        Self::AllHostsRefused,
        Self::NoSuchDomain,
        Self::NullMx,
        Self::NoAddress,
        Self::Loop,
        Self::TooLarge,
        Self::Smtputf8,
        Self::RequireTls,
        Self::BadAddress,
        Self::Expired,
        Self::Operator,
    ];

    /// The word of the store and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::AllHostsRefused => "all_hosts_refused",
            Self::NoSuchDomain => "no_such_domain",
            Self::NullMx => "null_mx",
            Self::NoAddress => "no_address",
            Self::Loop => "loop",
            Self::TooLarge => "too_large",
            Self::Smtputf8 => "smtputf8",
            Self::RequireTls => "requiretls_missing",
            Self::BadAddress => "bad_address",
            Self::Expired => "expired",
            Self::Operator => "operator",
        }
    }
}

impl Word for DeferReason {
    const ALL: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for FailReason {
    const ALL: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

/// Where in the dialogue something happened: the `stage` field of the log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// MX and address lookups.
    Dns,
    /// Finding the policy, or its MX gate.
    Policy,
    /// TCP.
    Connect,
    /// Waiting for the 220.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// STARTTLS, handshake, certificate.
    Starttls,
    /// AUTH at a configured next hop.
    Auth,
    /// MAIL FROM.
    Mail,
    /// RCPT TO.
    Rcpt,
    /// DATA and the content.
    Data,
    /// The reply to the final dot.
    Dot,
    /// Nothing remote was involved.
    Local,
}

impl Stage {
    /// The word of the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Policy => "policy",
            Self::Connect => "connect",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::Starttls => "starttls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Dot => "dot",
            Self::Local => "local",
        }
    }
}

/// Everything that is known about how an attempt ended for a recipient.
///
/// Stored with the recipient as JSON, so every field has a meaning on its own and old rows read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// When.
    pub at: Timestamp,
    /// Where in the dialogue.
    pub stage: Stage,
    /// The host that it was about.
    pub host: Option<Domain>,
    /// Its address, when one was dialled.
    pub ip: Option<IpAddr>,
    /// The port dialled.
    pub port: Option<u16>,
    /// Our address on that connection.
    pub source_ip: Option<IpAddr>,
    /// The reply code; `None` when no remote said anything.
    pub code: Option<u16>,
    /// Always present; of our making when the remote gave none.
    pub enhanced: EnhancedCode,
    /// The remote's words, cleaned and cut (RFC 3464 Diagnostic-Code), or ours.
    pub text: String,
    /// The RFC 8460 result type when TLS or a policy was the cause.
    pub tls_failure: Option<ResultType>,
    /// The terminator was sent and no reply came (OUT-45).
    #[serde(default)]
    pub maybe_delivered: bool,
    /// How the session was secured, when there was one.
    pub security: Option<Level>,
    /// What the recipient's domain promised, and how it was broken. Also set on a delivery under a policy.
    pub promise: Option<Promise>,
    /// Who asks for what the session lacks, where TLS or a policy keeps the recipient waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmet: Option<Unmet>,
    /// The operator's exception by which the session was good enough, and what it lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
    /// Facts of the session for the log line and the timeline.
    pub session: Option<SessionFacts>,
    /// What it waited for when its lifetime ended; `None` before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_for: Option<DeferReason>,
    /// The queue id that the remote put into its final reply, when one can be read off.
    pub remote_id: Option<String>,
}

impl Diagnosis {
    /// A diagnosis that no remote host has a part in so far: stage `local`, 4.3.0.
    pub const fn local(at: Timestamp, text: String) -> Self {
        Self {
            at,
            stage: Stage::Local,
            host: None,
            ip: None,
            port: None,
            source_ip: None,
            code: None,
            enhanced: EnhancedCode::new(4, 3, 0),
            text,
            tls_failure: None,
            maybe_delivered: false,
            security: None,
            promise: None,
            unmet: None,
            waived: None,
            session: None,
            waited_for: None,
            remote_id: None,
        }
    }
}

/// What a recipient domain published, and the check that failed: the words of a delay DSN (issue: "in words
/// made to be forwarded").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// `mta-sts` or `dane`.
    pub kind: String,
    /// `enforce`, `testing`, `none`; empty for `dane`.
    pub mode: String,
    /// The policy id; for `dane` the TLSA base domain.
    pub id: String,
    /// Its MX patterns; for `dane` the TLSA records.
    pub mx: Vec<String>,
    /// When the policy was fetched.
    pub fetched: Option<Timestamp>,
    /// Until when it holds.
    pub expires: Option<Timestamp>,
    /// Which check failed, in one clause: `the certificate expired on 2026-01-02`; `None` when it was kept.
    pub broken: Option<String>,
    /// The certificate that was shown, when one was.
    pub certificate: Option<CertificateFacts>,
    /// For `dane`, where the certificate matches no record: the records that it would match, of the selectors and matching
    /// types of those that are published.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub would_match: Vec<String>,
}

/// What people need to find a certificate again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// The DNS names it is for, at most 20.
    pub names: Vec<String>,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// First day.
    pub not_before: Timestamp,
    /// Last day.
    pub not_after: Timestamp,
    /// SHA-256 of the DER, in hex.
    pub sha256: String,
}

/// A session as far as log and timeline tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFacts {
    /// `TLSv1.3`, when TLS was on.
    pub tls_version: Option<String>,
    /// The cipher suite.
    pub cipher: Option<String>,
    /// Whether the MX set was authenticated by DNSSEC.
    pub mx_secure: bool,
    /// Whether the session had served before.
    pub reused: bool,
    /// 8-bit content went to a host that does not offer 8BITMIME (OUT-28).
    #[serde(default)]
    pub body_8bit_undeclared: bool,
    /// MAIL carried REQUIRETLS, so that the host keeps the promise on (RFC 8689 §4.2.1).
    #[serde(default)]
    pub requiretls: bool,
    /// The host offered DSN, so that success is its to report (RFC 3461 §5.2.2, OUT-49).
    #[serde(default)]
    pub dsn_offered: bool,
    /// Time from the start of the attempt to a session that was ready for MAIL, in milliseconds.
    pub connect_ms: u64,
    /// Time from MAIL to the final reply, in milliseconds.
    pub transfer_ms: u64,
}
