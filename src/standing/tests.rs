//! What is found on a zone, row by row.

use super::*;
use crate::clock::Timestamp;
use crate::config::network::nets_of;
use crate::dkim::{Algorithm, Signers, SigningKey, keygen};
use crate::dns::belief::Mode;
use crate::dns::self_test::Trouble;
use crate::dns::zone::ZoneResolver;
use crate::mail::Mailbox;
use crate::route::RouteSettings;

use super::look::Subject;
use super::relay::{BaseRoots, Roots};
use super::reports::Reporting;

fn d(name: &str) -> Domain {
    Domain::parse_host(name).unwrap()
}

fn mailbox(text: &str) -> Option<Mailbox> {
    Some(Mailbox::parse(text).unwrap())
}

/// A relay that does everything right, and the zone that says so.
fn world() -> (Subject, String) {
    signed_by(Algorithm::Rsa)
}

/// The same with another key.
fn signed_by(algorithm: Algorithm) -> (Subject, String) {
    let pem = keygen::generate(algorithm).unwrap();
    let key = SigningKey::from_pem(d("example.net"), "s1".to_owned(), &pem).unwrap();
    let record = key.record().strings().concat();
    let zone = format!(
        "s1._domainkey.example.net TXT \"{record}\"
         example.net               TXT \"v=spf1 ip4:192.0.2.1 -all\"
         _dmarc.example.net        TXT \"v=DMARC1; p=reject\"
         example.net               MX 10 mx.elsewhere.example
         mx.elsewhere.example      A 198.51.100.1
         1.2.0.192.in-addr.arpa    PTR relay.example.net
         relay.example.net         A 192.0.2.1"
    );
    let from = mailbox("tls-reports@example.net");
    let subject = Subject {
        hostname: d("relay.example.net"),
        reporting: Reporting { enabled: true, contact: from.clone(), from },
        signers: Signers::new(vec![key]),
        sources: vec![Source {
            address: "192.0.2.1".parse().unwrap(),
            ehlo: d("relay.example.net"),
            public: true,
        }],
        route: RouteSettings {
            hostname: Some(d("relay.example.net")),
            own_listeners: vec!["192.0.2.1:25".parse().unwrap()],
            port: 25,
            deny: nets_of("private").unwrap(),
            ..RouteSettings::default()
        },
    };
    (subject, zone)
}

async fn reports(subject: &Subject, zone: &str, change: &str) -> Vec<Finding> {
    let resolver = ZoneResolver::new(zone).unwrap();
    resolver.replace(change).unwrap();
    look::reports(&resolver, subject).await
}

async fn relay(subject: &Subject, zone: &str, change: &str) -> Vec<Finding> {
    let resolver = ZoneResolver::new(zone).unwrap();
    resolver.replace(change).unwrap();
    look::relay(&resolver, subject).await
}

/// What is not good, as `check mark`.
fn odd(findings: &[Finding]) -> Vec<String> {
    let odd = findings.iter().filter(|f| f.mark != Mark::Good);
    odd.map(|f| format!("{} {:?}", f.check.as_str(), f.mark).to_lowercase()).collect()
}

#[tokio::test]
async fn a_sound_relay_has_nothing_to_mend() {
    let (subject, zone) = world();
    let found = reports(&subject, &zone, "").await;
    assert!(sound(&found) && odd(&found).is_empty(), "{found:#?}");
    let checks: Vec<_> = found.iter().map(|f| f.check.as_str()).collect();
    assert_eq!(checks, ["configuration", "dkim-key", "spf", "dmarc", "contact", "loop"]);
    let found = relay(&subject, &zone, "").await;
    assert!(odd(&found).is_empty(), "{found:#?}");
    let checks: Vec<_> = found.iter().map(|f| f.check.as_str()).collect();
    assert_eq!(checks, ["ptr", "dkim-key", "dmarc"]);
}

