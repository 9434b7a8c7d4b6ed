//! Scripted MX hosts that remember everything they saw.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::ca::Leaf;

/// What a host does about STARTTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartTls {
    /// Offers and does it.
    Offered,
    /// Does not offer it, and refuses it with 502, as after a stripping attack.
    Stripped,
    /// Offers it and answers 454.
    Refused,
    /// Offers it, answers 220, and then sends no TLS.
    Broken,
    /// Offers it, answers 220, and then says nothing.
    Stalled,
    /// Offers it, and gives this reply; nothing when empty, but the end of the connection.
    Reply(&'static str),
    /// Offers it, answers 220, and meets the handshake with these octets.
    Octets(&'static [u8]),
}

/// How a host behaves; may be changed at any time and counts from the next command.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// STARTTLS.
    pub starttls: StartTls,
    /// Whether PIPELINING is offered.
    pub pipelining: bool,
    /// The SIZE limit.
    pub size: Option<u64>,
    /// Whether 8BITMIME is offered.
    pub eight_bit: bool,
    /// Whether SMTPUTF8 is offered.
    pub smtputf8: bool,
    /// The reply to EHLO in the clear, when it is another than the list of what is offered.
    pub ehlo: Option<String>,
    /// The like inside TLS.
    pub ehlo_tls: Option<String>,
    /// The first reply; `None` for silence, the end of the connection when empty.
    pub greeting: Option<String>,
    /// Replies to MAIL by sender address; others get 250.
    pub mail: HashMap<String, String>,
    /// The reply to MAIL in the clear.
    pub mail_clear: Option<String>,
    /// Replies to RCPT by recipient address; others get 250.
    pub rcpt: HashMap<String, String>,
    /// The reply to every RCPT that follows so many accepted ones of a transaction.
    pub rcpt_limit: Option<(usize, String)>,
    /// The reply to DATA.
    pub data: String,
    /// The reply to the final dot.
    pub dot: String,
    /// Refuses each pair of sender and recipient the first time, with 451 4.7.1.
    pub greylist: bool,
    /// Takes this many more messages and drops each connection instead of answering the final dot.
    pub drop_after_dot: u32,
    /// Says 421 to the MAIL that follows this many messages of one connection.
    pub messages_per_connection: Option<usize>,
    /// Silence before every reply.
    pub delay: Duration,
    /// Further silence before the reply to the final dot.
    pub dot_delay: Duration,
    /// What ends a reply line.
    pub line_end: &'static str,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            starttls: StartTls::Offered,
            pipelining: true,
            size: Some(50 << 20),
            eight_bit: true,
            smtputf8: true,
            ehlo: None,
            ehlo_tls: None,
            greeting: Some("220 %h ESMTP".to_owned()),
            mail: HashMap::new(),
            mail_clear: None,
            rcpt: HashMap::new(),
            rcpt_limit: None,
            data: "354 go on".to_owned(),
            dot: "250 2.0.0 taken".to_owned(),
            greylist: false,
            drop_after_dot: 0,
            messages_per_connection: None,
            delay: Duration::ZERO,
            dot_delay: Duration::ZERO,
            line_end: "\r\n",
        }
    }
}

/// One connection.
#[derive(Debug, Clone, Default)]
pub struct Connection {
    /// The server name of the handshake.
    pub sni: Option<String>,
    /// The protocol version, such as `TLSv1_3`.
    pub tls_version: Option<String>,
    /// Why the handshake failed, in our library's words.
    pub tls_error: Option<String>,
    /// Every command line, with whether it came inside TLS.
    pub commands: Vec<(bool, String)>,
}

/// One message whose final dot came.
#[derive(Debug, Clone)]
pub struct Message {
    /// The index of its connection.
    pub connection: usize,
    /// Whether it came inside TLS.
    pub tls: bool,
    /// MAIL FROM with its parameters, as written.
    pub mail: String,
    /// The accepted RCPT TO with their parameters, as written.
    pub rcpt: Vec<String>,
    /// The content with dot-stuffing undone.
    pub content: Vec<u8>,
    /// Whether a reply to the final dot was written.
    pub answered: bool,
    /// When the final dot came.
    pub at: Instant,
}

impl Message {
    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.content).into_owned()
    }
}

