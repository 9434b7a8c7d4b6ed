//! What the admin interface asks of the running relay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use crate::admin::{AdminActions, Readiness, Reports};
use crate::delivery::pool::Pool;
use crate::mail::Domain;
use crate::mtasts::StoredPolicy;
use crate::mtasts::service::PolicyService;
use crate::queue::manager::Manager;
use crate::queue::{Filter, QueueStore};
use crate::tlsrpt::service::{Preview, ReportService, SendSummary};
use crate::tlsrpt::{Day, ListedReport, ReportFilter, ReportNo, ReportStore, ReportStoreError};

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

/// The reports of the running relay.
pub(super) struct ReportDesk {
    pub(super) service: ReportService,
    pub(super) store: Arc<dyn ReportStore>,
}

impl Reports for ReportDesk {
    fn preview(&self, day: Option<Day>, domain: Option<Domain>) -> BoxFuture<'_, Result<Preview, String>> {
        self.service.preview(day, domain).boxed()
    }

    fn send(
        &self,
        day: Option<Day>,
        domain: Option<Domain>,
        again: bool,
    ) -> BoxFuture<'_, Result<SendSummary, String>> {
        self.service.send(day, domain, again).boxed()
    }

    fn list(
        &self,
        filter: ReportFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<ListedReport>, ReportStoreError>> {
        self.store.reports(filter, limit)
    }

    fn octets(&self, id: ReportNo) -> BoxFuture<'_, Result<Option<bytes::Bytes>, ReportStoreError>> {
        self.store.octets(id)
    }
}
