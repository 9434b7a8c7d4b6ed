//! A receiver of TLS reports by HTTPS (RFC 8460 §5.4): takes every POST and keeps it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::ca::Leaf;

/// A POST that came in.
#[derive(Debug, Clone)]
pub struct Post {
    /// When its last octet came.
    pub at: Instant,
    /// The first line.
    pub line: String,
    /// All header lines.
    pub headers: String,
    /// The body.
    pub body: Vec<u8>,
}

/// The receiver.
#[derive(Clone)]
pub struct Collector(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    posts: Mutex<Vec<Post>>,
    /// The status line's end, and header lines each ending in CRLF.
    answer: Mutex<String>,
    /// Silence before the answer.
    delay: Mutex<Duration>,
}

impl Collector {
    /// Listens on `address` and shows `leaf`; answers 200.
    pub async fn start(address: SocketAddr, leaf: &Leaf) -> Self {
        let answer = Mutex::new("200 OK\r\n".to_owned());
        let (posts, delay) = (Mutex::default(), Mutex::default());
        let collector = Self(Arc::new(Inner { address, posts, answer, delay }));
        let acceptor = TlsAcceptor::from(leaf.server_config());
        let listener = TcpListener::bind(address).await.unwrap();
        let server = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(server.clone().serve(acceptor.clone(), stream));
            }
        });
        collector
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Answers so from now on: the end of the status line and header lines, each ending in CRLF.
    pub fn answer(&self, head: &str) {
        head.clone_into(&mut self.0.answer.lock().unwrap());
    }

    /// Is silent for so long before each answer from now on.
    pub fn delay(&self, time: Duration) {
        *self.0.delay.lock().unwrap() = time;
    }

    /// What came so far.
    pub fn posts(&self) -> Vec<Post> {
        self.0.posts.lock().unwrap().clone()
    }

    async fn serve(self, acceptor: TlsAcceptor, stream: TcpStream) {
        let Ok(mut tls) = acceptor.accept(stream).await else { return };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match tls.read_u8().await {
                Ok(byte) if head.len() < 16 * 1024 => head.push(byte),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let (line, headers) = head.split_once("\r\n").unwrap();
        let lower = headers.to_ascii_lowercase();
        let length = lower.lines().find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0_usize).min(16 << 20)];
        if tls.read_exact(&mut body).await.is_err() {
            return;
        }
        let post = Post { at: Instant::now(), line: line.to_owned(), headers: headers.to_owned(), body };
        self.0.posts.lock().unwrap().push(post);
        let delay = *self.0.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
        let answer = format!("HTTP/1.1 {}Content-Length: 0\r\n\r\n", self.0.answer.lock().unwrap());
        let _ = tls.write_all(answer.as_bytes()).await;
        let _ = tls.shutdown().await;
    }
}
