//! Cutting a stream of octets into SMTP replies (RFC 5321 §4.2), strictly and within bounds.
//!
//! Pure. What comes after a reply stays in the buffer, so that a caller can see, and refuse, what no server
//! may have said yet (OUT-23, OUT-31).

use crate::mail::Reply;

/// The longest line read, line end included (OUT-21).
const MAX_LINE: usize = 8 * 1024;
/// The most lines of one reply.
const MAX_LINES: usize = 128;
/// The most octets of one reply.
const MAX_REPLY: usize = 64 * 1024;

/// A complete reply with its lines as they came, without code, separator and line end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawReply {
    /// 200…599.
    pub code: u16,
    /// At least one.
    pub lines: Vec<Vec<u8>>,
}

impl RawReply {
    /// The reply as everybody else sees it: cleaned and cut.
    pub fn to_reply(&self) -> Reply {
        let lines: Vec<&[u8]> = self.lines.iter().map(Vec::as_slice).collect();
        Reply::from_lines(self.code, &lines)
    }
}

/// The peer does not speak SMTP: a stable phrase that says how. The connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotSmtp(pub &'static str);

/// Octets received and not yet understood. Bounded by `MAX_REPLY` plus one read.
#[derive(Debug, Default)]
pub struct ReplyBuffer {
    buf: Vec<u8>,
    scanned: usize,
    code: Option<u16>,
    lines: Vec<Vec<u8>>,
    octets: usize,
}

impl ReplyBuffer {
    /// Adds what was read.
    pub fn feed(&mut self, octets: &[u8]) {
        self.buf.extend_from_slice(octets);
    }

    /// Whether nothing at all lies here, not even part of a line.
    pub const fn is_empty(&self) -> bool {
        self.buf.is_empty() && self.lines.is_empty()
    }

    /// Whether so much lies here unread that nobody should read on before looking at it.
    pub const fn is_full(&self) -> bool {
        self.buf.len() >= MAX_REPLY
    }

