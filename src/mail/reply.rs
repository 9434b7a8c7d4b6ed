//! SMTP replies and enhanced status codes (RFC 5321 §4.2, RFC 2034, RFC 3463).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `class.subject.detail` (RFC 3463 §2), each part at most three digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnhancedCode {
    /// 2 success, 4 persistent transient failure, 5 permanent failure.
    pub class: u8,
    /// What the code is about.
    pub subject: u16,
    /// The exact condition.
    pub detail: u16,
}

impl EnhancedCode {
    /// A code from its parts.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self { class, subject, detail }
    }

    /// Reads a code that stands alone. Classes other than 2, 4, 5, signs, leading zeros and more than three
    /// digits are refused (RFC 3463 §2, DSN-09).
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let class = match parts.next()? {
            "2" => 2,
            "4" => 4,
            "5" => 5,
            _ => return None,
        };
        let number = |p: &str| {
            let ok = (1..=3).contains(&p.len())
                && p.bytes().all(|b| b.is_ascii_digit())
                && (p.len() == 1 || !p.starts_with('0'));
            if ok { p.parse::<u16>().ok() } else { None }
        };
        let (subject, detail) = (number(parts.next()?)?, number(parts.next()?)?);
        parts.next().is_none().then_some(Self { class, subject, detail })
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl fmt::Debug for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EnhancedCode {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EnhancedCode {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an enhanced status code"))
    }
}

/// A complete reply of a remote server, as far as anybody may rely on it.
///
/// The text is the peer's: shown and stored (cleaned and cut by [`sanitise`]), never matched on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Three digits, 200…599 once classified.
    pub code: u16,
    /// The enhanced code when it is well-formed and of the same class as `code` (OUT-47).
    pub enhanced: Option<EnhancedCode>,
    /// The lines without code, separator and enhanced code, joined by one blank; cleaned, at most 1 KiB.
    pub text: String,
}

impl Reply {
    /// Builds a reply from its lines, each without the leading code and separator and without line end.
    ///
    /// The enhanced code of the first line counts only when its class is that of the basic code; an
    /// inconsistent pair never decides anything (OUT-47).
    pub fn from_lines(code: u16, lines: &[&[u8]]) -> Self {
        let mut enhanced = None;
        let mut text = String::new();
        for (i, line) in lines.iter().enumerate() {
            let line = String::from_utf8_lossy(line);
            let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let parsed = EnhancedCode::parse(first).filter(|e| u16::from(e.class) == code / 100);
            if i == 0 {
                enhanced = parsed;
            }
            let shown = if parsed.is_some() { rest } else { &line };
            if i > 0 {
                text.push(' ');
            }
            text.push_str(shown);
            if text.len() > 4 * MAX_TEXT {
                break;
            }
        }
        Self { code, enhanced, text: sanitise(&text) }
    }

    /// The enhanced code, or `class.0.0` where the peer gave none (OUT-47).
    pub fn enhanced_or_default(&self) -> EnhancedCode {
        let class = match self.code / 100 {
            2 => 2,
            5 => 5,
            _ => 4,
        };
        self.enhanced.unwrap_or(EnhancedCode { class, subject: 0, detail: 0 })
    }

    /// 200…299.
    pub const fn is_positive(&self) -> bool {
        matches!(self.code, 200..=299)
    }

    /// 400…499.
    pub const fn is_transient(&self) -> bool {
        matches!(self.code, 400..=499)
    }

    /// 500…599.
    pub const fn is_permanent(&self) -> bool {
        matches!(self.code, 500..=599)
    }
}

impl fmt::Display for Reply {
    /// `550 5.1.1 no such user`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(e) = self.enhanced {
            write!(f, " {e}")?;
        }
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

/// The most that is kept of a peer's text, in octets (DSN-21).
pub const MAX_TEXT: usize = 1024;

/// Makes a peer's text fit for logs, DSNs and the database: controls and non-ASCII become `?`, line ends a
/// blank, and no more than [`MAX_TEXT`] octets stay (DSN-21, LIM-31).
pub fn sanitise(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            ' '..='~' => c,
            '\t' | '\r' | '\n' => ' ',
            _ => '?',
        })
        .take(MAX_TEXT)
        .collect::<String>()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    // OUT-47, HR-052
    #[test]
    fn an_enhanced_code_counts_only_when_it_agrees_with_the_reply() {
        for (code, line, want) in [
            (550, "5.1.1 no such user", Some("5.1.1")),
            (550, "5.1.1", Some("5.1.1")),
            (451, "5.4.0 timeout", None),
            (550, "5.999999.1 x", None),
            (550, "5.01.1 x", None),
            (550, "5.1 x", None),
            (550, "5.1.1.1 x", None),
            (550, "5.1.1x", None),
            (250, "", None),
        ] {
            let r = Reply::from_lines(code, &[line.as_bytes()]);
            assert_eq!(r.enhanced.map(|e| e.to_string()).as_deref(), want, "{code} {line}");
        }
        assert_eq!(Reply::from_lines(451, &[b"x"]).enhanced_or_default().to_string(), "4.0.0");
    }

    // DSN-21, HR-049, HR-050
    #[test]
    fn text_of_a_peer_is_printable_and_bounded() {
        let r = Reply::from_lines(550, &[b"5.1.1 \xff\xfe\x00\x1b[31m", b"5.1.1 more"]);
        assert!(r.text.bytes().all(|b| (32..127).contains(&b)), "{:?}", r.text);
        assert!(r.text.ends_with("more"));
        let long = vec![b'a'; 60_000];
        assert_eq!(Reply::from_lines(550, &[&long]).text.len(), MAX_TEXT);
    }
}
