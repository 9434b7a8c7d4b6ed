//! Getting a session with one address: lent by the pool, or dialled, with the reconnect in the clear after a
//! failed handshake.

use crate::queue::health::Trouble;
use crate::queue::outcome::Stage;
use crate::route::source;
use crate::security::verdict::{Evidence, TlsState, judge};

use super::super::{host_failure, opening};
use super::{Flow, Try, Walk};
use crate::delivery::classify::{self, HostFailure};
use crate::delivery::pool::{Grant, HostKey, Key};
use crate::delivery::session::{Session, Unopened};
use crate::delivery::transcript::Fault;

impl Walk<'_> {
    pub(super) async fn address(&mut self, t: &Try<'_>) -> Flow {
        let key = self.key(t);
        let suits = |evidence: &Evidence| judge(t.policy, evidence).cleared.is_ok();
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

    /// What sessions with this address are kept by.
    pub(super) fn key(&self, t: &Try<'_>) -> Key {
        let source = source::choose(&self.settings.sources, &t.route.next_hop, t.to.ip());
        let host = HostKey { to: t.to, source: source.map(|s| s.address) };
        Key { name: t.host.name.clone(), host, lane: t.route.lane() }
    }

    /// Opens a session; the reconnect in the clear after a failed handshake included (TLS-07).
    async fn dial(&mut self, t: &Try<'_>) -> Option<Box<Session>> {
        let host = self.key(t).host;
        let mut after = None;
        loop {
            let retry = after.is_some();
            let mut o =
                opening(self.settings, &self.parts.tls, self.parts.clock.now(), t.route, t.policy, t.to);
            o.after = after.take();
            let opened = Session::open(o).await;
            self.settings.metrics.dialled(opened.as_ref().err().map(|fault| &fault.why));
            let fault = match opened {
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
}
