//! The octets of a session: in the clear or inside TLS, written with deadlines, read into replies.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::delivery::reply_reader::{RawReply, ReplyBuffer};
use crate::delivery::transcript::Fault;

/// A connection.
#[derive(Debug)]
pub(super) enum Wire {
    /// In the clear.
    Clear(TcpStream),
    /// Inside TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A connection with what was read from it ahead.
#[derive(Debug)]
pub(super) struct Line {
    wire: Wire,
    replies: ReplyBuffer,
}

/// How a write went: the octets that may have left, and why it stopped short.
#[derive(Debug)]
pub(super) struct Written {
    /// Octets handed to the system or to the TLS layer.
    pub(super) octets: usize,
    /// `None` when all left.
    pub(super) fault: Option<Fault>,
}

/// Is raised as soon as more than `after` octets were handed over, also when the writing is cut off later.
pub(super) struct Mark<'a> {
    pub(super) after: usize,
    pub(super) passed: &'a AtomicBool,
}

impl Line {
    /// A fresh connection.
    pub(super) fn new(wire: Wire) -> Self {
        Self { wire, replies: ReplyBuffer::default() }
    }

    /// The stream below, when nothing at all was read ahead of the replies taken (OUT-31).
    pub(super) fn into_wire(self) -> Option<Wire> {
        self.replies.is_empty().then_some(self.wire)
    }

    /// Reads one reply. `limit` covers the whole of it (OUT-20).
    ///
    /// # Errors
    /// [`Fault`]; the connection is of no more use.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<RawReply, Fault> {
        read_reply(&mut self.wire, &mut self.replies, limit).await
    }

    /// What lies here although nobody may have said anything yet (OUT-23).
    pub(super) fn surplus(&mut self) -> Option<Fault> {
        if self.replies.is_empty() {
            return None;
        }
        Some(match self.replies.take() {
            Ok(Some(r)) if r.code == 421 => Fault::Closing(r.to_reply()),
            _ => Fault::Protocol("a reply that nobody asked for"),
        })
    }

    /// Whether the peer has said nothing and not closed, as far as can be seen without waiting.
    pub(super) fn is_quiet(&mut self) -> bool {
        if !self.replies.is_empty() {
            return false;
        }
        let mut octet = [0; 1];
        let mut buf = ReadBuf::new(&mut octet);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        // Pending: no data, no end, no error. TLS may consume a ticket here and still be pending.
        Pin::new(&mut self.wire).poll_read(&mut cx, &mut buf).is_pending()
    }

    /// Writes all of `octets`, each step within `stall`.
    pub(super) async fn send(&mut self, octets: &[u8], stall: Duration) -> Written {
        write_all(&mut self.wire, octets, stall).await
    }

    /// As [`Line::send`], raising `mark` on the way.
    pub(super) async fn send_marked(&mut self, octets: &[u8], stall: Duration, mark: &Mark<'_>) -> Written {
        let mut written = 0;
        let fault = write_counted(&mut self.wire, octets, stall, &mut written, Some(mark)).await.err();
        Written { octets: written, fault }
    }

    /// Writes `octets` and reads meanwhile; stops as soon as a complete reply lies ahead, or the peer is gone.
    ///
    /// The peer may answer early, and both sides may have full buffers: reading while writing is what keeps
    /// them from waiting for each other (OUT-44, OUT-53).
    pub(super) async fn send_listening(&mut self, octets: &[u8], stall: Duration) -> Written {
        let replies = &mut self.replies;
        let (mut reader, mut writer) = tokio::io::split(&mut self.wire);
        let mut written = 0;
        let writing = write_counted(&mut writer, octets, stall, &mut written, None);
        let fault = tokio::select! {
            biased;
            done = writing => done.err(),
            heard = listen(&mut reader, replies) => heard.err(),
        };
        // Both ways out of `listen` leave the rest unwritten; a short count tells the caller.
        Written { octets: written, fault }
    }

    /// Splits for commands and replies at the same time.
    pub(super) fn split(&mut self) -> (ReadHalf<&mut Wire>, WriteHalf<&mut Wire>, &mut ReplyBuffer) {
        let (r, w) = tokio::io::split(&mut self.wire);
        (r, w, &mut self.replies)
    }

    /// Says goodbye, waits a little for the answer and closes. Nothing depends on it (OUT-48).
    pub(super) async fn quit(mut self, limit: Duration) {
        let farewell = async {
            let sent = write_all(&mut self.wire, b"QUIT\r\n", limit).await;
            if sent.fault.is_none() {
                let _ = read_reply(&mut self.wire, &mut self.replies, limit).await;
                let _ = self.wire.shutdown().await;
            }
        };
        let _ = timeout(limit, farewell).await;
    }
}

/// Reads until a complete reply lies in `replies`.
async fn listen<R: AsyncRead + Unpin>(reader: &mut R, replies: &mut ReplyBuffer) -> Result<(), Fault> {
    let mut buf = [0; 1024];
    loop {
        let n = reader.read(&mut buf).await.map_err(|_| Fault::Lost)?;
        if n == 0 {
            return Err(Fault::Lost);
        }
        let octets = buf.get(..n).unwrap_or_default();
        replies.feed(octets);
        if octets.contains(&b'\n') || replies.is_full() {
            return Ok(());
        }
    }
}

/// Reads one reply from either half or the whole.
///
/// # Errors
/// [`Fault`].
pub(super) async fn read_reply<R: AsyncRead + Unpin>(
    reader: &mut R,
    replies: &mut ReplyBuffer,
    limit: Duration,
) -> Result<RawReply, Fault> {
    let reading = async {
        let mut buf = [0; 4096];
        loop {
            if let Some(reply) = replies.take().map_err(|e| Fault::Protocol(e.0))? {
                return Ok(reply);
            }
            let n = reader.read(&mut buf).await.map_err(|_| Fault::Lost)?;
            if n == 0 {
                return Err(Fault::Lost);
            }
            replies.feed(buf.get(..n).unwrap_or_default());
        }
    };
    timeout(limit, reading).await.unwrap_or(Err(Fault::Timeout))
}

/// Writes and flushes everything, each step within `stall`.
pub(super) async fn write_all<W: AsyncWrite + Unpin>(
    writer: &mut W,
    octets: &[u8],
    stall: Duration,
) -> Written {
    let mut written = 0;
    let fault = write_counted(writer, octets, stall, &mut written, None).await.err();
    Written { octets: written, fault }
}

async fn write_counted<W: AsyncWrite + Unpin>(
    writer: &mut W,
    octets: &[u8],
    stall: Duration,
    written: &mut usize,
    mark: Option<&Mark<'_>>,
) -> Result<(), Fault> {
    while let Some(rest) = octets.get(*written..).filter(|r| !r.is_empty()) {
        match timeout(stall, writer.write(rest)).await {
            Err(_) => return Err(Fault::Timeout),
            Ok(Err(_) | Ok(0)) => return Err(Fault::Lost),
            Ok(Ok(n)) => *written += n,
        }
        if let Some(mark) = mark.filter(|m| *written > m.after) {
            mark.passed.store(true, Ordering::Release);
        }
    }
    match timeout(stall, writer.flush()).await {
        Err(_) => Err(Fault::Timeout),
        Ok(Err(_)) => Err(Fault::Lost),
        Ok(Ok(())) => Ok(()),
    }
}
