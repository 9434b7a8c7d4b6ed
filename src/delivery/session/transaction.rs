//! One mail transaction: MAIL, RCPT…, DATA, content, and the reply that decides (RFC 5321 §3.3, RFC 2920).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::delivery::reply_reader::{RawReply, ReplyBuffer};
use crate::delivery::transcript::{Fault, Transcript};
use crate::delivery::wire_form::{DotStuffer, Mail, Rcpt, TERMINATOR, mail_command, rcpt_command};
use crate::mail::QueueId;
use crate::queue::outcome::Stage;
use crate::queue::{QueueStore, StoreError};
use crate::security::verdict::Clearance;

use super::wire::{Mark, read_reply, write_all};
use super::{Session, State, Timers};

/// Stuffed content is written in pieces of about this size.
const PIECE: usize = 64 * 1024;

/// Where the content of a message comes from.
#[derive(Clone)]
pub enum Content {
    /// It is at hand.
    Memory(Bytes),
    /// It is read part by part.
    Stored(Arc<dyn QueueStore>, QueueId),
}

impl Content {
    /// Octets that came from elsewhere may have been lost there; what is at hand came with the envelope.
    const fn is_whole(&self, octets: u64, size: u64) -> bool {
        matches!(self, Self::Memory(_)) || octets == size
    }

    async fn part(&self, no: u32) -> Result<Option<Bytes>, Fault> {
        match self {
            Self::Memory(bytes) => Ok((no == 0).then(|| bytes.clone())),
            Self::Stored(store, id) => store.content(*id, no).await.map_err(|e| {
                let words = format!("reading the message from the queue failed: {e}");
                match e {
                    StoreError::Full | StoreError::Busy | StoreError::Closed => Fault::Local(words),
                    StoreError::LeaseLost | StoreError::Content(_) | StoreError::Broken(_) => {
                        Fault::Damaged(words)
                    }
                }
            }),
        }
    }
}

