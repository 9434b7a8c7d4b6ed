//! `sealpost report read`, without a process.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::io::{Cursor, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use sealpost::cli::{Io, Next, run};
use sealpost::clock::Timestamp;
use sealpost::tlsrpt::ResultType;
use serde_json::{Value, json};

/// Exit status, stdout, stderr.
fn report_read(words: &[&str], input: &[u8]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let next = run(
        ["sealpost", "report", "read"].iter().chain(words),
        &mut Io {
            input: &mut Cursor::new(input),
            interactive: false,
            terminal: false,
            out: &mut out,
            err: &mut err,
            now: Timestamp::from_millis(1_795_333_080_000),
        },
    );
    let Next::Exit(status) = next else { panic!("{words:?} serves") };
    (status, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// A report of one sts policy; `failures` are result type, MX host, sessions.
fn report(organization: &str, day: &str, good: u64, failures: &[(&str, &str, u64)]) -> String {
    let details: Vec<Value> = failures
        .iter()
        .map(|(result, mx, n)| {
            json!({"result-type": result, "receiving-mx-hostname": mx, "failed-session-count": n})
        })
        .collect();
    let failed: u64 = failures.iter().map(|(_, _, n)| n).sum();
    json!({
        "organization-name": organization,
        "date-range": {"start-datetime": format!("{day}T00:00:00Z"), "end-datetime": format!("{day}T23:59:59Z")},
        "contact-info": "tls@big.example",
        "report-id": format!("{day}@big.example"),
        "policies": [{
            "policy": {"policy-type": "sts", "policy-string": ["version: STSv1"], "policy-domain": "example.org"},
            "summary": {"total-successful-session-count": good, "total-failure-session-count": failed},
            "failure-details": details,
        }],
    })
    .to_string()
}

fn gzip(text: &str) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    gzip.finish().unwrap()
}

fn mail(report: &str) -> String {
    format!("From: a@big.example\r\nContent-Type: application/tlsrpt+json\r\n\r\n{report}\r\n")
}

fn write(dir: &Path, name: &str, octets: impl AsRef<[u8]>) -> String {
    let path = dir.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, octets).unwrap();
    path.display().to_string()
}

