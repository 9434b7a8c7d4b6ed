//! Trust anchors of the DNS root, from a file (`dns.trust_anchor`): DNSKEY and DS records in the form of zone files
//! (RFC 4034 §2.2, §5.3), as resolvers and signers write them. Pure.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A key of the root, or its digest, that is believed without proof (RFC 4033 §5).
#[derive(Clone, PartialEq, Eq)]
pub enum Anchor {
    /// A DNSKEY record.
    Key {
        /// The algorithm's number.
        algorithm: u8,
        /// The public key as in the record.
        key: Vec<u8>,
    },
    /// A DS record: the key that it is the digest of.
    Digest {
        /// The key's tag.
        tag: u16,
        /// The key's algorithm.
        algorithm: u8,
        /// The digest's type.
        kind: u8,
        /// The digest.
        digest: Vec<u8>,
    },
}

impl fmt::Debug for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key { algorithm, .. } => write!(f, "a key of algorithm {algorithm}"),
            Self::Digest { tag, .. } => write!(f, "the digest of key {tag}"),
        }
    }
}

/// A line that is no trust anchor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {wrong}")]
pub struct AnchorError {
    /// The line on which the record begins, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong with it.
    pub wrong: String,
}

/// Files are read whole; no set of root keys is anywhere near this long.
pub const LONGEST: usize = 64 << 10;

/// The anchors of a file.
///
/// # Errors
/// [`AnchorError`] for the first record that is none, and where there is none at all.
pub fn parse(text: &str) -> Result<Vec<Anchor>, AnchorError> {
    let mut anchors = Vec::new();
    for (line, words) in records(text) {
        anchors.push(anchor(&words).map_err(|wrong| AnchorError { line, wrong })?);
    }
    if anchors.is_empty() {
        return Err(AnchorError { line: 0, wrong: "there is no DNSKEY and no DS record".to_owned() });
    }
    Ok(anchors)
}

/// The words of each record, with the line it begins on. Comments are left out, parentheses join lines (RFC 1035 §5.1).
fn records(text: &str) -> Vec<(usize, Vec<String>)> {
    let mut all: Vec<(usize, Vec<String>)> = Vec::new();
    let mut open = false;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split(';').next().unwrap_or_default().replace('(', " ( ").replace(')', " ) ");
        let mut fresh = !open;
        for word in line.split_whitespace() {
            match word {
                "(" => open = true,
                ")" => open = false,
                _ => match all.last_mut() {
                    Some((_, words)) if !fresh => words.push(word.to_owned()),
                    _ => {
                        all.push((number, vec![word.to_owned()]));
                        fresh = false;
                    }
                },
            }
        }
    }
    all
}

