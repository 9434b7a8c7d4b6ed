//! The resolver against a scripted server on loopback, UDP and TCP on one port.

use futures_util::future::join_all;
use hickory_resolver::proto::rr::rdata::{A, MX, NULL, PTR, TXT};

use super::scripted::{
    Act, Server, address, alias, fqdn, host, no_host_name, put, resolver, root, soa, tlsa_record, waiting,
};
use super::*;
use crate::dns::self_test::Trouble;

/// The wait for a server that is silent.
const SHORT: Duration = Duration::from_millis(200);

/// TLSA records and what stands in their way, by the label below `_tcp`.
fn tlsa_script(query: &Query, a: &mut Message) -> Act {
    let name = query.name.to_ascii();
    let own = name.as_str();
    a.metadata.authentic_data = true;
    match own.split('.').nth(2).unwrap_or_default() {
        "" => root(a),
        "sound" => put(a, own, 60, tlsa_record(3, &[1; 32])),
        "noad" => {
            put(a, own, 60, tlsa_record(3, &[1; 32]));
            a.metadata.authentic_data = false;
        }
        "alias" => {
            put(a, own, 45, alias("tlsa.dane.example."));
            put(a, "tlsa.dane.example.", 300, tlsa_record(3, &[1; 32]));
        }
        // Data for a name that nobody asked for, beside a denial and beside data.
        "foreign" => {
            put(a, "_25._tcp.victim.example.", 300, alias(own));
            put(a, "other.example.", 300, tlsa_record(3, &[6; 32]));
            soa(a);
        }
        "foreigntoo" => {
            put(a, "other.example.", 300, alias(own));
            put(a, "other.example.", 300, tlsa_record(3, &[6; 32]));
            put(a, own, 60, tlsa_record(3, &[1; 32]));
        }
        "denied" => soa(a),
        "nx" => {
            a.metadata.response_code = ResponseCode::NXDomain;
            soa(a);
        }
        // As NSEC3 opt-out has it: denied, not authenticated.
        "optout" => {
            a.metadata.response_code = ResponseCode::NXDomain;
            a.metadata.authentic_data = false;
            soa(a);
        }
        "empty" => {
            put(a, own, 60, tlsa_record(3, &[]));
            put(a, own, 60, tlsa_record(3, &[1; 32]));
            put(a, own, 60, tlsa_record(77, &[2; 500]));
        }
        // One octet where three are the least.
        "short" => {
            let data = RData::Unknown { code: RecordType::TLSA, rdata: NULL::with(vec![3]) };
            put(a, own, 60, tlsa_record(3, &[1; 32]));
            put(a, own, 60, data);
        }
        "huge" => {
            (0..600_u16).for_each(|n| {
                put(a, own, 60, tlsa_record(3, &[n.to_be_bytes()[0], n.to_be_bytes()[1]].repeat(16)))
            });
            return Act::Truncate;
        }
        _ => {}
    }
    Act::Answer
}

// DANE-03, DANE-11, DANE-20, DANE-39: each kind of answer about TLSA records, and nothing of what was not asked for.
#[tokio::test]
async fn tlsa_answers_keep_data_denial_and_the_ad_bit_apart() {
    let server = Server::start(tlsa_script).await;
    let dns = resolver(&[server.address], true);
    let records = |data: &[(u8, &[u8])]| {
        let tlsa = |(usage, data): &(u8, &[u8])| Tlsa {
            usage: *usage,
            selector: 1,
            matching: 1,
            data: data.to_vec(),
        };
        Data::Records(data.iter().map(tlsa).collect())
    };
    let one = || records(&[(3, &[1; 32])]);
    for (label, want) in [
        ("sound", Ok((one(), true, 60))),
        ("noad", Ok((one(), false, 60))),
        ("alias", Ok((one(), true, 45))),
        ("foreign", Ok((Data::NoData, true, 120))),
        ("foreigntoo", Ok((one(), true, 60))),
        ("denied", Ok((Data::NoData, true, 120))),
        ("nx", Ok((Data::NxDomain, true, 120))),
        ("optout", Ok((Data::NxDomain, false, 120))),
        ("empty", Ok((records(&[(3, &[]), (3, &[1; 32]), (77, &[2; 500])]), true, 60))),
        // The library reads a message whole or not at all: mail waits, and nobody takes it for a denial.
        ("short", Err(DnsErrorKind::Malformed)),
    ] {
        let name = Domain::parse_host(&format!("_25._tcp.{label}.example")).unwrap();
        let got = dns.tlsa(&name).await.map(|a| (a.data, a.secure, a.ttl.as_secs())).map_err(|e| e.kind);
        assert_eq!(got, want, "{label}");
    }
    let name = Domain::parse_host("_25._tcp.huge.example").unwrap();
    let Data::Records(all) = dns.tlsa(&name).await.unwrap().data else { panic!() };
    assert_eq!(all.len(), 600, "none is left out");
}

