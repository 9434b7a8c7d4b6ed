//! A session up to EHLO inside TLS and no further, for `sealpost check --probe`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::super::classify::{self, HostRuling};
use super::super::session::{Seen, Session, Unopened};
use super::super::starttls::Tls;
use super::{AttemptSettings, has_our_name, host_failure, opening};
use crate::clock::Clock;
use crate::route::Route;
use crate::security::decide::TlsPolicy;
use crate::security::verdict::{Judgement, judge};

/// Opens sessions as an attempt does, judges them, and closes them: no MAIL, no record.
pub struct Prober {
    settings: AttemptSettings,
    tls: Tls,
    clock: Arc<dyn Clock>,
}

impl Prober {
    /// A prober with the settings of the relay's attempts.
    pub fn new(settings: AttemptSettings, tls: Tls, clock: Arc<dyn Clock>) -> Self {
        Self { settings, tls, clock }
    }

    /// What was seen at `address`, and the verdict that a delivery would come to.
    ///
    /// # Errors
    /// The ruling that mail would get from this host when no session comes about.
    pub async fn probe(
        &self,
        address: IpAddr,
        route: &Route,
        policy: &TlsPolicy,
    ) -> Result<(Seen, Judgement), HostRuling> {
        let to = SocketAddr::new(address, route.port(self.settings.port));
        let opening = opening(&self.settings, &self.tls, self.clock.now(), route, policy, to);
        let fault = match Session::open(opening).await {
            Ok(session) => {
                let seen = session.seen.clone();
                session.quit();
                let judgement = judge(policy, &seen.evidence);
                return Ok((seen, judgement));
            }
            Err(fault) => fault,
        };
        match (fault.seen, &fault.why) {
            (Some(seen), Unopened::Starttls) => {
                let judgement = judge(policy, &seen.evidence);
                Ok((*seen, judgement))
            }
            (_, why) => {
                let nobody = has_our_name(&self.settings, route, &policy.host) && !policy.owes_tls();
                match host_failure(why, to, nobody) {
                    Some(failure) => Err(classify::host(&failure, &policy.host, policy)),
                    None => Err(HostRuling { transient: classify::local(String::new()), permanent: None }),
                }
            }
        }
    }
}
