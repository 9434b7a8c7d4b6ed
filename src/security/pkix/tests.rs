//! Judgement on real certificates, one flaw each and several at once.

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, NameConstraints, SanType, date_time_ymd,
};

use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;

/// 2026-11-22.
const NOW: Timestamp = Timestamp::from_millis(1_795_333_080_000);

/// A self-signed certificate for `mx.example.net` with an RSA key of 1024 bits.
const RSA_1024: &str = "MIICKzCCAZSgAwIBAgIUEYplYEMDj6/BhaTzPHGq4BwYnE4wDQYJKoZIhvcNAQELBQAwGTEXMBUGA1UEAwwObXguZXhhbXBs\
ZS5uZXQwIBcNMjYxMTIyMDkzMTI1WhgPMjA4MTA4MjUwOTMxMjVaMBkxFzAVBgNVBAMMDm14LmV4YW1wbGUubmV0MIGfMA0G\
CSqGSIb3DQEBAQUAA4GNADCBiQKBgQDmCjYyQpTmYpqiA9sHh6EcK3RTvTo1w+yC41o7hfeWXFEwVlYbL7kt+4Gb9Tkox/iN\
zOXWGH0AHkY5eCGlrVmfz39+pp14GwNAsZMlkTt2nZLrugN/iJfuE/8ZNrTYGsI6K9pHrjviUtr5dh1kmmggHLSz4TTT32Gv\
AZPSUjPUTQIDAQABo24wbDAdBgNVHQ4EFgQU2N1g3PpdmTAN9GpDl3eDhskQrkUwHwYDVR0jBBgwFoAU2N1g3PpdmTAN9GpD\
l3eDhskQrkUwDwYDVR0TAQH/BAUwAwEB/zAZBgNVHREEEjAQgg5teC5leGFtcGxlLm5ldDANBgkqhkiG9w0BAQsFAAOBgQCA\
GiVA8pW2xeHsbL0DlsAWG9Zrl/ctB4KGA0gXrQX1wTrRoQ6x8/KNyWBjnNBGoq7XO2PsvQF4YCSfgrpcLJC3xJbjB+s3bCMH\
GV32nx9xqI/XF39sJO/8SLW/uDb/sJ9ancy+8A97qea3Ocucb9MvqJjNWxCI4IiUnQlN20K4Jg==";

/// A self-signed X.509 version 1 certificate.
pub(crate) const VERSION_1: &str = "MIIBLzCB1QIURaUUedOnE+HiOpfyYANsa48dAT0wCgYIKoZIzj0EAwIwGTEXMBUGA1UEAwwObXguZXhhbXBsZS5uZXQwIBcN\
MjYxMTIyMDkzMTI1WhgPMjA4MTA4MjUwOTMxMjVaMBkxFzAVBgNVBAMMDm14LmV4YW1wbGUubmV0MFkwEwYHKoZIzj0CAQYI\
KoZIzj0DAQcDQgAEzfndAOt1fHY7pNCvDQ+ZyrEHjSBWsPeodzHDpo3wMccTnY2iv4hl8uszRAzTHYHKL6MFwzA/XXnywq97\
hIqxpjAKBggqhkjOPQQDAgNJADBGAiEAtYkn78LNKPPoJAZKFFZ98Tb2SWyMdIA4fiijrUk00OwCIQDia0/hxLFJqJgMGOgj\
8YiANU+qScQEUw5rv8MOQZjA3A==";

/// The public key of [`RSA_1024`], for an authority to vouch for.
pub(crate) struct ShortKey(Vec<u8>);

impl ShortKey {
    pub(crate) fn new() -> Self {
        let der = base64::prelude::BASE64_STANDARD.decode(RSA_1024).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        Self(parsed.tbs_certificate.subject_pki.subject_public_key.data.to_vec())
    }
}

impl rcgen::PublicKeyData for ShortKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

fn ca(change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "Test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(ca: &Ca, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "mx.example.net");
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().clone()
}

