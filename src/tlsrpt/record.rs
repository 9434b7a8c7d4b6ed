//! The reporting record: TXT at `_smtp._tls.<report domain>` (RFC 8460 §3), and the URIs that it names.
//!
//! Whoever publishes the record chooses where our mail and our POSTs go. What can be judged without the DNS is
//! judged here; addresses are judged when they are dialled (RPT-91).

use crate::mail::reply::sanitise;
use crate::mail::{Domain, Mailbox};

/// The most destinations of a record that are honoured (RPT-07).
pub const MAX_DESTINATIONS: usize = 10;

/// The most octets of a record that are read (RPT-07).
pub const MAX_RECORD: usize = 4096;

/// The most octets of one URI.
const MAX_URI: usize = 2048;

/// The most URIs that are skipped by name; the rest is counted.
const MAX_SKIPPED: usize = 20;

/// A record that asks for reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsRptRecord {
    /// Where reports go, in the order of the record; never empty, at most [`MAX_DESTINATIONS`].
    pub destinations: Vec<Rua>,
    /// What was passed over, and why: for the log and `report check`.
    pub skipped: Vec<String>,
}

/// Why a domain gets no reports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRecord {
    /// No record begins with `v=TLSRPTv1;`.
    #[error("no TLSRPTv1 record")]
    Missing,
    /// More than one does.
    #[error("more than one TLSRPTv1 record")]
    Multiple,
    /// The one that does has no `rua` field.
    #[error("a TLSRPTv1 record without rua")]
    NoRua,
    /// It names nothing that reports could be sent to. In words, what and why.
    #[error("a TLSRPTv1 record without a usable rua: {}", .0.join("; "))]
    Unusable(Vec<String>),
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rua {
    /// By mail (RFC 8460 §5.3).
    Mail {
        /// As it stood in the record.
        uri: String,
        /// The address meant.
        to: Mailbox,
    },
    /// By POST (RFC 8460 §5.4).
    Https {
        /// As it stood in the record, octet for octet: a query may be a secret of the receiver.
        uri: String,
        /// Its host.
        host: Domain,
    },
}

/// Why a URI is no destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRua {
    /// It has an octet that no URI has, or a `%` without two hexadecimal digits (RFC 3986 §2).
    #[error("it is not a URI")]
    Syntax,
    /// It has more than 2048 octets.
    #[error("it is too long")]
    TooLong,
    /// RFC 8460 §3 knows `mailto` and `https`.
    #[error("only mailto and https are known")]
    Scheme,
    /// What stands for an address is none.
    #[error("it holds no mail address")]
    Address,
    /// No host, an IP literal or number, or a name that is not fully qualified.
    #[error("its host is not a domain name")]
    Host,
    /// `user@host`: nothing is to be learned from it, and it hides the host from people.
    #[error("it holds a user name")]
    UserInfo,
    /// Not a number, or a port below 1024 other than 443, where something else than HTTPS lives.
    #[error("its port is not one of HTTPS")]
    Port,
    /// A fragment, which no request carries.
    #[error("it holds a fragment")]
    Fragment,
}

/// What the TXT records of `_smtp._tls.<report domain>` ask for, each record's strings already joined.
///
/// # Errors
/// [`NoRecord`] when they ask for nothing.
pub fn discover(txt: &[Vec<u8>]) -> Result<TlsRptRecord, NoRecord> {
    let mut candidates = txt.iter().filter_map(|r| fields_of(r));
    match (candidates.next(), candidates.next()) {
        (None, _) => Err(NoRecord::Missing),
        (Some(_), Some(_)) => Err(NoRecord::Multiple),
        (Some(fields), None) => parse_fields(fields),
    }
}

/// What follows `v=TLSRPTv1 *WSP ";"`; `None` when the record is none of ours (RPT-01).
fn fields_of(record: &[u8]) -> Option<&[u8]> {
    let rest = record.strip_prefix(b"v=TLSRPTv1")?;
    let blanks = rest.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    rest.get(blanks..)?.strip_prefix(b";")
}

/// Spec: fields that are not understood are passed over, malformed ones too. Here, unlike in RFC 8461, nothing
/// depends on them: whoever wrote a readable `rua` wants reports.
fn parse_fields(fields: &[u8]) -> Result<TlsRptRecord, NoRecord> {
    let mut found = TlsRptRecord { destinations: Vec::new(), skipped: Vec::new() };
    let cut = fields.len() > MAX_RECORD;
    let text = String::from_utf8_lossy(fields.get(..MAX_RECORD).unwrap_or(fields));
    // The last URI of what is read may be half of one, and half an address is another address.
    let text = if cut { text.rsplit_once([',', ';']).map_or("", |(whole, _)| whole) } else { &text };
    if cut {
        found.skipped.push(format!("all beyond the first {MAX_RECORD} octets of the record"));
    }
    let (mut has_rua, mut surplus, mut unnamed) = (false, 0_usize, 0_usize);
    for field in text.split(';') {
        // Case counts (RPT-02), and several fields are one list (RPT-04).
        let Some(("rua", list)) = field.split_once('=').map(|(n, v)| (n.trim_matches(WSP), v)) else {
            continue;
        };
        has_rua = true;
        for uri in list.split(',').map(|u| u.trim_matches(WSP)) {
            let why = match Rua::parse(uri) {
                Ok(rua) if found.destinations.contains(&rua) => "it is named twice".to_owned(),
                Ok(_) if found.destinations.len() == MAX_DESTINATIONS => {
                    surplus += 1;
                    continue;
                }
                Ok(rua) => {
                    found.destinations.push(rua);
                    continue;
                }
                Err(why) => why.to_string(),
            };
            if found.skipped.len() < MAX_SKIPPED {
                found.skipped.push(format!("<{}>: {why}", shown(uri)));
            } else {
                unnamed += 1;
            }
        }
    }
    if unnamed > 0 {
        found.skipped.push(format!("{unnamed} more that could not be used"));
    }
    if surplus > 0 {
        found.skipped.push(format!("{surplus} more than the first {MAX_DESTINATIONS}"));
    }
    match (has_rua, found.destinations.is_empty()) {
        (false, _) => Err(NoRecord::NoRua),
        (true, true) => Err(NoRecord::Unusable(found.skipped)),
        (true, false) => Ok(found),
    }
}

