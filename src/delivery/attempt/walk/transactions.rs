//! What is sent over one session: as many transactions as its recipients need.

use std::collections::HashSet;
use std::sync::Arc;

use crate::mail::Reply;
use crate::queue::MAX_TRANSACTION;
use crate::queue::health::Trouble;
use crate::queue::outcome::Diagnosis;
use crate::security::verdict::{Clearance, judge};

use super::super::{Sending, facts};
use super::{Flow, Try, Walk};
use crate::delivery::classify::{self, Context, Decision, HostFailure, HostRuling, Next};
use crate::delivery::pool::{HostKey, Slot};
use crate::delivery::session::{Content, Session};
use crate::delivery::transcript::{AuthFault, Fault, Transcript};
use crate::delivery::wire_form::Rcpt;

impl Walk<'_> {
    /// Judges a session and sends what is pending over it. `None`: it was a dead idle session.
    pub(super) async fn use_session(
        &mut self,
        t: &Try<'_>,
        mut session: Session,
        slot: Slot,
        reused: bool,
    ) -> Option<Flow> {
        let judgement = judge(t.policy, &session.seen.evidence);
        // What is not recorded is no first verdict either (RPT-20, RPT-27).
        if t.policy.recorded && session.reported.insert(t.policy.next_hop.clone()) {
            self.record(t.policy, &judgement, Some(&session.seen));
        }
        let mut base = self.base(Some(t.host), Some(t.to));
        base.source_ip = session.seen.local;
        base.promise = judgement.promise;
        base.waived = judgement.waived;
        base.tls_failure = judgement.let_pass;
        if judgement.exception_unneeded && judgement.cleared.is_ok() {
            self.end_exception(t.policy).await;
        }
        let waited = self.parts.clock.monotonic().saturating_sub(self.begun);
        let mut session_facts = facts(&session.seen, t.route, reused, waited);
        let meta = &self.lease.message;
        session_facts.body_8bit_undeclared = meta.has_8bit && !session.ehlo.eight_bit;
        session_facts.dsn_offered = session.ehlo.dsn;
        base.session = Some(session_facts);
        let cleared = match judgement.cleared {
            Ok(cleared) => cleared,
            Err(failure) => {
                self.fall_short(&failure, t.policy, t.route, Some(&session.seen.evidence), base);
                session.quit();
                return Some(Flow::On);
            }
        };
        base.security = Some(cleared.level());
        self.settings.metrics.cleared(&session.seen, cleared.level(), reused);
        if let Some(waived) = &base.waived {
            self.step(t, format!("good enough by exception: {waived}"));
        }
        if let Some(facts) = &mut base.session {
            facts.requiretls = cleared.requiretls();
        }
        if let Some(credentials) = t.route.rule.as_ref().and_then(|rule| rule.credentials.as_ref()) {
            let authenticated = session.authenticate(&cleared, credentials, &self.settings.timers).await;
            // It says so to each message alike, and locks out who asks too often.
            match &authenticated {
                Ok(()) => self.parts.pool.password(slot.host(), &credentials.user, true),
                Err(AuthFault::Refused(reply)) if reply.is_permanent() => {
                    self.parts.pool.password(slot.host(), &credentials.user, false);
                }
                Err(_) => {}
            }
            if let Err(fault) = authenticated {
                if matches!(fault, AuthFault::NotOffered | AuthFault::Refused(_)) {
                    tracing::error!(event = "auth-refused", next_hop = %t.host.name, user = credentials.user, reason = ?fault, "mail for this next hop waits");
                }
                session.quit();
                self.fail(&HostFailure::Auth(&fault), t.policy, base);
                return Some(Flow::On);
            }
        }
        let unfit = if session.ehlo.refuses_size(meta.size) {
            Some(HostFailure::TooLarge { size: meta.size, max: session.ehlo.size.unwrap_or(0) })
        } else if meta.smtputf8 && !session.ehlo.smtputf8 {
            Some(HostFailure::Smtputf8 { address: self.needs_smtputf8_address() })
        } else {
            None
        };
        if let Some(failure) = unfit {
            self.fail(&failure, t.policy, base);
            self.parts.pool.put_back(session, slot, &self.key(t));
            return Some(Flow::On);
        }
        self.transactions(t, session, slot, &cleared, &base, reused).await
    }

    async fn transactions(
        &mut self,
        t: &Try<'_>,
        mut session: Session,
        slot: Slot,
        cleared: &Clearance,
        base: &Diagnosis,
        reused: bool,
    ) -> Option<Flow> {
        let mut first = true;
        // Who waits for the next host, as far as this session goes.
        let mut done_here: HashSet<usize> = HashSet::new();
        loop {
            let at_most = session.ehlo.rcpt_max.unwrap_or(MAX_TRANSACTION).min(MAX_TRANSACTION);
            let group: Vec<usize> =
                self.pending().into_iter().filter(|i| !done_here.contains(i)).take(at_most).collect();
            if group.is_empty() || !session.is_alive() {
                break;
            }
            // RFC 5321 §4.1.4: a MAIL inside an unfinished transaction is answered 503, which would return this mail.
            if !first && !session.ready(&self.settings.timers).await {
                break;
            }
            let started = self.parts.clock.monotonic();
            let transcript = self.send(t, &mut session, cleared, &group).await;
            if first && reused && died_idle(&transcript) {
                session.quit();
                return None;
            }
            if first {
                self.sessions += 1;
            }
            first = false;
            self.note_health(slot.host(), &transcript);

            let mut diagnosis = base.clone();
            diagnosis.at = self.parts.clock.now();
            if let Some(f) = &mut diagnosis.session {
                let took = self.parts.clock.monotonic().saturating_sub(started);
                f.transfer_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            }
            let context = Context {
                host: &t.host.name,
                clear: session.seen.evidence.tls.missing(),
                ipv4_left: t.ipv4_left,
                in_the_clear_if_need_be: !t.policy.message.heeds_policies(),
            };
            let mut settled = Vec::new();
            for (place, i) in group.iter().copied().enumerate() {
                let (next, ruling) = classify::recipient(&transcript, place, context);
                if ruling.decision == Decision::Delivered && self.ipv4_only && t.to.is_ipv4() {
                    self.parts.pool.prefer_ipv4(&t.host.name);
                }
                match next {
                    Next::Settled => settled.push((i, ruling, diagnosis.clone())),
                    Next::SameConnection => {
                        self.waiting.insert(i, (HostRuling::transient(ruling), diagnosis.clone()));
                    }
                    Next::UnlessAnotherTakesIt => {
                        done_here.insert(i);
                        let refused = || (HostRuling::unless_another(ruling), diagnosis.clone());
                        self.waiting.entry(i).or_insert_with(refused);
                    }
                    Next::NextHost | Next::Ipv4 => {
                        if next == Next::Ipv4 && !self.ipv4_only {
                            self.ipv4_only = true;
                            // One more session, whatever the budget says.
                            self.sessions = self.settings.max_sessions.saturating_sub(1);
                        }
                        done_here.insert(i);
                        self.waiting.insert(i, (HostRuling::transient(ruling), diagnosis.clone()));
                    }
                }
            }
            self.step(t, describe(&transcript));
            if !settled.is_empty() && !self.settle(settled).await {
                session.quit();
                return Some(Flow::Done);
            }
        }
        self.parts.pool.put_back(session, slot, &self.key(t));
        Some(if self.pending().is_empty() { Flow::Done } else { Flow::On })
    }

    async fn send(
        &mut self,
        t: &Try<'_>,
        session: &mut Session,
        cleared: &Clearance,
        group: &[usize],
    ) -> Transcript {
        let meta = &self.lease.message;
        let rcpts: Vec<Rcpt<'_>> = group.iter().filter_map(|i| self.rcpt(*i)).collect();
        let content = match &self.lease.content {
            Some(bytes) => Content::Memory(bytes.clone()),
            None => Content::Stored(self.parts.store.clone(), meta.id),
        };
        let dot = Arc::default();
        self.lock().sending =
            Some(Sending { host: t.host.name.clone(), group: group.to_vec(), dot: Arc::clone(&dot) });
        let timers = &self.settings.timers;
        let transcript = session.mail(cleared, &self.wishes(), &rcpts, &content, timers, &dot).await;
        self.lock().sending = None;
        transcript
    }

    /// QUE-09: what a reply says about the host rather than about the message.
    fn note_health(&self, host: &HostKey, t: &Transcript) {
        let pool = &self.parts.pool;
        let deciding = [t.mail.as_ref(), t.data.as_ref(), t.dot.as_ref()];
        let enhanced = |r: &Reply| r.enhanced.map(|e| (e.class, e.subject, e.detail));
        let about_host = |r: &&Reply| matches!(enhanced(r), Some((4, 3, 2) | (4, 4, 5))) || r.code == 421;
        let about_us = |r: &&Reply| matches!(enhanced(r), Some((4, 7, _)));
        if matches!(t.fault, Some((_, Fault::Closing(_)))) || deciding.iter().flatten().any(about_host) {
            pool.trouble(host, Trouble::Dialogue);
        } else if deciding.iter().flatten().any(about_us) {
            pool.refused_sender(host, &self.lease.message.reverse_path);
        } else if t.dot.as_ref().is_some_and(Reply::is_positive) {
            pool.delivered(host);
        }
    }
}

