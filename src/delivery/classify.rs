//! What every reply, fault and answer means for a recipient (requirements-smtp.md table 2.1).
//!
//! Pure, and besides the queue's end of lifetime the only place that says "permanent". A permanent verdict comes from
//! a definite DNS answer or from a 5xx of a host that owed us nothing more; a failure of TLS, a certificate, a
//! policy or a lookup has no way to become one (`What always holds` 2).

use crate::dns::DnsError;
use crate::mail::{Domain, EnhancedCode, Reply};
use crate::queue::outcome::{DeferReason, Diagnosis, FailReason, Outcome, Stage};
use crate::route::{NoAddress, RouteFailure};
use crate::security::decide::TlsPolicy;
use crate::security::verdict::TlsFailure;
use crate::tlsrpt::ResultType;

use super::transcript::{Fault, Transcript};

/// The verdict itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The host took responsibility.
    Delivered,
    /// It waits.
    Deferred(DeferReason),
    /// It is returned.
    Failed(FailReason),
}

/// A verdict with everything that it alone determines of a [`Diagnosis`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Delivered, deferred or failed.
    pub decision: Decision,
    /// Where in the dialogue.
    pub stage: Stage,
    /// The basic code, when a remote host said one.
    pub code: Option<u16>,
    /// The enhanced code, of the class of the decision.
    pub enhanced: EnhancedCode,
    /// What is stored and shown.
    pub text: String,
    /// The result type, when TLS or a policy was the cause.
    pub tls_failure: Option<ResultType>,
    /// The terminator was sent and no reply came.
    pub maybe_delivered: bool,
}

impl Ruling {
    /// The outcome: `base` brings what the verdict does not know (host, session, promise).
    pub fn into_outcome(self, base: Diagnosis) -> Outcome {
        let delivered = self.decision == Decision::Delivered;
        let diagnosis = Diagnosis {
            stage: self.stage,
            code: self.code,
            enhanced: self.enhanced,
            remote_id: if delivered { remote_id(&self.text) } else { None },
            text: self.text,
            tls_failure: self.tls_failure,
            maybe_delivered: self.maybe_delivered,
            ..base
        };
        match self.decision {
            Decision::Delivered => Outcome::Delivered(diagnosis),
            Decision::Deferred(reason) => Outcome::Deferred(reason, diagnosis),
            Decision::Failed(reason) => Outcome::Failed(reason, diagnosis),
        }
    }

    /// How much a deferral tells when hosts disagree (R10): 4.7.5, 4.7.4, 4.7.0, what a host said, the rest.
    fn weight(&self) -> u8 {
        match (self.tls_failure, self.enhanced.subject, self.enhanced.detail) {
            (Some(_), 7, 5) => 4,
            (Some(_), 7, 4) => 3,
            (Some(_), 7, 0) => 2,
            _ if self.code.is_some() => 1,
            _ => 0,
        }
    }
}

/// `queued as 4bX…`, `id=1abc-…`: the last resort of people who compare logs with a neighbour.
fn remote_id(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let at = ["queued as ", "id=", "queued mail for delivery "]
        .iter()
        .find_map(|mark| lower.find(mark).map(|i| i + mark.len()))?;
    let word = text.get(at..)?.split([' ', ')', ';', ',']).next()?.trim_matches(['<', '>', '[', ']']);
    (!word.is_empty()).then(|| word.to_owned())
}

/// What to do about a recipient after a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The ruling stands.
    Settled,
    /// Another host, while the budget of sessions lasts; else the ruling stands.
    NextHost,
    /// A further transaction on this connection, at once (OUT-41).
    SameConnection,
    /// Once more over IPv4 (OUT-40).
    Ipv4,
}

/// What a transaction was about, besides what was said.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The host, for texts.
    pub host: &'a Domain,
    /// Why the session ran in the clear, when it did.
    pub clear: Option<ResultType>,
    /// The session ran over IPv6 and the same route offers IPv4, untried.
    pub ipv4_left: bool,
}

