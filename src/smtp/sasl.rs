//! The exchanges of AUTH PLAIN (RFC 4616) and AUTH LOGIN, up to the credentials (RFC 4954 §4).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Answer;

/// A user name and a password, as the client gave them. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// An exchange that waits for a line.
#[derive(Debug)]
pub enum Exchange {
    /// PLAIN without initial response.
    Plain,
    /// LOGIN, the name not yet given.
    LoginUser,
    /// LOGIN with this name.
    LoginPassword(String),
}

/// What follows from a line of an exchange.
#[derive(Debug)]
pub enum Next {
    /// Send 334 with this text, then go on.
    Challenge(Exchange, &'static str),
    /// Check these.
    Check(Credentials),
    /// The client gave up.
    Cancelled(Answer),
    /// It failed without a check; it counts as a failure.
    Failed(Answer),
}

/// Base 64 of `Username:`.
const USERNAME: &str = "VXNlcm5hbWU6";
/// Base 64 of `Password:`.
const PASSWORD: &str = "UGFzc3dvcmQ6";

/// Starts an exchange with the argument of AUTH.
///
/// # Errors
/// 501 5.5.4 without mechanism, 504 5.5.4 for one that is not offered (SUB-21).
pub fn begin(argument: &str) -> Result<Next, Answer> {
    let (mechanism, initial) = match argument.split_once(' ') {
        Some((mechanism, initial)) => (mechanism, Some(initial.trim_start_matches(' '))),
        None => (argument, None),
    };
    // RFC 4954 §4: `=` is an initial response without octets.
    let initial = initial.map(|i| if i == "=" { "" } else { i }.as_bytes());
    match mechanism.to_ascii_uppercase().as_str() {
        "" => Err(Answer::new(501, 5, 4, "AUTH takes a mechanism")),
        "PLAIN" => Ok(initial.map_or(Next::Challenge(Exchange::Plain, ""), |i| Exchange::Plain.line(i))),
        "LOGIN" => {
            Ok(initial
                .map_or(Next::Challenge(Exchange::LoginUser, USERNAME), |i| Exchange::LoginUser.line(i)))
        }
        _ => Err(Answer::new(504, 5, 4, "PLAIN and LOGIN are offered")),
    }
}

/// The reply to wrong credentials, whatever is wrong with them.
pub fn wrong() -> Answer {
    Answer::new(535, 7, 8, "authentication failed")
}

impl Exchange {
    /// Takes the client's line, without CRLF.
    pub fn line(self, line: &[u8]) -> Next {
        if line == b"*" {
            return Next::Cancelled(Answer::new(501, 7, 0, "authentication cancelled"));
        }
        let Some(text) = STANDARD.decode(line).ok().and_then(|d| String::from_utf8(d).ok()) else {
            return Next::Failed(Answer::new(501, 5, 2, "not base 64 of UTF-8 text"));
        };
        match self {
            Self::Plain => plain(&text),
            Self::LoginUser => Next::Challenge(Self::LoginPassword(text), PASSWORD),
            Self::LoginPassword(user) => Next::Check(Credentials { user, password: text }),
        }
    }
}

/// RFC 4616 §2: `[authzid] NUL authcid NUL passwd`. To act for somebody else is not offered (SUB-23).
fn plain(text: &str) -> Next {
    let mut parts = text.split('\0');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(authzid), Some(user), Some(password), None) if !user.is_empty() => {
            if authzid.is_empty() || authzid == user {
                Next::Check(Credentials { user: user.to_owned(), password: password.to_owned() })
            } else {
                Next::Failed(wrong())
            }
        }
        _ => Next::Failed(Answer::new(501, 5, 2, "PLAIN takes authzid NUL authcid NUL password")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(next: Next) -> String {
        match next {
            Next::Challenge(_, text) => format!("334 {text}"),
            Next::Check(c) => format!("check {} {}", c.user, c.password),
            Next::Cancelled(a) | Next::Failed(a) => format!("{} {}", a.code, a.enhanced.unwrap()),
        }
    }

    // SUB-21, SUB-22, SUB-23, HS-034…HS-038
    #[test]
    fn plain_is_read_strictly() {
        for (argument, want) in [
            ("PLAIN AGFwcDEAc2VjcmV0", "check app1 secret"),
            ("plain AGFwcDEAc2VjcmV0", "check app1 secret"),
            ("PLAIN YXBwMQBhcHAxAHNlY3JldA==", "check app1 secret"),
            ("PLAIN YWRtaW4AYXBwMQBzZWNyZXQ=", "535 5.7.8"),
            ("PLAIN YXBwMQ==", "501 5.5.2"),
            ("PLAIN AGFwcDEAc2VjcmV0AHg=", "501 5.5.2"),
            ("PLAIN AAA=BBB", "501 5.5.2"),
            ("PLAIN AGFwcDEAc2VjcmV0=", "501 5.5.2"),
            ("PLAIN AGFwcDEAc2Vj cmV0", "501 5.5.2"),
            ("PLAIN =", "501 5.5.2"),
            ("PLAIN", "334 "),
            ("LOGIN", "334 VXNlcm5hbWU6"),
            ("LOGIN YXBwMQ==", "334 UGFzc3dvcmQ6"),
        ] {
            assert_eq!(outcome(begin(argument).unwrap()), want, "{argument}");
        }
        for (argument, want) in [("", 501), ("CRAM-MD5", 504), ("XOAUTH2 abc", 504)] {
            assert_eq!(begin(argument).unwrap_err().code, want, "{argument}");
        }
        assert_eq!(outcome(Exchange::Plain.line(b"*")), "501 5.7.0");
        assert_eq!(outcome(Exchange::LoginPassword("app1".into()).line(b"c2VjcmV0")), "check app1 secret");
        assert_eq!(outcome(Exchange::LoginUser.line(b"\xff")), "501 5.5.2");
    }

    // LIM-31
    #[test]
    fn a_password_is_never_shown() {
        let c = Credentials { user: "app1".into(), password: "secret".into() };
        assert!(!format!("{:?}", Next::Check(c)).contains("secret"));
    }
}
