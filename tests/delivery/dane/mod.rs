//! DANE on the wire (RFC 7672): which sessions TLSA records let through, and what is said to a host that fails them.

use std::sync::Arc;

use rcgen::date_time_ymd;
use sealpost::mail::{Domain, Origin};
use sealpost::queue::{MessageMeta, Outcome};
use sealpost::route::{Host, NoAddress, Route, RouteKind};
use sealpost::security::Level;

use crate::authority::{Authority, Leaf, tlsa};
use crate::server::{Ears, Manners, connections, count, serve};
use crate::world::{World, all_entries, domain, enhanced, host, lease, words};

mod keys;

const HOST: &str = "mx.example.net";

fn with(tls: Arc<rustls::ServerConfig>) -> Manners {
    Manners { tls: Some(tls), ..Manners::default() }
}

/// One signed domain `a.example` with one host of these manners and these records.
async fn signed(manners: Manners, records: &[&str]) -> (World, Ears) {
    let (port, ears) = serve("127.0.0.1", 0, manners).await;
    // An authority that nobody here uses: PKIX would let nobody through.
    let w = World::new(port, Authority::new().tls());
    w.signed_route("a.example", true, &[(HOST, &["127.0.0.1"])]);
    publish(&w, HOST, port, records);
    (w, ears)
}

/// Signed TLSA records of a host.
fn publish(w: &World, host: &str, port: u16, records: &[&str]) {
    let lines: Vec<String> = records.iter().map(|r| format!("_{port}._tcp.{host} TLSA {r}")).collect();
    w.zone.add(&format!("secure {host}\n{}", lines.join("\n"))).unwrap();
}

fn level(outcome: &Outcome) -> Option<Level> {
    outcome.diagnosis().security
}

/// Nothing of the envelope was said, in the clear or not, and nobody came a second time.
fn assert_told_nothing(case: &str, ears: &Ears) {
    assert_eq!((connections(ears), count(ears, "MAIL")), (1, 0), "{case}");
}

// D51, D52, D53, DANE-24, DANE-28: an authority out of the DNS vouches for name and dates, and for nobody else.
#[tokio::test]
async fn an_authority_that_the_dns_names_is_the_only_one_and_strict() {
    let (authority, other) = (Authority::new(), Authority::new());
    let ta = tlsa(2, &authority.certificate());
    let expired = |p: &mut rcgen::CertificateParams| {
        p.not_before = date_time_ymd(2020, 1, 1);
        p.not_after = date_time_ymd(2020, 2, 1);
    };
    for (case, leaf, want) in [
        ("sound", authority.leaf(HOST, |_| {}), Ok(())),
        ("the next hop's name", authority.leaf("a.example", |_| {}), Ok(())),
        ("D52", authority.leaf("mx.elsewhere.example", |_| {}), Err("certificate-host-mismatch")),
        ("D53", authority.leaf(HOST, expired), Err("certificate-expired")),
        ("another authority", other.leaf(HOST, |_| {}), Err("validation-failure/dane-no-match")),
    ] {
        let (w, ears) = signed(with(leaf.server(rustls::DEFAULT_VERSIONS)), &[&ta]).await;
        let (_, outcomes) = w.deliver("a.example", 1).await;
        match want {
            Ok(()) => {
                assert_eq!(
                    (words(&outcomes), level(&outcomes[0])),
                    (vec!["delivered"], Some(Level::Dane)),
                    "{case}"
                );
                assert_eq!(all_entries(&w), [format!("tlsa {HOST} +")], "{case}");
            }
            Err(result) => {
                assert_eq!(
                    (words(&outcomes), enhanced(&outcomes[0])),
                    (vec!["deferred"], "4.7.5".to_owned()),
                    "{case}"
                );
                assert_told_nothing(case, &ears);
                let got = all_entries(&w);
                assert!(got[0].starts_with(&format!("tlsa {HOST} -{result}")), "{case}: {got:?}");
            }
        }
    }
    // DANE-15: an insecure MX set vouches for no name of the next hop.
    let leaf = authority.leaf("a.example", |_| {});
    let (w, _) = signed(with(leaf.server(rustls::DEFAULT_VERSIONS)), &[&ta]).await;
    w.signed_route("a.example", false, &[(HOST, &["127.0.0.1"])]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["deferred"]);
}

