//! The walk over the hosts of one attempt.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::mail::{Domain, Origin, Reply};
use crate::mtasts::{Applicable, Discovery, Mode};
use crate::queue::health::Trouble;
use crate::queue::outcome::{Diagnosis, Outcome, Stage};
use crate::queue::{Lease, LeasedRecipient, MAX_TRANSACTION, Step};
use crate::route::{Host, Route, RouteFailure};
use crate::security::decide::{Gate, MessageKind, TlsPolicy};
use crate::security::verdict::{Clearance, Judgement, TlsState, judge, refused};
use crate::tlsrpt::SessionRecord;

use super::super::classify::{self, Context, Decision, HostFailure, HostRuling, Next, Ruling};
use super::super::ehlo::Ehlo;
use super::super::pool::{Grant, HostKey, Key, Slot};
use super::super::session::{Content, Seen, Session, Unopened};
use super::super::transcript::{Fault, Transcript};
use super::super::wire_form::{Mail, Rcpt, rcpt_command};
use super::super::{AttemptReport, HandBack, Ledger};
use super::{AttemptSettings, Parts, Progress, Sending, blank, facts, gate, host_failure, opening};

/// What a step of the walk leads to.
enum Flow {
    /// The next address.
    On,
    /// Nothing more to do here: all recipients have their outcome, or the store failed.
    Done,
    /// No place now.
    HandBack(Option<Timestamp>),
}

/// One host's failure with the facts that go with it.
struct Failure {
    ruling: HostRuling,
    base: Diagnosis,
    /// No connection, or no greeting (QUE-34).
    unreachable: bool,
    /// Not asked at all, because it had not answered a moment ago (QUE-09).
    skipped: bool,
}

/// What is fixed while one address is tried.
struct Try<'a> {
    route: &'a Route,
    host: &'a Host,
    policy: &'a TlsPolicy,
    to: SocketAddr,
    ipv4_left: bool,
}

