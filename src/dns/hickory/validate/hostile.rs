//! Attacks on the validator that are more than a lie about one record: a wildcard's records where they do not belong, and
//! answers that cost more than they may; denials of what is there; and signatures out of their time.

use std::sync::mpsc;
use std::time::Duration;

use hickory_resolver::proto::dnssec::rdata::RRSIG;
use hickory_resolver::proto::op::ResponseCode;

use super::tests::{Lie, Said, honest, ok, resolver, says, told, unsigned_soa};
use super::world::{SignedWorld, Signing, fqdn};
use super::*;
use crate::dns::hickory::scripted::Act;
use crate::dns::{Data, Resolver as _};
use crate::mail::Domain;

const NSEC3: Signing = Signing::Nsec3 { opt_out: false, iterations: 5 };

/// Wildcards beside signed zones, in zones of both kinds of denial.
fn cuts() -> SignedWorld {
    SignedWorld::new(&[
        (".", Signing::Nsec, ""),
        ("example.", Signing::Nsec, "*.wild CNAME host.unsigned.\n *.addr A 192.0.2.66\n *.addr TLSA 66"),
        ("sub.wild.example.", Signing::Nsec, "_25._tcp.mx TLSA 20"),
        ("sub.addr.example.", Signing::Nsec, "mx A 192.0.2.21\n _25._tcp.mx TLSA 21"),
        ("hashed.", NSEC3, "*.wild CNAME host.unsigned.\n *.addr A 192.0.2.66\n *.addr TLSA 66"),
        ("sub.wild.hashed.", Signing::Nsec, "_25._tcp.mx TLSA 20"),
        ("sub.addr.hashed.", Signing::Nsec, "mx A 192.0.2.21\n _25._tcp.mx TLSA 21"),
        ("unsigned.", Signing::None, "host A 192.0.2.99"),
    ])
}

fn signature_like(of: &Record, change: impl FnOnce(&RRSIG) -> RRSIG) -> Option<Record> {
    let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &of.data else { return None };
    let changed = RData::DNSSEC(DNSSECRData::RRSIG(change(signature)));
    Some(Record::from_rdata(of.name.clone(), of.ttl, changed))
}

/// What the wildcards of the zone above make of any name, shown under one below the cut, with that zone's own denial of it.
/// With `decoy`, a signature that claims to cover the name as it stands comes first, and holds nothing.
fn over_the_cut(w: &SignedWorld, q: &Query, m: &mut Message, decoy: bool) -> Act {
    let below = ["wild.example.", "addr.example.", "wild.hashed.", "addr.hashed."]
        .into_iter()
        .find(|z| fqdn(&format!("sub.{z}")).zone_of(&q.name) && q.query_type != RecordType::DS);
    let (Some(below), false) = (below, q.query_type == RecordType::DNSKEY) else { return Act::Answer };
    let kind = if below.starts_with("wild") { RecordType::CNAME } else { q.query_type };
    let any = fqdn(&format!("any.{below}"));
    m.answers.clear();
    m.metadata.response_code = ResponseCode::NoError;
    w.answer(&Query::query(any.clone(), kind), m);
    m.answers.retain(|r| r.name == any);
    m.answers.iter_mut().for_each(|r| r.name = q.name.clone());
    let more_labels = |s: &RRSIG| {
        let mut input = s.input().clone();
        input.num_labels = 3;
        RRSIG::from_sig(input, vec![7; 64])
    };
    let front: Vec<Record> =
        m.answers.iter().filter(|_| decoy).filter_map(|r| signature_like(r, more_labels)).collect();
    m.answers.splice(0..0, front);
    m.authorities = w.denial_by(below.split_once('.').unwrap().1, &q.name);
    Act::Answer
}

fn with_a_decoy(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    over_the_cut(w, q, m, true)
}

fn without_a_decoy(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    over_the_cut(w, q, m, false)
}

// RFC 4592 §4.2, RFC 5155 §8.8
#[tokio::test]
async fn a_wildcard_reaches_over_no_zone_cut() {
    let world = Arc::new(cuts());
    for zone in ["example", "hashed"] {
        for (host, want) in [
            (format!("any.addr.{zone}"), ok("192.0.2.66", true)),
            (format!("mx.sub.addr.{zone}"), ok("192.0.2.21", true)),
            (format!("_25._tcp.mx.sub.addr.{zone}"), ok("21", true)),
            (format!("_25._tcp.mx.sub.wild.{zone}"), ok("20", true)),
        ] {
            let server = told(&world, honest).await;
            let (dns, _) = resolver(&[&server], vec![world.root_key()]);
            assert_eq!(says(&dns, &host).await, want, "{host}");
            for (case, lie) in [("decoy", with_a_decoy as Lie), ("no decoy", without_a_decoy)] {
                let server = told(&world, lie).await;
                let (dns, _) = resolver(&[&server], vec![world.root_key()]);
                let want = if host.starts_with("any") { want.clone() } else { Err(DnsErrorKind::Bogus) };
                assert_eq!(says(&dns, &host).await, want, "{case}: {host}");
            }
        }
    }
}

