//! Discovery at a delivery attempt: the TXT record, the stored policy, and what follows from both.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::rows::Row;
use super::{Inner, NotFetched, applicable, unavailable, undiscovered};
use crate::dns::{Data, DnsError};
use crate::mail::Domain;
use crate::mtasts::decide::{self, Life, Step, Txt};
use crate::mtasts::{Applicable, Discovery, FetchFailure, StoredPolicy, record};

const TOUCH_EVERY: Duration = Duration::from_secs(3600);

impl Inner {
    pub(super) async fn discover(self: Arc<Self>, domain: &Domain) -> Discovery {
        let Ok(mut row) = self.load(domain).await else {
            // Whether an enforce policy is stored cannot be known, and mail must not go out on a guess.
            return Discovery::Wait(unavailable(domain, "stored MTA-STS policy"));
        };
        let (txt, dns_error) = self.ask_txt(domain).await;
        let mut failure = None;
        let mut step = self.step(&row, &txt);
        if let Step::Fetch { id } = &step {
            match self.get(domain, id).await {
                Ok(policy) => return Discovery::Known(self.used(domain, applicable(Some(policy), None))),
                Err(NotFetched::NoSlot) => {
                    return match self.valid(&row) {
                        Some(policy) => {
                            let known = Applicable { outdated: true, ..applicable(Some(policy), None) };
                            Discovery::Known(self.used(domain, known))
                        }
                        // Going on would send the first message unprotected because we are busy.
                        None => Discovery::Wait(unavailable(domain, "MTA-STS policy")),
                    };
                }
                Err(NotFetched::Failed(why)) => {
                    failure = Some(why);
                    row = self.load(domain).await.unwrap_or(row);
                    // The failure is in the memory now, so the next step is never the same fetch.
                    step = self.step(&row, &txt);
                }
            }
        }
        let Some(applicable) = self.comes_to(&step, &row, &txt, dns_error.as_ref(), failure) else {
            if step == (Step::Wait { start: true }) {
                let now = self.clock.now();
                self.remember(domain, &row, |m| m.grace_started = Some(now)).await;
            }
            tracing::warn!(%domain, event = "sts-discovery-dns-error", error = ?dns_error, "waiting");
            return Discovery::Wait(dns_error.unwrap_or_else(|| unavailable(domain, "TXT")));
        };
        match (&step, &applicable.fetch_failure) {
            (Step::UseStoredUndiscovered, Some(why)) => {
                tracing::warn!(%domain, reason = %why.reason, "policy not discovered; the stored one applies");
            }
            (Step::NoPolicy, _) if txt == Txt::Failed => {
                tracing::warn!(%domain, event = "sts-discovery-dns-error", error = ?dns_error, "going on without a policy");
            }
            _ => {}
        }
        Discovery::Known(self.used(domain, applicable))
    }

    /// What `step` comes to once nothing is fetched any more; `failure`: the fetch that was its first part failed with it.
    /// `None`: mail waits.
    pub(super) fn comes_to(
        &self,
        step: &Step,
        row: &Row,
        txt: &Txt,
        dns_error: Option<&DnsError>,
        failure: Option<FetchFailure>,
    ) -> Option<Applicable> {
        match step {
            Step::Wait { .. } => None,
            Step::UseStored => Some(applicable(self.valid(row), None)),
            Step::UseStoredUndiscovered => {
                let known = applicable(self.valid(row), Some(undiscovered(txt, dns_error)));
                // Where there is no record there is no other policy.
                Some(Applicable { outdated: *txt == Txt::Failed, ..known })
            }
            Step::BackedOff | Step::Fetch { .. } => {
                let failure = failure.or_else(|| row.memory.backoff.as_ref().map(|b| b.failure.clone()));
                Some(applicable(self.valid(row), failure))
            }
            Step::NoPolicy => Some(Applicable { lookup_failed: dns_error.cloned(), ..Applicable::default() }),
        }
    }

    pub(super) fn step(&self, row: &Row, txt: &Txt) -> Step {
        let now = self.clock.now();
        decide::step(row.policy.as_deref(), &row.memory, txt, now, self.no_expiry(), &self.settings.limits)
    }

    pub(super) fn life(&self, row: &Row) -> Option<(Arc<StoredPolicy>, Life)> {
        let policy = row.policy.clone()?;
        let life =
            decide::life(&policy, &row.memory, self.clock.now(), self.no_expiry(), &self.settings.limits);
        Some((policy, life))
    }

    /// The stored policy while it applies.
    pub(super) fn valid(&self, row: &Row) -> Option<Arc<StoredPolicy>> {
        self.life(row).filter(|(_, life)| *life != Life::Over).map(|(policy, _)| policy)
    }

    /// Notes the use of a policy, to the hour.
    fn used(&self, domain: &Domain, applicable: Applicable) -> Applicable {
        let now = self.clock.now();
        if applicable.policy.as_ref().is_some_and(|p| now.since(p.last_used) >= TOUCH_EVERY) {
            self.store.touch(domain, now);
            let _writer = self.row_writer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(mut row) = self.rows.get(domain) {
                if let Some(stored) = &mut row.policy {
                    Arc::make_mut(stored).last_used = now;
                }
                self.rows.insert(domain.clone(), row);
            }
        }
        applicable
    }

    /// The TXT side of discovery (RFC 8461 §3.1), at exactly this owner name (STS-01, STS-61).
    pub(super) async fn ask_txt(&self, domain: &Domain) -> (Txt, Option<DnsError>) {
        let Some(name) = domain.with_prefix("_mta-sts") else {
            return (Txt::Nothing(record::NoRecord::Missing), None);
        };
        match self.resolver.txt(&name).await {
            Err(e) => (Txt::Failed, Some(e)),
            Ok(answer) => {
                let records = match answer.data {
                    Data::Records(records) => records,
                    Data::NoData | Data::NxDomain => Vec::new(),
                };
                (record::policy_id(&records).map_or_else(Txt::Nothing, Txt::Id), None)
            }
        }
    }
}