// D54, D55, D56, D57, DANE-18, DANE-19, DANE-37: secure records of any kind forbid the clear.
#[tokio::test]
async fn no_secure_record_no_matter_how_odd_lets_mail_go_in_the_clear() {
    let leaf = Authority::new().leaf(HOST, |_| {});
    let (usable, unusable) = (leaf.tlsa(), leaf.tlsa().replacen("3 1 1", "1 1 1", 1));
    let tls = leaf.server(rustls::DEFAULT_VERSIONS);
    let alert = Manners { alert: true, ..with(Arc::clone(&tls)) };
    let refused = Manners { instead: vec![("STARTTLS", "454 4.7.0 not now")], ..with(Arc::clone(&tls)) };
    for (case, manners, record, code, entry) in [
        ("D54", Manners::default(), &usable, "4.7.4", "starttls-not-supported"),
        ("D54 refused", refused, &usable, "4.7.4", "starttls-not-supported/starttls-reply-454"),
        ("D55", alert.clone(), &usable, "4.7.5", "validation-failure/tls-alert-70"),
        ("D57", Manners::default(), &unusable, "4.7.4", "tlsa-invalid/all-unusable,starttls-not-supported"),
        (
            "unusable, handshake",
            alert,
            &unusable,
            "4.7.5",
            "tlsa-invalid/all-unusable,validation-failure/tls-alert-70",
        ),
    ] {
        let (w, ears) = signed(manners, &[record]).await;
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(
            (words(&outcomes), enhanced(&outcomes[0])),
            (vec!["deferred"], code.to_owned()),
            "{case}: {outcomes:?}"
        );
        assert_told_nothing(case, &ears);
        assert_eq!(all_entries(&w), [format!("tlsa {HOST} -{entry}")], "{case}");
    }
    // D56: TLS without authentication is what unusable records ask for.
    let (w, _) = signed(with(tls), &[&unusable]).await;
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), level(&outcomes[0])), (vec!["delivered"], Some(Level::Encrypted)));
    assert_eq!(all_entries(&w), [format!("tlsa {HOST} -tlsa-invalid/all-unusable")]);
}

// OUT-51: one host, one session, two domains; DANE binds the one whose way to the host is signed.
#[tokio::test]
async fn a_pooled_session_is_judged_for_each_domain_anew() {
    let leaf = Authority::new().leaf(HOST, |_| {});
    for (case, matches, bound_first) in [
        ("matches, signed first", true, true),
        ("matches, unsigned first", true, false),
        ("mismatch, signed first", false, true),
        ("mismatch, unsigned first", false, false),
    ] {
        let stale = format!("3 1 1 {}", "00".repeat(32));
        let record = if matches { leaf.tlsa() } else { stale };
        let (w, ears) = signed(with(leaf.server(rustls::DEFAULT_VERSIONS)), &[&record]).await;
        w.route("b.example", &[(HOST, &["127.0.0.1"])]);
        let order = if bound_first { ["a.example", "b.example"] } else { ["b.example", "a.example"] };
        for name in order {
            let (_, outcomes) = w.deliver(name, 1).await;
            let free = name == "b.example";
            assert_eq!(
                words(&outcomes),
                [if matches || free { "delivered" } else { "deferred" }],
                "{case}: {name}"
            );
            if matches || free {
                let want = if free { Level::Encrypted } else { Level::Dane };
                assert_eq!(level(&outcomes[0]), Some(want), "{case}: {name}");
            }
        }
        assert_eq!(connections(&ears), if matches { 1 } else { 2 }, "{case}: sessions");
        assert_eq!(count(&ears, "RCPT TO:<r0@a.example>"), usize::from(matches), "{case}");
        let mut got = all_entries(&w);
        got.sort();
        let tlsa = if matches { "+" } else { "-validation-failure/dane-no-match" };
        assert_eq!(got, ["none b.example +".to_owned(), format!("tlsa {HOST} {tlsa}")], "{case}");
    }
}

