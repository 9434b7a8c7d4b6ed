//! Asks the running relay: one blocking HTTP request per connection, bounded in time and size.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::http::Problem;
use crate::config::Secret;

/// The way to a running relay.
#[derive(Debug, Clone)]
pub struct Client {
    /// `admin.listen`.
    pub address: SocketAddr,
    /// The bearer token.
    pub token: Secret,
    /// For the connection.
    pub connect: Duration,
    /// For each read: longer than the relay's own limit, so that its answer arrives.
    pub answer: Duration,
}

/// The most octets of an answer: ten thousand rows fit well.
const MAX_ANSWER: u64 = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there: the relay does not run, or elsewhere.
    #[error("the relay does not answer at {0}: {1}")]
    Silent(SocketAddr, std::io::Error),
    /// It said no: status and words.
    #[error("{1}")]
    Refused(u16, String),
    /// What came is not its language.
    #[error("not an answer of a relay: {0}")]
    Garbled(String),
}

impl Client {
    /// A client with the usual limits.
    pub const fn new(address: SocketAddr, token: Secret) -> Self {
        Self { address, token, connect: Duration::from_secs(3), answer: Duration::from_secs(100) }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask("GET", path, "")
    }

    /// `POST path` with a JSON body.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, ClientError> {
        let body = serde_json::to_string(body).map_err(|e| ClientError::Garbled(e.to_string()))?;
        self.ask("POST", path, &body)
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &str) -> Result<T, ClientError> {
        let silent = |e| ClientError::Silent(self.address, e);
        let mut stream = TcpStream::connect_timeout(&self.address, self.connect).map_err(silent)?;
        stream.set_read_timeout(Some(self.answer)).map_err(silent)?;
        stream.set_write_timeout(Some(self.answer)).map_err(silent)?;
        // HTTP/1.0: the answer is not chunked and ends with the connection.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            self.token.expose(),
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).map_err(silent)?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).map_err(silent)?;
        read_answer(&answer)
    }
}

fn read_answer<T: DeserializeOwned>(answer: &[u8]) -> Result<T, ClientError> {
    let garbled = |what: &str| ClientError::Garbled(what.to_owned());
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| garbled("no end of header"))?;
    let (head, body) = answer.split_at_checked(end + 4).ok_or_else(|| garbled("no body"))?;
    let status = std::str::from_utf8(head)
        .ok()
        .and_then(|h| h.strip_prefix("HTTP/1."))
        .and_then(|h| h.split(' ').nth(1))
        .and_then(|s| s.trim().parse::<u16>().ok())
        .ok_or_else(|| garbled("no status"))?;
    if !(200..300).contains(&status) {
        let words = serde_json::from_slice::<Problem>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).trim().to_owned(), |p| p.error);
        return Err(ClientError::Refused(status, words));
    }
    serde_json::from_slice(body).map_err(|e| ClientError::Garbled(e.to_string()))
}

/// `?a=b&c=d` of what is set, percent-encoded; empty for nothing.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(name);
        out.push('=');
        out.push_str(&encode(value));
    }
    out
}

/// A value for a path or a query, percent-encoded.
pub fn encode(value: &str) -> String {
    let mut out = String::new();
    for b in value.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(b));
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let pairs = [("a", Some("x y&z@é".to_owned())), ("b", None), ("c", Some(String::new()))];
        assert_eq!(query(&pairs), "?a=x%20y%26z%40%C3%A9&c=");
    }

    #[test]
    fn answers_are_read_or_refused() {
        let n = read_answer::<u32>(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n7");
        assert_eq!(n.unwrap(), 7);
        let no = read_answer::<u32>(b"HTTP/1.1 404 Not Found\r\n\r\n{\"error\":\"nothing\"}").unwrap_err();
        assert!(matches!(no, ClientError::Refused(404, w) if w == "nothing"));
        for bad in [&b""[..], b"220 mail.example ESMTP\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n{"] {
            assert!(matches!(read_answer::<u32>(bad), Err(ClientError::Garbled(_))), "{bad:?}");
        }
    }
}
