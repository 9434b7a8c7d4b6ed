//! Messages on their way in: content cut into rows, the large ones ahead of their envelope (DUR-01, DUR-02).

use std::sync::Arc;

use bytes::Bytes;
use rusqlite::Connection;
use tokio::sync::OwnedSemaphorePermit;

use super::SqliteStore;
use super::depth::Standing;
use super::inbox::{Inbox, Lane};
use super::rows::{PLACES, code, key, number};
use super::writer::{Fault, Tx};
use crate::clock::Timestamp;
use crate::mail::{Domain, EnvelopeRecipient, Ret};
use crate::queue::{
    CONTENT_PART, ClaimTerms, ContentSource, Enqueued, Lease, LeaseId, LeasedRecipient, MAX_TRANSACTION,
    MessageMeta, NewMessage, RecipientState, StoreError,
};

/// Content larger than this is committed ahead of its envelope, in slices of this size, so that no job holds the
/// writer for long. A multiple of [`CONTENT_PART`].
pub(super) const SLICE: usize = 8 * CONTENT_PART;

/// Marks content as being on its way in. Dropped with the last job that holds it; what was stored and found no
/// message is then deleted.
struct Upload(i64, Arc<Inbox>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.1.end_upload(self.0);
    }
}

/// A message with everything that takes time already done, so that the job is only inserts.
pub(super) struct Prepared {
    message: NewMessage,
    meta: Arc<MessageMeta>,
    sender: String,
    content: Slice,
    upload: Option<Arc<Upload>>,
}

/// Slices read back from files that may lie in memory at once, so that five hundred large messages that end together
/// take no more of it than four (LIM-02).
pub(super) const SLICES: usize = 4;

/// A piece of content in rows.
#[derive(Default)]
struct Slice {
    parts: Vec<Bytes>,
    /// One of [`SLICES`], where the octets were read back for the purpose.
    _place: Option<OwnedSemaphorePermit>,
}

/// Reads what there is from `offset` on, at most a slice, in parts.
fn read_slice(source: &dyn ContentSource, mut offset: u64) -> Result<Vec<Bytes>, StoreError> {
    let mut parts = Vec::new();
    while parts.len() < SLICE / CONTENT_PART && offset < source.len() {
        let want = source.len().saturating_sub(offset).min(CONTENT_PART as u64);
        let mut buf = vec![0; usize::try_from(want).unwrap_or(CONTENT_PART)];
        let mut filled = 0;
        while let Some(rest) = buf.get_mut(filled..).filter(|r| !r.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            match source.read_at(at, rest).map_err(|e| StoreError::Content(e.to_string()))? {
                0 => return Err(StoreError::Content("it ended early".to_owned())),
                n => filled += n,
            }
        }
        offset += want;
        parts.push(Bytes::from(buf));
    }
    Ok(parts)
}

/// Content that lies in memory is cut without copying.
fn cut(bytes: &Bytes) -> Vec<Bytes> {
    (0..bytes.len())
        .step_by(CONTENT_PART)
        .map(|at| bytes.slice(at..bytes.len().min(at.saturating_add(CONTENT_PART))))
        .collect()
}

fn insert_part(conn: &Connection, seq: i64, part: u32, bytes: &[u8]) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO content (id, bytes) VALUES (?1, ?2)")?
        .execute((key(seq, part), bytes))
        .map(|_| ())
}

impl SqliteStore {
    async fn read_slice_aside(
        &self,
        source: &Arc<dyn ContentSource>,
        offset: u64,
    ) -> Result<Slice, StoreError> {
        let place = Arc::clone(&self.slices).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let source = Arc::clone(source);
        let parts = tokio::task::spawn_blocking(move || read_slice(&*source, offset))
            .await
            .unwrap_or_else(|e| Err(StoreError::Content(e.to_string())))?;
        Ok(Slice { parts, _place: Some(place) })
    }

