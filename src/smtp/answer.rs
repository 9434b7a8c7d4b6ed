//! [`Answer`]: a reply of ours, and the only way to write one (RFC 5321 §4.2, RFC 2034).

use std::borrow::Cow;

use crate::mail::EnhancedCode;

/// The longest reply line, CRLF included (RFC 5321 §4.5.3.1.5).
pub const MAX_LINE: usize = 512;

/// One reply line. Every 2xx, 4xx and 5xx but the greeting has an enhanced code of its class (SUB-46).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub code: u16,
    /// Absent for the greeting and for 3xx.
    pub enhanced: Option<EnhancedCode>,
    /// Anything; made printable ASCII and cut when written (SUB-47).
    pub text: Cow<'static, str>,
}

impl Answer {
    /// A reply with an enhanced code, whose class is that of `code`.
    pub fn new(code: u16, subject: u16, detail: u16, text: impl Into<Cow<'static, str>>) -> Self {
        let class = match code {
            200..=299 => 2,
            400..=499 => 4,
            _ => 5,
        };
        Self { code, enhanced: Some(EnhancedCode::new(class, subject, detail)), text: text.into() }
    }

    /// A reply without an enhanced code: the greeting, 3xx.
    pub fn bare(code: u16, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced: None, text: text.into() }
    }

    /// 400…599.
    pub const fn is_refusal(&self) -> bool {
        self.code >= 400
    }

    /// Appends the line. A refusal also names the session, so that whoever reads it in the client's log can
    /// find it in ours (SUB-48).
    pub fn write(&self, session: &str, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(format!("{} ", self.code).as_bytes());
        if let Some(enhanced) = self.enhanced {
            out.extend_from_slice(format!("{enhanced} ").as_bytes());
        }
        let tail = if self.is_refusal() { format!(" [{session}]\r\n") } else { "\r\n".to_owned() };
        let room = MAX_LINE.saturating_sub(out.len() - start + tail.len());
        out.extend(self.text.chars().take(room).map(|c| match c {
            ' '..='~' => c as u8,
            _ => b'?',
        }));
        out.extend_from_slice(tail.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SUB-46, SUB-47, SUB-48
    #[test]
    fn a_line_is_short_printable_and_carries_its_codes() {
        for (answer, want) in [
            (Answer::new(250, 1, 0, "Ok"), "250 2.1.0 Ok\r\n"),
            (Answer::new(550, 1, 1, "no \u{fc}\r\nsuch"), "550 5.1.1 no ???such [s1]\r\n"),
            (Answer::new(421, 4, 2, "slow"), "421 4.4.2 slow [s1]\r\n"),
            (Answer::bare(334, ""), "334 \r\n"),
        ] {
            let mut out = Vec::new();
            answer.write("s1", &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
        let mut out = Vec::new();
        Answer::new(550, 1, 1, "x".repeat(4000)).write("session", &mut out);
        assert_eq!(out.len(), MAX_LINE);
        assert!(out.ends_with(b" [session]\r\n"));
    }
}
