//! Command lines, read strictly (RFC 5321 §4.1.1) with the parameters of RFC 1870, 3461, 4954, 6152 and 6531.
//!
//! A line arrives here without its CRLF. [`split`] finds the verb, so that the session can judge sequence and
//! trust before any argument is looked at; [`mail`], [`rcpt`] and [`helo`] then read arguments. Each error is
//! the exact [`Answer`] to give.

use super::Answer;
use crate::mail::address::AddressError;
use crate::mail::{ForwardPath, Notify, Orcpt, Ret, ReversePath, Xtext};

/// The longest command line, CRLF included (LIM-03).
pub const MAX_LINE: usize = 4096;

/// The longest AUTH command or continuation, CRLF not included (RFC 4954 §4).
pub const MAX_AUTH_LINE: usize = 12288;

/// The first word of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// RFC 5321 §4.1.1.1.
    Ehlo,
    /// RFC 5321 §4.1.1.1.
    Helo,
    /// RFC 5321 §4.1.1.2.
    Mail,
    /// RFC 5321 §4.1.1.3.
    Rcpt,
    /// RFC 5321 §4.1.1.4.
    Data,
    /// RFC 5321 §4.1.1.5.
    Rset,
    /// RFC 5321 §4.1.1.6.
    Vrfy,
    /// RFC 5321 §4.1.1.8.
    Help,
    /// RFC 5321 §4.1.1.9.
    Noop,
    /// RFC 5321 §4.1.1.10.
    Quit,
    /// RFC 3207.
    StartTls,
    /// RFC 4954.
    Auth,
    /// RFC 3030, not offered: its chunk cannot be told from commands (SUB-51).
    Bdat,
    /// Known, and not done here: EXPN, ETRN, TURN, ATRN and the like (SUB-08).
    Unimplemented,
}

/// The parts of a MAIL command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The sender.
    pub path: ReversePath,
    /// `SIZE=`, saturated; never used as a length (RFC 1870 §6).
    pub size: Option<u64>,
    /// `SMTPUTF8`.
    pub smtputf8: bool,
    /// `RET=`.
    pub ret: Option<Ret>,
    /// `ENVID=`.
    pub envid: Option<Xtext>,
    /// `REQUIRETLS` (RFC 8689 §2). Whether it may be said here is for the session to know.
    pub requiretls: bool,
}

/// The parts of a RCPT command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt {
    /// The recipient; `None` for `<Postmaster>` without a domain (RFC 5321 §4.5.1).
    pub path: Option<ForwardPath>,
    /// `NOTIFY=`.
    pub notify: Option<Notify>,
    /// `ORCPT=`.
    pub orcpt: Option<Orcpt>,
}

/// Finds the verb and its argument, both without surrounding blanks.
///
/// # Errors
/// 500 5.5.2 for octets that no command has (SUB-03), 500 5.5.1 for an unknown verb.
pub fn split(line: &[u8]) -> Result<(Verb, &str), Answer> {
    let bad = || Answer::new(500, 5, 2, "a command has no control characters and is valid UTF-8");
    if line.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
        return Err(bad());
    }
    let line = std::str::from_utf8(line).map_err(|_| bad())?;
    let (word, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    let verb = match word.to_ascii_uppercase().as_str() {
        "EHLO" => Verb::Ehlo,
        "HELO" => Verb::Helo,
        "MAIL" => Verb::Mail,
        "RCPT" => Verb::Rcpt,
        "DATA" => Verb::Data,
        "RSET" => Verb::Rset,
        "VRFY" => Verb::Vrfy,
        "HELP" => Verb::Help,
        "NOOP" => Verb::Noop,
        "QUIT" => Verb::Quit,
        "STARTTLS" => Verb::StartTls,
        "AUTH" => Verb::Auth,
        "BDAT" => Verb::Bdat,
        "EXPN" | "ETRN" | "TURN" | "ATRN" | "SEND" | "SOML" | "SAML" | "BURL" | "XCLIENT" | "XFORWARD" => {
            Verb::Unimplemented
        }
        _ => return Err(Answer::new(500, 5, 1, "unknown command")),
    };
    Ok((verb, argument.trim_matches([' ', '\t'])))
}

