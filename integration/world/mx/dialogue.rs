//! One connection of a host, command by command.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{Behaviour, Message, MxHost, StartTls};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// What to do after a phase of the dialogue.
enum Next {
    Close,
    StartTls,
}

/// Unread octets of one connection, and the transaction under way.
pub(super) struct Dialogue<'a> {
    host: &'a MxHost,
    index: usize,
    tls: bool,
    buffer: Vec<u8>,
    mail: Option<String>,
    rcpt: Vec<String>,
    messages: usize,
}

impl<'a> Dialogue<'a> {
    pub(super) const fn new(host: &'a MxHost, index: usize) -> Self {
        Self { host, index, tls: false, buffer: Vec::new(), mail: None, rcpt: Vec::new(), messages: 0 }
    }

    pub(super) async fn run(&mut self, mut stream: TcpStream) -> io::Result<()> {
        let Some(greeting) = self.host.behaviour().greeting else {
            return std::future::pending().await;
        };
        self.say(&mut stream, &greeting.replace("%h", self.host.name())).await?;
        if greeting.is_empty() || greeting.starts_with("421") {
            return Ok(());
        }
        let Next::StartTls = self.commands(&mut stream).await? else { return Ok(()) };
        match self.host.behaviour().starttls {
            StartTls::Stalled => return std::future::pending().await,
            StartTls::Octets(octets) => {
                // Octets that came with the 220 would be an injection, and closing on unread input would reset the connection.
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
        if self.tls && behaviour.requiretls {
            lines.push("REQUIRETLS".to_owned());
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
        if rest.to_ascii_uppercase().ends_with(" REQUIRETLS") && !(self.tls && behaviour.requiretls) {
            return "555 5.5.4 REQUIRETLS was not offered".to_owned();
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
