//! Getting a session with one address: lent by the pool, or dialled, with the reconnect in the clear after a
//! failed handshake.

use std::sync::atomic::Ordering;

use crate::queue::health::Trouble;
use crate::queue::outcome::Stage;
use crate::route::source;
use crate::security::verdict::{Evidence, TlsState, judge};

use super::super::{has_our_name, host_failure, opening};
use super::{Flow, Try, Walk};
use crate::delivery::classify::{self, HostFailure};
use crate::delivery::pool::{Grant, HostKey, Key};
use crate::delivery::session::{OpenFault, Session, Unopened};
use crate::delivery::transcript::{AuthFault, Fault};

/// A host of our own name that refuses is dialled so often before it counts as us: another server may be starting there.
const DIALS_OF_OUR_NAME: u32 = 3;

impl Walk<'_> {
    pub(super) async fn address(&mut self, t: &Try<'_>) -> Flow {
        let key = self.key(t);
        let credentials = t.route.rule.as_ref().and_then(|rule| rule.credentials.as_ref());
        if credentials.is_some_and(|c| self.parts.pool.withholds_password(&key.host, &c.user)) {
            // Each message that waits says what it waits for.
            let base = self.base(Some(t.host), Some(t.to));
            self.fail(&HostFailure::Auth(&AuthFault::Withheld), t.policy, base);
            return Flow::On;
        }
        let suits = |evidence: &Evidence| judge(t.policy, evidence).cleared.is_ok();
        loop {
            let grant = self.parts.pool.acquire(&key, &suits, self.settings.patience).await;
            let (session, slot, lent) = match grant {
                Grant::Full => return Flow::HandBack(None),
                Grant::Paused(pause) => {
                    self.first_pause = Some(self.first_pause.map_or(pause.until, |p| p.min(pause.until)));
                    match pause.trouble {
                        Trouble::Dialogue => return Flow::HandBack(Some(self.moment(pause.until))),
                        Trouble::Dial => self.skip(t),
                    }
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

    /// What sessions with this address are kept by.
    pub(super) fn key(&self, t: &Try<'_>) -> Key {
        let source = source::choose(&self.settings.sources, &t.route.next_hop, t.to.ip());
        let host = HostKey { to: t.to, source: source.map(|s| s.address) };
        Key { name: t.host.name.clone(), host, lane: t.route.lane() }
    }

    /// Opens a session; the reconnect in the clear included, where STARTTLS came to nothing (TLS-07).
    async fn dial(&mut self, t: &Try<'_>) -> Option<Box<Session>> {
        let host = self.key(t).host;
        let mut after = None;
        loop {
            let retry = after.is_some();
            let fault = match self.open(t, after.take()).await {
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
                base.waived = judgement.waived;
                if let Unopened::Starttls = &fault.why {
                    match judgement.cleared {
                        Ok(_) if !retry => {
                            let what = match &seen.evidence.tls {
                                TlsState::Failed(handshake) => {
                                    format!("TLS handshake failed ({})", handshake.words)
                                }
                                TlsState::Refused(reply) => format!("STARTTLS refused ({reply})"),
                                TlsState::NotOffered | TlsState::On(_) => "no TLS".to_owned(),
                            };
                            self.step(t, format!("{what}, once more in the clear"));
                            after = Some(seen.evidence.tls.clone());
                            continue;
                        }
                        Ok(_) => {}
                        Err(failure) => {
                            self.fall_short(&failure, t.policy, t.route, Some(&seen.evidence), base);
                        }
                    }
                    return None;
                }
            }
            let nobody = self.may_be_us(t, &fault.why);
            match &fault.why {
                Unopened::Connect(dial) if !dial.local && !nobody => {
                    self.parts.pool.trouble(&host, Trouble::Dial);
                }
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
            if let Some(failure) = host_failure(&fault.why, t.to, nobody) {
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

    /// Opens a session; `after` STARTTLS came to nothing, for the clear.
    async fn open(&self, t: &Try<'_>, after: Option<TlsState>) -> Result<Session, OpenFault> {
        let mut dials = 1;
        loop {
            let (tls, now) = (&self.parts.tls, self.parts.clock.now());
            let mut o = opening(self.settings, tls, now, t.route, t.policy, t.to);
            o.after = after.clone();
            let opened = Session::open(o).await;
            let why = opened.as_ref().err().map(|fault| &fault.why);
            self.settings.metrics.dialled(why);
            if has_our_name(self.settings, t.route, &t.host.name)
                && why.is_none_or(|why| !matches!(why, Unopened::Connect(_)))
            {
                self.name_shared.store(true, Ordering::Relaxed);
            }
            if dials == DIALS_OF_OUR_NAME || !why.is_some_and(|why| self.may_be_us(t, why)) {
                return opened;
            }
            dials += 1;
            tokio::time::sleep(self.settings.own_name_pause).await;
        }
    }

    /// Whether the host has our own name, refuses the connection, and nobody has ever answered there (OUT-08). Where TLS
    /// is owed, forged records could say as much (OUT-09).
    fn may_be_us(&self, t: &Try<'_>, why: &Unopened) -> bool {
        has_our_name(self.settings, t.route, &t.host.name)
            && !t.policy.owes_tls()
            && !self.name_shared.load(Ordering::Relaxed)
            && matches!(why, Unopened::Connect(dial) if dial.refused)
    }
}
