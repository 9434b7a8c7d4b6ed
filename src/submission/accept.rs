//! The single door from outside: who may send, what the header must be, and the commit (`What always holds` 1).
//!
//! Between end of data and the reply there is no DNS, no policy and no delivery (SUB-45): only the header
//! fix-up and [`QueueStore::enqueue`].

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use super::content::{Received as Content, Spooled};
use super::fixup::{FixupContext, Refused, TlsRequired, fix_header, reencode_long_lines};
use super::metrics::{Reply, Stage, SubmissionMetrics};
use super::{Settings, User};
use crate::clock::{Clock, Timestamp};
use crate::config::room_needed;
use crate::dkim::Signers;
use crate::mail::trace::{Received, With};
use crate::mail::{Domain, EnhancedCode, Envelope, Origin, QueueId, ReversePath, SenderTls};
use crate::observe::fields;
use crate::queue::{ContentSource, Intake, NewMessage, QueueStore, StoreError};

/// LIM-30: more Received fields than this are a loop (RFC 5321 §6.3).
const MAX_HOPS: usize = 100;
/// LIM-30: more Received fields of our own than this are a loop.
const MAX_OWN_HOPS: usize = 5;
/// The longest line of a message, CRLF not included (RFC 5322 §2.1.1).
const MAX_LINE: u64 = 998;
/// Whole messages in memory at once, for re-encoding.
const REENCODING: usize = 2;

/// Lets messages into the queue. Cloning is cheap.
#[derive(Clone)]
pub struct Acceptor {
    settings: Arc<Settings>,
    store: Arc<dyn QueueStore>,
    intake: Arc<dyn Intake>,
    clock: Arc<dyn Clock>,
    reencoding: Arc<Semaphore>,
    signers: Signers,
    metrics: SubmissionMetrics,
}

/// Who hands a message in, and how.
#[derive(Debug, Clone)]
pub struct Who {
    /// The peer.
    pub client: IpAddr,
    /// The name in EHLO.
    pub helo: String,
    /// How it came, for the trace field.
    pub with: With,
    /// TLS version and cipher suite.
    pub tls: Option<String>,
    /// Who has authenticated.
    pub user: Option<Arc<User>>,
    /// The session, for the log.
    pub session: String,
}

/// Whether a message goes into the queue, settled once, by the commit or by the deadline (DUR-06).
#[derive(Debug, Clone, Default)]
struct Fate(Arc<AtomicU8>);

impl Fate {
    const STORING: u8 = 1;
    const GIVEN_UP: u8 = 2;

    fn settle(&self, as_what: u8) -> bool {
        let settled = self.0.compare_exchange(0, as_what, Ordering::AcqRel, Ordering::Acquire);
        settled.is_ok() || settled == Err(as_what)
    }
}

/// Content whose sender may have lost patience.
struct Tentative {
    content: Spooled,
    fate: Fate,
}

impl ContentSource for Tentative {
    fn len(&self) -> u64 {
        self.content.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.content.read_at(offset, buf)
    }

    fn in_memory(&self) -> Option<Bytes> {
        self.content.in_memory()
    }

    fn is_wanted(&self) -> bool {
        self.fate.settle(Fate::STORING)
    }
}

impl Acceptor {
    /// An acceptor over the given ports.
    pub fn new(
        settings: Arc<Settings>,
        store: Arc<dyn QueueStore>,
        intake: Arc<dyn Intake>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let reencoding = Arc::new(Semaphore::new(REENCODING));
        let (signers, metrics) = (Signers::default(), SubmissionMetrics::default());
        Self { settings, store, intake, clock, reencoding, signers, metrics }
    }

    /// Signs what it accepts with these keys (SIG-08).
    pub fn signing(self, signers: Signers) -> Self {
        Self { signers, ..self }
    }

