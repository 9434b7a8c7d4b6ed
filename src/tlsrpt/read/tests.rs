use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

const REPORT: &str = r#"{"organization-name":"Big Mail","date-range":{"start-datetime":"2026-03-01T00:00:00Z",
"end-datetime":"2026-03-01T23:59:59Z"},"contact-info":"tls@big.example","report-id":"1@big.example","policies":[{
"policy":{"policy-type":"sts","policy-string":["version: STSv1"],"policy-domain":"example.org","mx-host":["mx.example.org"]},
"summary":{"total-successful-session-count":5,"total-failure-session-count":2},"failure-details":[{
"result-type":"certificate-expired","sending-mta-ip":"192.0.2.1","receiving-mx-hostname":"mx.example.org",
"receiving-ip":"203.0.113.1","failed-session-count":2}]}]}"#;

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(octets).unwrap();
    gzip.finish().unwrap()
}

/// A part with a report, under a content type and a file name.
fn part(media: &str, name: Option<&str>, octets: &[u8]) -> String {
    let disposition =
        name.map(|n| format!("Content-Disposition: attachment; filename=\"{n}\"\r\n")).unwrap_or_default();
    format!(
        "Content-Type: {media}\r\nContent-Transfer-Encoding: base64\r\n{disposition}\r\n{}\r\n",
        BASE64.encode(octets)
    )
}

fn multipart(kind: &str, parts: &[String]) -> String {
    let mut out = format!("Content-Type: multipart/{kind}; boundary=\"{kind}\"\r\n\r\n");
    for part in parts {
        out.push_str(&format!("--{kind}\r\n{part}\r\n"));
    }
    out + &format!("--{kind}--\r\n")
}

fn mail(content: &str) -> String {
    format!("From: a@big.example\r\nSubject: Report Domain: example.org\r\nMIME-Version: 1.0\r\n{content}")
}

fn words() -> String {
    "Content-Type: text/plain\r\n\r\nThis is a report.\r\n".to_owned()
}

fn one(octets: &[u8]) -> ReceivedReport {
    let mut found = read(octets);
    assert_eq!(found.len(), 1);
    found.remove(0).unwrap()
}

#[test]
fn a_report_is_found_in_whatever_carries_it() {
    let json = REPORT.as_bytes();
    let packed = gzip(json);
    let ours = part("application/tlsrpt+gzip", None, &packed);
    let report = mail(&multipart("report", &[words(), ours.clone()]));
    let quoted = format!(
        "Content-Type: application/tlsrpt+json\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}\r\n",
        REPORT.replace('=', "=3D").replace("organization", "organi=\r\nzation").replace('\n', "\r\n")
    );
    let forwarded = format!("Content-Type: message/rfc822\r\n\r\n{report}");
    for (what, octets) in [
        ("json", json.to_vec()),
        ("json after a byte order mark", [b"\xef\xbb\xbf \r\n", json].concat()),
        ("gzip", packed.clone()),
        ("gzip of gzip", gzip(&packed)),
        ("two gzip members", [gzip(&json[..50]), gzip(&json[50..])].concat()),
        ("array", format!("[{REPORT}]").into_bytes()),
        ("multipart/report", report.clone().into_bytes()),
        ("+json", mail(&multipart("report", &[words(), part("application/tlsrpt+json", None, json)])).into()),
        ("quoted-printable", mail(&multipart("mixed", &[words(), quoted])).into()),
        ("the attachment alone", mail(&ours).into()),
        (
            "application/gzip",
            mail(&multipart("mixed", &[words(), part("application/gzip", Some("a!b!1!2.json.gz"), &packed)]))
                .into(),
        ),
        (
            "octet-stream by its name",
            mail(&multipart(
                "mixed",
                &[words(), part("application/octet-stream", Some("A.JSON.GZ"), &packed)],
            ))
            .into(),
        ),
        (
            "nested multiparts",
            mail(&multipart("mixed", &[words(), multipart("report", &[words(), ours])])).into(),
        ),
        ("forwarded", mail(&multipart("mixed", &[words(), forwarded])).into()),
        ("a part without an end", report.rsplit_once("\r\n--report--").unwrap().0.as_bytes().to_vec()),
        (
            "binary",
            [
                b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n",
                &b"Content-Type: application/tlsrpt+gzip\r\n\r\n"[..],
                &packed,
                b"\r\n--x--\r\n",
            ]
            .concat(),
        ),
        (
            "base64 without padding, between spaces",
            mail(&part("application/tlsrpt+gzip", None, &packed))
                .replace('=', "")
                .replace("H4", " H 4")
                .into(),
        ),
        ("bare LF", report.replace("\r\n", "\n").into_bytes()),
        ("mbox of one", format!("From a@b Mon Mar  2 00:00:00 2026\r\n{report}").into_bytes()),
    ] {
        let report = read(&octets).into_iter().next().unwrap();
        let report = report.unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!((report.sessions(), read(&octets).len()), ((5, 2), 1), "{what}");
    }
}

