//! Attacks on the validator that are more than a lie about one record: a wildcard's records where they do not belong, and
//! answers that cost more than they may.

use std::sync::mpsc;
use std::time::Duration;

use hickory_resolver::proto::dnssec::rdata::RRSIG;
use hickory_resolver::proto::op::ResponseCode;

use super::tests::{Lie, honest, ok, resolver, says, told, unsigned_soa};
use super::world::{SignedWorld, Signing, fqdn};
use super::*;
use crate::dns::hickory::scripted::Act;

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
