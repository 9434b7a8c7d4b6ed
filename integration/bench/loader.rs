//! The applications: sessions that stay open, one recipient a message, each command after the last reply.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ledger::{ID_FIELD, Ledger};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Sessions at once.
    pub(crate) clients: usize,
    /// Octets of a message's body.
    pub(crate) size: usize,
    /// The recipient domains, taken in turn.
    pub(crate) domains: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// Messages that were answered with 250.
    pub(crate) accepted: usize,
    /// The first reply that was not the one hoped for.
    pub(crate) refusal: Option<String>,
    /// When the first session began to send.
    pub(crate) start: Instant,
    /// From there to the last 250.
    pub(crate) took: Duration,
    /// From the end of data to the 250, every message.
    pub(crate) acknowledged: Vec<Duration>,
    /// From MAIL to the 250, every message.
    pub(crate) whole: Vec<Duration>,
}

/// Sends every message of the ledger once.
pub(crate) async fn run(to: SocketAddr, load: &Load, ledger: &Arc<Ledger>) -> Result<Loaded> {
    let mut sessions = Vec::new();
    for _ in 0..load.clients {
        sessions.push(Client::open(to).await?);
    }
    let body: Arc<[u8]> = body(load.size).into();
    let (domains, next) = (Arc::new(load.domains.clone()), Arc::new(AtomicUsize::new(0)));
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for session in sessions {
        let (body, ledger) = (Arc::clone(&body), Arc::clone(ledger));
        let (domains, next) = (Arc::clone(&domains), Arc::clone(&next));
        clients.spawn(async move { session.send_all(&body, &domains, &next, &ledger).await });
    }
    let mut all = Loaded {
        accepted: 0,
        refusal: None,
        start,
        took: Duration::ZERO,
        acknowledged: Vec::with_capacity(ledger.len()),
        whole: Vec::with_capacity(ledger.len()),
    };
    while let Some(ended) = clients.join_next().await {
        let part = ended.context("a client failed")??;
        all.accepted += part.acknowledged.len();
        all.refusal = all.refusal.or(part.refusal);
        all.took = all.took.max(part.last.saturating_duration_since(start));
        all.acknowledged.extend(part.acknowledged);
        all.whole.extend(part.whole);
    }
    Ok(all)
}

/// Waits until `to` greets.
pub(crate) async fn greets(to: SocketAddr, patience: Duration) -> Result<()> {
    let end = Instant::now() + patience;
    while Client::open(to).await.is_err() {
        if Instant::now() > end {
            bail!("{to} does not greet");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

struct Part {
    acknowledged: Vec<Duration>,
    whole: Vec<Duration>,
    refusal: Option<String>,
    last: Instant,
}

impl Client {
    async fn open(to: SocketAddr) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
        stream.set_nodelay(true)?;
        let mut client = Self { stream, input: Vec::with_capacity(1024) };
        client.expect(220).await?;
        client.command(b"EHLO loader.test\r\n", 250).await?;
        Ok(client)
    }

    async fn send_all(
        mut self,
        body: &[u8],
        domains: &[String],
        next: &AtomicUsize,
        ledger: &Ledger,
    ) -> Result<Part> {
        let (acknowledged, whole) = (Vec::new(), Vec::new());
        let mut part = Part { acknowledged, whole, refusal: None, last: Instant::now() };
        let mut content = Vec::with_capacity(body.len() + 512);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let domain = domains.get(number % domains.len()).filter(|_| number < ledger.len());
            let Some(domain) = domain else { break };
            content.clear();
            let run = ledger.run;
            let header = format!(
                "From: <sender@app.test>\r\nTo: <user@{domain}>\r\nSubject: message {number}\r\n\
                 Date: Sun, 22 Nov 2026 08:00:00 +0000\r\nMessage-ID: <{run}.{number}@app.test>\r\n\
                 {ID_FIELD}: {run}.{number}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
            );
            content.extend(header.as_bytes());
            content.extend(body);
            let began = Instant::now();
            match self.send(domain, &content, number, ledger).await {
                Ok(acknowledged) => {
                    ledger.accepted(number);
                    part.last = Instant::now();
                    part.acknowledged.push(acknowledged);
                    part.whole.push(part.last - began);
                }
                Err(error) => {
                    part.refusal.get_or_insert_with(|| format!("{error:#}"));
                    self.command(b"RSET\r\n", 250).await?;
                }
            }
        }
        self.command(b"QUIT\r\n", 221).await?;
        Ok(part)
    }

    async fn send(
        &mut self,
        domain: &str,
        content: &[u8],
        number: usize,
        ledger: &Ledger,
    ) -> Result<Duration> {
        self.command(b"MAIL FROM:<sender@app.test>\r\n", 250).await?;
        self.command(format!("RCPT TO:<user@{domain}>\r\n").as_bytes(), 250).await?;
        self.command(b"DATA\r\n", 354).await?;
        ledger.sent(number);
        let sent = Instant::now();
        self.command(content, 250).await?;
        Ok(sent.elapsed())
    }

    async fn command(&mut self, octets: &[u8], code: u16) -> Result<()> {
        timeout(PATIENCE, self.stream.write_all(octets)).await??;
        self.expect(code).await
    }

    /// Reads one reply, which is all that the server may have sent.
    async fn expect(&mut self, code: u16) -> Result<()> {
        self.input.clear();
        loop {
            if timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await?? == 0 {
                bail!("the connection ended");
            }
            let text = std::str::from_utf8(&self.input)?;
            let last = text.strip_suffix("\r\n").and_then(|t| t.rsplit("\r\n").next());
            match last {
                Some(line) if line.as_bytes().get(3) == Some(&b' ') => {
                    if line.get(..3) != Some(&code.to_string()) {
                        bail!("{}", text.trim());
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

/// Whole lines, about `size` octets, and the final dot.
fn body(size: usize) -> Vec<u8> {
    let line = "It was a bright cold day in April and the clocks were striking thirteen.\r\n";
    let mut body = line.repeat(size / line.len()).into_bytes();
    body.extend(b".\r\n");
    body
}
