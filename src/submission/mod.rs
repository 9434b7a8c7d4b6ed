//! The way in: listeners, authentication, header fix-up, and the single door from outside.
//!
//! [`smtp_listener`] accepts connections, [`smtp_connection`] drives `smtp::session` over each, [`tls`] keeps
//! the certificate fresh and [`auth`] checks passwords. Whatever way a message comes in, [`accept`] is the
//! one place that lets it into the queue; [`fixup`] and [`content`] are its tools.

use core::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::dns::Dnssec;
use crate::mail::{Domain, ReversePath};
use fixup::SenderRule;

pub mod accept;
pub mod auth;
pub mod content;
pub mod fixup;
pub mod metrics;
pub mod smtp_connection;
pub mod smtp_listener;
pub mod tls;

/// What all listeners share.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name in greeting, EHLO, Received and Message-ID.
    pub hostname: Domain,
    /// Peers that may send without AUTH on a listener with [`AuthRule::Optional`].
    pub trusted_networks: Vec<IpNet>,
    /// Octets (LIM-01).
    pub max_message_size: u64,
    /// Per message (LIM-08).
    pub max_recipients: usize,
    /// Of all listeners together (LIM-13).
    pub max_connections: usize,
    /// Per IPv4 address or IPv6 /64 that is not trusted (LIM-13).
    pub max_connections_per_source: usize,
    /// Octets of disk that accepting mail never uses (DUR-11).
    pub reserve: u64,
    /// Who may authenticate.
    pub users: Vec<User>,
    /// Where large messages lie while they come in.
    pub data_dir: PathBuf,
    /// Whether DNSSEC answers are believed. Only then can REQUIRETLS be kept, and only then is it offered (RTLS-01, RTLS-29).
    pub dnssec: Dnssec,
    /// Deadlines.
    pub timers: Timers,
}

/// Somebody who may authenticate.
#[derive(Clone)]
pub struct User {
    /// The name, compared octet for octet.
    pub name: String,
    /// An argon2id hash in PHC form.
    pub password_hash: String,
    /// The senders allowed to this user; empty: any.
    pub allowed_senders: Vec<SenderRule>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl User {
    /// Whether this user may use `path` as envelope sender. The null sender is open to all.
    pub fn may_send_as(&self, path: &ReversePath) -> bool {
        self.allowed_senders.is_empty()
            || path.mailbox().is_none_or(|m| self.allowed_senders.iter().any(|rule| rule.permits(m)))
    }
}

impl Settings {
    /// Whether `peer` lies in a trusted network, a mapped IPv4 address being what it maps (SUB-26).
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted_networks.iter().any(|net| net.contains(&peer))
    }
}

/// The deadlines of a session (LIM-10, LIM-11, DUR-18). All are measured on the monotonic clock.
#[derive(Debug, Clone)]
pub struct Timers {
    /// From one command to the end of the next, and without input in content.
    pub idle: Duration,
    /// The same, until the client has said EHLO and may send mail.
    pub unproven: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// Time in content before the minimum rate counts.
    pub data_grace: Duration,
    /// Octets per second that content must reach after that.
    pub data_rate: u32,
    /// A whole session.
    pub session: Duration,
    /// Sending a full output buffer.
    pub write: Duration,
    /// From end of data to the reply (SUB-45).
    pub accept: Duration,
    /// For content in progress when the listener closes.
    pub close: Duration,
    /// Waiting for a free slot to check a password.
    pub auth: Duration,
    /// Reading on after we have closed, so that the last reply is not lost.
    pub linger: Duration,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(300),
            unproven: Duration::from_secs(60),
            handshake: Duration::from_secs(30),
            data_grace: Duration::from_secs(60),
            data_rate: 500,
            session: Duration::from_secs(3600),
            write: Duration::from_secs(60),
            accept: Duration::from_secs(110),
            close: Duration::from_secs(30),
            auth: Duration::from_secs(30),
            linger: Duration::from_secs(2),
        }
    }
}

/// One listener.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// How TLS begins.
    pub protocol: Protocol,
    /// Who may send.
    pub auth: AuthRule,
}

/// How TLS begins on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// In the clear, with STARTTLS when there is a certificate (RFC 3207).
    Smtp,
    /// At once (RFC 8314 §3.3).
    Smtps,
}

/// Who may send on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthRule {
    /// Only who has authenticated, inside TLS.
    Required,
    /// Also a peer of a trusted network, in the clear too.
    Optional,
}
