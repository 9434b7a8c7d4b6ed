//! A transaction, judged recipient by recipient.

use crate::mail::{Domain, EnhancedCode, Reply};
use crate::queue::outcome::{DeferReason, FailReason, Stage};
use crate::tlsrpt::ResultType;

use super::super::transcript::{Fault, Transcript};
use super::{Decision, Ruling, deferred};

/// What to do about a recipient after a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The ruling stands.
    Settled,
    /// Another host, while the budget of sessions lasts; else the ruling stands.
    NextHost,
    /// Another host as well; the ruling, a failure, stands only where every other host has one too (RTLS-51, OUT-22).
    UnlessAnotherTakesIt,
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
    /// The sender wants delivery whatever TLS does (`TLS-Required: No`, our own reports): waiting for TLS helps nobody.
    pub in_the_clear_if_need_be: bool,
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
    let Context { host, clear, ipv4_left, in_the_clear_if_need_be } = context;
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
    // RFC 8461 owes nobody TLS here; the host itself wants it and could not give it. Who asked for delivery without TLS is
    // told once every host has said so (RFC 8689 §4.2.2, RTLS-51).
    if let Some(tls_failure) = clear
        && (reply.code == 530 && matches!(subject_detail, None | Some((7, 0 | 10)))
            || subject_detail == Some((7, 10)))
    {
        let enhanced = EnhancedCode::new(4, 7, 4);
        let demands = format!("{host} demands TLS that could not be set up: {reply}");
        let mut ruling = deferred(DeferReason::TlsMissing, stage, code, enhanced, demands);
        if in_the_clear_if_need_be {
            let (decision, enhanced) = (Decision::Failed(FailReason::Rejected), reply.enhanced_or_default());
            return (Next::UnlessAnotherTakesIt, Ruling { decision, enhanced, text, ..ruling });
        }
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

pub(super) fn judge_fault(t: &Transcript, missing: Stage, host: &Domain) -> (Next, Ruling) {
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
        Stage::Auth => "waiting for the reply to AUTH",
        Stage::Mail => "sending MAIL FROM",
        Stage::Rcpt => "sending RCPT TO",
        Stage::Data | Stage::Dot => "sending message",
        Stage::Dns | Stage::Policy | Stage::Connect | Stage::Local => "connecting",
    }
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
