//! The key behind a certificate: what DANE-EE asks of it, and what authorities may not vouch for.

use rcgen::{BasicConstraints, CustomExtension, IsCa, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, SignatureScheme, SupportedProtocolVersion};
use sealpost::mtasts::Mode;
use sealpost::security::Level;

use super::{HOST, assert_told_nothing, level, publish, signed, with};
use crate::authority::{Authority, Leaf, tlsa};
use crate::server::{connections, serve};
use crate::world::{World, all_entries, enhanced, words};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

// D50, DANE-22, requirements §5.2: whatever else is odd about a certificate, the key is what counts.
#[tokio::test]
async fn dane_ee_lets_odd_certificates_through_over_every_version_of_tls() {
    let authority = Authority::new();
    let critical = |p: &mut rcgen::CertificateParams| {
        let mut odd = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        odd.set_criticality(true);
        p.custom_extensions.push(odd);
    };
    for (case, leaf) in [
        (
            "expired, another name",
            authority.leaf("elsewhere.example", |p| {
                p.not_before = date_time_ymd(2020, 1, 1);
                p.not_after = date_time_ymd(2020, 2, 1);
            }),
        ),
        ("not yet valid", authority.leaf(HOST, |p| p.not_before = date_time_ymd(2090, 1, 1))),
        ("unknown critical extension", authority.leaf(HOST, critical)),
        (
            "flagged as an authority",
            authority.leaf(HOST, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
        ),
        ("X.509 version 1", Leaf::from_pem(include_str!("../odd/version_1.pem"))),
    ] {
        for version in VERSIONS {
            let case = format!("{case} over {:?}", version.version);
            let (w, ears) = signed(with(leaf.server(&[version])), &[&leaf.tlsa()]).await;
            let (_, outcomes) = w.deliver("a.example", 1).await;
            assert_eq!(words(&outcomes), ["delivered"], "{case}: {outcomes:?}");
            assert_eq!(level(&outcomes[0]), Some(Level::Dane), "{case}");
            assert_eq!(connections(&ears), 1, "{case}");
            assert_eq!(all_entries(&w), [format!("tlsa {HOST} +")], "{case}");
        }
    }
}

// DANE-23: a certificate is public; only its key proves anything.
#[tokio::test]
async fn a_copied_certificate_without_its_key_is_worth_nothing() {
    let authority = Authority::new();
    for version in VERSIONS {
        for odd in [false, true] {
            let leaf = if odd {
                Leaf::from_pem(include_str!("../odd/version_1.pem"))
            } else {
                authority.leaf(HOST, |_| {})
            };
            let (record, case) = (leaf.tlsa(), format!("{:?}, odd: {odd}", version.version));
            let (w, ears) = signed(with(leaf.without_its_key().server(&[version])), &[&record]).await;
            let (_, outcomes) = w.deliver("a.example", 1).await;
            assert_eq!(
                (words(&outcomes), enhanced(&outcomes[0])),
                (vec!["deferred"], "4.7.5".to_owned()),
                "{case}"
            );
            assert_told_nothing(&case, &ears);
            assert_eq!(all_entries(&w), [format!("tlsa {HOST} -validation-failure/bad-signature")], "{case}");
        }
    }
}

/// The schemes that a key of 1024 bits can sign a handshake of this version with (RFC 8446 §4.2.3).
fn schemes(version: &SupportedProtocolVersion) -> &'static [SignatureScheme] {
    use SignatureScheme as S;
    if version.version == ProtocolVersion::TLSv1_2 {
        &[S::RSA_PKCS1_SHA256, S::RSA_PSS_SHA256, S::RSA_PSS_SHA384]
    } else {
        &[S::RSA_PSS_SHA256, S::RSA_PSS_SHA384]
    }
}

fn rsa_1024() -> Leaf {
    Leaf::from_pem(include_str!("../odd/rsa_1024.pem"))
}