    /// The next complete reply; `None` when more octets are needed.
    ///
    /// # Errors
    /// [`NotSmtp`]: no three digits, digits that differ between lines, a code outside 200…599, or a limit passed.
    pub fn take(&mut self) -> Result<Option<RawReply>, NotSmtp> {
        loop {
            let unscanned = self.buf.get(self.scanned..).unwrap_or_default();
            let Some(at) = unscanned.iter().position(|b| *b == b'\n') else {
                self.scanned = self.buf.len();
                // Refuse what cannot become a reply before its line ends: a peer may never end it.
                if self.buf.len() > MAX_LINE {
                    return Err(NotSmtp("a reply line is too long"));
                }
                return Ok(None);
            };
            let line: Vec<u8> = self.buf.drain(..=self.scanned + at).collect();
            self.scanned = 0;
            if let Some(reply) = self.line(&line)? {
                return Ok(Some(reply));
            }
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<RawReply>, NotSmtp> {
        self.octets += line.len();
        if line.len() > MAX_LINE {
            return Err(NotSmtp("a reply line is too long"));
        }
        if self.octets > MAX_REPLY || self.lines.len() >= MAX_LINES {
            return Err(NotSmtp("a reply is too long"));
        }
        // LF alone ends a line too: tolerated when reading, never written (OUT-24).
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (digits, rest) = line.split_at_checked(3).ok_or(NotSmtp("a reply without a code"))?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(NotSmtp("a reply without a code"));
        }
        let code = digits.iter().fold(0, |n, d| n * 10 + u16::from(d - b'0'));
        if !(200..600).contains(&code) {
            return Err(NotSmtp("a reply code that SMTP does not have"));
        }
        if self.code.is_some_and(|c| c != code) {
            return Err(NotSmtp("the codes of a reply's lines differ"));
        }
        let (more, text) = match rest.split_first() {
            None => (false, rest),
            Some((b' ' | b'\t', text)) => (false, text),
            Some((b'-', text)) => (true, text),
            Some(_) => return Err(NotSmtp("a reply code runs into its text")),
        };
        self.lines.push(text.to_vec());
        if more {
            self.code = Some(code);
            return Ok(None);
        }
        self.code = None;
        self.octets = 0;
        Ok(Some(RawReply { code, lines: std::mem::take(&mut self.lines) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Option<RawReply>, NotSmtp> {
        let mut b = ReplyBuffer::default();
        b.feed(text);
        b.take()
    }

    // OUT-21, OUT-24, OUT-43
    #[test]
    fn only_replies_are_replies() {
        let code = |t: &[u8]| read(t).map(|r| r.map(|r| r.code)).map_err(|_| ());
        for (name, text, want) in [
            ("plain", &b"250 ok\r\n"[..], Ok(Some(250))),
            ("bare code", b"250\r\n", Ok(Some(250))),
            ("LF only", b"250 ok\n", Ok(Some(250))),
            ("two lines", b"250-a\r\n250 b\r\n", Ok(Some(250))),
            ("unfinished line", b"250 ok", Ok(None)),
            ("unfinished reply", b"250-ok\r\n", Ok(None)),
            ("ssh", b"SSH-2.0-OpenSSH_9\r\n", Err(())),
            ("short", b"25\r\n", Err(())),
            ("empty line", b"\r\n", Err(())),
            ("four digits", b"2500 ok\r\n", Err(())),
            ("1xx", b"150 wait\r\n", Err(())),
            ("6xx", b"650 what\r\n", Err(())),
            ("codes differ", b"250-a\r\n550 b\r\n", Err(())),
        ] {
            assert_eq!(code(text), want, "{name}");
        }
    }

    // OUT-21, HR-003, HR-004, HR-015
    #[test]
    fn every_limit_is_a_protocol_error() {
        assert!(read(&b"2".repeat(MAX_LINE + 1)).is_err());
        assert!(read(&b"220-hello\r\n".repeat(MAX_LINES + 1)).is_err());
        let line = [&b"550-"[..], &b"a".repeat(8000), b"\r\n"].concat();
        assert!(read(&line.repeat(9)).is_err());
        // HR-050: 100 lines of 620 octets are long, and legal.
        let line = [&b"550-"[..], &b"a".repeat(614), b"\r\n"].concat();
        assert!(read(&[line.repeat(100), b"550 end\r\n".to_vec()].concat()).unwrap().is_some());
    }

    // OUT-23, OUT-31
    #[test]
    fn what_follows_a_reply_stays_visible() {
        let mut b = ReplyBuffer::default();
        b.feed(b"220 go\r\n2");
        assert_eq!(b.take().unwrap().unwrap().code, 220);
        assert!(!b.is_empty());
        b.feed(b"50 x\r\n");
        assert_eq!(b.take().unwrap().unwrap().code, 250);
        assert!(b.is_empty());
    }

    proptest! {
        #[test]
        fn any_octets_in_any_pieces_give_the_same_replies(
            octets: Vec<u8>, pieces in proptest::collection::vec(1usize..9, 1..40)
        ) {
            let all = |b: &mut ReplyBuffer| {
                let mut out = Vec::new();
                loop {
                    match b.take() {
                        Ok(Some(r)) => out.push(Ok(r)),
                        Ok(None) => return out,
                        Err(e) => { out.push(Err(e)); return out; }
                    }
                }
            };
            let mut whole = ReplyBuffer::default();
            whole.feed(&octets);
            let want = all(&mut whole);
            let mut b = ReplyBuffer::default();
            let mut got = Vec::new();
            let mut rest = &octets[..];
            for n in pieces.iter().cycle() {
                if rest.is_empty() || got.iter().any(Result::is_err) { break; }
                let (now, later) = rest.split_at((*n).min(rest.len()));
                b.feed(now);
                rest = later;
                got.extend(all(&mut b));
            }
            prop_assert_eq!(got, want);
        }
    }
}