// DANE-09, DANE-12: the first link of a chain by itself, with its own AD bit.
#[tokio::test]
async fn an_alias_is_asked_for_by_itself_and_not_followed() {
    let server = Server::start(script).await;
    let dns = resolver(&[server.address], true);
    let cname =
        async |label: &str| dns.cname(&host(label)).await.map(|a| (a.data, a.secure)).map_err(|e| e.kind);
    let to = |label: &str| Data::Records(vec![host(label)]);
    assert_eq!(cname("alias").await, Ok((to("middle"), true)));
    assert_eq!(cname("loop").await, Ok((to("pool"), true)));
    assert_eq!(cname("nodata").await, Ok((Data::NoData, true)));
    assert_eq!(cname("lame").await, Ok((Data::NoData, false)));
    assert_eq!(cname("bogus").await, Err(DnsErrorKind::Bogus));
    let silence = waiting(SHORT, &[server.address], true).cname(&host("silent")).await;
    assert_eq!(silence.map_err(|e| e.kind), Err(DnsErrorKind::Timeout));
}

// DANE-02: who sets AD on everything is found out, who does not validate is told, and silence proves nothing.
#[tokio::test]
async fn the_self_test_sees_each_resolver_as_it_is() {
    let sound = Server::start(script).await;
    let liar = Server::start(|query, a| {
        a.metadata.authentic_data = true;
        put(a, &query.name.to_ascii(), 300, address(1));
        Act::Answer
    })
    .await;
    let plain = Server::start(|query, a| {
        put(a, &query.name.to_ascii(), 300, address(1));
        Act::Answer
    })
    .await;
    let silent = Server::start(|_, _| Act::Silence).await;
    let failing = Server::start(|_, a| {
        a.metadata.response_code = ResponseCode::ServFail;
        Act::Answer
    })
    .await;
    for (case, servers, bogus, believe, trouble, answered) in [
        ("sound", vec![&sound], "bogus.example", Some(true), None, true),
        ("sound, no broken name", vec![&sound], "", None, None, true),
        ("AD on everything", vec![&liar], "bogus.example", Some(false), Some(Trouble::Lies), true),
        (
            "AD on everything, behind a sound one",
            vec![&sound, &liar],
            "bogus.example",
            Some(false),
            Some(Trouble::Lies),
            true,
        ),
        ("does not validate", vec![&plain], "bogus.example", Some(true), Some(Trouble::Lies), true),
        ("packets dropped", vec![&silent], "bogus.example", None, Some(Trouble::NoAnswer), false),
        ("SERVFAIL for all", vec![&failing], "bogus.example", None, Some(Trouble::Partial), false),
    ] {
        let servers: Vec<SocketAddr> = servers.iter().map(|s| s.address).collect();
        let silent = trouble == Some(Trouble::NoAnswer);
        let dns = if silent { waiting(SHORT, &servers, true) } else { resolver(&servers, true) };
        let got = dns.self_test("nodata.example", bogus, false).await;
        assert_eq!(
            (got.believe, got.trouble, got.answered),
            (believe, trouble, answered),
            "{case}: {}",
            got.text
        );
    }
    // DANE-01: where nobody is believed, whether anybody answers is asked all the same.
    for (dns, trouble) in [
        (resolver(&[plain.address], false), None),
        (waiting(SHORT, &[silent.address], false), Some(Trouble::NoAnswer)),
    ] {
        let got = dns.self_test("nodata.example", "bogus.example", false).await;
        assert_eq!((got.believe, got.trouble), (None, trouble), "{}", got.text);
    }
}

