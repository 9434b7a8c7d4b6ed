//! The resolvers asked: server after server, until one gives data or a denial.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};

use super::exchange;
use crate::dns::DnsErrorKind;

/// Why there is no answer, and who said so.
pub(super) type Failure = (DnsErrorKind, Option<SocketAddr>);

/// What a server is told about DNSSEC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checking {
    /// It does as it likes, and nobody believes it.
    Theirs,
    /// It validates, and is believed. A SERVFAIL is asked again without checking, to tell bogus data from trouble.
    Believed,
    /// It is to hand out what it has, unchecked: this process validates (RFC 4035 §3.2.2).
    Ours,
}

/// The servers, and how long each is waited for.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<SocketAddr>,
    timeout: Duration,
    attempts: usize,
    /// Index of the server that answered last, so that a dead one costs its timeout once, and one with stale root keys
    /// is not asked while a sound one answers.
    preferred: AtomicUsize,
}

impl Servers {
    pub(super) const fn new(list: Vec<SocketAddr>, timeout: Duration, attempts: usize) -> Self {
        Self { list, timeout, attempts, preferred: AtomicUsize::new(0) }
    }

    pub(super) fn list(&self) -> &[SocketAddr] {
        &self.list
    }

    /// The like, with one server only.
    pub(super) fn only(&self, server: SocketAddr) -> Self {
        Self::new(vec![server], self.timeout, 1)
    }

    /// Asks server after server until one gives data or a denial.
    pub(super) async fn ask(
        &self,
        question: &Query,
        checking: Checking,
    ) -> Result<(Message, SocketAddr), Failure> {
        let first = self.preferred.load(Ordering::Relaxed);
        let mut worst = (DnsErrorKind::Unreachable, None);
        for turn in 0..self.list.len() * self.attempts.max(1) {
            let index = (first + turn) % self.list.len();
            let Some(&server) = self.list.get(index) else { break };
            match self.ask_one(server, question, checking).await {
                Ok(message) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok((message, server));
                }
                // A verdict on the data is not improved by asking the same server again.
                Err(DnsErrorKind::Bogus) => {
                    let second = self.second_opinion(index, question).await;
                    return second.ok_or((DnsErrorKind::Bogus, Some(server)));
                }
                Err(kind) if telling(kind) >= telling(worst.0) => worst = (kind, Some(server)),
                Err(_) => {}
            }
        }
        Err(worst)
    }

    /// What the servers other than the one at `doubted` say, each asked once. That one calls it bogus, which may be its own
    /// fault, by stale root keys or a wrong clock. Only what another authenticates counts against it: a server that does not
    /// validate opens nothing (DANE-02).
    async fn second_opinion(&self, doubted: usize, question: &Query) -> Option<(Message, SocketAddr)> {
        for turn in 1..self.list.len() {
            let index = (doubted + turn) % self.list.len();
            let &server = self.list.get(index)?;
            if let Ok(message) = self.ask_one(server, question, Checking::Believed).await
                && message.metadata.authentic_data
            {
                self.preferred.store(index, Ordering::Relaxed);
                return Some((message, server));
            }
        }
        None
    }

    /// Asks one of them.
    pub(super) async fn ask_one(
        &self,
        server: SocketAddr,
        question: &Query,
        checking: Checking,
    ) -> Result<Message, DnsErrorKind> {
        let unchecked = checking == Checking::Ours;
        let message = exchange::ask(server, question, unchecked, self.timeout).await?;
        match message.metadata.response_code {
            code if is_answer(code) => Ok(message),
            // A validating resolver says SERVFAIL for bogus data too. Data or denial with checking disabled
            // tells the two apart (RFC 4035 §3.2.2).
            ResponseCode::ServFail if checking == Checking::Believed => {
                match exchange::ask(server, question, true, self.timeout).await {
                    Ok(m) if is_answer(m.metadata.response_code) => Err(DnsErrorKind::Bogus),
                    _ => Err(DnsErrorKind::Servfail),
                }
            }
            ResponseCode::ServFail => Err(DnsErrorKind::Servfail),
            _ => Err(DnsErrorKind::Refused),
        }
    }
}

const fn is_answer(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// Of several failures the one that says most is told.
const fn telling(kind: DnsErrorKind) -> u8 {
    match kind {
        DnsErrorKind::Unreachable => 0,
        DnsErrorKind::Timeout => 1,
        DnsErrorKind::Malformed => 2,
        DnsErrorKind::Refused => 3,
        DnsErrorKind::Servfail => 4,
        DnsErrorKind::Lying => 5,
        DnsErrorKind::Undecided => 6,
        DnsErrorKind::Bogus | DnsErrorKind::WrongKeys => 7,
    }
}
