//! [`Level`]: the four words for how well a session was secured.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::observe::metrics::Word;

/// Security of a session, weakest first. Levels are only ever joined ([`Level::join`]), never assigned over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// In the clear.
    Plain,
    /// TLS, the peer not authenticated.
    Encrypted,
    /// PKIX chain and name hold, and the name itself was authenticated: listed by an enforce or testing policy,
    /// from a DNSSEC-secure MX set, or configured.
    Verified,
    /// A TLSA record matched (RFC 7672).
    Dane,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Encrypted, Self::Verified, Self::Dane];

    /// The stricter of the two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.max(other)
    }

    /// The word of logs, timelines and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Encrypted => "encrypted",
            Self::Verified => "verified",
            Self::Dane => "dane",
        }
    }

    /// The inverse of [`Level::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|l| l.as_str() == word)
    }
}

impl Word for Level {
    const ALL: &'static [Self] = &Self::ALL;

    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
