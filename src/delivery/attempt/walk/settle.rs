//! What becomes of the recipients: failures gathered host by host, rulings, records, the words of the timeline.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::dns::{DnsError, DnsErrorKind};
use crate::mail::{Domain, Origin};
use crate::queue::outcome::{Diagnosis, Outcome, Stage};
use crate::queue::{LeasedRecipient, Step};
use crate::route::{Host, Route};
use crate::security::decide::TlsPolicy;
use crate::security::verdict::{Evidence, Judgement, TlsFailure};
use crate::tlsrpt::{AppliedPolicy, FailureDetail, PolicyVerdict, ResultType, SessionRecord};

use super::super::blank;
use super::{Try, Walk};
use crate::delivery::HandBack;
use crate::delivery::classify::{self, HostFailure, HostRuling, Ruling};
use crate::delivery::session::Seen;
use crate::delivery::transcript::Fault;

/// One host's failure with the facts that go with it.
pub(super) struct Failure {
    ruling: HostRuling,
    base: Diagnosis,
    /// No connection, or no greeting (QUE-34).
    unreachable: bool,
    /// Not asked at all, because it had not answered a moment ago (QUE-09).
    skipped: bool,
}

impl Walk<'_> {
    /// No host is left: whoever is pending waits, or is returned where every host says so (R10).
    pub(super) async fn last_host_tried(&mut self) {
        if self.waiting.is_empty() && self.failures.iter().all(|f| f.skipped) {
            let until = self.first_pause.map(|p| self.moment(p));
            self.hand_back(until);
            return;
        }
        let mut settled = Vec::new();
        for i in self.pending() {
            let mut rulings: Vec<HostRuling> = Vec::new();
            let mut bases: Vec<&Diagnosis> = Vec::new();
            if let Some((ruling, base)) = self.waiting.get(&i) {
                rulings.push(ruling.clone());
                bases.push(base);
            }
            for failure in &self.failures {
                rulings.push(failure.ruling.clone());
                bases.push(&failure.base);
            }
            if let Some((at, ruling)) = classify::after_last_host(&rulings)
                && let Some(base) = bases.get(at)
            {
                settled.push((i, ruling, (*base).clone()));
            }
        }
        if self.waiting.is_empty() && self.failures.iter().all(|f| f.unreachable) {
            self.report.unreachable = settled
                .first()
                .map(|(_, ruling, base)| ruling.clone().into_outcome(base.clone()).diagnosis().clone());
        }
        self.settle(settled).await;
    }

    /// A host does not meet what is demanded; `evidence`: what was seen of it.
    pub(super) fn fall_short(
        &mut self,
        failure: &TlsFailure,
        policy: &TlsPolicy,
        route: &Route,
        evidence: Option<&Evidence>,
        mut base: Diagnosis,
    ) {
        let mut unmet = policy.unmet(failure, route.smart_host().is_some());
        if base.promise.is_none() {
            unmet.certificate = evidence.and_then(|e| e.tls.facts()).and_then(|f| f.certificate.clone());
        }
        base.unmet = Some(unmet);
        self.fail(&HostFailure::Tls(failure), policy, base);
    }

    pub(super) fn fail(&mut self, failure: &HostFailure<'_>, policy: &TlsPolicy, base: Diagnosis) {
        let ruling = classify::host(failure, &policy.host, policy);
        let unreachable = match failure {
            HostFailure::Connect { local, .. } => !local,
            HostFailure::Fault(Stage::Greeting, Fault::Lost | Fault::Timeout) => true,
            _ => false,
        };
        let what = ruling.transient.text.clone();
        self.steps.push(Step { host: base.host.clone(), ip: base.ip, what: cut(what) });
        self.failures.push(Failure { ruling, base, unreachable, skipped: false });
    }

    /// A host in its pause says nothing, but it may yet take the mail: what the others say is not the end of
    /// it (OUT-22).
    pub(super) fn skip(&mut self, t: &Try<'_>) {
        let words = "skipped: it did not answer a moment ago".to_owned();
        self.step(t, words.clone());
        let failure = HostFailure::Connect { at: t.to, words, local: false };
        let ruling = classify::host(&failure, &t.policy.host, t.policy);
        let base = self.base(Some(t.host), Some(t.to));
        self.failures.push(Failure { ruling, base, unreachable: true, skipped: true });
    }

    pub(super) fn step(&mut self, t: &Try<'_>, what: String) {
        self.steps.push(Step { host: Some(t.host.name.clone()), ip: Some(t.to.ip()), what: cut(what) });
    }

    pub(super) fn record(&self, policy: &TlsPolicy, judgement: &Judgement, seen: Option<&Seen>) {
        if judgement.verdicts.is_empty() {
            return;
        }
        self.settings.metrics.judged(judgement);
        self.parts.records.record(SessionRecord {
            at: self.parts.clock.now(),
            report_domain: policy.next_hop.clone(),
            sending_ip: seen.and_then(|s| s.local).map(|ip| ip.to_canonical()),
            mx_host: Some(policy.host.clone()),
            mx_helo: seen.and_then(|s| s.helo.clone()),
            receiving_ip: seen.map(|s| s.peer.ip().to_canonical()),
            verdicts: judgement.verdicts.clone(),
        });
    }

    /// D01: DNSSEC said that the way to the hosts, or to a host of a secure MX set, is forged or broken (RFC 8460
    /// §4.3.2.1). Other lookup failures leave no record.
    pub(super) fn record_bogus(&self, next_hop: &Domain, host: Option<&Domain>, error: &DnsError) {
        if error.kind != DnsErrorKind::Bogus || self.lease.message.origin == Origin::TlsReport {
            return;
        }
        let detail = FailureDetail { result: ResultType::DnssecInvalid, reason: Some("bogus".to_owned()) };
        let policy = AppliedPolicy::Tlsa { domain: host.unwrap_or(next_hop).clone(), records: Vec::new() };
        self.settings.metrics.bogus();
        self.parts.records.record(SessionRecord {
            at: self.parts.clock.now(),
            report_domain: next_hop.clone(),
            sending_ip: None,
            mx_host: host.cloned(),
            mx_helo: None,
            receiving_ip: None,
            verdicts: vec![PolicyVerdict { policy, success: false, details: vec![detail] }],
        });
    }

    /// The domain is sound again: what was let off is asked for from now on.
    pub(super) async fn end_exception(&self, policy: &TlsPolicy) {
        let Some(waiver) = &policy.waiver else { return };
        if !self.parts.exceptions.end(&waiver.exception) {
            return;
        }
        let e = &waiver.exception;
        tracing::warn!(event = "exception-not-needed", domain = %e.domain, mx = %policy.host, until = %e.until, by = e.by, reason = e.reason, "a session met the full demand: the exception has ended, remove it");
        self.parts.exceptions.remember(e, self.parts.clock.now()).await;
    }

    /// Gives every pending recipient a ruling.
    pub(super) async fn settle_pending(
        &mut self,
        rule: impl Fn(&LeasedRecipient) -> (Ruling, Option<Diagnosis>),
    ) {
        let base = blank(self.parts.clock.now());
        let rulings = self
            .pending()
            .into_iter()
            .filter_map(|i| {
                let (ruling, known) = rule(self.lease.recipients.get(i)?);
                Some((i, ruling, known.unwrap_or_else(|| base.clone())))
            })
            .collect();
        self.settle(rulings).await;
    }

    /// Commits outcomes; `false` after a store error, when nothing more may be sent (DUR-10).
    pub(super) async fn settle(&mut self, rulings: Vec<(usize, Ruling, Diagnosis)>) -> bool {
        let mut outcomes = Vec::with_capacity(rulings.len());
        for (i, ruling, base) in &rulings {
            let Some(recipient) = self.lease.recipients.get(*i) else { continue };
            let outcome = ruling.clone().into_outcome(base.clone());
            if let Outcome::Deferred(reason, d) = &outcome {
                let enforced = d.promise.as_ref().is_some_and(|p| p.mode == "enforce");
                self.report.policy_failed |= reason.is_policy() && enforced;
            }
            outcomes.push((recipient.no, outcome));
        }
        {
            let mut progress = self.lock();
            progress.pending.retain(|p| !rulings.iter().any(|(i, ..)| i == p));
        }
        let stored = self.ledger.record(outcomes, std::mem::take(&mut self.steps)).await;
        if let Err(e) = &stored {
            tracing::error!(queue_id = %self.lease.message.id, error = %e, "outcomes were not stored: nothing more is sent");
            self.lock().pending.clear();
        }
        stored.is_ok()
    }

    pub(super) fn hand_back(&mut self, until: Option<Timestamp>) {
        let recipients =
            self.pending().iter().filter_map(|i| self.lease.recipients.get(*i)).map(|r| r.no).collect();
        self.report.hand_back = Some(HandBack { recipients, until });
    }

    /// A moment of this process as wall-clock time.
    pub(super) fn moment(&self, monotonic: Duration) -> Timestamp {
        let left = monotonic.saturating_sub(self.parts.clock.monotonic());
        self.parts.clock.now().after(left)
    }

    pub(super) fn base(&self, host: Option<&Host>, to: Option<SocketAddr>) -> Diagnosis {
        Diagnosis {
            host: host.map(|h| h.name.clone()),
            ip: to.map(|t| t.ip()),
            port: to.map(|t| t.port()),
            ..blank(self.parts.clock.now())
        }
    }
}

/// A step has at most 1 KiB.
fn cut(mut text: String) -> String {
    if text.len() > 1024 {
        let at = (0..=1024).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(at);
    }
    text
}
