//! A submitting application: a small SMTP client that shows every reply.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{PATIENCE, provider};

/// A complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of every line, without the code.
    pub lines: Vec<String>,
}

impl Reply {
    /// The id in `250 2.0.0 Ok: queued as ID`.
    pub fn queue_id(&self) -> Option<&str> {
        self.lines.last()?.split_once("queued as ")?.1.split_whitespace().next()
    }
}

trait Stream: AsyncBufRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncBufRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open session.
pub struct Client {
    stream: Box<dyn Stream>,
}

impl Client {
    /// Connects, reads the greeting and says EHLO.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let mut client = Self { stream: Box::new(BufStream::new(tcp)) };
        client.open().await?;
        Ok(client)
    }

    /// Connects and upgrades; `roots` is a PEM certificate, `name` the one expected.
    pub async fn connect_tls(address: SocketAddr, roots: &str, name: &str) -> io::Result<Self> {
        let mut tcp = BufStream::new(TcpStream::connect(address).await?);
        read_reply(&mut tcp).await?;
        tcp.write_all(b"EHLO app.example\r\n").await?;
        tcp.flush().await?;
        read_reply(&mut tcp).await?;
        tcp.write_all(b"STARTTLS\r\n").await?;
        tcp.flush().await?;
        read_reply(&mut tcp).await?;
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots.as_bytes()) {
            store.add(root.map_err(io::Error::other)?).map_err(io::Error::other)?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(store)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp.into_inner()).await?;
        let mut client = Self { stream: Box::new(BufStream::new(tls)) };
        client.command("EHLO app.example").await?;
        Ok(client)
    }

    async fn open(&mut self) -> io::Result<()> {
        let greeting = self.reply().await?;
        if greeting.code != 220 {
            return Err(io::Error::other(format!("greeting {greeting:?}")));
        }
        self.command("EHLO app.example").await.map(drop)
    }

    /// AUTH PLAIN with the initial response.
    pub async fn auth_plain(&mut self, user: &str, password: &str) -> io::Result<Reply> {
        let secret = STANDARD.encode(format!("\0{user}\0{password}"));
        self.command(&format!("AUTH PLAIN {secret}")).await
    }

    /// Sends one command and reads its reply.
    pub async fn command(&mut self, line: &str) -> io::Result<Reply> {
        Ok(self.pipeline(&[line]).await?.remove(0))
    }

    /// Sends all commands in one write, then reads as many replies.
    pub async fn pipeline(&mut self, lines: &[&str]) -> io::Result<Vec<Reply>> {
        let all: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
        self.write(all.as_bytes()).await?;
        let mut replies = Vec::new();
        for _ in lines {
            replies.push(self.reply().await?);
        }
        Ok(replies)
    }

    /// Writes octets as they are.
    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// Reads one reply.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut *self.stream).await
    }

    /// Submits one message, pipelined; the answer is the first refusal or the reply to the final dot.
    /// `content` must have CRLF line ends and is dot-stuffed here.
    pub async fn submit(&mut self, from: &str, to: &[&str], content: &str) -> io::Result<Reply> {
        let mut lines = vec![format!("MAIL FROM:<{from}>")];
        lines.extend(to.iter().map(|t| format!("RCPT TO:<{t}>")));
        lines.push("DATA".to_owned());
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let replies = self.pipeline(&lines).await?;
        if let Some(refusal) = replies.iter().find(|r| r.code >= 400) {
            let refusal = refusal.clone();
            if replies.last().is_some_and(|r| r.code == 354) {
                self.command(".").await?;
            }
            return Ok(refusal);
        }
        let mut data = content.replace("\r\n.", "\r\n..");
        if data.starts_with('.') {
            data.insert(0, '.');
        }
        if !data.ends_with("\r\n") {
            data.push_str("\r\n");
        }
        self.command(&format!("{data}.")).await
    }
}

/// A small message; `subject` is what a test recognises it by.
pub fn message(from: &str, to: &str, subject: &str) -> String {
    format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\n\
         Message-ID: <{subject}@app.example>\r\n\r\nHello.\r\n"
    )
}

async fn read_reply<S: AsyncBufRead + Unpin + Send + ?Sized>(stream: &mut S) -> io::Result<Reply> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        let read = timeout(PATIENCE, stream.read_line(&mut line)).await;
        if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let code = line.get(..3).and_then(|c| c.parse().ok());
        let code = code.ok_or_else(|| io::Error::other(format!("no reply: {line}")))?;
        lines.push(line.get(4..).unwrap_or("").to_owned());
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(Reply { code, lines });
        }
    }
}
