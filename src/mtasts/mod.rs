//! MTA-STS (RFC 8461): discovery, policy, cache and what follows from them.
//!
//! Pure: [`record`], [`policy`], [`mx_match`], [`decide`]. Adapter: [`fetch`]. Orchestration: [`service`].
//! An unexpired policy is never replaced by anything but a newer policy fetched over verified HTTPS
//! (`What always holds` 4).

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::mail::Domain;
use crate::tlsrpt::ResultType;

pub mod decide;
pub mod fetch;
pub mod mx_match;
pub mod policy;
pub mod record;
pub mod service;

pub use policy::{Mode, Policy, PolicyError};

/// A policy with the facts of its fetch. Raw text and parsed form are made together and stay together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPolicy {
    /// The policy domain.
    pub domain: Domain,
    /// The id of the TXT record that led to the fetch (RFC 8461 §3.1). Compared for equality, nothing else.
    pub id: String,
    /// The policy, with its raw text.
    pub policy: Policy,
    /// The last successful fetch over HTTPS.
    pub fetched: Timestamp,
    /// `fetched` plus the clamped max_age; nothing else moves it (STS-45, STS-46).
    pub expires: Timestamp,
    /// The last delivery attempt that used it (STS-56).
    pub last_used: Timestamp,
}

/// The durable half of what is known about a domain besides its policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainMemory {
    /// When the first failed discovery started the grace of STS-14.
    pub grace_started: Option<Timestamp>,
    /// The fetch back-off of STS-25.
    pub backoff: Option<Backoff>,
    /// When an enforce failure last caused the unconditional refetch of STS-55.
    pub last_refetch: Option<Timestamp>,
    /// Since when refreshes of the stored policy have been failing (STS-50).
    pub refresh_failing_since: Option<Timestamp>,
    /// When the last refresh was tried.
    pub refresh_tried: Option<Timestamp>,
}

/// No further GET for this id before `until` (STS-25).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// The TXT id whose fetch failed.
    pub id: String,
    /// When the next GET is allowed.
    pub until: Timestamp,
    /// The wait that led to `until`; the next one doubles it, up to an hour.
    pub step: Duration,
    /// What the failed fetch ran into, so that later sessions report it (RPT-26).
    pub failure: FetchFailure,
}

/// One change in the life of a domain's policy, for `policy show`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyChange {
    /// When.
    pub at: Timestamp,
    /// What, in words: `first policy: enforce, id 20260101`, `enforce -> none, id …`.
    pub what: String,
}

/// The policy cache as rows (STS-48).
pub trait PolicyStore: Send + Sync {
    /// The stored policy of `domain`, expired or not, and the memory beside it.
    fn load<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<PolicyRow, StoreFailed>>;
    /// Writes a freshly fetched policy over whatever was there, with a line of history when it differs.
    fn save(&self, policy: StoredPolicy, change: Option<String>) -> BoxFuture<'_, Result<(), StoreFailed>>;
    /// Writes the memory of `domain`.
    fn remember(&self, domain: Domain, memory: DomainMemory) -> BoxFuture<'_, Result<(), StoreFailed>>;
    /// Notes that a delivery used the policy. May be coalesced; nobody waits for it.
    fn touch(&self, domain: &Domain, at: Timestamp);
    /// Up to `limit` policies whose last fetch lies before `fetched_before` and whose last refresh attempt
    /// lies before `tried_before`, oldest fetch first.
    fn due_for_refresh(
        &self,
        fetched_before: Timestamp,
        tried_before: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>>;
    /// Deletes policies whose expiry and last use both lie before `before` (30 days ago, STS-56), a slice at a time.
    fn purge(&self, before: Timestamp) -> BoxFuture<'_, Result<usize, StoreFailed>>;
    /// Domains whose refreshes fail, and since when.
    fn failing(&self) -> BoxFuture<'_, Result<Vec<(Domain, Timestamp)>, StoreFailed>>;

    /// All stored policies by name, at most `limit`, starting after `after`.
    fn list(
        &self,
        after: Option<Domain>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredPolicy>, StoreFailed>>;
    /// The history of a domain's policy, oldest first, at most 100 lines.
    fn history<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<PolicyChange>, StoreFailed>>;
}

/// What [`PolicyStore::load`] finds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyRow {
    /// The policy, if one was ever fetched and is not purged.
    pub policy: Option<StoredPolicy>,
    /// The memory; empty for a domain never met.
    pub memory: DomainMemory,
}

/// The store could not answer. The text is for the log.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the policy store failed: {0}")]
pub struct StoreFailed(pub String);

/// One HTTPS GET for a policy (RFC 8461 §3.3).
pub trait PolicyFetcher: Send + Sync {
    /// Fetches `https://mta-sts.<domain>/.well-known/mta-sts.txt` and gives the raw body of a 200 `text/plain`
    /// answer. Everything else is a [`FetchFailure`]. Ends within the configured time limit.
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<u8>, FetchFailure>>;
}

/// A policy that could not be had, as it is reported (RPT §1.2.4) and shown.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FetchFailure {
    /// `sts-policy-fetch-error`, `sts-policy-invalid` or `sts-webpki-invalid`.
    pub result: ResultType,
    /// Short stable token: `dns`, `connect`, `timeout`, `http-404`, `redirect`, `media-type`, `too-large`, `txt-missing`…
    pub reason: String,
    /// The whole story, for log and `check`.
    pub detail: String,
    /// The raw lines of a body that was fetched and is no policy (RPT §1.2.4, `sts-policy-invalid`).
    pub lines: Vec<String>,
}

impl FetchFailure {
    /// An `sts-policy-fetch-error`: anything but a bad certificate or a bad file.
    pub fn fetch_error(reason: &str, detail: &str) -> Self {
        Self {
            result: ResultType::StsPolicyFetchError,
            reason: reason.to_owned(),
            detail: detail.to_owned(),
            lines: Vec::new(),
        }
    }
}

/// What discovery says about a domain at this attempt ([`service`]).
#[derive(Debug, Clone)]
pub enum Discovery {
    /// Go on with what is known.
    Known(Applicable),
    /// The TXT lookup failed, nothing is cached, and the domain's grace runs: wait, 4.4.3 (STS-14).
    Wait(crate::dns::DnsError),
}

/// The policy to apply, and what went wrong on the way to it.
#[derive(Debug, Clone, Default)]
pub struct Applicable {
    /// The unexpired policy of any mode, live or cached; the verdict does not depend on which.
    pub policy: Option<std::sync::Arc<StoredPolicy>>,
    /// A live lookup or fetch failed now: reported beside a cached policy, or instead of one (RPT-26).
    pub fetch_failure: Option<FetchFailure>,
    /// Another policy may be in force, and could not be had now; whether it is reported or not (RTLS-29).
    pub outdated: bool,
    /// The TXT lookup failed, nothing is cached, and the domain's grace is over: mail goes on without a policy, but for
    /// REQUIRETLS mail (R2).
    pub lookup_failed: Option<crate::dns::DnsError>,
}
