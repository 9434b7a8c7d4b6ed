//! The door of the admin interface: how many may be inside, and for how long.
//!
//! HTTP libraries leave it to the caller to bound connections. Here a connection that does not send its request
//! head in time is closed, none lives longer than one request may take, and no more than a few are served at once;
//! the rest wait in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::http::Limits;

/// A listener that lets in [`Limits::connections`] at a time.
pub(super) struct Door {
    socket: TcpListener,
    places: Arc<Semaphore>,
    limits: Limits,
}

impl Door {
    pub(super) fn new(socket: TcpListener, limits: Limits) -> Self {
        Self { socket, places: Arc::new(Semaphore::new(limits.connections)), limits }
    }
}

impl Listener for Door {
    type Io = Guest;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Guest, SocketAddr) {
        // The semaphore is never closed; without a place nobody is let in.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.socket).await;
        let now = Instant::now();
        let guest = Guest {
            stream,
            _place: place,
            head: Head::default(),
            end: now + self.limits.head + self.limits.time + self.limits.head,
            until: Box::pin(tokio::time::sleep_until(now + self.limits.head)),
        };
        (guest, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// One connection, its place, and its deadline: at first that of the request's head, then that of everything.
pub(super) struct Guest {
    stream: TcpStream,
    _place: Option<OwnedSemaphorePermit>,
    head: Head,
    end: Instant,
    until: Pin<Box<Sleep>>,
}

impl Guest {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        if !self.head.seen {
            self.head.feed(buf.filled().get(before..).unwrap_or_default());
            if self.head.seen {
                let end = self.end;
                self.until.as_mut().reset(end);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guest {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether the empty line that ends a request's head has come, in whatever pieces.
#[derive(Debug, Default)]
struct Head {
    line_is_empty: bool,
    seen: bool,
}

impl Head {
    fn feed(&mut self, octets: &[u8]) {
        for octet in octets {
            match octet {
                b'\n' if self.line_is_empty => {
                    self.seen = true;
                    return;
                }
                b'\n' => self.line_is_empty = true,
                b'\r' => {}
                _ => self.line_is_empty = false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_head_is_found_in_any_pieces() {
        for (pieces, want) in [
            (&["GET / HTTP/1.1\r\nHost: a\r\n\r\n"][..], true),
            (&["GET / HTTP/1.1\r\nHost: a\r", "\n\r", "\n"], true),
            (&["GET / HTTP/1.1\n", "\n"], true),
            (&["GET / HTTP/1.1\r\nHost: a\r\n", "X: b\r\n"], false),
            (&["G", "E", "T"], false),
            (&[], false),
        ] {
            let mut head = Head::default();
            pieces.iter().for_each(|p| head.feed(p.as_bytes()));
            assert_eq!(head.seen, want, "{pieces:?}");
        }
    }
}
