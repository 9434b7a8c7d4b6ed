//! What goes on the wire: commands and dot-stuffed content. Pure, and unable to write what would be a second command.

use crate::mail::{ForwardPath, Notify, Orcpt, Ret, ReversePath, Xtext};

use super::ehlo::Ehlo;

/// The longest line that may be sent, without its line end (RFC 5321 §4.5.3.1.6).
const MAX_TEXT_LINE: usize = 998;

/// The parameters of one transaction as the sender wants them; what is written depends on the host.
#[derive(Debug, Clone)]
pub struct Mail<'a> {
    /// The sender.
    pub reverse_path: &'a ReversePath,
    /// Octets of content.
    pub size: u64,
    /// Has octets above 127.
    pub has_8bit: bool,
    /// An address or the header needs SMTPUTF8.
    pub smtputf8: bool,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`.
    pub envid: Option<&'a Xtext>,
    /// Of our own making, a DSN or TLS report: RCPT asks for no DSN about it (RFC 3461 §6.1, RPT-86).
    pub is_generated: bool,
}

/// One recipient with its wishes.
#[derive(Debug, Clone)]
pub struct Rcpt<'a> {
    /// The address.
    pub path: &'a ForwardPath,
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`.
    pub orcpt: Option<&'a Orcpt>,
}

/// A stored value that would not be one command (OUT-54). Never written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unwritable;

/// `MAIL FROM:<…>` with the parameters of extensions that `host` offers, and no others (OUT-27, OUT-49). `requiretls`: the
/// session was cleared for that parameter (RFC 8689 §4.2.1).
///
/// # Errors
/// [`Unwritable`], for a value that no parser of ours lets through.
pub fn mail_command(mail: &Mail<'_>, host: &Ehlo, requiretls: bool) -> Result<String, Unwritable> {
    let mut line = format!("MAIL FROM:<{}>", mail.reverse_path);
    if host.size.is_some() {
        line.push_str(&format!(" SIZE={}", mail.size));
    }
    if mail.has_8bit && host.eight_bit {
        line.push_str(" BODY=8BITMIME");
    }
    if mail.smtputf8 && host.smtputf8 {
        line.push_str(" SMTPUTF8");
    }
    if requiretls {
        line.push_str(" REQUIRETLS");
    }
    if host.dsn && !mail.is_generated {
        if let Some(ret) = mail.ret {
            line.push_str(&format!(" RET={}", ret.as_str()));
        }
        if let Some(envid) = mail.envid {
            line.push_str(&format!(" ENVID={}", envid.as_encoded()));
        }
    }
    one_command(line)
}

/// `RCPT TO:<…>` with the parameters of extensions that `host` offers.
///
/// # Errors
/// [`Unwritable`], for a value that no parser of ours lets through.
pub fn rcpt_command(rcpt: &Rcpt<'_>, mail: &Mail<'_>, host: &Ehlo) -> Result<String, Unwritable> {
    let mut line = format!("RCPT TO:<{}>", rcpt.path);
    if host.dsn {
        let notify = if mail.is_generated { Some(Notify::Never) } else { rcpt.notify };
        if let Some(notify) = notify {
            line.push_str(&format!(" NOTIFY={notify}"));
        }
        // A `utf-8` ORCPT in its raw form may only go where SMTPUTF8 is offered (RFC 6533 §3).
        if let Some(orcpt) = rcpt.orcpt.map(ToString::to_string).filter(|o| o.is_ascii() || host.smtputf8) {
            line.push_str(&format!(" ORCPT={orcpt}"));
        }
    }
    one_command(line)
}

/// OUT-54: no control character, and no `>` outside quotes but the one that closes the path.
fn one_command(line: String) -> Result<String, Unwritable> {
    let (mut quoted, mut escaped, mut closed) = (false, false, 0);
    let path_end = line.bytes().enumerate().fold(None, |end, (i, b)| {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => {
                closed += 1;
                return end.or(Some(i));
            }
            _ => {}
        }
        end
    });
    let parameters_follow = path_end.and_then(|i| line.as_bytes().get(i + 1)).is_none_or(|b| *b == b' ');
    // An ENVID or ORCPT may hold `>` (it is xtext), and stands behind the path.
    if line.bytes().any(|b| b < b' ' || b == 0x7f) || quoted || closed == 0 || !parameters_follow {
        return Err(Unwritable);
    }
    Ok(line + "\r\n")
}

