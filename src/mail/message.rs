//! What the queue calls a message: its id and where it came from. Content is immutable after acceptance.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The public id of a message in the queue: a UUIDv7, written as 26 lower-case base-32 characters.
///
/// It is what the 250 after end of data names and what `queue show` takes. Ids sort by time of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId([u8; 16]);

/// Crockford's alphabet: no letter that looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl QueueId {
    /// Wraps the sixteen octets that the store keeps.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The sixteen octets that the store keeps.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = u128::from_be_bytes(self.0);
        let text: String = (0..26)
            .rev()
            .map(|i| {
                let digit = usize::try_from((n >> (5 * i)) & 31).unwrap_or(0);
                char::from(ALPHABET.get(digit).copied().unwrap_or(b'0'))
            })
            .collect();
        f.pad(&text)
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a queue id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id: 26 letters and digits, as in the 250 reply and in `queue list`")]
pub struct BadQueueId;

impl FromStr for QueueId {
    type Err = BadQueueId;

    fn from_str(text: &str) -> Result<Self, BadQueueId> {
        if text.len() != 26 {
            return Err(BadQueueId);
        }
        let mut n: u128 = 0;
        for b in text.bytes() {
            let digit = ALPHABET.iter().position(|a| *a == b.to_ascii_lowercase()).ok_or(BadQueueId)?;
            if n >> 123 != 0 {
                return Err(BadQueueId);
            }
            n = (n << 5) | digit as u128;
        }
        Ok(Self(n.to_be_bytes()))
    }
}

impl Serialize for QueueId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for QueueId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a message came from. It decides lifetime, DSNs and whether sessions are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// An application handed it in.
    Submitted,
    /// We made it: a delivery status notification.
    Dsn,
    /// We made it: a TLS report. Its sessions leave no record (RFC 8460 §3).
    TlsReport,
}

impl Origin {
    /// The word that the store and JSON use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Dsn => "dsn",
            Self::TlsReport => "tls_report",
        }
    }

    /// The inverse of [`Origin::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Submitted, Self::Dsn, Self::TlsReport].into_iter().find(|o| o.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn queue_ids_read_back_and_keep_their_order(a: [u8; 16], b: [u8; 16]) {
            let (a, b) = (QueueId::from_bytes(a), QueueId::from_bytes(b));
            prop_assert_eq!(a.to_string().parse::<QueueId>().unwrap(), a);
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<QueueId>();
        }
    }

    #[test]
    fn a_queue_id_that_overflows_is_refused() {
        assert!("zzzzzzzzzzzzzzzzzzzzzzzzzz".parse::<QueueId>().is_err());
        assert!("7zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<QueueId>().is_ok());
    }
}
