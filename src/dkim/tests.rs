use std::time::Duration;

use aws_lc_rs::{digest, signature};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::canonical::{BlankEnd, BodyHash, relaxed_field};
use super::check::{Finding, published};
use super::record::BadRecord;
use super::*;
use crate::clock::Timestamp;
use crate::mail::Domain;

/// RFC 8463 A.1: the Ed25519 key of RFC 8032 §7.1, test 1, in PKCS#8.
const RFC8463_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
                           MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
                           -----END PRIVATE KEY-----\n";
const RFC8463_BODY: &str = "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n";
const NOW: Timestamp = Timestamp::from_millis(1_795_333_080_000);

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn key(algorithm: Algorithm, at: &str, selector: &str) -> SigningKey {
    SigningKey::from_pem(domain(at), selector.to_owned(), &keygen::generate(algorithm).unwrap()).unwrap()
}

fn ed25519(at: &str, selector: &str) -> SigningKey {
    SigningKey::from_pem(domain(at), selector.to_owned(), RFC8463_KEY).unwrap()
}

/// The fields of a signature, each unfolded by taking out what may be folded.
fn signatures(fields: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(fields).unwrap();
    let unfolded = text.replace("\r\n\t", "\u{1}");
    unfolded.lines().map(|l| l.replace('\u{1}', "")).collect()
}

fn tag<'a>(signature: &'a str, name: &str) -> Option<&'a str> {
    let value = signature.strip_prefix("DKIM-Signature:").unwrap();
    value.split(';').find_map(|t| t.trim().strip_prefix(name)?.strip_prefix('='))
}

fn sign(signers: &Signers, message: &str) -> Vec<String> {
    signatures(&signers.sign(message.as_bytes(), NOW))
}

fn body_hash(body: &[u8]) -> [u8; 32] {
    let mut hash = BodyHash::default();
    hash.update(body);
    hash.finish()
}

fn sha256(octets: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, octets).as_ref().to_vec()
}

/// RFC 6376 §3.4.4 once more, line by line and all at once.
fn relaxed_body(body: &str) -> String {
    let mut lines: Vec<String> = body
        .split("\r\n")
        .map(|line| {
            let begins_blank = line.starts_with([' ', '\t']);
            let words: Vec<_> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
            if words.is_empty() {
                String::new()
            } else {
                [if begins_blank { " " } else { "" }, &words.join(" ")].concat()
            }
        })
        .collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.iter().map(|l| format!("{l}\r\n")).collect()
}