/// Whether an idle session was gone before the host could answer MAIL. A 503 there answers an older
/// conversation, not this message (HR-056).
fn died_idle(t: &Transcript) -> bool {
    match &t.mail {
        None => !matches!(t.fault, Some((_, Fault::Local(_) | Fault::Damaged(_)))),
        Some(reply) => reply.code == 503,
    }
}

/// A transaction in one line of the timeline.
fn describe(t: &Transcript) -> String {
    let mut parts = Vec::new();
    if let Some(mail) = t.mail.as_ref().filter(|m| !m.is_positive()) {
        parts.push(format!("MAIL: {mail}"));
    }
    let refused: Vec<&Reply> = t.rcpt.iter().flatten().filter(|r| !r.is_positive()).collect();
    if let Some(first) = refused.first() {
        parts.push(format!("{} of {} recipients refused: {first}", refused.len(), t.rcpt.len()));
    }
    if let Some(data) =
        t.data.as_ref().filter(|d| d.code != 354 && t.mail.as_ref().is_some_and(Reply::is_positive))
    {
        parts.push(format!("DATA: {data}"));
    }
    if let Some(dot) = &t.dot {
        parts.push(format!("end of data: {dot}"));
    }
    if let Some((stage, fault)) = &t.fault {
        let what = match fault {
            Fault::Lost => "connection lost".to_owned(),
            Fault::Timeout => "timeout".to_owned(),
            Fault::Protocol(what) => (*what).to_owned(),
            Fault::Closing(reply) => reply.to_string(),
            Fault::Local(what) | Fault::Damaged(what) => what.clone(),
        };
        parts.push(format!("{}: {what}", stage.as_str()));
    }
    parts.join("; ")
}
