//! Mailboxes and the two paths of an envelope (RFC 5321 §4.1.2, RFC 6531 §3.3).
//!
//! A local part is opaque (RFC 5321 §2.3.11): `%`, `!` and case mean nothing here. Quoted and unquoted
//! spellings of one local part are one value, kept in the shortest wire form.

use std::fmt;

use super::domain::{Domain, DomainError};

/// The part before the last unquoted `@`, kept unquoted; quoted again only where the grammar needs it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LocalPart(Box<str>);

/// `local@domain`, free of control characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mailbox {
    local: LocalPart,
    domain: Domain,
}

/// The sender of an envelope: where reports about delivery go. `Null` is `<>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: nobody is to be told (RFC 5321 §4.5.5).
    Null,
    /// An ordinary sender.
    Mailbox(Mailbox),
}

/// A recipient of an envelope. Always a mailbox with a domain.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ForwardPath(Mailbox);

/// Why a text is not an address. The variants choose the reply code (SUB-32).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The text does not fit the grammar of RFC 5321 §4.1.2.
    #[error("not an address: {0}")]
    Syntax(&'static str),
    /// A part is longer than RFC 5321 §4.5.3.1 allows.
    #[error("the {0} is too long")]
    TooLong(&'static str),
    /// The domain is an address literal, which this relay does not deliver to.
    #[error("address literals are not accepted")]
    Literal,
    /// The domain has a single label or a numeric last label.
    #[error("the domain is not fully qualified")]
    Unqualified,
    /// No `@domain` at all.
    #[error("no domain")]
    NoDomain,
}

impl LocalPart {
    /// Reads a dot-string or a quoted-string. UTF-8 is allowed (RFC 6531 §3.3).
    ///
    /// # Errors
    /// [`AddressError::Syntax`], or [`AddressError::TooLong`] beyond 64 octets of wire form (RFC 5321 §4.5.3.1.1).
    pub fn parse(wire: &str) -> Result<Self, AddressError> {
        let plain = match wire.strip_prefix('"') {
            Some(rest) => unquote(rest)?,
            None if is_dot_string(wire) => wire.to_owned(),
            None => return Err(AddressError::Syntax("the local part needs quotes or has a bad character")),
        };
        if plain.is_empty() {
            return Err(AddressError::Syntax("the local part is empty"));
        }
        let local = Self(plain.into());
        if local.to_string().len() > 64 {
            return Err(AddressError::TooLong("local part"));
        }
        Ok(local)
    }

    /// The octets meant, without quotes.
    pub fn as_unquoted(&self) -> &str {
        &self.0
    }
}

fn unquote(rest: &str) -> Result<String, AddressError> {
    let mut out = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    loop {
        match chars.next() {
            Some('"') if chars.as_str().is_empty() => return Ok(out),
            Some('"') | None => return Err(AddressError::Syntax("the quotes do not end the local part")),
            Some('\\') => match chars.next() {
                Some(c @ ' '..='~') => out.push(c),
                _ => return Err(AddressError::Syntax("a backslash before a bad character")),
            },
            Some(c) if c.is_control() => return Err(AddressError::Syntax("a control character")),
            Some(c) => out.push(c),
        }
    }
}

/// RFC 5321 §4.1.2 `Dot-string`, with RFC 6531's UTF-8 in `atext`.
fn is_dot_string(s: &str) -> bool {
    !s.is_empty() && s.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(
            c,
            '!' | '#'
                | '$'
                | '%'
                | '&'
                | '\''
                | '*'
                | '+'
                | '-'
                | '/'
                | '='
                | '?'
                | '^'
                | '_'
                | '`'
                | '{'
                | '|'
                | '}'
                | '~'
        )
        || (!c.is_ascii() && !c.is_control())
}

impl fmt::Display for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if is_dot_string(&self.0) {
            return f.write_str(&self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            if c == '"' || c == '\\' {
                f.write_str("\\")?;
            }
            write!(f, "{c}")?;
        }
        f.write_str("\"")
    }
}

impl fmt::Debug for LocalPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Mailbox {
    /// Puts a mailbox together from parsed parts.
    pub const fn new(local: LocalPart, domain: Domain) -> Self {
        Self { local, domain }
    }

    /// Reads `local@domain`, the domain after the last unquoted `@` (SUB-31). A leading source route
    /// (`@a,@b:`) is read and dropped (RFC 5321 App. C).
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > 4096 {
            return Err(AddressError::TooLong("address"));
        }
        let text = match text.strip_prefix('@') {
            Some(route) => strip_source_route(route)?,
            None => text,
        };
        let at = last_unquoted_at(text)?.ok_or(AddressError::NoDomain)?;
        let (local, domain) = (text.get(..at).unwrap_or(""), text.get(at + 1..).unwrap_or(""));
        let local = LocalPart::parse(local)?;
        if domain.starts_with('[') {
            return Err(if domain.ends_with(']') {
                AddressError::Literal
            } else {
                AddressError::Syntax("a stray bracket")
            });
        }
        let domain = Domain::parse(domain).map_err(|e| match e {
            DomainError::Unqualified => AddressError::Unqualified,
            DomainError::TooLong => AddressError::TooLong("domain"),
            DomainError::Empty | DomainError::Syntax => AddressError::Syntax("the domain is malformed"),
        })?;
        Ok(Self { local, domain })
    }

    /// The local part.
    pub const fn local(&self) -> &LocalPart {
        &self.local
    }

    /// The domain, which is also the key of routing, policy and fairness.
    pub const fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Whether the address has an octet that only SMTPUTF8 can carry (RFC 6531). The domain never has one.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local.0.is_ascii()
    }
}