pub(super) struct Walk<'a> {
    settings: &'a AttemptSettings,
    parts: &'a Parts,
    lease: &'a Lease,
    ledger: &'a dyn Ledger,
    progress: &'a Mutex<Progress>,
    report: AttemptReport,
    steps: Vec<Step>,
    failures: Vec<Failure>,
    /// The last temporary ruling of a transaction, per recipient still pending.
    waiting: BTreeMap<usize, (Ruling, Diagnosis)>,
    sessions: u32,
    /// By name too: one machine under two names may have the certificate of the second only.
    tried: HashSet<(Domain, IpAddr)>,
    /// IPv6 was refused for what IPv4 may deliver: IPv4 alone from now on (OUT-40).
    ipv4_only: bool,
    first_pause: Option<Duration>,
    begun: Duration,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        settings: &'a AttemptSettings,
        parts: &'a Parts,
        lease: &'a Lease,
        ledger: &'a dyn Ledger,
        progress: &'a Mutex<Progress>,
    ) -> Self {
        Self {
            settings,
            parts,
            lease,
            ledger,
            progress,
            report: AttemptReport::default(),
            steps: Vec::new(),
            failures: Vec::new(),
            waiting: BTreeMap::new(),
            sessions: 0,
            tried: HashSet::new(),
            ipv4_only: false,
            first_pause: None,
            begun: parts.clock.monotonic(),
        }
    }

    pub(super) async fn run(mut self) -> AttemptReport {
        let domain = &self.lease.domain;
        let kind = MessageKind::from(self.lease.message.origin);
        // STS-55: the attempt before broke on an enforce policy.
        let broke = |r: &LeasedRecipient| {
            let last = r.last.as_ref();
            last.is_some_and(|d| {
                d.tls_failure.is_some() && d.promise.as_ref().is_some_and(|p| p.mode == "enforce")
            })
        };
        if self.lease.recipients.iter().any(broke) {
            self.parts.policies.after_enforce_failure(domain).await;
        }
        if !self.refuse_damaged_addresses().await {
            return self.report;
        }
        let route = match self.parts.routes.resolve(domain).await {
            Ok(route) => route,
            Err(failure) => {
                self.no_route(&failure).await;
                return self.report;
            }
        };
        let applicable = match self.parts.policies.discover(&route.next_hop).await {
            Discovery::Known(applicable) => applicable,
            // A report about TLS does not wait for TLS policies (R2).
            Discovery::Wait(_) if kind == MessageKind::TlsReport => Applicable::default(),
            Discovery::Wait(error) => {
                let mut ruling = classify::lookup_failed(&error);
                ruling.stage = Stage::Policy;
                self.settle_pending(|_| (ruling.clone(), None)).await;
                return self.report;
            }
        };
        match self.hosts(&route, &applicable, kind).await {
            Flow::Done => {}
            Flow::HandBack(until) => self.hand_back(until),
            Flow::On => self.last_host_tried().await,
        }
        self.report
    }

    /// OUT-54: a corrupt row is returned, loudly, and nothing of it is ever written.
    async fn refuse_damaged_addresses(&mut self) -> bool {
        let probe = self.wishes();
        let damaged: Vec<usize> = self
            .pending()
            .into_iter()
            .filter(|i| self.rcpt(*i).is_some_and(|r| rcpt_command(&r, &probe, &Ehlo::default()).is_err()))
            .collect();
        if damaged.is_empty() {
            return true;
        }
        tracing::error!(queue_id = %self.lease.message.id, "a stored address is damaged");
        let base = blank(self.parts.clock.now());
        let rulings = damaged.into_iter().map(|i| (i, classify::bad_address(), base.clone())).collect();
        self.settle(rulings).await && !self.pending().is_empty()
    }

    async fn no_route(&mut self, failure: &RouteFailure) {
        let domain = &self.lease.domain;
        let enforce = match failure {
            // No discovery where there may be no domain at all (NMX-07).
            RouteFailure::NoSuchDomain { secure: true } | RouteFailure::NullMx { secure: true } => false,
            RouteFailure::NoSuchDomain { .. } | RouteFailure::NullMx { .. } => {
                self.parts.policies.has_enforce(domain).await
            }
            RouteFailure::NoMxNoAddress
            | RouteFailure::NoHostHasAddress { .. }
            | RouteFailure::Loop { .. }
            | RouteFailure::LoopbackOnly { .. } => match self.parts.policies.discover(domain).await {
                Discovery::Known(a) => a.policy.is_some_and(|p| p.policy.mode == Mode::Enforce),
                Discovery::Wait(_) => true,
            },
            _ => false,
        };
        let age = self.parts.clock.now().since(self.lease.message.arrived);
        self.settle_pending(|r| {
            // NMX-06: seen before, and for long enough.
            let before = r.last.as_ref().is_some_and(|d| {
                d.stage == Stage::Dns
                    && (d.enhanced.class, d.enhanced.subject, d.enhanced.detail) == (4, 7, 0)
            });
            let persisted = before
                && r.attempts >= classify::CONTRADICTION_MIN_ATTEMPTS
                && age >= classify::CONTRADICTION_MIN_AGE;
            (classify::route(failure, domain, enforce, persisted), None)
        })
        .await;
    }

    async fn hosts(&mut self, route: &Route, applicable: &Applicable, kind: MessageKind) -> Flow {
        for host in &route.hosts {
            let policy = match gate(route, host, applicable, self.settings.operator, kind) {
                Gate::Contact(policy) => policy,
                Gate::Refuse(policy) => {
                    self.refuse_host(host, &policy);
                    continue;
                }
            };
            let addresses = match &host.addresses {
                Ok(addresses) => addresses,
                Err(why) => {
                    let base = self.base(Some(host), None);
                    self.fail(&HostFailure::NoAddress(why), &policy, base);
                    continue;
                }
            };
            let mut addresses = addresses.clone();
            if self.parts.pool.prefers_ipv4(&host.name) {
                addresses.sort_by_key(IpAddr::is_ipv6);
            }
            for address in addresses {
                if self.sessions >= self.settings.max_sessions {
                    return Flow::On;
                }
                if self.ipv4_only && address.is_ipv6() || !self.tried.insert((host.name.clone(), address)) {
                    continue;
                }
                let ipv4_left = address.is_ipv6() && !self.ipv4_only && self.has_untried_ipv4(route);
                let to = SocketAddr::new(address, self.settings.port);
                match self.address(&Try { route, host, policy: &policy, to, ipv4_left }).await {
                    Flow::On => {}
                    done => return done,
                }
            }
        }
        Flow::On
    }

    fn has_untried_ipv4(&self, route: &Route) -> bool {
        route.hosts.iter().any(|h| {
            let untried = |a: &IpAddr| a.is_ipv4() && !self.tried.contains(&(h.name.clone(), *a));
            h.addresses.as_ref().is_ok_and(|all| all.iter().any(untried))
        })
    }

    /// R5: not contacted, and recorded as an attempted session (RPT-20).
    fn refuse_host(&mut self, host: &Host, policy: &TlsPolicy) {
        let judgement = refused(policy);
        self.record(policy, &judgement, None);
        let mut base = self.base(Some(host), None);
        base.promise = judgement.promise;
        if let Err(failure) = judgement.cleared {
            self.fail(&HostFailure::Tls(&failure), policy, base);
        }
    }

    async fn address(&mut self, t: &Try<'_>) -> Flow {
        let source = self.settings.source.filter(|s| s.is_ipv4() == t.to.is_ipv4());
        let host = HostKey { to: t.to, source };
        let key = Key { name: t.host.name.clone(), host };
        let suits = |s: &Session| judge(t.policy, &s.seen.evidence).cleared.is_ok();
        loop {
            let grant = self.parts.pool.acquire(&key, &suits, self.settings.patience).await;
            let (session, slot, lent) = match grant {
                Grant::Full => return Flow::HandBack(None),
                Grant::Paused(pause) => {
                    self.first_pause = Some(self.first_pause.map_or(pause.until, |p| p.min(pause.until)));
                    if pause.trouble == Trouble::Dialogue {
                        return Flow::HandBack(Some(self.moment(pause.until)));
                    }
                    self.skip(t);
                    return Flow::On;
                }
                Grant::Session(mut session, slot) => {
                    if !session.ready(&self.settings.timers).await {
                        session.quit();
                        continue;
                    }
                    (session, slot, true)
                }
                Grant::Dial(slot) => match self.dial(t).await {
                    Some(session) => (session, slot, false),
                    None => return if self.stopped() { Flow::Done } else { Flow::On },
                },
            };
            match self.use_session(t, *session, slot, lent).await {
                Some(flow) => return flow,
                // The idle session had died: another one, at once, and no attempt counted (OUT-50).
                None => continue,
            }
        }
    }

    /// Opens a session; the reconnect in the clear after a failed handshake included (TLS-07).
    async fn dial(&mut self, t: &Try<'_>) -> Option<Box<Session>> {
        let host =
            HostKey { to: t.to, source: self.settings.source.filter(|s| s.is_ipv4() == t.to.is_ipv4()) };
        let mut after = None;
        loop {
            let retry = after.is_some();
            let mut o = opening(self.settings, &self.parts.tls, self.parts.clock.now(), t.policy, t.to);
            o.after = after.take();
            let fault = match Session::open(o).await {
                Ok(mut session) => {
                    session.fallback = retry;
                    if retry {
                        // The verdict on this host was on the session whose handshake failed (RPT-25).
                        session.reported.insert(t.policy.next_hop.clone());
                    }
                    self.report.reached = true;
                    return Some(Box::new(session));
                }
                Err(fault) => fault,
            };
            let mut base = self.base(Some(t.host), Some(t.to));
            if let Some(seen) = &fault.seen {
                self.report.reached = true;
                let judgement = judge(t.policy, &seen.evidence);
                if !retry {
                    self.record(t.policy, &judgement, Some(seen));
                }
                base.source_ip = seen.local;
                base.promise = judgement.promise;
                if let (Unopened::Handshake, TlsState::Failed(handshake)) = (&fault.why, &seen.evidence.tls) {
                    match judgement.cleared {
                        Ok(_) if !retry => {
                            self.step(
                                t,
                                format!("TLS handshake failed ({}), once more in the clear", handshake.words),
                            );
                            after = Some(handshake.clone());
                            continue;
                        }
                        Ok(_) => {}
                        Err(failure) => self.fail(&HostFailure::Tls(&failure), t.policy, base),
                    }
                    return None;
                }
            }
            match &fault.why {
                Unopened::Connect(dial) if !dial.local => self.parts.pool.trouble(&host, Trouble::Dial),
                Unopened::Fault(Stage::Greeting, _) | Unopened::Fault(_, Fault::Closing(_)) => {
                    self.parts.pool.trouble(&host, Trouble::Dial);
                }
                _ => {}
            }
            if let Unopened::Refused(..) | Unopened::Fault(_, Fault::Closing(_)) | Unopened::Ourselves =
                fault.why
            {
                self.report.reached = true;
            }
            if let Some(failure) = host_failure(&fault.why, t.to) {
                self.fail(&failure, t.policy, base.clone());
            }
            if let Unopened::Connect(dial) = &fault.why
                && dial.local
            {
                // Trying other hosts would fail alike: stop, not counted (table 2.1).
                let ruling = classify::local(format!("connect to {}: {}", t.to, dial.words));
                self.settle_pending(|_| (ruling.clone(), None)).await;
            }
            return None;
        }
    }

    /// Judges a session and sends what is pending over it. `None`: it was a dead idle session.
    async fn use_session(
        &mut self,
        t: &Try<'_>,
        mut session: Session,
        slot: Slot,
        reused: bool,
    ) -> Option<Flow> {
        let judgement = judge(t.policy, &session.seen.evidence);
        if session.reported.insert(t.policy.next_hop.clone()) {
            self.record(t.policy, &judgement, Some(&session.seen));
        }
        let mut base = self.base(Some(t.host), Some(t.to));
        base.source_ip = session.seen.local;
        base.promise = judgement.promise;
        let waited = self.parts.clock.monotonic().saturating_sub(self.begun);
        let mut session_facts = facts(&session.seen, t.route, reused, waited);
        let meta = &self.lease.message;
        session_facts.body_8bit_undeclared = meta.has_8bit && !session.ehlo.eight_bit;
        session_facts.dsn_offered = session.ehlo.dsn;
        base.session = Some(session_facts);
        let cleared = match judgement.cleared {
            Ok(cleared) => cleared,
            Err(failure) => {
                session.quit();
                self.fail(&HostFailure::Tls(&failure), t.policy, base);
                return Some(Flow::On);
            }
        };
        base.security = Some(cleared.level());
        let unfit = if session.ehlo.refuses_size(meta.size) {
            Some(HostFailure::TooLarge { size: meta.size, max: session.ehlo.size.unwrap_or(0) })
        } else if meta.smtputf8 && !session.ehlo.smtputf8 {
            Some(HostFailure::Smtputf8 { address: self.needs_smtputf8_address() })
        } else {
            None
        };
        if let Some(failure) = unfit {
            self.fail(&failure, t.policy, base);
            self.parts.pool.put_back(session, slot, &t.host.name);
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
                        self.waiting.insert(i, (ruling, diagnosis.clone()));
                    }
                    Next::NextHost | Next::Ipv4 => {
                        if next == Next::Ipv4 && !self.ipv4_only {
                            self.ipv4_only = true;
                            // One more session, whatever the budget says.
                            self.sessions = self.settings.max_sessions.saturating_sub(1);
                        }
                        done_here.insert(i);
                        self.waiting.insert(i, (ruling, diagnosis.clone()));
                    }
                }
            }
            self.step(t, describe(&transcript));
            if !settled.is_empty() && !self.settle(settled).await {
                session.quit();
                return Some(Flow::Done);
            }
        }
        self.parts.pool.put_back(session, slot, &t.host.name);
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

    /// No host is left: whoever is pending waits, or is returned where every host says so (R10).
    async fn last_host_tried(&mut self) {
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
                rulings.push(HostRuling { transient: ruling.clone(), permanent: None });
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

    fn fail(&mut self, failure: &HostFailure<'_>, policy: &TlsPolicy, base: Diagnosis) {
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
    fn skip(&mut self, t: &Try<'_>) {
        let words = "skipped: it did not answer a moment ago".to_owned();
        self.step(t, words.clone());
        let failure = HostFailure::Connect { at: t.to, words, local: false };
        let ruling = classify::host(&failure, &t.policy.host, t.policy);
        let base = self.base(Some(t.host), Some(t.to));
        self.failures.push(Failure { ruling, base, unreachable: true, skipped: true });
    }

    fn step(&mut self, t: &Try<'_>, what: String) {
        self.steps.push(Step { host: Some(t.host.name.clone()), ip: Some(t.to.ip()), what: cut(what) });
    }

    fn record(&self, policy: &TlsPolicy, judgement: &Judgement, seen: Option<&Seen>) {
        if judgement.verdicts.is_empty() {
            return;
        }
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

    /// Gives every pending recipient a ruling.
    async fn settle_pending(&mut self, rule: impl Fn(&LeasedRecipient) -> (Ruling, Option<Diagnosis>)) {
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
    async fn settle(&mut self, rulings: Vec<(usize, Ruling, Diagnosis)>) -> bool {
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

    fn hand_back(&mut self, until: Option<Timestamp>) {
        let recipients =
            self.pending().iter().filter_map(|i| self.lease.recipients.get(*i)).map(|r| r.no).collect();
        self.report.hand_back = Some(HandBack { recipients, until });
    }

    /// A moment of this process as wall-clock time.
    fn moment(&self, monotonic: Duration) -> Timestamp {
        let left = monotonic.saturating_sub(self.parts.clock.monotonic());
        self.parts.clock.now().after(left)
    }

    fn base(&self, host: Option<&Host>, to: Option<SocketAddr>) -> Diagnosis {
        Diagnosis {
            host: host.map(|h| h.name.clone()),
            ip: to.map(|t| t.ip()),
            port: to.map(|t| t.port()),
            ..blank(self.parts.clock.now())
        }
    }

    fn wishes(&self) -> Mail<'a> {
        let meta = &self.lease.message;
        Mail {
            reverse_path: &meta.reverse_path,
            size: meta.size,
            has_8bit: meta.has_8bit,
            smtputf8: meta.smtputf8,
            ret: meta.ret,
            envid: meta.envid.as_ref(),
            is_generated: meta.origin != Origin::Submitted,
        }
    }

    fn rcpt(&self, i: usize) -> Option<Rcpt<'a>> {
        let r = self.lease.recipients.get(i)?;
        Some(Rcpt { path: &r.path, notify: r.notify, orcpt: r.orcpt.as_ref() })
    }

    fn needs_smtputf8_address(&self) -> bool {
        let sender = self.lease.message.reverse_path.mailbox();
        sender.is_some_and(crate::mail::Mailbox::needs_smtputf8)
            || self.lease.recipients.iter().any(|r| r.path.mailbox().needs_smtputf8())
    }

    fn stopped(&self) -> bool {
        self.pending().is_empty()
    }

    fn pending(&self) -> Vec<usize> {
        self.lock().pending.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A step has at most 1 KiB.
fn cut(mut text: String) -> String {
    if text.len() > 1024 {
        let at = (0..=1024).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(at);
    }
    text
}
