//! What a host offers in its EHLO reply (RFC 5321 §4.1.1.1), and nothing that it did not offer there.

use super::reply_reader::RawReply;

/// The extensions of one EHLO reply. After TLS a new reply makes a new value; nothing is carried over (RFC 3207 §4.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ehlo {
    /// The first word, when it is printable ASCII of at most 255 octets (RPT-55).
    pub name: Option<String>,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// REQUIRETLS (RFC 8689); it counts inside TLS only.
    pub requiretls: bool,
    /// AUTH (RFC 4954): whether PLAIN and LOGIN are among its mechanisms.
    pub auth: AuthOffer,
    /// SIZE (RFC 1870): whether offered, and the largest message taken; 0 is "no limit known".
    pub size: Option<u64>,
    /// `RCPTMAX` of LIMITS (RFC 9422).
    pub rcpt_max: Option<usize>,
}

impl Ehlo {
    /// Reads the keywords of a 250 reply, case-insensitively.
    pub fn parse(reply: &RawReply) -> Self {
        let mut out = Self::default();
        let mut lines = reply.lines.iter();
        out.name = lines.next().and_then(|l| first_word(l));
        for line in lines {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let mut words = line.split_ascii_whitespace();
            match words.next().unwrap_or_default().to_ascii_uppercase().as_str() {
                "STARTTLS" => out.starttls = true,
                "PIPELINING" => out.pipelining = true,
                "8BITMIME" => out.eight_bit = true,
                "SMTPUTF8" => out.smtputf8 = true,
                "DSN" => out.dsn = true,
                "REQUIRETLS" => out.requiretls = true,
                "AUTH" => {
                    for mechanism in words {
                        out.auth.plain |= mechanism.eq_ignore_ascii_case("PLAIN");
                        out.auth.login |= mechanism.eq_ignore_ascii_case("LOGIN");
                    }
                }
                "SIZE" => out.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
                "LIMITS" => {
                    out.rcpt_max = words
                        .filter_map(|w| w.split_once('='))
                        .filter(|(k, _)| k.eq_ignore_ascii_case("RCPTMAX"))
                        .find_map(|(_, v)| v.parse().ok())
                        .filter(|n| *n > 0);
                }
                _ => {}
            }
        }
        out
    }

    /// Whether the host says that it takes no message of `size` octets (RFC 1870 §5).
    pub fn refuses_size(&self, size: u64) -> bool {
        self.size.is_some_and(|max| max != 0 && size > max)
    }
}

/// The mechanisms of AUTH that we know, as far as they are offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuthOffer {
    /// RFC 4616.
    pub plain: bool,
    /// Older than any RFC of its own, and still all that some hosts offer.
    pub login: bool,
}

/// The first word of a greeting or EHLO line, fit for a report (RPT-55).
pub fn first_word(line: &[u8]) -> Option<String> {
    let word = line.split(|b| *b == b' ').next().unwrap_or_default();
    let fit = !word.is_empty() && word.len() <= 255 && word.iter().all(|b| (0x21..=0x7e).contains(b));
    fit.then(|| String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // OUT-27
    #[test]
    fn keywords_are_read_in_any_case_and_unknown_ones_ignored() {
        let lines: [&[u8]; 8] = [
            b"mx.example hello",
            b"pipelining",
            b"Size 1000",
            b"LIMITS MAILMAX=5 RCPTMAX=50",
            b"X-\xff",
            b"8BitMime",
            b"DSNX",
            b"AUTH PLAIN",
        ];
        let e = Ehlo::parse(&RawReply { code: 250, lines: lines.map(<[u8]>::to_vec).to_vec() });
        assert_eq!(
            e,
            Ehlo {
                name: Some("mx.example".into()),
                pipelining: true,
                size: Some(1000),
                rcpt_max: Some(50),
                eight_bit: true,
                auth: AuthOffer { plain: true, login: false },
                ..Ehlo::default()
            }
        );
        assert!(e.refuses_size(1001) && !e.refuses_size(1000));
        assert!(!Ehlo { size: Some(0), ..Ehlo::default() }.refuses_size(u64::MAX));
    }

    // RPT-55
    #[test]
    fn a_binary_name_is_no_name() {
        assert_eq!(first_word(b"mx\xff.example x"), None);
        assert_eq!(first_word(&b"a".repeat(256)), None);
        assert_eq!(first_word(b""), None);
    }
}
