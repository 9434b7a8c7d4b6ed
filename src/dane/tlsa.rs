//! TLSA records (RFC 6698 §2.1) and which of them can be used for SMTP (RFC 7672 §3.1).

use std::cell::OnceCell;
use std::collections::HashMap;
use std::fmt;

use aws_lc_rs::digest::{Digest, SHA256, SHA512, digest};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

use crate::mail::Domain;

/// One TLSA record, as the DNS gave it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tlsa {
    /// Certificate usage.
    pub usage: u8,
    /// Selector.
    pub selector: u8,
    /// Matching type.
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// `u s m HEX`, as a report lists it (RFC 8460 §4.5, RPT-47).
impl fmt::Display for Tlsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.usage, self.selector, self.matching)?;
        self.data.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

/// The authenticated TLSA records of a host. Not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsaSet {
    /// The name they were found under: SNI and the first reference identifier (RFC 7672 §3.2.2, §8.1).
    pub base: Domain,
    /// All of them, the unusable ones too.
    pub records: Vec<Tlsa>,
}

impl TlsaSet {
    /// The records to match with: those that can be used (RFC 6698 §4.1), and of each usage and selector only
    /// `Full` and the strongest digest (RFC 7671 §9, DANE-31).
    pub fn usable(&self) -> Vec<Usable<'_>> {
        let all: Vec<Usable<'_>> = self.records.iter().filter_map(Usable::of).collect();
        let mut strongest: HashMap<(Usage, Selector), Matching> = HashMap::new();
        for record in all.iter().filter(|u| u.matching != Matching::Full) {
            let most = strongest.entry((record.usage, record.selector)).or_insert(record.matching);
            *most = record.matching.max(*most);
        }
        let kept = |u: &&Usable<'_>| {
            u.matching == Matching::Full || strongest.get(&(u.usage, u.selector)) == Some(&u.matching)
        };
        all.iter().filter(kept).copied().collect()
    }
}

/// The DANE-EE records that `leaf` would match, in the form of [`Tlsa`], one for each selector and matching type of
/// `records`: what people compare with what is published. Full data is not written out but digested: it is as long as the
/// peer likes, and a digest of it serves as well.
pub fn would_match(records: &[Usable<'_>], leaf: &CertificateDer<'_>) -> Vec<String> {
    let presented = Presented::new(leaf);
    let mut out = Vec::new();
    for record in records {
        let Some(part) = presented.part(record.selector) else { continue };
        let (matching, digest) = match record.matching {
            Matching::Full | Matching::Sha256 => (1, part.sha256()),
            Matching::Sha512 => (2, part.sha512()),
        };
        let selector = match record.selector {
            Selector::Certificate => 0,
            Selector::Key => 1,
        };
        let line = Tlsa { usage: 3, selector, matching, data: digest.to_vec() }.to_string();
        if !out.contains(&line) {
            out.push(line);
        }
    }
    out
}

/// What a record asks to be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// DANE-TA(2): an authority of the presented chain.
    Authority,
    /// DANE-EE(3): the server's own certificate.
    Server,
}

/// Which part of a certificate is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Selector {
    /// Cert(0).
    Certificate,
    /// SPKI(1).
    Key,
}

/// How it is compared; in the order of strength.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Matching {
    /// Full(0).
    Full,
    /// SHA2-256(1).
    Sha256,
    /// SHA2-512(2).
    Sha512,
}

/// A record that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usable<'a> {
    /// The usage.
    pub usage: Usage,
    /// The selector.
    pub selector: Selector,
    /// The matching type.
    pub matching: Matching,
    /// The association data.
    pub data: &'a [u8],
}

impl<'a> Usable<'a> {
    /// The record if it can be used (DANE-20). PKIX-TA(0) and PKIX-EE(1) cannot, for SMTP (RFC 7672 §3.1.3, DANE-21).
    pub fn of(record: &'a Tlsa) -> Option<Self> {
        let usage = match record.usage {
            2 => Usage::Authority,
            3 => Usage::Server,
            _ => return None,
        };
        let selector = match record.selector {
            0 => Selector::Certificate,
            1 => Selector::Key,
            _ => return None,
        };
        let data = record.data.as_slice();
        let (matching, sound) = match record.matching {
            0 => (Matching::Full, is_whole(selector, data)),
            1 => (Matching::Sha256, data.len() == 32),
            2 => (Matching::Sha512, data.len() == 64),
            _ => return None,
        };
        sound.then_some(Self { usage, selector, matching, data })
    }

