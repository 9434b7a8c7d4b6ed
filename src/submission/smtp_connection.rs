//! One SMTP connection: drives `smtp::session` over a stream, with deadlines and bounds on everything.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::accept::Acceptor;
use super::auth::{Authenticator, NoRandomness};
use super::fixup::Refused;
use super::metrics::{Reply, Stage, SubmissionMetrics};
use super::{AuthRule, Listener, Protocol, Settings, Timers, User};
use crate::mail::ReversePath;
use crate::observe::fields;
use crate::smtp::Answer;
use crate::smtp::session::{Judge, Session, Step, Terms, Verdict};

mod receive;
mod wire;

/// Replies waiting to be sent beyond which no further command is read (LIM-11).
const MAX_UNSENT: usize = 64 * 1024;

/// Failed AUTH commands of a session (LIM-20).
const MAX_AUTH_FAILURES: u32 = 3;

/// What every connection of every listener uses.
pub struct Service {
    settings: Arc<Settings>,
    acceptor: Acceptor,
    authenticator: Authenticator,
    tls: Option<TlsAcceptor>,
}

impl Service {
    /// A service that lets mail in through `acceptor`; without `tls` neither STARTTLS nor AUTH is offered.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(acceptor: Acceptor, tls: Option<Arc<rustls::ServerConfig>>) -> Result<Self, NoRandomness> {
        let settings = Arc::clone(acceptor.settings());
        let authenticator = Authenticator::new(&settings.users, settings.timers.auth)?;
        Ok(Self { settings, acceptor, authenticator, tls: tls.map(TlsAcceptor::from) })
    }

    /// What it was built with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it counts.
    pub(super) const fn metrics(&self) -> &SubmissionMetrics {
        self.acceptor.metrics()
    }
}

/// Serves one connection to its end. `close` ends it politely at the next chance.
pub(super) async fn run(
    service: &Service,
    rules: &Listener,
    tcp: TcpStream,
    peer: IpAddr,
    close: &CancellationToken,
) {
    let id = format!("{:08x}", rand::random::<u32>());
    let mut connection = Connection::new(service, rules, peer, close, id.clone());
    if let Err(error) = connection.serve(rules.protocol, tcp).await {
        debug!(event = "connection-lost", session = %id, client = %peer, %error);
    }
}

struct Connection<'a> {
    service: &'a Service,
    timers: &'a Timers,
    close: &'a CancellationToken,
    peer: IpAddr,
    session: Session,
    user: Option<Arc<User>>,
    /// A refusal was logged for a client that may not send.
    refused_once: bool,
    tls: Option<String>,
    input: BytesMut,
    out: Vec<u8>,
    /// When the session ends at the latest.
    end: Instant,
}

/// How a conversation ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// 220 is sent: TLS comes next.
    StartTls,
    /// All is said.
    Closed,
    /// The client may still be sending what we shall not read as commands.
    Aborted,
    /// The client has gone.
    Gone,
}

/// What a read brought.
enum Input {
    Some,
    End,
    TooLate,
    Closing,
}

/// A line of input, or why there is none.
enum Line {
    Complete(usize),
    Bare,
    TooLong,
    Foreign,
    Incomplete,
}

impl<'a> Connection<'a> {
    fn new(
        service: &'a Service,
        rules: &Listener,
        peer: IpAddr,
        close: &'a CancellationToken,
        id: String,
    ) -> Self {
        let settings = &service.settings;
        let terms = Terms {
            hostname: settings.hostname.clone(),
            session: id,
            max_message_size: settings.max_message_size,
            max_recipients: settings.max_recipients,
            can_tls: service.tls.is_some(),
            can_auth: service.authenticator.has_users(),
            auth_required: rules.auth == AuthRule::Required,
            trusted: settings.trusts(peer),
            requiretls: settings.dnssec.is_believed(),
            max_auth_failures: MAX_AUTH_FAILURES,
        };
        Self {
            service,
            timers: &settings.timers,
            close,
            peer,
            session: Session::new(terms, rules.protocol == Protocol::Smtps),
            user: None,
            refused_once: false,
            tls: None,
            input: BytesMut::new(),
            out: Vec::new(),
            end: Instant::now() + settings.timers.session,
        }
    }

