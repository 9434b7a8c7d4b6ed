//! Who a message says it is from: a strict reading of address lists (RFC 5322 §3.4), and the sender rules.
//!
//! Strict, because the check must hold for what any receiving mail program shows: a list that two readers
//! could split differently is refused, not interpreted.

use base64::Engine as _;

use super::Refused;
use crate::mail::{Domain, Mailbox};

/// Who a client may write as (SUB-25).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderRule {
    /// Any mailbox of exactly this domain.
    Domain(Domain),
    /// This mailbox alone.
    Address(Mailbox),
}

impl SenderRule {
    /// Reads `@example.net` or `a@example.net`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).ok().map(Self::Domain),
            None => Mailbox::parse(text).ok().map(Self::Address),
        }
    }

    /// Whether `mailbox` may be written as. Local parts are compared octet for octet (RFC 5321 §2.4).
    pub fn permits(&self, mailbox: &Mailbox) -> bool {
        match self {
            Self::Domain(d) => mailbox.domain() == d,
            Self::Address(a) => mailbox == a,
        }
    }
}

/// One mailbox of an address field, as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The display name, unquoted, words joined by a blank; of a bare address its last comment.
    pub(super) name: String,
    /// `local@domain` without comments and blanks around its parts.
    pub(super) address: String,
}

/// Reads the body of From or Sender: mailboxes only, no groups.
///
/// # Errors
/// 554 5.6.0 for anything that is not a list of mailboxes by the letter.
pub(super) fn parse_mailboxes(body: &str, field: &str) -> Result<Vec<Written>, Refused> {
    read_list(body)
        .ok_or_else(|| Refused::malformed(format!("the {field} field is not a list of mail addresses")))
}

/// The domains of the authors, in their order; none for a body of From that is not a list of mailboxes.
pub fn author_domains(body: &str) -> Vec<Domain> {
    let list = read_list(body).unwrap_or_default();
    list.iter().filter_map(|w| Mailbox::parse(&w.address).ok()).map(|m| m.domain().clone()).collect()
}

/// Applies the sender rules to the mailboxes of a field.
///
/// # Errors
/// 550 5.7.1.
pub(super) fn check_senders(list: &[Written], rules: &[SenderRule], field: &str) -> Result<(), Refused> {
    if rules.is_empty() {
        return Ok(());
    }
    for written in list {
        let permitted =
            Mailbox::parse(&written.address).is_ok_and(|m| rules.iter().any(|rule| rule.permits(&m)));
        if !permitted || hides_an_address(&written.name) {
            return Err(Refused::not_permitted(format!(
                "you may not send with an address in the {field} field that is not yours"
            )));
        }
    }
    Ok(())
}

/// Whether the encoded words of a display name hold what a reader that decodes before it parses would take
/// for another address of the list.
fn hides_an_address(name: &str) -> bool {
    let mut decoded = Vec::new();
    for word in name.split_whitespace() {
        let Some(inner) = word.strip_prefix("=?").and_then(|w| w.strip_suffix("?=")) else { continue };
        let mut parts = inner.splitn(3, '?').skip(1);
        let (Some(encoding), Some(text)) = (parts.next(), parts.next()) else { return true };
        if encoding.eq_ignore_ascii_case("B") {
            match base64::engine::general_purpose::STANDARD.decode(text) {
                Ok(octets) => decoded.extend(octets),
                Err(_) => return true,
            }
        } else {
            decoded.extend(decode_q(text));
        }
    }
    decoded.contains(&b'@') && decoded.iter().any(|b| matches!(b, b'<' | b'>' | b',' | b';' | b'\r' | b'\n'))
}

fn decode_q(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'=' {
            out.push(b);
            continue;
        }
        let digit =
            |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        if let (Some(h), Some(l)) = (digit(bytes.next()), digit(bytes.next())) {
            out.push(h * 16 + l);
        }
    }
    out
}