    /// Whether this certificate is the one, or has the key, that the record names.
    pub fn matches(&self, presented: &Presented<'_>) -> bool {
        let Some(part) = presented.part(self.selector) else { return false };
        match self.matching {
            Matching::Full => part.octets == self.data,
            Matching::Sha256 => part.sha256() == self.data,
            Matching::Sha512 => part.sha512() == self.data,
        }
    }
}

/// A certificate as it was presented, read and digested once, however many records it is compared with.
#[derive(Debug)]
pub struct Presented<'a> {
    /// The certificate.
    pub certificate: &'a CertificateDer<'a>,
    whole: Part<'a>,
    key: Option<Part<'a>>,
}

/// What a selector selects, and its digests.
#[derive(Debug)]
struct Part<'a> {
    octets: &'a [u8],
    sha256: OnceCell<Digest>,
    sha512: OnceCell<Digest>,
}

impl<'a> Part<'a> {
    const fn new(octets: &'a [u8]) -> Self {
        Self { octets, sha256: OnceCell::new(), sha512: OnceCell::new() }
    }

    fn sha256(&self) -> &[u8] {
        self.sha256.get_or_init(|| digest(&SHA256, self.octets)).as_ref()
    }

    fn sha512(&self) -> &[u8] {
        self.sha512.get_or_init(|| digest(&SHA512, self.octets)).as_ref()
    }
}

impl<'a> Presented<'a> {
    /// Reads the certificate; where it cannot be read it has no key to compare.
    pub fn new(certificate: &'a CertificateDer<'a>) -> Self {
        Self { certificate, whole: Part::new(certificate.as_ref()), key: key(certificate).map(Part::new) }
    }

    const fn part(&self, selector: Selector) -> Option<&Part<'a>> {
        match selector {
            Selector::Certificate => Some(&self.whole),
            Selector::Key => self.key.as_ref(),
        }
    }
}

/// Whether full data is what its selector says, with nothing behind it: a key is no certificate (DANE-20).
fn is_whole(selector: Selector, data: &[u8]) -> bool {
    match selector {
        Selector::Certificate => X509Certificate::from_der(data).is_ok_and(|(rest, _)| rest.is_empty()),
        Selector::Key => SubjectPublicKeyInfo::from_der(data).is_ok_and(|(rest, _)| rest.is_empty()),
    }
}