/// Judges one recipient of a transaction, by its place in the transcript.
pub fn recipient(t: &Transcript, place: usize, context: Context<'_>) -> (Next, Ruling) {
    let host = context.host;
    match &t.mail {
        Some(reply) if !reply.is_positive() => {
            return judge_reply(Stage::Mail, "MAIL FROM", reply, context);
        }
        Some(_) => {}
        None => return judge_fault(t, Stage::Mail, host),
    }
    match t.rcpt.get(place).and_then(Option::as_ref) {
        Some(reply) if reply.is_positive() => {}
        Some(reply) => {
            let earlier_accepted = (0..place).any(|i| t.accepted(i));
            let mailbox_full_or_too_big = reply
                .enhanced
                .is_some_and(|e| e == EnhancedCode::new(5, 2, 2) || e == EnhancedCode::new(5, 3, 4));
            // RFC 5321 §4.5.3.1.10: 552 once meant what 452 means now.
            if earlier_accepted && (reply.code == 452 || reply.code == 552 && !mailbox_full_or_too_big) {
                let text = format!("{host} takes no more recipients at a time: {reply}");
                let enhanced = EnhancedCode::new(4, 5, 3);
                return (
                    Next::SameConnection,
                    deferred(DeferReason::Reply, Stage::Rcpt, Some(reply.code), enhanced, text),
                );
            }
            return judge_reply(Stage::Rcpt, "RCPT TO", reply, context);
        }
        None => return judge_fault(t, Stage::Rcpt, host),
    }
    match &t.data {
        Some(reply) if reply.code == 354 => {}
        Some(reply) if reply.is_positive() => {
            return protocol(Stage::Data, host, "DATA was answered 2xx", false);
        }
        Some(reply) => return judge_reply(Stage::Data, "DATA", reply, context),
        None => return judge_fault(t, Stage::Data, host),
    }
    match &t.dot {
        Some(reply) if reply.is_positive() && t.terminator_sent => {
            let ruling = Ruling {
                decision: Decision::Delivered,
                stage: Stage::Dot,
                code: Some(reply.code),
                enhanced: reply.enhanced_or_default(),
                text: reply.to_string(),
                tls_failure: None,
                maybe_delivered: false,
            };
            (Next::Settled, ruling)
        }
        Some(reply) if reply.is_transient() || reply.is_permanent() => {
            let stage = if t.terminator_sent { Stage::Dot } else { Stage::Data };
            judge_reply(stage, "end of DATA", reply, context)
        }
        Some(_) => protocol(Stage::Dot, host, "a reply out of place to the end of data", t.terminator_sent),
        None => judge_fault(t, Stage::Dot, host),
    }
}