/// What an address list is made of once blanks and comments are gone.
enum Token<'a> {
    Atom(&'a str),
    Quoted(String),
    Literal(&'a str),
    Special(char),
    Comment(String),
}

/// All mailboxes, or `None` when the text is not a list of mailboxes.
fn read_list(body: &str) -> Option<Vec<Written>> {
    let mut list = Vec::new();
    let mut rest = body;
    loop {
        let (written, tail, more) = read_mailbox(rest)?;
        list.push(written);
        if !more {
            return Some(list);
        }
        rest = tail;
    }
}

/// One mailbox, what follows it, and whether a comma came between.
fn read_mailbox(text: &str) -> Option<(Written, &str, bool)> {
    let mut lexer = Lexer { rest: text, spaced: false };
    let (mut words, mut comment) = (Vec::<String>::new(), None);
    let mut after_dot = false;
    // Before `<` nobody knows whether this is a display name or a bare address: keep both readings.
    let mut bare = AddrSpec::default();
    loop {
        match lexer.next()? {
            None => return Some((bare.finish(comment)?, "", false)),
            Some(Token::Special(',')) => return Some((bare.finish(comment)?, lexer.rest, true)),
            Some(Token::Special('<')) => break,
            Some(Token::Comment(text)) => comment = Some(text),
            Some(token) => {
                let glued = after_dot && !lexer.spaced;
                after_dot = matches!(token, Token::Special('.'));
                match &token {
                    Token::Atom(a) => match words.last_mut() {
                        Some(last) if glued => last.push_str(a),
                        _ => words.push((*a).to_owned()),
                    },
                    Token::Quoted(q) => words.push(q.clone()),
                    // A dot in a display name is obsolete syntax that every reader takes as text.
                    Token::Special('.') => match words.last_mut() {
                        Some(last) => last.push('.'),
                        None => return None,
                    },
                    Token::Special('@') if !bare.has_at => {}
                    _ => return None,
                }
                bare.push(token);
            }
        }
    }
    // `a@b <c@d>`: which of the two would be shown?
    if bare.has_at {
        return None;
    }
    let mut inner = AddrSpec::default();
    loop {
        match lexer.next()?? {
            Token::Special('>') => break,
            Token::Comment(_) => {}
            token => inner.push(token),
        }
    }
    let mut written = inner.finish(None)?;
    written.name = words.join(" ");
    loop {
        match lexer.next()? {
            None => return Some((written, "", false)),
            Some(Token::Special(',')) => return Some((written, lexer.rest, true)),
            Some(Token::Comment(_)) => {}
            Some(_) => return None,
        }
    }
}

/// `local-part "@" domain`, gathered token by token.
#[derive(Default)]
struct AddrSpec {
    text: String,
    has_at: bool,
    after_word: bool,
    bad: bool,
}

impl AddrSpec {
    fn push(&mut self, token: Token<'_>) {
        let is_word = !matches!(token, Token::Special(_));
        // Words and separators alternate.
        self.bad |= is_word == self.after_word;
        self.after_word = is_word;
        match token {
            Token::Atom(a) => self.text.push_str(a),
            Token::Quoted(q) if !self.has_at => {
                self.text.push('"');
                for c in q.chars() {
                    if matches!(c, '"' | '\\') {
                        self.text.push('\\');
                    }
                    self.text.push(c);
                }
                self.text.push('"');
            }
            Token::Literal(l) if self.has_at => self.text.push_str(l),
            Token::Special('@') if !self.has_at => {
                self.has_at = true;
                self.text.push('@');
            }
            Token::Special('.') => self.text.push('.'),
            _ => self.bad = true,
        }
    }

    fn finish(self, comment: Option<String>) -> Option<Written> {
        (self.has_at && self.after_word && !self.bad)
            .then(|| Written { name: comment.unwrap_or_default(), address: self.text })
    }
}

struct Lexer<'a> {
    rest: &'a str,
    /// Blanks came before the last token.
    spaced: bool,
}