/// Two hosts of a signed domain on one port.
async fn pair(first: &Leaf, second: &Leaf) -> (World, u16, Ears, Ears) {
    let (port, one) = serve("127.0.0.1", 0, with(first.server(rustls::DEFAULT_VERSIONS))).await;
    let (_, two) = serve("127.0.0.2", port, with(second.server(rustls::DEFAULT_VERSIONS))).await;
    let w = World::new(port, Authority::new().tls());
    w.signed_route(
        "a.example",
        true,
        &[("mx1.example.net", &["127.0.0.1"]), ("mx2.example.net", &["127.0.0.2"])],
    );
    (w, port, one, two)
}

// D59, M3, DANE-06: nobody knows whether the first host has records, so nobody dials it.
#[tokio::test]
async fn m3_a_host_whose_records_cannot_be_looked_up_is_not_dialled_and_the_next_one_is() {
    let leaf = Authority::new().leaf(HOST, |_| {});
    for (fault, reason) in
        [("BOGUS", "bogus"), ("SERVFAIL", "servfail"), ("TIMEOUT", "timeout"), ("MALFORMED", "malformed")]
    {
        let (w, port, one, two) = pair(&leaf, &leaf).await;
        w.zone.add(&format!("_{port}._tcp.mx1.example.net TLSA {fault}\nsecure example.net")).unwrap();
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(
            (words(&outcomes), level(&outcomes[0])),
            (vec!["delivered"], Some(Level::Encrypted)),
            "{fault}"
        );
        assert_eq!((connections(&one), connections(&two)), (0, 1), "{fault}");
        assert_eq!(
            all_entries(&w),
            [format!("tlsa mx1.example.net -dnssec-invalid/{reason}"), "none a.example +".to_owned()]
        );
        // D59: with no other host the mail waits, and the text names the lookup.
        w.zone.add(&format!("_{port}._tcp.mx2.example.net TLSA {fault}")).unwrap();
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(
            (words(&outcomes), enhanced(&outcomes[0])),
            (vec!["deferred"], "4.7.5".to_owned()),
            "{fault}"
        );
        assert!(
            outcomes[0].diagnosis().text.starts_with("TLSA lookup for mx1.example.net failed"),
            "{outcomes:?}"
        );
        assert_eq!((connections(&one), connections(&two)), (0, 1), "{fault}");
    }
}