    /// Counts what comes in, and what is refused.
    pub fn counting(self, metrics: SubmissionMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where the listeners count.
    pub(super) const fn metrics(&self) -> &SubmissionMetrics {
        &self.metrics
    }

    /// What it was built with.
    pub const fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Whether the store takes commits (DUR-06, DUR-13).
    pub fn writable(&self) -> bool {
        self.store.health().writable
    }

    /// Whether `user` may begin a message from `path` now.
    ///
    /// # Errors
    /// 452 4.3.1 without room on the disk (DUR-11), 550 5.7.1 for a sender that is not the user's (SUB-25).
    pub fn sender(&self, user: Option<&User>, path: &ReversePath) -> Result<(), Refused> {
        self.room()?;
        match user {
            Some(user) if !user.may_send_as(path) => {
                Err(refused(550, (7, 1), "this user may not use this sender address"))
            }
            _ => Ok(()),
        }
    }

    /// Accepts a message: `Ok` means that it is committed and synced (DUR-01).
    ///
    /// The message counts as accepted even if the caller goes away meanwhile (DUR-05).
    ///
    /// # Errors
    /// The reply that refuses it; nothing was stored and nothing will be, unless the commit itself hangs.
    pub async fn accept(&self, envelope: Envelope, content: Content, who: Who) -> Result<QueueId, Refused> {
        let (session, client) = (who.session.clone(), who.client);
        let deadline = self.settings.timers.accept;
        let this = self.clone();
        // A task of its own: neither a lost connection nor the deadline may cut a commit from what follows it.
        let fate = Fate::default();
        let of_task = fate.clone();
        let mut task = tokio::spawn(async move { this.enqueue(envelope, content, who, of_task).await });
        let mut answer = tokio::time::timeout(deadline, &mut task).await;
        if answer.is_err() && !fate.settle(Fate::GIVEN_UP) {
            // The commit has begun: its answer is the truth.
            answer = tokio::time::timeout(deadline, &mut task).await;
        }
        let result = match answer {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => {
                error!(event = "accept-failed", %session, error = %panic);
                Err(refused(451, (3, 0), "internal error"))
            }
            Err(_) => {
                // Only a commit that hangs can still come now, and then the client's repeat is a second copy: the
                // choice of RFC 1047, a duplicate rather than a loss.
                warn!(event = "accept-slow", %session, limit = ?deadline);
                Err(refused(451, (3, 0), "storing the message takes too long"))
            }
        };
        if let Err(r) = &result {
            info!(event = "refused", stage = "content", %session, %client, code = r.code, enhanced = %r.enhanced, text = &*fields::shown_text(&r.text));
            self.metrics.refusals.count((Stage::Content, Reply::of(r.code)));
        }
        result
    }

    async fn enqueue(
        &self,
        mut envelope: Envelope,
        content: Content,
        who: Who,
        fate: Fate,
    ) -> Result<QueueId, Refused> {
        self.room()?;
        let now = self.clock.now();
        let id = queue_id(now);
        let only_recipient = match envelope.recipients.as_slice() {
            [only] => Some(only.path.to_string()),
            _ => None,
        };
        let received = Received {
            helo: &who.helo,
            client: who.client,
            by: &self.settings.hostname,
            with: who.with,
            id,
            tls: who.tls.as_deref(),
            only_recipient: only_recipient.as_deref(),
            at: now,
        }
        .render();
        let context = FixupContext {
            hostname: &self.settings.hostname,
            reverse_path: &envelope.reverse_path,
            authenticated: who.user.is_some(),
            allowed_senders: who.user.as_ref().map_or(&[], |u| u.allowed_senders.as_slice()),
            smtputf8_declared: who.with.utf8,
            now,
            random: rand::random(),
            received: &received,
        };
        let fixed = fix_header(content.header(), &context)?;
        if fixed.received_count > MAX_HOPS || fixed.received_by_us > MAX_OWN_HOPS {
            return Err(refused(554, (4, 6), "too many hops: this message is in a loop"));
        }
        let scan = content.scan;
        envelope.smtputf8 |= fixed.needs_smtputf8;
        // RFC 8689 §4.1: the parameter outranks the header (RTLS-05).
        match fixed.tls_required {
            TlsRequired::No if envelope.sender_tls == SenderTls::Unsaid => {
                envelope.sender_tls = SenderTls::Optional;
            }
            TlsRequired::Malformed => {
                info!(event = "tls-required-ignored", queue_id = %id, session = %who.session, "a TLS-Required field that does not say No");
            }
            TlsRequired::No | TlsRequired::Absent => {}
        }
        let sender_tls = envelope.sender_tls.as_str().unwrap_or_default();
        envelope.has_8bit = scan.body_8bit || !fixed.bytes.is_ascii();
        let mut content = content.with_header(fixed.bytes);
        if scan.longest_line > MAX_LINE {
            (content, envelope.has_8bit) = self.reencode(content).await?;
        }
        // SIG-08: the last change; from here on nobody touches an octet.
        let (content, signed_by) = self.sign(content, now).await?;
        let (size, recipients) = (content.len(), envelope.recipients.len());
        let sender = envelope.reverse_path.to_string();
        let user = who.user.as_ref().map(|u| u.name.clone());
        let message = NewMessage {
            id,
            origin: Origin::Submitted,
            message_id: fixed.message_id.clone(),
            submitter: user.clone().unwrap_or_else(|| who.client.to_canonical().to_string()),
            arrived: now,
            content: Arc::new(Tentative { content, fate }),
            origin_key: None,
            envelope,
        };
        let permit = self.intake.permit(&message.envelope);
        let claim = permit.as_ref().map(|p| self.intake.terms(p));
        let stored = self.store.enqueue(message, claim).await.map_err(|e| self.not_stored(&e, &who))?;
        self.intake.arrived(permit, stored.lease);
        info!(
            event = "accepted", queue_id = %id, message_id = %fixed.message_id, sender = &*fields::shown_address(&sender), recipients, size,
            client = %who.client, user = user.as_deref(), tls = who.tls.as_deref(), sender_tls, session = %who.session,
            dkim = signed_by.as_ref().map_or("none", Domain::as_str),
        );
        self.metrics.accepted.count(());
        self.metrics.octets.add((), size);
        Ok(id)
    }

    /// Signs with the keys for the domain of the author, and says which signed. Where there is none, the message goes
    /// as it is: that is no fault of it (SIG-13). Large content is read back piece by piece, off the runtime.
    async fn sign(&self, content: Spooled, now: Timestamp) -> Result<(Spooled, Option<Domain>), Refused> {
        if self.signers.keys().is_empty() {
            return Ok((content, None));
        }
        if content.in_memory().is_some() {
            return content.signed(&self.signers, now).map_err(broken);
        }
        let signers = self.signers.clone();
        let work = move || content.signed(&signers, now).map_err(broken);
        tokio::task::spawn_blocking(work).await.map_err(|_| refused(451, (3, 0), "internal error"))?
    }

    /// SIG-18: brings lines under the limit. The whole message lies in memory meanwhile, so few do this at once.
    async fn reencode(&self, content: Spooled) -> Result<(Spooled, bool), Refused> {
        let closed = || refused(451, (3, 0), "shutting down");
        let permit = Arc::clone(&self.reencoding).acquire_owned().await.map_err(|_| closed())?;
        let dir = self.settings.data_dir.clone();
        let work = move || {
            let _permit = permit;
            let fixed = reencode_long_lines(&content.load().map_err(broken)?)?;
            let has_8bit = !fixed.is_ascii();
            Ok((Spooled::store(fixed, &dir).map_err(broken)?, has_8bit))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| refused(451, (3, 0), "internal error"))?
    }

    /// DUR-11: mail is accepted only while the disk has room for it and for what delivery will write.
    fn room(&self) -> Result<(), Refused> {
        let needed = room_needed(self.settings.reserve, self.settings.max_message_size);
        if self.store.health().free > needed { Ok(()) } else { Err(disk_full()) }
    }

    fn not_stored(&self, error: &StoreError, who: &Who) -> Refused {
        error!(event = "not-stored", session = %who.session, %error);
        match error {
            StoreError::Full => disk_full(),
            StoreError::Busy => refused(451, (3, 0), "the queue is busy"),
            StoreError::LeaseLost | StoreError::Content(_) | StoreError::Broken(_) | StoreError::Closed => {
                refused(451, (3, 0), "the queue cannot store the message")
            }
        }
    }
}

/// A refusal in the class of `code`.
pub fn refused(code: u16, (subject, detail): (u16, u16), text: &str) -> Refused {
    let class = if code < 500 { 4 } else { 5 };
    Refused { code, enhanced: EnhancedCode::new(class, subject, detail), text: text.to_owned() }
}

/// 451: a temporary file failed.
fn broken(error: io::Error) -> Refused {
    error!(event = "temporary-file-failed", %error);
    refused(451, (3, 0), "cannot read the message back")
}

fn disk_full() -> Refused {
    refused(452, (3, 1), "not enough disk space, try again later")
}

/// A UUIDv7 (RFC 9562 §5.7) of our own clock's time.
fn queue_id(now: Timestamp) -> QueueId {
    let ms = u64::try_from(now.as_millis()).unwrap_or(0);
    QueueId::from_bytes(
        uuid::Builder::from_unix_timestamp_millis(ms, &rand::random()).into_uuid().into_bytes(),
    )
}

#[cfg(test)]
pub(super) mod tests;