impl<'a> Lexer<'a> {
    /// The next token; `Some(None)` at the end, `None` for what no token can be.
    #[expect(clippy::option_option, reason = "the outer level is failure, so that `?` leaves the whole list")]
    fn next(&mut self) -> Option<Option<Token<'a>>> {
        let trimmed = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.spaced = trimmed.len() < self.rest.len();
        self.rest = trimmed;
        let Some(first) = self.rest.chars().next() else { return Some(None) };
        let token = match first {
            '"' => Token::Quoted(self.delimited('"', None)?),
            '(' => Token::Comment(self.delimited(')', Some('('))?),
            '[' => {
                let end = self.rest.find(']')? + 1;
                let literal = self.take(end);
                if literal.chars().skip(1).any(|c| c.is_control() || matches!(c, '[' | '\\' | ' ')) {
                    return None;
                }
                Token::Literal(literal)
            }
            '<' | '>' | ',' | ':' | ';' | '@' | '.' => {
                self.take(1);
                Token::Special(first)
            }
            ')' | ']' | '\\' => return None,
            c if c.is_control() => return None,
            _ => {
                let end = self
                    .rest
                    .find(|c: char| c.is_control() || " \"()[]<>,:;@.\\".contains(c))
                    .unwrap_or(self.rest.len());
                Token::Atom(self.take(end))
            }
        };
        Some(Some(token))
    }

    fn take(&mut self, n: usize) -> &'a str {
        let (head, tail) = self.rest.split_at_checked(n).unwrap_or((self.rest, ""));
        self.rest = tail;
        head
    }

    /// A quoted-string or comment, unescaped and without its delimiters. Comments nest (RFC 5322 §3.2.2).
    fn delimited(&mut self, close: char, open: Option<char>) -> Option<String> {
        let (mut out, mut depth) = (String::new(), 1_usize);
        let mut chars = self.rest.chars();
        chars.next();
        loop {
            let c = chars.next()?;
            match c {
                '\\' => match chars.next()? {
                    escaped if escaped.is_control() => return None,
                    escaped => out.push(escaped),
                },
                '\r' | '\n' => {}
                '\t' => out.push(' '),
                c if c == close => {
                    depth -= 1;
                    if depth == 0 {
                        self.rest = chars.as_str();
                        return Some(out);
                    }
                    out.push(c);
                }
                c if c.is_control() => return None,
                c => {
                    depth += usize::from(open == Some(c));
                    out.push(c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SUB-25
    #[test]
    fn a_rule_is_a_whole_domain_or_one_address() {
        for (rule, mailbox, want) in [
            ("@example.net", "a@example.net", true),
            ("@EXAMPLE.net", "a@example.net", true),
            ("@example.net", "a@sub.example.net", false),
            ("@b\u{fc}cher.example", "a@xn--bcher-kva.example", true),
            ("a@example.net", "a@example.net", true),
            ("a@example.net", "\"a\"@example.net", true),
            ("a@example.net", "A@example.net", false),
            ("a@example.net", "b@example.net", false),
        ] {
            let permits = SenderRule::parse(rule).unwrap().permits(&Mailbox::parse(mailbox).unwrap());
            assert_eq!(permits, want, "{rule} {mailbox}");
        }
        for text in ["", "@", "example.net", "@localhost", "a@", "@*.example.net"] {
            assert!(SenderRule::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn names_and_addresses_are_told_apart() {
        for (body, want) in [
            (" a@b.example", vec![("", "a@b.example")]),
            ("\"X, Y\" <a@b.example>,c@d.example (C)", vec![("X, Y", "a@b.example"), ("C", "c@d.example")]),
            ("J. R. Doe <\"a b\"@b.example>", vec![("J. R. Doe", "\"a b\"@b.example")]),
            ("(x (y)) a . b @ c . example", vec![("x (y)", "a.b@c.example")]),
        ] {
            let list = parse_mailboxes(body, "From").unwrap();
            let got: Vec<_> = list.iter().map(|w| (w.name.as_str(), w.address.as_str())).collect();
            assert_eq!(got, want, "{body}");
        }
    }
}
