//! parsedmarc, which many receivers of TLS reports run, takes our JSON, our gzip and our mail without complaint and
//! finds the same numbers; `report read` finds them too.

use std::collections::BTreeSet;
use std::path::Path;

use sealpost::clock::Timestamp;
use sealpost::mail::{Domain, Mailbox};
use sealpost::tlsrpt::aggregate::{Identity, report};
use sealpost::tlsrpt::message::{ReportMail, compose};
use sealpost::tlsrpt::{AppliedPolicy, DayCounters, DetailCounter, PolicyCounters, ResultType};
use serde_json::{Value, json};

use crate::{program, python_with, run};

/// Prints, per file, what parsedmarc made of it: an array of reports in its own terms. No DNS, no downloads.
const PARSEDMARC: &str = r#"
import json, sys
import parsedmarc
out = []
for name in sys.argv[1:]:
    octets = open(name, "rb").read()
    if name.endswith(".json"):
        out.append(parsedmarc.parse_smtp_tls_report_json(octets.decode("utf-8")))
    elif name.endswith(".eml"):
        found = parsedmarc.parse_report_email(octets, offline=True, always_use_local_files=True)
        assert found["report_type"] == "smtp_tls", found["report_type"]
        out.append(found["report"])
    else:
        out.append(parsedmarc.parse_smtp_tls_report_json(parsedmarc.extract_report(octets)))
print(json.dumps(out))
"#;

/// What parsedmarc makes of each file.
pub(crate) async fn parsedmarc(python: &Path, files: &[&str]) -> Vec<Value> {
    let said = run(python, &[&["-c", PARSEDMARC], files].concat()).await;
    let line = said.lines().find(|l| l.starts_with('[')).unwrap_or_else(|| panic!("{said}"));
    let theirs: Vec<Value> = serde_json::from_str(line).unwrap();
    assert_eq!(theirs.len(), files.len(), "{said}");
    theirs
}

