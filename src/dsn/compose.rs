//! [`compose()`]: a notification as a message that is ready for the queue.

use std::sync::Arc;

use bytes::Bytes;

use super::{mime, words};
use crate::clock::Timestamp;
use crate::mail::{
    Domain, Envelope, EnvelopeRecipient, ForwardPath, Notify, Origin, QueueId, ReversePath, SenderTls,
};
use crate::queue::{Diagnosis, LeasedRecipient, MessageMeta, NewMessage};

/// What all notifications of this relay share.
#[derive(Debug, Clone)]
pub struct DsnSettings {
    /// Our host name: Reporting-MTA, and the domain of MAILER-DAEMON.
    pub hostname: Domain,
    /// The most octets of the original that come back; a larger one comes back as its header (DSN-07).
    pub max_returned: u64,
}

impl DsnSettings {
    /// 50 kB.
    pub const MAX_RETURNED: u64 = 50_000;

    /// The defaults, for a relay of this name.
    pub const fn new(hostname: Domain) -> Self {
        Self { hostname, max_returned: Self::MAX_RETURNED }
    }
}

/// What is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsnKind {
    /// No further attempt is made.
    Failed,
    /// Delivery goes on.
    Delayed {
        /// When the lifetime of the message ends.
        retry_until: Timestamp,
        /// Further messages of this sender to the domain that wait for the same cause.
        also_waiting: u64,
    },
    /// A host without DSN took the message (RFC 3461 §5.2.2 b).
    Relayed,
}

/// A recipient that is reported.
#[derive(Debug, Clone, Copy)]
pub struct Reported<'a> {
    /// The recipient.
    pub recipient: &'a LeasedRecipient,
    /// Its last attempt.
    pub diagnosis: &'a Diagnosis,
    /// The lifetime ended: the action is `failed`, the status the last transient one (DSN-09).
    pub expired: bool,
    /// The word of the [`crate::queue::DeferReason`], also of what waited until its lifetime ended; or the reason of failure.
    pub cause: &'a str,
}

/// What there is of the original.
#[derive(Debug, Clone, Copy)]
pub struct Original<'a> {
    /// Its header section; an empty line at its end is ignored.
    pub header: &'a [u8],
    /// All of it, when at hand.
    pub full: Option<&'a [u8]>,
}

/// What only the caller can know.
#[derive(Debug, Clone, Copy)]
pub struct DsnContext<'a> {
    /// The settings.
    pub settings: &'a DsnSettings,
    /// The queue id of the notification; its Message-ID is made of it.
    pub id: QueueId,
    /// Now.
    pub now: Timestamp,
    /// For the boundary; never the same twice.
    pub random: u128,
}

/// Writes the notification about `reported`, all of one message and, but for delays, of one transaction.
///
/// The caller has asked [`super::notify`] about each of them. The result goes from the null sender to the
/// sender of `message`; were that the null sender, it would have no recipient and must not be enqueued.
pub fn compose(
    kind: DsnKind,
    message: &MessageMeta,
    reported: &[Reported<'_>],
    original: Original<'_>,
    ctx: &DsnContext<'_>,
) -> NewMessage {
    let human = words::human_part(kind, message, reported, ctx);
    let status = mime::delivery_status(kind, message, reported, ctx);
    let returned = mime::Returned::choose(kind, message, original, ctx.settings.max_returned);
    let boundary = mime::boundary(ctx.random, [human.as_bytes(), status.as_bytes(), returned.octets]);
    let message_id = format!("<{}@{}>", ctx.id, ctx.settings.hostname);

    let mut content = header(kind, message, &message_id, &boundary, returned.has_8bit(), ctx).into_bytes();
    content.extend_from_slice(&mime::body(&boundary, &human, &status, &returned));

    let smtputf8 = message.reverse_path.mailbox().is_some_and(crate::mail::Mailbox::needs_smtputf8);
    let recipients = message.reverse_path.mailbox().map(|sender| EnvelopeRecipient {
        path: ForwardPath::from(sender.clone()),
        notify: Some(Notify::Never),
        orcpt: None,
    });
    NewMessage {
        id: ctx.id,
        origin: Origin::Dsn,
        envelope: Envelope {
            reverse_path: ReversePath::Null,
            recipients: recipients.into_iter().collect(),
            ret: None,
            envid: None,
            // RFC 8689 §5, §6: protected as the message was, or let through as it was (RTLS-40, RTLS-43).
            sender_tls: message.sender_tls,
            smtputf8,
            has_8bit: !content.is_ascii(),
        },
        message_id,
        submitter: String::new(),
        arrived: ctx.now,
        content: Arc::new(Bytes::from(content)),
        origin_key: None,
    }
}

/// The notification's own header section (RFC 3834 §3, RFC 6522 §3), with its empty line.
fn header(
    kind: DsnKind,
    message: &MessageMeta,
    message_id: &str,
    boundary: &str,
    has_8bit: bool,
    ctx: &DsnContext<'_>,
) -> String {
    let mut out = String::new();
    let hostname = &ctx.settings.hostname;
    mime::field(&mut out, "Date", &ctx.now.to_rfc5322());
    mime::field(&mut out, "From", &format!("\"Mail Delivery System\" <MAILER-DAEMON@{hostname}>"));
    mime::field(&mut out, "To", &format!("<{}>", message.reverse_path));
    mime::field(&mut out, "Subject", words::subject(kind));
    mime::field(&mut out, "Message-ID", message_id);
    if is_message_id(&message.message_id) {
        mime::field(&mut out, "In-Reply-To", &message.message_id);
        mime::field(&mut out, "References", &message.message_id);
    }
    mime::field(&mut out, "Auto-Submitted", "auto-replied");
    if message.sender_tls == SenderTls::Optional {
        mime::field(&mut out, "TLS-Required", "No");
    }
    mime::field(&mut out, "MIME-Version", "1.0");
    out.push_str("Content-Type: multipart/report; report-type=delivery-status;\r\n");
    out.push_str(&format!("\tboundary=\"{boundary}\"\r\n"));
    if has_8bit {
        out.push_str("Content-Transfer-Encoding: 8bit\r\n");
    }
    out.push_str("\r\n");
    out
}

/// Whether the original's Message-ID can stand in our header as it is (RFC 5322 §3.6.4).
fn is_message_id(id: &str) -> bool {
    let inner = id.strip_prefix('<').and_then(|i| i.strip_suffix('>'));
    inner.is_some_and(|i| {
        i.len() <= 900
            && i.contains('@')
            && i.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b',' | b'(' | b')'))
    })
}

#[cfg(test)]
mod tests;