// RPT-80: a signature that many do not verify is no fault, and not to be kept quiet.
#[tokio::test]
async fn an_ed25519_key_alone_is_remarked() {
    let (subject, zone) = signed_by(Algorithm::Ed25519);
    let found = reports(&subject, &zone, "").await;
    assert!(sound(&found) && odd(&found) == ["dkim-key note"], "{found:#?}");
    assert!(
        found.iter().any(|f| f.advice.contains("sealpost dkim keygen --domain example.net")),
        "{found:#?}"
    );
    assert_eq!(odd(&relay(&subject, &zone, "").await), ["dkim-key note"]);
    // Beside an RSA key it is welcome; beside one that is not published it is still alone.
    let (mut subject, zone) = world();
    let pem = keygen::generate(Algorithm::Ed25519).unwrap();
    let second = SigningKey::from_pem(d("example.net"), "s2".to_owned(), &pem).unwrap();
    let published = format!("s2._domainkey.example.net TXT \"{}\"", second.record().strings().concat());
    subject.signers = Signers::new([subject.signers.keys(), &[second]].concat());
    assert!(odd(&reports(&subject, &zone, &published).await).is_empty());
    let gone = format!("{published}\ns1._domainkey.example.net MX 0 .");
    assert_eq!(odd(&reports(&subject, &zone, &gone).await), ["dkim-key bad", "dkim-key note"]);
}

// RPT-80, RPT-82, RPT-83, SIG-14
#[tokio::test]
async fn each_fault_of_the_reporting_identity_is_found() {
    let (subject, zone) = world();
    let record = subject.signers.keys()[0].record().strings().concat();
    let key = |tag: &str| {
        let record = record.replace("; p=", &format!("; {tag}; p="));
        format!("s1._domainkey.example.net TXT \"{record}\"")
    };
    let other = {
        let pem = keygen::generate(Algorithm::Ed25519).unwrap();
        SigningKey::from_pem(d("example.net"), "s1".to_owned(), &pem).unwrap().record().strings().concat()
    };
    let txt = |text: &str| format!("example.net TXT \"{text}\"\nexample.net MX 10 mx.elsewhere.example");
    for (what, change, want) in [
        ("no key", "s1._domainkey.example.net MX 0 .".to_owned(), &["dkim-key bad", "dmarc bad"][..]),
        ("another key", format!("s1._domainkey.example.net TXT \"{other}\""), &["dkim-key bad", "dmarc bad"]),
        ("RPT-83: tlsrpt alone", key("s=tlsrpt"), &["dkim-key bad", "dmarc bad"]),
        ("RPT-82: mail alone", key("s=email"), &["dkim-key bad"]),
        ("every service", key("s=*"), &[]),
        ("both services, which some verifiers misread", key("s=email:tlsrpt"), &["dkim-key note"]),
        ("testing", key("t=y"), &["dkim-key note"]),
        ("a dead zone", "s1._domainkey.example.net TXT SERVFAIL".to_owned(), &["dkim-key bad", "dmarc bad"]),
        ("SPF forbids us", txt("v=spf1 -all"), &["spf bad"]),
        ("SPF doubts us", txt("v=spf1 ~all"), &["spf note"]),
        ("no SPF", "example.net MX 10 mx.elsewhere.example".to_owned(), &["spf note"]),
        ("SPF by macro", txt("v=spf1 exists:%{i}.example.net -all"), &["spf note"]),
        ("SPF is broken", txt("v=spf1 ipv4:192.0.2.1 -all"), &["spf bad"]),
        ("no DMARC", "_dmarc.example.net MX 0 .".to_owned(), &[]),
        ("DMARC unknown", "_dmarc.example.net TXT TIMEOUT".to_owned(), &["dmarc bad"]),
        ("null MX", "example.net TXT \"v=spf1 +all\"\nexample.net MX 0 .".to_owned(), &["contact bad"]),
        ("no mail host", "mx.elsewhere.example MX 0 .".to_owned(), &["contact bad"]),
        ("MX dead", "example.net TXT \"v=spf1 +all\"\nexample.net MX SERVFAIL".to_owned(), &["contact bad"]),
        (
            "MX is this relay",
            "example.net TXT \"v=spf1 +all\"\nexample.net MX 10 relay.example.net".to_owned(),
            &["contact bad"],
        ),
        (
            "reports come back here",
            "_smtp._tls.example.net TXT \"v=TLSRPTv1; rua=mailto:r@relay.example.net\"".to_owned(),
            &["loop bad"],
        ),
        (
            "reports go to another server under our name",
            "_smtp._tls.example.net TXT \"v=TLSRPTv1; rua=mailto:r@relay.example.net\"
             relay.example.net A 192.0.2.77"
                .to_owned(),
            &["loop note"],
        ),
        (
            "reports at itself are no circle",
            "_smtp._tls.example.net TXT \"v=TLSRPTv1; rua=mailto:r@example.net,https://c.example/r\""
                .to_owned(),
            &[],
        ),
        ("no answer about the circle", "_smtp._tls.example.net TXT REFUSED".to_owned(), &["loop bad"]),
    ] {
        let found = reports(&subject, &zone, &change).await;
        assert_eq!(odd(&found), want, "{what}: {found:#?}");
        for f in found.iter().filter(|f| f.mark != Mark::Good) {
            assert!(!f.advice.is_empty() && !f.text.is_empty(), "{what}: {f:?}");
        }
    }
}

