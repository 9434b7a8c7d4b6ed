//! What was said in one transaction, as data: the session writes it down, [`super::classify`] judges it.

use crate::mail::Reply;
use crate::queue::outcome::Stage;

/// Why a dialogue ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection broke.
    Lost,
    /// A deadline passed.
    Timeout,
    /// What came was not SMTP, or not its turn (OUT-21, OUT-23, OUT-43).
    Protocol(&'static str),
    /// 421 in place of a reply: the host closes (RFC 5321 §3.8).
    Closing(Reply),
    /// Something of ours went wrong, and may be well again soon; in words.
    Local(String),
    /// The message cannot be sent as it is stored, now or later; in words.
    Damaged(String),
}

/// Why AUTH at a next hop did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthFault {
    /// The session is not one that a password may be shown in.
    Unverified,
    /// No mechanism that we know.
    NotOffered,
    /// Other than 235.
    Refused(Reply),
    /// It was refused a moment ago, and is not shown again for a while.
    Withheld,
    /// The dialogue broke off.
    Broken(Fault),
}

/// One transaction. Replies stand where they belong; a missing one is explained by `fault`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// To MAIL.
    pub mail: Option<Reply>,
    /// To each RCPT, in the order of the recipients given.
    pub rcpt: Vec<Option<Reply>>,
    /// To DATA.
    pub data: Option<Reply>,
    /// To the end of data, or given while content was still being sent (OUT-44).
    pub dot: Option<Reply>,
    /// What ended it early, and where. The session is of no more use.
    pub fault: Option<(Stage, Fault)>,
    /// Whether an octet of the terminator may have left (OUT-45).
    pub terminator_sent: bool,
}

impl Transcript {
    /// Whether `recipient` (by its place here) was accepted.
    pub fn accepted(&self, recipient: usize) -> bool {
        self.rcpt.get(recipient).and_then(Option::as_ref).is_some_and(Reply::is_positive)
    }
}