#[test]
fn the_table_says_who_saw_what_since_when_and_what_to_mend() {
    let dir = tempfile::tempdir().unwrap();
    let expired = [("certificate-expired", "mx1.example.org", 3)];
    let files = [
        write(dir.path(), "b.json", report("Big Mail", "2026-03-02", 120, &expired)),
        write(
            dir.path(),
            "a.json.gz",
            gzip(&report("Big Mail", "2026-03-01", 100, &[expired[0], ("odd", "", 1)])),
        ),
        write(dir.path(), "c.eml", mail(&report("Other \u{1b}[2J", "2026-03-03", 7, &expired))),
    ];
    let (status, out, err) = report_read(&files.each_ref().map(String::as_str), b"");
    assert_eq!((status, &*err), (1, ""), "{out}");
    let want = "\
DAY         SEEN BY     DOMAIN       POLICY  GOOD  FAILED
2026-03-01  Big Mail    example.org  sts     100   4
2026-03-02  Big Mail    example.org  sts     120   3
2026-03-03  Other ?[2J  example.org  sts     7     3

FAILED  WHAT                 SINCE       LAST        SEEN BY
9       certificate-expired  2026-03-01  2026-03-03  Big Mail, Other ?[2J
        at mx1.example.org, for example.org by policy sts
1       odd                  2026-03-01  2026-03-01  Big Mail
        for example.org by policy sts

What to mend:
  certificate-expired: the certificate of the MX host is past its last day; renew it and have the mail server load it
  odd: not a name that RFC 8460 knows; ask at the contact that `--json` shows
";
    assert_eq!(out, want);
}

#[test]
fn good_news_ends_with_0_and_bad_news_or_garbage_with_1() {
    let good = report("Big Mail", "2026-03-01", 5, &[]);
    let (status, out, err) = report_read(&["-"], good.as_bytes());
    assert_eq!((status, out.lines().count(), &*err), (0, 2, ""), "{out}");
    // Counted, but not told: still bad news.
    let bare = good.replace("\"total-failure-session-count\":0", "\"total-failure-session-count\":2");
    let (status, out, _) = report_read(&["-"], bare.as_bytes());
    assert!(status == 1 && out.contains("the sender gave no reason"), "{out}");
    // A success by a stale policy tells of a failure too.
    let stale = report("Big Mail", "2026-03-01", 5, &[("sts-policy-fetch-error", "", 0)]);
    assert_eq!(report_read(&["-"], stale.as_bytes()).0, 1);
    let (status, out, err) = report_read(&["-"], b"\x00garbage");
    assert_eq!((status, &*out, &*err), (1, "", "-: neither JSON nor gzip nor a message\n"));
}

#[test]
fn garbage_is_named_and_the_next_file_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let good = report("Big Mail", "2026-03-01", 5, &[]);
    let files = [
        write(dir.path(), "1.json", "{\"organization-name\": "),
        write(dir.path(), "2.eml", "Subject: hello\r\n\r\nno report\r\n"),
        dir.path().join("missing").display().to_string(),
        write(dir.path(), "3.json.gz", &gzip(&good)[..30]),
        write(dir.path(), "4.json", good),
    ];
    let words = files.each_ref().map(String::as_str);
    let (status, out, err) = report_read(&words, b"");
    assert_eq!((status, out.lines().count()), (1, 2), "{out}");
    let err: Vec<_> = err.lines().collect();
    assert_eq!(err.len(), 4, "{err:?}");
    for ((line, file), why) in err.iter().zip(&files).zip([
        "not the JSON of a TLS report: ",
        "a message without a TLS report",
        "No such file",
        "damaged gzip: ",
    ]) {
        assert!(line.starts_with(&format!("{file}: {why}")), "{line}");
    }

    let (status, out, _) = report_read(&[&["--json"], &words[..]].concat(), b"");
    let list: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!((status, list.len()), (1, 5), "{out}");
    assert!(list[..4].iter().all(|e| e["error"].is_string() && e.get("report").is_none()), "{out}");
    assert_eq!(list[4]["file"], words[4]);
    assert_eq!(list[4]["report"]["policies"][0]["summary"]["total-successful-session-count"], 5);
}

#[test]
fn maildirs_folders_and_mailboxes_are_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let day = |n: u32| mail(&report("Big Mail", &format!("2026-03-0{n}"), 1, &[]));
    let other = "Subject: hello\r\n\r\nno report\r\n";
    for (name, content) in [
        ("maildir/new/1", day(1)),
        ("maildir/cur/2:2,S", day(2)),
        ("maildir/cur/3:2,S", other.to_owned()),
        ("maildir/tmp/4", day(4)),
        ("folder/.hidden", day(1)),
        ("folder/a.eml", day(1)),
        ("folder/b.json", report("Big Mail", "2026-03-02", 1, &[])),
        ("folder/sub/c.json", report("Big Mail", "2026-03-03", 1, &[])),
    ] {
        write(dir.path(), name, content);
    }
    write(
        dir.path(),
        "mbox",
        format!("From a Mon\r\n{}\r\nFrom b Mon\r\n{other}\r\nFrom a Mon\r\n{}", day(1), day(2)),
    );
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    write(dir.path(), "strangers/a.eml", other);
    for (name, status, rows, words) in [
        ("maildir", 0, 2, "passed over: 1"),
        ("folder", 0, 2, ""),
        ("mbox", 0, 2, "passed over: 1"),
        ("empty", 1, 0, "an empty folder"),
        ("strangers", 1, 0, "a message without a TLS report"),
    ] {
        let (got, out, err) = report_read(&[&dir.path().join(name).display().to_string()], b"");
        assert_eq!((got, out.lines().skip(1).count()), (status, rows), "{name}: {out}{err}");
        assert!(err.contains(words) && err.is_empty() == words.is_empty(), "{name}: {err}");
    }
}

#[test]
fn every_registered_result_type_has_its_own_advice() {
    let failures: Vec<_> = ResultType::ALL.iter().map(|r| (r.as_str(), "mx.example.org", 1)).collect();
    let (_, out, _) = report_read(&["-"], report("Big Mail", "2026-03-01", 1, &failures).as_bytes());
    let advice = out.split("What to mend:\n").nth(1).unwrap();
    let words: std::collections::BTreeSet<_> =
        advice.lines().map(|l| l.split_once(": ").unwrap().1).collect();
    assert_eq!(words.len(), ResultType::ALL.len(), "{advice}");
    assert!(!advice.contains("not a name"));
}

#[test]
fn an_empty_folder_is_named_and_no_file_is_a_mistake() {
    assert_eq!(report_read(&[], b"").0, 2);
    let dir = tempfile::tempdir().unwrap();
    let (status, out, _) = report_read(&["--json", &dir.path().display().to_string()], b"");
    let list: Vec<Value> = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &list[0]["error"], list.len()), (1, &json!("an empty folder"), 1));
    let (status, help, _) = report_read(&["--help"], b"");
    assert!(status == 0 && help.contains("Exit status 0 when all was read"), "{help}");
}
