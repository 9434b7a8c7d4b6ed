//! From reports that are kept to receivers that have taken them. Each destination by itself (RPT-08).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{Inner, PAGE, Round, line};
use crate::clock::Timestamp;
use crate::mail::{
    Envelope, EnvelopeRecipient, ForwardPath, Mailbox, Notify, Origin, ReversePath, SenderTls,
};
use crate::observe::fields::shown_text;
use crate::queue::{NewMessage, StoreError};
use crate::tlsrpt::day::Day;
use crate::tlsrpt::message::{self, ReportMail};
use crate::tlsrpt::record::Rua;
use crate::tlsrpt::{DestinationState, DueDestination, Posted, ReportStoreError, Tried, Way};

/// What is in our own way is looked at again after this.
const OWN_OBSTACLE: Duration = Duration::from_secs(600);

impl Inner {
    /// Takes over what the queue has done, and hands it what is due.
    pub(super) async fn mail_round(&self) -> Round {
        let round = async {
            self.settle().await?;
            self.try_due(Way::Mail).await
        };
        round.await.map_err(|error| self.store_failed(&error))
    }

    /// Posts what is due.
    pub(super) async fn post_round(&self) -> Round {
        let now = self.parts.clock.now();
        self.memory().paused.retain(|_, (until, _)| *until > now);
        self.try_due(Way::Https).await.map_err(|error| self.store_failed(&error))
    }

    async fn settle(&self) -> Result<(), ReportStoreError> {
        loop {
            let settled = self.parts.store.settle_mail().await?;
            for mail in &settled {
                let state = if mail.accepted { DestinationState::Accepted } else { DestinationState::Failed };
                self.settings.metrics.tried(Way::Mail, state);
                let event = if mail.accepted { "report-accepted" } else { "report-failed" };
                tracing::info!(event, day = %mail.day, report_domain = %mail.domain, report_id = mail.report_id, destination = %shown_text(&mail.uri), reply = %shown_text(&mail.reply));
            }
            if settled.is_empty() {
                return Ok(());
            }
        }
    }

    async fn try_due(&self, way: Way) -> Result<(), ReportStoreError> {
        loop {
            let due = self.parts.store.destinations(way, self.parts.clock.now(), PAGE).await?;
            let last = due.len() < PAGE;
            stream::iter(due)
                .map(|destination| self.try_and_note(way, destination))
                .buffer_unordered(self.settings.parallel)
                .try_collect::<()>()
                .await?;
            if last {
                return Ok(());
            }
        }
    }

