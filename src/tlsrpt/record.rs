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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str) -> Result<TlsRptRecord, NoRecord> {
        discover(&[text.as_bytes().to_vec()])
    }

    fn uris(text: &str) -> Vec<String> {
        let record = found(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
        record.destinations.iter().map(|d| d.uri().to_owned()).collect()
    }

    // RPT-01 (the matrix of STS-05), RPT-02
    #[test]
    fn a_record_is_ours_by_its_first_octets_alone() {
        let rua = "rua=mailto:a@b.example";
        for (text, want) in [
            (format!("v=TLSRPTv1; {rua}"), Ok(())),
            (format!("v=TLSRPTv1;{rua};"), Ok(())),
            (format!("v=TLSRPTv1 ; {rua}"), Ok(())),
            (format!("v=TLSRPTv1\t;\t{rua} ; "), Ok(())),
            (format!("v=TLSRPTv1; x=1; {rua}"), Ok(())),
            (format!("v=TLSRPTv1; {rua}; v=TLSRPTv1"), Ok(())),
            (format!("v=TLSRPTv1;; {rua};; nonsense; k=a=b"), Ok(())),
            (format!("v=TLSRPTv1; k=\u{fc}; {rua}"), Ok(())),
            ("v=TLSRPTv1".to_owned(), Err(NoRecord::Missing)),
            (format!("V=TLSRPTv1; {rua}"), Err(NoRecord::Missing)),
            (format!(" v=TLSRPTv1; {rua}"), Err(NoRecord::Missing)),
            (format!("v=TLSRPTv1x; {rua}"), Err(NoRecord::Missing)),
            (format!("v=tlsrptv1; {rua}"), Err(NoRecord::Missing)),
            (format!("{rua}; v=TLSRPTv1"), Err(NoRecord::Missing)),
            (String::new(), Err(NoRecord::Missing)),
            ("v=TLSRPTv1;".to_owned(), Err(NoRecord::NoRua)),
            ("v=TLSRPTv1; RUA=mailto:a@b.example".to_owned(), Err(NoRecord::NoRua)),
            ("v=TLSRPTv1; xrua=mailto:a@b.example".to_owned(), Err(NoRecord::NoRua)),
        ] {
            assert_eq!(found(&text).map(|_| ()), want, "{text:?}");
        }
        assert!(matches!(found("v=TLSRPTv1; rua="), Err(NoRecord::Unusable(_))));
    }

    // RPT-01 (the matrix of STS-04)
    #[test]
    fn exactly_one_candidate_must_remain() {
        let records = |texts: &[&str]| {
            discover(&texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>()).map(|_| ())
        };
        let ours = "v=TLSRPTv1; rua=mailto:a@b.example";
        assert_eq!(records(&[]), Err(NoRecord::Missing));
        assert_eq!(records(&["v=spf1 -all", ours]), Ok(()));
        assert_eq!(records(&[ours, "v=TLSRPTv1; rua=mailto:c@b.example"]), Err(NoRecord::Multiple));
        assert_eq!(records(&[ours, "v=TLSRPTv1;"]), Err(NoRecord::Multiple));
    }

    // RPT-03, RPT-04, RPT-05
    #[test]
    fn every_uri_of_every_rua_counts_in_order() {
        for (text, want) in [
            (
                "v=TLSRPTv1; rua=mailto:a@x.example , https://y.example/r",
                &["mailto:a@x.example", "https://y.example/r"][..],
            ),
            (
                "v=TLSRPTv1;rua=mailto:a@x.example;n=1;rua=mailto:b@x.example",
                &["mailto:a@x.example", "mailto:b@x.example"],
            ),
            ("v=TLSRPTv1; rua=http://x.example/,ftp://x,MAILTO:a@x.example", &["MAILTO:a@x.example"]),
            ("v=TLSRPTv1; rua=,mailto:a@x.example,,", &["mailto:a@x.example"]),
            ("v=TLSRPTv1; rua=mailto:a@x.example,mailto:a@x.example", &["mailto:a@x.example"]),
            // The value of a field may hold `=`: this one came out changed from a library (§5.3 of the crate notes).
            (
                "v=TLSRPTv1; rua=HTTPS://R.example/v1?id=abc&token=x%2Cy=z",
                &["HTTPS://R.example/v1?id=abc&token=x%2Cy=z"],
            ),
        ] {
            assert_eq!(uris(text), want, "{text}");
        }
        let skipped = found("v=TLSRPTv1; rua=http://x.example/,mailto:a@x.example").unwrap().skipped;
        assert_eq!(skipped, ["<http://x.example/>: only mailto and https are known"]);
    }

    // RPT-06
    #[test]
    fn a_mailto_uri_is_one_decoded_mailbox() {
        for (uri, want) in [
            ("mailto:a@x.example", Some("a@x.example")),
            ("mailto:a%21b@x.example?subject=z", Some("a!b@x.example")),
            ("mailto:a%40b@x.example", None),
            ("mailto:%22a%40b%22@x.example", Some("\"a@b\"@x.example")),
            ("mailto:a+tls=1@X.Example", Some("a+tls=1@x.example")),
            ("mailto:a@b%C3%BCcher.example", Some("a@xn--bcher-kva.example")),
            ("mailto:a%0D%0ARCPT%20TO:%3Cb@x.example%3E@x.example", None),
            ("mailto:%22a%0D%0Ab%22@x.example", None),
            ("mailto:a%00@x.example", None),
            ("mailto:%22a%C2%85%22@x.example", None),
            ("mailto:%FF@x.example", None),
            ("mailto:a%2@x.example", None),
            ("mailto:a%zz@x.example", None),
            ("mailto:a@x.example%2Cb@y.example", None),
            ("mailto:@evil.example:a@x.example", None),
            ("mailto:a@x.example!10m", None),
            ("mailto:a@[192.0.2.1]", None),
            ("mailto:a@localhost", None),
            ("mailto:postmaster", None),
            ("mailto:", None),
            ("mailto:?to=a@x.example", None),
            ("mailto://a@x.example", None),
        ] {
            let got = match Rua::parse(uri) {
                Ok(Rua::Mail { to, uri: kept }) => {
                    assert_eq!(kept, uri);
                    Some(to.to_string())
                }
                Ok(Rua::Https { .. }) => panic!("{uri}"),
                Err(_) => None,
            };
            assert_eq!(got.as_deref(), want, "{uri}");
        }
    }

    // RPT-91, as far as it can be judged without the DNS
    #[test]
    fn only_a_plain_https_url_of_a_domain_is_asked() {
        for (uri, want) in [
            ("https://R.example", Ok("r.example")),
            ("https://r.example./v1/?a=b", Ok("r.example")),
            ("https://r.example?x", Ok("r.example")),
            ("https://r.example:443/", Ok("r.example")),
            ("https://r.example:8443/a@b:c", Ok("r.example")),
            ("https://127.0.0.1/", Err(BadRua::Host)),
            ("https://127.0.0.1./", Err(BadRua::Host)),
            ("https://127.1/", Err(BadRua::Host)),
            ("https://2130706433/", Err(BadRua::Host)),
            ("https://0x7f.0.0.0x1/", Err(BadRua::Host)),
            ("https://0x7f000001/", Err(BadRua::Host)),
            ("https://a.0x/", Err(BadRua::Host)),
            ("https://%31%32%37.0.0.1/", Err(BadRua::Host)),
            ("https://[::1]/", Err(BadRua::Host)),
            ("https://[::ffff:127.0.0.1]:8443/", Err(BadRua::Host)),
            ("https://localhost/", Err(BadRua::Host)),
            ("https:///r", Err(BadRua::Host)),
            ("https://", Err(BadRua::Host)),
            ("https:r.example/", Err(BadRua::Host)),
            ("https://r.example%2F@evil.example/", Err(BadRua::UserInfo)),
            ("https://user:pass@r.example/", Err(BadRua::UserInfo)),
            ("https://r.example:25/", Err(BadRua::Port)),
            ("https://r.example:0/", Err(BadRua::Port)),
            ("https://r.example:65536/", Err(BadRua::Port)),
            ("https://r.example:+443/", Err(BadRua::Port)),
            ("https://r.example:/", Err(BadRua::Port)),
            ("https://r.example:443:8/", Err(BadRua::Port)),
            ("https://r.example/#top", Err(BadRua::Fragment)),
            ("https://r.example/[", Err(BadRua::Syntax)),
            ("https://r.example\\@evil.example/", Err(BadRua::Syntax)),
            ("https://r.example/a b", Err(BadRua::Syntax)),
            ("https://r.example/\u{e9}", Err(BadRua::Syntax)),
            ("https://r.example/%", Err(BadRua::Syntax)),
            ("http://r.example/", Err(BadRua::Scheme)),
            ("file:///etc/passwd", Err(BadRua::Scheme)),
            ("r.example", Err(BadRua::Syntax)),
        ] {
            let got = Rua::parse(uri);
            assert_eq!(got.as_ref().map(|r| r.receiver().as_str()), want.as_ref().map(|h| *h), "{uri}");
            if let Ok(rua) = got {
                assert_eq!(rua.uri(), uri, "kept octet for octet");
            }
        }
        let longest = format!("https://r.example/{}", "a".repeat(MAX_URI - 18));
        assert!(Rua::parse(&longest).is_ok());
        assert_eq!(Rua::parse(&format!("{longest}a")), Err(BadRua::TooLong));
    }

    // RPT-07
    #[test]
    fn the_first_ten_destinations_are_honoured_and_the_rest_is_named() {
        let list = |n: usize| (0..n).map(|i| format!("mailto:a{i}@x.example")).collect::<Vec<_>>().join(",");
        let record = found(&format!("v=TLSRPTv1; rua={}", list(50))).unwrap();
        assert_eq!(record.destinations.len(), MAX_DESTINATIONS);
        assert_eq!(record.destinations[9].uri(), "mailto:a9@x.example");
        assert_eq!(record.skipped, ["40 more than the first 10"]);
        let bad = format!("v=TLSRPTv1; rua={}", "x,".repeat(1000));
        let Err(NoRecord::Unusable(words)) = found(&bad) else { panic!("usable") };
        assert_eq!(words.len(), MAX_SKIPPED + 1);
    }

    // RPT-07
    #[test]
    fn a_uri_cut_by_the_length_cap_is_dropped_whole() {
        let head = " rua=mailto:a@x.example,";
        let filler = format!("{}mailto:b@", "z".repeat(MAX_RECORD - head.len() - 20 - 9));
        let text = format!("v=TLSRPTv1;{head}{filler}attacker.example.and.much.more.example");
        assert!(text.len() > MAX_RECORD + 11);
        assert_eq!(uris(&text), ["mailto:a@x.example"]);
        let one = format!("v=TLSRPTv1; rua=https://x.example/{}", "a".repeat(MAX_RECORD));
        assert_eq!(found(&one), Err(NoRecord::NoRua));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_panic_and_destinations_read_back(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
            tail in prop::collection::vec(any::<u8>(), 0..200),
            rua in "(mailto:|https://|)[ -~]{0,60}(,[ -~]{0,40}){0,3}",
        ) {
            let mut records = records;
            let mut ours = format!("v=TLSRPTv1; rua={rua};").into_bytes();
            ours.extend(tail);
            records.push(ours);
            if let Ok(record) = discover(&records) {
                prop_assert!((1..=MAX_DESTINATIONS).contains(&record.destinations.len()));
                for rua in record.destinations {
                    prop_assert!(rua.uri().bytes().all(|b| b.is_ascii_graphic()));
                    prop_assert_eq!(Rua::parse(rua.uri()), Ok(rua.clone()));
                    if let Rua::Mail { to, .. } = &rua {
                        prop_assert!(!to.to_string().chars().any(char::is_control));
                    }
                }
            }
        }

        #[test]
        fn any_text_is_a_uri_or_is_refused(text: String) {
            let _ = Rua::parse(&text);
        }
    }
}