/// What a host has seen since it was made.
#[derive(Debug, Default)]
pub struct Seen {
    /// All connections.
    pub connections: Vec<Connection>,
    /// All messages whose final dot came.
    pub messages: Vec<Message>,
    greylisted: HashSet<(String, String)>,
}

impl Seen {
    /// How many MAIL commands came, inside TLS or in the clear.
    pub fn mail_commands(&self, tls: bool) -> usize {
        let commands = self.connections.iter().flat_map(|c| &c.commands);
        commands.filter(|(t, line)| *t == tls && line.to_ascii_uppercase().starts_with("MAIL ")).count()
    }
}

/// A scripted MX host.
#[derive(Clone)]
pub struct MxHost(Arc<Inner>);

struct Inner {
    name: String,
    address: SocketAddr,
    behaviour: Mutex<Behaviour>,
    tls: Mutex<Arc<ServerConfig>>,
    seen: Mutex<Seen>,
    /// Its value changes when all open connections are to be dropped.
    epoch: watch::Sender<u64>,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl MxHost {
    /// Listens on `address` and shows `leaf`.
    pub async fn start(name: &str, address: SocketAddr, leaf: &Leaf) -> Self {
        Self::open(name, address, leaf)
    }

    /// The like, for those who cannot wait; inside a runtime all the same.
    pub fn open(name: &str, address: SocketAddr, leaf: &Leaf) -> Self {
        let host = Self(Arc::new(Inner {
            name: name.to_owned(),
            address,
            behaviour: Mutex::default(),
            tls: Mutex::new(leaf.server_config()),
            seen: Mutex::default(),
            epoch: watch::Sender::new(0),
            listening: Mutex::default(),
        }));
        host.bind();
        host
    }

    /// Its name in MX records.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Changes the certificate and drops every open connection, so that no session outlives it.
    pub fn certificate(&self, leaf: &Leaf) {
        *self.0.tls.lock().unwrap() = leaf.server_config();
        self.hang_up();
    }

    /// Changes the behaviour from the next command on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.behaviour.lock().unwrap());
    }

    /// How many MAIL commands came in the clear, and how many messages came in all.
    pub fn saw(&self) -> (usize, usize) {
        let seen = self.seen();
        (seen.mail_commands(false), seen.messages.len())
    }

    /// What it saw so far. It sees nothing more, and a second call waits, while the result lives.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap()
    }

    /// Drops every open connection.
    pub fn hang_up(&self) {
        self.0.epoch.send_modify(|e| *e += 1);
    }

    /// Refuses connections from now on, and drops the open ones.
    pub async fn stop(&self) {
        let task = self.0.listening.lock().unwrap().take();
        if let Some(task) = task {
            task.abort();
            let _ = task.await;
        }
        self.hang_up();
    }

    /// Listens, at first or again after [`MxHost::stop`].
    pub async fn listen(&self) {
        self.bind();
    }

    fn bind(&self) {
        let listener = std::net::TcpListener::bind(self.0.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let host = self.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let index = {
                    let mut seen = host.seen();
                    seen.connections.push(Connection::default());
                    seen.connections.len() - 1
                };
                let (host, mut epoch) = (host.clone(), host.0.epoch.subscribe());
                tokio::spawn(async move {
                    let mut dialogue = Dialogue::new(&host, index);
                    tokio::select! {
                        _ = dialogue.run(stream) => {}
                        _ = epoch.changed() => {}
                    }
                });
            }
        });
        *self.0.listening.lock().unwrap() = Some(task);
    }

    fn behaviour(&self) -> Behaviour {
        self.0.behaviour.lock().unwrap().clone()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What to do after a phase of the dialogue.
enum Next {
    Close,
    StartTls,
}

/// Unread octets of one connection, and the transaction under way.
struct Dialogue<'a> {
    host: &'a MxHost,
    index: usize,
    tls: bool,
    buffer: Vec<u8>,
    mail: Option<String>,
    rcpt: Vec<String>,
    messages: usize,
}

impl<'a> Dialogue<'a> {
    const fn new(host: &'a MxHost, index: usize) -> Self {
        Self { host, index, tls: false, buffer: Vec::new(), mail: None, rcpt: Vec::new(), messages: 0 }
    }

