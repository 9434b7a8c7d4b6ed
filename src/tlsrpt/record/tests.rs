use proptest::prelude::*;

use super::*;

fn found(text: &str) -> Result<TlsRptRecord, NoRecord> {
    discover(&[text.as_bytes().to_vec()])
}

fn uris(text: &str) -> Vec<String> {
    let record = found(text).unwrap_or_else(|e| panic!("{text:?}: {e}"));
    record.destinations.iter().map(|d| d.uri().to_owned()).collect()
}

// RPT-01 (the matrix of STS-05), RPT-02
#[test]
fn a_record_is_ours_by_its_first_octets_alone() {
    let rua = "rua=mailto:a@b.example";
    for (text, want) in [
        (format!("v=TLSRPTv1; {rua}"), Ok(())),
        (format!("v=TLSRPTv1;{rua};"), Ok(())),
        (format!("v=TLSRPTv1 ; {rua}"), Ok(())),
        (format!("v=TLSRPTv1\t;\t{rua} ; "), Ok(())),
        (format!("v=TLSRPTv1; x=1; {rua}"), Ok(())),
        (format!("v=TLSRPTv1; {rua}; v=TLSRPTv1"), Ok(())),
        (format!("v=TLSRPTv1;; {rua};; nonsense; k=a=b"), Ok(())),
        (format!("v=TLSRPTv1; k=\u{fc}; {rua}"), Ok(())),
        ("v=TLSRPTv1".to_owned(), Err(NoRecord::Missing)),
        (format!("V=TLSRPTv1; {rua}"), Err(NoRecord::Missing)),
        (format!(" v=TLSRPTv1; {rua}"), Err(NoRecord::Missing)),
        (format!("v=TLSRPTv1x; {rua}"), Err(NoRecord::Missing)),
        (format!("v=tlsrptv1; {rua}"), Err(NoRecord::Missing)),
        (format!("{rua}; v=TLSRPTv1"), Err(NoRecord::Missing)),
        (String::new(), Err(NoRecord::Missing)),
        ("v=TLSRPTv1;".to_owned(), Err(NoRecord::NoRua)),
        ("v=TLSRPTv1; RUA=mailto:a@b.example".to_owned(), Err(NoRecord::NoRua)),
        ("v=TLSRPTv1; xrua=mailto:a@b.example".to_owned(), Err(NoRecord::NoRua)),
    ] {
        assert_eq!(found(&text).map(|_| ()), want, "{text:?}");
    }
    assert!(matches!(found("v=TLSRPTv1; rua="), Err(NoRecord::Unusable(_))));
}

// RPT-01 (the matrix of STS-04)
#[test]
fn exactly_one_candidate_must_remain() {
    let records = |texts: &[&str]| {
        discover(&texts.iter().map(|t| t.as_bytes().to_vec()).collect::<Vec<_>>()).map(|_| ())
    };
    let ours = "v=TLSRPTv1; rua=mailto:a@b.example";
    assert_eq!(records(&[]), Err(NoRecord::Missing));
    assert_eq!(records(&["v=spf1 -all", ours]), Ok(()));
    assert_eq!(records(&[ours, "v=TLSRPTv1; rua=mailto:c@b.example"]), Err(NoRecord::Multiple));
    assert_eq!(records(&[ours, "v=TLSRPTv1;"]), Err(NoRecord::Multiple));
}

// RPT-03, RPT-04, RPT-05
#[test]
fn every_uri_of_every_rua_counts_in_order() {
    for (text, want) in [
        (
            "v=TLSRPTv1; rua=mailto:a@x.example , https://y.example/r",
            &["mailto:a@x.example", "https://y.example/r"][..],
        ),
        (
            "v=TLSRPTv1;rua=mailto:a@x.example;n=1;rua=mailto:b@x.example",
            &["mailto:a@x.example", "mailto:b@x.example"],
        ),
        ("v=TLSRPTv1; rua=http://x.example/,ftp://x,MAILTO:a@x.example", &["MAILTO:a@x.example"]),
        ("v=TLSRPTv1; rua=,mailto:a@x.example,,", &["mailto:a@x.example"]),
        ("v=TLSRPTv1; rua=mailto:a@x.example,mailto:a@x.example", &["mailto:a@x.example"]),
        // The value of a field may hold `=`: this one came out changed from a library (§5.3 of the crate notes).
        (
            "v=TLSRPTv1; rua=HTTPS://R.example/v1?id=abc&token=x%2Cy=z",
            &["HTTPS://R.example/v1?id=abc&token=x%2Cy=z"],
        ),
    ] {
        assert_eq!(uris(text), want, "{text}");
    }
    let skipped = found("v=TLSRPTv1; rua=http://x.example/,mailto:a@x.example").unwrap().skipped;
    assert_eq!(skipped, ["<http://x.example/>: only mailto and https are known"]);
}