fn faults(ca: &Ca, chain: &[CertificateDer<'_>], host: &str) -> Vec<PkixFault> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.as_ref().der().to_vec())).unwrap();
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    judge(chain, &Domain::parse_host(host).unwrap(), &roots, &algorithms, NOW)
}

// NAME-01 to NAME-08
#[test]
fn names_match_label_by_label_and_wildcards_stand_for_one_whole_label() {
    let ca = ca(|_| {});
    for (presented, host, holds) in [
        ("mx.example.net", "mx.example.net", true),
        ("MX.Example.NET", "mx.example.net", true),
        ("mx.example.net", "MX.EXAMPLE.NET", true),
        ("mx.example.net", "mx.example.net.", true),
        ("example.net", "mx.example.net", false),
        ("mx.example.net", "example.net", false),
        ("a.mx.example.net", "mx.example.net", false),
        ("*.example.net", "mx.example.net", true),
        ("*.example.net", "a.mx.example.net", false),
        ("*.example.net", "example.net", false),
        ("m*.example.net", "mx.example.net", false),
        ("*x.example.net", "mx.example.net", false),
        ("mx.*.net", "mx.example.net", false),
        ("*", "mx.example.net", false),
        // Stricter than NAME-08 asks: the verifier takes no wildcard over a whole top-level domain, and no public
        // authority may issue one (CA/Browser Forum BR §3.2.2.6).
        ("*.net", "example.net", false),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", true),
        ("*.books.example", "xn--bcher-kva.books.example", true),
        ("xn--*.books.example", "xn--bcher-kva.books.example", false),
        ("_mx.example.net", "other.example.net", false),
    ] {
        let got = faults(&ca, &[leaf(&ca, &[presented], |_| {})], host);
        assert_eq!(got.is_empty(), holds, "{presented} for {host}: {got:?}");
        assert!(holds || got == [PkixFault::Name], "{presented} for {host}: {got:?}");
    }
    // NAME-07: no panic, whatever the verdict.
    let _ = faults(&ca, &[leaf(&ca, &["*.example.net"], |_| {})], "_mx.example.net");
}

// NAME-04, NAME-06
#[test]
fn only_dns_names_of_the_certificate_count() {
    let ca = ca(|_| {});
    let common_name_only = leaf(&ca, &[], |_| {});
    assert_eq!(faults(&ca, &[common_name_only], "mx.example.net"), [PkixFault::Name]);
    let address = leaf(&ca, &[], |p| {
        p.subject_alt_names = vec![
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::URI("smtp://mx.example.net".try_into().unwrap()),
            SanType::Rfc822Name("mx@mx.example.net".try_into().unwrap()),
        ];
    });
    assert_eq!(faults(&ca, &[address], "mx.example.net"), [PkixFault::Name]);
    let nul = leaf(&ca, &[], |p| {
        p.subject_alt_names = vec![SanType::DnsName("mx.example.net\0.evil.example".try_into().unwrap())];
    });
    assert!(faults(&ca, std::slice::from_ref(&nul), "mx.example.net").contains(&PkixFault::Name));
    assert!(facts(&nul).is_none_or(|f| f.names.iter().all(|n| !n.contains('\0'))));
}

// RPT-22
#[test]
fn every_cause_is_found_not_only_the_first() {
    let (ca, other) = (ca(|_| {}), ca(|p| p.distinguished_name.push(DnType::CommonName, "Nobody")));
    let past = |p: &mut CertificateParams| {
        (p.not_before, p.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    };
    let future = |p: &mut CertificateParams| p.not_before = date_time_ymd(2090, 1, 1);
    use PkixFault::{Expired, Name, NotYetValid, Untrusted};
    let unknown = Untrusted("unknown-issuer");
    for (case, cert, want) in [
        ("good", leaf(&ca, &["mx.example.net"], |_| {}), vec![]),
        ("expired", leaf(&ca, &["mx.example.net"], past), vec![Expired]),
        ("expired, wrong name", leaf(&ca, &["else.example"], past), vec![Expired, Name]),
        ("not yet valid", leaf(&ca, &["mx.example.net"], future), vec![NotYetValid]),
        ("unknown issuer", leaf(&other, &["mx.example.net"], |_| {}), vec![unknown]),
        ("unknown issuer, wrong name", leaf(&other, &["else.example"], |_| {}), vec![unknown, Name]),
    ] {
        assert_eq!(faults(&ca, &[cert], "mx.example.net"), want, "{case}");
    }
    let all = faults(&ca, &[leaf(&other, &["else.example"], past)], "mx.example.net");
    assert!(all.contains(&unknown) && all.contains(&Name), "{all:?}");
    let details: Vec<_> = [Expired, Name].into_iter().map(|f| f.detail().result).collect();
    assert_eq!(details, [ResultType::CertificateExpired, ResultType::CertificateHostMismatch]);
}

#[test]
fn an_expired_issuer_in_between_is_an_expired_chain() {
    let root = ca(|_| {});
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "In between");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let between = CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
    let cert = leaf(&between, &["mx.example.net"], |_| {});
    let issuer = CertificateDer::from(between.as_ref().der().to_vec());
    assert_eq!(faults(&root, &[cert.clone(), issuer], "mx.example.net"), [PkixFault::Expired]);
    assert_eq!(faults(&root, &[cert], "mx.example.net"), [PkixFault::Untrusted("unknown-issuer")]);
}

#[test]
fn certificates_of_another_purpose_do_not_hold() {
    let ca_ = ca(|_| {});
    let client = leaf(&ca_, &["mx.example.net"], |p| {
        p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_eq!(faults(&ca_, &[client], "mx.example.net"), [PkixFault::Untrusted("wrong-purpose")]);
    let authority = leaf(&ca_, &["mx.example.net"], |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    assert!(matches!(faults(&ca_, &[authority], "mx.example.net")[..], [PkixFault::Untrusted(_)]));
    // Its own authority, and not one of ours.
    let own = ca(|p| p.subject_alt_names = vec![SanType::DnsName("mx.example.net".try_into().unwrap())]);
    let own = CertificateDer::from(own.as_ref().der().to_vec());
    assert_eq!(faults(&ca_, &[own], "mx.example.net"), [PkixFault::Untrusted("self-signed")]);
}

#[test]
fn an_authority_may_not_speak_for_names_outside_its_constraints() {
    let bound = ca(|p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("example.org".to_owned())],
            excluded_subtrees: Vec::new(),
        });
    });
    let inside = leaf(&bound, &["mx.example.org"], |_| {});
    assert!(faults(&bound, &[inside], "mx.example.org").is_empty());
    let outside = leaf(&bound, &["mx.example.net"], |_| {});
    assert!(matches!(faults(&bound, &[outside], "mx.example.net")[..], [PkixFault::Untrusted(_)]));
}

