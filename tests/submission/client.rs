//! A client that sends octets and reads replies, and how it comes to a state of the dialogue.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::relay::{Relay, SUBMISSION, SUBMISSIONS, TRUSTED};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

pub(crate) struct Client {
    io: Option<Box<dyn Stream>>,
    pub(crate) read: Vec<u8>,
    pub(crate) replies: Vec<String>,
}

impl Client {
    pub(crate) async fn connect(relay: &Relay, door: usize) -> Self {
        Self::over(TcpStream::connect(relay.doors[door]).await.unwrap())
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self { io: Some(Box::new(stream)), read: Vec::new(), replies: Vec::new() }
    }

    pub(crate) fn io(&mut self) -> &mut Box<dyn Stream> {
        self.io.as_mut().unwrap()
    }

    pub(crate) async fn send(&mut self, octets: &[u8]) {
        // A server that has closed is a fact to be seen in its replies, not an error of the test.
        let _ = timeout(PATIENCE, self.io().write_all(octets)).await.unwrap();
        let _ = self.io().flush().await;
    }

    /// The last line of the next reply, without CRLF; `None` at the end.
    pub(crate) async fn reply(&mut self) -> Option<String> {
        self.reply_lines().await.pop()
    }

    /// All lines of the next reply; none at the end.
    pub(crate) async fn reply_lines(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            if let Some(end) = self.read.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                let line = String::from_utf8(line[..end].to_vec()).unwrap();
                assert!(line.len() <= 510, "SUB-47: {line}");
                let more = line.as_bytes().get(3) == Some(&b'-');
                lines.push(line);
                if !more {
                    self.replies.extend(lines.last().cloned());
                    return lines;
                }
                continue;
            }
            let mut buf = [0; 4096];
            match timeout(PATIENCE, self.io().read(&mut buf)).await.unwrap() {
                Ok(n) if n > 0 => self.read.extend_from_slice(&buf[..n]),
                _ => return Vec::new(),
            }
        }
    }

    pub(crate) async fn say(&mut self, line: &str, want: &str) {
        self.send(format!("{line}\r\n").as_bytes()).await;
        let got = self.reply().await.unwrap_or_default();
        assert!(got.starts_with(want), "{line}: {got}");
    }

    pub(crate) async fn start_tls(&mut self, relay: &Relay) -> bool {
        let name = "relay.example.net".try_into().unwrap();
        match relay.tls.connect(name, self.io.take().unwrap()).await {
            Ok(tls) => {
                self.io = Some(Box::new(tls));
                true
            }
            Err(_) => false,
        }
    }
}

pub(crate) async fn start(relay: &Relay, state: &str) -> Client {
    match state {
        "connect-587" => return Client::connect(relay, SUBMISSION).await,
        "connect-465" => return Client::connect(relay, SUBMISSIONS).await,
        _ => {}
    }
    let trusted = state == "plain-trusted-txn";
    let mut client = Client::connect(relay, if trusted { TRUSTED } else { SUBMISSION }).await;
    assert!(client.reply().await.unwrap().starts_with("220 relay.example.net ESMTP"));
    client.say("EHLO client.example", "250 ").await;
    if state == "ehlo" {
        return client;
    }
    if !trusted {
        client.say("STARTTLS", "220 2.0.0").await;
        assert!(client.start_tls(relay).await);
        client.say("EHLO client.example", "250 ").await;
        if state == "tls" {
            return client;
        }
        client.say("AUTH PLAIN AGFwcDEAc2VjcmV0", "235 2.7.0").await;
        if state == "authed" {
            return client;
        }
    }
    client.say("MAIL FROM:<app1@example.org>", "250 2.1.0").await;
    client.say("RCPT TO:<bob@example.net>", "250 2.1.5").await;
    if state == "data" {
        client.say("DATA", "354 ").await;
    } else {
        assert!(matches!(state, "txn" | "plain-trusted-txn"), "{state}");
    }
    client
}