#[tokio::test]
async fn what_is_configured_is_judged_before_anybody_is_asked() {
    let (subject, zone) = world();
    for (change, want) in [
        (Reporting { enabled: false, ..subject.reporting.clone() }, "configuration note"),
        (Reporting { enabled: true, from: None, contact: None }, "configuration bad"),
    ] {
        let found = reports(&Subject { reporting: change, ..subject.clone() }, &zone, "").await;
        assert_eq!(odd(&found), [want]);
    }
    // RPT-80: a key of a parent signs ordinary mail, and no reports.
    let from = mailbox("r@sub.example.net");
    let reporting = Reporting { enabled: true, contact: from.clone(), from };
    let found = reports(
        &Subject { reporting, ..subject.clone() },
        &zone,
        "sub.example.net MX 5 mx.elsewhere.example",
    )
    .await;
    assert_eq!(odd(&found), ["configuration bad", "spf note", "dmarc bad"], "{found:#?}");
    let hidden = Source { public: false, ..subject.sources[0].clone() };
    let found = reports(&Subject { sources: vec![hidden], ..subject.clone() }, &zone, "").await;
    assert_eq!(odd(&found), ["spf note"]);
}

#[tokio::test]
async fn each_fault_of_a_name_is_found() {
    let (subject, zone) = world();
    let ptr = "1.2.0.192.in-addr.arpa";
    for (what, change, want) in [
        ("no PTR", format!("{ptr} TXT x"), &["ptr bad"][..]),
        ("no answer", format!("{ptr} PTR SERVFAIL"), &["ptr bad"]),
        ("another name", format!("{ptr} PTR out.example.net\nout.example.net A 192.0.2.1"), &["ptr note"]),
        (
            "a name that leads elsewhere",
            format!("{ptr} PTR out.example.net\nout.example.net A 192.0.2.9"),
            &["ptr bad"],
        ),
        ("two names, one ours", format!("{ptr} PTR out.example.net\n{ptr} PTR relay.example.net"), &[]),
        ("EHLO leads elsewhere", "relay.example.net A 192.0.2.9".to_owned(), &["ptr bad"]),
    ] {
        let found = relay(&subject, &zone, &change).await;
        assert_eq!(odd(&found), want, "{what}: {found:#?}");
    }
    let hidden = Source { public: false, ..subject.sources[0].clone() };
    let found = relay(&Subject { sources: vec![hidden], ..subject.clone() }, &zone, "").await;
    assert_eq!(odd(&found), ["ptr note"]);
    let found = relay(&Subject { sources: Vec::new(), ..subject }, &zone, "").await;
    assert_eq!(odd(&found), ["ptr bad"]);
}

#[test]
fn the_clock_is_held_against_what_is_known() {
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    let now = at("2027-03-01T12:00:00Z");
    for (now, last, want) in [
        (now, None, Mark::Good),
        (now, Some(at("2027-03-01T11:00:00Z")), Mark::Good),
        (now, Some(at("2027-03-01T12:00:30Z")), Mark::Good),
        (now, Some(at("2027-03-02T12:00:00Z")), Mark::Bad),
        (at("2020-01-01T00:00:00Z"), None, Mark::Bad),
    ] {
        let found = relay::clock(now, last);
        assert_eq!(found.mark, want, "{found:?}");
    }
}

