//! Records against real chains: every usage, and everything that may be odd about the certificate.

use base64::Engine as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, GeneralSubtree, IsCa,
    KeyPair, NameConstraints, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;

use super::super::tlsa::{Tlsa, TlsaSet};
use super::*;

type Ca = CertifiedIssuer<'static, KeyPair>;
type Chain = Vec<CertificateDer<'static>>;

/// 2026-11-22.
const NOW: Timestamp = Timestamp::from_millis(1_795_333_080_000);

fn ca(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    CertifiedIssuer::self_signed(ca_params(name, change), KeyPair::generate().unwrap()).unwrap()
}

fn ca_below(name: &str, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    CertifiedIssuer::signed_by(ca_params(name, change), KeyPair::generate().unwrap(), issuer).unwrap()
}

fn ca_params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    params
}

fn leaf(ca: &Ca, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "cn.example");
    change(&mut params);
    params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().clone()
}

/// A certificate for `mx.example` with an RSA key of 1024 bits.
fn short_key(ca: &Ca) -> CertificateDer<'static> {
    let params = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap();
    params.signed_by(&pkix::tests::ShortKey::new(), ca).unwrap().der().clone()
}

fn der(ca: &Ca) -> CertificateDer<'static> {
    CertificateDer::from(ca.as_ref().der().to_vec())
}

/// `u s m` of a certificate.
fn record(usage: u8, selector: u8, matching: u8, of: &CertificateDer<'_>) -> Tlsa {
    let octets = if selector == 0 { of.as_ref() } else { super::super::tlsa::key(of).unwrap() };
    let data = match matching {
        0 => octets.to_vec(),
        1 => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets).as_ref().to_vec(),
        _ => aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, octets).as_ref().to_vec(),
    };
    Tlsa { usage, selector, matching, data }
}

