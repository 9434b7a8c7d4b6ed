//! A host with which no transaction came about, and what all hosts of an attempt come to (R10).

use crate::mail::{Domain, EnhancedCode, Reply};
use crate::queue::outcome::{DeferReason, FailReason, Stage};
use crate::route::NoAddress;
use crate::security::decide::{MessageKind, TlsPolicy};
use crate::security::verdict::TlsFailure;

use super::super::transcript::{AuthFault, Fault, Transcript};
use super::transaction::judge_fault;
use super::{Decision, Ruling, deferred, lookup_failed};

/// A host with which no transaction came about.
#[derive(Debug, Clone)]
pub enum HostFailure<'a> {
    /// It has no address to dial.
    NoAddress(&'a NoAddress),
    /// No TCP connection; in words. `local`: the fault is ours (no descriptor, no such source address).
    Connect {
        /// The socket address, for the text.
        at: std::net::SocketAddr,
        /// What the system said.
        words: String,
        /// Whether the fault is ours.
        local: bool,
    },
    /// It carries our own name, and nobody answers there (OUT-08).
    Nobody {
        /// The socket address, for the text.
        at: std::net::SocketAddr,
        /// What the system said.
        words: String,
    },
    /// Greeting, EHLO or HELO was refused with 4xx or 5xx.
    Refused(Stage, &'a Reply),
    /// The dialogue broke off before MAIL.
    Fault(Stage, &'a Fault),
    /// It greets with our own name from our own listener (OUT-08).
    Ourselves,
    /// The demand was not met.
    Tls(&'a TlsFailure),
    /// AUTH did not succeed (OUT-56).
    Auth(&'a AuthFault),
    /// It takes no message of this size (RFC 1870 §6).
    TooLarge {
        /// Octets of the message.
        size: u64,
        /// What the host takes.
        max: u64,
    },
    /// SMTPUTF8 is needed and not offered; whether for an address or for the header only.
    Smtputf8 {
        /// An address needs it.
        address: bool,
    },
}

/// A host's failure: how it counts while others are transient, and how when all hosts refuse.
#[derive(Debug, Clone)]
pub struct HostRuling {
    /// The deferral.
    pub transient: Ruling,
    /// The failure, if every other host has one too (OUT-22).
    pub permanent: Option<Ruling>,
}

impl HostRuling {
    /// Of a host that may be the only one to refuse: `refusal` is final where all do.
    pub fn unless_another(refusal: Ruling) -> Self {
        let enhanced = EnhancedCode { class: 4, ..refusal.enhanced };
        let decision = Decision::Deferred(DeferReason::Reply);
        let transient = Ruling { decision, enhanced, ..refusal.clone() };
        Self { transient, permanent: Some(refusal) }
    }

    /// Of a host that another may make up for, and that may itself another time.
    pub const fn transient(ruling: Ruling) -> Self {
        Self { transient: ruling, permanent: None }
    }
}

/// Judges a host-level failure. `policy` is what was demanded of the host.
pub fn host(failure: &HostFailure<'_>, host: &Domain, policy: &TlsPolicy) -> HostRuling {
    let code4 = |s, d| EnhancedCode::new(4, s, d);
    let transient = HostRuling::transient;
    let may_fail = |ruling: Ruling, reason, enhanced| HostRuling {
        permanent: Some(Ruling { decision: Decision::Failed(reason), enhanced, ..ruling.clone() }),
        transient: ruling,
    };
    match failure {
        HostFailure::NoAddress(why) => transient(no_address(why, host)),
        HostFailure::Connect { at, words, local } => {
            let text = format!("connect to {host}[{}]:{}: {words}", at.ip(), at.port());
            transient(if *local {
                deferred(DeferReason::Local, Stage::Local, None, code4(3, 0), text)
            } else {
                deferred(DeferReason::Connect, Stage::Connect, None, code4(4, 1), text)
            })
        }
        HostFailure::Nobody { at, words } => {
            let text = format!(
                "{host} is the name of this relay itself, and no mail server answers there ({}:{}: {words})",
                at.ip(),
                at.port()
            );
            let ruling = deferred(DeferReason::Loop, Stage::Connect, None, code4(4, 6), text);
            // Forged, it would end what a promise keeps (STS-76).
            if policy.owes_tls() {
                transient(ruling)
            } else {
                may_fail(ruling, FailReason::Loop, EnhancedCode::new(5, 4, 6))
            }
        }
        HostFailure::Refused(stage, reply) => {
            let text = format!("{host} refused to talk to me: {reply}");
            let default = match (stage, reply.code) {
                (_, 400..=499) => code4(3, 2),
                (Stage::Greeting, 521) => EnhancedCode::new(5, 3, 2),
                (Stage::Greeting, 554) => EnhancedCode::new(5, 7, 1),
                _ => EnhancedCode::new(5, 0, 0),
            };
            let enhanced = reply.enhanced.unwrap_or(default);
            let waiting = EnhancedCode { class: 4, ..enhanced };
            let ruling = deferred(DeferReason::Reply, *stage, Some(reply.code), waiting, text);
            // A 5xx of a host that owes us TLS has been said by anybody (STS-76).
            if reply.is_permanent() && !policy.owes_tls() {
                may_fail(ruling, FailReason::AllHostsRefused, enhanced)
            } else {
                transient(ruling)
            }
        }
        HostFailure::Fault(stage, fault) => {
            let t = Transcript { fault: Some((*stage, (*fault).clone())), ..Transcript::default() };
            transient(judge_fault(&t, *stage, host).1)
        }
        HostFailure::Ourselves => {
            let text = format!("{host} is this system: its greeting carries our own name");
            transient(deferred(DeferReason::Loop, Stage::Greeting, None, code4(4, 6), text))
        }
        HostFailure::Tls(failure) => {
            let (reason, stage, enhanced) = match failure {
                TlsFailure::NotListed => (DeferReason::PolicyMx, Stage::Policy, code4(7, 0)),
                TlsFailure::TlsaLookup(_) | TlsFailure::DaneRequired(_) => {
                    (DeferReason::TlsaLookup, Stage::Dns, code4(7, 5))
                }
                TlsFailure::NotOffered | TlsFailure::Refused(_) => {
                    (DeferReason::TlsMissing, Stage::Starttls, code4(7, 4))
                }
                TlsFailure::Handshake(_) => (DeferReason::TlsHandshake, Stage::Starttls, code4(7, 5)),
                TlsFailure::Certificate(_) | TlsFailure::Dane(_) => {
                    (DeferReason::TlsCertificate, Stage::Starttls, code4(7, 5))
                }
                TlsFailure::NameNotAssured { .. } | TlsFailure::PolicyNotFetched(_) => {
                    (DeferReason::RequireTls, Stage::Policy, code4(7, 0))
                }
                TlsFailure::NoRequireTls => (DeferReason::RequireTls, Stage::Ehlo, code4(7, 30)),
            };
            let code = match failure {
                TlsFailure::Refused(reply) => Some(reply.code),
                _ => None,
            };
            let mut ruling = deferred(reason, stage, code, enhanced, failure.text(policy));
            ruling.tls_failure = failure.result_type();
            match lacking(failure, policy) {
                Some((enhanced, text)) => HostRuling {
                    permanent: Some(Ruling {
                        decision: Decision::Failed(FailReason::RequireTls),
                        enhanced,
                        text,
                        ..ruling.clone()
                    }),
                    transient: ruling,
                },
                None => transient(ruling),
            }
        }
        HostFailure::Auth(fault) => transient(auth(fault, host)),
        HostFailure::TooLarge { size, max } => {
            let text = format!("message size {size} exceeds {max}, the most that {host} takes");
            let ruling = deferred(DeferReason::Reply, Stage::Mail, None, code4(3, 4), text);
            may_fail(ruling, FailReason::TooLarge, EnhancedCode::new(5, 3, 4))
        }
        HostFailure::Smtputf8 { address } => {
            let detail = if *address { 7 } else { 9 };
            let text = format!("{host} does not offer SMTPUTF8, which this message needs");
            let ruling = deferred(DeferReason::Reply, Stage::Mail, None, code4(6, detail), text);
            may_fail(ruling, FailReason::Smtputf8, EnhancedCode::new(5, 6, detail))
        }
    }
}

/// Whatever the next hop says to our password, it says of our configuration and never of a message.
fn auth(fault: &AuthFault, host: &Domain) -> Ruling {
    let refused = EnhancedCode::new(4, 7, 8);
    match fault {
        AuthFault::NotOffered => {
            let text = format!("{host} offers neither AUTH PLAIN nor AUTH LOGIN inside TLS");
            deferred(DeferReason::Auth, Stage::Auth, None, refused, text)
        }
        AuthFault::Unverified => {
            let text = format!("no password is given to {host}: it has not proven who it is");
            deferred(DeferReason::Auth, Stage::Auth, None, refused, text)
        }
        AuthFault::Withheld => {
            let text =
                format!("{host} refused our user and password a moment ago, and is not asked again so soon");
            deferred(DeferReason::Auth, Stage::Auth, None, refused, text)
        }
        AuthFault::Refused(reply) if reply.is_permanent() => {
            let text = format!("{host} refused our user and password: {reply}");
            deferred(DeferReason::Auth, Stage::Auth, Some(reply.code), refused, text)
        }
        AuthFault::Refused(reply) => {
            let enhanced = reply.enhanced.unwrap_or(EnhancedCode::new(4, 7, 0));
            let text = format!("{host} put our AUTH off: {reply}");
            deferred(
                DeferReason::Reply,
                Stage::Auth,
                Some(reply.code),
                EnhancedCode { class: 4, ..enhanced },
                text,
            )
        }
        AuthFault::Broken(fault) => {
            let t = Transcript { fault: Some((Stage::Auth, fault.clone())), ..Transcript::default() };
            judge_fault(&t, Stage::Auth, host).1
        }
    }
}

/// R9, RTLS-29: what a sender who asked for REQUIRETLS wants and a host conclusively lacks, as code and text for the case
/// that no host has it. `None` for what is broken and may be mended, and for what the recipient's domain promised.
fn lacking(failure: &TlsFailure, policy: &TlsPolicy) -> Option<(EnhancedCode, String)> {
    if policy.message != MessageKind::RequireTls {
        return None;
    }
    let nh = &policy.next_hop;
    match failure {
        TlsFailure::NameNotAssured { conclusive: true } | TlsFailure::NoRequireTls => Some((
            EnhancedCode::new(5, 7, 30),
            format!("REQUIRETLS support required: no server for {nh} offers it"),
        )),
        TlsFailure::NotOffered if policy.is_senders_alone() => Some((
            EnhancedCode::new(5, 7, 10),
            format!("Encryption needed: no server for {nh} could be reached over verified TLS"),
        )),
        _ => None,
    }
}

fn no_address(why: &NoAddress, host: &Domain) -> Ruling {
    let four = |d| EnhancedCode::new(4, 4, d);
    match why {
        NoAddress::None => {
            deferred(DeferReason::Dns, Stage::Dns, None, four(4), format!("MX host {host} has no address"))
        }
        NoAddress::Failed(e) => lookup_failed(e),
        NoAddress::Ourselves(address) => {
            let text = format!("next hop {host} is {address}, where this relay itself listens");
            deferred(DeferReason::Loop, Stage::Dns, None, four(6), text)
        }
        NoAddress::Denied { address, .. } => {
            let text = format!(
                "MX host {host} points to {address}, which delivery.deny_networks forbids (see delivery.allow_networks)"
            );
            deferred(DeferReason::Forbidden, Stage::Dns, None, four(4), text)
        }
    }
}

/// Which host failure speaks for the attempt, by its place, and how (R10, OUT-22). `None` without failures.
///
/// Permanent only when every host is; otherwise the most telling transient failure, the better host on a tie.
pub fn after_last_host(failures: &[HostRuling]) -> Option<(usize, Ruling)> {
    if failures.iter().all(|f| f.permanent.is_some()) {
        return failures.first().and_then(|f| f.permanent.clone()).map(|r| (0, r));
    }
    let mut best: Option<(usize, &Ruling)> = None;
    for (i, failure) in failures.iter().enumerate().filter(|(_, f)| f.permanent.is_none()) {
        if best.is_none_or(|(_, b)| failure.transient.weight() > b.weight()) {
            best = Some((i, &failure.transient));
        }
    }
    best.map(|(i, r)| (i, r.clone()))
}
