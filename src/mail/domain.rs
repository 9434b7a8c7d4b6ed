//! [`Domain`]: one canonical form for every DNS name that routing, policy and the queue speak of.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A DNS name in canonical form: A-labels, lower case, no trailing dot, at most 253 octets.
///
/// There are two ways in. [`Domain::parse`] takes what people write in addresses (RFC 5321 §2.3.5, with
/// IDNA for U-labels) and wants letters, digits and hyphens. [`Domain::parse_host`] takes what the DNS
/// answers, where underscores and single labels occur. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Domain(Arc<str>);

/// Why a text is not a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DomainError {
    /// Empty text or an empty label (two dots in a row, a dot at the start).
    #[error("an empty label")]
    Empty,
    /// Over 253 octets, or a label over 63 octets (RFC 1035 §2.3.4).
    #[error("too long: a name has at most 253 octets, a label 63")]
    TooLong,
    /// A character or label that neither DNS host names nor IDNA allow.
    #[error("a character or label that no domain can have")]
    Syntax,
    /// One label only, or an all-numeric last label: not a fully qualified domain (RFC 5321 §2.3.5).
    #[error("not fully qualified")]
    Unqualified,
}

impl Domain {
    /// Reads the domain of an address: fully qualified, IDNA-mapped to A-labels, a single trailing dot ignored.
    ///
    /// # Errors
    /// [`DomainError`]; [`DomainError::Unqualified`] only when the text is otherwise well-formed.
    pub fn parse(text: &str) -> Result<Self, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(DomainError::Empty);
        }
        // A bound before the IDNA tables run: a U-label never shrinks by more than a factor of four.
        if text.len() > 1024 {
            return Err(DomainError::TooLong);
        }
        let ascii = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            idna::domain_to_ascii_strict(text).map_err(|_| DomainError::Syntax)?
        };
        check_lengths(&ascii)?;
        let ldh = |l: &str| {
            l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !l.starts_with('-')
                && !l.ends_with('-')
        };
        if !ascii.split('.').all(ldh) {
            return Err(DomainError::Syntax);
        }
        // An A-label must decode; otherwise two spellings of one name could carry two policies.
        if ascii.split('.').any(|l| l.starts_with("xn--")) && idna::domain_to_ascii_strict(&ascii).is_err() {
            return Err(DomainError::Syntax);
        }
        let last_is_numeric = ascii.rsplit('.').next().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if !ascii.contains('.') || last_is_numeric {
            return Err(DomainError::Unqualified);
        }
        Ok(Self(ascii.into()))
    }

    /// Reads a host name as the DNS or a configuration gives it: underscores and single labels allowed,
    /// A-labels only, a single trailing dot ignored.
    ///
    /// # Errors
    /// [`DomainError`]; never [`DomainError::Unqualified`].
    pub fn parse_host(text: &str) -> Result<Self, DomainError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        check_lengths(text)?;
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            return Err(DomainError::Syntax);
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name with `label` put in front (`_mta-sts`, `mta-sts`), `None` when that would be too long.
    pub fn with_prefix(&self, label: &str) -> Option<Self> {
        Self::parse_host(&format!("{label}.{}", self.0)).ok()
    }

    /// Whether this name is `top` or lies below it.
    pub fn is_at_or_below(&self, top: &Self) -> bool {
        self.0.strip_suffix(&*top.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_lengths(ascii: &str) -> Result<(), DomainError> {
    if ascii.is_empty() || ascii.split('.').any(str::is_empty) {
        return Err(DomainError::Empty);
    }
    if ascii.len() > 253 || ascii.split('.').any(|l| l.len() > 63) {
        return Err(DomainError::TooLong);
    }
    Ok(())
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl AsRef<str> for Domain {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Domain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for Domain {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Domain {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::parse_host(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_one_canonical_domain() {
        for (text, want) in [
            ("Example.NET", Ok("example.net")),
            ("example.net.", Ok("example.net")),
            ("BÜCHER.example", Ok("xn--bcher-kva.example")),
            // HS-059: an ideographic full stop is mapped once, here.
            ("example\u{3002}net", Ok("example.net")),
            ("xn--bcher-kva.example", Ok("xn--bcher-kva.example")),
            ("localhost", Err(DomainError::Unqualified)),
            ("1.2.3.4", Err(DomainError::Unqualified)),
            ("a..example", Err(DomainError::Empty)),
            (".example.net", Err(DomainError::Empty)),
            ("", Err(DomainError::Empty)),
            (".", Err(DomainError::Empty)),
            ("a_b.example", Err(DomainError::Syntax)),
            ("-a.example", Err(DomainError::Syntax)),
            ("a-.example", Err(DomainError::Syntax)),
            ("a b.example", Err(DomainError::Syntax)),
            ("a\u{0}.example", Err(DomainError::Syntax)),
            ("xn--\u{7f}.example", Err(DomainError::Syntax)),
        ] {
            let got = Domain::parse(text);
            assert_eq!(got.as_ref().map(Domain::as_str), want.as_ref().map(|s| *s), "{text:?}");
        }
    }

    // LIM-05
    #[test]
    fn length_limits_hold_at_the_boundary() {
        let label63 = "b".repeat(63);
        let name = format!("{label63}.{label63}.{label63}.{}", "c".repeat(61));
        assert_eq!(name.len(), 253);
        assert!(Domain::parse(&name).is_ok());
        assert_eq!(Domain::parse(&format!("{name}c")), Err(DomainError::TooLong));
        assert_eq!(Domain::parse(&format!("{}.example", "b".repeat(64))), Err(DomainError::TooLong));
    }

    #[test]
    fn a_name_lies_below_another_by_whole_labels() {
        let name = |text| Domain::parse_host(text).unwrap();
        for (lower, top, want) in [
            ("a.example.net", "example.net", true),
            ("example.net", "example.net", true),
            ("notexample.net", "example.net", false),
            ("example.net", "a.example.net", false),
        ] {
            assert_eq!(name(lower).is_at_or_below(&name(top)), want, "{lower} {top}");
        }
    }

    #[test]
    fn hosts_may_carry_underscores_but_no_controls() {
        assert_eq!(Domain::parse_host("_mx.Example.com.").unwrap().as_str(), "_mx.example.com");
        assert_eq!(Domain::parse_host("localhost").unwrap().as_str(), "localhost");
        assert!(Domain::parse_host("a\r\n.example").is_err());
        assert!(Domain::parse_host("bücher.example").is_err());
    }
}
