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
mod tests {
    use std::sync::Mutex;

    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::config::network::nets_of;
    use crate::dns::zone::ZoneResolver;

    const HOST: &str = "mta-sts.d.example";
    const BODY: &str = "version: STSv1\nmode: none\nmax_age: 86400\n";

    /// A policy host on loopback: answers every request with the same octets and keeps what it was asked.
    struct Server {
        port: u16,
        roots: Arc<RootCertStore>,
        requests: Arc<Mutex<Vec<String>>>,
        server_names: Arc<Mutex<Vec<Option<String>>>>,
    }

    impl Server {
        async fn start(answer: Vec<u8>) -> Self {
            Self::with_certificate(answer, CertificateParams::new(vec![HOST.to_owned()]).unwrap(), true).await
        }

        async fn with_certificate(answer: Vec<u8>, leaf: CertificateParams, trusted: bool) -> Self {
            let mut ca = CertificateParams::new(Vec::new()).unwrap();
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let (ca_key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
            let ca_cert = ca.self_signed(&ca_key).unwrap();
            let cert = leaf.signed_by(&leaf_key, &Issuer::new(ca, ca_key)).unwrap();
            let mut roots = RootCertStore::empty();
            if trusted {
                roots.add(ca_cert.der().clone()).unwrap();
            }
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let tls = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![cert.der().clone()], key)
                .unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = Self {
                port: listener.local_addr().unwrap().port(),
                roots: Arc::new(roots),
                requests: Arc::default(),
                server_names: Arc::default(),
            };
            let (requests, names) = (Arc::clone(&server.requests), Arc::clone(&server.server_names));
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            tokio::spawn(async move {
                while let Ok((tcp, _)) = listener.accept().await {
                    let Ok(mut stream) = acceptor.accept(tcp).await else { continue };
                    names.lock().unwrap().push(stream.get_ref().1.server_name().map(str::to_owned));
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        match stream.read_u8().await {
                            Ok(octet) => request.push(octet),
                            Err(_) => break,
                        }
                    }
                    requests.lock().unwrap().push(String::from_utf8(request).unwrap());
                    let _ = stream.write_all(&answer).await;
                    if answer.ends_with(b"stall") {
                        std::future::pending::<()>().await;
                    }
                    let _ = stream.shutdown().await;
                }
            });
            server
        }

        async fn fetch(&self) -> Result<Vec<u8>, FetchFailure> {
            self.fetch_with(&["127.0.0.1"], FetchSettings::default()).await
        }

