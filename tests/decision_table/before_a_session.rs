//! Rows that are decided before any host is spoken to: what the DNS says of the next hop, where TLSA records are looked
//! for, and whether there is a policy. And that no row of the ledger is left out.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::FutureExt as _;
use sealpost::clock::Timestamp;
use sealpost::dane::TlsaAnswer;
use sealpost::dane::lookup::look_up;
use sealpost::delivery::classify::{self, Decision, HostFailure, Ruling};
use sealpost::dns::zone::ZoneResolver;
use sealpost::mail::Domain;
use sealpost::mtasts::decide::{Limits, Step, Txt, step};
use sealpost::mtasts::record::NoRecord;
use sealpost::mtasts::{DomainMemory, Mode, Policy, StoredPolicy};
use sealpost::route::resolve::resolve;
use sealpost::route::{Route, RouteFailure, RouteKind, RouteSettings};
use sealpost::security::decide::{Asked, Demand, Gate, MessageKind, Sources, decide};

fn domain(name: &str) -> Domain {
    Domain::parse(name).unwrap()
}

fn route(zone: &str) -> Result<Route, RouteFailure> {
    let zone = ZoneResolver::new(zone).unwrap();
    resolve(&zone, &RouteSettings::default(), &domain("d.example"), 7).now_or_never().unwrap()
}

fn outcome(ruling: &Ruling) -> String {
    let word = if matches!(ruling.decision, Decision::Failed(_)) { "BOUNCE" } else { "DEFER" };
    format!("{word} {}", ruling.enhanced)
}

// D01 to D05, D117, R1, NMX-06. What a message says of TLS has no part in it, so that D117 is D01 once more (RTLS-52).
#[test]
fn rows_that_end_with_the_route() {
    for (id, zone, enforce, persisted, want) in [
        ("D01 servfail", "d.example MX SERVFAIL\n d.example A 192.0.2.1", false, false, "DEFER 4.4.3"),
        ("D01 timeout", "d.example MX TIMEOUT", true, true, "DEFER 4.4.3"),
        ("D01 bogus", "d.example MX BOGUS", false, true, "DEFER 4.4.3"),
        ("D117", "d.example MX BOGUS\n d.example A 192.0.2.1", false, false, "DEFER 4.4.3"),
        ("D02", "other.example A 192.0.2.1", false, false, "BOUNCE 5.1.2"),
        ("D03", "d.example MX 0 .", false, false, "BOUNCE 5.1.10"),
        ("D04", "d.example MX 0 .", true, false, "DEFER 4.7.0"),
        ("D04 NXDOMAIN", "other.example A 192.0.2.1", true, false, "DEFER 4.7.0"),
        ("D04 persisted", "d.example MX 0 .", true, true, "BOUNCE 5.1.10"),
        ("D04 secure", "d.example MX 0 .\n secure d.example", true, false, "BOUNCE 5.1.10"),
        ("D05", "d.example MX 10 a.example\n a.example A SERVFAIL", false, false, "DEFER 4.4.3"),
    ] {
        let failure = route(zone).unwrap_err();
        let ruling = classify::route(&failure, &domain("d.example"), enforce, persisted);
        assert_eq!(outcome(&ruling), want, "{id}");
    }
}

// D05: a host without an address is passed over, and the next one is there.
#[test]
fn d05_a_lookup_that_failed_for_one_host_leaves_the_others() {
    let hosts = "d.example MX 10 a.example\n d.example MX 20 b.example\n a.example A SERVFAIL\n b.example A 192.0.2.1";
    let hosts = route(hosts).unwrap().hosts;
    assert_eq!(hosts.iter().map(|h| h.addresses.is_ok()).collect::<Vec<_>>(), [false, true]);
}

// M7, DANE-13: which of two hosts has TLSA records is not asked before they are in order.
#[test]
fn m7_equal_preferences_are_in_random_order_whoever_has_tlsa_records() {
    let zone = "d.example MX 10 a.example\n d.example MX 10 b.example\n a.example A 192.0.2.1\n b.example A 192.0.2.2\n\
                secure d.example\n secure a.example\n secure b.example\n _25._tcp.b.example TLSA 3 1 1 aa";
    let zone = ZoneResolver::new(zone).unwrap();
    let first = |seed| {
        let route =
            resolve(&zone, &RouteSettings::default(), &domain("d.example"), seed).now_or_never().unwrap();
        route.unwrap().hosts[0].name.to_string()
    };
    let firsts: BTreeSet<String> = (0..64).map(first).collect();
    assert_eq!(firsts.len(), 2, "{firsts:?}");
    assert!(zone.queries().iter().all(|q| !q.starts_with("TLSA")));
}

// D28
#[test]
fn d28_who_cannot_be_connected_to_is_passed_over_and_leaves_no_record() {
    let (next_hop, host) = (domain("example.net"), domain("mx.example.net"));
    let gate = decide(&Sources {
        next_hop: &next_hop,
        host: &host,
        name_assured: false,
        identified: false,
        tlsa: &TlsaAnswer::None,
        references: std::slice::from_ref(&host),
        require_both: false,
        policy: None,
        fetch_failure: None,
        operator: Demand::VERIFIED,
        floor: Demand::NOTHING,
        exception: None,
        message: MessageKind::Normal,
        asked: Asked::All,
    });
    let Gate::Contact(policy) = gate else { panic!("it is to be contacted") };
    let at = "192.0.2.1:25".parse().unwrap();
    let failure = HostFailure::Connect { at, words: "refused".to_owned(), local: false };
    let ruling = classify::host(&failure, &domain("mx.example.net"), &policy);
    assert_eq!(outcome(&ruling.transient), "DEFER 4.4.1");
    assert!(ruling.permanent.is_none());
}