/// The argument of EHLO or HELO: one word of printable ASCII, at most 255 octets (LIM-05).
///
/// # Errors
/// 501 5.5.4. Whether the word is a name or a literal is not asked: too many clients get it wrong
/// (RFC 5321 §4.1.4), and the trace field checks for itself (SIG-03).
pub fn helo(argument: &str) -> Result<&str, Answer> {
    let word = (1..=255).contains(&argument.len()) && argument.bytes().all(|b| b.is_ascii_graphic());
    let wrong = || Answer::new(501, 5, 4, "EHLO and HELO take one host name or address literal");
    word.then_some(argument).ok_or_else(wrong)
}

/// The argument of MAIL. `extended` is false after HELO, which allows no parameters (SUB-09).
///
/// # Errors
/// 501 5.5.4 without `FROM:`, 501 5.1.7 for a bad path, 554 5.1.8 for a domain that is not fully qualified,
/// 550 5.6.7 for a non-ASCII path without SMTPUTF8, 555 and 501 5.5.4 for parameters.
pub fn mail(argument: &str, extended: bool) -> Result<Mail, Answer> {
    let (inner, rest) = path(argument, "FROM:")?;
    let mut mail = Mail {
        path: ReversePath::Null,
        size: None,
        smtputf8: false,
        ret: None,
        envid: None,
        requiretls: false,
    };
    let (mut body, mut auth) = (None, None);
    for parameter in parameters(rest, extended)? {
        let (keyword, value) = parameter;
        match keyword.to_ascii_uppercase().as_str() {
            "SIZE" => once(&mut mail.size, value.and_then(size))?,
            "BODY" => once(&mut body, value.and_then(body_type))?,
            "SMTPUTF8" if value.is_some() || mail.smtputf8 => return Err(bad_parameter()),
            "SMTPUTF8" => mail.smtputf8 = true,
            "REQUIRETLS" if value.is_some() || mail.requiretls => return Err(bad_parameter()),
            "REQUIRETLS" => mail.requiretls = true,
            "RET" => once(&mut mail.ret, value.and_then(Ret::parse))?,
            "ENVID" => once(&mut mail.envid, bounded(value, 100).and_then(Xtext::parse))?,
            // RFC 4954 §5: read, and treated as AUTH=<>, whoever says it (SUB-57).
            "AUTH" => once(&mut auth, bounded(value, 500).and_then(auth_mailbox))?,
            _ => return Err(unknown_parameter()),
        }
    }
    if !inner.is_ascii() && !mail.smtputf8 {
        return Err(Answer::new(550, 6, 7, "a non-ASCII sender needs SMTPUTF8"));
    }
    mail.path = ReversePath::parse(inner).map_err(|e| match e {
        AddressError::Unqualified => Answer::new(554, 1, 8, "the sender's domain is not fully qualified"),
        AddressError::Literal => Answer::new(554, 1, 8, "a sender at an address literal is not accepted"),
        AddressError::Syntax(_) | AddressError::TooLong(_) | AddressError::NoDomain => {
            Answer::new(501, 1, 7, format!("bad sender: {e}"))
        }
    })?;
    if mail.path.mailbox().is_some_and(|m| m.to_string().len() > MAX_PATH) {
        return Err(Answer::new(501, 1, 7, "bad sender: the path is too long"));
    }
    Ok(mail)
}

/// The argument of RCPT. `extended` as for [`mail`]; `smtputf8` is what MAIL declared.
///
/// # Errors
/// 501 5.5.4 without `TO:`, 501 5.1.3 for a bad path, 554 5.1.2 for a domain that is not fully qualified,
/// 553 5.6.7 for a non-ASCII path without SMTPUTF8, 555 and 501 5.5.4 for parameters.
pub fn rcpt(argument: &str, extended: bool, smtputf8: bool) -> Result<Rcpt, Answer> {
    let (inner, rest) = path(argument, "TO:")?;
    let mut rcpt = Rcpt { path: None, notify: None, orcpt: None };
    for (keyword, value) in parameters(rest, extended)? {
        match keyword.to_ascii_uppercase().as_str() {
            "NOTIFY" => once(&mut rcpt.notify, bounded(value, 28).and_then(Notify::parse))?,
            "ORCPT" => once(&mut rcpt.orcpt, bounded(value, 500).and_then(Orcpt::parse))?,
            _ => return Err(unknown_parameter()),
        }
    }
    if !(inner.is_ascii() || smtputf8) {
        return Err(Answer::new(553, 6, 7, "a non-ASCII recipient needs SMTPUTF8"));
    }
    if inner.eq_ignore_ascii_case("postmaster") {
        return Ok(rcpt);
    }
    let path = ForwardPath::parse(inner).map_err(|e| match e {
        AddressError::Unqualified => Answer::new(554, 1, 2, "the recipient's domain is not fully qualified"),
        AddressError::Literal => Answer::new(554, 1, 2, "mail to an address literal is not delivered"),
        AddressError::Syntax(_) | AddressError::TooLong(_) | AddressError::NoDomain => {
            Answer::new(501, 1, 3, format!("bad recipient: {e}"))
        }
    })?;
    if path.to_string().len() > MAX_PATH {
        return Err(Answer::new(501, 1, 3, "bad recipient: the path is too long"));
    }
    rcpt.path = Some(path);
    Ok(rcpt)
}