    /// Does everything for a message that can be done ahead of the commit that makes it one.
    pub(super) async fn prepare(&self, message: NewMessage) -> Result<Prepared, StoreError> {
        let size = message.content.len();
        let fits = size.div_ceil(CONTENT_PART as u64) < u64::from(PLACES)
            && u32::try_from(message.envelope.recipients.len()).is_ok_and(|n| n < PLACES);
        if !fits || message.envelope.recipients.is_empty() {
            return Err(StoreError::Content("no recipients, or more than the store can number".to_owned()));
        }
        let (content, upload) = if size > SLICE as u64 {
            (Slice::default(), Some(self.upload(&message.content).await?))
        } else if let Some(bytes) = message.content.in_memory() {
            (Slice { parts: cut(&bytes), _place: None }, None)
        } else {
            (self.read_slice_aside(&message.content, 0).await?, None)
        };
        let envelope = &message.envelope;
        let meta = Arc::new(MessageMeta {
            id: message.id,
            origin: message.origin,
            reverse_path: envelope.reverse_path.clone(),
            ret: envelope.ret,
            envid: envelope.envid.clone(),
            sender_tls: envelope.sender_tls,
            smtputf8: envelope.smtputf8,
            has_8bit: envelope.has_8bit,
            size,
            arrived: message.arrived,
            message_id: message.message_id.clone(),
        });
        Ok(Prepared { sender: envelope.reverse_path.to_string(), message, meta, content, upload })
    }

    /// All of `messages`, prepared. What we generate lies in memory, so no message here waits for the place of another.
    pub(super) async fn prepare_all(&self, messages: Vec<NewMessage>) -> Result<Vec<Prepared>, StoreError> {
        let mut all = Vec::with_capacity(messages.len());
        for message in messages {
            all.push(self.prepare(message).await?);
        }
        Ok(all)
    }

    /// Commits content in slices under a number that nothing refers to yet (DUR-01).
    async fn upload(&self, content: &Arc<dyn ContentSource>) -> Result<Arc<Upload>, StoreError> {
        let inbox = Arc::clone(&self.inbox);
        let upload = self
            .inbox
            .write(Lane::Work, move |tx| {
                let seq = tx.new_message();
                tx.conn.prepare_cached("INSERT INTO unused_content (seq) VALUES (?1)")?.execute([seq])?;
                inbox.begin_upload(seq);
                Ok(Arc::new(Upload(seq, Arc::clone(&inbox))))
            })
            .await?;
        let mut part: u32 = 0;
        loop {
            let slice = self.read_slice_aside(content, u64::from(part) * CONTENT_PART as u64).await?;
            let Some(count) = u32::try_from(slice.parts.len()).ok().filter(|n| *n > 0) else { break };
            let (first, held) = (part, Arc::clone(&upload));
            self.inbox
                .write(Lane::Work, move |tx| {
                    for (no, bytes) in (first..).zip(&slice.parts) {
                        insert_part(tx.conn, held.0, no, bytes)?;
                    }
                    Ok(())
                })
                .await?;
            part += count;
        }
        Ok(upload)
    }

    /// [`crate::queue::QueueStore::enqueue`].
    pub(super) async fn store_message(
        &self,
        message: NewMessage,
        claim: Option<ClaimTerms>,
    ) -> Result<Enqueued, StoreError> {
        let prepared = self.prepare(message).await?;
        self.inbox.write(Lane::Work, move |tx| insert(tx, &prepared, claim.as_ref())).await
    }
}