// RFC 9325 §4.5: whatever the handshake showed, nobody is authenticated by what an authority says of a short key.
#[test]
fn a_short_key_is_a_fault_of_a_chain_that_is_otherwise_sound() {
    let (ca, other) = (ca(|_| {}), ca(|p| p.distinguished_name.push(DnType::CommonName, "Nobody")));
    let weak = PkixFault::Untrusted("weak-key");
    let of = |ca: &Ca, name: &str, key: &dyn Fn(CertificateParams) -> rcgen::Certificate| {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = CertificateDer::from(key(params).der().to_vec());
        faults(ca, &[leaf], "mx.example.net")
    };
    let short = |by| move |p: CertificateParams| p.signed_by(&ShortKey::new(), by).unwrap();
    assert_eq!(of(&ca, "mx.example.net", &short(&ca)), [weak]);
    assert_eq!(
        of(&ca, "else.example", &short(&other)),
        [PkixFault::Untrusted("unknown-issuer"), weak, PkixFault::Name]
    );
    assert_eq!(weak.detail().result, ResultType::CertificateNotTrusted);
    let long = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    assert_eq!(of(&ca, "mx.example.net", &|p| p.signed_by(&long, &ca).unwrap()), []);
}

#[test]
fn old_versions_weak_keys_and_garbage_are_faults_and_no_panic() {
    let ca = ca(|_| {});
    for text in [RSA_1024, VERSION_1] {
        let der = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
        assert!(!faults(&ca, &[CertificateDer::from(der.clone())], "mx.example.net").is_empty());
        // Cut anywhere, it is still no panic.
        for len in (0..der.len()).step_by(7) {
            let cut = CertificateDer::from(der[..len].to_vec());
            assert!(!faults(&ca, std::slice::from_ref(&cut), "mx.example.net").is_empty());
            let _ = facts(&cut);
        }
    }
    assert_eq!(faults(&ca, &[], "mx.example.net"), [PkixFault::Unreadable("no-certificate")]);
}