impl Session {
    /// Sends one message to some recipients. The clearance is what makes MAIL possible at all.
    ///
    /// Never fails: everything that happens is in the transcript. `dot` is raised with the first octet of the
    /// terminator (OUT-45), for whoever outlives a transaction that is cut off.
    pub async fn mail(
        &mut self,
        cleared: &Clearance,
        mail: &Mail<'_>,
        rcpts: &[Rcpt<'_>],
        content: &Content,
        timers: &Timers,
        dot: &AtomicBool,
    ) -> Transcript {
        self.transactions = self.transactions.saturating_add(1);
        self.state = State::Unfinished;
        let mut t = Transcript { rcpt: vec![None; rcpts.len()], ..Transcript::default() };
        match self.commands(cleared, mail, rcpts) {
            Ok(commands) if self.ehlo.pipelining => self.pipelined(&commands, &mut t, timers).await,
            Ok(commands) => self.lock_step(&commands, &mut t, timers).await,
            Err(fault) => t.fault = Some((Stage::Local, fault)),
        }
        if t.fault.is_none() {
            self.content(content, mail.size, &mut t, timers, dot).await;
        }
        if t.fault.is_some() {
            self.state = State::Dead;
        }
        t
    }

    fn commands(
        &self,
        cleared: &Clearance,
        mail: &Mail<'_>,
        rcpts: &[Rcpt<'_>],
    ) -> Result<Vec<String>, Fault> {
        let damaged = |_| Fault::Damaged("a stored address is damaged and cannot be sent".to_owned());
        let mut commands = vec![mail_command(mail, &self.ehlo, cleared.requiretls()).map_err(damaged)?];
        for rcpt in rcpts {
            commands.push(rcpt_command(rcpt, mail, &self.ehlo).map_err(damaged)?);
        }
        commands.push("DATA\r\n".to_owned());
        Ok(commands)
    }

    /// All commands in one group; replies are read while the commands are still being written (RFC 2920 §3.1).
    async fn pipelined(&mut self, commands: &[String], t: &mut Transcript, timers: &Timers) {
        let group = commands.concat();
        let stalled = {
            let (mut reader, mut writer, replies) = self.line.split();
            let writing = write_all(&mut writer, group.as_bytes(), timers.block);
            let reading = read_group(&mut reader, replies, t, timers);
            tokio::pin!(writing, reading);
            let mut done_writing = false;
            loop {
                tokio::select! {
                    biased;
                    () = &mut reading => break false,
                    written = &mut writing, if !done_writing => {
                        done_writing = true;
                        // A connection that broke may still hold replies; one that stalled holds us.
                        if written.fault == Some(Fault::Timeout) {
                            break true;
                        }
                    }
                }
            }
        };
        if stalled && t.fault.is_none() {
            t.fault = Some((Stage::Rcpt, Fault::Timeout));
        }
        if t.fault.is_none()
            && let Some(fault) = self.line.surplus()
        {
            t.fault = Some((Stage::Data, fault));
        }
    }

    /// One command, one reply, for hosts that do not offer PIPELINING.
    async fn lock_step(&mut self, commands: &[String], t: &mut Transcript, timers: &Timers) {
        let last = commands.len().saturating_sub(1);
        for (i, command) in commands.iter().enumerate() {
            let step = Step::at(i, last);
            if matches!(step, Step::Data) && !(0..t.rcpt.len()).any(|r| t.accepted(r)) {
                return;
            }
            let sent = self.line.send(command.as_bytes(), timers.block).await;
            let replied = self.line.reply(step.limit(timers)).await.map_err(|f| sent.fault.unwrap_or(f));
            if !step.note(replied, t) {
                return;
            }
            if let Some(fault) = self.line.surplus() {
                t.fault = Some((step.stage(), fault));
                return;
            }
            if t.mail.as_ref().is_some_and(|m| !m.is_positive()) {
                return;
            }
        }
    }

    /// Sends the content after a 354, or the lone dot that an unwanted 354 asks for (OUT-42).
    async fn content(
        &mut self,
        content: &Content,
        size: u64,
        t: &mut Transcript,
        timers: &Timers,
        dot: &AtomicBool,
    ) {
        match t.data.as_ref().map(|r| r.code) {
            Some(354) => {}
            Some(200..=299) => {
                self.state = State::Dead;
                return;
            }
            _ => return,
        }
        if !(0..t.rcpt.len()).any(|i| t.accepted(i)) || t.mail.as_ref().is_none_or(|m| !m.is_positive()) {
            let sent = self.line.send(TERMINATOR, timers.block).await;
            let ended = sent.fault.is_none() && self.line.reply(timers.dot).await.is_ok();
            self.state = if ended { State::Unfinished } else { State::Dead };
            return;
        }
        if let Err(fault) = self.stream(content, size, t, timers, dot).await {
            t.fault = Some((Stage::Data, fault));
        }
        if t.fault.is_some() || t.dot.is_some() {
            // An answer before the dot leaves the two sides in different places.
            self.state = State::Dead;
            return;
        }
        match self.line.reply(timers.dot).await {
            Ok(reply) => {
                let whole = matches!(reply.code, 250..=259 | 400..) && reply.code != 421;
                let in_step = self.line.surplus().is_none();
                self.state = if whole && in_step { State::Idle } else { State::Dead };
                t.dot = Some(reply.to_reply());
            }
            Err(fault) => t.fault = Some((Stage::Dot, fault)),
        }
    }

    /// Writes content and terminator. What the host says meanwhile is its answer (OUT-44).
    async fn stream(
        &mut self,
        content: &Content,
        size: u64,
        t: &mut Transcript,
        timers: &Timers,
        dot: &AtomicBool,
    ) -> Result<(), Fault> {
        let bad = |b: crate::delivery::wire_form::BadContent| {
            Fault::Damaged(format!("the stored message cannot be sent as it is: it has {}", b.0))
        };
        let mut stuffer = DotStuffer::default();
        let mut out = Vec::with_capacity(PIECE);
        let (mut no, mut octets) = (0, 0);
        while let Some(part) = content.part(no).await? {
            no += 1;
            octets += part.len() as u64;
            for piece in part.chunks(PIECE) {
                if out.len() >= PIECE {
                    let written = self.line.send_listening(&out, timers.block).await;
                    if written.octets < out.len() || written.fault.is_some() {
                        return self.cut_short(written.fault, t, timers.quit).await;
                    }
                    out.clear();
                }
                stuffer.stuff(piece, &mut out).map_err(bad)?;
            }
        }
        if !content.is_whole(octets, size) {
            // Without the final dot the host keeps nothing (RFC 5321 §4.1.1.4).
            return Err(Fault::Damaged(format!(
                "the stored message is damaged: {octets} octets of {size} are left"
            )));
        }
        stuffer.finish(&mut out).map_err(bad)?;
        // Conservative: octets that the TLS layer took count as sent (OUT-45).
        let mark = Mark { after: out.len().saturating_sub(TERMINATOR.len()), passed: dot };
        let written = self.line.send_marked(&out, timers.block, &mark).await;
        t.terminator_sent = dot.load(Ordering::Acquire);
        match written.fault {
            None => Ok(()),
            Some(fault) if t.terminator_sent => {
                t.fault = Some((Stage::Dot, fault));
                Ok(())
            }
            fault => self.cut_short(fault, t, timers.quit).await,
        }
    }

    /// The content did not get through: what the host has said already is the outcome, if it is a refusal.
    async fn cut_short(
        &mut self,
        fault: Option<Fault>,
        t: &mut Transcript,
        patience: Duration,
    ) -> Result<(), Fault> {
        match self.line.reply(patience).await {
            Ok(r) if (400..600).contains(&r.code) => {
                t.dot = Some(r.to_reply());
                Ok(())
            }
            Ok(_) => Err(Fault::Protocol("a reply in the middle of the content")),
            Err(read) => Err(fault.unwrap_or(read)),
        }
    }
}

/// The place of a command in its group.
enum Step {
    Mail,
    Rcpt(usize),
    Data,
}

impl Step {
    const fn at(i: usize, last: usize) -> Self {
        match i {
            0 => Self::Mail,
            i if i == last => Self::Data,
            i => Self::Rcpt(i - 1),
        }
    }

    const fn stage(&self) -> Stage {
        match self {
            Self::Mail => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data => Stage::Data,
        }
    }

    const fn limit(&self, timers: &Timers) -> Duration {
        match self {
            Self::Mail => timers.mail,
            Self::Rcpt(_) => timers.rcpt,
            Self::Data => timers.data,
        }
    }

    /// Writes a reply down; `false` when the dialogue ends here.
    fn note(&self, replied: Result<RawReply, Fault>, t: &mut Transcript) -> bool {
        let fault = match replied {
            Ok(raw) => {
                let reply = raw.to_reply();
                let intermediate = (300..400).contains(&reply.code);
                match self {
                    _ if reply.code == 421 => Fault::Closing(reply),
                    Self::Mail | Self::Rcpt(_) if intermediate => Fault::Protocol("a 3xx reply out of place"),
                    Self::Data if intermediate && reply.code != 354 => {
                        Fault::Protocol("DATA was answered 3xx, but not 354")
                    }
                    Self::Mail => {
                        t.mail = Some(reply);
                        return true;
                    }
                    Self::Rcpt(i) => {
                        if let Some(slot) = t.rcpt.get_mut(*i) {
                            *slot = Some(reply);
                        }
                        return true;
                    }
                    Self::Data => {
                        t.data = Some(reply);
                        return true;
                    }
                }
            }
            Err(fault) => fault,
        };
        t.fault = Some((self.stage(), fault));
        false
    }
}

async fn read_group<R: AsyncRead + Unpin>(
    reader: &mut R,
    replies: &mut ReplyBuffer,
    t: &mut Transcript,
    timers: &Timers,
) {
    let last = t.rcpt.len() + 1;
    for i in 0..=last {
        let step = Step::at(i, last);
        let replied = read_reply(reader, replies, step.limit(timers)).await;
        if !step.note(replied, t) {
            return;
        }
    }
}
