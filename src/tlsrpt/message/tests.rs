use proptest::prelude::*;

use super::*;
use crate::tlsrpt::aggregate::{Identity, report};
use crate::tlsrpt::{AppliedPolicy, DayCounters, DetailCounter, PolicyCounters, ResultType};

fn domain(text: &str) -> Domain {
    Domain::parse_host(text).unwrap()
}

fn counted(report_domain: &str) -> DayCounters {
    let row = |result, reason: Option<&str>, count| DetailCounter {
        result,
        reason: reason.map(str::to_owned),
        mx_host: Some(domain("mx1.example.org")),
        mx_helo: None,
        sending_ip: None,
        receiving_ip: None,
        count,
    };
    let sts = AppliedPolicy::Sts {
        domain: domain(report_domain),
        lines: vec!["version: STSv1".into()],
        mx: vec!["mx1.example.org".into()],
    };
    let details = vec![
        row(ResultType::CertificateExpired, None, 3),
        row(ResultType::ValidationFailure, Some("tls-alert-40"), 1),
    ];
    let none = AppliedPolicy::NoPolicyFound { domain: domain(report_domain) };
    DayCounters {
        day: "2026-03-01".parse().unwrap(),
        domain: domain(report_domain),
        policies: vec![
            PolicyCounters { policy: sts, success: 1200, failure: 4, details },
            PolicyCounters { policy: none, success: 7, failure: 0, details: vec![] },
        ],
    }
}

fn mail(counted: &DayCounters) -> ReportMail {
    let from = Mailbox::parse("tls-reports@example.net").unwrap();
    let identity = Identity { organization: "Example Net".into(), contact: from.clone() };
    let packed = report(counted, &identity, None, 1).pack(1 << 20).unwrap();
    ReportMail {
        report_id: packed.report_id,
        domain: counted.domain.clone(),
        file_name: packed.file_name,
        packed: packed.gzip,
        from,
        to: Mailbox::parse("tlsrpt@example.org").unwrap(),
        hostname: domain("relay.example.net"),
        now: Timestamp::parse_rfc3339("2026-03-02T00:17:00Z").unwrap(),
        random: 42,
    }
}

fn text(mail: &ReportMail) -> String {
    String::from_utf8(compose(mail)).unwrap()
}

fn unfolded(text: &str, name: &str) -> String {
    let header = text.split("\r\n\r\n").next().unwrap().replace("\r\n ", " ");
    let prefix = format!("{name}: ");
    let values: Vec<_> = header.lines().filter_map(|l| l.strip_prefix(&prefix)).collect();
    assert_eq!(values.len(), 1, "{name} in {header}");
    values[0].to_owned()
}

// RPT-77, RPT-78, RPT-79, RPT-85, RPT-86: reviewed by eye
#[test]
fn a_report_by_mail_reads_as_reviewed() {
    let text = text(&mail(&counted("example.org")));
    // What gzip makes of it is the packer's business.
    let (head, rest) = text.split_once("json.gz\"\r\n\r\n").unwrap();
    let (base64, tail) = rest.split_once("\r\n\r\n").unwrap();
    assert!(base64.lines().all(|l| l.len() <= 76));
    insta::assert_snapshot!(format!("{head}json.gz\"\r\n\r\n[base64]\r\n\r\n{tail}").replace("\r\n", "\n"));
}

// RPT-79
#[test]
fn the_subject_unfolds_to_the_words_of_rfc_8460() {
    let long = format!("{}.{}.example.org", "a".repeat(60), "b".repeat(60));
    for name in ["example.org", long.as_str(), "xn--bcher-kva.example"] {
        let mail = mail(&counted(name));
        let text = text(&mail);
        let want = format!("Report Domain: {name} Submitter: example.net Report-ID: <{}>", mail.report_id);
        assert_eq!(unfolded(&text, "Subject"), want);
        assert!(!text.contains("=?"));
    }
}

// RPT-92: what the message says of the report comes from its octets.
#[test]
fn another_body_makes_another_text() {
    let one = mail(&counted("example.org"));
    let mut other = counted("example.org");
    other.policies[0].success = 31;
    let two = ReportMail { packed: mail(&other).packed, ..one.clone() };
    assert!(text(&one).contains("asks: 1207\r\n") && text(&two).contains("asks: 38\r\n"));
}

// RPT-78, RPT-44, RPT-74: header, file name and body name the same.
#[test]
fn header_file_name_and_body_agree() {
    let mail = mail(&counted("example.org"));
    let text = text(&mail);
    let body = read::read(text.as_bytes()).remove(0).unwrap();
    assert_eq!(body.report_id, mail.report_id);
    assert_eq!(body.contact_info, "tls-reports@example.net");
    assert_eq!(unfolded(&text, "TLS-Report-Submitter"), "example.net");
    assert_eq!(unfolded(&text, "TLS-Report-Domain"), "example.org");
    assert!(text.contains(
        "\r\n filename=\"example.net!example.org!1772323200!1772409599!0000000000000001.json.gz\"\r\n"
    ));
}

#[test]
fn many_failures_are_told_in_short() {
    let mut counted = counted("example.org");
    let row = counted.policies[0].details[0].clone();
    counted.policies[0].details =
        (1..=50).map(|n| DetailCounter { mx_helo: Some(format!("h{n}")), count: n, ..row.clone() }).collect();
    let text = text(&mail(&counted));
    assert_eq!(text.matches(" x certificate-expired").count(), MAX_ROWS);
    assert!(text.contains("\r\n50 x certificate-expired at mx1.example.org\r\n"));
    assert!(text.contains("\r\nand 40 more rows in the attachment\r\n"));
}

proptest! {
    // RFC 5322 §2.1.1, RFC 2045 §2.7
    #[test]
    fn every_line_can_be_sent(reason: String, local in "[a-z0-9]{1,64}", random: u128, packed: Vec<u8>, ours: bool) {
        let mut counted = counted(&format!("{0}.{0}.{0}.example", "d".repeat(60)));
        counted.policies[0].details[0].reason = Some(reason);
        let mut mail = mail(&counted);
        mail.random = random;
        mail.to = Mailbox::parse(&format!("{local}@example.org")).unwrap();
        if !ours {
            mail.packed = packed.into();
        }
        let text = text(&mail);
        prop_assert!(text.is_ascii() && text.ends_with("--\r\n"));
        for line in text.split("\r\n") {
            prop_assert!(line.len() <= 998 && !line.contains(['\r', '\n', '\0']));
        }
    }
}