// DANE-22, DANE-23: RFC 7672 §3.1.1 binds the key, however short; the proof of having it is asked for all the same.
#[tokio::test]
async fn dane_ee_takes_a_short_rsa_key_that_is_proven_and_no_other() {
    let leaf = rsa_1024();
    let unproven = [format!("tlsa {HOST} -validation-failure/bad-signature")];
    for version in VERSIONS {
        for scheme in schemes(version) {
            let case = format!("{scheme:?} over {:?}", version.version);
            let (w, ears) = signed(with(leaf.short_server(version, *scheme, false)), &[&leaf.tlsa()]).await;
            let (_, outcomes) = w.deliver("a.example", 1).await;
            assert_eq!(words(&outcomes), ["delivered"], "{case}: {outcomes:?}");
            assert_eq!((level(&outcomes[0]), connections(&ears)), (Some(Level::Dane), 1), "{case}");
            assert_eq!(all_entries(&w), [format!("tlsa {HOST} +")], "{case}");

            let (w, ears) = signed(with(leaf.short_server(version, *scheme, true)), &[&leaf.tlsa()]).await;
            let (_, outcomes) = w.deliver("a.example", 1).await;
            assert_eq!(
                (words(&outcomes), enhanced(&outcomes[0])),
                (vec!["deferred"], "4.7.5".to_owned()),
                "{case}"
            );
            assert_told_nothing(&case, &ears);
            assert_eq!(all_entries(&w), unproven, "{case}");
        }
    }
    // RFC 8446 §4.4.3: PKCS#1 signs no handshake of TLS 1.3.
    let (w, ears) =
        signed(with(leaf.short_server(&TLS13, SignatureScheme::RSA_PKCS1_SHA256, false)), &[&leaf.tlsa()])
            .await;
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["deferred"]);
    assert_told_nothing("PKCS#1 over TLS 1.3", &ears);
    assert_eq!(all_entries(&w), [format!("tlsa {HOST} -validation-failure/tls-error")]);
}

// RFC 9325 §4.5, D23: what authorities vouch for is another matter, the one of a policy as well as the one of a DANE-TA
// record (RFC 7672 §3.1.2).
#[tokio::test]
async fn a_short_rsa_key_is_not_authenticated_by_an_authority() {
    let authority = Authority::new();
    let leaf = authority.vouches_for(HOST, rsa_1024());
    let ta = tlsa(2, &authority.certificate());
    for version in VERSIONS {
        for (case, records, mode, want, entry) in [
            (
                "enforce",
                vec![],
                Some(Mode::Enforce),
                Err(()),
                "sts a.example -certificate-not-trusted/weak-key",
            ),
            ("DANE-TA", vec![&ta], None, Err(()), "tlsa mx.example.net -certificate-not-trusted/weak-key"),
            (
                "testing",
                vec![],
                Some(Mode::Testing),
                Ok(Level::Encrypted),
                "sts a.example -certificate-not-trusted/weak-key",
            ),
            ("no promise", vec![], None, Ok(Level::Encrypted), "none a.example +"),
        ] {
            let case = format!("{case} over {:?}", version.version);
            let manners = with(leaf.short_server(version, SignatureScheme::RSA_PSS_SHA256, false));
            let (port, ears) = serve("127.0.0.1", 0, manners).await;
            let w = World::new(port, authority.tls());
            w.signed_route("a.example", true, &[(HOST, &["127.0.0.1"])]);
            publish(&w, HOST, port, &records.iter().map(|r| r.as_str()).collect::<Vec<_>>());
            if let Some(mode) = mode {
                w.promises("a.example", mode, &[HOST]);
            }
            let (_, outcomes) = w.deliver("a.example", 1).await;
            match want {
                Ok(want) => assert_eq!(
                    (words(&outcomes), level(&outcomes[0])),
                    (vec!["delivered"], Some(want)),
                    "{case}"
                ),
                Err(()) => {
                    assert_eq!(
                        (words(&outcomes), enhanced(&outcomes[0])),
                        (vec!["deferred"], "4.7.5".to_owned()),
                        "{case}"
                    );
                    let text = &outcomes[0].diagnosis().text;
                    assert!(text.contains("untrusted (weak-key)"), "{case}: {text}");
                    assert_told_nothing(&case, &ears);
                }
            }
            assert_eq!(all_entries(&w), [entry], "{case}");
        }
    }
}

// Below 1024 bits a key is anybody's: mail waits, and the text says why. Where nothing is promised it still encrypts.
#[tokio::test]
async fn an_rsa_key_that_proves_nothing_makes_mail_wait_and_is_named() {
    let leaf = Leaf::from_pem(include_str!("../odd/rsa_512.pem"));
    // It has no right signature, which is not looked at: the size of the key comes first.
    let (w, ears) = signed(with(leaf.server(&[&TLS13])), &[&leaf.tlsa()]).await;
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5".to_owned()));
    let text = &outcomes[0].diagnosis().text;
    assert!(text.contains("the RSA key of its certificate has 512 bits"), "{text}");
    assert_told_nothing("weak", &ears);
    assert_eq!(all_entries(&w), [format!("tlsa {HOST} -validation-failure/weak-key")]);
    w.route("b.example", &[(HOST, &["127.0.0.1"])]);
    let (_, outcomes) = w.deliver("b.example", 1).await;
    assert_eq!((words(&outcomes), level(&outcomes[0])), (vec!["delivered"], Some(Level::Encrypted)));
}