// RPT-06
#[test]
fn a_mailto_uri_is_one_decoded_mailbox() {
    for (uri, want) in [
        ("mailto:a@x.example", Some("a@x.example")),
        ("mailto:a%21b@x.example?subject=z", Some("a!b@x.example")),
        ("mailto:a%40b@x.example", None),
        ("mailto:%22a%40b%22@x.example", Some("\"a@b\"@x.example")),
        ("mailto:a+tls=1@X.Example", Some("a+tls=1@x.example")),
        ("mailto:a@b%C3%BCcher.example", Some("a@xn--bcher-kva.example")),
        ("mailto:a%0D%0ARCPT%20TO:%3Cb@x.example%3E@x.example", None),
        ("mailto:%22a%0D%0Ab%22@x.example", None),
        ("mailto:a%00@x.example", None),
        ("mailto:%22a%C2%85%22@x.example", None),
        ("mailto:%FF@x.example", None),
        ("mailto:a%2@x.example", None),
        ("mailto:a%zz@x.example", None),
        ("mailto:a@x.example%2Cb@y.example", None),
        ("mailto:@evil.example:a@x.example", None),
        ("mailto:a@x.example!10m", None),
        ("mailto:a@[192.0.2.1]", None),
        ("mailto:a@localhost", None),
        ("mailto:postmaster", None),
        ("mailto:", None),
        ("mailto:?to=a@x.example", None),
        ("mailto://a@x.example", None),
    ] {
        let got = match Rua::parse(uri) {
            Ok(Rua::Mail { to, uri: kept }) => {
                assert_eq!(kept, uri);
                Some(to.to_string())
            }
            Ok(Rua::Https { .. }) => panic!("{uri}"),
            Err(_) => None,
        };
        assert_eq!(got.as_deref(), want, "{uri}");
    }
}

// RPT-91, as far as it can be judged without the DNS
#[test]
fn only_a_plain_https_url_of_a_domain_is_asked() {
    for (uri, want) in [
        ("https://R.example", Ok("r.example")),
        ("https://r.example./v1/?a=b", Ok("r.example")),
        ("https://r.example?x", Ok("r.example")),
        ("https://r.example:443/", Ok("r.example")),
        ("https://r.example:8443/a@b:c", Ok("r.example")),
        ("https://127.0.0.1/", Err(BadRua::Host)),
        ("https://127.0.0.1./", Err(BadRua::Host)),
        ("https://127.1/", Err(BadRua::Host)),
        ("https://2130706433/", Err(BadRua::Host)),
        ("https://0x7f.0.0.0x1/", Err(BadRua::Host)),
        ("https://0x7f000001/", Err(BadRua::Host)),
        ("https://a.0x/", Err(BadRua::Host)),
        ("https://%31%32%37.0.0.1/", Err(BadRua::Host)),
        ("https://[::1]/", Err(BadRua::Host)),
        ("https://[::ffff:127.0.0.1]:8443/", Err(BadRua::Host)),
        ("https://localhost/", Err(BadRua::Host)),
        ("https:///r", Err(BadRua::Host)),
        ("https://", Err(BadRua::Host)),
        ("https:r.example/", Err(BadRua::Host)),
        ("https://r.example%2F@evil.example/", Err(BadRua::UserInfo)),
        ("https://user:pass@r.example/", Err(BadRua::UserInfo)),
        ("https://r.example:25/", Err(BadRua::Port)),
        ("https://r.example:0/", Err(BadRua::Port)),
        ("https://r.example:65536/", Err(BadRua::Port)),
        ("https://r.example:+443/", Err(BadRua::Port)),
        ("https://r.example:/", Err(BadRua::Port)),
        ("https://r.example:443:8/", Err(BadRua::Port)),
        ("https://r.example/#top", Err(BadRua::Fragment)),
        ("https://r.example/[", Err(BadRua::Syntax)),
        ("https://r.example\\@evil.example/", Err(BadRua::Syntax)),
        ("https://r.example/a b", Err(BadRua::Syntax)),
        ("https://r.example/\u{e9}", Err(BadRua::Syntax)),
        ("https://r.example/%", Err(BadRua::Syntax)),
        ("http://r.example/", Err(BadRua::Scheme)),
        ("file:///etc/passwd", Err(BadRua::Scheme)),
        ("r.example", Err(BadRua::Syntax)),
    ] {
        let got = Rua::parse(uri);
        assert_eq!(got.as_ref().map(|r| r.receiver().as_str()), want.as_ref().map(|h| *h), "{uri}");
        if let Ok(rua) = got {
            assert_eq!(rua.uri(), uri, "kept octet for octet");
        }
    }
    let longest = format!("https://r.example/{}", "a".repeat(MAX_URI - 18));
    assert!(Rua::parse(&longest).is_ok());
    assert_eq!(Rua::parse(&format!("{longest}a")), Err(BadRua::TooLong));
}