/// By the first label of the name asked for.
fn script(query: &Query, a: &mut Message) -> Act {
    let name = query.name.to_ascii();
    let own = name.as_str();
    a.metadata.authentic_data = true;
    match own.split('.').next().unwrap() {
        "" => root(a),
        "data" if query.query_type == RecordType::MX => {
            put(a, own, 300, RData::MX(MX::new(10, fqdn("MX.data.example."))));
            put(a, own, 60, RData::MX(MX::new(0, Name::root())));
            put(a, own, 300, RData::MX(MX::new(5, no_host_name())));
        }
        "data" if query.query_type == RecordType::TXT => {
            put(a, own, 300, RData::TXT(TXT::new(vec!["v=STSv1; i".into(), "d=abc;".into()])));
        }
        "7" => {
            put(a, own, 300, alias("7.0-127.2.0.192.in-addr.arpa."));
            put(a, "7.0-127.2.0.192.in-addr.arpa.", 300, RData::PTR(PTR(fqdn("MX.data.example."))));
            put(a, "7.0-127.2.0.192.in-addr.arpa.", 300, RData::PTR(PTR(no_host_name())));
        }
        "badmx" => put(a, own, 300, RData::MX(MX::new(5, no_host_name()))),
        "nx" => {
            a.metadata.response_code = ResponseCode::NXDomain;
            soa(a);
        }
        "nodata" => soa(a),
        "lame" => a.metadata.authentic_data = false,
        "refused" => a.metadata.response_code = ResponseCode::Refused,
        "notimp" => a.metadata.response_code = ResponseCode::NotImp,
        "broken" => a.metadata.response_code = ResponseCode::ServFail,
        "bogus" if !a.metadata.checking_disabled => a.metadata.response_code = ResponseCode::ServFail,
        "bogus" => put(a, own, 300, address(1)),
        "silent" => return Act::Silence,
        "wrongid" => return Act::WrongId,
        "wrongq" => return Act::WrongQuestion,
        "garbage" => return Act::Garbage,
        "half" => return Act::Half,
        "big" => {
            (0..100).for_each(|n| put(a, own, 300, address(n)));
            return Act::Truncate;
        }
        "many" => {
            (0..300_u16).for_each(|n| {
                let [high, low] = n.to_be_bytes();
                put(a, own, 300, RData::A(A::new(192, 0, high, low)));
            });
            return Act::Truncate;
        }
        "alias" => {
            put(a, "unasked.example.", 300, alias("evil.example."));
            put(a, "evil.example.", 300, address(66));
            put(a, own, 45, alias("middle.example."));
            put(a, "middle.example.", 300, alias("end.example."));
            put(a, "END.example.", 300, address(7));
        }
        "loose" => put(a, own, 300, alias("data.example.")),
        "data" => put(a, own, 300, address(1)),
        "gone" => {
            put(a, own, 300, alias("nowhere.example."));
            a.metadata.response_code = ResponseCode::NXDomain;
            soa(a);
        }
        "loop" => {
            put(a, own, 300, alias("pool.example."));
            put(a, "pool.example.", 300, alias(own));
        }
        chain if chain.starts_with("chain") => {
            let length: u8 = chain[5..].parse().unwrap();
            let hop = |n| if n == 0 { own.to_owned() } else { format!("hop{n}.example.") };
            (0..length).for_each(|n| put(a, &hop(n), 300, alias(&hop(n + 1))));
            put(a, &hop(length), 300, address(8));
        }
        _ => {}
    }
    Act::Answer
}

fn v4(last: u8) -> Data<IpAddr> {
    Data::Records(vec![IpAddr::from([192, 0, 2, last])])
}

