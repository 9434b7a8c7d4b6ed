//! The envelope and the DSN parameters it carries (RFC 5321 §2.3.1, RFC 3461 §4).

use std::fmt;

use super::address::{ForwardPath, ReversePath};

/// Who sent a message to whom, and what the sender asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// Where delivery reports go.
    pub reverse_path: ReversePath,
    /// At least one, without repeats.
    pub recipients: Vec<EnvelopeRecipient>,
    /// `RET=`, as given (RFC 3461 §4.3).
    pub ret: Option<Ret>,
    /// `ENVID=`, as given (RFC 3461 §4.4).
    pub envid: Option<Xtext>,
    /// What the sender says about TLS on the way.
    pub sender_tls: SenderTls,
    /// Whether an address or the header needs SMTPUTF8 on the next hop (RFC 6531 §3.5), not whether it was offered.
    pub smtputf8: bool,
    /// Whether the content has octets above 127, found by looking, whatever `BODY=` said (SUB-56).
    pub has_8bit: bool,
}

/// One recipient with the DSN parameters of its RCPT command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeRecipient {
    /// The address.
    pub path: ForwardPath,
    /// `NOTIFY=`; `None` when absent, which asks for failure (and leaves delay to us).
    pub notify: Option<Notify>,
    /// `ORCPT=`, verbatim.
    pub orcpt: Option<Orcpt>,
}

/// What the sender of a message says about TLS on its way (RFC 8689 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SenderTls {
    /// Nothing: what the recipient domain promised is what counts.
    #[default]
    Unsaid,
    /// MAIL carried `REQUIRETLS`: verified TLS all the way, or no delivery.
    Required,
    /// The header says `TLS-Required: No`: delivery comes before what the recipient domain promised.
    Optional,
}

impl SenderTls {
    /// The word of the store, the log and JSON; `None` when nothing was said.
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Unsaid => None,
            Self::Required => Some("requiretls"),
            Self::Optional => Some("tls-required-no"),
        }
    }

    /// The inverse of [`SenderTls::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Required, Self::Optional].into_iter().find(|s| s.as_str() == Some(word))
    }
}

/// What a failed message brings back of the original (RFC 3461 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Its header section.
    Hdrs,
}

impl Ret {
    /// `FULL` or `HDRS`, as on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Hdrs => "HDRS",
        }
    }

    /// Reads the keyword, case-insensitively.
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_uppercase().as_str() {
            "FULL" => Some(Self::Full),
            "HDRS" => Some(Self::Hdrs),
            _ => None,
        }
    }
}

/// When the sender wants a DSN about a recipient (RFC 3461 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// `NEVER`.
    Never,
    /// Any of the other three; at least one is set.
    On {
        /// `SUCCESS`.
        success: bool,
        /// `FAILURE`.
        failure: bool,
        /// `DELAY`.
        delay: bool,
    },
}

impl Notify {
    /// Reads `NEVER` or a comma-separated list of the others, case-insensitively, each at most once.
    pub fn parse(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(Self::Never);
        }
        let (mut success, mut failure, mut delay) = (false, false, false);
        for word in text.split(',') {
            let flag = match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => &mut success,
                "FAILURE" => &mut failure,
                "DELAY" => &mut delay,
                _ => return None,
            };
            if *flag {
                return None;
            }
            *flag = true;
        }
        Some(Self::On { success, failure, delay })
    }

    /// Whether a failure DSN is due; an absent NOTIFY asks for one (RFC 3461 §5.2.6).
    pub const fn wants_failure(this: Option<Self>) -> bool {
        matches!(this, None | Some(Self::On { failure: true, .. }))
    }

    /// Whether a delay DSN may be sent; an absent NOTIFY permits it (RFC 3461 §5.2.5).
    pub const fn allows_delay(this: Option<Self>) -> bool {
        matches!(this, None | Some(Self::On { delay: true, .. }))
    }

    /// Whether success was asked for (RFC 3461 §5.2.2).
    pub const fn wants_success(this: Option<Self>) -> bool {
        matches!(this, Some(Self::On { success: true, .. }))
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Never => f.write_str("NEVER"),
            Self::On { success, failure, delay } => {
                let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
                let mut first = true;
                for (_, word) in words.iter().filter(|(set, _)| *set) {
                    if !first {
                        f.write_str(",")?;
                    }
                    first = false;
                    f.write_str(word)?;
                }
                Ok(())
            }
        }
    }
}