// D50 (S), D60 (i), D61 (sc), D62 (Ns): where DNSSEC vouches for what, and so where TLSA records are looked for.
#[test]
fn rows_by_what_dnssec_vouches_for() {
    const TLSA: &str = "TLSA 3 1 1 d2abde240d7cd3ee6b4b28c54df034b97983a1d16e8a410e4561cb106618e971";
    let mx = "d.example MX 10 mx.example\n secure d.example\n mx.example A 192.0.2.1";
    for (id, zone, kind, mx_secure, base) in [
        (
            "D50",
            format!("{mx}\n secure mx.example\n _25._tcp.mx.example {TLSA}"),
            RouteKind::Mx,
            true,
            Some("mx.example"),
        ),
        ("D60", format!("{mx}\n _25._tcp.mx.example {TLSA}"), RouteKind::Mx, true, None),
        (
            "D61",
            format!(
                "d.example MX 10 mx.example\n secure d.example\n mx.example CNAME h.other\n h.other A 192.0.2.1\n\
                 secure mx.example\n _25._tcp.mx.example {TLSA}"
            ),
            RouteKind::Mx,
            true,
            Some("mx.example"),
        ),
        (
            "D62",
            format!("d.example A 192.0.2.1\n secure d.example\n _25._tcp.d.example {TLSA}"),
            RouteKind::ImplicitMx,
            true,
            Some("d.example"),
        ),
        (
            "D77",
            format!(
                "d.example MX 10 mx.example\n mx.example A 192.0.2.1\n secure mx.example\n _25._tcp.mx.example {TLSA}"
            ),
            RouteKind::Mx,
            false,
            Some("mx.example"),
        ),
    ] {
        let resolver = ZoneResolver::new(&zone).unwrap();
        let settings = RouteSettings::default();
        let route = resolve(&resolver, &settings, &domain("d.example"), 7).now_or_never().unwrap().unwrap();
        assert_eq!((route.kind, route.mx_secure), (kind, mx_secure), "{id}");
        let found = match look_up(&resolver, &route.hosts[0], 25).now_or_never().unwrap() {
            TlsaAnswer::Found(set) => Some(set.base.to_string()),
            TlsaAnswer::None => None,
            TlsaAnswer::Failed(e) => panic!("{id}: {e:?}"),
        };
        assert_eq!(found.as_deref(), base, "{id}");
    }
}

// D34, D35, D36, D37, R2, STS-12, STS-14, STS-57: whether there is a policy; then the row is D11, D24 or waits.
#[test]
fn rows_by_what_is_known_of_the_policy() {
    let at = |minutes: i64| Timestamp::from_millis(1_795_333_080_000 + minutes * 60_000);
    let stored = |expires| StoredPolicy {
        domain: domain("d.example"),
        id: "1".into(),
        policy: Policy {
            mode: Mode::Enforce,
            mx: vec!["mx.example".into()],
            max_age: Duration::from_secs(86_400),
            lines: Vec::new(),
        },
        fetched: at(-2000),
        expires,
        last_used: at(-10),
    };
    let grace = |started| DomainMemory { grace_started: Some(started), ..DomainMemory::default() };
    let tried = DomainMemory { refresh_tried: Some(at(-1)), ..DomainMemory::default() };
    let none = DomainMemory::default();
    for (id, stored, memory, txt, want) in [
        ("D34", None, &none, Txt::Failed, Step::Wait { start: true }),
        ("D34 in grace", None, &grace(at(-14)), Txt::Failed, Step::Wait { start: false }),
        ("D35", None, &grace(at(-16)), Txt::Failed, Step::NoPolicy),
        ("D36", Some(stored(at(60))), &none, Txt::Nothing(NoRecord::Missing), Step::UseStoredUndiscovered),
        ("D36 failed", Some(stored(at(60))), &none, Txt::Failed, Step::UseStoredUndiscovered),
        (
            "D37 asked once more",
            Some(stored(at(-5))),
            &none,
            Txt::Nothing(NoRecord::Missing),
            Step::Fetch { id: "1".into() },
        ),
        ("D37", Some(stored(at(-5))), &tried, Txt::Nothing(NoRecord::Missing), Step::NoPolicy),
    ] {
        assert_eq!(step(stored.as_ref(), memory, &txt, at(0), false, &Limits::default()), want, "{id}");
    }
}

/// The rows of section 3.3, and those with several candidates.
fn ledger() -> BTreeSet<String> {
    let runs = [1..=6, 10..=13, 20..=38, 40..=46, 50..=63, 70..=81, 90..=104, 110..=118];
    let rows = runs.into_iter().flatten().map(|n: u32| format!("D{n:02}"));
    rows.chain((1..=8).map(|n| format!("M{n}"))).collect()
}

// Every row of the decision table stands in some test by its name: here, at hosts, or among real programs.
#[test]
fn no_row_of_the_ledger_is_without_a_test() {
    fn texts(dir: &std::path::Path, all: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                texts(&path, all);
            } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("before_a_session.rs") {
                all.push_str(&std::fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all =
        include_str!("before_a_session.rs").split("/// The rows of section 3.3").next().unwrap().to_owned();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    for part in ["tests", "integration"] {
        texts(&root.join(part), &mut all);
    }
    let words: BTreeSet<&str> = all.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let missing: Vec<String> = ledger().into_iter().filter(|id| !words.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
