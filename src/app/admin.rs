//! What the admin interface asks of the running relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::status::{self, Watched};
use crate::admin::{AdminActions, Readiness};
use crate::clock::Timestamp;
use crate::config::{Config, room_needed};
use crate::delivery::pool::Pool;
use crate::dns::belief::Belief;
use crate::mail::Domain;
use crate::mtasts::service::PolicyService;
use crate::mtasts::{FetchFailure, StoredPolicy};
use crate::queue::manager::Manager;
use crate::queue::{Filter, QueueStore};
use crate::status::{Place, Relay, Running};
use crate::tlsrpt::service::ReportService;

/// The running relay, as operators' commands see it.
pub(super) struct Actions {
    pub(super) manager: Manager,
    pub(super) policies: PolicyService,
    pub(super) pool: Arc<Pool>,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) reports: ReportService,
    pub(super) listening: Arc<AtomicBool>,
    pub(super) belief: Arc<Belief>,
    pub(super) watched: Watched,
}

impl AdminActions for Actions {
    fn refresh(&self, domain: Domain) -> BoxFuture<'_, Result<StoredPolicy, String>> {
        async move {
            let policy = match self.policies.refresh(&domain).await {
                Ok(policy) => policy,
                Err(failure) => {
                    let kept = self.policies.cached(&domain).await.policy;
                    return Err(not_refreshed(&domain, &failure, kept.as_deref()));
                }
            };
            // Mail that waited for the repair may go now; its own next attempt stays what it is.
            Ok((*policy).clone())
        }
        .boxed()
    }

    fn retried(&self, filter: &Filter) {
        let domains: Vec<Domain> = filter.domain.iter().cloned().collect();
        self.pool.end_pauses();
        self.policies.lift_limits(&domains);
        self.manager.wake(&domains);
    }

    fn readiness(&self) -> Readiness {
        let health = self.queue.health();
        let Config { queue, submission, .. } = &self.watched.config;
        Readiness {
            store_writable: health.writable,
            disk_free: health.free,
            disk_ok: health.free > room_needed(queue.reserve, submission.max_message_size),
            listeners_up: self.listening.load(Ordering::Relaxed),
            dnssec: self.belief.words(),
        }
    }

    fn standing(&self, now: Timestamp) -> (Place, Running) {
        let readiness = self.readiness();
        let running = Running {
            relay: Relay {
                started: self.watched.started,
                draining: self.manager.is_draining(),
                listeners: self.watched.listeners(),
            },
            dnssec: status::dnssec(&self.belief),
            standing: self.watched.noticed.get(),
            reports_wait: self.reports.obstacle(),
            configuration: self.watched.configuration(),
            readiness,
        };
        (self.watched.place(now, running.readiness.disk_free), running)
    }
}

/// What failed, and what holds nevertheless.
fn not_refreshed(domain: &Domain, failure: &FetchFailure, kept: Option<&StoredPolicy>) -> String {
    let why = if failure.detail.is_empty() { &failure.reason } else { &failure.detail };
    let kept = match kept {
        Some(p) => {
            format!("the stored policy (mode {}, id {}) still holds until {}", p.policy.mode, p.id, p.expires)
        }
        None => "no policy is stored that holds".to_owned(),
    };
    format!("the policy of {domain} was not fetched: {why} ({}); {kept}", failure.result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::mtasts::policy::Policy;

    // STS-44: a failed fetch changes nothing, and says so.
    #[test]
    fn a_failed_refresh_is_a_sentence_that_says_what_still_holds() {
        let domain = Domain::parse("a.example").unwrap();
        let failure = FetchFailure::fetch_error("http-404", "mta-sts.a.example answers 404");
        assert_eq!(
            not_refreshed(&domain, &failure, None),
            "the policy of a.example was not fetched: mta-sts.a.example answers 404 (sts-policy-fetch-error); \
             no policy is stored that holds"
        );
        let now = Timestamp::from_millis(1_795_333_080_000);
        let text = b"version: STSv1\r\nmode: enforce\r\nmx: mx.a.example\r\nmax_age: 604800\r\n";
        let kept = StoredPolicy {
            domain: domain.clone(),
            id: "7".to_owned(),
            policy: Policy::parse(text).unwrap(),
            fetched: now,
            expires: now,
            last_used: now,
        };
        let said = not_refreshed(&domain, &failure, Some(&kept));
        assert!(
            said.ends_with("; the stored policy (mode enforce, id 7) still holds until 2026-11-22T07:38:00Z"),
            "{said}"
        );
    }
}