/// An xtext value (RFC 3461 §4), kept as it came and known to decode to printable ASCII.
///
/// Decoded control characters are refused here, so no later use can be an injection (DSN-20).
#[derive(Clone, PartialEq, Eq)]
pub struct Xtext(Box<str>);

impl Xtext {
    /// Checks an encoded value: printable ASCII without `=`, `+` only before two upper-case hex digits, and
    /// nothing decoded outside 32…126.
    pub fn parse(encoded: &str) -> Option<Self> {
        decode_xtext(encoded).filter(|d| !d.is_empty()).map(|_| Self(encoded.into()))
    }

    /// The value as it goes on the wire.
    pub fn as_encoded(&self) -> &str {
        &self.0
    }

    /// The value meant.
    pub fn decoded(&self) -> String {
        decode_xtext(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Xtext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn decode_xtext(encoded: &str) -> Option<String> {
    let mut out = String::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(b) = bytes.next() {
        let c = match b {
            b'+' => {
                let (h, l) = (upper_hex(bytes.next()?)?, upper_hex(bytes.next()?)?);
                h * 16 + l
            }
            b'!'..=b'<' | b'>'..=b'~' => b,
            _ => return None,
        };
        if !(32..=126).contains(&c) {
            return None;
        }
        out.push(char::from(c));
    }
    Some(out)
}

const fn upper_hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}

/// `addr-type;xtext` of an ORCPT parameter (RFC 3461 §4.2), kept verbatim so that it can be relayed unchanged.
#[derive(Clone, PartialEq, Eq)]
pub struct Orcpt {
    addr_type: Box<str>,
    address: Box<str>,
}

impl Orcpt {
    /// Reads `rfc822;bob+40example.net` or any other address type; `utf-8;` values may hold UTF-8 (RFC 6533 §3).
    pub fn parse(text: &str) -> Option<Self> {
        let (addr_type, address) = text.split_once(';')?;
        let atom = !addr_type.is_empty() && addr_type.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let valid = if addr_type.eq_ignore_ascii_case("utf-8") {
            !address.chars().any(|c| c.is_control() || c == ' ')
        } else {
            decode_xtext(address).is_some()
        };
        (atom && valid && !address.is_empty())
            .then(|| Self { addr_type: addr_type.into(), address: address.into() })
    }

    /// The address type, as given.
    pub fn addr_type(&self) -> &str {
        &self.addr_type
    }

    /// The address, decoded where it is xtext.
    pub fn decoded(&self) -> String {
        decode_xtext(&self.address).unwrap_or_else(|| self.address.to_string())
    }
}

impl fmt::Display for Orcpt {
    /// The value as it came and as it goes out again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};{}", self.addr_type, self.address)
    }
}

impl fmt::Debug for Orcpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SUB-52, DSN-20, HS-065
    #[test]
    fn xtext_never_decodes_to_a_control_character() {
        for (text, want) in [
            ("QQ314159", Some("QQ314159")),
            ("a+40b", Some("a@b")),
            ("a+2Bb", Some("a+b")),
            ("a+0D+0ABcc:x", None),
            ("a+4", None),
            ("a+4g", None),
            ("a+4a", None),
            ("a=b", None),
            ("a b", None),
            ("a+7F", None),
            ("", None),
        ] {
            assert_eq!(Xtext::parse(text).map(|x| x.decoded()).as_deref(), want, "{text:?}");
        }
    }

    // SUB-52
    #[test]
    fn notify_is_never_or_a_set_of_the_others() {
        for (text, want) in [
            ("NEVER", Some("NEVER")),
            ("never", Some("NEVER")),
            ("FAILURE,DELAY", Some("FAILURE,DELAY")),
            ("success", Some("SUCCESS")),
            ("NEVER,FAILURE", None),
            ("FAILURE,FAILURE", None),
            ("", None),
            ("FAILURE,", None),
        ] {
            assert_eq!(Notify::parse(text).map(|n| n.to_string()).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn orcpt_is_kept_verbatim() {
        for (text, ok) in [
            ("rfc822;x+40y@z", true),
            ("x400;foo", true),
            ("utf-8;\u{fc}@example", true),
            ("rfc822", false),
            (";a@b", false),
            ("rfc822;", false),
            ("rfc822;a+0Ab", false),
            ("rfc 822;a", false),
        ] {
            let got = Orcpt::parse(text);
            assert_eq!(got.is_some(), ok, "{text:?}");
            if let Some(o) = got {
                assert_eq!(o.to_string(), text);
            }
        }
    }
}
