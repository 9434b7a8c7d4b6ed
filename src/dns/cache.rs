//! [`CachingResolver`]: answers kept for their TTL within bounds (OUT-10), and questions asked once at a time.
//!
//! Errors are never kept: the next attempt asks anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::flight::Flights;
use super::{Answer, Data, DnsResult, Family, Mx, Resolver};
use crate::clock::Clock;
use crate::dane::Tlsa;
use crate::mail::Domain;

pub mod alarm;
pub mod metrics;

use alarm::Alarm;
use metrics::{DnsMetrics, RecordType};

/// Bounds of the cache.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// The shortest life of an answer, denials included: 30 s. What DNSSEC vouches for, and TLSA records, live as long
    /// as their TTL says and no longer (DANE-39).
    pub floor: Duration,
    /// The longest life of data: 1 day.
    pub cap: Duration,
    /// The longest life of a denial: 5 min.
    pub denial_cap: Duration,
    /// Room for the answers of each record type, in bytes: 16 MiB.
    pub size: u64,
    /// What is counted.
    pub metrics: DnsMetrics,
    /// Who hears of lookups that fail.
    pub alarm: Arc<Alarm>,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            floor: Duration::from_secs(30),
            cap: Duration::from_secs(24 * 3600),
            denial_cap: Duration::from_secs(300),
            size: 16 << 20,
            metrics: DnsMetrics::default(),
            alarm: Arc::default(),
        }
    }
}

/// A cache in front of `R`.
pub struct CachingResolver<R> {
    inner: Arc<R>,
    settings: CacheSettings,
    clock: Arc<dyn Clock>,
    /// How often it was cleared. What was asked before a clearing is neither kept after it nor shared with who asks after it.
    cleared: AtomicU64,
    mx: Shelf<Mx>,
    v4: Shelf<IpAddr>,
    v6: Shelf<IpAddr>,
    txt: Shelf<Vec<u8>>,
    tlsa: Shelf<Tlsa>,
    cname: Shelf<Domain>,
    ptr: Shelf<Domain>,
}

impl<R: Resolver + 'static> CachingResolver<R> {
    /// A cache that reads the monotonic side of `clock`.
    pub fn new(inner: R, settings: CacheSettings, clock: Arc<dyn Clock>) -> Self {
        let size = settings.size;
        Self {
            inner: Arc::new(inner),
            settings,
            clock,
            cleared: AtomicU64::new(0),
            mx: Shelf::new(RecordType::Mx, size, |_| 300),
            v4: Shelf::new(RecordType::A, size, |_| 20),
            v6: Shelf::new(RecordType::Aaaa, size, |_| 20),
            txt: Shelf::new(RecordType::Txt, size, |text| 32 + text.len()),
            tlsa: Shelf::new(RecordType::Tlsa, size, |record: &Tlsa| 32 + record.data.len()).exact(),
            cname: Shelf::new(RecordType::Cname, size, |_| 300),
            ptr: Shelf::new(RecordType::Ptr, size, |_| 300),
        }
    }

    /// The resolver behind the cache.
    pub fn inner(&self) -> &R {
        &self.inner
    }

    /// Drops everything: what was kept was learnt under another belief about DNSSEC.
    pub fn clear(&self) {
        self.cleared.fetch_add(1, Ordering::AcqRel);
        self.mx.kept.invalidate_all();
        self.v4.kept.invalidate_all();
        self.v6.kept.invalidate_all();
        self.txt.kept.invalidate_all();
        self.tlsa.kept.invalidate_all();
        self.cname.kept.invalidate_all();
        self.ptr.kept.invalidate_all();
    }

    /// How many answers of each type are kept, about.
    pub fn entries(&self) -> [(RecordType, u64); 7] {
        [
            self.mx.entries(),
            self.v4.entries(),
            self.v6.entries(),
            self.txt.entries(),
            self.tlsa.entries(),
            self.cname.entries(),
            self.ptr.entries(),
        ]
    }

    async fn answer<T: Clone + Send + Sync + 'static>(
        &self,
        shelf: &Shelf<T>,
        name: &Domain,
        ask: impl FnOnce(Arc<R>, Domain) -> BoxFuture<'static, DnsResult<T>>,
    ) -> DnsResult<T> {
        if let Some(answer) = shelf.get(name, self.clock.monotonic()) {
            self.settings.metrics.hits.count(());
            return Ok(answer);
        }
        let cleared = self.cleared.load(Ordering::Acquire);
        let start = || {
            let (asked, record) = (ask(Arc::clone(&self.inner), name.clone()), shelf.record);
            let (metrics, clock) = (self.settings.metrics.clone(), Arc::clone(&self.clock));
            let alarm = Arc::clone(&self.settings.alarm);
            async move {
                let begun = clock.monotonic();
                let result = asked.await;
                metrics.asked(record, &result, clock.monotonic().saturating_sub(begun));
                alarm.heard(result.is_ok());
                result
            }
            .boxed()
        };
        let mut answer = shelf.flights.join(&(name.clone(), cleared), start).await?;
        let most = match answer.data {
            Data::Records(_) => self.settings.cap,
            Data::NoData | Data::NxDomain => self.settings.denial_cap,
        };
        let floor = if shelf.exact || answer.secure { Duration::ZERO } else { self.settings.floor };
        answer.ttl = answer.ttl.max(floor).min(most);
        if cleared == self.cleared.load(Ordering::Acquire) {
            shelf.put(name, &answer, self.clock.monotonic());
        }
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

    fn tlsa<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Tlsa>> {
        self.answer(&self.tlsa, name, |inner, name| async move { inner.tlsa(&name).await }.boxed()).boxed()
    }

    fn cname<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        self.answer(&self.cname, name, |inner, name| async move { inner.cname(&name).await }.boxed()).boxed()
    }

    fn ptr<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
        self.answer(&self.ptr, name, |inner, name| async move { inner.ptr(&name).await }.boxed()).boxed()
    }

    fn forget(&self, name: &Domain) {
        self.mx.forget(name);
        self.v4.forget(name);
        self.v6.forget(name);
        self.txt.forget(name);
        self.tlsa.forget(name);
        self.cname.forget(name);
        self.ptr.forget(name);
        self.inner.forget(name);
    }
}