/// Content that must not be sent as it is: bare CR or LF, or a line over 998 octets (OUT-55).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadContent(pub &'static str);

/// The end of data, without the CRLF that ends the last line of content.
pub const TERMINATOR: &[u8] = b".\r\n";

/// Doubles leading dots of content that passes in pieces, adding nothing else (RFC 5321 §4.5.2).
#[derive(Debug, Default)]
pub struct DotStuffer {
    /// Octets of the current line so far.
    line: usize,
    /// The octet before was CR.
    cr: bool,
}

impl DotStuffer {
    /// Appends `part` to `out`, stuffed.
    ///
    /// # Errors
    /// [`BadContent`]; nothing after the fault is written.
    pub fn stuff(&mut self, part: &[u8], out: &mut Vec<u8>) -> Result<(), BadContent> {
        out.reserve(part.len() + part.len() / 64);
        for piece in part.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            if self.cr && !(ended && text.is_empty()) {
                return Err(BadContent("a bare CR"));
            }
            if self.line == 0 && !self.cr && text.first() == Some(&b'.') {
                out.push(b'.');
            }
            let (body, cr) = match text.strip_suffix(b"\r") {
                Some(body) => (body, true),
                None => (text, self.cr),
            };
            if body.contains(&b'\r') {
                return Err(BadContent("a bare CR"));
            }
            self.line += body.len();
            if self.line > MAX_TEXT_LINE {
                return Err(BadContent("a line over 998 octets"));
            }
            if ended && !cr {
                return Err(BadContent("a bare LF"));
            }
            out.extend_from_slice(piece);
            self.cr = cr && !ended;
            if ended {
                self.line = 0;
            }
        }
        Ok(())
    }

    /// Appends what is missing to end the last line (nothing, for content that ends in CRLF), and the
    /// [`TERMINATOR`].
    ///
    /// # Errors
    /// [`BadContent`], when the content ends in a bare CR.
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), BadContent> {
        if self.cr {
            return Err(BadContent("a bare CR"));
        }
        if self.line > 0 {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(TERMINATOR);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed(parts: &[&[u8]]) -> Result<Vec<u8>, BadContent> {
        let (mut s, mut out) = (DotStuffer::default(), Vec::new());
        for p in parts {
            s.stuff(p, &mut out)?;
        }
        s.finish(&mut out)?;
        Ok(out)
    }

    // SUB-42, OUT-55
    #[test]
    fn only_leading_dots_are_doubled_and_nothing_else_is_added() {
        for (name, parts, want) in [
            ("no dot", &[&b"a\r\n"[..]][..], Ok(&b"a\r\n.\r\n"[..])),
            ("leading", &[b".a\r\n..b\r\n.\r\n"], Ok(b"..a\r\n...b\r\n..\r\n.\r\n")),
            ("split before the dot", &[b"a\r\n", b".b\r\n"], Ok(b"a\r\n..b\r\n.\r\n")),
            ("split inside CRLF", &[b"a\r", b"\n.b\r\n"], Ok(b"a\r\n..b\r\n.\r\n")),
            ("no last CRLF", &[b"a"], Ok(b"a\r\n.\r\n")),
            ("empty", &[], Ok(b".\r\n")),
            ("bare LF", &[b"a\n"], Err(BadContent("a bare LF"))),
            ("bare CR", &[b"a\rb\r\n"], Err(BadContent("a bare CR"))),
            ("bare CR across parts", &[b"a\r", b"b\r\n"], Err(BadContent("a bare CR"))),
            ("CR at the end", &[b"a\r"], Err(BadContent("a bare CR"))),
            ("CR CR LF", &[b"a\r\r\n"], Err(BadContent("a bare CR"))),
        ] {
            assert_eq!(stuffed(parts), want.map(<[u8]>::to_vec), "{name}");
        }
        let long = [b"a".repeat(999), b"\r\n".to_vec()].concat();
        assert_eq!(stuffed(&[&long[..500], &long[500..]]), Err(BadContent("a line over 998 octets")));
        assert!(stuffed(&[&long[1..]]).is_ok());
    }

    proptest! {
        // OUT-55
        #[test]
        fn pieces_do_not_matter_and_unstuffing_gives_the_content_back(
            lines in proptest::collection::vec("[.a-z]{0,6}", 0..9), cut in 0usize..60
        ) {
            let content: String = lines.iter().map(|l| format!("{l}\r\n")).collect();
            let whole = stuffed(&[content.as_bytes()]).unwrap();
            let cut = cut.min(content.len());
            let (a, b) = content.as_bytes().split_at(cut);
            prop_assert_eq!(&stuffed(&[a, b]).unwrap(), &whole);
            let text = String::from_utf8(whole).unwrap();
            let body = text.strip_suffix(".\r\n").unwrap();
            let back: String = body.split_inclusive("\r\n").map(|l| l.strip_prefix('.').unwrap_or(l)).collect();
            prop_assert_eq!(back, content);
        }

        #[test]
        fn any_octets_are_written_or_refused_but_never_end_the_data_early(octets: Vec<u8>) {
            if let Ok(out) = stuffed(&[&octets]) {
                let end = b"\r\n.\r\n";
                let first = out.windows(5).position(|w| w == end);
                prop_assert!(first.is_none_or(|i| i + 5 == out.len()));
            }
        }
    }

    fn mail(path: &ReversePath) -> Mail<'_> {
        Mail {
            reverse_path: path,
            size: 10,
            has_8bit: true,
            smtputf8: true,
            ret: Some(Ret::Hdrs),
            envid: None,
            is_generated: false,
        }
    }

    // OUT-26, OUT-27, OUT-28, OUT-29, OUT-49
    #[test]
    fn parameters_follow_what_the_host_offers() {
        let sender = ReversePath::parse("a@example.org").unwrap();
        let rcpt = ForwardPath::parse("b@example.net").unwrap();
        let orcpt = Orcpt::parse("rfc822;b+40example.net").unwrap();
        let envid = Xtext::parse("X+2B1").unwrap();
        let m = Mail { envid: Some(&envid), ..mail(&sender) };
        let r = Rcpt { path: &rcpt, notify: Notify::parse("SUCCESS"), orcpt: Some(&orcpt) };
        let none = Ehlo::default();
        let all = Ehlo { size: Some(0), eight_bit: true, smtputf8: true, dsn: true, ..Ehlo::default() };
        assert_eq!(mail_command(&m, &none, false).unwrap(), "MAIL FROM:<a@example.org>\r\n");
        assert_eq!(
            mail_command(&m, &all, false).unwrap(),
            "MAIL FROM:<a@example.org> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=X+2B1\r\n"
        );
        assert_eq!(rcpt_command(&r, &m, &none).unwrap(), "RCPT TO:<b@example.net>\r\n");
        assert_eq!(
            rcpt_command(&r, &m, &all).unwrap(),
            "RCPT TO:<b@example.net> NOTIFY=SUCCESS ORCPT=rfc822;b+40example.net\r\n"
        );
        let dsn = Mail {
            is_generated: true,
            reverse_path: &ReversePath::Null,
            has_8bit: false,
            smtputf8: false,
            ..m
        };
        assert_eq!(mail_command(&dsn, &all, false).unwrap(), "MAIL FROM:<> SIZE=10\r\n");
        let bare = Rcpt { path: &rcpt, notify: None, orcpt: None };
        assert_eq!(rcpt_command(&bare, &dsn, &all).unwrap(), "RCPT TO:<b@example.net> NOTIFY=NEVER\r\n");
    }

    // OUT-54
    #[test]
    fn a_corrupt_value_never_becomes_a_second_command() {
        for bad in [
            "MAIL FROM:<a\r\nDATA>",
            "MAIL FROM:<a>b> X=1",
            "MAIL FROM:<\"a>",
            "MAIL FROM:a",
            "RCPT TO:<a\0>",
        ] {
            assert_eq!(one_command(bad.to_owned()), Err(Unwritable), "{bad:?}");
        }
        assert!(one_command("MAIL FROM:<\"a>b\\\"\"@x.example> SIZE=1".to_owned()).is_ok());
    }
}
