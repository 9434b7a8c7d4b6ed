//! A fetch and what it leaves behind: the new policy, or the failure with its back-off.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::metrics::Downgrade;
use super::{Inner, NotFetched};
use crate::mail::Domain;
use crate::mtasts::decide::{self, Life};
use crate::mtasts::policy::{self, Mode, Policy};
use crate::mtasts::{DomainMemory, FetchFailure, StoredPolicy};
use crate::tlsrpt::ResultType;

impl Inner {
    /// Fetches the policy and stores it under `id`, or writes the failure down. Shared by all who want the same.
    pub(super) async fn get(
        self: &Arc<Self>,
        domain: &Domain,
        id: &str,
    ) -> Result<Arc<StoredPolicy>, NotFetched> {
        let key = (domain.clone(), id.to_owned());
        let inner = Arc::clone(self);
        let (name, wanted) = key.clone();
        let work = async move {
            let begun = inner.clock.monotonic();
            let fetched = inner.download(&name, &wanted).await;
            let took = inner.clock.monotonic().saturating_sub(begun);
            inner.settings.metrics.fetched(&fetched, took);
            match fetched {
                Ok(policy) => Ok(inner.keep(policy).await),
                Err(NotFetched::Failed(failure)) => {
                    inner.note_failure(&name, &wanted, &failure).await;
                    Err(NotFetched::Failed(failure))
                }
                Err(NotFetched::NoSlot) => Err(NotFetched::NoSlot),
            }
        };
        self.gets.join(&key, || work.boxed()).await
    }

    pub(super) async fn download(&self, domain: &Domain, id: &str) -> Result<StoredPolicy, NotFetched> {
        let slot = timeout(self.settings.slot_wait, self.slots.acquire()).await;
        let Ok(Ok(_slot)) = slot else { return Err(NotFetched::NoSlot) };
        let body = match timeout(self.settings.fetch_timeout, self.fetcher.fetch(domain)).await {
            Ok(Ok(body)) => body,
            Ok(Err(failure)) => return Err(NotFetched::Failed(failure)),
            Err(_) => {
                return Err(NotFetched::Failed(FetchFailure::fetch_error(
                    "timeout",
                    "the policy host did not finish in time",
                )));
            }
        };
        let policy = Policy::parse(&body).map_err(|e| {
            NotFetched::Failed(FetchFailure {
                result: ResultType::StsPolicyInvalid,
                detail: e.to_string(),
                reason: e.token,
                lines: policy::raw_lines(&body),
            })
        })?;
        let now = self.clock.now();
        let expires = now.after(policy.max_age);
        Ok(StoredPolicy {
            domain: domain.clone(),
            id: id.to_owned(),
            policy,
            fetched: now,
            expires,
            last_used: now,
        })
    }

    /// Puts a fetched policy in the place of the stored one.
    async fn keep(&self, fresh: StoredPolicy) -> Arc<StoredPolicy> {
        let domain = fresh.domain.clone();
        let row = self.load(&domain).await.unwrap_or_default();
        let before = row.policy.clone();
        let now = fresh.fetched;
        let fresh = Arc::new(fresh);
        let memory_before = row.memory.clone();
        let row = self.change(&domain, &row, |row| {
            row.policy = Some(Arc::clone(&fresh));
            row.memory.backoff = None;
            row.memory.refresh_failing_since = None;
            row.memory.refresh_tried = Some(now);
        });
        let enforced = before.as_ref().is_some_and(|p| p.policy.mode == Mode::Enforce && now < p.expires);
        if enforced && fresh.policy.mode != Mode::Enforce {
            tracing::warn!(%domain, event = "sts-policy-downgrade", mode = %fresh.policy.mode, id = %fresh.id, "the domain took its enforce policy back");
            self.settings.metrics.downgrades.count(Downgrade::Withdrawn);
        }
        let change = decide::change(before.as_deref(), &fresh);
        if let Err(e) = self.store.save((*fresh).clone(), change.clone()).await {
            tracing::error!(%domain, error = %e, "the policy is kept in memory until the store takes it");
            self.unsaved().insert(domain.clone(), ((*fresh).clone(), change));
        } else {
            self.unsaved().remove(&domain);
        }
        if row.memory != memory_before {
            self.write_memory(&domain, row.memory).await;
        }
        fresh
    }

    /// Back-off, failing refresh, and the downgrade when the policy had only waited for this (STS-25, STS-57).
    async fn note_failure(&self, domain: &Domain, id: &str, failure: &FetchFailure) {
        tracing::warn!(%domain, id, result = %failure.result, reason = %failure.reason, detail = %failure.detail, "policy not fetched");
        let row = self.load(domain).await.unwrap_or_default();
        let was_due = self.life(&row).filter(|(_, life)| *life == Life::Due);
        self.remember(domain, &row, |m| self.failed_now(m, id, failure)).await;
        if let Some((policy, _)) = was_due {
            tracing::warn!(%domain, event = "sts-policy-expired-downgrade", mode = %policy.policy.mode, expired = %policy.expires, "the policy ran out and cannot be had again");
            if policy.policy.mode == Mode::Enforce {
                self.settings.metrics.downgrades.count(Downgrade::Expired);
            }
        }
    }
    /// What a fetch of `id` that fails now leaves in the memory.
    pub(super) fn failed_now(&self, memory: &mut DomainMemory, id: &str, failure: &FetchFailure) {
        let now = self.clock.now();
        let before = memory.backoff.as_ref();
        memory.backoff = Some(decide::next_backoff(before, id, failure, now, &self.settings.limits));
        memory.refresh_tried = Some(now);
        memory.refresh_failing_since = memory.refresh_failing_since.or(Some(now));
    }
}
