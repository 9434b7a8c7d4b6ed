//! The server's half of a session, as a state machine without I/O (RFC 5321 §4.1.4).
//!
//! The driver hands in one line at a time and does what the returned [`Step`] says; replies are appended to
//! its output buffer in the order of the commands (RFC 2920 §3.2).

use std::collections::HashSet;

use super::answer::Answer;
use super::command::{self, Mail, Verb};
use super::ehlo::{self, Offer};
use super::sasl::{self, Credentials, Exchange};
use crate::mail::{Domain, Envelope, EnvelopeRecipient, ForwardPath, QueueId, ReversePath, SenderTls};

/// What does not change while a session lasts.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Our name.
    pub hostname: Domain,
    /// Names the session in refusals and in the log (SUB-48).
    pub session: String,
    /// Octets (RFC 1870).
    pub max_message_size: u64,
    /// LIM-08.
    pub max_recipients: usize,
    /// There is a certificate, so that STARTTLS can be offered.
    pub can_tls: bool,
    /// There are users, so that AUTH can be offered.
    pub can_auth: bool,
    /// Nothing that carries anything goes before TLS, and no mail before AUTH (SUB-14).
    pub auth_required: bool,
    /// The peer's address lies in a trusted network (SUB-24).
    pub trusted: bool,
    /// REQUIRETLS would be kept on the way onward (RTLS-01).
    pub requiretls: bool,
    /// Failed AUTH commands before the session ends (LIM-20).
    pub max_auth_failures: u32,
}

/// Says whether a sender is welcome: room on the disk, and the rules of the authenticated user.
pub trait Judge {
    /// # Errors
    /// The reply to MAIL.
    fn sender(&self, path: &ReversePath) -> Result<(), Answer>;
}

/// What the driver does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read the next line.
    Line,
    /// STARTTLS is due: [`Session::start_tls`] if no plaintext is buffered, else [`Session::injected`].
    StartTls,
    /// Check these, then call [`Session::authenticated`].
    Verify(Credentials),
    /// 354 is written: receive content for [`Session::take_envelope`], then call [`Session::content_done`].
    Content,
    /// Send what is written, then close; the client and we no longer agree where commands begin.
    Abort,
    /// Send what is written, then close.
    Close,
}

/// What came of a check of credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// They are right.
    Right,
    /// They are wrong, or there is no such user.
    Wrong,
    /// They could not be checked now (SUB-23): 454, never 535.
    Unknown,
}

/// A session from greeting to close.
#[derive(Debug)]
pub struct Session {
    terms: Terms,
    tls: bool,
    helo: Option<Helo>,
    authenticated: bool,
    auth_failures: u32,
    exchange: Option<Exchange>,
    transaction: Option<Transaction>,
    seen_line: bool,
}

#[derive(Debug)]
struct Helo {
    name: String,
    extended: bool,
}

#[derive(Debug)]
struct Transaction {
    mail: Mail,
    recipients: Vec<EnvelopeRecipient>,
    known: HashSet<ForwardPath>,
    refused: bool,
}

impl Session {
    /// A session before its greeting; `tls` where TLS came first (RFC 8314 §3.3).
    pub const fn new(terms: Terms, tls: bool) -> Self {
        Self {
            terms,
            tls,
            helo: None,
            authenticated: false,
            auth_failures: 0,
            exchange: None,
            transaction: None,
            seen_line: false,
        }
    }

    /// Writes the greeting.
    pub fn greet(&self, out: &mut Vec<u8>) {
        self.say(&Answer::bare(220, format!("{} ESMTP", self.terms.hostname)), out);
    }

    /// The longest line that may come next, CRLF included, given how it begins (LIM-03).
    pub fn max_line(&self, begin: &[u8]) -> usize {
        let auth = begin.get(..5).is_some_and(|b| b.eq_ignore_ascii_case(b"AUTH "));
        if self.exchange.is_some() || auth { command::MAX_AUTH_LINE + 2 } else { command::MAX_LINE }
    }

    /// Answers a line that is longer than [`Session::max_line`]; where it ends is not waited for.
    pub fn line_too_long(&mut self, out: &mut Vec<u8>) -> Step {
        let answer = match self.exchange.take() {
            Some(_) => Answer::new(500, 5, 6, "authentication exchange line is too long"),
            None => Answer::new(500, 5, 2, "line too long"),
        };
        self.say(&answer, out);
        Step::Abort
    }

    /// Answers a line that ends in LF alone: the peer disagrees with us on where commands end (SUB-03).
    pub fn bare_line_end(&self, out: &mut Vec<u8>) -> Step {
        self.say(&Answer::new(500, 5, 2, "a command ends with CR LF"), out);
        Step::Abort
    }