/// What is made of an answer on whose way there is a liar.
async fn heard(world: &Arc<SignedWorld>, lie: Lie, host: &str) -> Said {
    let server = told(world, lie).await;
    let (dns, _) = resolver(&[&server], vec![world.root_key()]);
    says(&dns, host).await
}

/// Aliases of all kinds, what they lead to, and a wildcard two labels up.
fn aliases() -> SignedWorld {
    let hosts = "mx A 192.0.2.30\n _25._tcp.mx TLSA 30\n *.all TLSA 31\n all A 192.0.2.31\n next A 192.0.2.32\n\
                 _25._tcp.alias CNAME _25._tcp.mx.example.\n *._tcp.any CNAME _25._tcp.mx.example.\n\
                 old DNAME new.example.\n _25._tcp.mx.new TLSA 33\n away DNAME new.unsigned.\n\
                 _brand DNAME new.example.\n _brand A 192.0.2.34\n\
                 _own DNAME new.example.\n _own TLSA 35\n *.host A 192.0.2.38\n _25._tcp.host TLSA 38\n exotic DS 250/2\n future DS 15/99";
    SignedWorld::new(&[
        (".", Signing::Nsec, ""),
        ("example.", Signing::Nsec, hosts),
        ("hashed.", NSEC3, hosts),
        ("exotic.example.", Signing::None, "host A 192.0.2.36"),
        ("future.hashed.", Signing::None, "host A 192.0.2.37"),
        ("unsigned.", Signing::None, ""),
    ])
}

/// Only the signature over an alias says anything: its answer has a code of its own, which nobody signs.
fn alias_as_nxdomain(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if matches!(q.query_type, RecordType::CNAME | RecordType::DNAME) {
        m.metadata.response_code = ResponseCode::NXDomain;
    }
    Act::Answer
}

/// An authentic SOA record beside an alias, as if it were the end.
fn alias_with_an_soa(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if matches!(q.query_type, RecordType::CNAME | RecordType::DNAME) {
        m.authorities.extend(w.soa("example."));
    }
    Act::Answer
}

// DANE-12, RFC 2308 §2: a denial is one of the last name, and is proven.
#[tokio::test]
async fn an_alias_is_no_denial_whatever_stands_beside_it() {
    let world = Arc::new(aliases());
    for (host, tlsa) in
        [("_25._tcp.alias.example", "30"), ("_25._tcp.any.example", "30"), ("_25._tcp.mx.old.example", "33")]
    {
        for (case, lie) in
            [("honest", honest as Lie), ("nxdomain", alias_as_nxdomain), ("soa", alias_with_an_soa)]
        {
            assert_eq!(heard(&world, lie, host).await, ok(tlsa, true), "{case}: {host}");
        }
    }
}

/// The authentic record that begins at the wildcard, which covers the name and all between.
fn denied_by_the_wildcard(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA {
        m.answers.clear();
        m.metadata.response_code = ResponseCode::NXDomain;
        m.authorities = w.denial_by("example.", &fqdn("*.all.example."));
    }
    Act::Answer
}

fn and_an_soa_that_nobody_signed(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    let act = denied_by_the_wildcard(w, q, m);
    m.authorities.extend((q.query_type == RecordType::TLSA).then(|| unsigned_soa("example.")));
    act
}

fn and_the_soa_of_another_zone(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    let act = denied_by_the_wildcard(w, q, m);
    m.authorities.extend(if q.query_type == RecordType::TLSA { w.soa(".") } else { Vec::new() });
    act
}

// DANE-12, RFC 2308 §3: without the SOA the library looks for a wildcard no more than one label up.
#[tokio::test]
async fn no_wildcard_is_denied_without_the_soa_of_its_zone() {
    let world = Arc::new(aliases());
    for (case, lie, want) in [
        ("honest", honest as Lie, ok("31", true)),
        ("no SOA", denied_by_the_wildcard, Err(DnsErrorKind::Bogus)),
        ("an unsigned one", and_an_soa_that_nobody_signed, Err(DnsErrorKind::Bogus)),
        ("that of another zone", and_the_soa_of_another_zone, Err(DnsErrorKind::Bogus)),
    ] {
        assert_eq!(heard(&world, lie, "_25._tcp.all.example").await, want, "{case}");
    }
}