fn judged(records: Vec<Tlsa>, chain: &[CertificateDer<'_>]) -> Vec<DaneFault> {
    judged_for(records, chain, &["mx.example", "example.net"])
}

fn judged_for(records: Vec<Tlsa>, chain: &[CertificateDer<'_>], references: &[&str]) -> Vec<DaneFault> {
    judged_at(records, chain, references, NOW)
}

fn judged_at(
    records: Vec<Tlsa>,
    chain: &[CertificateDer<'_>],
    references: &[&str],
    now: Timestamp,
) -> Vec<DaneFault> {
    let set = TlsaSet { base: Domain::parse("mx.example").unwrap(), records };
    let references: Vec<Domain> = references.iter().map(|n| Domain::parse(n).unwrap()).collect();
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    verify(&set.usable(), chain, Terms { references: &references, algorithms: &algorithms, now })
}

fn below_authority(fault: PkixFault) -> Vec<DaneFault> {
    vec![DaneFault::BelowAuthority(fault)]
}

// DANE-22
#[test]
fn dane_ee_looks_at_nothing_but_the_certificate() {
    let root = ca("root", |_| {});
    let expired = leaf(&root, &["elsewhere.example"], |p| p.not_after = date_time_ymd(2020, 1, 1));
    let future = leaf(&root, &["mx.example"], |p| p.not_before = date_time_ymd(2090, 1, 1));
    let critical = leaf(&root, &["mx.example"], |p| {
        let mut odd = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        odd.set_criticality(true);
        p.custom_extensions.push(odd);
    });
    let authority = der(&ca("its own authority", |_| {}));
    let version_1 = base64::engine::general_purpose::STANDARD.decode(pkix::tests::VERSION_1).unwrap();
    for (name, odd) in [
        ("expired, wrong name", expired),
        ("not yet valid", future),
        ("unknown critical extension", critical),
        ("flagged as an authority", authority),
        ("X.509 version 1", CertificateDer::from(version_1)),
        ("RSA of 1024 bits", short_key(&root)),
    ] {
        for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let chain = [odd.clone()];
            assert_eq!(
                judged(vec![record(3, selector, matching, &odd)], &chain),
                [],
                "{name} {selector} {matching}"
            );
        }
    }
}

// DANE-22, DANE-30
#[test]
fn any_one_record_is_enough_and_none_is_a_failure() {
    let root = ca("root", |_| {});
    let (mx, other) = (leaf(&root, &["mx.example"], |_| {}), leaf(&root, &["mx.example"], |_| {}));
    let chain = [mx.clone(), der(&root)];
    let stale = record(3, 1, 1, &other);
    assert_eq!(judged(vec![stale.clone()], &chain), [DaneFault::NoMatch]);
    assert_eq!(judged(vec![stale.clone(), record(3, 1, 1, &mx)], &chain), []);
    assert_eq!(judged(vec![stale.clone(), record(2, 0, 1, &der(&root))], &chain), []);
    // A server record does not match an authority, nor the other way round.
    assert_eq!(judged(vec![record(3, 0, 1, &der(&root))], &chain), [DaneFault::NoMatch]);
    assert_eq!(judged(vec![record(2, 0, 1, &mx)], &chain), [DaneFault::NoMatch]);
    assert_eq!(judged(vec![stale], &[]), [DaneFault::NoMatch]);
}

// A hostile set cannot keep us busy: whole keys by the hundred, against a chain of many certificates.
#[test]
fn a_huge_set_of_authorities_is_bounded_and_no_match() {
    let root = ca("root", |_| {});
    let mx = leaf(&root, &["mx.example"], |_| {});
    let chain: Chain = std::iter::once(mx).chain((0..20).map(|_| der(&root))).collect();
    let foreign = der(&ca("root", |_| {}));
    let many = vec![record(2, 1, 0, &foreign); 600];
    assert_ne!(judged(many.clone(), &chain), []);
    let last = [many, vec![record(2, 1, 0, &der(&root))]].concat();
    assert_ne!(
        judged(last.clone(), &chain),
        [],
        "beyond the bound it is as if it were not there: mail waits"
    );
    let first: Vec<Tlsa> = last.into_iter().rev().collect();
    assert_eq!(judged(first, &chain), []);
    // Whole keys of servers are only compared, however many.
    let ee: Vec<Tlsa> =
        (0..600).map(|_| record(3, 1, 0, &foreign)).chain([record(3, 1, 0, &chain[0])]).collect();
    assert_eq!(judged(ee, &chain), []);
}

// DANE-31
#[test]
fn a_weaker_digest_that_matches_does_not_count_beside_a_stronger_one() {
    let root = ca("root", |_| {});
    let (mx, other) = (leaf(&root, &["mx.example"], |_| {}), leaf(&root, &["mx.example"], |_| {}));
    let records = vec![record(3, 1, 1, &mx), record(3, 1, 2, &other)];
    assert_eq!(judged(records, &[mx]), [DaneFault::NoMatch]);
}

// DANE-24, DANE-28
#[test]
fn dane_ta_makes_one_authority_the_only_one_and_everything_below_it_counts() {
    let root = ca("private root", |_| {});
    let middle = ca_below("middle", &root, |_| {});
    let mx = |names: &[&str], change: fn(&mut CertificateParams)| -> Chain {
        vec![leaf(&middle, names, change), der(&middle), der(&root)]
    };
    let sound = mx(&["mx.example"], |_| {});
    for anchor in [&middle, &root] {
        for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let records = vec![record(2, selector, matching, &der(anchor))];
            assert_eq!(judged(records, &sound), [], "{selector} {matching}");
        }
    }
    let by_middle = || vec![record(2, 1, 1, &der(&middle))];
    let expired = mx(&["mx.example"], |p| p.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(judged(by_middle(), &expired), below_authority(PkixFault::Expired));
    let elsewhere = mx(&["elsewhere.example"], |_| {});
    assert_eq!(judged(by_middle(), &elsewhere), below_authority(PkixFault::Name));
    // A secure MX set makes the next hop's name as good as the host's; an insecure one does not.
    let next_hop = mx(&["example.net"], |_| {});
    assert_eq!(judged(by_middle(), &next_hop), []);
    assert_eq!(judged_for(by_middle(), &next_hop, &["mx.example"]), below_authority(PkixFault::Name));
    // The leaf of another authority, with the named one beside it.
    let stranger = ca("stranger", |_| {});
    let foreign = [leaf(&stranger, &["mx.example"], |_| {}), der(&middle)];
    let fault = PkixFault::Untrusted("unknown-issuer");
    assert_eq!(judged(by_middle(), &foreign), below_authority(fault));
}

// DANE-25, DANE-26
#[test]
fn an_authority_may_lie_in_the_dns_alone() {
    let root = ca("private root", |_| {});
    let middle = ca_below("middle", &root, |_| {});
    let chain = [leaf(&middle, &["mx.example"], |_| {}), der(&middle)];
    assert_eq!(judged(vec![record(2, 0, 0, &der(&root))], &chain), [], "its certificate");
    assert_eq!(judged(vec![record(2, 1, 0, &der(&root))], &chain), [], "its key");
    assert_eq!(judged(vec![record(2, 0, 0, &der(&middle))], &chain[..1]), [], "the issuer itself");
    // A digest of what was never presented matches nothing.
    assert_eq!(judged(vec![record(2, 0, 1, &der(&root))], &chain), [DaneFault::NoMatch]);
    let stranger = record(2, 1, 0, &der(&ca("private root", |_| {})));
    assert!(!judged(vec![stranger], &chain).is_empty(), "another key under the same name");
}

// DANE-27
#[test]
fn the_constraints_of_a_named_certificate_hold_and_those_around_a_named_key_do_not() {
    let short = ca("short", |p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let middle = ca_below("middle", &short, |_| {});
    let long = [leaf(&middle, &["mx.example"], |_| {}), der(&middle), der(&short)];
    let fault = PkixFault::Untrusted("path-length");
    assert_eq!(judged(vec![record(2, 0, 1, &der(&short))], &long), below_authority(fault));
    assert_eq!(judged(vec![record(2, 1, 1, &der(&short))], &long), []);
    let direct = [leaf(&short, &["mx.example"], |_| {}), der(&short)];
    assert_eq!(judged(vec![record(2, 0, 1, &der(&short))], &direct), []);

    let fenced = ca("fenced", |p| {
        p.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("inside.example".into())],
            excluded_subtrees: Vec::new(),
        });
    });
    let outside = [leaf(&fenced, &["mx.example"], |_| {}), der(&fenced)];
    assert!(!judged(vec![record(2, 0, 1, &der(&fenced))], &outside).is_empty());
    assert_eq!(judged(vec![record(2, 1, 1, &der(&fenced))], &outside), []);
}