fn judge_reply(stage: Stage, command: &str, reply: &Reply, context: Context<'_>) -> (Next, Ruling) {
    let Context { host, clear, ipv4_left } = context;
    let text = format!("{host} said: {reply} (in reply to {command})");
    let code = Some(reply.code);
    let subject_detail = reply.enhanced.map(|e| (e.subject, e.detail));
    if reply.is_transient() {
        let enhanced = match (stage, reply.code) {
            _ if reply.enhanced.is_some() => reply.enhanced_or_default(),
            (_, 421) => EnhancedCode::new(4, 3, 2),
            (Stage::Mail, 452) => EnhancedCode::new(4, 3, 1),
            _ => EnhancedCode::new(4, 0, 0),
        };
        return (Next::NextHost, deferred(DeferReason::Reply, stage, code, enhanced, text));
    }
    if !reply.is_permanent() {
        return protocol(stage, host, "a reply code out of place", false);
    }
    // RFC 8461 owes nobody TLS here; the host itself wants it and could not give it.
    if let Some(tls_failure) = clear
        && stage == Stage::Mail
        && reply.code == 530
        && matches!(subject_detail, None | Some((7, 0 | 10)))
    {
        let enhanced = EnhancedCode::new(4, 7, 4);
        let text = format!("{host} demands TLS that could not be set up: {reply}");
        let mut ruling = deferred(DeferReason::TlsMissing, stage, code, enhanced, text);
        ruling.tls_failure = Some(tls_failure);
        return (Next::NextHost, ruling);
    }
    // Large receivers refuse IPv6 without PTR with a 550 (OUT-40).
    if ipv4_left && stage != Stage::Data && matches!(subject_detail, Some((7, 1 | 25 | 26))) {
        let enhanced = EnhancedCode { class: 4, ..reply.enhanced_or_default() };
        return (Next::Ipv4, deferred(DeferReason::Reply, stage, code, enhanced, text));
    }
    let too_large =
        stage == Stage::Mail && reply.code == 552 && matches!(subject_detail, None | Some((3, 4)));
    let (reason, enhanced) = if too_large {
        (FailReason::TooLarge, EnhancedCode::new(5, 3, 4))
    } else {
        (FailReason::Rejected, reply.enhanced_or_default())
    };
    let decision = Decision::Failed(reason);
    (
        Next::Settled,
        Ruling { decision, stage, code, enhanced, text, tls_failure: None, maybe_delivered: false },
    )
}

fn judge_fault(t: &Transcript, missing: Stage, host: &Domain) -> (Next, Ruling) {
    let (stage, fault) = t.fault.as_ref().map_or((missing, &Fault::Lost), |(s, f)| (*s, f));
    let uncertain = t.terminator_sent;
    match fault {
        Fault::Closing(reply) => (Next::NextHost, closing(stage, host, reply)),
        Fault::Local(words) => {
            let enhanced = EnhancedCode::new(4, 3, 0);
            (Next::Settled, deferred(DeferReason::Local, stage, None, enhanced, words.clone()))
        }
        Fault::Damaged(words) => {
            let enhanced = EnhancedCode::new(4, 3, 0);
            (Next::Settled, deferred(DeferReason::Damaged, stage, None, enhanced, words.clone()))
        }
        Fault::Protocol(what) => protocol(stage, host, what, uncertain),
        Fault::Lost | Fault::Timeout => {
            let what = if *fault == Fault::Lost { "lost connection to" } else { "timeout at" };
            let enhanced = EnhancedCode::new(4, 4, 2);
            if uncertain {
                let text = format!(
                    "{what} {host} while waiting for the reply to end of DATA: the message may be delivered more than once"
                );
                let mut ruling = deferred(DeferReason::Uncertain, stage, None, enhanced, text);
                ruling.maybe_delivered = true;
                return (Next::Settled, ruling);
            }
            let text = format!("{what} {host} while {}", doing(stage));
            (Next::NextHost, deferred(DeferReason::Lost, stage, None, enhanced, text))
        }
    }
}

const fn doing(stage: Stage) -> &'static str {
    match stage {
        Stage::Greeting => "waiting for greeting",
        Stage::Ehlo => "waiting for the reply to EHLO",
        Stage::Starttls => "waiting for the reply to STARTTLS",
        Stage::Mail => "sending MAIL FROM",
        Stage::Rcpt => "sending RCPT TO",
        Stage::Data | Stage::Dot => "sending message",
        Stage::Dns | Stage::Policy | Stage::Connect | Stage::Local => "connecting",
    }
}

fn deferred(
    reason: DeferReason,
    stage: Stage,
    code: Option<u16>,
    enhanced: EnhancedCode,
    text: String,
) -> Ruling {
    let decision = Decision::Deferred(reason);
    Ruling { decision, stage, code, enhanced, text, tls_failure: None, maybe_delivered: false }
}

fn closing(stage: Stage, host: &Domain, reply: &Reply) -> Ruling {
    let enhanced = reply.enhanced.unwrap_or(EnhancedCode::new(4, 3, 2));
    deferred(
        DeferReason::Reply,
        stage,
        Some(reply.code),
        enhanced,
        format!("{host} closes the connection: {reply}"),
    )
}

