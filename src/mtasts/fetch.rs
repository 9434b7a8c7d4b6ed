//! [`HttpsFetcher`]: one GET of a policy file, and nothing that the policy host can bend (RFC 8461 §3.3).
//!
//! The client is the hardened one of [`crate::https`]: no redirects, proxies, cookies, HTTP caching or content
//! coding, and denied addresses are never dialled (STS-30).

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use reqwest::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use rustls::{CertificateError, RootCertStore};

use super::{FetchFailure, PolicyFetcher};
use crate::dns::Resolver;
use crate::https::{self, BodyFault, Fault, HttpsSettings, NotDialled, SetupFailed};
use crate::mail::Domain;
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
    /// [`SetupFailed`], which no setting of an operator causes.
    pub fn new(settings: FetchSettings, resolver: Arc<dyn Resolver>) -> Result<Self, SetupFailed> {
        let FetchSettings { port, timeout, max_size, deny, roots } = settings;
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("text/plain"))]);
        let client = https::client(HttpsSettings { timeout, deny, roots }, headers, resolver)?;
        Ok(Self { client, port, max_size })
    }

    async fn get(&self, domain: &Domain) -> Result<Vec<u8>, FetchFailure> {
        let host = domain
            .with_prefix("mta-sts")
            .ok_or_else(|| FetchFailure::fetch_error("dns", "the host name is too long"))?;
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let url = format!("https://{host}{port}/.well-known/mta-sts.txt");
        let response = self.client.get(url).send().await.map_err(|e| classify(&e))?;
        check_head(&response)?;
        https::body(response, self.max_size).await.map_err(|fault| match fault {
            BodyFault::TooLarge => {
                FetchFailure::fetch_error("too-large", "the body is longer than a policy may be")
            }
            BodyFault::Broken(e) => classify(&e),
        })
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

fn classify(e: &reqwest::Error) -> FetchFailure {
    let detail = https::chain(e);
    let reason = match Fault::of(e) {
        Fault::NotDialled(NotDialled::Forbidden(_)) => "policy-host-address-forbidden",
        Fault::NotDialled(NotDialled::Lookup(_) | NotDialled::NoAddress) => "dns",
        Fault::Certificate(cause) => {
            return FetchFailure {
                result: ResultType::StsWebpkiInvalid,
                reason: certificate_reason(cause).to_owned(),
                detail,
                lines: Vec::new(),
            };
        }
        Fault::Tls => "tls",
        Fault::Timeout => "timeout",
        Fault::Connect => "connect",
        Fault::Http => "http",
    };
    FetchFailure::fetch_error(reason, &detail)
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

#[cfg(test)]
mod tests;
