//! The MX hosts: STARTTLS, PIPELINING, no delay, and as little work a message as can be.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use rustls::HandshakeKind;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::ledger::{ID_FIELD, Ledger};
use crate::site::Site;

/// All MX hosts of a site, up. Dropping it takes them down: connections end and new ones are refused.
pub(crate) struct Sink(CancellationToken);

impl Drop for Sink {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Sink {
    /// Listens at every MX host's address.
    pub(crate) async fn start(site: &Site, ledger: &Arc<Ledger>) -> Result<Self> {
        let end = CancellationToken::new();
        for (address, acceptor) in &site.hosts {
            let listener = TcpListener::bind(address).await.with_context(|| format!("sink at {address}"))?;
            let (acceptor, ledger, end) = (acceptor.clone(), Arc::clone(ledger), end.clone());
            tokio::spawn(
                async move { end.run_until_cancelled(listen(listener, acceptor, ledger, &end)).await },
            );
        }
        Ok(Self(end))
    }
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, ledger: Arc<Ledger>, end: &CancellationToken) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, ledger, end) = (acceptor.clone(), Arc::clone(&ledger), end.clone());
        tokio::spawn(async move { end.run_until_cancelled(serve(stream, acceptor, &ledger)).await });
    }
}

async fn serve(mut stream: TcpStream, acceptor: TlsAcceptor, ledger: &Ledger) -> io::Result<()> {
    stream.set_nodelay(true)?;
    ledger.connections.fetch_add(1, Ordering::Relaxed);
    stream.write_all(b"220 sink ESMTP\r\n").await?;
    if Session::new(false, ledger).run(&mut stream).await? {
        let mut tls = acceptor.accept(stream).await?;
        ledger.handshakes.fetch_add(1, Ordering::Relaxed);
        if tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            ledger.resumed.fetch_add(1, Ordering::Relaxed);
        }
        Session::new(true, ledger).run(&mut tls).await?;
        tls.shutdown().await?;
    }
    Ok(())
}

/// One side of STARTTLS.
struct Session<'a> {
    encrypted: bool,
    ledger: &'a Ledger,
    /// Received and not yet looked at.
    input: Vec<u8>,
    replies: Vec<u8>,
    in_data: bool,
    /// How far the end of data has been searched for.
    searched: usize,
    finished: bool,
    start_tls: bool,
}

impl<'a> Session<'a> {
    fn new(encrypted: bool, ledger: &'a Ledger) -> Self {
        let (input, replies) = (Vec::with_capacity(16 * 1024), Vec::new());
        Self {
            encrypted,
            ledger,
            input,
            replies,
            in_data: false,
            searched: 0,
            finished: false,
            start_tls: false,
        }
    }

    /// Talks until QUIT, the peer's end, or STARTTLS (`true`).
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(mut self, stream: &mut S) -> io::Result<bool> {
        loop {
            while !self.finished && self.step() {}
            if !self.replies.is_empty() {
                stream.write_all(&self.replies).await?;
                stream.flush().await?;
                self.replies.clear();
            }
            if self.finished {
                return Ok(self.start_tls);
            }
            if stream.read_buf(&mut self.input).await? == 0 {
                return Ok(false);
            }
        }
    }

    /// Takes one command or one message from the input, if there is a whole one.
    fn step(&mut self) -> bool {
        let mark: &[u8] = if self.in_data { b"\r\n.\r\n" } else { b"\r\n" };
        let from = self.searched.saturating_sub(mark.len());
        let found = self.input.get(from..).and_then(|s| s.windows(mark.len()).position(|w| w == mark));
        let Some(at) = found.map(|n| n + from) else {
            self.searched = self.input.len();
            return false;
        };
        let rest = self.input.split_off(at + mark.len());
        let taken = std::mem::replace(&mut self.input, rest);
        self.searched = 0;
        let taken = taken.get(..at).unwrap_or_default();
        if self.in_data {
            self.in_data = false;
            if !self.encrypted {
                self.ledger.plain.fetch_add(1, Ordering::Relaxed);
            }
            self.ledger.arrived(id(taken));
            self.replies.extend(b"250 2.0.0 ok\r\n");
        } else {
            self.command(taken);
        }
        true
    }

    fn command(&mut self, line: &[u8]) {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match verb.as_slice() {
            b"EHLO" if self.encrypted => {
                b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 52428800\r\n"
            }
            b"EHLO" => b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 52428800\r\n250 STARTTLS\r\n",
            b"MAIL" | b"RCPT" | b"RSET" | b"NOOP" => b"250 2.0.0 ok\r\n",
            b"DATA" => {
                self.in_data = true;
                b"354 go ahead\r\n"
            }
            b"STAR" if !self.encrypted => {
                (self.finished, self.start_tls) = (true, true);
                b"220 2.0.0 go ahead\r\n"
            }
            b"QUIT" => {
                self.finished = true;
                b"221 2.0.0 bye\r\n"
            }
            _ => b"502 5.5.1 unknown\r\n",
        };
        self.replies.extend(reply);
    }
}

/// Run and number from the id field.
fn id(message: &[u8]) -> Option<(u64, usize)> {
    let mark = ID_FIELD.as_bytes();
    let head = message.get(..message.len().min(8 * 1024))?;
    let at = head.windows(mark.len()).position(|w| w == mark)?;
    let value = head.get(at + mark.len() + 1..)?.split(|b| *b == b'\r').next()?;
    let (run, number) = std::str::from_utf8(value).ok()?.trim().split_once('.')?;
    Some((run.parse().ok()?, number.parse().ok()?))
}
