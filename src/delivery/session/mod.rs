//! One SMTP session: greeting, EHLO, STARTTLS, then transactions, each only with a clearance (RFC 5321, RFC 3207).
//!
//! The session owns its stream and speaks its own line protocol: every wait has a deadline, every reply is
//! counted, and nothing learnt before TLS is known after it.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::clock::Timestamp;
use crate::mail::{Domain, Reply};
use crate::queue::outcome::Stage;
use crate::security::decide::Demand;
use crate::security::verdict::{Evidence, HandshakeFault, TlsFacts, TlsState};

use super::connect::{DialFault, dial};
use super::ehlo::{Ehlo, first_word};
use super::reply_reader::RawReply;
use super::starttls::Tls;
use super::transcript::Fault;

mod auth;
mod transaction;
mod wire;

pub use transaction::Content;
use wire::{Line, Wire};

/// The deadline of each step (RFC 5321 §4.5.3.2, OUT-20). Each covers a whole reply.
#[derive(Debug, Clone)]
pub struct Timers {
    /// TCP.
    pub connect: Duration,
    /// The 220.
    pub greeting: Duration,
    /// EHLO and HELO.
    pub ehlo: Duration,
    /// STARTTLS with its handshake.
    pub starttls: Duration,
    /// MAIL.
    pub mail: Duration,
    /// Each RCPT.
    pub rcpt: Duration,
    /// DATA.
    pub data: Duration,
    /// Writing, without any progress.
    pub block: Duration,
    /// The final reply.
    pub dot: Duration,
    /// RSET.
    pub rset: Duration,
    /// QUIT, which nobody waits for.
    pub quit: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        let secs = Duration::from_secs;
        Self {
            connect: secs(30),
            greeting: secs(300),
            ehlo: secs(300),
            starttls: secs(60),
            mail: secs(300),
            rcpt: secs(300),
            data: secs(120),
            block: secs(180),
            dot: secs(600),
            rset: secs(20),
            quit: secs(5),
        }
    }
}

/// How to open a session.
#[derive(Debug)]
pub struct Opening<'a> {
    /// The candidate's name.
    pub host: &'a Domain,
    /// The address to dial.
    pub to: SocketAddr,
    /// Our address on the connection; the system chooses when `None`.
    pub source: Option<IpAddr>,
    /// What we say in EHLO.
    pub hostname: &'a Domain,
    /// Authorities and algorithms.
    pub tls: &'a Tls,
    /// TLS from the first octet (RFC 8314 §3).
    pub implicit_tls: bool,
    /// The name for SNI.
    pub sni: &'a Domain,
    /// What the verdict will ask for. With TLS in it there is no HELO (OUT-25), and a bad handshake signature ends the
    /// handshake.
    pub demand: Demand,
    /// What STARTTLS came to on the connection before: this one is for the clear (OUT-33).
    pub after: Option<TlsState>,
    /// Where our own listeners answer (OUT-08).
    pub own_listeners: &'a [SocketAddr],
    /// Deadlines.
    pub timers: &'a Timers,
    /// When the chain is judged.
    pub now: Timestamp,
}

/// What is known of a session besides its stream.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the verdict goes by.
    pub evidence: Evidence,
    /// The first word of the last EHLO reply, else of the greeting (RPT-55).
    pub helo: Option<String>,
    /// The host's address.
    pub peer: SocketAddr,
    /// Our address.
    pub local: Option<IpAddr>,
}

impl Seen {
    /// The facts of TLS, when it is up.
    pub fn tls(&self) -> Option<&TlsFacts> {
        match &self.evidence.tls {
            TlsState::On(facts) => Some(facts),
            _ => None,
        }
    }
}

/// Why there is no session.
#[derive(Debug)]
pub enum Unopened {
    /// No connection.
    Connect(DialFault),
    /// Greeting, EHLO or HELO was answered 4xx or 5xx.
    Refused(Stage, Reply),
    /// The dialogue broke off.
    Fault(Stage, Fault),
    /// It is one of our own listeners.
    Ourselves,
    /// STARTTLS came to nothing, and the connection is gone; the evidence says how.
    Starttls,
}

/// A session that did not come about, and what was seen of TLS if it came to that (RPT-21, RPT-24).
#[derive(Debug)]
pub struct OpenFault {
    /// Why.
    pub why: Unopened,
    /// Present once a verdict on TLS is possible.
    pub seen: Option<Box<Seen>>,
}

impl From<Unopened> for OpenFault {
    fn from(why: Unopened) -> Self {
        Self { why, seen: None }
    }
}