    async fn run(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let Some(greeting) = self.host.behaviour().greeting else {
            return std::future::pending().await;
        };
        self.say(&mut stream, &greeting.replace("%h", self.host.name())).await?;
        if greeting.is_empty() || greeting.starts_with("421") {
            return Ok(());
        }
        let Next::StartTls = self.commands(&mut stream).await? else { return Ok(()) };
        match self.host.behaviour().starttls {
            StartTls::Broken => return stream.write_all(b"this is no handshake at all\r\n").await,
            StartTls::Stalled => return std::future::pending().await,
            StartTls::Octets(octets) => {
                // Closing on unread input would reset the connection before the octets are read.
                let mut hello = [0; 4096];
                let _ = stream.read(&mut hello).await?;
                return stream.write_all(octets).await;
            }
            _ => {}
        }
        let acceptor = TlsAcceptor::from(Arc::clone(&self.host.0.tls.lock().unwrap()));
        match acceptor.accept(stream).await {
            Ok(mut tls) => {
                {
                    let session = tls.get_ref().1;
                    let connection = &mut self.host.seen().connections[self.index];
                    connection.sni = session.server_name().map(str::to_owned);
                    connection.tls_version = session.protocol_version().map(|v| format!("{v:?}"));
                }
                self.tls = true;
                self.buffer.clear();
                self.commands(&mut tls).await.map(drop)
            }
            Err(error) => {
                self.host.seen().connections[self.index].tls_error = Some(error.to_string());
                Ok(())
            }
        }
    }

    async fn commands<S: Stream>(&mut self, stream: &mut S) -> io::Result<Next> {
        while let Some(line) = self.line(stream).await? {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.host.seen().connections[self.index].commands.push((self.tls, text.clone()));
            let behaviour = self.host.behaviour();
            let (verb, rest) = text.split_once([' ', ':']).unwrap_or((&text, ""));
            let reply = match verb.to_ascii_uppercase().as_str() {
                "EHLO" => self.ehlo(&behaviour),
                "HELO" => format!("250 {}", self.host.name()),
                "STARTTLS" => match behaviour.starttls {
                    StartTls::Stripped => "502 5.5.1 not here".to_owned(),
                    StartTls::Refused => "454 4.7.0 not now".to_owned(),
                    StartTls::Reply(reply) => {
                        if reply.starts_with("220") {
                            self.say(stream, reply).await?;
                            return Ok(Next::StartTls);
                        }
                        reply.to_owned()
                    }
                    _ => {
                        self.say(stream, "220 2.0.0 go ahead").await?;
                        return Ok(Next::StartTls);
                    }
                },
                "MAIL" => self.mail(rest, &behaviour),
                "RCPT" => self.recipient(rest, &behaviour),
                "DATA" if self.rcpt.is_empty() => "503 5.5.1 no recipients".to_owned(),
                "DATA" if !behaviour.data.starts_with("354") => behaviour.data.clone(),
                "DATA" => {
                    self.say(stream, &behaviour.data).await?;
                    match self.data(stream, &behaviour).await? {
                        Some(reply) => reply,
                        None => return Ok(Next::Close),
                    }
                }
                "RSET" => {
                    self.reset();
                    "250 2.0.0 ok".to_owned()
                }
                "NOOP" => "250 2.0.0 ok".to_owned(),
                "QUIT" => {
                    self.say(stream, "221 2.0.0 bye").await?;
                    return Ok(Next::Close);
                }
                _ => "500 5.5.2 what?".to_owned(),
            };
            self.say(stream, &reply).await?;
            if reply.is_empty() || reply.starts_with("421") {
                return Ok(Next::Close);
            }
        }
        Ok(Next::Close)
    }

    fn ehlo(&self, behaviour: &Behaviour) -> String {
        if let Some(reply) = if self.tls { &behaviour.ehlo_tls } else { &behaviour.ehlo } {
            return reply.clone();
        }
        let mut lines = vec![self.host.name().to_owned()];
        if let Some(size) = behaviour.size {
            lines.push(format!("SIZE {size}"));
        }
        lines.extend(["ENHANCEDSTATUSCODES", "DSN"].map(str::to_owned));
        for (offered, keyword) in [(behaviour.eight_bit, "8BITMIME"), (behaviour.smtputf8, "SMTPUTF8")] {
            lines.extend(offered.then(|| keyword.to_owned()));
        }
        if behaviour.pipelining {
            lines.push("PIPELINING".to_owned());
        }
        if !self.tls && behaviour.starttls != StartTls::Stripped {
            lines.push("STARTTLS".to_owned());
        }
        let last = lines.pop().unwrap_or_default();
        let first: String = lines.iter().map(|l| format!("250-{l}\r\n")).collect();
        format!("{first}250 {last}")
    }

