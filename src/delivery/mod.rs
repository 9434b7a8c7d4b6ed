//! Delivering one transaction: dial, greet, upgrade, judge, send (RFC 5321, RFC 3207).
//!
//! [`attempt`] walks the hosts and sees only ports; [`connect`], [`starttls`], [`session`] and [`pool`] do the
//! I/O; [`classify`] is the only place that says "permanent".

use futures_util::future::BoxFuture;

use crate::clock::Timestamp;
use crate::queue::outcome::{Diagnosis, Outcome};
use crate::queue::{Step, StoreError};

pub mod attempt;
pub mod classify;
pub mod connect;
pub mod ehlo;
pub mod pool;
pub mod reply_reader;
pub mod session;
pub mod starttls;
pub mod transcript;
pub mod wire_form;

/// Where an attempt writes what became of recipients: a commit per final reply, before the next MAIL (OUT-52).
///
/// Implemented by `queue::manager`, which adds expiry and DSNs.
pub trait Ledger: Send + Sync {
    /// Commits outcomes of some recipients (by their place in the envelope). `steps` are the lines of the
    /// timeline since the last call. After an error no further MAIL may be sent in this attempt (DUR-10).
    fn record(
        &self,
        outcomes: Vec<(u32, Outcome)>,
        steps: Vec<Step>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What the queue has to know after an attempt, besides the outcomes that went into the [`Ledger`].
#[derive(Debug, Default)]
pub struct AttemptReport {
    /// Recipients without an outcome, to be handed back as they were before the lease.
    pub hand_back: Option<HandBack>,
    /// Every host failed at connection level: the domain is to be suspended, with this diagnosis (QUE-34).
    pub unreachable: Option<Diagnosis>,
    /// Some host answered SMTP: a suspension has ended.
    pub reached: bool,
    /// A policy failure was what the mail waits for: the policy is refetched before the next attempt (STS-55).
    pub policy_failed: bool,
}

/// An attempt that could not be made now and does not count.
#[derive(Debug)]
pub struct HandBack {
    /// The recipients, by their place in the envelope.
    pub recipients: Vec<u32>,
    /// When to try again: the end of the first pause; `None`: as soon as a session frees (`pool::Pool::freed`).
    pub until: Option<Timestamp>,
}
