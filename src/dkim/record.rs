//! The TXT record of a selector (RFC 6376 §3.6.1): read strictly, printed as a zone file wants it.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::general_purpose::STANDARD};

use super::Algorithm;
use crate::mail::Domain;

/// The service type of mail.
pub const EMAIL: &str = "email";
/// The service type of TLS reports (RFC 8460 §3).
pub const TLSRPT: &str = "tlsrpt";
/// The most octets of one string of a TXT record (RFC 1035 §3.3.14).
const STRING: usize = 255;

/// Padding is optional: there are verifiers that do without, and records that rely on them.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A key record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    /// `k=`: `rsa`, `ed25519` or a word that is neither.
    pub key_type: String,
    /// `p=`, decoded; empty: the key is revoked.
    pub key: Vec<u8>,
    /// `s=`: the service types; empty: all (`*`).
    pub services: Vec<String>,
    /// `h=`: the hash algorithms; empty: all.
    pub hashes: Vec<String>,
    /// `t=`: flags.
    pub flags: Vec<String>,
}

/// Why a text is not a key record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It is not ASCII text.
    #[error("it is not ASCII text")]
    NotText,
    /// A part that is not `tag=value`.
    #[error("it is not a list of tag=value, parted by ;")]
    NotTags,
    /// A tag occurs twice.
    #[error("a tag occurs twice")]
    Twice,
    /// `v=` is not first, or not `DKIM1`.
    #[error("v= is not DKIM1, or not its first tag")]
    Version,
    /// There is no `p=`.
    #[error("it has no p=")]
    NoKey,
    /// `p=` is not base64.
    #[error("its p= is not base64")]
    NotBase64,
}

impl KeyRecord {
    /// The record of a key for mail and TLS reports alike (RPT-82): without `s=`, which means all service types. A
    /// key for `tlsrpt` alone would be ignored by whoever verifies ordinary mail (RPT-83), and the list
    /// `email:tlsrpt`, though right by RFC 6376 §3.6.1, by verifiers that take it for one word (dkimpy 1.1).
    pub fn new(algorithm: Algorithm, key: Vec<u8>) -> Self {
        Self {
            key_type: algorithm.key_type().to_owned(),
            key,
            services: Vec::new(),
            hashes: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// Reads the text of a TXT record, its strings already joined.
    ///
    /// # Errors
    /// [`BadRecord`]: a verifier would take such a key for none.
    pub fn parse(text: &[u8]) -> Result<Self, BadRecord> {
        let text = std::str::from_utf8(text).ok().filter(|t| t.is_ascii()).ok_or(BadRecord::NotText)?;
        let mut tags: Vec<(&str, &str)> = Vec::new();
        let mut parts: Vec<&str> = text.split(';').map(|p| p.trim_matches(BLANK)).collect();
        if parts.last() == Some(&"") {
            parts.pop();
        }
        for part in parts {
            let (tag, value) = part.split_once('=').ok_or(BadRecord::NotTags)?;
            let (tag, value) = (tag.trim_matches(BLANK), value.trim_matches(BLANK));
            let is_name = tag.starts_with(|c: char| c.is_ascii_alphabetic())
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name {
                return Err(BadRecord::NotTags);
            }
            if tags.iter().any(|(t, _)| *t == tag) {
                return Err(BadRecord::Twice);
            }
            tags.push((tag, value));
        }
        let value = |tag| tags.iter().position(|(t, _)| *t == tag).and_then(|i| Some((i, tags.get(i)?.1)));
        if value("v").is_some_and(|(at, v)| at != 0 || v != "DKIM1") {
            return Err(BadRecord::Version);
        }
        let list = |tag| -> Vec<String> {
            let (_, list) = value(tag).unwrap_or_default();
            list.split(':')
                .map(|w| w.trim_matches(BLANK))
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let (_, key) = value("p").ok_or(BadRecord::NoKey)?;
        let key: String = key.chars().filter(|c| !BLANK.contains(c)).collect();
        let mut services = list("s");
        if services.iter().any(|s| s == "*") {
            services.clear();
        }
        Ok(Self {
            key_type: value("k").map_or("rsa", |(_, v)| v).to_owned(),
            key: LENIENT.decode(key).map_err(|_| BadRecord::NotBase64)?,
            services,
            hashes: list("h"),
            flags: list("t"),
        })
    }

    /// Whether the key may be used for a service type.
    pub fn serves(&self, service: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|s| s == service)
    }

    /// The line of a zone file: the name, and the value in strings of at most 255 octets.
    pub fn zone_line(&self, name: &Domain) -> String {
        let strings: Vec<String> = self.strings().iter().map(|s| format!("\"{s}\"")).collect();
        format!("{name}. IN TXT ( {} )", strings.join(" "))
    }

    /// The value in strings of at most 255 octets (RFC 6376 §3.6.2.2: joined without anything between them).
    pub fn strings(&self) -> Vec<String> {
        let text = self.to_string();
        let (mut out, mut rest) = (Vec::new(), text.as_str());
        while !rest.is_empty() {
            let (head, tail) = rest.split_at_checked(STRING).unwrap_or((rest, ""));
            out.push(head.to_owned());
            rest = tail;
        }
        out
    }
}

/// Folding white space.
const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

impl fmt::Display for KeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v=DKIM1; k={}", self.key_type)?;
        for (tag, list) in [("h", &self.hashes), ("s", &self.services), ("t", &self.flags)] {
            if !list.is_empty() {
                write!(f, "; {tag}={}", list.join(":"))?;
            }
        }
        write!(f, "; p={}", STANDARD.encode(&self.key))
    }
}