    fn mail(&mut self, rest: &str, behaviour: &Behaviour) -> String {
        if behaviour.messages_per_connection.is_some_and(|n| self.messages >= n) {
            return "421 4.7.0 enough for this connection".to_owned();
        }
        let clear = behaviour.mail_clear.as_ref().filter(|_| !self.tls);
        let reply = clear.or_else(|| behaviour.mail.get(&path(rest))).cloned();
        let reply = reply.unwrap_or_else(|| "250 2.1.0 ok".to_owned());
        if reply.starts_with('2') {
            self.mail = Some(rest.to_owned());
        }
        reply
    }

    fn recipient(&mut self, rest: &str, behaviour: &Behaviour) -> String {
        let Some(mail) = &self.mail else { return "503 5.5.1 MAIL first".to_owned() };
        if let Some(reply) = behaviour.rcpt.get(&path(rest)) {
            return reply.clone();
        }
        if let Some((_, reply)) = behaviour.rcpt_limit.as_ref().filter(|(most, _)| self.rcpt.len() >= *most) {
            return reply.clone();
        }
        if behaviour.greylist && self.host.seen().greylisted.insert((path(mail), path(rest))) {
            return "451 4.7.1 greylisted, come again".to_owned();
        }
        self.rcpt.push(rest.to_owned());
        "250 2.1.5 ok".to_owned()
    }

    /// Takes the content and answers, unless the connection is to be dropped.
    async fn data<S: Stream>(&mut self, stream: &mut S, behaviour: &Behaviour) -> io::Result<Option<String>> {
        let mut content = Vec::new();
        loop {
            let Some(line) = self.line(stream).await? else { return Ok(None) };
            if line == b".\r\n" {
                break;
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
        let place = {
            let mut seen = self.host.seen();
            seen.messages.push(Message {
                connection: self.index,
                tls: self.tls,
                mail: self.mail.clone().unwrap_or_default(),
                rcpt: self.rcpt.clone(),
                content,
                answered: false,
                at: Instant::now(),
            });
            seen.messages.len() - 1
        };
        self.messages += 1;
        self.reset();
        let drop_it = {
            let mut behaviour = self.host.0.behaviour.lock().unwrap();
            let due = behaviour.drop_after_dot > 0;
            behaviour.drop_after_dot -= u32::from(due);
            due
        };
        if drop_it {
            return Ok(None);
        }
        tokio::time::sleep(behaviour.dot_delay).await;
        self.host.seen().messages[place].answered = true;
        Ok(Some(behaviour.dot.clone()))
    }

    fn reset(&mut self) {
        self.mail = None;
        self.rcpt.clear();
    }

    /// The next line with its end; `None` at the end of the stream.
    async fn line<S: Stream>(&mut self, stream: &mut S) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|b| *b == b'\n') {
                return Ok(Some(self.buffer.drain(..=end).collect()));
            }
            let mut chunk = vec![0; 16 * 1024];
            match stream.read(&mut chunk).await? {
                0 => return Ok(None),
                n => self.buffer.extend_from_slice(&chunk[..n]),
            }
        }
    }

    async fn say<S: Stream>(&self, stream: &mut S, reply: &str) -> io::Result<()> {
        tokio::time::sleep(self.host.behaviour().delay).await;
        if reply.is_empty() {
            return Ok(());
        }
        let end = self.host.behaviour().line_end;
        stream.write_all(format!("{reply}\r\n").replace("\r\n", end).as_bytes()).await?;
        stream.flush().await
    }
}

/// The address of a MAIL or RCPT argument, in lower case: `FROM:<A@b> SIZE=1` gives `a@b`.
fn path(argument: &str) -> String {
    let start = argument.find('<').map_or(0, |i| i + 1);
    let rest = &argument[start..];
    rest[..rest.find('>').unwrap_or(rest.len())].to_ascii_lowercase()
}