    /// Whether the client's first octets begin a TLS handshake, which no SMTP reply can be meant for (SUB-13).
    pub fn is_foreign_start(&self, begin: &[u8]) -> bool {
        !self.seen_line && begin.starts_with(&[0x16, 0x03])
    }

    /// Takes one line, without its CRLF.
    pub fn line(&mut self, line: &[u8], judge: &dyn Judge, out: &mut Vec<u8>) -> Step {
        let first = !std::mem::replace(&mut self.seen_line, true);
        if first && is_foreign_protocol(line) {
            self.say(&Answer::new(554, 5, 0, "this is an SMTP server"), out);
            return Step::Abort;
        }
        if let Some(exchange) = self.exchange.take() {
            let next = exchange.line(line);
            return self.auth_step(next, out);
        }
        match command::split(line) {
            Ok((verb, argument)) => self.command(verb, argument, judge, out),
            Err(answer) => {
                self.say(&answer, out);
                Step::Line
            }
        }
    }

    fn command(&mut self, verb: Verb, argument: &str, judge: &dyn Judge, out: &mut Vec<u8>) -> Step {
        use Verb::{Auth, Bdat, Data, Ehlo, Helo, Help, Mail, Noop, Quit, Rcpt, Rset, StartTls};
        // SUB-14, SUB-20: before TLS, whatever the argument, so that the answer tells nothing about it.
        let bare_bones = matches!(verb, Ehlo | Helo | Noop | Rset | Quit | StartTls | Bdat);
        if !self.tls && (verb == Auth || (self.terms.auth_required && !bare_bones)) {
            self.say(&Answer::new(530, 7, 0, "STARTTLS comes first"), out);
            return Step::Line;
        }
        if matches!(verb, Data | Rset | Quit | StartTls) && !argument.is_empty() {
            self.say(&Answer::new(501, 5, 4, "this command takes no argument"), out);
            return Step::Line;
        }
        let done = match verb {
            Ehlo | Helo => self.hello(verb == Ehlo, argument, out),
            Mail => self.mail(argument, judge),
            Rcpt => self.rcpt(argument),
            Rset => {
                self.transaction = None;
                Ok(Some(Answer::new(250, 0, 0, "Ok")))
            }
            Noop => Ok(Some(Answer::new(250, 0, 0, "Ok"))),
            Verb::Vrfy if argument.is_empty() => Err(Answer::new(501, 5, 4, "VRFY takes an address")),
            Verb::Vrfy => Ok(Some(Answer::new(252, 5, 0, "send mail, and delivery will tell"))),
            Help => Ok(Some(Answer::new(214, 0, 0, "RFC 5321 describes the commands"))),
            Verb::Unimplemented => Err(Answer::new(502, 5, 1, "not implemented")),
            Bdat => {
                self.say(&Answer::new(502, 5, 1, "CHUNKING is not offered"), out);
                return Step::Abort;
            }
            Quit => {
                self.say(&Answer::new(221, 0, 0, "Bye"), out);
                return Step::Close;
            }
            StartTls => match self.may_start_tls() {
                Ok(()) => return Step::StartTls,
                Err(answer) => Err(answer),
            },
            Auth => match self.may_authenticate().and_then(|()| sasl::begin(argument)) {
                Ok(next) => return self.auth_step(next, out),
                Err(answer) => Err(answer),
            },
            Data => match self.may_send_content() {
                Ok(()) => {
                    self.say(&Answer::bare(354, "End data with <CR><LF>.<CR><LF>"), out);
                    return Step::Content;
                }
                Err(answer) => Err(answer),
            },
        };
        match done {
            Ok(None) => {}
            Ok(Some(answer)) | Err(answer) => self.say(&answer, out),
        }
        Step::Line
    }

    fn hello(&mut self, extended: bool, argument: &str, out: &mut Vec<u8>) -> Result<Option<Answer>, Answer> {
        let name = command::helo(argument)?.to_owned();
        self.helo = Some(Helo { name, extended });
        self.transaction = None;
        if !extended {
            return Ok(Some(Answer::bare(250, self.terms.hostname.to_string())));
        }
        let offer = Offer {
            max_message_size: self.terms.max_message_size,
            starttls: self.terms.can_tls && !self.tls,
            auth: self.tls && self.terms.can_auth,
            requiretls: self.tls && self.terms.requiretls,
        };
        ehlo::write(&self.terms.hostname, offer, out);
        Ok(None)
    }