/// The wildcard's own NSEC record, shown under a name that has records: its signature holds for any name below.
fn denied_by_a_stretched_record(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA {
        m.answers.clear();
        m.authorities = w.denial_by("example.", &fqdn("*.host.example."));
        m.authorities.iter_mut().for_each(|r| r.name = q.name.clone());
        m.authorities.extend(w.soa("example."));
    }
    Act::Answer
}

// RFC 4035 §2.3: a denial is a record of its own owner, and no wildcard makes one (as in CVE-2017-15105).
#[tokio::test]
async fn no_wildcard_makes_a_denial() {
    let world = Arc::new(aliases());
    for (case, lie, want) in [
        ("honest", honest as Lie, ok("38", true)),
        ("stretched", denied_by_a_stretched_record, Err(DnsErrorKind::Bogus)),
    ] {
        assert_eq!(heard(&world, lie, "_25._tcp.host.example").await, want, "{case}");
    }
}

/// A registry that opts out, with a wildcard alias, and a signed zone below it.
fn registry() -> SignedWorld {
    SignedWorld::new(&[
        (".", Signing::Nsec, ""),
        ("evil.", Signing::Nsec, ""),
        ("reg.", Signing::Nsec3 { opt_out: true, iterations: 0 }, "* CNAME host.unsigned."),
        ("victim.reg.", Signing::Nsec, "mx A 192.0.2.40"),
        ("unsigned.", Signing::None, "host A 192.0.2.99"),
    ])
}

/// The zone's own name shown as an alias, by the wildcard above it and a denial from elsewhere; below, the registry's opt-out
/// records allow for anything.
fn zone_cut_shown_as_an_alias(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    let cut = fqdn("victim.reg.");
    if !cut.zone_of(&q.name) {
        return Act::Answer;
    }
    m.answers.retain(|r| r.record_type() != RecordType::RRSIG);
    m.authorities.clear();
    m.metadata.response_code = ResponseCode::NoError;
    if q.name == cut {
        m.answers.clear();
        w.answer(&Query::query(fqdn("any.reg."), RecordType::CNAME), m);
        m.answers.retain(|r| r.name == fqdn("any.reg."));
        m.answers.iter_mut().for_each(|r| r.name = q.name.clone());
        m.authorities = w.boast("evil.", "zzz.");
    } else if matches!(q.query_type, RecordType::DS | RecordType::NS) {
        m.answers.clear();
        m.authorities = w.denial_by("reg.", &q.name);
    }
    if q.query_type == RecordType::NS {
        let ns = RData::NS(hickory_resolver::proto::rr::rdata::NS(fqdn("ns.evil.")));
        m.answers = vec![Record::from_rdata(q.name.clone(), 300, ns)];
    }
    Act::Answer
}

// RFC 2181 §10.1: an alias is no zone cut, but what a wildcard makes of a zone cut is no alias.
#[tokio::test]
async fn a_zone_cut_is_not_hidden_behind_a_wildcard_alias() {
    let world = Arc::new(registry());
    for (case, lie, want) in [
        ("honest", honest as Lie, ok("192.0.2.40", true)),
        ("shown as an alias", zone_cut_shown_as_an_alias, Err(DnsErrorKind::Bogus)),
    ] {
        assert_eq!(heard(&world, lie, "mx.victim.reg").await, want, "{case}");
    }
}

// RFC 7672 §2.1.3, RFC 6672 §5.3.1
#[tokio::test]
async fn the_alias_that_a_dname_makes_is_as_authentic_as_the_dname() {
    let world = Arc::new(aliases());
    let server = told(&world, honest).await;
    let (dns, _) = resolver(&[&server], vec![world.root_key()]);
    for (host, to) in [("mx.old.example", "mx.new.example"), ("mx.away.hashed", "mx.new.unsigned")] {
        let answer = dns.cname(&Domain::parse_host(host).unwrap()).await.map_err(|e| e.kind).unwrap();
        assert_eq!(answer.data, Data::Records(vec![Domain::parse_host(to).unwrap()]), "{host}");
        assert!(answer.secure, "{host}");
    }
}

/// What is there, denied by the record that says so.
fn denied_by_its_own_record(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA && q.name.num_labels() == 2 {
        let zone = q.name.base_name().to_ascii();
        m.answers.clear();
        m.authorities = w.soa(&zone);
        m.authorities.extend(w.denial_by(&zone, &q.name));
    }
    Act::Answer
}

