//! The walk over the hosts of one attempt.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::dane::TlsaAnswer;
use crate::mail::{Domain, Origin};
use crate::mtasts::{Applicable, Discovery, Mode};
use crate::queue::outcome::{Diagnosis, Stage};
use crate::queue::{Lease, LeasedRecipient, Step};
use crate::route::{Host, NoAddress, Route, RouteFailure};
use crate::security::decide::{Asked, Gate, MessageKind, TlsPolicy};
use crate::security::failure::TlsFailure;
use crate::security::verdict::refused;

use super::super::classify::{self, HostFailure, HostRuling};
use super::super::ehlo::Ehlo;
use super::super::wire_form::{Mail, Rcpt, rcpt_command};
use super::super::{AttemptReport, Ledger};
use super::{AttemptSettings, Attempts, Parts, Progress, Terms, blank, gate};

mod connect;
mod settle;
mod transactions;

use settle::Failure;

/// What a step of the walk leads to.
enum Flow {
    /// The next address.
    On,
    /// Nothing more to do here: all recipients have their outcome, or the store failed.
    Done,
    /// No place now.
    HandBack(Option<Timestamp>),
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
    name_shared: &'a AtomicBool,
    lease: &'a Lease,
    ledger: &'a dyn Ledger,
    progress: &'a Mutex<Progress>,
    report: AttemptReport,
    steps: Vec<Step>,
    failures: Vec<Failure>,
    /// What the transactions so far come to, per recipient still pending: the last temporary ruling, if there is one.
    waiting: BTreeMap<usize, (HostRuling, Diagnosis)>,
    sessions: u32,
    /// By name too: one machine under two names may have the certificate of the second only.
    tried: HashSet<(Domain, IpAddr)>,
    /// IPv6 was refused for what IPv4 may deliver: IPv4 alone from now on (OUT-40).
    ipv4_only: bool,
    first_pause: Option<Duration>,
    /// Who could be asked when the route was looked for.
    asked: Asked,
    begun: Duration,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        attempts: &'a Attempts,
        lease: &'a Lease,
        ledger: &'a dyn Ledger,
        progress: &'a Mutex<Progress>,
    ) -> Self {
        let Attempts { settings, parts, name_shared } = attempts;
        Self {
            settings,
            parts,
            name_shared,
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
            asked: Asked::Fewer,
            begun: parts.clock.monotonic(),
        }
    }

    pub(super) async fn run(mut self) -> AttemptReport {
        let domain = &self.lease.domain;
        let meta = &self.lease.message;
        let kind = MessageKind::of(meta.origin, meta.sender_tls, &meta.reverse_path);
        // STS-55: the attempt before broke on an enforce policy.
        let broke = |r: &LeasedRecipient| {
            let last = r.last.as_ref();
            last.is_some_and(|d| {
                d.tls_failure.is_some() && d.promise.as_ref().is_some_and(|p| p.mode == "enforce")
            })
        };
        if self.lease.recipients.iter().any(broke)
            && let Some(policy_domain) = self.parts.routes.policy_domain(domain)
        {
            self.parts.policies.after_enforce_failure(&policy_domain).await;
        }
        if !self.refuse_damaged_addresses().await {
            return self.report;
        }
        // Asked before the route is: one that was found in doubt is no proof because the doubt has ended since (RTLS-29).
        self.asked = self.settings.asking.now(&Applicable::default());
        let route = match self.parts.routes.resolve(domain).await {
            Ok(route) => route,
            Err(failure) => {
                self.no_route(&failure).await;
                return self.report;
            }
        };
        let discovery = match route.policy_domain() {
            Some(policy_domain) => self.parts.policies.discover(policy_domain).await,
            None => Discovery::Known(Applicable::default()),
        };
        let applicable = match discovery {
            Discovery::Known(applicable) => applicable,
            // Who does not heed policies does not wait for them (R2).
            Discovery::Wait(_) if !kind.heeds_policies() => Applicable::default(),
            Discovery::Wait(error) => {
                let ruling = classify::policy_lookup_failed(&error);
                self.settle_pending(|_| (ruling.clone(), None)).await;
                return self.report;
            }
        };
        // R2: for REQUIRETLS the grace of a lookup never ends (RTLS-29).
        if let (MessageKind::RequireTls, Some(error)) = (kind, &applicable.lookup_failed) {
            let ruling = classify::policy_lookup_failed(error);
            self.settle_pending(|_| (ruling.clone(), None)).await;
            return self.report;
        }
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
        if let RouteFailure::Dns(error) = failure {
            self.record_bogus(domain, None, error);
        }
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
        let port = route.port(self.settings.port);
        for host in &route.hosts {
            let exception = self.parts.exceptions.of(&self.lease.domain, self.parts.clock.now());
            // RFC 7672 §2.2.2: addresses before TLSA records; without an address nobody is dialled (DANE-07).
            let tlsa = match &host.addresses {
                Ok(_) => self.parts.tlsa.look_up(host, port).await,
                Err(_) => TlsaAnswer::None,
            };
            if host.addresses.is_ok() {
                self.settings.metrics.looked_up(&tlsa);
            }
            let terms = Terms {
                exception,
                message: kind,
                require_both: self.settings.require_both,
                asked: self.asked.max(self.settings.asking.now(applicable)),
            };
            let policy = match gate(route, host, &tlsa, applicable, terms) {
                Gate::Contact(policy) => policy,
                // R3 comes before R4, R5 and R9: where no address can be found out, nothing is conclusive (D05).
                Gate::Refuse(policy, _) if host.addresses.is_err() => policy,
                Gate::Refuse(policy, failure) => {
                    self.refuse_host(route, host, &policy, failure);
                    continue;
                }
            };
            let addresses = match &host.addresses {
                Ok(addresses) => addresses,
                Err(why) => {
                    if let (NoAddress::Failed(error), true) = (why, route.mx_secure) {
                        self.record_bogus(&route.next_hop, Some(&host.name), error);
                    }
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
                let to = SocketAddr::new(address, port);
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

    /// R3, R5: not contacted, and recorded as an attempted session (RPT-20).
    fn refuse_host(&mut self, route: &Route, host: &Host, policy: &TlsPolicy, failure: TlsFailure) {
        let judgement = refused(policy, failure);
        self.record(policy, &judgement, None);
        let mut base = self.base(Some(host), None);
        base.promise = judgement.promise;
        if let Err(failure) = judgement.cleared {
            self.fall_short(&failure, policy, route, None, base);
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