/// RFC 5321 §4.5.3.1.3. Spec: measured without the angle brackets, so that a domain of 253 octets can be written.
const MAX_PATH: usize = 256;

/// What stands between `<` and `>`, and what follows. Blanks before `<` are let pass: many applications write
/// `FROM: <a@b>` (SUB-30).
fn path<'a>(argument: &'a str, prefix: &str) -> Result<(&'a str, &'a str), Answer> {
    let after = argument
        .get(..prefix.len())
        .filter(|p| p.eq_ignore_ascii_case(prefix))
        .and_then(|_| argument.get(prefix.len()..))
        .ok_or_else(|| Answer::new(501, 5, 4, format!("{prefix}<address> expected")))?;
    let unbracketed = || Answer::new(501, 5, 2, "an address stands between < and >");
    let inner = after.trim_start_matches(' ').strip_prefix('<').ok_or_else(unbracketed)?;
    let end = closing_bracket(inner).ok_or_else(|| {
        let (subject, detail) = if prefix == "TO:" { (1, 3) } else { (1, 7) };
        Answer::new(501, subject, detail, "the address has no end")
    })?;
    let rest = inner.get(end + 1..).unwrap_or("");
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(Answer::new(501, 5, 4, "a blank stands between address and parameters"));
    }
    Ok((inner.get(..end).unwrap_or(""), rest))
}

fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|b| {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return true,
            _ => {}
        }
        false
    })
}

type Parameter<'a> = (&'a str, Option<&'a str>);

/// RFC 5321 §4.1.2 `esmtp-param`: a keyword of letters, digits and hyphens, and a value without `=`, blank or control.
fn parameters(rest: &str, extended: bool) -> Result<Vec<Parameter<'_>>, Answer> {
    let words = rest.split(' ').filter(|w| !w.is_empty());
    let read = |word| -> Result<Parameter<'_>, Answer> {
        let (keyword, value) = match str::split_once(word, '=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        let well_formed = keyword.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && keyword.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && value.is_none_or(|v| !v.is_empty() && !v.contains(|c: char| c == '=' || c.is_control()));
        match (well_formed, extended) {
            (true, true) => Ok((keyword, value)),
            (true, false) => Err(Answer::new(555, 5, 4, "parameters need EHLO")),
            (false, _) => Err(bad_parameter()),
        }
    };
    words.map(read).collect()
}

/// Sets a parameter that may come once and must have been readable (SUB-33).
fn once<T>(slot: &mut Option<T>, value: Option<T>) -> Result<(), Answer> {
    match (slot.is_none(), value) {
        (true, Some(value)) => {
            *slot = Some(value);
            Ok(())
        }
        _ => Err(bad_parameter()),
    }
}

fn bad_parameter() -> Answer {
    Answer::new(501, 5, 4, "bad or repeated parameter")
}

/// A parameter that is not offered here.
pub fn unknown_parameter() -> Answer {
    Answer::new(555, 5, 4, "unknown parameter")
}

fn bounded(value: Option<&str>, max: usize) -> Option<&str> {
    value.filter(|v| v.len() <= max)
}

/// RFC 1870 §4: one to twenty digits. Twenty digits can exceed 64 bits, so the value saturates.
fn size(value: &str) -> Option<u64> {
    let digits = (1..=20).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

/// RFC 6152 §2. The value is checked and dropped: content is looked at instead (SUB-56).
fn body_type(value: &str) -> Option<()> {
    (value.eq_ignore_ascii_case("7BIT") || value.eq_ignore_ascii_case("8BITMIME")).then_some(())
}

/// `<>`, or a mailbox as xtext (RFC 4954 §5); only the form is checked.
fn auth_mailbox(value: &str) -> Option<()> {
    (value == "<>" || Xtext::parse(value).is_some()).then_some(())
}

#[cfg(test)]
mod tests;
