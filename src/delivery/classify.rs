//! What every reply, fault and answer means for a recipient (requirements-smtp.md table 2.1).
//!
//! Pure, and besides the queue's end of lifetime the only place that says "permanent". A permanent verdict comes from
//! a definite DNS answer or from a 5xx of a host that owed us nothing more; a failure of TLS, a certificate, a
//! policy or a lookup has no way to become one (`What always holds` 2), unless the sender asked for it (REQUIRETLS) and
//! what lacks was never promised by the recipient's domain.

use crate::dns::DnsError;
use crate::mail::{Domain, EnhancedCode};
use crate::queue::outcome::{DeferReason, Diagnosis, FailReason, Outcome, Stage};
use crate::tlsrpt::ResultType;

mod host;
mod route;
mod transaction;

pub use host::{HostFailure, HostRuling, after_last_host, host};
pub use route::{CONTRADICTION_MIN_AGE, CONTRADICTION_MIN_ATTEMPTS, route};
pub use transaction::{Context, Next, recipient};

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
    /// The outcome: `base` brings what the verdict does not know (host, session, promise, and for a delivery what was let
    /// pass).
    pub fn into_outcome(self, base: Diagnosis) -> Outcome {
        let delivered = self.decision == Decision::Delivered;
        let diagnosis = Diagnosis {
            stage: self.stage,
            code: self.code,
            enhanced: self.enhanced,
            remote_id: if delivered { remote_id(&self.text) } else { None },
            text: self.text,
            // What was let pass is not why anything waits.
            tls_failure: if delivered { self.tls_failure.or(base.tls_failure) } else { self.tls_failure },
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
        let about_tls =
            self.tls_failure.is_some() || self.decision == Decision::Deferred(DeferReason::RequireTls);
        match (about_tls, self.enhanced.subject, self.enhanced.detail) {
            (true, 7, 5) => 4,
            (true, 7, 4) => 3,
            (true, 7, 0) => 2,
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

/// A lookup that gave no answer: wait (OUT-03).
pub fn lookup_failed(error: &DnsError) -> Ruling {
    let text = format!("DNS lookup for {} failed temporarily: {error}", error.name);
    deferred(DeferReason::Dns, Stage::Dns, None, EnhancedCode::new(4, 4, 3), text)
}

/// The same for the policy of a domain, by which REQUIRETLS mail finds its hosts (R2). It waits as long as it lives: going on
/// without the policy is for mail that asks for nothing.
pub fn policy_lookup_failed(error: &DnsError) -> Ruling {
    Ruling { stage: Stage::Policy, ..lookup_failed(error) }
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