    fn mail(&mut self, argument: &str, judge: &dyn Judge) -> Result<Option<Answer>, Answer> {
        let Some(helo) = &self.helo else { return Err(Answer::new(503, 5, 1, "EHLO comes first")) };
        if !self.may_send() {
            let auth_exists = self.terms.can_auth && self.terms.can_tls;
            let words = if auth_exists || self.terms.auth_required {
                "authentication required"
            } else {
                "relaying denied: your address is not in submission.trusted_networks, and there is no AUTH here"
            };
            return Err(Answer::new(530, 7, 0, words));
        }
        if self.transaction.is_some() {
            return Err(Answer::new(503, 5, 1, "a transaction is open"));
        }
        let mail = command::mail(argument, helo.extended)?;
        if mail.size.is_some_and(|s| s > self.terms.max_message_size) {
            return Err(Answer::new(
                552,
                3,
                4,
                format!("the limit is {} octets", self.terms.max_message_size),
            ));
        }
        if mail.requiretls && !self.terms.requiretls {
            return Err(command::unknown_parameter());
        }
        if mail.requiretls && !self.tls {
            // RFC 8689 §2: only in a session that is protected itself (RTLS-03).
            return Err(Answer::new(523, 7, 10, "REQUIRETLS needs TLS: STARTTLS comes first"));
        }
        judge.sender(&mail.path)?;
        self.transaction =
            Some(Transaction { mail, recipients: Vec::new(), known: HashSet::new(), refused: false });
        Ok(Some(Answer::new(250, 1, 0, "Ok")))
    }

    fn rcpt(&mut self, argument: &str) -> Result<Option<Answer>, Answer> {
        let extended = self.helo.as_ref().is_some_and(|h| h.extended);
        let Some(transaction) = &mut self.transaction else {
            return Err(Answer::new(503, 5, 1, "MAIL comes first"));
        };
        let added = transaction.add(argument, extended, &self.terms);
        transaction.refused |= added.is_err();
        added.map(|()| Some(Answer::new(250, 1, 5, "Ok")))
    }

    fn may_send_content(&self) -> Result<(), Answer> {
        match &self.transaction {
            Some(t) if !t.recipients.is_empty() => Ok(()),
            Some(t) if t.refused => Err(Answer::new(554, 5, 1, "no valid recipients")),
            Some(_) => Err(Answer::new(503, 5, 1, "RCPT comes first")),
            None => Err(Answer::new(503, 5, 1, "MAIL comes first")),
        }
    }

    fn may_start_tls(&self) -> Result<(), Answer> {
        if self.tls {
            Err(Answer::new(503, 5, 1, "TLS is on"))
        } else if self.transaction.is_some() {
            Err(Answer::new(503, 5, 1, "a transaction is open"))
        } else if !self.terms.can_tls {
            Err(Answer::new(454, 7, 0, "TLS is not available"))
        } else {
            Ok(())
        }
    }

    fn may_authenticate(&self) -> Result<(), Answer> {
        if !self.terms.can_auth {
            Err(Answer::new(502, 5, 1, "AUTH is not offered"))
        } else if !self.helo.as_ref().is_some_and(|h| h.extended) {
            Err(Answer::new(503, 5, 1, "EHLO comes first"))
        } else if self.authenticated {
            Err(Answer::new(503, 5, 1, "already authenticated"))
        } else if self.transaction.is_some() {
            Err(Answer::new(503, 5, 1, "a transaction is open"))
        } else {
            Ok(())
        }
    }

    fn auth_step(&mut self, next: sasl::Next, out: &mut Vec<u8>) -> Step {
        match next {
            sasl::Next::Challenge(exchange, text) => {
                self.exchange = Some(exchange);
                self.say(&Answer::bare(334, text), out);
                Step::Line
            }
            sasl::Next::Check(credentials) => Step::Verify(credentials),
            sasl::Next::Cancelled(answer) => {
                self.say(&answer, out);
                Step::Line
            }
            sasl::Next::Failed(answer) => self.auth_failed(answer, out),
        }
    }

    /// Goes on after [`Step::Verify`].
    pub fn authenticated(&mut self, verdict: Verdict, out: &mut Vec<u8>) -> Step {
        match verdict {
            Verdict::Right => {
                self.authenticated = true;
                self.say(&Answer::new(235, 7, 0, "Authentication successful"), out);
                Step::Line
            }
            Verdict::Wrong => self.auth_failed(sasl::wrong(), out),
            Verdict::Unknown => {
                self.say(&Answer::new(454, 7, 0, "credentials cannot be checked now"), out);
                Step::Line
            }
        }
    }