/// The inserts of one message.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    prepared: &Prepared,
    claim: Option<&ClaimTerms>,
) -> Result<Enqueued, Fault> {
    let Prepared { message, meta, .. } = prepared;
    if !message.content.is_wanted() {
        return Err(StoreError::Content("its sender was told that it is not stored".to_owned()).into());
    }
    if let Some(origin) = &message.origin_key {
        let new = tx
            .conn
            .prepare_cached("INSERT INTO origin_key (key) VALUES (?1) ON CONFLICT DO NOTHING")?
            .execute([origin])?;
        if new == 0 {
            return Ok(Enqueued { lease: None, already_there: true });
        }
    }
    let seq = insert_content(tx, prepared)?;
    let envelope = &message.envelope;
    tx.conn
        .prepare_cached(
            "INSERT INTO message (seq, id, origin, sender, ret, envid, smtputf8, has_8bit, size, arrived, message_id, \
             submitter, open, sender_tls) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(rusqlite::params![
            seq,
            message.id.as_bytes(),
            message.origin.as_str(),
            prepared.sender,
            envelope.ret.map(Ret::as_str),
            envelope.envid.as_ref().map(|e| e.as_encoded()),
            envelope.smtputf8,
            envelope.has_8bit,
            i64::try_from(meta.size).unwrap_or(i64::MAX),
            message.arrived.as_millis(),
            message.message_id,
            message.submitter,
            number(envelope.recipients.len()),
            envelope.sender_tls.as_str(),
        ])?;
    let mut lease = claim.and_then(|terms| {
        let domain = terms.domain.clone()?;
        Some((NewLease { id: tx.new_lease(), terms }, domain, Vec::new()))
    });
    for (no, recipient) in (0u32..).zip(&envelope.recipients) {
        let mine = lease
            .as_mut()
            .filter(|(_, domain, taken)| recipient.path.domain() == domain && taken.len() < MAX_TRANSACTION);
        match mine {
            Some((new, _, taken)) => {
                let due = new.next_attempt(tx.now, 1);
                insert_recipient(tx, seq, no, recipient, message.arrived, Some((new.id, due)))?;
                taken.push(LeasedRecipient {
                    no,
                    path: recipient.path.clone(),
                    notify: recipient.notify,
                    orcpt: recipient.orcpt.clone(),
                    attempts: 1,
                    next_attempt: due,
                    last: None,
                });
            }
            None => insert_recipient(tx, seq, no, recipient, message.arrived, None)?,
        }
    }
    let leased = lease.as_ref().map_or(0, |(_, _, taken)| taken.len());
    tx.came(Standing::delivering(), leased);
    let queued = Standing::of(RecipientState::Queued, None);
    tx.came(queued, envelope.recipients.len().saturating_sub(leased));
    let lease = lease.filter(|(_, _, taken)| !taken.is_empty()).map(|(new, domain, recipients)| Lease {
        id: LeaseId(new.id),
        message: Arc::clone(meta),
        domain,
        recipients,
        content: message.content.in_memory(),
    });
    Ok(Enqueued { lease, already_there: false })
}

/// Stores the content, or takes over what was stored ahead, and gives the message its number.
fn insert_content(tx: &mut Tx<'_>, prepared: &Prepared) -> Result<i64, Fault> {
    if let Some(upload) = &prepared.upload {
        let found =
            tx.conn.prepare_cached("DELETE FROM unused_content WHERE seq = ?1")?.execute([upload.0])?;
        return if found == 1 {
            Ok(upload.0)
        } else {
            Err(StoreError::Content("what was stored of it is gone".to_owned()).into())
        };
    }
    let seq = tx.new_message();
    for (no, bytes) in (0u32..).zip(&prepared.content.parts) {
        insert_part(tx.conn, seq, no, bytes)?;
    }
    Ok(seq)
}

/// A lease being made.
pub(super) struct NewLease<'a> {
    pub(super) id: i64,
    pub(super) terms: &'a ClaimTerms,
}

impl NewLease<'_> {
    /// What attempt number `attempts` presets (QUE-03).
    pub(super) fn next_attempt(&self, now: Timestamp, attempts: u32) -> Timestamp {
        now.after(self.terms.schedule.wait(attempts, rand::random()))
    }
}

fn insert_recipient(
    tx: &Tx<'_>,
    seq: i64,
    no: u32,
    recipient: &EnvelopeRecipient,
    arrived: Timestamp,
    lease: Option<(i64, Timestamp)>,
) -> rusqlite::Result<()> {
    let domain: &Domain = recipient.path.domain();
    let state = if lease.is_some() { RecipientState::Delivering } else { RecipientState::Queued };
    tx.conn
        .prepare_cached(
            "INSERT INTO recipient (id, domain, address, notify, orcpt, state, attempts, arrived, next_attempt, lease) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(rusqlite::params![
            key(seq, no),
            domain.as_str(),
            recipient.path.to_string(),
            recipient.notify.map(|n| n.to_string()),
            recipient.orcpt.as_ref().map(ToString::to_string),
            code(state),
            i64::from(lease.is_some()),
            arrived.as_millis(),
            lease.map_or(tx.now, |(_, due)| due).as_millis(),
            lease.map(|(id, _)| id),
        ])
        .map(|_| ())
}
