//! DANE for SMTP (RFC 7672): which TLSA records bind a session with a host, and whether its certificate matches.
//!
//! Pure: [`eligible`] (where the records lie), [`tlsa`] (which of them can be used), [`verify`] (whether one matches).
//! Orchestration: [`lookup`].

use std::sync::Arc;

use crate::dns::DnsError;
use crate::mail::Domain;

pub mod eligible;
pub mod lookup;
pub mod tlsa;
pub mod verify;

pub use tlsa::{Tlsa, TlsaSet};
pub use verify::DaneFault;

/// What the DNS says about the TLSA records of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TlsaAnswer {
    /// None that DNSSEC vouches for, or DANE does not apply: nobody needs to have them (DANE-07, DANE-14).
    #[default]
    None,
    /// At least one, authenticated.
    Found(Arc<TlsaSet>),
    /// A lookup failed, so that nobody knows: nothing may be sent to the host (RFC 7672 §2.2, DANE-06).
    Failed(TlsaLookupFailed),
}

impl TlsaAnswer {
    /// The records, where at least one can be used.
    pub fn usable(&self) -> Option<&TlsaSet> {
        match self {
            Self::Found(set) => Some(&**set).filter(|s| !s.usable().is_empty()),
            Self::None | Self::Failed(_) => None,
        }
    }
}

/// A lookup that leaves open whether a host has TLSA records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsaLookupFailed {
    /// The base domain tried.
    pub base: Domain,
    /// What went wrong, and at which resolver.
    pub error: DnsError,
}
