//! The outbound half, built from the configuration: resolver, policies, sessions. `check` builds the same.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rustls::RootCertStore;
use tokio_util::sync::CancellationToken;

use super::dnssec::SelfTesting;
use super::{settings, trust};
use crate::clock::Clock;
use crate::config::Config;
use crate::delivery::attempt::metrics::AttemptMetrics;
use crate::delivery::attempt::{Asking, AttemptSettings, Attempts, DnsRoutes, DnsTlsa, Parts};
use crate::delivery::pool::{Pool, PoolSettings};
use crate::delivery::starttls::Tls;
use crate::delivery::{AttemptReport, Ledger};
use crate::dns::Resolver;
use crate::dns::belief::{Belief, Believing};
use crate::dns::cache::alarm::Alarm;
use crate::dns::cache::metrics::DnsMetrics;
use crate::dns::cache::{CacheSettings, CachingResolver};
use crate::dns::hickory::HickoryResolver;
use crate::mail::Domain;
use crate::mtasts::PolicyStore;
use crate::mtasts::fetch::{FetchSettings, HttpsFetcher};
use crate::mtasts::service::metrics::PolicyMetrics;
use crate::mtasts::service::{PolicyService, ServiceSettings};
use crate::queue::manager::Deliverer;
use crate::queue::{Lease, QueueStore};
use crate::route::RouteSettings;
use crate::route::source::Source;
use crate::security::exception::Exceptions;
use crate::tlsrpt::SessionStore;
use crate::tlsrpt::https::{HttpsPoster, PosterSettings};

/// The resolver, and the self-test of what is believed of it about DNSSEC.
///
/// # Errors
/// One sentence, when there is no resolver to ask.
pub fn resolver(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: DnsMetrics,
) -> Result<(Arc<dyn Resolver>, SelfTesting), String> {
    let (settings, belief) = settings::dns(config);
    let asker = || HickoryResolver::new(settings.clone()).map_err(|e| format!("[dns]: {e}"));
    let belief = Arc::new(belief);
    let alarm = Arc::<Alarm>::default();
    let cache_settings = CacheSettings { metrics, alarm: Arc::clone(&alarm), ..CacheSettings::default() };
    let cache = CachingResolver::new(asker()?, cache_settings, Arc::clone(clock));
    let resolver = Arc::new(Believing::new(cache, Arc::clone(&belief)));
    let (names, answers) = (config.dns.self_test.clone(), Arc::clone(&resolver));
    Ok((resolver, SelfTesting { asker: asker()?, names, belief, answers, alarm }))
}

/// The policy service over `store`.
///
/// # Errors
/// One sentence, when the TLS or HTTP stack cannot be set up.
pub fn policies(
    config: &Config,
    resolver: &Arc<dyn Resolver>,
    roots: &Arc<RootCertStore>,
    store: Arc<dyn PolicyStore>,
    clock: &Arc<dyn Clock>,
    metrics: PolicyMetrics,
) -> Result<PolicyService, String> {
    let fetch = FetchSettings {
        port: config.mta_sts.port,
        timeout: config.mta_sts.fetch_timeout,
        max_size: usize::try_from(config.mta_sts.max_policy_size).unwrap_or(usize::MAX),
        deny: config.delivery.deny_networks.nets.clone(),
        roots: Arc::clone(roots),
    };
    let fetcher = HttpsFetcher::new(fetch, Arc::clone(resolver)).map_err(|e| e.to_string())?;
    let service = ServiceSettings {
        enabled: config.mta_sts.enabled,
        fetch_timeout: config.mta_sts.fetch_timeout,
        metrics,
        ..ServiceSettings::default()
    };
    Ok(PolicyService::new(service, Arc::clone(resolver), Arc::new(fetcher), store, Arc::clone(clock)))
}

/// What posts reports.
///
/// # Errors
/// One sentence, when the TLS or HTTP stack cannot be set up.
pub(super) fn poster(
    config: &Config,
    resolver: &Arc<dyn Resolver>,
    roots: &Arc<RootCertStore>,
    clock: &Arc<dyn Clock>,
) -> Result<HttpsPoster, String> {
    let settings = PosterSettings {
        deny: config.delivery.deny_networks.nets.clone(),
        roots: Arc::clone(roots),
        ..PosterSettings::default()
    };
    HttpsPoster::new(settings, Arc::clone(resolver), Arc::clone(clock)).map_err(|e| e.to_string())
}

/// What routing is told.
pub fn route_settings(config: &Config) -> RouteSettings {
    settings::route(config)
}