// SIG-12
#[test]
fn bodies_have_the_relaxed_form_of_the_rfc() {
    for (name, body, want) in [
        ("RFC 6376 §3.4.6", " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"),
        ("empty", "", ""),
        ("only empty lines", "\r\n\r\n", ""),
        ("only blanks", " \t \r\n\t\r\n", ""),
        ("no final line end", "a", "a\r\n"),
        ("no final line end, blanks", "a \t", "a\r\n"),
        ("a last line of blanks", "a\r\n  \r\n", "a\r\n"),
        ("a last line of blanks without its end", "a\r\n  ", "a\r\n"),
        ("a blank line inside", "a\r\n \t\r\n\r\nb\r\n", "a\r\n\r\n\r\nb\r\n"),
        ("leading empty lines stay", "\r\n\r\na\r\n", "\r\n\r\na\r\n"),
        ("leading blanks become one", "\t\t a  b\r\n", " a b\r\n"),
        ("a form feed is no blank", "a\u{c} \r\nb\u{b}\r\n", "a\u{c}\r\nb\u{b}\r\n"),
        ("a CR alone is text", "a \r b\r\n\r", "a \r b\r\n\r\r\n"),
        ("UTF-8", "Größe  \r\n", "Größe\r\n"),
    ] {
        assert_eq!(body_hash(body.as_bytes()).to_vec(), sha256(want.as_bytes()), "{name}");
    }
    // The constants of RFC 6376 §3.4.4 and RFC 8463 A.3.
    assert_eq!(STANDARD.encode(body_hash(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    assert_eq!(
        STANDARD.encode(body_hash(RFC8463_BODY.as_bytes())),
        "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8="
    );
}

// SIG-12
#[test]
fn fields_have_the_relaxed_form_of_the_rfc() {
    for (name, value, want) in [
        ("A", " X\r\n", "a:X"),
        ("B", " Y\t\r\n\tZ  \r\n", "b:Y Z"),
        ("SUBJect", "\r\n \r\n x \t y\r\n", "subject:x y"),
        ("Empty", "\r\n", "empty:"),
        ("Ff", " a\u{c}b \u{c}\r\n", "ff:a\u{c}b \u{c}"),
    ] {
        let mut out = Vec::new();
        relaxed_field(name, value.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }
}

// SIG-09, SIG-12
#[test]
fn the_example_of_rfc_8463_gets_the_signature_that_stands_there() {
    let header = "from:Joe SixPack <joe@football.example.com>\r\nto:Suzie Q <suzie@shopping.example.net>\r\n\
                  subject:Is dinner ready?\r\ndate:Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n\
                  message-id:<20030712040037.46341.5F8J@football.example.com>\r\n";
    let value = " v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n d=football.example.com; i=@football.example.com;\r\n \
                 q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n \
                 subject : date : message-id : from : subject : date;\r\n \
                 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
    let mut input = header.as_bytes().to_vec();
    relaxed_field("DKIM-Signature", value.as_bytes(), &mut input);
    let key = ed25519("football.example.com", "brisbane");
    assert_eq!(
        STANDARD.encode(key.sign(&input).unwrap()),
        "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11BusFa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw=="
    );
    assert_eq!(
        KeyRecord::parse(b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=").unwrap().key,
        key.public_key()
    );
}

// SIG-10, SIG-11, SIG-15
#[test]
fn a_signature_says_what_it_covers() {
    let signers = Signers::new(vec![ed25519("example.net", "s1")]).valid_for(Duration::from_secs(7 * 86_400));
    let message = "Received: by x\r\nReturn-Path: <a@b>\r\nX-Mine: 1\r\nList-Id: one\r\nlist-id: two\r\n\
                   From : App <app@example.net>\r\nTo: b@example.org\r\nCc: c@example.org\r\nSubject: hi\r\n\
                   Date: Sun, 22 Nov 2026 07:38:00 +0000\r\nMessage-ID: <1@example.net>\r\nMIME-Version: 1.0\r\n\
                   Content-Type: text/plain\r\nAuto-Submitted: auto-generated\r\nTLS-Required: No\r\n\
                   TLS-Report-Domain: a.example\r\nTLS-Report-Submitter: example.net\r\nBcc: x@y.example\r\n\
                   DKIM-Signature: v=1\r\n\r\nHello.\r\n";
    let want = concat!(
        "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d=example.net;\r\n",
        "\ts=s1; t=1795333080; x=1795937880;\r\n",
        "\tbh=yZQq1c8wjBl0fZ4Wc/oraMCAG1mZJv5v/hlvyFy+t6A=; h=TLS-Report-Submitter:\r\n",
        "\tTLS-Report-Domain:TLS-Required:Auto-Submitted:Content-Type:MIME-Version:\r\n",
        "\tMessage-ID:Date:Subject:Cc:To:From:list-id:List-Id:From:To:Subject:Date:\r\n",
        "\tContent-Type:MIME-Version; b=HZuOxFgsAi8LS1rsmlJMKsdogjq1MX2h0j+PNfcfRr6IG2\r\n",
        "\tqJNvUNvc1NsHdw+q2r+UK/HwHm2i3M/nFjURenBw==\r\n",
    );
    assert_eq!(String::from_utf8(signers.sign(message.as_bytes(), NOW)).unwrap(), want);
}

// SIG-09
#[test]
fn every_key_of_the_domain_signs_and_each_signature_verifies() {
    let (rsa, ed) = (key(Algorithm::Rsa, "example.net", "r"), key(Algorithm::Ed25519, "example.net", "e"));
    let signers = Signers::new(vec![rsa.clone(), ed.clone()]);
    let message = "From: app@example.net\r\nSubject: a\r\n\tb\r\n\r\nHello.\r\n";
    let got = signers.sign(message.as_bytes(), NOW);
    let got = String::from_utf8(got).unwrap();
    let fields: Vec<_> = got.split_inclusive("\r\n").collect();
    let (first, second) = (fields.join("").find("\r\nDKIM-Signature").unwrap() + 2, got.len());
    for (field, key) in [(&got[..first], &rsa), (&got[first..second], &ed)] {
        let unfolded = signatures(field.as_bytes()).remove(0);
        let value = STANDARD.decode(tag(&unfolded, "b").unwrap()).unwrap();
        let empty =
            &field["DKIM-Signature:".len()..field.find(" b=").or_else(|| field.find("\tb=")).unwrap() + 3];
        let mut input = b"subject:a b\r\nfrom:app@example.net\r\n".to_vec();
        relaxed_field("DKIM-Signature", empty.as_bytes(), &mut input);
        let public = key.public_key();
        match key.algorithm() {
            Algorithm::Rsa => {
                signature::UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, public)
                    .verify(&input, &value)
                    .unwrap()
            }
            Algorithm::Ed25519 => signature::UnparsedPublicKey::new(&signature::ED25519, public)
                .verify(&sha256(&input), &value)
                .unwrap(),
        }
        assert_eq!(tag(&unfolded, "a"), Some(key.algorithm().signature()));
        assert_eq!(tag(&unfolded, "s"), Some(key.selector()));
        assert_eq!((tag(&unfolded, "l"), tag(&unfolded, "x")), (None, None));
    }
}

// SIG-13, RPT-80
#[test]
fn the_author_decides_which_domain_signs() {
    let signers = Signers::new(vec![
        ed25519("example.net", "s1"),
        ed25519("mail.example.net", "s2"),
        ed25519("xn--bcher-kva.example", "s3"),
    ]);
    for (from, want) in [
        ("a@example.net", Some("example.net")),
        ("A <a@EXAMPLE.net>", Some("example.net")),
        ("a@sub.example.net", Some("example.net")),
        ("a@mail.example.net", Some("mail.example.net")),
        ("a@x.mail.example.net", Some("mail.example.net")),
        ("a@notexample.net", None),
        ("a@net", None),
        ("\"a@example.net\" <a@other.example>", None),
        ("a@other.example (a@example.net)", None),
        ("a@other.example, b@example.net", Some("example.net")),
        // SIG-15: d= is the A-label.
        ("a@bücher.example", Some("xn--bcher-kva.example")),
        ("a@example.net, broken", None),
        ("", None),
    ] {
        let got = sign(&signers, &format!("From: {from}\r\n\r\nx\r\n"));
        assert_eq!(got.first().and_then(|s| tag(s, "d")), want, "{from}");
    }
    assert!(sign(&signers, "To: a@example.net\r\n\r\nFrom: a@example.net\r\n").is_empty(), "no From field");
    assert!(sign(&Signers::default(), "From: a@example.net\r\n\r\nx\r\n").is_empty());
    let (top, sub) = (domain("example.net"), domain("a.example.net"));
    assert!(signers.signs_for(&top) && signers.signs_for(&sub) && signers.signs_exactly(&top));
    assert!(!signers.signs_exactly(&sub) && !signers.signs_for(&domain("example.org")));
}

// SIG-15
#[test]
fn no_line_of_a_signature_is_long_and_strange_names_stay_out_of_it() {
    let label = "a".repeat(60);
    let long = format!("{label}.{label}.{label}.example");
    let signers = Signers::new(vec![
        key(Algorithm::Rsa, &long, "a-long-selector-of-2026"),
        ed25519("example.net", "s"),
    ]);
    for from in [format!("a@{long}"), "a@example.net".to_owned()] {
        let mut header = format!("From: {from}\r\nContent-a;b=c: x\r\nContent-{}: y\r\n", "z".repeat(100));
        for i in 0..200 {
            header.push_str(&format!("List-Field-{i}: x\r\n"));
        }
        let got = signers.sign(format!("{header}\r\nx\r\n").as_bytes(), NOW);
        for line in std::str::from_utf8(&got).unwrap().split("\r\n") {
            assert!(line.len() <= 76 || line.trim() == format!("d={long};"), "{} octets: {line}", line.len());
        }
        let one = &signatures(&got)[0];
        let names: Vec<_> = tag(one, "h").unwrap().split(':').map(str::trim).collect();
        assert_eq!(names.iter().filter(|n| n.starts_with("List-Field-")).count(), 200);
        assert!(!names.iter().any(|n| n.starts_with("Content-") && *n != "Content-Type"));
    }
}

// SIG-09
#[test]
fn keys_that_cannot_sign_are_refused() {
    let pem = |label: &str, der: &str| format!("-----BEGIN {label}-----\n{der}\n-----END {label}-----\n");
    let rsa_1024 = "MIICXQIBAAKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQi\n\
                    Y/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqM\n\
                    KrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB\n\
                    AoGAH0cxOhFZDgzXWhDhnAJDw5s4roOXN4OhjiXa8W7Y3rhX3FJqmJSPuC8N9vQm\n\
                    6SVbaLAE4SG5mLMueHlh4KXffEpuLEiNp9Ss3O4YfLiQpbRqE7Tm5SxKjvvQoZZe\n\
                    zHorimOaChRL2it47iuWxzxSiRMv4c+j70GiWdxXnxe4UoECQQDzJB/0U58W7RZy\n\
                    6enGVj2kWF732CoWFZWzi1FicudrBFoy63QwcowpoCazKtvZGMNlPWnC7x/6o8Gc\n\
                    uSe0ga2xAkEA8C7PipPm1/1fTRQvj1o/dDmZp243044ZNyxjg+/OPN0oWCbXIGxy\n\
                    WvmZbXriOWoSALJTjExEgraHEgnXssuk7QJBALl5ICsYMu6hMxO73gnfNayNgPxd\n\
                    WFV6Z7ULnKyV7HSVYF0hgYOHjeYe9gaMtiJYoo0zGN+L3AAtNP9huqkWlzECQE1a\n\
                    licIeVlo1e+qJ6Mgqr0Q7Aa7falZ448ccbSFYEPD6oFxiOl9Y9se9iYHZKKfIcst\n\
                    o7DUw1/hz2Ck4N5JrgUCQQCyKveNvjzkkd8HjYs0SwM0fPjK16//5qDZ2UiDGnOe\n\
                    uEzxBDAr518Z8VFbR41in3W4Y3yCDgQlLlcETrS+zYcL";
    let read = |selector: &str, pem: &str| {
        SigningKey::from_pem(domain("example.net"), selector.to_owned(), pem).map(|_| ())
    };
    for (name, selector, pem, want) in [
        ("RSA of 1024 bits", "s", pem("RSA PRIVATE KEY", rsa_1024), KeyError::Unfit),
        ("P-256", "s", rcgen::KeyPair::generate().unwrap().serialize_pem(), KeyError::Unfit),
        ("not DER", "s", pem("PRIVATE KEY", "AAAA"), KeyError::Unfit),
        ("a certificate", "s", pem("CERTIFICATE", "AAAA"), KeyError::NoKey),
        ("nothing", "s", String::new(), KeyError::NoKey),
        ("a blank in the selector", "s 1", RFC8463_KEY.to_owned(), KeyError::Selector),
        ("a long selector", &"s".repeat(64), RFC8463_KEY.to_owned(), KeyError::Selector),
    ] {
        assert_eq!(read(selector, &pem), Err(want), "{name}");
    }
    assert_eq!(read("2026.mail", RFC8463_KEY), Ok(()));
}

// SIG-16
#[test]
fn records_read_back_and_fit_the_strings_of_dns() {
    for algorithm in [Algorithm::Rsa, Algorithm::Ed25519] {
        let key = key(algorithm, "example.net", "s1");
        let record = key.record();
        let strings = record.strings();
        assert_eq!(KeyRecord::parse(strings.concat().as_bytes()), Ok(record.clone()));
        assert!(strings.iter().all(|s| s.len() <= 255));
        assert_eq!(strings.len(), if algorithm == Algorithm::Rsa { 2 } else { 1 });
        assert!(record.to_string().starts_with(&format!("v=DKIM1; k={}; p=", algorithm.key_type())));
        assert!(
            record
                .zone_line(key.record_name())
                .starts_with("s1._domainkey.example.net. IN TXT ( \"v=DKIM1; ")
        );
    }
}

#[test]
fn key_records_are_read_by_the_letter() {
    let parse = |text: &str| KeyRecord::parse(text.as_bytes());
    let p = "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    for (text, want) in [
        (format!("k=rsa; v=DKIM1; {p}"), BadRecord::Version),
        (format!("v=DKIM2; {p}"), BadRecord::Version),
        (format!("v=DKIM1; {p}; {p}"), BadRecord::Twice),
        ("v=DKIM1; k=rsa".to_owned(), BadRecord::NoKey),
        ("v=DKIM1; p=***".to_owned(), BadRecord::NotBase64),
        ("v=spf1 -all".to_owned(), BadRecord::Version),
        ("hello".to_owned(), BadRecord::NotTags),
        (format!("v=DKIM1;; {p}"), BadRecord::NotTags),
        (format!("v=DKIM1; n=Größe; {p}"), BadRecord::NotText),
        (String::new(), BadRecord::NoKey),
    ] {
        assert_eq!(parse(&text), Err(want), "{text}");
    }
    let read =
        parse(&format!(" v = DKIM1 ; x_1=?; k=ed25519;s= email : tlsrpt ; t=y:s ; h=sha256; {p} ;")).unwrap();
    assert_eq!((read.services.len(), read.flags.len(), read.hashes.len(), read.key.len()), (2, 2, 1, 32));
    assert!(parse(&p.replace('=', "= ").replace("w=", "w")).is_ok(), "blanks inside, no padding, no v=");
    assert!(parse("s=email:*; p=").unwrap().serves("tlsrpt"));
}

// SIG-14, RPT-82, RPT-83
#[test]
fn what_is_published_is_compared_with_the_key() {
    let (ours, rsa) = (ed25519("example.net", "s1"), key(Algorithm::Rsa, "example.net", "s2"));
    let p = "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let other = "p=Ed25519keysAreThirtyTwoOctetsLong1234567890=";
    let rsa_1024 = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWR\
                    iGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutAC\
                    DfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3\
                    Ip3G+2kryOTIKT+l/K4w3QIDAQAB";
    let k = "v=DKIM1; k=ed25519";
    for (name, key, txt, reports, want) in [
        ("as printed", &ours, vec![ours.record().to_string()], true, vec![]),
        ("RSA as printed", &rsa, vec![rsa.record().to_string()], true, vec![]),
        ("no s=", &ours, vec![format!("{k}; {p}")], true, vec![]),
        ("mail only, no reports", &ours, vec![format!("{k}; s=email; {p}")], false, vec![]),
        ("mail only", &ours, vec![format!("{k}; s=email; {p}")], true, vec![Finding::NotForReports]),
        ("both", &ours, vec![format!("{k}; s=tlsrpt:email; {p}")], true, vec![Finding::ServiceList]),
        ("reports only", &ours, vec![format!("{k}; s=tlsrpt; {p}")], true, vec![Finding::NotForMail]),
        ("none", &ours, vec![], true, vec![Finding::Missing]),
        (
            "no key record",
            &ours,
            vec!["v=spf1 -all".to_owned()],
            true,
            vec![Finding::Syntax(BadRecord::Version)],
        ),
        ("revoked", &ours, vec![format!("{k}; p=")], true, vec![Finding::Revoked]),
        ("another key", &ours, vec![format!("{k}; {other}")], true, vec![Finding::OtherKey]),
        ("testing", &ours, vec![format!("{k}; t=s:y; {p}")], true, vec![Finding::Testing]),
        ("sha1", &ours, vec![format!("{k}; h=sha1; {p}")], true, vec![Finding::NoSha256]),
        (
            "another kind",
            &ours,
            vec![rsa.record().to_string()],
            true,
            vec![Finding::OtherType { published: "rsa".to_owned(), ours: Algorithm::Ed25519 }],
        ),
        ("short", &rsa, vec![rsa_1024.to_owned()], true, vec![Finding::OtherKey, Finding::TooShort(1024)]),
        (
            "two, one right",
            &ours,
            vec!["junk".to_owned(), format!("{k}; {p}")],
            true,
            vec![Finding::Several(2)],
        ),
    ] {
        let txt: Vec<Vec<u8>> = txt.into_iter().map(String::into_bytes).collect();
        let found = published(key, &txt, reports);
        assert_eq!(found, want, "{name}");
        assert!(found.iter().all(|f| !f.to_string().is_empty()));
    }
    assert!(!Finding::Testing.breaks() && Finding::NotForMail.breaks());
}

fn blank_end(body: &str, piece: usize) -> usize {
    let (mut blank, mut all) = (BlankEnd::default(), true);
    for piece in body.as_bytes().rchunks(piece) {
        all = blank.before(piece);
        if !all {
            break;
        }
    }
    body.len() - usize::try_from(blank.surplus(all)).unwrap()
}

// SIG-10
#[test]
fn blank_lines_at_the_end_go_and_nothing_else() {
    for (body, want) in [
        ("a\r\n \r\n", "a\r\n"),
        ("a\r\n\r\n \t\r\n\r\n", "a\r\n"),
        ("a\r\n  ", "a\r\n"),
        ("a \r\n\t\r\n", "a \r\n"),
        ("a\r\n \r\nb\r\n", "a\r\n \r\nb\r\n"),
        // Empty lines are no trouble to anybody, and trailing blanks of the last line are text.
        ("a\r\n\r\n\r\n", "a\r\n\r\n\r\n"),
        ("a \r\n\r\n", "a \r\n\r\n"),
        ("a  ", "a  "),
        ("\r\n", "\r\n"),
        (" \r\n\r\n", ""),
        (" ", ""),
        ("", ""),
    ] {
        for piece in [1, 2, 100] {
            assert_eq!(&body[..blank_end(body, piece)], want, "{body:?}");
        }
    }
}

proptest! {
    // SIG-12
    #[test]
    fn a_body_hashes_alike_in_any_pieces_and_as_the_rfc_says(
        lines in prop::collection::vec("[ \ta-c.\u{c}ü]{0,6}", 0..8), ended: bool, piece in 1_usize..7
    ) {
        let mut body = lines.join("\r\n");
        if ended {
            body.push_str("\r\n");
        }
        let want = sha256(relaxed_body(&body).as_bytes());
        let mut hash = BodyHash::default();
        body.as_bytes().chunks(piece).for_each(|c| hash.update(c));
        prop_assert_eq!(&hash.finish().to_vec(), &want);
        // What is cut off at the end changes no hash.
        let cut = blank_end(&body, piece);
        prop_assert_eq!(body_hash(&body.as_bytes()[..cut]).to_vec(), want);
    }

    #[test]
    fn anything_is_signed_or_not_without_panic(octets: Vec<u8>, text in "(From|To|[A-z;]{1,9}) ?: ?[ -~\r\n]{0,40}") {
        let signers = Signers::new(vec![ed25519("example.net", "s1")]);
        let message = [b"From: a@example.net\r\n".as_slice(), text.as_bytes(), b"\r\n", &octets].concat();
        for line in std::str::from_utf8(&signers.sign(&message, NOW)).unwrap().split("\r\n") {
            prop_assert!(line.len() <= 76);
        }
        signers.sign(&octets, NOW);
        let _ = KeyRecord::parse(&octets);
    }
}
