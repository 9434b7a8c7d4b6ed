//! [`HttpsPoster`]: one POST of a report to an `https` URI of a rua field (RFC 8460 §5.4).
//!
//! The URI was written by strangers: it may name neither an address nor credentials, the client is the hardened
//! one of [`crate::https`], and whatever the receiver sends, it is read up to a bound and never followed (RPT-91).
//! Certificates are verified, which RFC 8460 §3 leaves to the sender (RPT-90).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ipnet::IpNet;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::RootCertStore;

use super::{Posted, ReportPoster};
use crate::clock::{Clock, Timestamp};
use crate::dns::Resolver;
use crate::https::{self, Fault, HttpsSettings, NotDialled, SetupFailed};
use crate::mail::Domain;

/// What the poster is told.
#[derive(Debug, Clone)]
pub struct PosterSettings {
    /// Where a URI without a port is asked: 443.
    pub port: u16,
    /// The end of a POST, from the DNS question to the last octet of the answer: 60 s.
    pub timeout: Duration,
    /// Octets of an answer's body that are read: 65536.
    pub max_answer: usize,
    /// The longest Retry-After that is believed: 1 day.
    pub max_retry_after: Duration,
    /// `delivery.deny_networks`, expanded.
    pub deny: Vec<IpNet>,
    /// The authorities that receivers are judged by.
    pub roots: Arc<RootCertStore>,
}

impl Default for PosterSettings {
    /// The values of the specification, with nothing denied and no authority trusted.
    fn default() -> Self {
        let HttpsSettings { timeout, deny, roots } = HttpsSettings::default();
        Self {
            port: 443,
            timeout,
            max_answer: 64 << 10,
            max_retry_after: Duration::from_secs(24 * 3600),
            deny,
            roots,
        }
    }
}

/// The adapter behind [`ReportPoster`].
pub struct HttpsPoster {
    client: Client,
    port: u16,
    max_answer: usize,
    max_retry_after: Duration,
    clock: Arc<dyn Clock>,
}

impl HttpsPoster {
    /// A poster that finds receivers through `resolver`; `clock` is for a Retry-After that is a date.
    ///
    /// # Errors
    /// [`SetupFailed`], which no setting of an operator causes.
    pub fn new(
        settings: PosterSettings,
        resolver: Arc<dyn Resolver>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SetupFailed> {
        let PosterSettings { port, timeout, max_answer, max_retry_after, deny, roots } = settings;
        let headers =
            HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/tlsrpt+gzip"))]);
        let client = https::client(HttpsSettings { timeout, deny, roots }, headers, resolver)?;
        Ok(Self { client, port, max_answer, max_retry_after, clock })
    }

    async fn try_post(&self, url: &str, packed: Bytes) -> Posted {
        let url = match self.target(url) {
            Ok(url) => url,
            Err(reply) => return Posted::Refused { reply: reply.to_owned() },
        };
        match self.client.post(url).body(packed).send().await {
            Ok(response) => self.judge(response).await,
            // The URI stands beside the reply already.
            Err(e) => unanswered(&e.without_url()),
        }
    }

    /// The URI, when it may be asked at all (RPT-91).
    fn target(&self, url: &str) -> Result<Url, &'static str> {
        let mut url = Url::parse(url).map_err(|_| "not a URI that can be asked")?;
        if url.scheme() != "https" {
            return Err("not an https URI");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URI carries credentials; none are sent to receivers of reports");
        }
        let host = url.domain().ok_or("the URI names an address instead of a host")?;
        // Single labels would mean whatever the local network makes of them.
        let host = Domain::parse(host).map_err(|_| "the URI's host is no fully qualified name")?;
        url.set_host(Some(host.as_str())).map_err(|_| "not a URI that can be asked")?;
        let port = url.port().unwrap_or(self.port);
        url.set_port(Some(port)).map_err(|()| "not a URI that can be asked")?;
        url.set_fragment(None);
        Ok(url)
    }

    /// What the answer means (RPT-89).
    async fn judge(&self, response: Response) -> Posted {
        let status = response.status();
        let after = self.retry_after(response.headers());
        let mut reply = format!("HTTP {status}");
        // A 2xx stands, whatever follows it. Of other answers the first line is for people, when there is one in time.
        let body = https::body(response, self.max_answer).await.unwrap_or_default();
        if status.is_success() {
            return Posted::Accepted { reply };
        }
        if status.is_redirection() {
            reply.push_str(": redirects are not followed");
        } else if let Some(line) = first_line(&body) {
            reply = format!("{reply}: {line}");
        }
        let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
        if status.is_client_error() && !later {
            Posted::Refused { reply }
        } else {
            Posted::Later { reply, after }
        }
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let wait = retry_after(headers.get(RETRY_AFTER)?.to_str().ok()?, self.clock.now())?;
        Some(wait.min(self.max_retry_after))
    }
}

impl ReportPoster for HttpsPoster {
    fn post<'a>(&'a self, url: &'a str, packed: Bytes) -> BoxFuture<'a, Posted> {
        self.try_post(url, packed).boxed()
    }
}

/// A POST that got no answer.
fn unanswered(e: &reqwest::Error) -> Posted {
    let detail = https::chain(e);
    let reply = match Fault::of(e) {
        Fault::NotDialled(why @ NotDialled::Forbidden(_)) => {
            return Posted::Refused { reply: why.to_string() };
        }
        Fault::NotDialled(why) => why.to_string(),
        Fault::Certificate(_) => format!("the certificate does not hold: {detail}"),
        Fault::Tls => format!("TLS failed: {detail}"),
        Fault::Timeout => format!("no answer in time: {detail}"),
        Fault::Connect => format!("no connection: {detail}"),
        Fault::Http => format!("no HTTP answer: {detail}"),
    };
    Posted::Later { reply, after: None }
}

/// Retry-After (RFC 9110 §10.2.3): seconds, or a date in any of the three forms of §5.6.7.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a u64 has mean a wait without end, which the bound cuts.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let form = |form| jiff::fmt::strtime::parse(form, value).and_then(|t| t.to_datetime());
    let date = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"]
        .into_iter()
        .find_map(|f| form(f).ok())?;
    let at = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(Timestamp::from_millis(at.as_millisecond()).since(now))
}

/// The first line of text for people, shortened; nothing of a web page.
fn first_line(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body.get(..body.len().min(4 * LINE)).unwrap_or_default());
    let line = text.lines().map(str::trim).find(|l| !l.is_empty()).filter(|l| !l.starts_with('<'))?;
    Some(line.chars().map(|c| if c.is_control() { '?' } else { c }).take(LINE).collect())
}

/// Characters of a receiver's words.
const LINE: usize = 200;

#[cfg(test)]
mod tests;
