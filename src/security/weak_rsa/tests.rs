//! Signatures that OpenSSL made with short keys, and everything that must not pass for one.

use base64::Engine as _;
use proptest::prelude::*;

use super::*;

const MESSAGE: &[u8] = b"the handshake up to here";

/// One line of the file: bits, what it is, and its octets.
fn vectors() -> Vec<(usize, &'static str, Vec<u8>)> {
    let lines = include_str!("openssl.txt").lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let octets = base64::prelude::BASE64_STANDARD.decode(words[2]).unwrap();
            (words[0].parse().unwrap(), words[1], octets)
        })
        .collect()
}

fn certificate(bits: usize) -> CertificateDer<'static> {
    let found = vectors().into_iter().find(|(b, what, _)| (*b, *what) == (bits, "certificate"));
    CertificateDer::from(found.unwrap().2)
}

fn key(bits: usize) -> WeakKey {
    WeakKey::of(&certificate(bits)).unwrap()
}

const SCHEMES: [(&str, SignatureScheme); 6] = [
    ("pkcs1-sha256", SignatureScheme::RSA_PKCS1_SHA256),
    ("pkcs1-sha384", SignatureScheme::RSA_PKCS1_SHA384),
    ("pkcs1-sha512", SignatureScheme::RSA_PKCS1_SHA512),
    ("pss-sha256", SignatureScheme::RSA_PSS_SHA256),
    ("pss-sha384", SignatureScheme::RSA_PSS_SHA384),
    ("pss-sha512", SignatureScheme::RSA_PSS_SHA512),
];

// RFC 7672 §3.1.1, DANE-22, DANE-23
#[test]
fn what_openssl_signed_is_verified_by_its_own_scheme_and_message_alone() {
    let mut seen = 0;
    for (bits, what, signature) in vectors() {
        if what == "certificate" {
            continue;
        }
        let key = key(bits);
        for (name, scheme) in SCHEMES {
            let holds = name == what && bits >= LEAST_BITS;
            assert_eq!(key.verifies(scheme, MESSAGE, &signature), holds, "{bits} {what} as {name}");
            assert!(!key.verifies(scheme, b"another handshake", &signature), "{bits} {what} as {name}");
        }
        // Not offered, so no peer may use it (RFC 9155).
        assert!(!key.verifies(SignatureScheme::RSA_PKCS1_SHA1, MESSAGE, &signature));
        seen += 1;
    }
    assert_eq!(seen, 17);
}

#[test]
fn the_bits_of_a_key_are_counted_one_by_one() {
    for bits in [512, 1024, 1025, 2047] {
        assert_eq!(key(bits).bits(), bits);
    }
    for (octets, want) in [(&[][..], 0), (&[0, 0], 0), (&[1], 1), (&[0, 0x80], 8), (&[0, 1, 0], 9)] {
        assert_eq!(bits(octets), want, "{octets:?}");
    }
}

#[test]
fn other_keys_are_none_of_its_business() {
    let ours = rcgen::generate_simple_self_signed(["mx.example.net".to_owned()]).unwrap();
    assert!(WeakKey::of(ours.cert.der()).is_none());
    for garbage in [&b""[..], b"0", &[0x30, 0x82, 0xff, 0xff]] {
        assert!(WeakKey::of(&CertificateDer::from(garbage.to_vec())).is_none());
    }
}

/// A key of these numbers.
fn made_of(modulus: &[u8], exponent: &[u8]) -> Option<PublicKey> {
    usable(&public_key::RSAPublicKey { modulus, exponent })
}

// What a peer sends as a key costs little and is no panic.
#[test]
fn numbers_that_make_no_key_make_none() {
    let modulus = |first: u8, last: u8| [&[0, first][..], &[7; 126], &[last]].concat();
    let (good, e) = (modulus(0x80, 1), [1, 0, 1]);
    assert!(made_of(&good, &e).is_some());
    // Zeros before a number are not part of it, and make nothing slower.
    let padded = [&[0; 60_000][..], &good].concat();
    assert_eq!(made_of(&padded, &[0, 1, 0, 1]).unwrap(), made_of(&good, &e).unwrap());
    for (case, modulus, exponent) in [
        ("negative", good[1..].to_vec(), e.to_vec()),
        ("negative exponent", good.clone(), vec![0x81, 0, 1]),
        ("even", modulus(0x80, 2), e.to_vec()),
        ("too short", modulus(0x7f, 1), e.to_vec()),
        ("too long", [&[0, 0x80][..], &[7; 256], &[1]].concat(), e.to_vec()),
        ("exponent 0", good.clone(), vec![0]),
        ("exponent 1", good.clone(), vec![1]),
        ("even exponent", good.clone(), vec![2]),
        ("exponent that costs time", good.clone(), [&[0x7f][..], &[0xff; 127]].concat()),
        ("exponent past 33 bits", good.clone(), vec![4, 0, 0, 0, 1]),
        ("no exponent", good.clone(), vec![]),
        ("no modulus", vec![], e.to_vec()),
    ] {
        assert!(made_of(&modulus, &exponent).is_none(), "{case}");
    }
}

proptest! {
    #[test]
    fn no_other_octets_pass_for_a_signature(
        signature in prop::collection::vec(any::<u8>(), 0..300),
        scheme in prop::sample::select(SCHEMES.map(|(_, scheme)| scheme).to_vec()),
        bits in prop::sample::select(vec![512, 1024, 1025, 2047]),
    ) {
        prop_assert!(!key(bits).verifies(scheme, MESSAGE, &signature));
    }

    #[test]
    fn a_signature_with_one_bit_changed_is_none(at in 0_usize..17, octet: prop::sample::Index, bit in 0_u8..8) {
        let signed: Vec<_> = vectors().into_iter().filter(|(_, what, _)| *what != "certificate").collect();
        let (bits, what, mut signature) = signed[at].clone();
        let scheme = SCHEMES.iter().find(|(name, _)| *name == what).unwrap().1;
        *octet.get_mut(&mut signature) ^= 1 << bit;
        prop_assert!(!key(bits).verifies(scheme, MESSAGE, &signature));
    }

    #[test]
    fn a_certificate_cut_or_changed_anywhere_is_no_panic(cut in 0_usize..400, at: prop::sample::Index, octet: u8) {
        let whole = certificate(1024);
        let mut changed = whole.to_vec();
        *at.get_mut(&mut changed) = octet;
        let _ = WeakKey::of(&CertificateDer::from(changed)).map(|k| k.verifies(SCHEMES[3].1, MESSAGE, &[1; 128]));
        let _ = WeakKey::of(&CertificateDer::from(whole[..cut.min(whole.len())].to_vec()));
    }
}