/// Whether senders are offered REQUIRETLS now.
pub fn offers_requiretls(config: &Config, belief: &Belief) -> bool {
    settings::requiretls(config, belief.proven()).is_believed()
}

/// What attempts are told.
pub fn attempt_settings(config: &Config, belief: &Belief) -> AttemptSettings {
    let route = settings::route(config);
    AttemptSettings {
        port: route.port,
        own_listeners: route.own_listeners,
        sources: config
            .delivery
            .source_addresses
            .iter()
            .map(|s| Source { address: s.address, ehlo: s.ehlo.clone() })
            .collect(),
        require_both: config.dane.require_both,
        asking: Asking {
            mta_sts: config.mta_sts.enabled,
            dane: config.dane.enabled,
            dnssec: belief.configured().then(|| belief.proven()),
        },
        ..AttemptSettings::new(config.hostname.clone())
    }
}

/// Who looks for TLSA records: nobody with `dane.enabled = false`. Where no answer is believed to be authenticated,
/// nobody is asked either (DANE-01, DANE-07).
pub fn tlsa(config: &Config, resolver: &Arc<dyn Resolver>, belief: &Belief) -> DnsTlsa {
    DnsTlsa::new(config.dane.enabled.then(|| Arc::clone(resolver)), belief.now())
}

/// The authorities of hosts: `[trust]`, and in its place the `roots` of rules that have some.
///
/// # Errors
/// One sentence, naming the file and what is wrong with it.
pub fn tls(config: &Config, roots: Arc<RootCertStore>) -> Result<Tls, String> {
    let own = (1..).zip(&config.destination).filter(|(_, d)| !d.roots.is_empty());
    let own = own.map(|(number, d)| {
        let roots = trust::load_files(&d.roots, &format!("destination[{number}].roots"))?;
        Ok((number, Arc::new(roots)))
    });
    Ok(Tls::new(roots).with_roots_of_rules(own.collect::<Result<Vec<_>, String>>()?))
}

/// The limits of the pool.
pub fn pool_settings(config: &Config) -> PoolSettings {
    let d = &config.delivery;
    PoolSettings {
        max_connections: d.max_connections,
        max_per_host: d.max_connections_per_host,
        max_messages: u32::try_from(d.max_messages_per_connection).unwrap_or(u32::MAX),
        ..PoolSettings::default()
    }
}

/// What the rest of an attempt works with.
pub struct Outbound {
    /// Asks the DNS.
    pub resolver: Arc<dyn Resolver>,
    /// Knows promises.
    pub policies: PolicyService,
    /// Lends sessions.
    pub pool: Arc<Pool>,
    /// Authorities of MX hosts.
    pub roots: Arc<RootCertStore>,
    /// Takes session records.
    pub records: Arc<dyn SessionStore>,
    /// Content that is not at hand.
    pub store: Arc<dyn QueueStore>,
    /// The operator's exceptions.
    pub exceptions: Arc<Exceptions>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is believed about DNSSEC.
    pub belief: Arc<Belief>,
    /// What is counted.
    pub metrics: AttemptMetrics,
}

impl Outbound {
    /// The maker of attempts.
    ///
    /// # Errors
    /// One sentence, when the TLS stack cannot be set up.
    pub fn attempts(self, config: &Config) -> Result<Attempts, String> {
        let parts = Parts {
            tlsa: Arc::new(tlsa(config, &self.resolver, &self.belief)),
            routes: Arc::new(DnsRoutes::new(self.resolver, route_settings(config))),
            policies: Arc::new(self.policies),
            pool: self.pool,
            tls: tls(config, self.roots)?,
            records: self.records,
            store: self.store,
            exceptions: self.exceptions,
            clock: self.clock,
        };
        let settings = AttemptSettings { metrics: self.metrics, ..attempt_settings(config, &self.belief) };
        Ok(Attempts::new(settings, parts))
    }
}

/// Attempts as the queue sees them.
pub(super) struct Courier {
    pub(super) attempts: Attempts,
    pub(super) pool: Arc<Pool>,
}

impl Deliverer for Courier {
    fn run<'a>(
        &'a self,
        lease: &'a Lease,
        ledger: &'a dyn Ledger,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, AttemptReport> {
        self.attempts.run(lease, ledger, cancel).boxed()
    }

    fn final_look<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, bool> {
        self.attempts.final_look(domain).boxed()
    }

    fn freed(&self) -> BoxFuture<'_, ()> {
        self.pool.freed().boxed()
    }
}
