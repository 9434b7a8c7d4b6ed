//! RPT-77: a second, independent reader. Python's email package, in strict mode, reads what `tlsrpt::message`
//! writes, and its gzip and json give the same report.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use sealpost::clock::Timestamp;
use sealpost::mail::{Domain, Mailbox};
use sealpost::tlsrpt::aggregate::{Identity, report};
use sealpost::tlsrpt::message::{ReportMail, compose};
use sealpost::tlsrpt::{AppliedPolicy, DayCounters, PolicyCounters};

/// Any defect is an error. Prints facts line by line, then the JSON as it came out.
const READER: &str = r#"
import sys, email, email.policy, gzip, json
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTP.clone(raise_on_defect=True))
print(m.get_content_type(), m.get_param("report-type"), m["mime-version"])
for name in ["subject", "tls-report-domain", "tls-report-submitter", "tls-required", "auto-submitted", "date"]:
    assert len(m.get_all(name)) == 1
    print(m[name])
print(m["from"].addresses[0].addr_spec, m["to"].addresses[0].addr_spec, m["message-id"])
text, attachment = m.iter_parts()
assert not list(text.walk())[0].defects and not attachment.defects
print(text.get_content_type(), len(text.get_content().splitlines()) > 5)
print(attachment.get_content_type(), attachment.get_content_disposition(), attachment["content-transfer-encoding"])
print(attachment.get_filename())
body = gzip.decompress(attachment.get_content())
assert json.loads(body)["report-id"] in m["subject"]
print(body.decode("utf-8"))
"#;

#[test]
fn python_reads_a_report_and_its_numbers() {
    let domain = |text| Domain::parse(text).unwrap();
    let counted = DayCounters {
        day: "2026-03-01".parse().unwrap(),
        domain: domain("bücher.example"),
        policies: vec![PolicyCounters {
            policy: AppliedPolicy::NoPolicyFound { domain: domain("bücher.example") },
            success: 12_345,
            failure: 0,
            details: vec![],
        }],
    };
    let from = Mailbox::parse("tls-reports@example.net").unwrap();
    let identity = Identity { organization: "Beispiel GmbH, Köln".into(), contact: from.clone() };
    let report = report(&counted, &identity, None, 0xabc);
    let json = serde_json::to_string(&report).unwrap();
    let packed = report.pack(10 << 20).unwrap();
    let mail = compose(&ReportMail {
        report_id: packed.report_id,
        domain: counted.domain,
        file_name: packed.file_name,
        packed: packed.gzip,
        from,
        to: Mailbox::parse("\"tls reports\"@xn--bcher-kva.example").unwrap(),
        hostname: domain("relay.example.net"),
        now: Timestamp::parse_rfc3339("2026-03-02T00:17:00Z").unwrap(),
        random: 42,
    });

    let mut python = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("python3 is needed for this test: {e}"));
    python.stdin.take().unwrap().write_all(&mail).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    let got = String::from_utf8(output.stdout).unwrap();
    let want = [
        "multipart/report tlsrpt 1.0",
        "Report Domain: xn--bcher-kva.example Submitter: example.net Report-ID: \
         <20260301.xn--bcher-kva.example.0000000000000abc@example.net>",
        "xn--bcher-kva.example",
        "example.net",
        "No",
        "auto-generated",
        "Mon, 02 Mar 2026 00:17:00 +0000",
        "tls-reports@example.net \"tls reports\"@xn--bcher-kva.example \
         <0000000000000000000000000000002a@relay.example.net>",
        "text/plain True",
        "application/tlsrpt+gzip attachment base64",
        "example.net!xn--bcher-kva.example!1772323200!1772409599!0000000000000abc.json.gz",
        &json,
    ];
    assert_eq!(got.lines().collect::<Vec<_>>(), want);
}