    async fn serve(&mut self, protocol: Protocol, mut tcp: TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        if protocol == Protocol::Smtp {
            let end = match self.greeting(waiting(&tcp)) {
                None => self.converse(&mut tcp).await?,
                Some(end) => end,
            };
            if end != End::StartTls {
                return self.finish(&mut tcp, end).await;
            }
        }
        let Some(acceptor) = &self.service.tls else { return Ok(()) };
        let mut tls = timeout(self.timers.handshake, acceptor.accept(tcp)).await??;
        self.tls = Some(describe(tls.get_ref().1));
        let end = match protocol {
            Protocol::Smtps => self.greeting(false),
            Protocol::Smtp => None,
        };
        let end = match end {
            None => self.converse(&mut tls).await?,
            Some(end) => end,
        };
        self.finish(&mut tls, end).await
    }

    /// Writes the greeting, or what stands in its place.
    fn greeting(&mut self, early: bool) -> Option<End> {
        let instead = if self.close.is_cancelled() {
            Answer::new(421, 3, 2, "shutting down")
        } else if !self.service.acceptor.writable() {
            Answer::new(421, 3, 0, "the queue cannot store mail now")
        } else if early {
            // SUB-06: RFC 5321 §4.3.1 has the client wait for the greeting.
            Answer::new(554, 5, 0, "the greeting comes first")
        } else {
            self.session.greet(&mut self.out);
            return None;
        };
        self.session.say(&instead, &mut self.out);
        Some(End::Aborted)
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&mut self, io: &mut S) -> io::Result<End> {
        let mut since = Instant::now();
        loop {
            let step = match self.next_line() {
                Line::Complete(n) => self.take_line(n),
                Line::Bare => self.session.bare_line_end(&mut self.out),
                Line::TooLong => self.session.line_too_long(&mut self.out),
                Line::Foreign => return Ok(End::Aborted),
                Line::Incomplete => {
                    let proven = self.session.has_helo() && self.session.may_send();
                    let wait = if proven { self.timers.idle } else { self.timers.unproven };
                    // Of the whole command, not of an octet (LIM-10).
                    match self.read(io, since + wait).await? {
                        Input::Some => continue,
                        Input::End => return Ok(End::Gone),
                        Input::TooLate => self.last_word(Answer::new(421, 4, 2, "timeout")),
                        Input::Closing => self.last_word(Answer::new(421, 3, 2, "shutting down")),
                    }
                }
            };
            match step {
                Step::Line => {}
                Step::StartTls if self.input.is_empty() => {
                    self.session.start_tls(&mut self.out);
                    self.user = None;
                    self.flush(io).await?;
                    return Ok(End::StartTls);
                }
                Step::StartTls => {
                    info!(event = "starttls-injection", session = self.session.id(), client = %self.peer);
                    self.session.injected(&mut self.out);
                    return Ok(End::Aborted);
                }
                Step::Verify(credentials) => {
                    let name: String = credentials.user.chars().take(100).collect();
                    let (verdict, user) = self.service.authenticator.check(credentials).await;
                    self.service.metrics().auth.count(verdict.into());
                    if let Some(reason) = why_not(verdict) {
                        info!(event = "auth-failed", session = self.session.id(), client = %self.peer,
                              user = &*fields::shown_text(&name), reason);
                    }
                    self.user = user;
                    if self.session.authenticated(verdict, &mut self.out) == Step::Close {
                        return Ok(End::Closed);
                    }
                }
                Step::Content => {
                    if let Some(end) = self.content(io).await? {
                        return Ok(end);
                    }
                }
                Step::Abort => return Ok(End::Aborted),
                Step::Close => return Ok(End::Closed),
            }
            since = Instant::now();
            if self.out.len() > MAX_UNSENT {
                self.flush(io).await?;
            }
        }
    }

    fn next_line(&self) -> Line {
        if self.session.is_foreign_start(&self.input) {
            return Line::Foreign;
        }
        let limit = self.session.max_line(&self.input);
        match self.input.iter().take(limit).position(|b| *b == b'\n') {
            Some(lf) if self.input.get(..lf).is_some_and(|line| line.ends_with(b"\r")) => {
                Line::Complete(lf + 1)
            }
            Some(_) => Line::Bare,
            None if self.input.len() >= limit => Line::TooLong,
            None => Line::Incomplete,
        }
    }

