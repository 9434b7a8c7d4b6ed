//! HTTPS hosts that serve MTA-STS policies: one listener, told apart by SNI.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::ca::Leaf;
use super::provider;

/// What a policy host says to every request.
#[derive(Debug, Clone)]
pub struct Page {
    /// The status line's code.
    pub status: u16,
    /// Content-Type; no such line when empty.
    pub content_type: String,
    /// More header lines, each ending in CRLF.
    pub headers: String,
    /// The body.
    pub body: String,
    /// Silence between the request and the answer.
    pub delay: Duration,
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// The server name of the handshake.
    pub sni: String,
    /// The first line.
    pub line: String,
    /// All header lines.
    pub headers: String,
}

/// All policy hosts of a world.
#[derive(Clone)]
pub struct PolicyHost(Arc<Inner>);

#[derive(Default)]
struct Inner {
    pages: Mutex<HashMap<String, Page>>,
    log: Mutex<Vec<Request>>,
    certificates: Arc<Certificates>,
}

#[derive(Debug, Default)]
struct Certificates(Mutex<HashMap<String, Arc<CertifiedKey>>>);

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().get(hello.server_name()?).cloned()
    }
}

impl Page {
    /// A policy as RFC 8461 §3.3 wants it served.
    pub fn policy(text: &str) -> Self {
        Self {
            status: 200,
            content_type: "text/plain".to_owned(),
            headers: String::new(),
            body: text.to_owned(),
            delay: Duration::ZERO,
        }
    }

    /// An answer that is no policy.
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::policy("no\r\n") }
    }
}

impl PolicyHost {
    /// Listens on `address`; knows no host yet, so every handshake fails.
    pub async fn start(address: SocketAddr) -> Self {
        let host = Self(Arc::default());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&host.0.certificates) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await.unwrap();
        let server = host.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve_stream(acceptor.clone(), stream));
            }
        });
        host
    }

    /// Shows `leaf` to those who ask for `host`.
    pub fn certificate(&self, host: &str, leaf: &Leaf) {
        self.0.certificates.0.lock().unwrap().insert(host.to_owned(), leaf.certified_key());
    }

    /// Serves this policy text at `host`.
    pub fn serve(&self, host: &str, text: &str) {
        self.answer(host, Page::policy(text));
    }

    /// Answers every request to `host` with `page`.
    pub fn answer(&self, host: &str, page: Page) {
        self.0.pages.lock().unwrap().insert(host.to_owned(), page);
    }

    /// The requests that `host` got.
    pub fn requests(&self, host: &str) -> Vec<Request> {
        self.0.log.lock().unwrap().iter().filter(|r| r.sni == host).cloned().collect()
    }

    async fn serve_stream(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let Ok(mut tls) = acceptor.accept(stream).await else { return };
        let Some(sni) = tls.get_ref().1.server_name().map(str::to_owned) else { return };
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match tls.read_u8().await {
                    Ok(byte) if head.len() < 16 * 1024 => head.push(byte),
                    _ => return,
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let (line, headers) = head.split_once("\r\n").unwrap();
            let request = Request { sni: sni.clone(), line: line.to_owned(), headers: headers.to_owned() };
            self.0.log.lock().unwrap().push(request);
            let page = self.0.pages.lock().unwrap().get(&sni).cloned().unwrap_or_else(|| Page::status(404));
            tokio::time::sleep(page.delay).await;
            let page =
                if line.starts_with("GET /.well-known/mta-sts.txt ") { page } else { Page::status(404) };
            let media_type = match page.content_type.as_str() {
                "" => String::new(),
                named => format!("Content-Type: {named}\r\n"),
            };
            let answer = format!(
                "HTTP/1.1 {} x\r\n{media_type}Content-Length: {}\r\n{}\r\n{}",
                page.status,
                page.body.len(),
                page.headers,
                page.body
            );
            if tls.write_all(answer.as_bytes()).await.is_err() || tls.flush().await.is_err() {
                return;
            }
        }
    }
}
