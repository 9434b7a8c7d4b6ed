//! What the admin interface asks of the running relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::admin::{AdminActions, Readiness};
use crate::delivery::pool::Pool;
use crate::mail::Domain;
use crate::mtasts::StoredPolicy;
use crate::mtasts::service::PolicyService;
use crate::queue::manager::Manager;
use crate::queue::{Filter, QueueStore};

/// The running relay, as operators' commands see it.
pub(super) struct Actions {
    pub(super) manager: Manager,
    pub(super) policies: PolicyService,
    pub(super) pool: Arc<Pool>,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) reserve: u64,
    pub(super) listening: Arc<AtomicBool>,
    pub(super) dnssec: String,
}

impl AdminActions for Actions {
    fn refresh(&self, domain: Domain) -> BoxFuture<'_, Result<StoredPolicy, String>> {
        async move {
            let policy = self.policies.refresh(&domain).await.map_err(|failure| failure.detail)?;
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
        Readiness {
            store_writable: health.writable,
            disk_free: health.free,
            disk_ok: health.free > self.reserve,
            listeners_up: self.listening.load(Ordering::Relaxed),
            dnssec: self.dnssec.clone(),
        }
    }
}