// A DANE-TA record binds an authority, and the leaf is authenticated by what that says, as in PKIX (RFC 7671 §5.2): a key
// too short there is too short here, whoever's it is. DANE-EE records beside it are not bound by that (DANE-30).
#[test]
fn below_an_authority_short_keys_do_not_count() {
    let root = ca("private root", |_| {});
    let chain = [short_key(&root), der(&root)];
    let by_root = record(2, 0, 1, &der(&root));
    assert_eq!(judged(vec![by_root.clone()], &chain), below_authority(PkixFault::Untrusted("weak-key")));
    assert_eq!(judged(vec![by_root, record(3, 1, 1, &chain[0])], &chain), []);
    // A sound leaf that an RSA key of 1024 bits has signed.
    let signed_by_short: Chain = CertificateDer::pem_slice_iter(include_bytes!("short_authority.pem"))
        .map(|c| c.unwrap().into_owned())
        .collect();
    let of_2027 = Timestamp::parse_rfc3339("2027-01-01T00:00:00Z").unwrap();
    for (selector, matching) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let records = vec![record(2, selector, matching, &signed_by_short[1])];
        let faults = judged_at(records, &signed_by_short, &["mx.example"], of_2027);
        let [DaneFault::BelowAuthority(PkixFault::Untrusted(_))] = faults[..] else {
            panic!("{selector} {matching}: {faults:?}");
        };
    }
}

// DANE-29
#[test]
fn a_common_name_counts_only_where_there_is_no_dns_name() {
    let root = ca("root", |_| {});
    let named = |cn: &str, names: &[&str]| {
        let leaf = leaf(&root, names, |p| {
            p.distinguished_name = rcgen::DistinguishedName::new();
            p.distinguished_name.push(DnType::CommonName, cn);
        });
        judged(vec![record(2, 0, 1, &der(&root))], &[leaf, der(&root)])
    };
    let mismatch = below_authority(PkixFault::Name);
    assert_eq!(named("mx.example", &[]), []);
    assert_eq!(named("MX.example", &[]), []);
    assert_eq!(named("*.example", &[]), []);
    assert_eq!(named("*.net", &[]), [], "the next hop, example.net");
    assert_eq!(named("mx.example", &["elsewhere.example"]), mismatch);
    for wrong in ["elsewhere.example", "m*.example", "*", "*.", "*.mx.example", ""] {
        assert_eq!(named(wrong, &[]), mismatch, "{wrong}");
    }
    assert_eq!(named("x", &["smtp*.example"]), mismatch);
}

// RPT-60
#[test]
fn every_fault_has_a_result_type_that_a_tlsa_entry_may_carry() {
    for (fault, result, reason) in [
        (DaneFault::NoMatch, ResultType::ValidationFailure, Some("dane-no-match")),
        (DaneFault::Unproven, ResultType::ValidationFailure, Some("bad-signature")),
        (DaneFault::BelowAuthority(PkixFault::Name), ResultType::CertificateHostMismatch, None),
        (DaneFault::BelowAuthority(PkixFault::Expired), ResultType::CertificateExpired, None),
    ] {
        assert_eq!(fault.detail(), FailureDetail { result, reason: reason.map(str::to_owned) });
    }
}