/// What the last transaction left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// MAIL may be sent.
    Idle,
    /// RSET first: the last transaction ended before its final reply.
    Unfinished,
    /// Out of step, closed, or about to be.
    Dead,
}

/// An open session, greeted, with TLS or the evidence of its absence.
#[derive(Debug)]
pub struct Session {
    line: Line,
    /// What the host offers now.
    pub ehlo: Ehlo,
    /// What was seen.
    pub seen: Seen,
    /// When it was opened.
    pub opened: Instant,
    /// Transactions begun.
    pub transactions: u32,
    /// Report domains that have had their verdict on this session (RPT-20).
    pub reported: HashSet<Domain>,
    /// Opened for the clear after a failed handshake: not for others (OUT-33).
    pub fallback: bool,
    /// AUTH has succeeded.
    pub authenticated: bool,
    state: State,
    quit: Duration,
}

impl Session {
    /// Dials, greets and upgrades. Sends no MAIL and judges nothing.
    ///
    /// # Errors
    /// [`OpenFault`]; the connection is closed then.
    pub async fn open(o: Opening<'_>) -> Result<Self, OpenFault> {
        let tcp = dial(o.to, o.source, o.timers.connect).await.map_err(Unopened::Connect)?;
        let local = tcp.local_addr().ok().map(|a| a.ip());
        if o.implicit_tls {
            return Self::open_inside(tcp, local, &o).await;
        }
        let mut line = Line::new(Wire::Clear(tcp));
        let greeting = match line.reply(o.timers.greeting).await {
            Ok(reply) => reply,
            Err(fault) => return Err(Unopened::Fault(Stage::Greeting, fault).into()),
        };
        if greeting.code == 421 || !matches!(greeting.code, 220 | 400..) {
            return Err(refuse(line, Stage::Greeting, &greeting, o.timers));
        }
        if greeting.code != 220 {
            return Err(refuse(line, Stage::Greeting, &greeting, o.timers));
        }
        if let Some(fault) = line.surplus() {
            return Err(Unopened::Fault(Stage::Greeting, fault).into());
        }
        let greeted_by = greeting.lines.first().and_then(|l| first_word(l));
        let ours = |name: &Option<String>| {
            name.as_deref().is_some_and(|n| n.eq_ignore_ascii_case(o.hostname.as_str()))
        };
        if ours(&greeted_by) && is_own_listener(o.to, local, o.own_listeners) {
            end(line, o.timers);
            return Err(Unopened::Ourselves.into());
        }
        let (mut line, ehlo) = introduce(line, &o).await?;
        let mut seen = Seen {
            helo: ehlo.as_ref().and_then(|e| e.name.clone()).or(greeted_by),
            evidence: Evidence { host: o.host.clone(), tls: TlsState::NotOffered, requiretls: false },
            peer: o.to,
            local,
        };
        let mut ehlo = ehlo.unwrap_or_default();
        let fallback = o.after.is_some();
        if let Some(before) = &o.after {
            seen.evidence.tls = before.clone();
        } else if ehlo.starttls {
            match starttls(line, &o).await {
                Upgrade::Refused(clear, reply) => {
                    line = clear;
                    let closing = reply.code == 421;
                    seen.evidence.tls = TlsState::Refused(reply);
                    // TLS-05: a refusal like any other, but for the connection, which is as gone as after a handshake.
                    if closing {
                        return Err(OpenFault { why: Unopened::Starttls, seen: Some(Box::new(seen)) });
                    }
                }
                Upgrade::Fault(fault) => return Err(Unopened::Fault(Stage::Starttls, fault).into()),
                Upgrade::Failed(fault) => {
                    seen.evidence.tls = TlsState::Failed(fault);
                    return Err(OpenFault { why: Unopened::Starttls, seen: Some(Box::new(seen)) });
                }
                Upgrade::Up(inside, facts) => {
                    seen.evidence.tls = TlsState::On(facts);
                    match greet_inside(inside, &o).await {
                        Ok((inside, offered)) => {
                            line = inside;
                            seen.helo = offered.name.clone().or(seen.helo);
                            seen.evidence.requiretls = offered.requiretls;
                            ehlo = offered;
                        }
                        Err(why) => return Err(OpenFault { why, seen: Some(Box::new(seen)) }),
                    }
                }
            }
        }
        Ok(Self { fallback, ..Self::fresh(line, ehlo, seen, &o) })
    }

    fn fresh(line: Line, ehlo: Ehlo, seen: Seen, o: &Opening<'_>) -> Self {
        Self {
            line,
            ehlo,
            seen,
            opened: Instant::now(),
            transactions: 0,
            reported: HashSet::new(),
            fallback: false,
            authenticated: false,
            state: State::Idle,
            quit: o.timers.quit,
        }
    }

