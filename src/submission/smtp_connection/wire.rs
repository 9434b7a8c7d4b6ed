//! Reads and writes of a connection, each with its deadline and its bound.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Connection, End, Input};
use crate::smtp::Answer;
use crate::smtp::session::Step;

/// Octets asked for in one read.
const READ: usize = 16 * 1024;

/// Octets read and dropped after an abort.
const MAX_LINGER: usize = 256 * 1024;

impl Connection<'_> {
    /// Sends what waits (RFC 2920 §3.2: whenever there is no more input at hand), then reads.
    pub(super) async fn read<S>(&mut self, io: &mut S, by: Instant) -> io::Result<Input>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.flush(io).await?;
        let close = self.close;
        tokio::select! {
            biased;
            input = self.read_closing(io, by) => input,
            () = close.cancelled() => Ok(Input::Closing),
        }
    }

    /// The same, when closing has begun.
    pub(super) async fn read_closing<S>(&mut self, io: &mut S, by: Instant) -> io::Result<Input>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.flush(io).await?;
        self.input.reserve(READ);
        match timeout_at(by.min(self.end), io.read_buf(&mut self.input)).await {
            Err(_) => Ok(Input::TooLate),
            Ok(Ok(0)) => Ok(Input::End),
            Ok(Ok(_)) => Ok(Input::Some),
            // TLS without close_notify.
            Ok(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(Input::End),
            Ok(Err(e)) => Err(e),
        }
    }

    pub(super) fn last_word(&mut self, answer: Answer) -> Step {
        self.session.say(&answer, &mut self.out);
        Step::Abort
    }

    pub(super) async fn flush<S: AsyncWrite + Unpin>(&mut self, io: &mut S) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        timeout(self.timers.write, async {
            io.write_all(&self.out).await?;
            io.flush().await
        })
        .await??;
        self.out.clear();
        Ok(())
    }

    /// Says the last words and closes: close_notify inside TLS (SUB-13), then FIN.
    pub(super) async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
        end: End,
    ) -> io::Result<()> {
        self.flush(io).await?;
        timeout(self.timers.write, io.shutdown()).await??;
        if end == End::Aborted {
            // Closing with unread input resets the connection, and the reset may overtake our reply.
            let by = Instant::now() + self.timers.linger;
            let mut read = 0;
            while read < MAX_LINGER {
                self.input.clear();
                self.input.reserve(READ);
                match timeout_at(by, io.read_buf(&mut self.input)).await {
                    Ok(Ok(n)) if n > 0 => read += n,
                    _ => break,
                }
            }
        }
        Ok(())
    }
}