#[test]
fn authorities_grow_old() {
    let at = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
    let extra = |end: &str| vec![("ca.pem".to_owned(), at(end))];
    for (base, extra, now, want) in [
        (BaseRoots::Compiled, vec![], "2027-03-01T00:00:00Z", &[][..]),
        (BaseRoots::Compiled, vec![], "2028-03-01T00:00:00Z", &["roots note"]),
        (BaseRoots::System, vec![], "2028-03-01T00:00:00Z", &[]),
        (BaseRoots::None, extra("2028-03-01T00:00:00Z"), "2027-03-01T00:00:00Z", &[]),
        (BaseRoots::None, extra("2028-03-01T00:00:00Z"), "2028-02-15T00:00:00Z", &["roots note"]),
        (BaseRoots::None, extra("2028-03-01T00:00:00Z"), "2028-03-02T00:00:00Z", &["roots bad"]),
    ] {
        let found = relay::roots(at(now), &Roots { base, extra });
        assert_eq!(odd(&found), want, "{found:?}");
    }
}

#[test]
fn one_host_that_answers_is_reach_enough() {
    let failed = || ("a.example".to_owned(), Err("timed out".to_owned()));
    for (tried, want) in [
        (vec![], Mark::Note),
        (vec![failed()], Mark::Bad),
        (vec![failed(), ("b.example".to_owned(), Ok(()))], Mark::Good),
    ] {
        assert_eq!(relay::reach(25, &tried).mark, want);
    }
}

#[test]
fn what_stops_all_mail_is_bad_and_the_advice_goes_by_what_was_found() {
    use Mode::{NotLocal, Off, TrustAd, Validate};
    use Trouble::{DoesNotHold, Lies, Names, NoAnswer, NoSignatures, Partial, Unauthenticated};
    let validate = "dns.dnssec = \"validate\"";
    for (mode, believed, trouble, want, advice) in [
        (TrustAd, true, None, Mark::Good, ""),
        (Validate, true, None, Mark::Good, ""),
        (Off, false, None, Mark::Note, validate),
        (NotLocal, false, None, Mark::Note, validate),
        (NotLocal, false, None, Mark::Note, "dns.trusted_servers"),
        (Off, false, Some(NoAnswer), Mark::Bad, "whether the resolver runs"),
        (NotLocal, false, Some(NoAnswer), Mark::Bad, "whether the resolver runs"),
        (TrustAd, true, Some(NoAnswer), Mark::Bad, "whether the resolver runs"),
        (Validate, true, Some(NoAnswer), Mark::Bad, "whether the resolver runs"),
        (Validate, true, Some(DoesNotHold), Mark::Bad, "dns.trust_anchor"),
        (TrustAd, true, Some(DoesNotHold), Mark::Bad, "the resolver's root keys"),
        (Validate, true, Some(NoSignatures), Mark::Bad, "passes DNSSEC records on"),
        // DANE-02: what was believed is believed no more.
        (Validate, false, Some(NoSignatures), Mark::Bad, "passes DNSSEC records on"),
        (Validate, false, Some(Names), Mark::Bad, "dns.self_test.bogus"),
        (TrustAd, false, Some(Lies), Mark::Bad, "mend the resolver"),
        (TrustAd, true, Some(Unauthenticated), Mark::Note, validate),
        (TrustAd, true, Some(Partial), Mark::Note, "mend that resolver"),
        (Validate, true, Some(Names), Mark::Note, "dns.self_test.secure"),
    ] {
        let found = relay::dnssec(mode, believed, trouble, "in words");
        assert_eq!((found.mark, &*found.text), (want, "in words"), "{mode:?} {trouble:?}");
        assert!(found.advice.contains(advice), "{mode:?} {trouble:?}: {}", found.advice);
        // Another resolver vouched for helps only where its word is taken.
        assert!(mode != Validate || !found.advice.contains("trusted_servers"), "{}", found.advice);
    }
}
