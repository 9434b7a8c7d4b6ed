//! The sections of the file as types, one for each.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Networks, Rate, Secret, SecretSource};
use crate::dns::anchor::Anchor;
use crate::mail::{Domain, Mailbox};

/// Where the queue is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// `data_dir/queue.db`.
    Sqlite,
}

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Whether AUTH comes first for everybody.
    pub auth: ListenerAuth,
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP, with STARTTLS when `[tls]` is set.
    Smtp,
    /// SMTP inside TLS from the first octet (RFC 8314 §3.3).
    Smtps,
    /// Submission over HTTP.
    Http,
    /// Submission over HTTPS.
    Https,
}

/// `listener.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerAuth {
    /// No mail without AUTH.
    Required,
    /// Trusted networks may relay without.
    Optional,
}

/// Who may hand mail in, and how much.
#[derive(Debug, Clone, PartialEq)]
pub struct Submission {
    /// Clients that may relay without AUTH.
    pub trusted_networks: Vec<ipnet::IpNet>,
    /// A trusted network may cover the default gateway.
    pub trust_nat: bool,
    /// Octets.
    pub max_message_size: u64,
    /// Recipients of one message.
    pub max_recipients: usize,
    /// Open connections.
    pub max_connections: usize,
    /// New connections per client address.
    pub connection_rate: Option<Rate>,
    /// Messages per user.
    pub user_rate: Option<Rate>,
    /// Who may authenticate.
    pub user: Vec<User>,
}

/// `[[submission.user]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name that AUTH gives.
    pub name: String,
    /// An argon2id hash in PHC form, as `sealpost user hash` prints it.
    pub password_hash: Secret,
    /// `user@domain` or `@domain`, lower-case domain; empty: any sender.
    pub allowed_senders: Vec<String>,
}

/// What submitting applications see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM, leaf first.
    pub certificate: PathBuf,
    /// PEM.
    pub private_key: PathBuf,
}

/// `[queue]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Lifetime of a message.
    pub max_age: Duration,
    /// Waits after the 1st, 2nd, … deferral; never empty.
    pub retry: Vec<Duration>,
    /// When the sender is told that a message waits.
    pub delay_warning_after: Option<Duration>,
    /// How long the timelines of finished messages are kept.
    pub history: Duration,
    /// Octets of timelines kept.
    pub history_limit: u64,
    /// Octets of disk kept free.
    pub reserve: u64,
}

/// `[dns]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Resolvers; empty: those of the system.
    pub servers: Vec<SocketAddr>,
    /// Who says what DNSSEC authenticates.
    pub dnssec: Dnssec,
    /// Resolvers elsewhere whose word is taken.
    pub trusted_servers: Vec<SocketAddr>,
    /// Root keys for validation in this process; `None`: those of IANA.
    pub trust_anchor: Option<TrustAnchor>,
    /// Names asked for at start and hourly.
    pub self_test: SelfTest,
}

/// `dns.dnssec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dnssec {
    /// The AD bit, where the resolver is on this machine.
    Auto,
    /// The AD bit.
    TrustAd,
    /// This process.
    Validate,
    /// Nobody: every answer counts as insecure.
    Off,
}

/// `dns.trust_anchor`: a file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustAnchor {
    /// The file.
    pub path: PathBuf,
    /// Its keys and digests. Not empty.
    pub anchors: Arc<[Anchor]>,
}

/// `dns.self_test`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfTest {
    /// A signed name; empty: not asked.
    pub secure: String,
    /// A name with broken signatures; empty: not asked.
    pub bogus: String,
}

/// `[trust]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// The base set.
    pub roots: Roots,
    /// PEM files added to it.
    pub extra_roots: Vec<PathBuf>,
}

/// `trust.roots`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roots {
    /// Mozilla's, compiled in.
    Webpki,
    /// Those of the operating system.
    System,
    /// Nothing.
    None,
}

/// `[delivery]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// The port of MX hosts.
    pub port: u16,
    /// Families in use.
    pub ip_family: IpFamily,
    /// Local addresses to send from.
    pub source_addresses: Vec<SourceAddress>,
    /// Addresses out of the DNS that are not dialled.
    pub deny_networks: Networks,
    /// Denied addresses that MX hosts may have all the same.
    pub allow_networks: Networks,
    /// Open connections.
    pub max_connections: usize,
    /// Open connections per address, port and source address.
    pub max_connections_per_host: usize,
    /// After so many, a session is closed.
    pub max_messages_per_connection: usize,
    /// How long SIGTERM waits for running transactions.
    pub drain: Duration,
}

/// `delivery.ip_family`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpFamily {
    /// Both.
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// An entry of `delivery.source_addresses`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAddress {
    /// The local address.
    pub address: IpAddr,
    /// The EHLO name that goes with it, when it is not `hostname`.
    pub ehlo: Option<Domain>,
}

/// `[mta_sts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MtaSts {
    /// Whether policies are looked for and honoured.
    pub enabled: bool,
    /// The port of policy hosts.
    pub port: u16,
    /// The whole of one fetch.
    pub fetch_timeout: Duration,
    /// Octets of a policy.
    pub max_policy_size: u64,
}

/// `[dane]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dane {
    /// Whether TLSA records are looked for and honoured.
    pub enabled: bool,
    /// Whether an enforce policy must hold beside DANE.
    pub require_both: bool,
}

/// `[[destination]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// A recipient domain, `*.domain` or `*`, in canonical form.
    pub domain: String,
    /// The least that is demanded.
    pub minimum_tls: Option<MinimumTls>,
    /// Where mail goes instead of to the MX.
    pub next_hop: Option<NextHop>,
    /// AUTH at the next hop.
    pub user: String,
    /// Its password.
    pub password: Option<Secret>,
    /// PEM files that replace `[trust]`.
    pub roots: Vec<PathBuf>,
    /// Messages.
    pub rate: Option<Rate>,
    /// Open connections.
    pub max_connections: Option<usize>,
}

/// `destination.minimum_tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MinimumTls {
    /// Nothing beyond what is published.
    None,
    /// Any TLS.
    Encrypt,
    /// Chain and name.
    Verify,
    /// TLSA.
    Dane,
}

/// `destination.next_hop`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextHop {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// TLS from the first octet.
    pub implicit_tls: bool,
}

/// `[[dkim]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dkim {
    /// The signing domain.
    pub domain: Domain,
    /// The selector.
    pub selector: String,
    /// PEM file of an RSA or Ed25519 key.
    pub private_key: PathBuf,
}

/// `[tls_rpt]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRpt {
    /// Whether reports are sent.
    pub enabled: bool,
    /// organization-name; empty: `hostname`.
    pub organization: String,
    /// The sender of reports.
    pub from: Option<Mailbox>,
    /// contact-info; `None`: `from`.
    pub contact: Option<Mailbox>,
    /// The span after 00:05 UTC in which reports leave.
    pub send_window: Duration,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where the API listens.
    pub listen: Option<SocketAddr>,
    /// PEM.
    pub certificate: Option<PathBuf>,
    /// PEM.
    pub private_key: Option<PathBuf>,
    /// The bearer token. Not read at load: a missing file is made at first start.
    pub token: SecretSource,
}

/// `[metrics]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    /// Where metrics and health are served without a token.
    pub listen: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// A level, or a filter of tracing-subscriber (`info,sealpost::delivery=debug`).
    pub level: String,
    /// How much of an address is logged.
    pub addresses: LogAddresses,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `log.addresses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogAddresses {
    /// `user@example.org`.
    Full,
    /// `example.org`.
    Domain,
}
