//! How this relay stands in the eyes of others: whether its addresses have names, its signatures can be verified and
//! its TLS reports would be believed.
//!
//! Pure: [`reports`] and [`relay`] judge what was found, [`spf`] and [`dmarc`] read what others would read. [`look`]
//! asks the DNS. `sealpost check`, `sealpost report check`, `sealpost status` and the running relay say the same, because
//! they print the same [`Finding`]s.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::mail::Domain;

pub mod dmarc;
pub mod look;
pub mod relay;
pub mod reports;
pub mod spf;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing: a stable token.
    pub check: Check,
    /// Which one: an address, a name; empty when there is only one.
    pub subject: String,
    /// How it stands.
    pub mark: Mark,
    /// What was found.
    pub text: String,
    /// What to do about it; empty when there is nothing to do.
    pub advice: String,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// `[tls_rpt]` as it is configured; by `status`, the file of the configuration.
    Configuration,
    /// A DKIM key and its record.
    DkimKey,
    /// SPF of the sender of reports.
    Spf,
    /// DMARC of a signing domain.
    Dmarc,
    /// Whether answers to reports arrive.
    Contact,
    /// Whether reports can come back, or be about reports.
    Loop,
    /// The name of a source address.
    Ptr,
    /// Whether others can be reached at port 25.
    #[serde(rename = "port-25")]
    Port25,
    /// Whether authenticated answers can be told.
    Dnssec,
    /// The time.
    Clock,
    /// The authorities that others' certificates are judged by.
    Roots,
    /// The running relay.
    Relay,
    /// The database.
    Store,
    /// The disk that it lies on.
    Disk,
    /// The certificate of `[tls]`.
    Certificate,
    /// Mail that waits.
    Queue,
    /// The policy cache.
    Policies,
    /// TLS reports on their way.
    Reports,
    /// An `[[exception]]`.
    Exception,
}

impl Check {
    /// Its token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::DkimKey => "dkim-key",
            Self::Spf => "spf",
            Self::Dmarc => "dmarc",
            Self::Contact => "contact",
            Self::Loop => "loop",
            Self::Ptr => "ptr",
            Self::Port25 => "port-25",
            Self::Dnssec => "dnssec",
            Self::Clock => "clock",
            Self::Roots => "roots",
            Self::Relay => "relay",
            Self::Store => "store",
            Self::Disk => "disk",
            Self::Certificate => "certificate",
            Self::Queue => "queue",
            Self::Policies => "policies",
            Self::Reports => "reports",
            Self::Exception => "exception",
        }
    }
}

/// How a thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Good,
    /// Nothing fails by it, or nothing could be found out.
    Note,
    /// Something fails, or could not be shown not to.
    Bad,
}

/// Whether nothing fails.
pub fn sound(findings: &[Finding]) -> bool {
    findings.iter().all(|f| f.mark != Mark::Bad)
}

impl Check {
    fn good(self, subject: impl ToString, text: impl Into<String>) -> Finding {
        self.finding(Mark::Good, subject, text, "")
    }

    pub(crate) fn note(
        self,
        subject: impl ToString,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        self.finding(Mark::Note, subject, text, advice)
    }

    pub(crate) fn bad(
        self,
        subject: impl ToString,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        self.finding(Mark::Bad, subject, text, advice)
    }

    fn finding(
        self,
        mark: Mark,
        subject: impl ToString,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Finding {
        Finding { check: self, subject: subject.to_string(), mark, text: text.into(), advice: advice.into() }
    }
}

/// An address that mail leaves from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The address.
    pub address: IpAddr,
    /// What we call ourselves there.
    pub ehlo: Domain,
    /// Whether the Internet sees this very address, as far as can be told: it lies in no denied network.
    pub public: bool,
}

/// What to do when a question got no answer.
const ASK_AGAIN: &str = "repeat the check; if it stays so, look at the resolver";

#[cfg(test)]
mod tests;