fn protocol(stage: Stage, host: &Domain, what: &str, uncertain: bool) -> (Next, Ruling) {
    let reason = if uncertain { DeferReason::Uncertain } else { DeferReason::Protocol };
    let text = format!("protocol error of {host}: {what}");
    let mut ruling = deferred(reason, stage, None, EnhancedCode::new(4, 5, 0), text);
    ruling.maybe_delivered = uncertain;
    (if uncertain { Next::Settled } else { Next::NextHost }, ruling)
}

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
    /// Greeting, EHLO or HELO was refused with 4xx or 5xx.
    Refused(Stage, &'a Reply),
    /// The dialogue broke off before MAIL.
    Fault(Stage, &'a Fault),
    /// It greets with our own name from our own listener (OUT-08).
    Ourselves,
    /// The demand was not met.
    Tls(&'a TlsFailure),
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

/// Judges a host-level failure. `policy` is what was demanded of the host.
pub fn host(failure: &HostFailure<'_>, host: &Domain, policy: &TlsPolicy) -> HostRuling {
    let code4 = |s, d| EnhancedCode::new(4, s, d);
    let transient = |ruling| HostRuling { transient: ruling, permanent: None };
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
            if reply.is_permanent() && !policy.demand.tls {
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
                TlsFailure::NotOffered | TlsFailure::Refused(_) => {
                    (DeferReason::TlsMissing, Stage::Starttls, code4(7, 4))
                }
                TlsFailure::Handshake(_) => (DeferReason::TlsHandshake, Stage::Starttls, code4(7, 5)),
                TlsFailure::Certificate(_) => (DeferReason::TlsCertificate, Stage::Starttls, code4(7, 5)),
            };
            let code = match failure {
                TlsFailure::Refused(reply) => Some(reply.code),
                _ => None,
            };
            let mut ruling = deferred(reason, stage, code, enhanced, failure.text(policy));
            ruling.tls_failure = Some(failure.result_type());
            transient(ruling)
        }
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

fn no_address(why: &NoAddress, host: &Domain) -> Ruling {
    let four = |d| EnhancedCode::new(4, 4, d);
    match why {
        NoAddress::None => {
            deferred(DeferReason::Dns, Stage::Dns, None, four(4), format!("MX host {host} has no address"))
        }
        NoAddress::Failed(e) => lookup_failed(e),
        NoAddress::Denied { address, .. } => {
            let text = format!(
                "MX host {host} points to {address}, which delivery.deny_networks forbids (see delivery.allow_networks)"
            );
            deferred(DeferReason::Forbidden, Stage::Dns, None, four(4), text)
        }
    }
}

/// A lookup that gave no answer: wait (OUT-03).
pub fn lookup_failed(error: &DnsError) -> Ruling {
    let text = format!("DNS lookup for {} failed temporarily: {error}", error.name);
    deferred(DeferReason::Dns, Stage::Dns, None, EnhancedCode::new(4, 4, 3), text)
}

/// Something of ours went wrong before any host was asked. Not counted as an attempt.
pub fn local(words: String) -> Ruling {
    deferred(DeferReason::Local, Stage::Local, None, EnhancedCode::new(4, 3, 0), words)
}

/// The watchdog fired before any reply decided (QUE-08).
pub fn watchdog(host: Option<&Domain>, maybe_delivered: bool) -> Ruling {
    let at = host.map_or_else(String::new, |h| format!(" at {h}"));
    let (reason, stage) = if maybe_delivered {
        (DeferReason::Uncertain, Stage::Dot)
    } else {
        (DeferReason::Lost, Stage::Local)
    };
    let text = format!("the attempt{at} took longer than all its time limits together");
    let mut ruling = deferred(reason, stage, None, EnhancedCode::new(4, 4, 2), text);
    ruling.maybe_delivered = maybe_delivered;
    ruling
}

/// A stored address that cannot be written as one command (OUT-54).
pub fn bad_address() -> Ruling {
    Ruling {
        decision: Decision::Failed(FailReason::BadAddress),
        stage: Stage::Local,
        code: None,
        enhanced: EnhancedCode::new(5, 1, 3),
        text: "the stored address is damaged and cannot be sent".to_owned(),
        tls_failure: None,
        maybe_delivered: false,
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

/// How long forged-looking DNS answers must persist before they are believed against a policy (NMX-06).
pub const CONTRADICTION_MIN_ATTEMPTS: u32 = 2;
/// As above, since the message arrived.
pub const CONTRADICTION_MIN_AGE: std::time::Duration = std::time::Duration::from_secs(4 * 3600);

/// Judges a route that ends without a host. `enforce`: an enforce policy of the next hop is in force, cached or live;
/// `persisted`: the contradiction between the two has lasted as long as NMX-06 wants.
pub fn route(failure: &RouteFailure, next_hop: &Domain, enforce: bool, persisted: bool) -> Ruling {
    let failed = |reason, subject, detail, text: String| Ruling {
        decision: Decision::Failed(reason),
        stage: Stage::Dns,
        code: None,
        enhanced: EnhancedCode::new(5, subject, detail),
        text,
        tls_failure: None,
        maybe_delivered: false,
    };
    let wait =
        |reason, detail, text| deferred(reason, Stage::Dns, None, EnhancedCode::new(4, 4, detail), text);
    let contradiction = || {
        let text = format!("null MX or NXDOMAIN for {next_hop} contradicts its MTA-STS policy");
        deferred(DeferReason::PolicyContradiction, Stage::Dns, None, EnhancedCode::new(4, 7, 0), text)
    };
    let unless_enforced = |ruling: Ruling| {
        if enforce {
            let text = format!("{} (and its MTA-STS policy speaks against that)", ruling.text);
            wait(DeferReason::PolicyContradiction, 4, text)
        } else {
            ruling
        }
    };
    match failure {
        RouteFailure::Dns(e) | RouteFailure::HostLookupFailed(e) => lookup_failed(e),
        RouteFailure::NoSuchDomain { secure } | RouteFailure::NullMx { secure }
            if enforce && !secure && !persisted =>
        {
            contradiction()
        }
        RouteFailure::NoSuchDomain { .. } => {
            failed(FailReason::NoSuchDomain, 1, 2, format!("domain {next_hop} does not exist"))
        }
        RouteFailure::NullMx { .. } => {
            failed(FailReason::NullMx, 1, 10, format!("{next_hop} does not accept mail (null MX)"))
        }
        RouteFailure::NoMxNoAddress => unless_enforced(failed(
            FailReason::NoAddress,
            1,
            2,
            format!("{next_hop} has no MX and no address"),
        )),
        RouteFailure::NoHostHasAddress { host } => unless_enforced(failed(
            FailReason::NoAddress,
            4,
            4,
            format!("no MX host of {next_hop} has an address (the best is {host})"),
        )),
        RouteFailure::Loop { host } => unless_enforced(failed(
            FailReason::Loop,
            4,
            6,
            format!("mail for {next_hop} loops back to this system ({host})"),
        )),
        RouteFailure::LoopbackOnly { host, address } => unless_enforced(failed(
            FailReason::Loop,
            4,
            6,
            format!("MX of {next_hop} points to a prohibited address ({host}, {address})"),
        )),
        RouteFailure::LoopUnproven { host } => wait(
            DeferReason::Loop,
            4,
            format!("cannot find the primary relay for {next_hop}: {host} has no address at the moment"),
        ),
        RouteFailure::DeniedOnly { host, address } => wait(
            DeferReason::Forbidden,
            4,
            format!(
                "MX of {next_hop} has only addresses that delivery.deny_networks forbids ({host}, {address}): see delivery.allow_networks"
            ),
        ),
    }
}
