//! The configuration file: read once, checked once, immutable ever after.
//!
//! [`Config::parse`] turns the text of a TOML file into a [`Config`], or into *all* of its errors, each with
//! file, line, column, key, what is wrong and what would be right. An unknown key is an error, so that a
//! mistyped key can never silently switch a protection off. Nothing outside this module sees raw TOML.
//!
//! The module does no I/O: files, environment, clock and default gateway come through [`Surroundings`].
//! Field names are the keys of the file; every default stands, with its reason, in [`defaults`].

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::clock::Timestamp;
use crate::mail::{Domain, Mailbox};

mod check;
pub mod defaults;
pub mod duration;
pub mod fingerprint;
pub mod network;
mod raw;
pub mod secret;
mod sections;
mod show;
pub mod size;

pub use check::machine::{no_room, room_needed, runs_out};
pub use duration::Rate;
pub use fingerprint::Fingerprint;
pub use network::Networks;
pub use raw::ConfigError;
pub use secret::{Secret, SecretSource};
pub use sections::{
    Admin, Dane, Delivery, Destination, Dkim, Dns, Dnssec, IpFamily, Listener, ListenerAuth, Log,
    LogAddresses, LogFormat, Metrics, MinimumTls, MtaSts, NextHop, Protocol, Queue, Roots, SelfTest,
    SourceAddress, Store, Submission, Tls, TlsRpt, Trust, TrustAnchor, User,
};

pub use crate::security::exception::{Allow, Exception};

/// What a configuration refers to outside its own text.
pub trait Surroundings {
    /// The content of a file, or why it cannot be read, in words.
    ///
    /// # Errors
    /// The operating system's words.
    fn read(&self, path: &Path) -> Result<Vec<u8>, String>;
    /// The permission bits of a file, where the system knows such.
    fn mode(&self, path: &Path) -> Option<u32>;
    /// A variable of the environment.
    fn env(&self, name: &str) -> Option<String>;
    /// The default gateways of this machine: what a NAT in front of it would show as the client address.
    fn gateways(&self) -> Vec<IpAddr>;
    /// The time, for dates that must lie ahead.
    fn now(&self) -> Timestamp;
    /// Free octets where `path` lies or will lie; `None` when that cannot be said.
    fn free(&self, path: &Path) -> Option<u64>;
    /// Whether private keys are needed, and so must be readable: not for a command that only asks the relay, which
    /// another user may run.
    fn needs_keys(&self) -> bool {
        true
    }
    /// Whether an exception whose day is over is an error. Else it is a warning and without effect: a relay that is
    /// started again must not stay down for it.
    fn refuses_past_dates(&self) -> bool {
        true
    }
}

/// A checked configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Of its text.
    pub fingerprint: Fingerprint,
    /// EHLO name, `Received:`, Message-ID.
    pub hostname: Domain,
    /// Where the database and the admin token lie.
    pub data_dir: PathBuf,
    /// Where mail for postmaster goes.
    pub postmaster: Option<Mailbox>,
    /// Local parts at `hostname`, with where their mail goes, in name order.
    pub aliases: Vec<(String, Mailbox)>,
    /// `[store]`.
    pub store: Store,
    /// `[[listener]]`, never empty.
    pub listener: Vec<Listener>,
    /// `[submission]`.
    pub submission: Submission,
    /// `[tls]`.
    pub tls: Option<Tls>,
    /// `[queue]`.
    pub queue: Queue,
    /// `[dns]`.
    pub dns: Dns,
    /// `[trust]`.
    pub trust: Trust,
    /// `[delivery]`.
    pub delivery: Delivery,
    /// `[mta_sts]`.
    pub mta_sts: MtaSts,
    /// `[dane]`.
    pub dane: Dane,
    /// `[[destination]]`.
    pub destination: Vec<Destination>,
    /// `[[exception]]`.
    pub exception: Vec<Exception>,
    /// `[[dkim]]`.
    pub dkim: Vec<Dkim>,
    /// `[tls_rpt]`.
    pub tls_rpt: TlsRpt,
    /// `[admin]`.
    pub admin: Admin,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[log]`.
    pub log: Log,
    /// What is allowed but should be looked at, in words, with the key first.
    pub warnings: Vec<String>,
    no_effect: Vec<String>,
}

/// All errors of a configuration, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// All errors at once; a file that cannot be read is one of them.
    pub fn load(path: &Path, around: &dyn Surroundings) -> Result<Self, ConfigErrors> {
        let unreadable = |wrong: String| {
            ConfigErrors(vec![ConfigError {
                file: path.to_owned(),
                line: 1,
                column: 1,
                key: String::new(),
                wrong,
                right: "name another file with --config or SEALPOST_CONFIG, or write one with \
                        `sealpost config init`"
                    .to_owned(),
            }])
        };
        let bytes =
            around.read(path).map_err(|e| unreadable(format!("the configuration cannot be read: {e}")))?;
        let text =
            String::from_utf8(bytes).map_err(|_| unreadable("the configuration is not UTF-8".to_owned()))?;
        Self::parse(&text, path, around)
    }

    /// Checks `text` as the content of the file at `path`; relative paths in it start at that file's folder.
    ///
    /// # Errors
    /// All errors at once.
    pub fn parse(text: &str, path: &Path, around: &dyn Surroundings) -> Result<Self, ConfigErrors> {
        check::check(text, path, around)
    }

    /// The effective configuration as TOML, every key written, secrets blanked.
    pub fn show(&self) -> String {
        show::show(self)
    }

    /// Sections and keys that the operator wrote and this version does not act on, one sentence each.
    pub fn no_effect(&self) -> &[String] {
        &self.no_effect
    }

    /// The file that `admin.token` comes from, when it comes from a file: made at first start when missing.
    pub fn admin_token_file(&self) -> Option<PathBuf> {
        match &self.admin.token {
            SecretSource::File(file) => Some(self.data_dir.join(file)),
            SecretSource::Inline(_) | SecretSource::Env(_) => None,
        }
    }
}