// DANE-03, OUT-06, OUT-10: each class of answer, and that the AD bit of denials is kept.
#[tokio::test]
async fn every_answer_is_told_from_every_other() {
    let server = Server::start(script).await;
    let answer = async |dns: &HickoryResolver, label: &str| {
        let got = dns.addresses(&host(label), Family::V4).await;
        if let Err(e) = &got {
            assert_eq!((&e.name, e.record, e.server), (&host(label), "A", Some(server.address)));
        }
        got.map(|a| (a.data, a.secure, a.ttl.as_secs())).map_err(|e| e.kind)
    };
    let dns = resolver(&[server.address], true);
    for (label, want) in [
        ("data", Ok((v4(1), true, 300))),
        ("nx", Ok((Data::NxDomain, true, 120))),
        ("nodata", Ok((Data::NoData, true, 120))),
        ("lame", Ok((Data::NoData, false, 0))),
        ("alias", Ok((v4(7), true, 45))),
        ("loose", Ok((v4(1), true, 300))),
        ("gone", Ok((Data::NxDomain, true, 120))),
        ("chain8", Ok((v4(8), true, 300))),
        ("chain9", Err(DnsErrorKind::Malformed)),
        ("loop", Err(DnsErrorKind::Malformed)),
        ("refused", Err(DnsErrorKind::Refused)),
        ("notimp", Err(DnsErrorKind::Refused)),
        ("broken", Err(DnsErrorKind::Servfail)),
        ("bogus", Err(DnsErrorKind::Bogus)),
        ("half", Err(DnsErrorKind::Malformed)),
    ] {
        assert_eq!(answer(&dns, label).await, want, "{label}");
    }
    // All of the wait is spent on these: long enough for what is no answer to come, and side by side.
    let dns = waiting(Duration::from_secs(3), &[server.address], true);
    join_all(
        [
            ("silent", DnsErrorKind::Timeout),
            ("wrongid", DnsErrorKind::Malformed),
            ("wrongq", DnsErrorKind::Malformed),
            ("garbage", DnsErrorKind::Malformed),
        ]
        .map(async |(label, want)| assert_eq!(answer(&dns, label).await, Err(want), "{label}")),
    )
    .await;
}