/// The answers of one record type, each with the monotonic moment of its end.
struct Shelf<T: Clone + Send + Sync + 'static> {
    record: RecordType,
    /// Kept no longer than the TTL says, however short that is (DANE-39).
    exact: bool,
    kept: moka::sync::Cache<Domain, (Answer<T>, Duration)>,
    flights: Flights<(Domain, u64), DnsResult<T>>,
}

impl<T: Clone + Send + Sync + 'static> Shelf<T> {
    /// Room for `size` bytes; `weigh` says about how many a record takes.
    fn new(record: RecordType, size: u64, weigh: fn(&T) -> usize) -> Self {
        let weigher = move |_: &Domain, (answer, _): &(Answer<T>, Duration)| {
            let records = match &answer.data {
                Data::Records(records) => records.iter().map(weigh).sum(),
                Data::NoData | Data::NxDomain => 0,
            };
            u32::try_from(ENTRY + records).unwrap_or(u32::MAX)
        };
        let kept = moka::sync::Cache::builder().max_capacity(size).weigher(weigher).build();
        Self { record, exact: false, kept, flights: Flights::new() }
    }

    fn entries(&self) -> (RecordType, u64) {
        (self.record, self.kept.entry_count())
    }

    fn exact(self) -> Self {
        Self { exact: true, ..self }
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

/// About the bytes of a name and its place in the cache.
const ENTRY: usize = 400;

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};
    use crate::dns::zone::ZoneResolver;

    fn cache(zone: &str) -> (CachingResolver<ZoneResolver>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let zone = ZoneResolver::new(zone).unwrap();
        (CachingResolver::new(zone, CacheSettings::default(), Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    fn name(text: &str) -> Domain {
        Domain::parse_host(text).unwrap()
    }

    // OUT-10, DANE-39
    #[tokio::test]
    async fn answers_live_for_their_ttl_within_bounds() {
        let (dns, clock) = cache(
            "short.example 1 A 192.0.2.1\n usual.example 60 A 192.0.2.2\n long.example 900000 A 192.0.2.3\n\
             denied.example 900000 TXT x",
        );
        for (host, life) in [("short", 30), ("usual", 60), ("long", 86400), ("denied", 300), ("none", 300)] {
            let host = name(&format!("{host}.example"));
            let asked = || dns.inner().queries().len();
            let before = asked();
            let first = dns.addresses(&host, Family::V4).await.unwrap();
            assert_eq!(first.ttl.as_secs(), life, "{host}");
            clock.advance(Duration::from_secs(life - 1));
            let second = dns.addresses(&host, Family::V4).await.unwrap();
            assert_eq!((second.ttl.as_secs(), asked() - before), (1, 1), "{host}: from the cache");
            clock.advance(Duration::from_secs(1));
            dns.addresses(&host, Family::V4).await.unwrap();
            assert_eq!(asked() - before, 2, "{host}: asked anew");
        }
    }

    // DANE-39: a roll of keys is over when the TTL is.
    #[tokio::test]
    async fn what_is_authenticated_lives_no_longer_than_its_ttl() {
        let (dns, clock) = cache(
            "secure s.example\ns.example 2 MX 10 mx.s.example\n_25._tcp.mx.s.example 2 TLSA 3 1 1 aa\n\
             _25._tcp.mx.u.example 2 TLSA 3 1 1 aa\nu.example 2 MX 10 mx.u.example",
        );
        for (name_, tlsa, life) in [
            ("s.example", false, 2),
            ("_25._tcp.mx.s.example", true, 2),
            ("_25._tcp.mx.u.example", true, 2),
            ("u.example", false, 30),
        ] {
            let (at, asked) = (name(name_), || dns.inner().queries().len());
            let before = asked();
            let ask = async || match tlsa {
                true => dns.tlsa(&at).await.unwrap().ttl,
                false => dns.mx(&at).await.unwrap().ttl,
            };
            assert_eq!(ask().await.as_secs(), life, "{name_}");
            clock.advance(Duration::from_secs(life - 1));
            ask().await;
            assert_eq!(asked() - before, 1, "{name_}");
            clock.advance(Duration::from_secs(1));
            ask().await;
            assert_eq!(asked() - before, 2, "{name_}: asked anew");
        }
    }

    #[tokio::test]
    async fn errors_are_asked_anew_and_types_do_not_mix() {
        let (dns, _clock) = cache("d.example MX SERVFAIL\n d.example A 192.0.2.1");
        let d = name("d.example");
        assert!(dns.mx(&d).await.is_err());
        dns.inner().replace("d.example MX 10 a.example").unwrap();
        assert!(matches!(dns.mx(&d).await.unwrap().data, Data::Records(_)));
        assert_eq!(dns.addresses(&d, Family::V6).await.unwrap().data, Data::NoData);
        assert_eq!(dns.addresses(&d, Family::V4).await.unwrap().data, Data::NoData);
    }

    // DANE-02: what the cache answers says nothing about the resolver, and one answer from it ends the row.
    #[tokio::test]
    async fn the_third_failure_in_a_row_rings() {
        let (dns, _clock) = cache("dead.example MX SERVFAIL\nsound.example 900 MX 10 mx.sound.example");
        let (dead, sound) = (name("dead.example"), name("sound.example"));
        for (asked, rings) in [
            (&["sound", "dead", "dead"][..], false),
            (&["none", "dead", "dead"], false),
            (&["sound", "dead"], true),
            (&["dead", "dead"], false),
            (&["dead"], true),
            (&["sound"], false),
        ] {
            for which in asked {
                let at = match *which {
                    "dead" => &dead,
                    "sound" => &sound,
                    _ => &name("none.example"),
                };
                let _ = dns.mx(at).await;
            }
            let rung = dns.settings.alarm.rings().now_or_never().is_some();
            assert_eq!(rung, rings, "{asked:?}");
        }
    }

    #[tokio::test]
    async fn questions_are_counted_by_type_result_and_dnssec_and_answers_from_the_cache_apart() {
        let counted = crate::observe::prometheus::Prometheus::new().unwrap();
        let zone = "secure s.example\ns.example MX 10 mx.s.example\nu.example MX 10 mx.u.example\nf.example MX SERVFAIL";
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let settings =
            CacheSettings { metrics: DnsMetrics::new(&counted.registry()), ..CacheSettings::default() };
        let dns = CachingResolver::new(ZoneResolver::new(zone).unwrap(), settings, clock);
        for name_ in ["s.example", "u.example", "f.example", "none.example", "s.example"] {
            let _ = dns.mx(&name(name_)).await;
        }
        assert_eq!(dns.addresses(&name("u.example"), Family::V6).await.unwrap().data, Data::NoData);
        for (labels, want) in [
            ("record=\"MX\",result=\"data\",dnssec=\"secure\"", 1.0),
            ("record=\"MX\",result=\"data\",dnssec=\"insecure\"", 1.0),
            ("record=\"MX\",result=\"servfail\",dnssec=\"none\"", 1.0),
            ("record=\"MX\",result=\"nxdomain\",dnssec=\"insecure\"", 1.0),
            ("record=\"AAAA\",result=\"nodata\",dnssec=\"insecure\"", 1.0),
            ("record=\"TXT\",result=\"data\",dnssec=\"insecure\"", 0.0),
        ] {
            assert_eq!(counted.value(&format!("sealpost_dns_lookups_total{{{labels}}}")), want, "{labels}");
        }
        assert_eq!(counted.value("sealpost_dns_cache_hits_total"), 1.0);
        assert_eq!(counted.value("sealpost_dns_lookup_duration_seconds_count"), 5.0);
    }

    /// A zone that answers MX questions when it is told to.
    struct Slow {
        zone: ZoneResolver,
        told: tokio::sync::Semaphore,
        asked: AtomicUsize,
    }

    impl Resolver for Slow {
        fn mx<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Mx>> {
            async {
                self.asked.fetch_add(1, Ordering::SeqCst);
                self.told.acquire().await.unwrap().forget();
                self.zone.mx(name).await
            }
            .boxed()
        }
        fn addresses<'a>(&'a self, name: &'a Domain, family: Family) -> BoxFuture<'a, DnsResult<IpAddr>> {
            self.zone.addresses(name, family)
        }
        fn txt<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Vec<u8>>> {
            self.zone.txt(name)
        }
        fn tlsa<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Tlsa>> {
            self.zone.tlsa(name)
        }
        fn cname<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
            self.zone.cname(name)
        }
        fn ptr<'a>(&'a self, name: &'a Domain) -> BoxFuture<'a, DnsResult<Domain>> {
            self.zone.ptr(name)
        }
        fn forget(&self, name: &Domain) {
            self.zone.forget(name);
        }
    }

    // RTLS-29, DANE-02: what was asked under another belief is not kept past the clearing.
    #[tokio::test]
    async fn what_was_under_way_when_the_cache_was_cleared_is_not_kept() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(0)));
        let zone = ZoneResolver::new("d.example MX 10 mx.d.example").unwrap();
        let slow = Slow { zone, told: tokio::sync::Semaphore::new(0), asked: AtomicUsize::new(0) };
        let cache = Arc::new(CachingResolver::new(slow, CacheSettings::default(), clock));
        let asking = tokio::spawn({
            let cache = Arc::clone(&cache);
            async move { cache.mx(&name("d.example")).await }
        });
        while cache.inner().asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        cache.clear();
        cache.inner().told.add_permits(2);
        asking.await.unwrap().unwrap();
        cache.mx(&name("d.example")).await.unwrap();
        assert_eq!(cache.inner().asked.load(Ordering::SeqCst), 2, "asked anew");
    }

    #[tokio::test]
    async fn a_cleared_cache_asks_anew() {
        let (cache, _) = cache("secure d.example\n d.example MX 10 mx.d.example");
        for _ in 0..2 {
            cache.mx(&name("d.example")).await.unwrap();
        }
        cache.clear();
        cache.mx(&name("d.example")).await.unwrap();
        assert_eq!(cache.inner().queries(), ["MX d.example", "MX d.example"]);
    }

    #[tokio::test]
    async fn forgetting_a_name_forgets_what_lies_below_it_and_no_more() {
        let (dns, _clock) = cache("x TXT x");
        for host in ["d.example", "_mta-sts.d.example", "xd.example"] {
            dns.txt(&name(host)).await.unwrap();
        }
        dns.forget(&name("d.example"));
        dns.inner().clear_queries();
        for host in ["d.example", "_mta-sts.d.example", "xd.example"] {
            dns.txt(&name(host)).await.unwrap();
        }
        assert_eq!(dns.inner().queries(), ["TXT d.example", "TXT _mta-sts.d.example"]);
    }
}