    async fn try_and_note(&self, way: Way, to: DueDestination) -> Result<(), ReportStoreError> {
        let tried = self.try_one(&to).await?;
        self.settings.metrics.tried(way, tried.state);
        let (day, domain, report_id) = (to.day, &to.domain, &to.report_id);
        let (destination, reply) = (shown_text(&to.uri), shown_text(&tried.reply));
        match tried.state {
            DestinationState::Queued => {
                tracing::info!(event = "report-sent", %day, report_domain = %domain, report_id, %destination, %reply, queue_id = %to.mail);
            }
            DestinationState::Accepted => {
                tracing::info!(event = "report-accepted", %day, report_domain = %domain, report_id, %destination, %reply);
            }
            DestinationState::Failed => {
                tracing::warn!(event = "report-failed", %day, report_domain = %domain, report_id, %destination, %reply);
            }
            DestinationState::Waiting => {
                tracing::info!(event = "report-deferred", %day, report_domain = %domain, report_id, %destination, %reply, next = ?tried.next);
            }
        }
        match self.parts.store.tried(to.id, tried).await {
            Ok(()) | Err(ReportStoreError::Unknown) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// One try.
    ///
    /// # Errors
    /// Of our own store or queue: the destination stays as it is.
    async fn try_one(&self, to: &DueDestination) -> Result<Tried, ReportStoreError> {
        let now = self.parts.clock.now();
        if !self.settings.enabled {
            let reply = "reports were switched off".to_owned();
            return Ok(ended(now, DestinationState::Failed, reply, false));
        }
        if let Some(reply) = self.too_late(to, now) {
            return Ok(ended(now, DestinationState::Failed, reply, false));
        }
        match Rua::parse(&to.uri) {
            Ok(Rua::Mail { to: receiver, .. }) => self.mail(to, receiver, now).await,
            Ok(Rua::Https { uri, .. }) => self.post(to, &uri, now).await,
            Err(why) => Ok(ended(now, DestinationState::Failed, why.to_string(), false)),
        }
    }

    /// Whether its time has run out, in words (RPT-87).
    fn too_late(&self, to: &DueDestination, now: Timestamp) -> Option<String> {
        if self.in_doubt() {
            return None;
        }
        match to.first {
            Some(first) if now.since(first) > self.settings.retry_for => {
                Some(format!("given up after {} tries; the last: {}", to.attempts, to.reply))
            }
            None if to.run == 0 && to.day < self.oldest(Day::of(now)) => {
                Some(format!("its day is too long ago; {}", to.reply))
            }
            _ => None,
        }
    }

    /// Hands a report to the queue, where it lives its own life (RPT-87).
    async fn mail(
        &self,
        to: &DueDestination,
        receiver: Mailbox,
        now: Timestamp,
    ) -> Result<Tried, ReportStoreError> {
        let waits = |why: String| Tried {
            at: now,
            state: DestinationState::Waiting,
            reply: why,
            next: Some(now.after(OWN_OBSTACLE)),
            counted: false,
        };
        let Some(from) = self.settings.from.clone().filter(|_| self.obstacle().is_none()) else {
            return Ok(waits(self.obstacle().unwrap_or_default()));
        };
        let mail = ReportMail {
            report_id: to.report_id.clone(),
            domain: to.domain.clone(),
            file_name: to.file_name.clone(),
            packed: self.octets(to).await?,
            from: from.clone(),
            to: receiver.clone(),
            hostname: self.settings.hostname.clone(),
            now,
            random: rand::random(),
        };
        let mut content = message::compose(&mail);
        let signature = self.parts.signers.sign(&content, now);
        if signature.is_empty() {
            return Ok(waits(format!("nothing signs for {}", from.domain())));
        }
        content.splice(0..0, signature);
        let message = envelope(to, from, receiver, content, now);
        match self.parts.mailer.mail(message).await {
            Ok(()) => Ok(ended(now, DestinationState::Queued, "handed to the queue".to_owned(), true)),
            Err(StoreError::Full) => Err(ReportStoreError::Full),
            Err(error) => Err(ReportStoreError::Failed(error.to_string())),
        }
    }

    /// One POST, or none where the receiver has just failed to take another report.
    async fn post(&self, to: &DueDestination, url: &str, now: Timestamp) -> Result<Tried, ReportStoreError> {
        let paused = self.memory().paused.get(&to.receiver).cloned();
        let posted = match paused {
            Some((until, said)) if until > now => Posted::Later {
                reply: format!("not asked again so soon: {said}"),
                after: Some(until.since(now)),
            },
            _ => {
                let posted = self.parts.poster.post(url, self.octets(to).await?).await;
                if let Posted::Later { reply, after } = &posted {
                    let pause = after.unwrap_or_default().max(self.settings.receiver_pause);
                    let mut memory = self.memory();
                    memory.paused.insert(to.receiver.clone(), (now.after(pause), line(reply)));
                }
                posted
            }
        };
        Ok(match posted {
            Posted::Accepted { reply } => ended(now, DestinationState::Accepted, line(&reply), true),
            Posted::Refused { reply } => ended(now, DestinationState::Failed, line(&reply), true),
            Posted::Later { reply, after } => {
                let wait = self.wait(to.attempts, self.settings.longest_wait).max(after.unwrap_or_default());
                let next = now.after(wait);
                if next.since(to.first.unwrap_or(now)) > self.settings.retry_for {
                    let reply =
                        format!("given up after {} tries; the last: {}", to.attempts + 1, line(&reply));
                    ended(now, DestinationState::Failed, reply, true)
                } else {
                    Tried {
                        at: now,
                        state: DestinationState::Waiting,
                        reply: line(&reply),
                        next: Some(next),
                        counted: true,
                    }
                }
            }
        })
    }

    async fn octets(&self, to: &DueDestination) -> Result<Bytes, ReportStoreError> {
        self.parts.store.octets(to.report).await?.ok_or(ReportStoreError::Unknown)
    }
}

const fn ended(at: Timestamp, state: DestinationState, reply: String, counted: bool) -> Tried {
    Tried { at, state, reply, next: None, counted }
}

/// The message around a report: of our own making, never answered by a DSN (RPT-86), and recognised when it comes
/// again.
fn envelope(
    to: &DueDestination,
    from: Mailbox,
    receiver: Mailbox,
    content: Vec<u8>,
    now: Timestamp,
) -> NewMessage {
    let header = content.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(content.len());
    let header = String::from_utf8_lossy(content.get(..header).unwrap_or_default()).into_owned();
    let message_id = header.lines().find_map(|l| l.strip_prefix("Message-ID:")).unwrap_or_default().trim();
    NewMessage {
        id: to.mail,
        origin: Origin::TlsReport,
        envelope: Envelope {
            smtputf8: receiver.needs_smtputf8() || from.needs_smtputf8(),
            has_8bit: !content.is_ascii(),
            reverse_path: ReversePath::Mailbox(from),
            recipients: vec![EnvelopeRecipient {
                path: ForwardPath::from(receiver),
                notify: Some(Notify::Never),
                orcpt: None,
            }],
            ret: None,
            envid: None,
            sender_tls: SenderTls::Optional,
        },
        message_id: message_id.to_owned(),
        submitter: "tls-rpt".to_owned(),
        arrived: now,
        content: Arc::new(Bytes::from(content)),
        origin_key: Some(format!("tlsrpt/{}/{}/{}", to.report_id, to.run, to.uri)),
    }
}