    /// TLS first, then the greeting, and nothing ever in the clear.
    async fn open_inside(tcp: TcpStream, local: Option<IpAddr>, o: &Opening<'_>) -> Result<Self, OpenFault> {
        let shaken = o.tls.handshake(tcp, o.host, o.sni, o.demand, o.timers.starttls, o.now).await;
        let evidence = |tls| Evidence { host: o.host.clone(), tls, requiretls: false };
        let mut seen = Seen { helo: None, evidence: evidence(TlsState::NotOffered), peer: o.to, local };
        let mut line = match shaken {
            Ok((stream, facts)) => {
                seen.evidence.tls = TlsState::On(Arc::new(facts));
                Line::new(Wire::Tls(Box::new(stream)))
            }
            Err(fault) => {
                seen.evidence.tls = TlsState::Failed(fault);
                return Err(OpenFault { why: Unopened::Starttls, seen: Some(Box::new(seen)) });
            }
        };
        let greeting = match line.reply(o.timers.greeting).await {
            Ok(greeting) => greeting,
            Err(fault) => {
                let why = Unopened::Fault(Stage::Greeting, fault);
                return Err(OpenFault { why, seen: Some(Box::new(seen)) });
            }
        };
        seen.helo = greeting.lines.first().and_then(|l| first_word(l));
        if greeting.code != 220 {
            let OpenFault { why, .. } = refuse(line, Stage::Greeting, &greeting, o.timers);
            return Err(OpenFault { why, seen: Some(Box::new(seen)) });
        }
        if let Some(fault) = line.surplus() {
            let why = Unopened::Fault(Stage::Greeting, fault);
            return Err(OpenFault { why, seen: Some(Box::new(seen)) });
        }
        match greet_inside(line, o).await {
            Ok((line, ehlo)) => {
                seen.helo = ehlo.name.clone().or(seen.helo);
                seen.evidence.requiretls = ehlo.requiretls;
                Ok(Self::fresh(line, ehlo, seen, o))
            }
            Err(why) => Err(OpenFault { why, seen: Some(Box::new(seen)) }),
        }
    }

    /// Whether another transaction may follow.
    pub fn is_alive(&self) -> bool {
        self.state != State::Dead
    }

    /// Makes a session ready for the next MAIL; `false` when it is of no more use (OUT-50).
    pub async fn ready(&mut self, timers: &Timers) -> bool {
        if self.state == State::Dead || !self.line.is_quiet() {
            return false;
        }
        if self.state == State::Unfinished {
            let sent = self.line.send(b"RSET\r\n", timers.rset).await;
            let reset = match sent.fault {
                None => self.line.reply(timers.rset).await.is_ok_and(|r| r.code == 250),
                Some(_) => false,
            };
            self.state = if reset { State::Idle } else { State::Dead };
        }
        self.state == State::Idle
    }

    /// Ends the session in the background; nothing depends on how (OUT-48).
    pub fn quit(self) {
        if self.state != State::Dead {
            tokio::spawn(self.line.quit(self.quit));
        }
    }
}

fn end(line: Line, timers: &Timers) {
    tokio::spawn(line.quit(timers.quit));
}

/// A reply that ends the session: 421 and anything that is not the one awaited.
fn refuse(line: Line, stage: Stage, reply: &RawReply, timers: &Timers) -> OpenFault {
    let reply = reply.to_reply();
    if reply.code == 421 {
        return Unopened::Fault(stage, Fault::Closing(reply)).into();
    }
    end(line, timers);
    if reply.is_transient() || reply.is_permanent() {
        Unopened::Refused(stage, reply).into()
    } else {
        Unopened::Fault(stage, Fault::Protocol("a reply code out of place")).into()
    }
}

/// Whether the connection went to ourselves. An unspecified listener answers on every address of this machine,
/// and a connection to one's own address has that address at both ends.
fn is_own_listener(to: SocketAddr, local: Option<IpAddr>, listeners: &[SocketAddr]) -> bool {
    let ip = to.ip().to_canonical();
    let here = ip.is_loopback() || local.is_some_and(|l| l.to_canonical() == ip);
    listeners
        .iter()
        .any(|l| l.port() == to.port() && (l.ip().to_canonical() == ip || l.ip().is_unspecified() && here))
}

async fn ask(line: &mut Line, command: &str, limit: Duration) -> Result<RawReply, Fault> {
    let sent = line.send(command.as_bytes(), limit).await;
    // A host may have said why it closes before it saw the command.
    match (line.reply(limit).await, sent.fault) {
        (Ok(reply), _) => match line.surplus() {
            Some(Fault::Protocol(what)) => Err(Fault::Protocol(what)),
            _ => Ok(reply),
        },
        (Err(_), Some(fault)) | (Err(fault), None) => Err(fault),
    }
}