#[test]
fn every_message_of_a_mailbox_is_read() {
    let report = mail(&multipart(
        "report",
        &[words(), part("application/tlsrpt+gzip", None, &gzip(REPORT.as_bytes()))],
    ));
    let other = mail("Content-Type: text/plain\r\n\r\nFrom here on\r\nmere words\r\n\r\n");
    let damaged = mail(&part("application/tlsrpt+gzip", None, b"\x1f\x8b\x08\x00"));
    let mbox: String =
        [&report, &other, &damaged, &report].iter().map(|m| format!("From a@b Mon\r\n{m}\r\n\r\n")).collect();
    let found = read(mbox.as_bytes());
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found[0].is_ok() && found[3].is_ok());
    assert_eq!(found[1], Err(ReadError::NoReport));
    assert!(matches!(found[2], Err(ReadError::Gzip(_))));
}

// Where peers err, what was meant is taken.
#[test]
fn slips_of_peers_are_read_as_they_were_meant() {
    let strict = one(REPORT.as_bytes());
    for (what, from, to) in [
        ("policy-string as a string", r#"["version: STSv1"]"#, r#""version: STSv1""#),
        ("mx-host as a string", r#"["mx.example.org"]"#, r#""mx.example.org""#),
        ("one policy without its array", r#""policies":[{"#, r#""policies":{"#),
        ("a count as text", r#"count":5"#, r#"count":"5""#),
        ("a count with a fraction", r#"count":5"#, r#"count":5.0"#),
        ("a number for a name", r#""1@big.example""#, "1"),
        ("an unknown member", r#"{"organization-name""#, r#"{"x":[{"y":null}],"organization-name""#),
        ("an empty optional", r#""receiving-ip""#, r#""receiving-mx-helo":"","receiving-ip""#),
        ("null for an optional", r#""receiving-ip""#, r#""receiving-mx-helo":null,"receiving-ip""#),
    ] {
        let mut text = REPORT.replacen(from, to, 1);
        if what.contains("without its array") {
            text = text.replacen("]}]}", "]}}", 1);
        }
        assert_ne!(text, REPORT, "{what}");
        let mut want = strict.clone();
        if what == "a number for a name" {
            want.report_id = "1".to_owned();
        }
        assert_eq!(read(text.as_bytes()), [Ok(want)], "{what}");
    }
    let without = |from: &str, to: &str| one(REPORT.replacen(from, to, 1).as_bytes());
    let empty_ip = without("\"192.0.2.1\"", "\"\"");
    assert_eq!(empty_ip.policies[0].failure_details[0].sending_mta_ip, None);
    assert_eq!(without("failure-details", "x").policies[0].failure_details, []);
    assert_eq!(without("certificate-expired", "other").policies[0].failure_details[0].result_type, "other");
    assert_eq!(without("policy-domain", "x").policies[0].policy.policy_domain, "");
    assert_eq!(without("report-id", "x").report_id, "");
    assert_eq!(day(&without("T00:00:00Z", " 00:00:00")).unwrap().to_string(), "2026-03-01");
    assert_eq!(
        day(&without("2026-03-01T00:00:00Z", "2026-03-01T01:00:00+02:00")).unwrap().to_string(),
        "2026-02-28"
    );
    assert_eq!(day(&without("2026-03-01T00:00:00Z", "yesterday\u{fc}\u{fc}")), None);
}

#[test]
fn what_is_no_report_says_why() {
    for (what, octets, want) in [
        ("empty", b"".to_vec(), ReadError::Empty),
        ("blank", b" \r\n".to_vec(), ReadError::Empty),
        ("binary", vec![0, 1, 2, 255], ReadError::Unknown),
        ("prose", b"hello there\n".to_vec(), ReadError::Unknown),
        ("xml", b"<?xml version=\"1.0\"?>\n".to_vec(), ReadError::Unknown),
        ("other json", b"{\"a\": 1}".to_vec(), ReadError::OtherJson),
        ("empty array", b"[]".to_vec(), ReadError::OtherJson),
        ("plain mail", mail("\r\nhello\r\n").into_bytes(), ReadError::NoReport),
        (
            "a DMARC report",
            mail(&part("application/gzip", Some("a!b!1!2.xml.gz"), &gzip(b"<feedback/>"))).into_bytes(),
            ReadError::NoReport,
        ),
        ("gzip of nothing", gzip(b""), ReadError::Empty),
    ] {
        assert_eq!(read(&octets), [Err(want)], "{what}");
    }
    for (what, octets) in [
        ("half a report", REPORT.as_bytes()[..200].to_vec()),
        ("policies of numbers", REPORT.replacen("[{", "[1,{", 1).into_bytes()),
        ("a negative count", REPORT.replacen("count\":5", "count\":-5", 1).into_bytes()),
        ("half a count", REPORT.replacen("count\":5", "count\":5.5", 1).into_bytes()),
        ("more after it", format!("{REPORT} x").into_bytes()),
    ] {
        assert!(matches!(read(&octets)[..], [Err(ReadError::Json(_))]), "{what}: {:?}", read(&octets));
    }
    let whole = gzip(REPORT.as_bytes());
    let mut flipped = whole.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    for octets in [&whole[..whole.len() / 2], &flipped] {
        assert!(matches!(read(octets)[..], [Err(ReadError::Gzip(_))]));
    }
}

#[test]
fn size_expansion_nesting_and_number_are_bounded() {
    let too_large = |octets: &[u8]| match &read(octets)[..] {
        [Err(ReadError::TooLarge(_))] => true,
        other => panic!("{:?}", other.len()),
    };
    assert!(too_large(&vec![b' '; MAX_INPUT + 1]));
    // 100 kB that become 100 MiB and one octet.
    assert!(too_large(&gzip(&vec![b' '; MAX_EXPANDED + 1])));
    let mut deep = gzip(REPORT.as_bytes());
    for _ in 0..MAX_DEPTH {
        deep = gzip(&deep);
    }
    assert!(too_large(&deep));
    let rows = "{},".repeat(MAX_OBJECTS);
    assert!(too_large(format!("{{\"policies\":[{rows}{{}}]}}").as_bytes()));
    let texts = "\"\",".repeat(MAX_COMMAS);
    assert!(too_large(format!("{{\"policies\":[],\"x\":[{texts}1]}}").as_bytes()));
    let nulls = "null,".repeat(100_000);
    let long = format!("{{\"policies\":[{{\"policy\":{{\"mx-host\":[{nulls}null]}}}}]}}");
    assert!(matches!(read(long.as_bytes())[..], [Err(ReadError::Json(_))]));
    let nested = format!("{{\"policies\":{}", "[".repeat(100_000));
    assert!(matches!(read(nested.as_bytes())[..], [Err(ReadError::Json(_))]));
    // All gzip members of one input share one allowance.
    let bomb = gzip(&vec![b' '; MAX_EXPANDED / 2]);
    let bombs = mail(&multipart("mixed", &vec![part("application/tlsrpt+gzip", None, &bomb); 4]));
    let found = read(bombs.as_bytes());
    assert_eq!(found.iter().filter(|f| matches!(f, Err(ReadError::TooLarge(_)))).count(), 2, "{found:?}");
    let messages = "From a\nX: y\n\n".repeat(MAX_MESSAGES + 2);
    assert_eq!(read(messages.as_bytes()).len(), MAX_MESSAGES + 1);
    // Neither does the stack grow with messages in messages, in the clear or encoded, nor multiparts in multiparts.
    let inner = "Content-Type: message/rfc822\r\n\r\n".repeat(200_000);
    assert_eq!(read(inner.as_bytes()), [Err(ReadError::NoReport)]);
    let encoded = format!(
        "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n\r\n{}",
        BASE64.encode(inner)
    );
    assert_eq!(read(encoded.as_bytes()), [Err(ReadError::NoReport)]);
    let nested: String = (0..20_000)
        .map(|n| format!("Content-Type: multipart/mixed; boundary=b{n}\r\n\r\n--b{n}\r\n"))
        .collect();
    assert_eq!(read(nested.as_bytes()), [Err(ReadError::NoReport)]);
}

proptest! {
    #[test]
    fn any_octets_are_read_without_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(!read(&octets).is_empty());
        for start in [&b"From "[..], b"Subject: x\r\n", b"{", b"[", b"\x1f\x8b\x08"] {
            prop_assert!(!read(&[start, &octets].concat()).is_empty());
        }
        let attached = mail(&part("application/tlsrpt+gzip", None, &octets));
        prop_assert!(!read(attached.as_bytes()).is_empty());
    }

    #[test]
    fn any_damage_to_a_report_is_read_without_panic(at in 0..REPORT.len(), with: u8, cut in 0..REPORT.len()) {
        let mut octets = REPORT.as_bytes().to_vec();
        octets[at] = with;
        prop_assert!(!read(&octets).is_empty());
        octets.truncate(cut);
        prop_assert!(!read(&octets).is_empty());
        for report in read(&octets).into_iter().flatten() {
            let _ = day(&report);
        }
    }
}