/// The SubjectPublicKeyInfo of a certificate of any version, as it stands in it.
pub(super) fn key<'a>(certificate: &'a CertificateDer<'_>) -> Option<&'a [u8]> {
    X509Certificate::from_der(certificate).ok().map(|(_, c)| c.tbs_certificate.subject_pki.raw)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn tlsa(usage: u8, selector: u8, matching: u8, data: &[u8]) -> Tlsa {
        Tlsa { usage, selector, matching, data: data.to_vec() }
    }

    fn set(records: Vec<Tlsa>) -> TlsaSet {
        TlsaSet { base: Domain::parse("mx.example").unwrap(), records }
    }

    fn certificate() -> CertificateDer<'static> {
        rcgen::generate_simple_self_signed(vec!["mx.example".into()]).unwrap().cert.der().clone()
    }

    // DANE-20, DANE-21
    #[test]
    fn a_record_is_usable_only_if_every_field_is() {
        let certificate = certificate();
        let (cert, spki) = (certificate.as_ref(), key(&certificate).unwrap());
        let longer = [cert, b"x"].concat();
        for (name, record, usable) in [
            ("EE SPKI SHA-256", tlsa(3, 1, 1, &[1; 32]), true),
            ("TA cert SHA-512", tlsa(2, 0, 2, &[1; 64]), true),
            ("31 octets", tlsa(3, 1, 1, &[1; 31]), false),
            ("no data", tlsa(3, 1, 1, &[]), false),
            ("SHA-512 of SHA-256 length", tlsa(3, 1, 2, &[1; 32]), false),
            ("PKIX-TA", tlsa(0, 0, 1, &[1; 32]), false),
            ("PKIX-EE", tlsa(1, 1, 1, &[1; 32]), false),
            ("usage 4", tlsa(4, 1, 1, &[1; 32]), false),
            ("PrivCert", tlsa(255, 1, 1, &[1; 32]), false),
            ("selector 2", tlsa(3, 2, 1, &[1; 32]), false),
            ("matching type 3", tlsa(3, 1, 3, &[1; 32]), false),
            ("whole certificate", tlsa(3, 0, 0, cert), true),
            ("whole key", tlsa(3, 1, 0, spki), true),
            ("a key called certificate", tlsa(3, 0, 0, spki), false),
            ("a certificate called key", tlsa(3, 1, 0, cert), false),
            ("octets behind it", tlsa(2, 0, 0, &longer), false),
        ] {
            assert_eq!(Usable::of(&record).is_some(), usable, "{name}");
        }
    }

    #[test]
    fn a_record_matches_the_part_that_it_names() {
        let (certificate, other) = (certificate(), certificate());
        let spki = key(&certificate).unwrap();
        let hash = |a, octets: &[u8]| digest(a, octets).as_ref().to_vec();
        let (s256, s512) = (&SHA256, &SHA512);
        for record in [
            tlsa(3, 0, 0, &certificate),
            tlsa(3, 1, 0, spki),
            tlsa(3, 0, 1, &hash(s256, &certificate)),
            tlsa(3, 1, 1, &hash(s256, spki)),
            tlsa(3, 0, 2, &hash(s512, &certificate)),
            tlsa(3, 1, 2, &hash(s512, spki)),
        ] {
            let usable = Usable::of(&record).unwrap();
            assert!(usable.matches(&Presented::new(&certificate)), "{record}");
            assert!(!usable.matches(&Presented::new(&other)), "{record}");
            assert!(!usable.matches(&Presented::new(&CertificateDer::from(vec![]))), "{record}");
        }
    }

    // What people compare with the DNS is of the kind that is published there.
    #[test]
    fn a_certificate_is_told_as_the_records_that_it_would_match() {
        let leaf = certificate();
        let spki = key(&leaf).unwrap();
        let line = |selector, matching, d: Digest| tlsa(3, selector, matching, d.as_ref()).to_string();
        let key256 = line(1, 1, digest(&SHA256, spki));
        let cert512 = line(0, 2, digest(&SHA512, &leaf));
        for (name, records, want) in [
            ("of the key", vec![tlsa(3, 1, 1, &[1; 32])], vec![key256.clone()]),
            ("twice the same", vec![tlsa(3, 1, 1, &[1; 32]), tlsa(2, 1, 1, &[2; 32])], vec![key256.clone()]),
            ("a whole key", vec![tlsa(3, 1, 0, spki)], vec![key256.clone()]),
            ("two kinds", vec![tlsa(3, 1, 1, &[1; 32]), tlsa(3, 0, 2, &[1; 64])], vec![key256, cert512]),
            ("none usable", vec![tlsa(1, 1, 1, &[1; 32])], vec![]),
        ] {
            assert_eq!(would_match(&set(records.clone()).usable(), &leaf), want, "{name}");
            let unreadable = would_match(&set(records).usable(), &CertificateDer::from(vec![]));
            assert!(unreadable.iter().all(|r| r.starts_with("3 0 ")), "{name}: it has no key");
        }
    }

    // DANE-31
    #[test]
    fn of_several_digests_only_the_strongest_counts() {
        let left = |records: Vec<Tlsa>| {
            let set = set(records);
            set.usable().iter().map(|u| (u.usage, u.selector, u.matching)).collect::<Vec<_>>()
        };
        let (ee, ta, key) = (Usage::Server, Usage::Authority, Selector::Key);
        let both = vec![tlsa(3, 1, 1, &[1; 32]), tlsa(3, 1, 2, &[1; 64]), tlsa(2, 1, 1, &[1; 32])];
        assert_eq!(left(both), [(ee, key, Matching::Sha512), (ta, key, Matching::Sha256)]);
        // An unusable SHA-512 record does not push out a usable SHA-256 one.
        let broken = vec![tlsa(3, 1, 1, &[1; 32]), tlsa(3, 1, 2, &[1; 63])];
        assert_eq!(left(broken), [(ee, key, Matching::Sha256)]);
        let certificate = certificate();
        let spki = super::key(&certificate).unwrap();
        let full = vec![tlsa(3, 1, 0, spki), tlsa(3, 1, 1, &[1; 32])];
        assert_eq!(left(full).len(), 2, "Full stays beside a digest");
    }

    // RPT-47
    #[test]
    fn a_report_lists_a_record_in_four_words() {
        assert_eq!(tlsa(3, 1, 1, &[0xab, 0x01]).to_string(), "3 1 1 ab01");
    }

    proptest! {
        #[test]
        fn any_record_is_judged(usage: u8, selector in 0u8..3, matching in 0u8..3, data: Vec<u8>, cert: Vec<u8>) {
            let record = tlsa(usage, selector, matching, &data);
            if let Some(usable) = Usable::of(&record) {
                let _ = usable.matches(&Presented::new(&CertificateDer::from(cert)));
            }
        }
    }
}