        async fn fetch_with(
            &self,
            addresses: &[&str],
            settings: FetchSettings,
        ) -> Result<Vec<u8>, FetchFailure> {
            let zone: String = addresses.iter().map(|a| format!("{HOST} A {a}\n")).collect();
            let zone = Arc::new(ZoneResolver::new(&zone).unwrap());
            let settings = FetchSettings { port: self.port, roots: Arc::clone(&self.roots), ..settings };
            let fetcher = HttpsFetcher::new(settings, zone).unwrap();
            fetcher.fetch(&Domain::parse("D.example.").unwrap()).await
        }
    }

    fn answer(head: &str, body: &[u8]) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }

    // STS-15, STS-16, STS-20, STS-21, STS-23
    #[tokio::test]
    async fn one_plain_get_with_the_policy_hosts_name_brings_the_body() {
        let head = "200 OK\r\nContent-Type: Text/Plain; charset=iso-8859-1; x=y\r\nCache-Control: no-store, max-age=0";
        let server = Server::start(answer(head, BODY.as_bytes())).await;
        for _ in 0..2 {
            assert_eq!(server.fetch().await.unwrap(), BODY.as_bytes());
        }
        let requests = server.requests.lock().unwrap().clone();
        assert_eq!(requests.len(), 2);
        for request in requests {
            let lower = request.to_ascii_lowercase();
            assert!(request.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\n"), "{request}");
            assert!(lower.contains(&format!("host: {HOST}:{}\r\n", server.port)), "{request}");
            assert!(lower.contains("accept-encoding: identity\r\n"), "{request}");
            for header in ["if-none-match", "if-modified-since", "cookie", "authorization", "referer"] {
                assert!(!lower.contains(header), "{request}");
            }
        }
        assert_eq!(*server.server_names.lock().unwrap(), [Some(HOST.to_owned()), Some(HOST.to_owned())]);
    }

    // STS-18, STS-19, STS-21, STS-23
    #[tokio::test]
    async fn any_other_answer_is_a_fetch_error_and_is_not_followed() {
        let text = "Content-Type: text/plain";
        for (head, want) in [
            (format!("201 Created\r\n{text}"), "http-201"),
            (format!("204 No Content\r\n{text}"), "http-204"),
            (format!("206 Partial Content\r\n{text}"), "http-206"),
            (format!("304 Not Modified\r\n{text}"), "http-304"),
            (format!("404 Not Found\r\n{text}"), "http-404"),
            (format!("410 Gone\r\n{text}"), "http-410"),
            (format!("500 Oops\r\n{text}"), "http-500"),
            (format!("301 Moved\r\n{text}\r\nLocation: /policy"), "redirect"),
            (format!("302 Found\r\n{text}\r\nLocation: https://{HOST}/"), "redirect"),
            ("200 OK\r\nContent-Type: text/html".to_owned(), "media-type"),
            ("200 OK\r\nX: y".to_owned(), "media-type"),
            (format!("200 OK\r\n{text}\r\nContent-Encoding: gzip"), "content-encoding"),
        ] {
            let server = Server::start(answer(&head, BODY.as_bytes())).await;
            let failure = server.fetch().await.unwrap_err();
            assert_eq!(
                (failure.result, failure.reason.as_str()),
                (ResultType::StsPolicyFetchError, want),
                "{head}"
            );
            assert_eq!(server.requests.lock().unwrap().len(), 1, "{head}");
        }
    }

    // STS-22
    #[tokio::test]
    async fn a_body_may_have_65536_octets_and_not_one_more() {
        let head = "200 OK\r\nContent-Type: text/plain";
        let exact = vec![b'x'; 65536];
        assert_eq!(Server::start(answer(head, &exact)).await.fetch().await.unwrap().len(), 65536);
        let announced = answer(head, &[&exact[..], b"x"].concat());
        assert_eq!(Server::start(announced).await.fetch().await.unwrap_err().reason, "too-large");
        let mut unannounced = format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").into_bytes();
        unannounced.extend_from_slice(&exact);
        unannounced.push(b'x');
        assert_eq!(Server::start(unannounced).await.fetch().await.unwrap_err().reason, "too-large");
    }

    // STS-22: a policy host that stalls.
    #[tokio::test]
    async fn a_host_that_stops_in_the_middle_ends_at_the_limit() {
        for sent in [
            "HTTP/1.1 200 OK\r\nX: stall",
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 99\r\n\r\nstall",
        ] {
            let server = Server::start(sent.as_bytes().to_vec()).await;
            let short = FetchSettings { timeout: Duration::from_millis(300), ..FetchSettings::default() };
            assert_eq!(
                server.fetch_with(&["127.0.0.1"], short).await.unwrap_err().reason,
                "timeout",
                "{sent}"
            );
        }
    }

    // STS-17
    #[tokio::test]
    async fn the_certificate_must_hold_for_the_policy_host() {
        let good = answer("200 OK\r\nContent-Type: text/plain", BODY.as_bytes());
        let named = |names: &[&str]| {
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap()
        };
        let mut expired = named(&[HOST]);
        expired.not_before = date_time_ymd(2020, 1, 1);
        expired.not_after = date_time_ymd(2021, 1, 1);
        let mut future = named(&[HOST]);
        future.not_before = date_time_ymd(2090, 1, 1);
        future.not_after = date_time_ymd(2091, 1, 1);
        let mut common_name = named(&[]);
        common_name.distinguished_name.push(DnType::CommonName, HOST);
        for (what, params, trusted, want) in [
            ("unknown root", named(&[HOST]), false, Some("unknown-issuer")),
            ("expired", expired, true, Some("expired")),
            ("not yet valid", future, true, Some("not-yet-valid")),
            ("the domain's name", named(&["d.example"]), true, Some("host-mismatch")),
            ("common name only", common_name, true, Some("host-mismatch")),
            ("partial wildcard", named(&["mta*.d.example"]), true, Some("host-mismatch")),
            ("wildcard", named(&["*.d.example"]), true, None),
        ] {
            let server = Server::with_certificate(good.clone(), params, trusted).await;
            match (server.fetch().await, want) {
                (Ok(_), None) => {}
                (Err(e), Some(reason)) => {
                    assert_eq!(
                        (e.result, e.reason.as_str()),
                        (ResultType::StsWebpkiInvalid, reason),
                        "{what}: {}",
                        e.detail
                    );
                    assert!(server.requests.lock().unwrap().is_empty(), "{what}");
                }
                (other, _) => panic!("{what}: {other:?}"),
            }
        }
    }

    // STS-30
    #[tokio::test]
    async fn denied_addresses_are_not_dialled() {
        let server = Server::start(answer("200 OK\r\nContent-Type: text/plain", BODY.as_bytes())).await;
        let deny = ["loopback", "private"].iter().flat_map(|w| nets_of(w).unwrap()).collect::<Vec<_>>();
        for addresses in [&["127.0.0.1"][..], &["127.0.0.1", "10.0.0.1"], &["0.0.0.0"]] {
            let settings = FetchSettings { deny: deny.clone(), ..FetchSettings::default() };
            let failure = server.fetch_with(addresses, settings).await.unwrap_err();
            assert_eq!(failure.reason, "policy-host-address-forbidden", "{}", failure.detail);
        }
        let failure = server.fetch_with(&["0.0.0.0"], FetchSettings::default()).await.unwrap_err();
        assert_eq!(failure.reason, "policy-host-address-forbidden", "whatever is configured");
        assert!(server.server_names.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn hosts_that_cannot_be_found_or_reached_say_so() {
        let server = Server::start(Vec::new()).await;
        assert_eq!(server.fetch_with(&[], FetchSettings::default()).await.unwrap_err().reason, "dns");
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let closed = Server { port: free, ..server };
        assert_eq!(closed.fetch().await.unwrap_err().reason, "connect");
    }
}