// RPT-07
#[test]
fn the_first_ten_destinations_are_honoured_and_the_rest_is_named() {
    let list = |n: usize| (0..n).map(|i| format!("mailto:a{i}@x.example")).collect::<Vec<_>>().join(",");
    let record = found(&format!("v=TLSRPTv1; rua={}", list(50))).unwrap();
    assert_eq!(record.destinations.len(), MAX_DESTINATIONS);
    assert_eq!(record.destinations[9].uri(), "mailto:a9@x.example");
    assert_eq!(record.skipped, ["40 more than the first 10"]);
    let bad = format!("v=TLSRPTv1; rua={}", "x,".repeat(1000));
    let Err(NoRecord::Unusable(words)) = found(&bad) else { panic!("usable") };
    assert_eq!(words.len(), MAX_SKIPPED + 1);
}

// RPT-07
#[test]
fn a_uri_cut_by_the_length_cap_is_dropped_whole() {
    let head = " rua=mailto:a@x.example,";
    let filler = format!("{}mailto:b@", "z".repeat(MAX_RECORD - head.len() - 20 - 9));
    let text = format!("v=TLSRPTv1;{head}{filler}attacker.example.and.much.more.example");
    assert!(text.len() > MAX_RECORD + 11);
    assert_eq!(uris(&text), ["mailto:a@x.example"]);
    let one = format!("v=TLSRPTv1; rua=https://x.example/{}", "a".repeat(MAX_RECORD));
    assert_eq!(found(&one), Err(NoRecord::NoRua));
}

proptest! {
    #[test]
    fn any_octets_are_read_without_panic_and_destinations_read_back(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..200),
        rua in "(mailto:|https://|)[ -~]{0,60}(,[ -~]{0,40}){0,3}",
    ) {
        let mut records = records;
        let mut ours = format!("v=TLSRPTv1; rua={rua};").into_bytes();
        ours.extend(tail);
        records.push(ours);
        if let Ok(record) = discover(&records) {
            prop_assert!((1..=MAX_DESTINATIONS).contains(&record.destinations.len()));
            for rua in record.destinations {
                prop_assert!(rua.uri().bytes().all(|b| b.is_ascii_graphic()));
                prop_assert_eq!(Rua::parse(rua.uri()), Ok(rua.clone()));
                if let Rua::Mail { to, .. } = &rua {
                    prop_assert!(!to.to_string().chars().any(char::is_control));
                }
            }
        }
    }

    #[test]
    fn any_text_is_a_uri_or_is_refused(text: String) {
        let _ = Rua::parse(&text);
    }
}