// RFC 6840 §4.1: a DNAME takes what lies below its owner, not what the owner itself has or has not.
#[tokio::test]
async fn the_owner_of_a_dname_denies_what_it_has_not() {
    let world = Arc::new(aliases());
    for zone in ["example", "hashed"] {
        for (case, lie, owner, want) in [
            ("honest", honest as Lie, "_brand", ok("nodata", true)),
            ("honest", honest, "_own", ok("35", true)),
            ("denied", denied_by_its_own_record, "_own", Err(DnsErrorKind::Bogus)),
        ] {
            assert_eq!(heard(&world, lie, &format!("{owner}.{zone}")).await, want, "{case}: {owner}.{zone}");
        }
    }
}

// RFC 4035 §5.2, RFC 6840 §5.2
#[tokio::test]
async fn a_zone_signed_in_ways_nobody_here_knows_is_unsigned() {
    let world = Arc::new(aliases());
    let server = told(&world, honest).await;
    let (dns, _) = resolver(&[&server], vec![world.root_key()]);
    for (host, want) in [
        ("host.exotic.example", ok("192.0.2.36", false)),
        ("none.exotic.example", ok("nx", false)),
        ("host.future.hashed", ok("192.0.2.37", false)),
    ] {
        assert_eq!(says(&dns, host).await, want, "{host}");
    }
}

fn signed_again(w: &SignedWorld, q: &Query, m: &mut Message, hours: i64) -> Act {
    if q.query_type == RecordType::A && !m.answers.is_empty() {
        m.answers.retain(|r| r.record_type() == RecordType::A);
        let since = time::OffsetDateTime::now_utc() + time::Duration::minutes(60 * hours - 30);
        m.answers = w.signed_since("example.", m.answers.clone(), since);
    }
    Act::Answer
}

// RFC 4035 §5.3.1
#[tokio::test]
async fn a_signature_out_of_its_time_holds_nothing() {
    let world = Arc::new(aliases());
    for (case, lie, want) in [
        ("in time", (|w, q, m| signed_again(w, q, m, 0)) as Lie, ok("192.0.2.30", true)),
        ("expired", |w, q, m| signed_again(w, q, m, -1), Err(DnsErrorKind::Bogus)),
        ("not yet", |w, q, m| signed_again(w, q, m, 1), Err(DnsErrorKind::Bogus)),
    ] {
        assert_eq!(heard(&world, lie, "mx.example").await, want, "{case}");
    }
}

/// DS records answered from the child's side, with two zones to go on to at each step: the library's walk branches.
fn branching_circle(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::DS && q.name == fqdn("sub.evil.") {
        m.answers.clear();
        m.authorities = vec![unsigned_soa("sub.evil."), unsigned_soa("b.sub.evil.")];
    }
    Act::Answer
}

/// More signatures over a zone's keys than anybody needs, which the library would try one after the other, each time that it
/// needs the keys. All but the first hold nothing.
fn masses_of_signatures(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.name == fqdn("evil.") && q.query_type == RecordType::DNSKEY {
        let sound = m.answers.iter().find(|r| r.record_type() == RecordType::RRSIG).cloned().unwrap();
        let garbage = |n: u8| {
            signature_like(&sound, |s| {
                RRSIG::from_sig(s.input().clone(), s.sig().iter().map(|octet| octet ^ n).collect())
            })
        };
        m.answers.extend((1..=60).filter_map(garbage));
        return Act::Truncate;
    }
    Act::Answer
}

// A stranger's domain must not cost the relay more than a question may: a walk that never waits would take a thread for good.
#[test]
fn what_a_name_may_cost_is_bounded() {
    for (case, lie, host) in [
        ("a walk in a circle that branches", branching_circle as Lie, "host.sub.evil"),
        ("masses of signatures", masses_of_signatures, "mx.evil"),
    ] {
        let (said, heard) = mpsc::channel();
        // Of its own, so that a thread that is lost does not hang the test.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let world = Arc::new(SignedWorld::new(&[
                    (".", Signing::Nsec, ""),
                    ("evil.", Signing::Nsec, "mx A 192.0.2.50"),
                    ("sub.evil.", Signing::None, "host A 192.0.2.2"),
                ]));
                let server = told(&world, lie).await;
                let (dns, _) = resolver(&[&server], vec![world.root_key()]);
                let _ = said.send(says(&dns, host).await);
            });
        });
        let answer = heard.recv_timeout(Duration::from_secs(30));
        assert_eq!(answer, Ok(Err(DnsErrorKind::Undecided)), "{case}");
    }
}