/// EHLO, and HELO for a host that knows no better and owes us no TLS (OUT-25). `None`: no extensions.
async fn introduce(mut line: Line, o: &Opening<'_>) -> Result<(Line, Option<Ehlo>), OpenFault> {
    let hello = |verb: &str| format!("{verb} {}\r\n", o.hostname);
    let reply = match ask(&mut line, &hello("EHLO"), o.timers.ehlo).await {
        Ok(reply) => reply,
        Err(fault) => return Err(Unopened::Fault(Stage::Ehlo, fault).into()),
    };
    match reply.code {
        250 => return Ok((line, Some(Ehlo::parse(&reply)))),
        500 | 501 | 502 | 504 | 550 if o.demand.tls => return Ok((line, None)),
        500 | 501 | 502 | 504 | 550 => {}
        _ => return Err(refuse(line, Stage::Ehlo, &reply, o.timers)),
    }
    match ask(&mut line, &hello("HELO"), o.timers.ehlo).await {
        Ok(reply) if reply.code == 250 => Ok((line, None)),
        Ok(reply) => Err(refuse(line, Stage::Ehlo, &reply, o.timers)),
        Err(fault) => Err(Unopened::Fault(Stage::Ehlo, fault).into()),
    }
}

enum Upgrade {
    Refused(Line, Reply),
    Fault(Fault),
    Failed(HandshakeFault),
    Up(Line, Arc<TlsFacts>),
}

async fn starttls(mut line: Line, o: &Opening<'_>) -> Upgrade {
    // One deadline for all of it (OUT-20).
    let until = Instant::now() + o.timers.starttls;
    let left = || until.saturating_duration_since(Instant::now());
    let sent = line.send(b"STARTTLS\r\n", left()).await;
    let reply = match line.reply(left()).await {
        Ok(reply) => reply,
        // A host that breaks off at STARTTLS is one whose TLS does not work, as if it had broken off in the handshake:
        // without a promise it gets the mail in the clear, on a new connection (TLS-07).
        Err(fault) => {
            let failed = |token: &str, words: &str| {
                Upgrade::Failed(HandshakeFault { token: token.to_owned(), words: words.to_owned() })
            };
            return match sent.fault.unwrap_or(fault) {
                Fault::Lost => failed("handshake-eof", "the peer closed the connection at STARTTLS"),
                Fault::Timeout => failed("handshake-timeout", "no answer to STARTTLS"),
                fault => Upgrade::Fault(fault),
            };
        }
    };
    if reply.code != 220 {
        return match line.surplus() {
            None => Upgrade::Refused(line, reply.to_reply()),
            Some(fault) => Upgrade::Fault(fault),
        };
    }
    // TLS-02, OUT-31: whatever came with the 220 was not said inside TLS.
    let Some(Wire::Clear(tcp)) = line.into_wire() else {
        return Upgrade::Failed(HandshakeFault {
            token: "starttls-injection".to_owned(),
            words: "octets in the clear followed the reply to STARTTLS".to_owned(),
        });
    };
    match o.tls.handshake(tcp, o.host, o.sni, o.demand, left(), o.now).await {
        Ok((stream, facts)) => Upgrade::Up(Line::new(Wire::Tls(Box::new(stream))), Arc::new(facts)),
        Err(fault) => Upgrade::Failed(fault),
    }
}

/// The EHLO inside TLS, on which everything rests from now on (RFC 3207 §4.2). No HELO here (OUT-32).
async fn greet_inside(mut line: Line, o: &Opening<'_>) -> Result<(Line, Ehlo), Unopened> {
    match ask(&mut line, &format!("EHLO {}\r\n", o.hostname), o.timers.ehlo).await {
        Ok(reply) if reply.code == 250 => {
            let offered = Ehlo::parse(&reply);
            Ok((line, offered))
        }
        Ok(reply) if (400..500).contains(&reply.code) => {
            let reply = reply.to_reply();
            if reply.code == 421 {
                return Err(Unopened::Fault(Stage::Ehlo, Fault::Closing(reply)));
            }
            end(line, o.timers);
            Err(Unopened::Refused(Stage::Ehlo, reply))
        }
        Ok(_) => {
            end(line, o.timers);
            Err(Unopened::Fault(Stage::Ehlo, Fault::Protocol("EHLO was refused inside TLS")))
        }
        Err(fault) => Err(Unopened::Fault(Stage::Ehlo, fault)),
    }
}