/// A stranger's URI in one line of ours.
fn shown(uri: &str) -> String {
    let short: String = uri.chars().take(100).collect();
    let dots = if short.len() < uri.len() { "..." } else { "" };
    format!("{}{dots}", sanitise(&short))
}

impl Rua {
    /// Reads one URI of a record, or one that the store kept.
    ///
    /// # Errors
    /// [`BadRua`].
    pub fn parse(uri: &str) -> Result<Self, BadRua> {
        if uri.len() > MAX_URI {
            return Err(BadRua::TooLong);
        }
        if !is_uri_text(uri) {
            return Err(BadRua::Syntax);
        }
        let (scheme, rest) = uri.split_once(':').ok_or(BadRua::Syntax)?;
        // RPT-05: the scheme has no case (RFC 3986 §3.1).
        if scheme.eq_ignore_ascii_case("mailto") {
            mail_address(rest).map(|to| Self::Mail { uri: uri.to_owned(), to })
        } else if scheme.eq_ignore_ascii_case("https") {
            https_host(rest).map(|host| Self::Https { uri: uri.to_owned(), host })
        } else {
            Err(BadRua::Scheme)
        }
    }

    /// The URI as it stood in the record.
    pub fn uri(&self) -> &str {
        match self {
            Self::Mail { uri, .. } | Self::Https { uri, .. } => uri,
        }
    }

    /// The host or mail domain, in one spelling: what the daily cap counts by (RPT-10).
    pub fn receiver(&self) -> &Domain {
        match self {
            Self::Mail { to, .. } => to.domain(),
            Self::Https { host, .. } => host,
        }
    }
}

/// The characters of RFC 3986 §2, each `%` with its two digits. Brackets, which only IP literals need, are let
/// pass so that [`https_host`] can name the fault.
fn is_uri_text(uri: &str) -> bool {
    let mut rest = uri.bytes();
    while let Some(b) = rest.next() {
        let fits = match b {
            b'%' => (0..2).all(|_| rest.next().is_some_and(|d| d.is_ascii_hexdigit())),
            b => b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=".contains(&b),
        };
        if !fits {
            return false;
        }
    }
    !uri.is_empty()
}

/// The one address of a `mailto` URI (RFC 6068 §2). Header fields after `?` are dropped: they would be the
/// record's author writing in our mail (RPT-06).
fn mail_address(rest: &str) -> Result<Mailbox, BadRua> {
    let address = rest.split(['?', '#']).next().unwrap_or_default();
    // RFC 6068 §2 wants a `/` of the address encoded; what holds one is `mailto://`, a slip.
    if address.contains('/') {
        return Err(BadRua::Address);
    }
    let decoded = String::from_utf8(percent_decode(address)).map_err(|_| BadRua::Address)?;
    // A source route would send the report by hosts of the author's choice.
    if decoded.starts_with('@') || decoded.chars().any(char::is_control) {
        return Err(BadRua::Address);
    }
    Mailbox::parse(&decoded).map_err(|_| BadRua::Address)
}

/// The octets meant; [`is_uri_text`] has seen that every `%` has its digits.
fn percent_decode(text: &str) -> Vec<u8> {
    let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).unwrap_or(0);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(b) = rest.next() {
        out.push(match b {
            b'%' => u8::try_from(digit(rest.next()) * 16 + digit(rest.next())).unwrap_or(0),
            b => b,
        });
    }
    out
}

/// The host of an `https` URI, when it is one that may be asked (RFC 3986 §3.2).
fn https_host(rest: &str) -> Result<Domain, BadRua> {
    let rest = rest.strip_prefix("//").ok_or(BadRua::Host)?;
    if rest.contains('#') {
        return Err(BadRua::Fragment);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(BadRua::UserInfo);
    }
    if authority.contains(['[', ']']) {
        return Err(BadRua::Host);
    }
    if rest.contains(['[', ']']) {
        return Err(BadRua::Syntax);
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(h, p)| (h, Some(p)));
    if let Some(port) = port {
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse::<u16>() {
            Ok(443 | 1024..) if digits => {}
            _ => return Err(BadRua::Port),
        }
    }
    let host = Domain::parse(host).map_err(|_| BadRua::Host)?;
    // HTTP clients read a name whose last label is a number, hexadecimal too, as an IPv4 address (WHATWG URL).
    let last = host.as_str().rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").is_some_and(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex { Err(BadRua::Host) } else { Ok(host) }
}

const WSP: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests;