// STS-02, NMX-03
#[tokio::test]
async fn records_are_read_as_mail_needs_them() {
    let server = Server::start(script).await;
    let dns = resolver(&[server.address], false);
    let answer = dns.mx(&host("data")).await.unwrap();
    let mx = |preference, name: Option<&str>| Mx {
        preference,
        exchange: name.map(|n| Domain::parse_host(n).unwrap()),
    };
    assert_eq!(answer.data, Data::Records(vec![mx(10, Some("mx.data.example")), mx(0, None)]));
    assert_eq!((answer.ttl.as_secs(), answer.secure), (60, false), "AD is not believed unless told to");
    assert_eq!(dns.mx(&host("badmx")).await.unwrap_err().kind, DnsErrorKind::Malformed);
    let reverse = crate::dns::reverse_name("192.0.2.7".parse().unwrap()).unwrap();
    let names = dns.ptr(&reverse).await.unwrap().data;
    assert_eq!(names, Data::Records(vec![Domain::parse_host("mx.data.example").unwrap()]), "RFC 2317");
    let text = dns.txt(&host("data")).await.unwrap();
    assert_eq!(text.data, Data::Records(vec![b"v=STSv1; id=abc;".to_vec()]));
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp_and_bounded() {
    let server = Server::start(script).await;
    let dns = resolver(&[server.address], false);
    for (label, want) in [("big", 100), ("many", 256)] {
        let Data::Records(found) = dns.addresses(&host(label), Family::V4).await.unwrap().data else {
            panic!()
        };
        assert_eq!(found.len(), want);
    }
    assert_eq!(server.asked()[..2], ["A big.example.", "A big.example. tcp"]);
}

// DANE-01: without a trusted resolver SERVFAIL is not examined further.
#[tokio::test]
async fn bogus_is_told_from_servfail_by_one_question_without_checking() {
    let server = Server::start(script).await;
    let trusting = resolver(&[server.address], true);
    assert_eq!(trusting.mx(&host("bogus")).await.unwrap_err().kind, DnsErrorKind::Bogus);
    assert_eq!(server.asked(), ["MX bogus.example.", "MX bogus.example. +cd"]);
    let doubting = resolver(&[server.address], false);
    assert_eq!(doubting.mx(&host("bogus")).await.unwrap_err().kind, DnsErrorKind::Servfail);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn the_next_server_is_asked_after_trouble_and_the_good_one_first_from_then_on() {
    let bad = Server::start(|_, a| {
        a.metadata.response_code = ResponseCode::ServFail;
        Act::Answer
    })
    .await;
    let good = Server::start(script).await;
    // Nobody is given this port, and nobody on a machine of today listens there.
    let closed = SocketAddr::from(([127, 0, 0, 1], 1));
    let dns = resolver(&[bad.address, closed, good.address], false);
    for _ in 0..2 {
        assert_eq!(dns.addresses(&host("data"), Family::V4).await.unwrap().data, v4(1));
    }
    assert_eq!((bad.asked().len(), good.asked().len()), (1, 2));
    let dead = resolver(&[closed], false);
    assert_eq!(dead.mx(&host("data")).await.unwrap_err().kind, DnsErrorKind::Unreachable);
}

// DANE-02: a resolver with stale root keys calls everything bogus. A sound one makes up for it; one that authenticates
// nothing opens nothing.
#[tokio::test]
async fn what_one_server_calls_bogus_is_believed_of_another_only_where_that_one_authenticates_it() {
    let stale = || {
        Server::start(|query, a| {
            if !a.metadata.checking_disabled {
                a.metadata.response_code = ResponseCode::ServFail;
                return Act::Answer;
            }
            script(query, a)
        })
    };
    let sound = Server::start(script).await;
    let plain = Server::start(|query, a| {
        let act = script(query, a);
        a.metadata.authentic_data = false;
        act
    })
    .await;
    let (first, third) = (stale().await, stale().await);
    let dns = resolver(&[first.address, sound.address], true);
    for (label, data) in [("data", v4(1)), ("nodata", Data::NoData)] {
        let got = dns.addresses(&host(label), Family::V4).await.unwrap();
        assert_eq!((got.data, got.secure), (data, true), "{label}");
    }
    assert_eq!(
        (first.asked().len(), sound.asked().len()),
        (2, 2),
        "the sound one is asked first from then on"
    );
    // What is not signed is believed of the sound one, now that it comes first.
    assert_eq!(dns.addresses(&host("lame"), Family::V4).await.unwrap().data, Data::NoData);
    // What is broken stays so, and is asked once of each.
    let twice = HickoryResolver::new(DnsSettings {
        servers: vec![third.address, plain.address],
        trust: Trust::Resolvers,
        ..DnsSettings::default()
    })
    .unwrap();
    for label in ["data", "nodata"] {
        let got = twice.addresses(&host(label), Family::V4).await.unwrap_err();
        assert_eq!((got.kind, got.server), (DnsErrorKind::Bogus, Some(third.address)), "{label}");
    }
    assert_eq!((third.asked().len(), plain.asked().len()), (4, 2), "and nobody is preferred for it");
    // Past one that authenticates nothing, one that does is found.
    let last = resolver(&[third.address, plain.address, sound.address], true);
    assert!(last.addresses(&host("data"), Family::V4).await.unwrap().secure);
}

// DNS dead: every lookup ends, whatever is configured.
#[tokio::test]
async fn a_lookup_ends_at_its_deadline() {
    let server = Server::start(|_, _| Act::Silence).await;
    let dns = HickoryResolver::new(DnsSettings {
        servers: vec![server.address],
        timeout: Duration::from_secs(600),
        deadline: Duration::from_millis(200),
        ..DnsSettings::default()
    })
    .unwrap();
    assert_eq!(dns.mx(&host("data")).await.unwrap_err().kind, DnsErrorKind::Timeout);
}
