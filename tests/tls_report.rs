//! Our TLS reports as others see them: golden JSON, the schema of RFC 8460 §4.4, file names and packing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::Read as _;
use std::net::IpAddr;

use proptest::prelude::*;
use sealpost::clock::Timestamp;
use sealpost::mail::{Domain, Mailbox};
use sealpost::tlsrpt::aggregate::{Identity, report};
use sealpost::tlsrpt::read;
use sealpost::tlsrpt::report::{Detail, PackError, Report};
use sealpost::tlsrpt::{AppliedPolicy, Day, DayCounters, DetailCounter, PolicyCounters, ResultType};

#[path = "tls_report/schema.rs"]
mod schema;

fn domain(text: &str) -> Domain {
    Domain::parse_host(text).unwrap()
}

fn identity() -> Identity {
    Identity {
        organization: "Example Net".into(),
        contact: Mailbox::parse("tls-reports@example.net").unwrap(),
    }
}

fn day() -> Day {
    "2026-03-01".parse().unwrap()
}

fn row(result: ResultType, count: u64) -> DetailCounter {
    DetailCounter {
        result,
        reason: None,
        mx_host: Some(domain("mx1.example.org")),
        mx_helo: Some("mx1.example.org".into()),
        sending_ip: Some("192.0.2.1".parse().unwrap()),
        receiving_ip: Some("203.0.113.7".parse().unwrap()),
        count,
    }
}

fn sts() -> AppliedPolicy {
    AppliedPolicy::Sts {
        domain: domain("example.org"),
        lines: [
            "version: STSv1",
            "mode: enforce",
            "mx: mx1.example.org",
            "mx: *.mail.example.org",
            "future: x ",
            "max_age: 604800",
        ]
        .map(str::to_owned)
        .to_vec(),
        mx: vec!["mx1.example.org".into(), "*.mail.example.org".into()],
    }
}

fn counters(policies: Vec<PolicyCounters>) -> DayCounters {
    DayCounters { day: day(), domain: domain("example.org"), policies }
}

fn a_day_with_everything() -> DayCounters {
    let expired = DetailCounter {
        sending_ip: Some("::ffff:192.0.2.1".parse().unwrap()),
        receiving_ip: Some("2001:db8:0:0::25".parse().unwrap()),
        ..row(ResultType::CertificateExpired, 2)
    };
    let mismatch = DetailCounter {
        reason: Some("sts-mx-mismatch".into()),
        mx_host: Some(domain("old.example.org")),
        mx_helo: None,
        sending_ip: None,
        receiving_ip: None,
        ..row(ResultType::ValidationFailure, 1)
    };
    let stale = DetailCounter {
        reason: Some("http-500".into()),
        mx_host: None,
        mx_helo: None,
        sending_ip: None,
        receiving_ip: None,
        ..row(ResultType::StsPolicyFetchError, 4)
    };
    let no_match =
        DetailCounter { reason: Some("dane-no-match".into()), ..row(ResultType::ValidationFailure, 1) };
    let unfetched = AppliedPolicy::Sts { domain: domain("example.org"), lines: vec![], mx: vec![] };
    let records = ["3 1 1 8D02536C887482BC34FF54E41D2BA659BF85B341A0A20AFADB5813DCFBCF286D", "9 9 9 00"];
    let tlsa = AppliedPolicy::Tlsa {
        domain: domain("mx1.example.org"),
        records: records.map(str::to_owned).to_vec(),
    };
    let none = AppliedPolicy::NoPolicyFound { domain: domain("example.org") };
    let counted = |policy, success, failure, details| PolicyCounters { policy, success, failure, details };
    counters(vec![
        counted(sts(), 120, 3, vec![mismatch, expired, stale.clone()]),
        counted(unfetched, 0, 4, vec![stale]),
        counted(tlsa, 7, 1, vec![no_match]),
        counted(none, 2, 0, vec![]),
    ])
}

