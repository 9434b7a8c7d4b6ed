//! The one kind of HTTPS client that the relay has, for hosts whose names strangers choose: policy hosts
//! (RFC 8461 §3.3) and the receivers of reports (RFC 8460 §5.4).
//!
//! No redirects, proxies, cookies, HTTP caching, content coding or connection reuse. Addresses come from our
//! resolver and denied ones are never dialled (STS-30, RPT-91); because the address that was judged is the one
//! that is dialled, DNS rebinding gains nothing. The HTTP stack bounds an answer's header by itself (400 KiB);
//! [`body`] bounds the rest.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join;
use ipnet::IpNet;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Client, Response, redirect, retry};
use rustls::client::Resumption;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::dns::{Data, DnsError, Family, Resolver};
use crate::mail::Domain;
use crate::route::mx::denied;

#[cfg(test)]
pub(crate) mod double;

/// What a client is told.
#[derive(Debug, Clone)]
pub struct HttpsSettings {
    /// The end of an exchange, from the DNS question to the last octet: 60 s.
    pub timeout: Duration,
    /// `delivery.deny_networks`, expanded. `allow_networks` does not count here (STS-30).
    pub deny: Vec<IpNet>,
    /// The authorities that hosts are judged by.
    pub roots: Arc<RootCertStore>,
}

impl Default for HttpsSettings {
    /// The limit of the specifications, with nothing denied and no authority trusted.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), deny: Vec::new(), roots: Arc::new(RootCertStore::empty()) }
    }
}

/// The TLS or HTTP stack refused its settings; the text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("the HTTPS client cannot be set up: {0}")]
pub struct SetupFailed(String);

/// A client that finds hosts through `resolver` and sends `headers` with every request.
///
/// # Errors
/// [`SetupFailed`], which no setting of an operator causes.
pub fn client(
    settings: HttpsSettings,
    mut headers: HeaderMap,
    resolver: Arc<dyn Resolver>,
) -> Result<Client, SetupFailed> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| SetupFailed(e.to_string()))?
        .with_root_certificates(settings.roots)
        .with_no_client_auth();
    tls.resumption = Resumption::disabled();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(0)
        .user_agent(concat!("sealpost/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .timeout(settings.timeout)
        .dns_resolver(Arc::new(GuardedResolver { resolver, deny: settings.deny }))
        .build()
        .map_err(|e| SetupFailed(e.to_string()))
}

/// Why a body was not read to its end.
#[derive(Debug)]
pub enum BodyFault {
    /// It is longer than allowed, by its own account or in fact.
    TooLarge,
    /// The exchange broke or took too long.
    Broken(reqwest::Error),
}

/// Reads a body of at most `most` octets.
///
/// # Errors
/// [`BodyFault`].
pub async fn body(mut response: Response, most: usize) -> Result<Vec<u8>, BodyFault> {
    let announced = response.content_length().unwrap_or(0);
    if announced > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(BodyFault::TooLarge);
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyFault::Broken)? {
        if body.len() + chunk.len() > most {
            return Err(BodyFault::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Resolves for reqwest through our own resolver and keeps denied addresses back.
struct GuardedResolver {
    resolver: Arc<dyn Resolver>,
    deny: Vec<IpNet>,
}

impl reqwest::dns::Resolve for GuardedResolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        let (resolver, deny) = (Arc::clone(&self.resolver), self.deny.clone());
        async move {
            let host = Domain::parse_host(name.as_str())?;
            let addresses = guarded_addresses(&*resolver, &deny, &host).await?;
            // Port 0: the port of the URL is dialled.
            let addresses: reqwest::dns::Addrs =
                Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        }
        .boxed()
    }
}

async fn guarded_addresses(
    resolver: &dyn Resolver,
    deny: &[IpNet],
    host: &Domain,
) -> Result<Vec<IpAddr>, NotDialled> {
    let (v6, v4) = join(resolver.addresses(host, Family::V6), resolver.addresses(host, Family::V4)).await;
    let (mut found, mut failed) = (Vec::new(), None);
    for answer in [v6, v4] {
        match answer.map(|a| a.data) {
            Ok(Data::Records(addresses)) => found.extend(addresses.into_iter().take(MOST_PER_FAMILY)),
            Ok(Data::NoData | Data::NxDomain) => {}
            Err(e) => failed = Some(e),
        }
    }
    let (refused, good): (Vec<IpAddr>, Vec<IpAddr>) =
        found.into_iter().partition(|ip| denied(*ip, deny, &[]).is_some());
    match (good.is_empty(), failed, refused.first()) {
        (false, _, _) => Ok(good),
        (true, Some(e), _) => Err(NotDialled::Lookup(e)),
        (true, None, Some(ip)) => Err(NotDialled::Forbidden(*ip)),
        (true, None, None) => Err(NotDialled::NoAddress),
    }
}

/// Why a host is not dialled.
#[derive(Debug, thiserror::Error)]
pub enum NotDialled {
    /// No family has an address to dial, and a lookup failed.
    #[error(transparent)]
    Lookup(DnsError),
    /// The DNS says so.
    #[error("the host has no address")]
    NoAddress,
    /// All its addresses are denied; this is one of them.
    #[error("the host's address {0} lies in deny_networks")]
    Forbidden(IpAddr),
}

/// What an exchange without an answer ran into.
#[derive(Debug)]
pub enum Fault<'a> {
    /// Nothing was dialled.
    NotDialled(&'a NotDialled),
    /// The host's certificate does not hold.
    Certificate(&'a CertificateError),
    /// TLS failed for another reason.
    Tls,
    /// The limit of [`HttpsSettings::timeout`].
    Timeout,
    /// No connection.
    Connect,
    /// Anything else: no HTTP, or broken off.
    Http,
}

impl<'a> Fault<'a> {
    /// Sorts an error of the HTTP stack by kind, never by its text.
    pub fn of(e: &'a reqwest::Error) -> Self {
        if let Some(why) = find::<NotDialled>(e) {
            return Self::NotDialled(why);
        }
        match find::<rustls::Error>(e) {
            Some(rustls::Error::InvalidCertificate(cause)) => Self::Certificate(cause),
            Some(_) => Self::Tls,
            None if e.is_timeout() => Self::Timeout,
            None if e.is_connect() => Self::Connect,
            None => Self::Http,
        }
    }
}

/// The first `T` among an error and its causes. An `io::Error` hides what it carries from `source()`.
fn find<'a, T: Error + 'static>(e: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = e.downcast_ref() {
        return Some(found);
    }
    let carried = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    carried.and_then(|inner| find(inner)).or_else(|| e.source().and_then(find))
}

/// An error with all its causes, as one line.
pub fn chain(e: &dyn Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

const MOST_PER_FAMILY: usize = 8;
