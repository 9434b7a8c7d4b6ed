//! The background half of the service: refresh about daily, alarms, purge, and policies the store did not take.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use super::super::StoredPolicy;
use super::super::decide::{self, Alarm, Life};
use super::metrics::Severity;
use super::{Inner, PolicyService, ServiceSettings};
use crate::clock::Timestamp;

impl PolicyService {
    /// Refreshes, alarms and purges until `shutdown`. What is interrupted is done again at the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut last_purge = None;
        let rounds = async {
            loop {
                self.upkeep(&mut last_purge).await;
                tokio::time::sleep(self.inner.settings.tick).await;
            }
        };
        shutdown.run_until_cancelled(rounds).await;
    }

    /// One round.
    pub(super) async fn upkeep(&self, last_purge: &mut Option<Duration>) {
        let inner = &self.inner;
        inner.write_unsaved().await;
        let clock_doubted = inner.no_expiry();
        if inner.watch().take_all_due() {
            inner.refresh_all().await;
        } else {
            inner.refresh_due().await;
        }
        let ran = inner.clock.monotonic();
        let purge_due = last_purge.is_none_or(|last| ran.saturating_sub(last) >= PURGE_EVERY);
        // A clock in doubt expires nothing, so it deletes nothing either.
        if purge_due && !clock_doubted && inner.settings.enabled {
            *last_purge = Some(ran);
            inner.purge().await;
        }
    }
}

impl Inner {
    async fn write_unsaved(&self) {
        let waiting: Vec<_> = self.unsaved().values().cloned().collect();
        for (policy, change) in waiting {
            let (domain, fetched) = (policy.domain.clone(), policy.fetched);
            if self.store.save(policy, change).await.is_err() {
                return;
            }
            let mut unsaved = self.unsaved();
            if unsaved.get(&domain).is_some_and(|(p, _)| p.fetched == fetched) {
                unsaved.remove(&domain);
            }
        }
    }

    async fn refresh_due(self: &Arc<Self>) {
        let (s, now) = (&self.settings, self.clock.now());
        let earliest = now.before(s.refresh_after.saturating_sub(s.refresh_spread));
        match self.store.due_for_refresh(earliest, now.before(s.refresh_retry), BATCH).await {
            Err(e) => tracing::error!(error = %e, "policies due for refresh are not readable"),
            Ok(due) => {
                self.refresh_each(due.into_iter().filter(|p| refresh_moment(p, s) <= now).collect()).await;
            }
        }
    }

    async fn refresh_all(self: &Arc<Self>) {
        let mut after = None;
        loop {
            let page = match self.store.list(after, BATCH).await {
                Ok(page) => page,
                Err(e) => return tracing::error!(error = %e, "stored policies are not readable"),
            };
            let Some(last) = page.last() else { return };
            after = Some(last.domain.clone());
            self.refresh_each(page).await;
        }
    }

    async fn refresh_each(self: &Arc<Self>, policies: Vec<StoredPolicy>) {
        if self.settings.enabled {
            stream::iter(policies)
                .for_each_concurrent(
                    self.settings.refresh_parallel,
                    |p| async move { self.refresh_one(p).await },
                )
                .await;
        }
    }

    /// One unconditional GET, whatever the TXT record says (STS-49).
    async fn refresh_one(self: &Arc<Self>, policy: StoredPolicy) {
        let (domain, now) = (&policy.domain, self.clock.now());
        let Ok(row) = self.load(domain).await else { return };
        let over = self.life(&row).is_none_or(|(_, life)| life == Life::Over);
        let unused = now.since(policy.last_used) > self.settings.unused_after && !self.no_expiry();
        if over || unused {
            // It lapses; noted, so that it does not stand in the way of others that are due.
            return self.remember(domain, &row, |m| m.refresh_tried = Some(now)).await;
        }
        if self.get(domain, &policy.id).await.is_ok() {
            return;
        }
        let since = self.load(domain).await.ok().and_then(|row| row.memory.refresh_failing_since);
        let failed = &self.settings.metrics.refreshes_failed;
        match decide::refresh_alarm(&policy, since.unwrap_or(now), now) {
            Alarm::Silent => {}
            Alarm::Warn => {
                failed.count(Severity::Warning);
                tracing::warn!(%domain, event = "sts-refresh-failed", expires = %policy.expires, "policy not refreshed")
            }
            Alarm::Urgent => {
                failed.count(Severity::Urgent);
                tracing::error!(%domain, event = "sts-refresh-failing", expires = %policy.expires, failing_since = ?since, "the policy cannot be refreshed and runs out")
            }
        }
    }

    async fn purge(&self) {
        let before = self.clock.now().before(self.settings.keep_expired);
        loop {
            match self.store.purge(before).await {
                Ok(0) => return,
                Ok(purged) => tracing::info!(purged, "policies expired and unused for a month deleted"),
                Err(e) => return tracing::error!(error = %e, "expired policies not deleted"),
            }
        }
    }
}

/// When a policy is due: at its own moment within the spread before `refresh_after`, so that policies fetched
/// together are not refreshed together.
fn refresh_moment(policy: &StoredPolicy, s: &ServiceSettings) -> Timestamp {
    let mut hash = DefaultHasher::new();
    (&policy.domain, policy.fetched).hash(&mut hash);
    let spread = u64::try_from(s.refresh_spread.as_millis()).unwrap_or(u64::MAX).max(1);
    let early = Duration::from_millis(hash.finish() % spread);
    policy.fetched.after(s.refresh_after.saturating_sub(early))
}

const BATCH: usize = 1000;
const PURGE_EVERY: Duration = Duration::from_secs(3600);