// M4, DANE-33
#[tokio::test]
async fn m4_a_mismatch_leads_to_the_next_host_under_its_own_entry() {
    let authority = Authority::new();
    let (first, second) =
        (authority.leaf("mx1.example.net", |_| {}), authority.leaf("mx2.example.net", |_| {}));
    let (w, port, one, _) = pair(&first, &second).await;
    for name in ["mx1.example.net", "mx2.example.net"] {
        publish(&w, name, port, &[&second.tlsa()]);
    }
    let (report, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(
        (words(&outcomes), level(&outcomes[0])),
        (vec!["delivered"], Some(Level::Dane)),
        "{outcomes:?}"
    );
    assert_told_nothing("the first host", &one);
    assert!(!report.policy_failed, "no MTA-STS policy is fetched again for the sake of DANE");
    assert_eq!(
        all_entries(&w),
        ["tlsa mx1.example.net -validation-failure/dane-no-match", "tlsa mx2.example.net +"]
    );
}

// DANE-07: a host without signed addresses is not asked about, and so no dead name server of it can hold up mail.
#[tokio::test]
async fn records_of_unsigned_hosts_are_not_looked_up() {
    let leaf = Authority::new().leaf(HOST, |_| {});
    let (port, _) = serve("127.0.0.1", 0, with(leaf.server(rustls::DEFAULT_VERSIONS))).await;
    let w = World::new(port, Authority::new().tls());
    w.zone.add(&format!("_{port}._tcp.{HOST} TLSA TIMEOUT\nsecure {HOST}")).unwrap();
    w.route("a.example", &[(HOST, &["127.0.0.1"])]);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    assert_eq!(w.zone.queries(), Vec::<String>::new());
    // Nor are those of a host without addresses: it cannot be dialled anyway.
    let nowhere = Host { addresses: Err(NoAddress::None), addresses_secure: true, ..host(HOST, 10, &[]) };
    route_over(&w, "b.example", nowhere);
    w.deliver("b.example", 1).await;
    assert_eq!(w.zone.queries(), Vec::<String>::new());
}

// DANE-01, DANE-07: a question whose answer could prove nothing must not be what mail waits for.
#[tokio::test]
async fn where_no_answer_is_believed_nobody_is_asked_about_an_alias() {
    let (port, ears) = serve("127.0.0.1", 0, Manners::default()).await;
    let w = World::new(port, Authority::new().tls());
    w.zone.add(&format!("{HOST} CNAME TIMEOUT")).unwrap();
    let alias = Host { expanded: Some(domain("h1.provider.example")), ..host(HOST, 10, &["127.0.0.1"]) };
    route_over(&w, "a.example", alias);
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!((words(&outcomes), &*enhanced(&outcomes[0])), (vec!["deferred"], "4.7.5"), "{outcomes:?}");
    let asked = w.zone.queries().len();
    w.believed.set(false);
    assert_eq!(words(&w.deliver("a.example", 1).await.1), ["delivered"]);
    assert_eq!((w.zone.queries().len(), count(&ears, "MAIL")), (asked, 1));
}

fn route_over(w: &World, name: &str, host: Host) {
    let route = Route {
        next_hop: domain(name),
        kind: RouteKind::Mx,
        mx_secure: true,
        expanded: None,
        hosts: vec![host],
        rule: None,
    };
    w.resolves(name, Ok(route));
}

// DANE-09, DANE-10, DANE-32, D61: the name that the records were found under is the name asked for in SNI.
#[tokio::test]
async fn sni_is_the_base_domain_of_the_records() {
    let leaf = Authority::new().leaf(HOST, |_| {});
    let provider = "h1.provider.example";
    for (case, at, secure, want) in [
        ("no alias", HOST, None, HOST),
        ("records at the end of the alias", provider, Some(true), provider),
        ("records at the alias", HOST, Some(true), HOST),
        ("D61: an alias into an unsigned zone", HOST, Some(false), HOST),
        ("no records", "nobody.example", Some(true), HOST),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, with(leaf.server(rustls::DEFAULT_VERSIONS))).await;
        let w = World::new(port, Authority::new().tls());
        publish(&w, at, port, &[&leaf.tlsa()]);
        w.zone.add(&format!("secure {HOST}\nsecure {provider}\n{HOST} CNAME {provider}")).unwrap();
        let expanded: Option<Domain> = secure.map(|_| domain(provider));
        route_over(
            &w,
            "a.example",
            Host { expanded, addresses_secure: secure != Some(false), ..host(HOST, 10, &["127.0.0.1"]) },
        );
        let (_, outcomes) = w.deliver("a.example", 1).await;
        assert_eq!(words(&outcomes), ["delivered"], "{case}");
        assert_eq!(
            count(&ears, &format!("<tls (Some(\"{want}\")")),
            1,
            "{case}: {:?}",
            ears.lock().unwrap().lines
        );
        let entry =
            if at == "nobody.example" { "none a.example +".to_owned() } else { format!("tlsa {want} +") };
        assert_eq!(all_entries(&w), [entry], "{case}");
    }
}

