//! DSN-06: a second, independent reader. Python's email package reads what `dsn::compose` writes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::io::Write as _;
use std::process::{Command, Stdio};

use sealpost::clock::Timestamp;
use sealpost::dsn::{DsnContext, DsnKind, DsnSettings, Original, Reported, compose};
use sealpost::mail::{Domain, EnhancedCode, ForwardPath, Origin, QueueId, Ret, ReversePath, Xtext};
use sealpost::queue::outcome::Stage;
use sealpost::queue::{Diagnosis, LeasedRecipient, MessageMeta};

/// Prints one line per fact: content types, defects, and every field of the delivery report.
const READER: &str = r#"
import sys, email, email.policy
m = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
print(m.get_content_type(), m.get_param("report-type"), m["auto-submitted"], m["from"], m["to"])
for part in m.walk():
    for defect in part.defects:
        print("defect", type(defect).__name__)
for part in m.iter_parts():
    print("part", part.get_content_type())
for group in m.get_payload(1).get_payload():
    print("group")
    for name, value in group.items():
        print(name + "=" + " ".join(str(value).split()))
last = m.get_payload(2)
print("subject", last.get_payload(0)["subject"] if last.is_multipart() else last.get_payload().count("Subject: hello"))
"#;

fn read_by_python(kind: DsnKind, ret: Option<Ret>) -> Vec<String> {
    let now = Timestamp::parse_rfc3339("2026-11-22T07:38:00Z").unwrap();
    let message = MessageMeta {
        id: QueueId::from_bytes([7; 16]),
        origin: Origin::Submitted,
        reverse_path: ReversePath::parse("app@example.net").unwrap(),
        ret,
        envid: Xtext::parse("QQ+2B1"),
        sender_tls: sealpost::mail::SenderTls::Unsaid,
        smtputf8: false,
        has_8bit: false,
        size: 100,
        arrived: now,
        message_id: "<m1@example.net>".to_owned(),
    };
    let recipients: Vec<_> = ["bob@example.org", "carol@example.org"]
        .iter()
        .map(|address| LeasedRecipient {
            no: 0,
            path: ForwardPath::parse(address).unwrap(),
            notify: None,
            orcpt: None,
            attempts: 1,
            next_attempt: now,
            last: None,
        })
        .collect();
    let diagnosis = Diagnosis {
        at: now,
        stage: Stage::Rcpt,
        host: Some(Domain::parse("mx1.example.org").unwrap()),
        ip: None,
        port: None,
        source_ip: None,
        code: Some(450),
        enhanced: EnhancedCode::new(4, 2, 1),
        text: "come back later, ".repeat(40).trim().to_owned(),
        tls_failure: None,
        maybe_delivered: false,
        security: None,
        waived: None,
        unmet: None,
        promise: None,
        session: None,
        waited_for: None,
        remote_id: None,
    };
    let reported: Vec<_> = recipients
        .iter()
        .map(|recipient| Reported { recipient, diagnosis: &diagnosis, expired: true, cause: "reply" })
        .collect();
    let settings = DsnSettings::new(Domain::parse("relay.example.net").unwrap());
    let ctx = DsnContext { settings: &settings, id: QueueId::from_bytes([9; 16]), now, random: 42 };
    let full = b"From: app@example.net\r\nSubject: hello\r\n\r\n--=_0000000000000000000000000000002a--\r\n";
    let header = b"From: app@example.net\r\nSubject: hello\r\n\r\n";
    let dsn = compose(kind, &message, &reported, Original { header, full: Some(full) }, &ctx);

    let mut python = Command::new("python3")
        .args(["-c", READER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("python3 is needed for this test: {e}"));
    python.stdin.take().unwrap().write_all(&dsn.content.in_memory().unwrap()).unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn group(address: &str, action: &str, tail: &str) -> Vec<String> {
    let reply = "come back later, ".repeat(40);
    let text = format!(
        "group\nFinal-Recipient=rfc822; {address}\nAction={action}\nStatus=4.2.1\nRemote-MTA=dns; mx1.example.org\n\
         Diagnostic-Code=smtp; 450 4.2.1 {}\nLast-Attempt-Date=Sun, 22 Nov 2026 07:38:00 +0000{tail}",
        reply.trim()
    );
    text.lines().map(str::to_owned).collect()
}

#[test]
fn python_reads_a_failure_with_the_whole_message() {
    let mut want = vec![
        "multipart/report delivery-status auto-replied Mail Delivery System <MAILER-DAEMON@relay.example.net> \
         app@example.net"
            .to_owned(),
    ];
    want.extend(
        ["part text/plain", "part message/delivery-status", "part message/rfc822"].map(str::to_owned),
    );
    want.extend(
        [
            "group",
            "Original-Envelope-Id=QQ+1",
            "Reporting-MTA=dns; relay.example.net",
            "Arrival-Date=Sun, 22 Nov 2026 07:38:00 +0000",
            "X-Sealpost-Queue-ID=070w3ge1r70w3ge1r70w3ge1r7",
        ]
        .map(str::to_owned),
    );
    want.extend(group("bob@example.org", "failed", ""));
    want.extend(group("carol@example.org", "failed", ""));
    want.push("subject hello".to_owned());
    assert_eq!(read_by_python(DsnKind::Failed, Some(Ret::Full)), want);
}

#[test]
fn python_reads_a_delay_with_the_header() {
    let retry_until = Timestamp::parse_rfc3339("2026-11-27T07:38:00Z").unwrap();
    let got = read_by_python(DsnKind::Delayed { retry_until, also_waiting: 2 }, Some(Ret::Full));
    assert!(got.contains(&"part text/rfc822-headers".to_owned()), "{got:?}");
    assert!(!got.iter().any(|l| l.starts_with("defect")), "{got:?}");
    let tail = "\nWill-Retry-Until=Fri, 27 Nov 2026 07:38:00 +0000";
    let groups =
        [group("bob@example.org", "delayed", tail), group("carol@example.org", "delayed", tail)].concat();
    assert!(got.windows(groups.len()).any(|w| w == groups), "{got:#?}");
    assert_eq!(got.last().unwrap(), "subject 1");
}