/// `. [TTL] [IN] DNSKEY 257 3 8 …` or `. [TTL] [IN] DS 20326 8 2 …`.
fn anchor(words: &[String]) -> Result<Anchor, String> {
    let (owner, rest) = words.split_first().ok_or("it is empty")?;
    if owner != "." {
        return Err(format!(
            "\"{owner}\" is not the root; only its keys can be anchors, written with the owner \".\""
        ));
    }
    let plain = |w: &&String| w.eq_ignore_ascii_case("IN") || w.bytes().all(|b| b.is_ascii_digit());
    let skipped = rest.iter().take_while(plain).count();
    let mut rest = rest.iter().skip(skipped);
    let kind = rest.next().ok_or("there is no record type")?;
    let mut number = |what: &str| -> Result<u16, String> {
        let word = rest.next().ok_or_else(|| format!("the {what} is missing"))?;
        word.parse().map_err(|_| format!("\"{word}\" is no {what}"))
    };
    let octet = |n: u16, what: &str| u8::try_from(n).map_err(|_| format!("\"{n}\" is no {what}"));
    if kind.eq_ignore_ascii_case("DNSKEY") {
        let (flags, protocol) = (number("flags field")?, number("protocol")?);
        let algorithm = octet(number("algorithm")?, "algorithm")?;
        if flags & ZONE_KEY == 0 || flags & REVOKED != 0 || protocol != 3 {
            return Err(format!("the key (flags {flags}, protocol {protocol}) is no zone key in force"));
        }
        let text: String = rest.map(String::as_str).collect();
        let key = STANDARD.decode(text).ok().filter(|k| !k.is_empty()).ok_or("the key is not in base64")?;
        Ok(Anchor::Key { algorithm, key })
    } else if kind.eq_ignore_ascii_case("DS") {
        let tag = number("key tag")?;
        let algorithm = octet(number("algorithm")?, "algorithm")?;
        let kind = octet(number("digest type")?, "digest type")?;
        let text: String = rest.map(String::as_str).collect();
        let digest = hex(&text).ok_or("the digest is not in hexadecimal")?;
        match (kind, digest.len()) {
            (2, 32) | (4, 48) => Ok(Anchor::Digest { tag, algorithm, kind, digest }),
            (2 | 4, n) => Err(format!("a digest of type {kind} does not have {n} octets")),
            _ => Err(format!("digest type {kind} is not in use; SHA-256 (2) and SHA-384 (4) are")),
        }
    } else {
        Err(format!("\"{kind}\" is neither DNSKEY nor DS"))
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let octets: Vec<u8> = digits.chunks_exact(2).filter_map(|p| Some(p.first()? << 4 | p.get(1)?)).collect();
    (!octets.is_empty() && octets.len() * 2 == digits.len()).then_some(octets)
}

/// RFC 4034 §2.1.1.
const ZONE_KEY: u16 = 0x0100;
/// RFC 5011 §3.
const REVOKED: u16 = 0x0080;

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

    #[test]
    fn anchors_are_read_as_resolvers_and_signers_write_them() {
        let key = Anchor::Key { algorithm: 8, key: vec![1, 2, 3, 4, 5, 6] };
        let digest = Anchor::Digest { tag: 20326, algorithm: 8, kind: 2, digest: hex(DIGEST).unwrap() };
        for (text, want) in [
            (". IN DNSKEY 257 3 8 AQIDBAUG", vec![key.clone()]),
            (
                ". 172800 IN DNSKEY 257 3 8 AQID BAUG ;{id = 20326 (ksk), size = 2048b} ;;state=2",
                vec![key.clone()],
            ),
            (". dnskey 257 3 8 (\n  AQID ; half\n  BAUG )\n", vec![key.clone()]),
            (&format!("; the root\n\n.  IN 3600 DS 20326 8 2 {DIGEST}\n"), vec![digest.clone()]),
            (
                &format!(". IN DS 20326 8 2 {} {}", &DIGEST[..40].to_lowercase(), &DIGEST[40..]),
                vec![digest.clone()],
            ),
            (&format!(". DS 20326 8 2 {DIGEST}\n. DNSKEY 257 3 8 AQIDBAUG"), vec![digest, key]),
        ] {
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_anchor_is_named_with_its_line() {
        for (text, line, part) in [
            ("", 0, "no DNSKEY and no DS"),
            ("; nothing\n", 0, "no DNSKEY and no DS"),
            ("\nexample. IN DS 1 8 2 aa", 2, "is not the root"),
            (". IN TXT x", 1, "neither DNSKEY nor DS"),
            (". IN", 1, "no record type"),
            (". IN DNSKEY 257 3", 1, "the algorithm is missing"),
            (". IN DNSKEY 257 3 8 ***", 1, "not in base64"),
            (". IN DNSKEY 257 3 8", 1, "not in base64"),
            (". IN DNSKEY 1 3 8 AQID", 1, "no zone key"),
            (". IN DNSKEY 385 3 8 AQID", 1, "no zone key in force"),
            (". IN DNSKEY 257 3 800 AQID", 1, "no algorithm"),
            (". IN DS 99999 8 2 aa", 1, "no key tag"),
            (". IN DS 1 8 2 aabb", 1, "does not have 2 octets"),
            (". IN DS 1 8 2 a", 1, "not in hexadecimal"),
            (". IN DS 1 8 1 aabb", 1, "not in use"),
            (". IN DNSKEY 257 3 8 AQID\n. IN DS 1 8 2 zz", 2, "not in hexadecimal"),
        ] {
            let got = parse(text).unwrap_err();
            assert!(got.line == line && got.wrong.contains(part), "{text:?}: {got}");
        }
    }
}