fn counted() -> DayCounters {
    let domain = |text| Domain::parse(text).unwrap();
    let row = |result, reason: Option<&str>, count| DetailCounter {
        result,
        reason: reason.map(str::to_owned),
        mx_host: Some(domain("mx1.example.org")),
        mx_helo: Some("mx1.example.org".to_owned()),
        sending_ip: Some("2001:db8::1".parse().unwrap()),
        receiving_ip: Some("203.0.113.7".parse().unwrap()),
        count,
    };
    let sts = AppliedPolicy::Sts {
        domain: domain("example.org"),
        lines: ["version: STSv1", "mode: enforce", "mx: mx1.example.org", "max_age: 604800"]
            .map(str::to_owned)
            .to_vec(),
        mx: vec!["mx1.example.org".to_owned()],
    };
    let unfetched = AppliedPolicy::Sts { domain: domain("example.org"), lines: vec![], mx: vec![] };
    let tlsa = AppliedPolicy::Tlsa {
        domain: domain("mx1.example.org"),
        records: vec!["3 1 1 8D02536C887482BC34FF54E41D2BA659BF85B341A0A20AFADB5813DCFBCF286D".to_owned()],
    };
    let none = AppliedPolicy::NoPolicyFound { domain: domain("example.org") };
    let entry = |policy, success, failure, details| PolicyCounters { policy, success, failure, details };
    DayCounters {
        day: "2026-03-01".parse().unwrap(),
        domain: domain("example.org"),
        policies: vec![
            entry(
                sts,
                120,
                3,
                vec![
                    row(ResultType::CertificateExpired, None, 2),
                    DetailCounter {
                        mx_helo: None,
                        sending_ip: None,
                        receiving_ip: None,
                        ..row(ResultType::ValidationFailure, Some("sts-mx-mismatch"), 1)
                    },
                ],
            ),
            entry(unfetched, 0, 4, vec![row(ResultType::StsPolicyFetchError, Some("http-500"), 4)]),
            entry(tlsa, 7, 1, vec![row(ResultType::ValidationFailure, Some("dane-no-match"), 1)]),
            entry(none, 2, 0, vec![]),
        ],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_gzip_and_mail_give_the_same_numbers() {
    let Some(python) = python_with("parsedmarc takes our reports", "parsedmarc").await else { return };
    let counted = counted();
    let from = Mailbox::parse("tls-reports@example.net").unwrap();
    let identity = Identity { organization: "Example Net".to_owned(), contact: from.clone() };
    let report = report(&counted, &identity, None, 42);
    let json = serde_json::to_vec(&report).unwrap();
    let packed = report.pack(10 << 20).unwrap();
    let mail = compose(&ReportMail {
        report_id: packed.report_id.clone(),
        domain: counted.domain.clone(),
        file_name: packed.file_name.clone(),
        packed: packed.gzip.clone(),
        from,
        to: Mailbox::parse("tlsrpt@example.org").unwrap(),
        hostname: Domain::parse("relay.example.net").unwrap(),
        now: Timestamp::parse_rfc3339("2026-03-02T00:17:00Z").unwrap(),
        random: 7,
    });
    let dir = tempfile::tempdir().unwrap();
    let files = [("report.json", &json), (&*packed.file_name, &packed.gzip.to_vec()), ("mail.eml", &mail)];
    let paths = files.map(|(name, octets)| {
        let path = dir.path().join(name);
        std::fs::write(&path, octets).unwrap();
        path.display().to_string()
    });
    let paths = paths.each_ref().map(String::as_str);

    let theirs = parsedmarc(&python, &paths).await;
    for (found, path) in theirs.iter().zip(paths) {
        assert_eq!(found["organization_name"], "Example Net", "{path}");
        assert_eq!(found["report_id"], json!(packed.report_id), "{path}");
        assert_eq!(found["contact_info"], "tls-reports@example.net", "{path}");
        let dates = (&found["begin_date"], &found["end_date"]);
        assert_eq!(dates, (&json!("2026-03-01T00:00:00Z"), &json!("2026-03-01T23:59:59Z")), "{path}");
        assert_eq!(numbers_of_parsedmarc(found), expected(), "{path}");
    }

    let ours = run(program(), &[&["report", "read", "--json"], &paths[..]].concat()).await;
    let ours: Vec<Value> = serde_json::from_str(&ours).unwrap_or_else(|e| panic!("{e}: {ours}"));
    assert_eq!(ours.len(), 3);
    for found in &ours {
        assert_eq!(found["report"], serde_json::from_slice::<Value>(&json).unwrap());
    }
}

/// Policy type, sessions good and failed, and per failure its type, reason, MX host and sessions.
pub(crate) type Numbers = BTreeSet<(String, u64, u64, Vec<(String, String, String, u64)>)>;

fn expected() -> Numbers {
    let detail =
        |result: &str, reason: &str, mx: &str, n| (result.to_owned(), reason.to_owned(), mx.to_owned(), n);
    let mx = "mx1.example.org";
    BTreeSet::from([
        (
            "sts".to_owned(),
            120,
            3,
            vec![
                detail("certificate-expired", "", mx, 2),
                detail("validation-failure", "sts-mx-mismatch", mx, 1),
            ],
        ),
        ("sts".to_owned(), 0, 4, vec![detail("sts-policy-fetch-error", "http-500", "", 4)]),
        ("tlsa".to_owned(), 7, 1, vec![detail("validation-failure", "dane-no-match", mx, 1)]),
        ("no-policy-found".to_owned(), 2, 0, vec![]),
    ])
}

pub(crate) fn numbers_of_parsedmarc(found: &Value) -> Numbers {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let policies = found["policies"].as_array().unwrap().iter().map(|policy| {
        let details = policy["failure_details"].as_array().into_iter().flatten().map(|d| {
            let count = d["failed_session_count"].as_u64().unwrap();
            (
                text(&d["result_type"]),
                text(&d["failure_reason_code"]),
                text(&d["receiving_mx_hostname"]),
                count,
            )
        });
        let sessions = |name: &str| policy[name].as_u64().unwrap();
        (
            text(&policy["policy_type"]),
            sessions("successful_session_count"),
            sessions("failed_session_count"),
            details.collect(),
        )
    });
    policies.collect()
}