fn strip_source_route(route: &str) -> Result<&str, AddressError> {
    let (hops, mailbox) =
        route.split_once(':').ok_or(AddressError::Syntax("a source route without an address"))?;
    let well_formed = hops.split(',').enumerate().all(|(i, hop)| {
        let hop = if i == 0 { Some(hop) } else { hop.strip_prefix('@') };
        hop.is_some_and(|h| Domain::parse(h).is_ok())
    });
    if well_formed { Ok(mailbox) } else { Err(AddressError::Syntax("a malformed source route")) }
}

fn last_unquoted_at(text: &str) -> Result<Option<usize>, AddressError> {
    let (mut quoted, mut escaped, mut found) = (false, false, None);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'@' if !quoted => found = Some(i),
            _ => {}
        }
    }
    if quoted { Err(AddressError::Syntax("an open quote")) } else { Ok(found) }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

impl ReversePath {
    /// Reads what stands between `<` and `>`: nothing, or a mailbox.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(inner: &str) -> Result<Self, AddressError> {
        if inner.is_empty() { Ok(Self::Null) } else { Mailbox::parse(inner).map(Self::Mailbox) }
    }

    /// The mailbox, `None` for `<>`.
    pub const fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(m) => Some(m),
        }
    }
}

impl fmt::Display for ReversePath {
    /// Without angle brackets; empty for the null path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => Ok(()),
            Self::Mailbox(m) => m.fmt(f),
        }
    }
}

impl fmt::Debug for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

impl ForwardPath {
    /// Reads what stands between `<` and `>`.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn parse(inner: &str) -> Result<Self, AddressError> {
        Mailbox::parse(inner).map(Self)
    }

    /// The recipient's mailbox.
    pub const fn mailbox(&self) -> &Mailbox {
        &self.0
    }

    /// The recipient's domain.
    pub const fn domain(&self) -> &Domain {
        &self.0.domain
    }
}

impl From<Mailbox> for ForwardPath {
    fn from(m: Mailbox) -> Self {
        Self(m)
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SUB-31, SUB-32, HS-045, HS-046, HS-053, HS-103, HS-105
    #[test]
    fn local_parts_are_opaque_and_quotes_mean_nothing() {
        for (text, want) in [
            ("bob@example.net", "bob@example.net"),
            ("\"a.b\"@X.example", "a.b@x.example"),
            ("A.b@x.EXAMPLE", "A.b@x.example"),
            ("victim%example.com@example.net", "victim%example.com@example.net"),
            ("@a.example,@b.example:bob@example.net", "bob@example.net"),
            ("\"a b..c@d\"@example.net", "\"a b..c@d\"@example.net"),
            ("\"a\\\"b\"@example.net", "\"a\\\"b\"@example.net"),
            ("-oQx@example.net", "-oQx@example.net"),
            ("o'brien@example.net", "o'brien@example.net"),
            ("ü@bücher.example", "ü@xn--bcher-kva.example"),
        ] {
            let m = Mailbox::parse(text).unwrap();
            assert_eq!(m.to_string(), want, "{text}");
            assert_eq!(Mailbox::parse(&m.to_string()).unwrap(), m, "the wire form reads back: {text}");
        }
    }

    // SUB-30, SUB-32, HS-017, HS-047, HS-049, HS-051, HS-052
    #[test]
    fn what_is_no_address_says_why() {
        let syntax = |e: AddressError| matches!(e, AddressError::Syntax(_));
        for text in [
            "a\rb@example.net",
            "a\nb@example.net",
            "a\u{0}@example.net",
            "\"a\r\n\"@example.net",
            "a b@example.net",
            "\"a@example.net",
            "a\"b\"@example.net",
            "@example.net",
            "\"\"@example.net",
            "a@exa mple.net",
            "a@[1.2.3.4",
            "a..b@example.net",
            ".a@example.net",
            "a>@example.net",
            "\u{85}@example.net",
            "@a.example:",
            "@a b:x@y.example",
        ] {
            let e = Mailbox::parse(text).unwrap_err();
            assert!(syntax(e.clone()) || e == AddressError::NoDomain, "{text:?}: {e}");
        }
        assert_eq!(Mailbox::parse("bob"), Err(AddressError::NoDomain));
        assert_eq!(Mailbox::parse("bob@localhost"), Err(AddressError::Unqualified));
        assert_eq!(Mailbox::parse("bob@[IPv6:::ffff:127.0.0.1]"), Err(AddressError::Literal));
    }

    // LIM-05, HS-056
    #[test]
    fn a_local_part_has_at_most_64_octets() {
        assert!(Mailbox::parse(&format!("{}@example.net", "a".repeat(64))).is_ok());
        assert_eq!(
            Mailbox::parse(&format!("{}@example.net", "a".repeat(65))),
            Err(AddressError::TooLong("local part"))
        );
    }
}