// D70 to D75, R6, STS-75: DANE stands for itself over a signed MX set, and beside MTA-STS over another.
#[tokio::test]
async fn dane_and_mta_sts_each_keep_their_word() {
    let (trusted, unknown) = (Authority::new(), Authority::new());
    let good = trusted.leaf(HOST, |_| {});
    let expired = |p: &mut rcgen::CertificateParams| {
        p.not_before = date_time_ymd(2020, 1, 1);
        p.not_after = date_time_ymd(2020, 2, 1);
    };
    let (old, own) = (trusted.leaf(HOST, expired), unknown.leaf(HOST, |_| {}));
    let stale = own.tlsa();
    for (case, mx_secure, leaf, record, listed, want) in [
        ("D70", true, &old, old.tlsa(), HOST, Ok("tlsa mx.example.net +")),
        (
            "D71",
            true,
            &good,
            stale.clone(),
            HOST,
            Err("tlsa mx.example.net -validation-failure/dane-no-match"),
        ),
        ("D72", true, &own, own.tlsa(), "other.example.net", Ok("tlsa mx.example.net +")),
        ("D73", false, &good, good.tlsa(), HOST, Ok("tlsa mx.example.net + sts a.example +")),
        (
            "D74",
            false,
            &own,
            own.tlsa(),
            HOST,
            Err("tlsa mx.example.net + sts a.example -certificate-not-trusted/"),
        ),
        (
            "D75",
            false,
            &good,
            stale,
            HOST,
            Err("tlsa mx.example.net -validation-failure/dane-no-match sts a.example +"),
        ),
        (
            "D76",
            false,
            &good,
            good.tlsa(),
            "other.example.net",
            Err("sts a.example -validation-failure/sts-mx-mismatch"),
        ),
    ] {
        let (port, ears) = serve("127.0.0.1", 0, with(leaf.server(rustls::DEFAULT_VERSIONS))).await;
        let w = World::new(port, trusted.tls());
        w.signed_route("a.example", mx_secure, &[(HOST, &["127.0.0.1"])]);
        publish(&w, HOST, port, &[&record]);
        w.enforce("a.example", &[listed]);
        let (_, outcomes) = w.deliver("a.example", 1).await;
        let got = all_entries(&w).join(" ");
        match want {
            Ok(entries) => {
                assert_eq!(
                    (words(&outcomes), level(&outcomes[0])),
                    (vec!["delivered"], Some(Level::Dane)),
                    "{case}: {outcomes:?}"
                );
                assert_eq!(got, entries, "{case}");
            }
            Err(entries) => {
                assert_eq!(words(&outcomes), ["deferred"], "{case}");
                assert!(enhanced(&outcomes[0]).starts_with("4.7."), "{case}");
                assert_eq!(count(&ears, "MAIL"), 0, "{case}");
                assert!(got.starts_with(entries), "{case}: {got}");
            }
        }
    }
}

// D118: a TLS report goes out whatever the records say, and leaves none of its own.
#[tokio::test]
async fn a_report_passes_broken_records_unrecorded() {
    let leaf = Authority::new().leaf(HOST, |_| {});
    let stale = format!("3 1 1 {}", "00".repeat(32));
    for record in [stale.as_str(), "BOGUS"] {
        let (w, _) = signed(with(leaf.server(rustls::DEFAULT_VERSIONS)), &[record]).await;
        let mut report = lease("a.example", 1);
        report.message = Arc::new(MessageMeta { origin: Origin::TlsReport, ..(*report.message).clone() });
        let (_, outcomes) = w.run(&report).await;
        assert_eq!(
            (words(&outcomes), level(&outcomes[0])),
            (vec!["delivered"], Some(Level::Encrypted)),
            "{record}"
        );
        assert_eq!(all_entries(&w), Vec::<String>::new());
    }
}

// DANE-24: what was shown is told in the form of what is published, so that people can compare the two.
#[tokio::test]
async fn a_mismatch_tells_the_records_that_the_certificate_would_match() {
    let authority = Authority::new();
    let (shown, published) = (authority.leaf(HOST, |_| {}), authority.leaf(HOST, |_| {}));
    let (w, _) = signed(with(shown.server(rustls::DEFAULT_VERSIONS)), &[&published.tlsa()]).await;
    let (_, outcomes) = w.deliver("a.example", 1).await;
    let d = outcomes[0].diagnosis();
    let promise = d.broken_promise().unwrap();
    assert_eq!((&promise.mx, &promise.would_match), (&vec![published.tlsa()], &vec![shown.tlsa()]));
    // A copy of the right certificate already matches: what lacks is its key.
    let copied = authority.leaf(HOST, |_| {});
    let record = copied.tlsa();
    let (w, _) = signed(with(copied.without_its_key().server(rustls::DEFAULT_VERSIONS)), &[&record]).await;
    let (_, outcomes) = w.deliver("a.example", 1).await;
    assert_eq!(words(&outcomes), ["deferred"]);
    assert!(outcomes[0].diagnosis().promise.as_ref().is_none_or(|p| p.would_match.is_empty()));
}