    fn auth_failed(&mut self, answer: Answer, out: &mut Vec<u8>) -> Step {
        self.auth_failures += 1;
        if self.auth_failures >= self.terms.max_auth_failures {
            self.say(&Answer::new(421, 7, 0, "too many authentication failures"), out);
            return Step::Close;
        }
        self.say(&answer, out);
        Step::Line
    }

    /// After [`Step::StartTls`]: writes 220 and forgets all that was said in the clear (RFC 3207 §4.2, SUB-12).
    pub fn start_tls(&mut self, out: &mut Vec<u8>) {
        self.say(&Answer::new(220, 0, 0, "Ready to start TLS"), out);
        self.tls = true;
        self.helo = None;
        self.transaction = None;
        self.seen_line = false;
    }

    /// After [`Step::StartTls`] with plaintext already buffered, which an attacker may have put there (SUB-11).
    pub fn injected(&self, out: &mut Vec<u8>) -> Step {
        self.say(&Answer::new(554, 5, 0, "nothing may follow STARTTLS before TLS is on"), out);
        Step::Abort
    }

    /// After [`Step::Content`]: the envelope, which leaves the session without a transaction, whatever comes of it (SUB-43).
    pub fn take_envelope(&mut self) -> Option<Envelope> {
        let Transaction { mail, recipients, .. } = self.transaction.take()?;
        let smtputf8 = mail.path.mailbox().is_some_and(crate::mail::Mailbox::needs_smtputf8)
            || recipients.iter().any(|r| r.path.mailbox().needs_smtputf8());
        Some(Envelope {
            reverse_path: mail.path,
            recipients,
            ret: mail.ret,
            envid: mail.envid,
            sender_tls: if mail.requiretls { SenderTls::Required } else { SenderTls::Unsaid },
            smtputf8,
            has_8bit: false,
        })
    }

    /// The one reply after end of data.
    pub fn content_done(&self, result: Result<QueueId, Answer>, out: &mut Vec<u8>) {
        let answer = result.map_or_else(|a| a, |id| Answer::new(250, 0, 0, format!("Ok: queued as {id}")));
        self.say(&answer, out);
    }

    /// Writes a reply of the driver's own: deadlines, shutdown.
    pub fn say(&self, answer: &Answer, out: &mut Vec<u8>) {
        answer.write(&self.terms.session, out);
    }

    /// Whether the client has shown that it may send mail here (SUB-14, SUB-24).
    pub const fn may_send(&self) -> bool {
        self.authenticated || (self.terms.trusted && !self.terms.auth_required)
    }

    /// Whether EHLO or HELO was said, since TLS if there is TLS.
    pub const fn has_helo(&self) -> bool {
        self.helo.is_some()
    }

    /// The name in EHLO or HELO, and whether it was EHLO.
    pub fn helo(&self) -> (&str, bool) {
        self.helo.as_ref().map_or(("", false), |h| (h.name.as_str(), h.extended))
    }

    /// Whether the open transaction declared SMTPUTF8.
    pub fn declared_smtputf8(&self) -> bool {
        self.transaction.as_ref().is_some_and(|t| t.mail.smtputf8)
    }

    /// What names the session in refusals.
    pub fn id(&self) -> &str {
        &self.terms.session
    }
}

impl Transaction {
    fn add(&mut self, argument: &str, extended: bool, terms: &Terms) -> Result<(), Answer> {
        let rcpt = command::rcpt(argument, extended, self.mail.smtputf8)?;
        // SUB-59: mail for this host itself has nowhere to go; through the MX it would come back to us.
        let Some(path) = rcpt.path.filter(|p| *p.domain() != terms.hostname) else {
            return Err(Answer::new(550, 1, 1, "no mailboxes at this host: `postmaster` is not set"));
        };
        if self.known.contains(&path) {
            return Ok(());
        }
        if self.recipients.len() >= terms.max_recipients {
            return Err(Answer::new(452, 5, 3, format!("the limit is {} recipients", terms.max_recipients)));
        }
        self.known.insert(path.clone());
        self.recipients.push(EnvelopeRecipient { path, notify: rcpt.notify, orcpt: rcpt.orcpt });
        Ok(())
    }
}

/// SUB-05: a browser, or a server lured into fetching a URL, must not speak SMTP through us.
fn is_foreign_protocol(line: &[u8]) -> bool {
    const BEGINNINGS: [&[u8]; 11] = [
        b"GET ",
        b"POST ",
        b"HEAD ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"CONNECT ",
        b"PATCH ",
        b"TRACE ",
        b"PRI * ",
        b"SSH-",
    ];
    BEGINNINGS.iter().any(|b| line.starts_with(b))
}

#[cfg(test)]
mod tests;