fn pretty(report: &Report) -> String {
    serde_json::to_string_pretty(report).unwrap() + "\n"
}

/// The file as a person reviewed it. `UPDATE_GOLDEN=1` writes it anew.
fn golden(name: &str, got: &str) {
    let path = format!("{}/tests/tls_report/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, got).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(got, want, "{name}");
}

// RPT-41, 42, 45 to 51, 53 to 57
#[test]
fn a_day_with_everything_reads_as_reviewed() {
    let report = report(&a_day_with_everything(), &identity(), None, 0x0123_4567_89ab_cdef);
    golden("a_day_with_everything.json", &pretty(&report));
    schema::check(pretty(&report).as_bytes()).unwrap();
    assert_eq!(report.sessions(), (129, 8));
}

// RPT-72, RPT-51: only successes
#[test]
fn a_quiet_day_reads_as_reviewed() {
    let policies = vec![PolicyCounters { policy: sts(), success: 1, failure: 0, details: vec![] }];
    let report = report(&counters(policies), &identity(), None, 1);
    golden("only_successes.json", &pretty(&report));
    schema::check(pretty(&report).as_bytes()).unwrap();
}

// RPT-42, RPT-71, RPT-74
#[test]
fn a_closed_day_is_covered_whole_and_a_running_one_up_to_now() {
    let at = |text| Timestamp::parse_rfc3339(text).unwrap();
    for (partial_until, end) in [
        (None, "2026-03-01T23:59:59Z"),
        (Some(at("2026-03-01T09:30:00.9Z")), "2026-03-01T09:30:00Z"),
        (Some(at("2026-03-04T09:30:00Z")), "2026-03-01T23:59:59Z"),
        (Some(at("2026-02-04T09:30:00Z")), "2026-03-01T00:00:00Z"),
    ] {
        let report = report(&a_day_with_everything(), &identity(), partial_until, 7);
        let json = schema::check(pretty(&report).as_bytes()).unwrap();
        assert_eq!(json.at("date-range/start-datetime"), &schema::Json::Text("2026-03-01T00:00:00Z".into()));
        assert_eq!(json.at("date-range/end-datetime"), &schema::Json::Text(end.into()));
        let seconds = at(end).as_secs();
        assert_eq!(
            report.file_name(),
            format!("example.net!example.org!1772323200!{seconds}!0000000000000007.json.gz")
        );
    }
    assert_eq!((1_772_323_200 % 86_400, 1_772_323_200 + 86_399), (0, at("2026-03-01T23:59:59Z").as_secs()));
}

// RPT-43, RPT-44
#[test]
fn the_report_id_is_a_message_id_of_the_submitter() {
    let report = report(&a_day_with_everything(), &identity(), None, u64::MAX);
    assert_eq!(report.report_id(), "20260301.example.org.ffffffffffffffff@example.net");
    let nameless = Identity { organization: " ".into(), ..identity() };
    let report = sealpost::tlsrpt::aggregate::report(&a_day_with_everything(), &nameless, None, 1);
    assert_eq!(report.body().organization_name, "example.net");
}

// RPT-53
#[test]
fn addresses_that_read_alike_are_one_row() {
    let plain = row(ResultType::CertificateExpired, 2);
    let mapped = DetailCounter { sending_ip: Some("::ffff:192.0.2.1".parse().unwrap()), ..plain.clone() };
    let policies =
        vec![PolicyCounters { policy: sts(), success: 0, failure: 4, details: vec![plain, mapped] }];
    let report = report(&counters(policies), &identity(), None, 1);
    let details = &report.body().policies[0].failure_details;
    assert_eq!((details.len(), details[0].failed_session_count), (1, 4));
    assert_eq!(details[0].sending_mta_ip.as_deref(), Some("192.0.2.1"));
}

// RPT-53, RPT-54, RPT-56: the session only carried the news.
#[test]
fn a_failed_fetch_names_no_mx_host_and_no_address() {
    let fetch = [ResultType::StsPolicyFetchError, ResultType::StsPolicyInvalid, ResultType::StsWebpkiInvalid];
    let details = fetch.map(|result| row(result, 1)).to_vec();
    let policies = vec![PolicyCounters { policy: sts(), success: 0, failure: 3, details }];
    let report = report(&counters(policies), &identity(), None, 1);
    for (detail, result) in report.body().policies[0].failure_details.iter().zip(fetch) {
        let want = Detail { result_type: result.to_string(), failed_session_count: 1, ..Detail::default() };
        assert_eq!(*detail, want);
    }
}

// RPT-55, RPT-59
#[test]
fn what_a_peer_said_is_left_out_when_it_is_no_plain_word() {
    for bad in ["", "a b", "\u{7f}", "\u{fc}", "a\r\nb", &"h".repeat(256)] {
        let details = vec![DetailCounter {
            mx_helo: Some(bad.into()),
            reason: Some(bad.into()),
            ..row(ResultType::ValidationFailure, 1)
        }];
        let policies = vec![PolicyCounters { policy: sts(), success: 0, failure: 1, details }];
        let report = report(&counters(policies), &identity(), None, 1);
        let detail = &report.body().policies[0].failure_details[0];
        assert_eq!((&detail.receiving_mx_helo, &detail.failure_reason_code), (&None, &None), "{bad:?}");
    }
}

// RPT-75, RPT-76
#[test]
fn a_report_that_is_too_large_keeps_its_summaries_and_the_most_frequent_failures() {
    let details = (1..=1000_u64)
        .map(|n| DetailCounter {
            mx_helo: Some(format!("h{}.example.org", n * 7_919 % 1_000_003)),
            ..row(ResultType::ValidationFailure, n)
        })
        .collect();
    let policies = vec![
        PolicyCounters { policy: sts(), success: 5, failure: 500_500, details },
        PolicyCounters {
            policy: AppliedPolicy::NoPolicyFound { domain: domain("example.org") },
            success: 1,
            failure: 0,
            details: vec![],
        },
    ];
    let report = report(&counters(policies), &identity(), None, 1);
    let whole = report.clone().pack(usize::MAX).unwrap();
    assert_eq!(whole.gzip[..2], [0x1f, 0x8b]);
    assert_eq!(unpacked(&whole.gzip), serde_json::to_vec(&report).unwrap());

    let max = whole.gzip.len() / 3;
    let small = report.clone().pack(max).unwrap();
    assert!(small.gzip.len() <= max);
    assert_eq!((&small.report_id, &small.file_name), (&whole.report_id, &whole.file_name));
    schema::check(&unpacked(&small.gzip)).unwrap();
    let body = read::read(&small.gzip).remove(0).unwrap();
    assert_eq!(body.sessions(), (6, 500_500));
    let kept = &body.policies[0].failure_details;
    assert!((1..1000).contains(&kept.len()), "{}", kept.len());
    assert_eq!(kept[0].failed_session_count, 1000);

    assert!(matches!(report.pack(10), Err(PackError::TooLarge(_))));
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(gzip).read_to_end(&mut plain).unwrap();
    plain
}

// The checker itself refuses what it should, one fault at a time.
#[test]
fn the_schema_names_every_fault() {
    let good = pretty(&report(&a_day_with_everything(), &identity(), None, 1));
    for (what, from, to) in [
        ("RPT-40", "{\n  \"organization-name\"", "\u{feff}{\n  \"organization-name\""),
        ("occurs twice", "\"contact-info\"", "\"report-id\": \"x\", \"contact-info\""),
        ("RPT-40", ": 120,", ": 9007199254740992,"),
        ("floating point", ": 120,", ": 120.0,"),
        ("RPT-42", "T23:59:59Z", "T24:00:00.0Z"),
        ("RPT-44", "20260301.example.org.", "2026:03:01.example.org."),
        ("RPT-46", "\"no-policy-found\"", "\"none\""),
        ("policy-domain is missing", "\"policy-domain\": \"mx1.example.org\"", "\"policy-domaim\": \"\""),
        ("RPT-52", "certificate-expired", "other"),
        ("RPT-53", "\"sending-mta-ip\": \"192.0.2.1\"", "\"sending-mta-ip\": \"::ffff:192.0.2.1\""),
        ("RPT-57", "\"failed-session-count\": 4", "\"failed-session-count\": 0"),
        ("RPT-60", "sts-policy-fetch-error", "tlsa-invalid"),
        ("failure-details is missing", "\"failure-details\": []", "\"failure-detail\": []"),
        ("invalid type: null", "\"certificate-expired\"", "null"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{what}: {from}");
        let fault = schema::check(bad.as_bytes()).unwrap_err();
        assert!(fault.contains(what), "{what}: {fault}");
    }
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[!-~]{1,20}", any::<String>(), Just("\u{fdd0}\u{ffff}".to_owned())]
}

fn any_policy() -> impl Strategy<Value = AppliedPolicy> {
    let texts = || prop::collection::vec(any_text(), 0..3);
    prop_oneof![
        (texts(), texts()).prop_map(|(lines, mx)| AppliedPolicy::Sts {
            domain: domain("example.org"),
            lines,
            mx
        }),
        prop::collection::vec("[0-3] [01] [012] [0-9A-F]{8}", 1..3)
            .prop_map(|records| AppliedPolicy::Tlsa { domain: domain("mx.example.org"), records }),
        Just(AppliedPolicy::NoPolicyFound { domain: domain("example.org") }),
    ]
}

fn any_row() -> impl Strategy<Value = DetailCounter> {
    let ip = || prop::option::of(any::<IpAddr>());
    (
        prop::sample::select(ResultType::ALL.to_vec()),
        prop::option::of(any_text()),
        prop::option::of(any_text()),
        ip(),
        ip(),
        prop_oneof![0..3_u64, any::<u64>()],
    )
        .prop_map(|(result, reason, mx_helo, sending_ip, receiving_ip, count)| DetailCounter {
            result,
            reason,
            mx_host: Some(domain("mx.example.org")),
            mx_helo,
            sending_ip,
            receiving_ip,
            count,
        })
}

fn any_counters() -> impl Strategy<Value = DayCounters> {
    let one = (any_policy(), any::<u64>(), any::<u64>(), prop::collection::vec(any_row(), 0..6))
        .prop_map(|(policy, success, failure, details)| PolicyCounters { policy, success, failure, details });
    prop::collection::vec(one, 0..5).prop_map(counters)
}

proptest! {
    // RPT-40 to RPT-61, whatever was counted.
    #[test]
    fn every_report_fits_the_schema_and_reads_back(counted in any_counters(), name: String, random: u64) {
        let identity = Identity { organization: name, ..identity() };
        let report = report(&counted, &identity, None, random);
        let json = serde_json::to_vec(&report).unwrap();
        if let Err(fault) = schema::check(&json) {
            prop_assert!(false, "{}: {}", fault, String::from_utf8_lossy(&json));
        }
        let packed = report.clone().pack(usize::MAX).unwrap();
        let read = read::read(&packed.gzip).remove(0).unwrap();
        prop_assert_eq!(read.sessions(), report.sessions());
    }

    // The order of counting leaves no trace.
    #[test]
    fn rows_come_in_one_order(mut rows in prop::collection::vec(any_row(), 0..6), seed: usize) {
        let of = |details| {
            let policies = vec![PolicyCounters { policy: sts(), success: 0, failure: 0, details }];
            serde_json::to_string(&report(&counters(policies), &identity(), None, 1)).unwrap()
        };
        let before = of(rows.clone());
        if !rows.is_empty() {
            let n = rows.len();
            rows.rotate_left(seed % n);
            rows.reverse();
        }
        prop_assert_eq!(of(rows), before);
    }
}
