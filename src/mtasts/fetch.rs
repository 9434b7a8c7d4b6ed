//! [`HttpsFetcher`]: one GET of a policy file, and nothing that the policy host can bend (RFC 8461 §3.3).
//!
//! No redirects, proxies, cookies, HTTP caching, content coding or connection reuse. The host name is chosen
//! by strangers, so its addresses come from our resolver and denied ones are never dialled (STS-30); because
//! the address that was judged is the one that is dialled, DNS rebinding gains nothing.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join};
use ipnet::IpNet;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, redirect, retry};
use rustls::client::Resumption;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use super::{FetchFailure, PolicyFetcher};
use crate::dns::{Data, DnsError, Family, Resolver};
use crate::mail::Domain;
use crate::route::mx::denied;
use crate::tlsrpt::ResultType;

/// What the fetcher is told.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// Where policy hosts listen: 443.
    pub port: u16,
    /// The end of a fetch, from the DNS question to the last octet: 60 s.
    pub timeout: Duration,
    /// The largest policy file: 65536 octets.
    pub max_size: usize,
    /// `delivery.deny_networks`, expanded. `allow_networks` does not count here (STS-30).
    pub deny: Vec<IpNet>,
    /// The authorities that policy hosts are judged by.
    pub roots: Arc<RootCertStore>,
}

impl Default for FetchSettings {
    /// The values of the specification, with nothing denied and no authority trusted.
    fn default() -> Self {
        Self {
            port: 443,
            timeout: Duration::from_secs(60),
            max_size: 64 << 10,
            deny: Vec::new(),
            roots: Arc::new(RootCertStore::empty()),
        }
    }
}

/// The TLS or HTTP stack refused its settings; the text is for the log.
#[derive(Debug, thiserror::Error)]
#[error("the HTTPS client for policies cannot be set up: {0}")]
pub struct FetcherSetupFailed(String);

/// The adapter behind [`PolicyFetcher`].
pub struct HttpsFetcher {
    client: Client,
    port: u16,
    max_size: usize,
}

impl HttpsFetcher {
    /// A fetcher that finds policy hosts through `resolver`.
    ///
    /// # Errors
    /// [`FetcherSetupFailed`], which no setting of an operator causes.
    pub fn new(settings: FetchSettings, resolver: Arc<dyn Resolver>) -> Result<Self, FetcherSetupFailed> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| FetcherSetupFailed(e.to_string()))?
            .with_root_certificates(settings.roots)
            .with_no_client_auth();
        tls.resumption = Resumption::disabled();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = Client::builder()
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
            .map_err(|e| FetcherSetupFailed(e.to_string()))?;
        Ok(Self { client, port: settings.port, max_size: settings.max_size })
    }

    async fn get(&self, domain: &Domain) -> Result<Vec<u8>, FetchFailure> {
        let host = domain
            .with_prefix("mta-sts")
            .ok_or_else(|| FetchFailure::fetch_error("dns", "the host name is too long"))?;
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let url = format!("https://{host}{port}/.well-known/mta-sts.txt");
        let response = self.client.get(url).send().await.map_err(|e| classify(&e))?;
        check_head(&response)?;
        self.read_body(response).await
    }

    async fn read_body(&self, mut response: Response) -> Result<Vec<u8>, FetchFailure> {
        let too_large = || FetchFailure::fetch_error("too-large", "the body is longer than a policy may be");
        let most = u64::try_from(self.max_size).unwrap_or(u64::MAX);
        if response.content_length().is_some_and(|length| length > most) {
            return Err(too_large());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| classify(&e))? {
            if body.len() + chunk.len() > self.max_size {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

impl PolicyFetcher for HttpsFetcher {
    fn fetch<'a>(&'a self, domain: &'a Domain) -> BoxFuture<'a, Result<Vec<u8>, FetchFailure>> {
        self.get(domain).boxed()
    }
}

/// Status, media type and coding (STS-18, 19, 21, 23).
fn check_head(response: &Response) -> Result<(), FetchFailure> {
    let status = response.status();
    if status != StatusCode::OK {
        let redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
        let reason = if redirect { "redirect".to_owned() } else { format!("http-{}", status.as_u16()) };
        return Err(FetchFailure::fetch_error(&reason, &format!("the policy host answered {status}")));
    }
    let media_type = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let essence = media_type.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    // Parameters, charset included, mean nothing here: the octets are what they are.
    if !essence.eq_ignore_ascii_case(b"text/plain") {
        return Err(FetchFailure::fetch_error("media-type", "the answer is not text/plain"));
    }
    let coded = response.headers().get_all(CONTENT_ENCODING).iter();
    if coded.into_iter().any(|c| !c.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Err(FetchFailure::fetch_error(
            "content-encoding",
            "the answer is encoded although identity was asked for",
        ));
    }
    Ok(())
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

/// Why the policy host is not dialled.
#[derive(Debug, thiserror::Error)]
enum NotDialled {
    #[error(transparent)]
    Lookup(DnsError),
    #[error("the policy host has no address")]
    NoAddress,
    #[error("the policy host's address {0} lies in deny_networks")]
    Forbidden(IpAddr),
}

/// Sorts an error of the HTTP stack by kind, never by its text.
fn classify(e: &reqwest::Error) -> FetchFailure {
    let detail = chain(e);
    match find::<NotDialled>(e) {
        Some(NotDialled::Forbidden(_)) => {
            return FetchFailure::fetch_error("policy-host-address-forbidden", &detail);
        }
        Some(NotDialled::Lookup(_) | NotDialled::NoAddress) => {
            return FetchFailure::fetch_error("dns", &detail);
        }
        None => {}
    }
    match find::<rustls::Error>(e) {
        Some(rustls::Error::InvalidCertificate(cause)) => FetchFailure {
            result: ResultType::StsWebpkiInvalid,
            reason: certificate_reason(cause).to_owned(),
            detail,
            lines: Vec::new(),
        },
        Some(_) => FetchFailure::fetch_error("tls", &detail),
        None if e.is_timeout() => FetchFailure::fetch_error("timeout", &detail),
        None if e.is_connect() => FetchFailure::fetch_error("connect", &detail),
        None => FetchFailure::fetch_error("http", &detail),
    }
}

const fn certificate_reason(cause: &CertificateError) -> &'static str {
    match cause {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not-yet-valid",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "host-mismatch"
        }
        CertificateError::UnknownIssuer => "unknown-issuer",
        CertificateError::BadSignature => "bad-signature",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "purpose",
        CertificateError::Revoked => "revoked",
        _ => "not-trusted",
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
fn chain(e: &dyn Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text
}

const MOST_PER_FAMILY: usize = 8;

#[cfg(test)]
mod tests;
