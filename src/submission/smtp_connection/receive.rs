//! The content of a message: received within its deadlines, spooled, handed on.

use std::io;
use std::sync::Arc;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tracing::info;

use super::super::accept::Who;
use super::super::content::{Received, Spool};
use super::super::fixup::Refused;
use super::super::metrics::{Reply, Stage};
use super::{Connection, End, Input};
use crate::mail::trace::With;
use crate::observe::fields;
use crate::smtp::Answer;
use crate::smtp::data::{Limits, Progress, Receiver};

impl Connection<'_> {
    /// Receives content and hands it on; `Some` ends the conversation.
    pub(super) async fn content<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        io: &mut S,
    ) -> io::Result<Option<End>> {
        let utf8 = self.session.declared_smtputf8();
        let Some(envelope) = self.session.take_envelope() else { return Ok(None) };
        let mut receiver = Receiver::new(Limits::new(self.service.settings.max_message_size));
        let mut spool = Ok(Spool::default());
        let started = Instant::now();
        let (mut last, mut closing) = (started, None);
        loop {
            if self.input.is_empty() {
                let rate = f64::from(self.timers.data_rate.max(1));
                #[expect(clippy::cast_precision_loss, reason = "a deadline need not be exact")]
                let earned = std::time::Duration::from_secs_f64(receiver.raw() as f64 / rate);
                let slow = started + self.timers.data_grace + earned;
                let by = slow.min(last + self.timers.idle).min(closing.unwrap_or(self.end));
                let input = if closing.is_some() {
                    self.read_closing(io, by).await?
                } else {
                    self.read(io, by).await?
                };
                match input {
                    Input::Some => last = Instant::now(),
                    // DUR-04: without the end nothing is stored.
                    Input::End => return Ok(Some(End::Gone)),
                    Input::Closing => closing = Some(Instant::now() + self.timers.close),
                    Input::TooLate => {
                        self.last_word(match closing {
                            Some(_) => Answer::new(421, 3, 2, "shutting down"),
                            None => Answer::new(421, 4, 2, "timeout"),
                        });
                        return Ok(Some(End::Aborted));
                    }
                }
                continue;
            }
            let mut dropped = Vec::new();
            let sink = spool.as_mut().map_or(&mut dropped, |s| s.sink(receiver.in_header()));
            match receiver.feed(&self.input, sink) {
                Progress::More => self.input.clear(),
                Progress::End(n) => {
                    self.input.advance(n);
                    break;
                }
                Progress::TooMuch => {
                    self.refused(421);
                    self.last_word(Answer::new(421, 3, 4, "the message is far too big"));
                    return Ok(Some(End::Aborted));
                }
            }
            if spool.as_ref().is_ok_and(Spool::must_flush) {
                spool = self.blocking(spool, |mut s, dir| s.flush(dir).map(|()| s)).await;
            }
        }
        let result = match receiver.finish() {
            Err(answer) => {
                let user = self.user.as_ref().map(|u| u.name.as_str()).unwrap_or_default();
                info!(event = "refused", stage = "content", session = self.session.id(), client = %self.peer, user,
                      reply = &*fields::shown_text(&answer.text), code = answer.code);
                self.refused(answer.code);
                Err(answer)
            }
            Ok(scan) => match self.blocking(spool, move |s, dir| s.finish(scan, dir)).await {
                Err(e) => {
                    let answer = not_spooled(&e);
                    self.refused(answer.code);
                    Err(answer)
                }
                Ok(content) => self.accept(envelope, content, utf8).await.map_err(Answer::from),
            },
        };
        self.session.content_done(result, &mut self.out);
        Ok(None)
    }

    /// Counts a message that never came to the door.
    fn refused(&self, code: u16) {
        self.service.metrics().refusals.count((Stage::Content, Reply::of(code)));
    }

    async fn accept(
        &self,
        envelope: crate::mail::Envelope,
        content: Received,
        utf8: bool,
    ) -> Result<crate::mail::QueueId, Refused> {
        let (helo, extended) = self.session.helo();
        let who = Who {
            client: self.peer,
            helo: helo.to_owned(),
            with: With { extended, tls: self.tls.is_some(), authenticated: self.user.is_some(), utf8 },
            tls: self.tls.clone(),
            user: self.user.clone(),
            session: self.session.id().to_owned(),
        };
        self.service.acceptor.accept(envelope, content, who).await
    }

    /// Runs file work where it may block; small content never needs it.
    async fn blocking<T: Send + 'static>(
        &self,
        spool: io::Result<Spool>,
        work: impl FnOnce(Spool, &std::path::Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let spool = spool?;
        if spool.is_small() {
            return work(spool, &self.service.settings.data_dir);
        }
        let settings = Arc::clone(&self.service.settings);
        tokio::task::spawn_blocking(move || work(spool, &settings.data_dir))
            .await
            .map_err(io::Error::other)?
    }
}

fn not_spooled(error: &io::Error) -> Answer {
    tracing::error!(event = "temporary-file-failed", %error);
    if error.kind() == io::ErrorKind::StorageFull {
        Answer::new(452, 3, 1, "not enough disk space, try again later")
    } else {
        Answer::new(451, 3, 0, "cannot store the message now")
    }
}