    fn take_line(&mut self, len: usize) -> Step {
        let line = self.input.split_to(len);
        let line = line.strip_suffix(b"\r\n").unwrap_or(&line);
        let gate = Gate { acceptor: &self.service.acceptor, user: self.user.as_deref() };
        let before = self.out.len();
        let step = self.session.line(line, &gate, &mut self.out);
        if let Some(reply) = self.out.get(before..).filter(|r| r.starts_with(b"4") || r.starts_with(b"5")) {
            let class = if reply.starts_with(b"4") { Reply::Temporary } else { Reply::Permanent };
            self.service.metrics().refusals.count((Stage::Command, class));
            let reply = String::from_utf8_lossy(reply);
            let reply = &*fields::shown_text(reply.trim_end());
            let command = envelope_command(line);
            let command = &*fields::shown_text(&command);
            let user = self.user.as_ref().map(|u| u.name.as_str()).unwrap_or_default();
            // Whoever may not send gets one line a session, so that a stranger cannot fill the log.
            if self.session.may_send() || !std::mem::replace(&mut self.refused_once, true) {
                info!(event = "refused", stage = "command", session = self.session.id(), client = %self.peer, user, command, reply);
            } else {
                debug!(event = "refused", stage = "command", session = self.session.id(), client = %self.peer, user, command, reply);
            }
        }
        step
    }
}

/// The judge of senders for one session.
struct Gate<'a> {
    acceptor: &'a Acceptor,
    user: Option<&'a User>,
}

impl Judge for Gate<'_> {
    fn sender(&self, path: &ReversePath) -> Result<(), Answer> {
        self.acceptor.sender(self.user, path).map_err(Answer::from)
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        Self { code: refused.code, enhanced: Some(refused.enhanced), text: refused.text.into() }
    }
}

/// Whether the client has spoken already. Asks the kernel, and so costs no time.
fn waiting(tcp: &TcpStream) -> bool {
    rustix::io::ioctl_fionread(tcp).is_ok_and(|n| n > 0)
}

/// Why somebody is not let in, for the log; `None` for who is.
const fn why_not(verdict: Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::Right => None,
        Verdict::Wrong => Some("wrong name or password"),
        Verdict::Unknown => Some("could not be checked now"),
    }
}

/// The command line, for the log, when it is one that names an address. Nothing else of what a client says is
/// logged: a line in the middle of AUTH is a secret (LIM-31).
fn envelope_command(line: &[u8]) -> String {
    let named = |verb: &[u8]| line.get(..verb.len()).is_some_and(|start| start.eq_ignore_ascii_case(verb));
    if !named(b"MAIL FROM:") && !named(b"RCPT TO:") {
        return String::new();
    }
    String::from_utf8_lossy(line).chars().take(300).collect()
}

/// `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
fn describe(tls: &rustls::ServerConnection) -> String {
    let version = match tls.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    let suite = tls.negotiated_cipher_suite().map(|s| format!(" {:?}", s.suite())).unwrap_or_default();
    format!("{version}{suite}")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::submission::accept::tests::house;

    // LIM-11
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_no_replies_is_read_no_further_and_let_go() {
        let service = Service::new(house(|_| {}).acceptor, None).unwrap();
        let rules = Listener {
            address: "127.0.0.1:25".parse().unwrap(),
            protocol: Protocol::Smtp,
            auth: AuthRule::Optional,
        };
        let (mut theirs, mut ours) = duplex(4096);
        let close = CancellationToken::new();
        let peer = "192.0.2.1".parse().unwrap();
        let mut connection = Connection::new(&service, &rules, peer, &close, "s".to_owned());
        let (mut taken, started) = (0, Instant::now());
        let flood = async {
            while theirs.write_all(b"NOOP\r\n").await.is_ok() {
                taken += 6;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = connection.converse(&mut ours) => ended,
            () = flood => unreachable!("the flood does not end"),
        };
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= service.settings.timers.write);
        // What was answered, what was read and not answered, and what the pipe holds.
        assert!(taken < MAX_UNSENT + 64 * 1024, "{taken}");
        assert!(connection.out.len() < MAX_UNSENT + 4096, "{}", connection.out.len());
    }
}
