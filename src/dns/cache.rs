//! [`CachingResolver`]: answers kept for their TTL within bounds (OUT-10), and questions asked once at a time.
//!
//! Errors are never kept: the next attempt asks anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::flight::Flights;
use super::{Answer, Data, DnsResult, Family, Mx, Resolver};
use crate::clock::Clock;
use crate::mail::Domain;

/// Bounds of the cache.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// The shortest life of an answer, denials included: 30 s.
    pub floor: Duration,
    /// The longest life of data: 1 day.
    pub cap: Duration,
    /// The longest life of a denial: 5 min.
    pub denial_cap: Duration,
    /// Answers kept of each record type: 20000.
    pub entries: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            floor: Duration::from_secs(30),
            cap: Duration::from_secs(24 * 3600),
            denial_cap: Duration::from_secs(300),
            entries: 20_000,
        }
    }
}

/// A cache in front of `R`.
pub struct CachingResolver<R> {
    inner: Arc<R>,
    settings: CacheSettings,
    clock: Arc<dyn Clock>,
    mx: Shelf<Mx>,
    v4: Shelf<IpAddr>,
    v6: Shelf<IpAddr>,
    txt: Shelf<Vec<u8>>,
}

impl<R: Resolver + 'static> CachingResolver<R> {
    /// A cache that reads the monotonic side of `clock`.
    pub fn new(inner: R, settings: CacheSettings, clock: Arc<dyn Clock>) -> Self {
        let entries = settings.entries;
        Self {
            inner: Arc::new(inner),
            settings,
            clock,
            mx: Shelf::new(entries),
            v4: Shelf::new(entries),
            v6: Shelf::new(entries),
            txt: Shelf::new(entries),
        }
    }

    /// The resolver behind the cache.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    async fn answer<T: Clone + Send + Sync + 'static>(
        &self,
        shelf: &Shelf<T>,
        name: &Domain,
        ask: impl FnOnce(Arc<R>, Domain) -> BoxFuture<'static, DnsResult<T>>,
    ) -> DnsResult<T> {
        if let Some(answer) = shelf.get(name, self.clock.monotonic()) {
            return Ok(answer);
        }
        let mut answer = shelf.flights.join(name, || ask(Arc::clone(&self.inner), name.clone())).await?;
        let most = match answer.data {
            Data::Records(_) => self.settings.cap,
            Data::NoData | Data::NxDomain => self.settings.denial_cap,
        };
        answer.ttl = answer.ttl.max(self.settings.floor).min(most);
        shelf.put(name, &answer, self.clock.monotonic());
        Ok(answer)
    }
}

impl<R: Resolver + 'static> Resolver for CachingResolver<R> {
    fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Mx>> {
        self.answer(&self.mx, name, |inner, name| async move { inner.mx(&name).await }.boxed()).boxed()
    }

    fn addresses<'a>(&'a self, name: &'a Domain, family: Family) -> BoxFuture<'a, DnsResult<IpAddr>> {
        let shelf = if family == Family::V4 { &self.v4 } else { &self.v6 };
        self.answer(shelf, name, move |inner, name| {
            async move { inner.addresses(&name, family).await }.boxed()
        })
        .boxed()
    }

    fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Vec<u8>>> {
        self.answer(&self.txt, name, |inner, name| async move { inner.txt(&name).await }.boxed()).boxed()
    }

    fn forget(&self, name: &Domain) {
        self.mx.forget(name);
        self.v4.forget(name);
        self.v6.forget(name);
        self.txt.forget(name);
        self.inner.forget(name);
    }
}

/// The answers of one record type, each with the monotonic moment of its end.
struct Shelf<T: Clone + Send + Sync + 'static> {
    kept: moka::sync::Cache<Domain, (Answer<T>, Duration)>,
    flights: Flights<Domain, DnsResult<T>>,
}

impl<T: Clone + Send + Sync + 'static> Shelf<T> {
    fn new(entries: u64) -> Self {
        Self { kept: moka::sync::Cache::new(entries), flights: Flights::new() }
    }

    /// The answer, with the TTL that is left.
    fn get(&self, name: &Domain, now: Duration) -> Option<Answer<T>> {
        let (mut answer, ends) = self.kept.get(name)?;
        answer.ttl = ends.checked_sub(now).filter(|left| !left.is_zero())?;
        Some(answer)
    }

    fn put(&self, name: &Domain, answer: &Answer<T>, now: Duration) {
        self.kept.insert(name.clone(), (answer.clone(), now.saturating_add(answer.ttl)));
    }

    fn forget(&self, top: &Domain) {
        for (name, _) in &self.kept {
            if name.is_at_or_below(top) {
                self.kept.invalidate(&*name);
            }
        }
    }
}
