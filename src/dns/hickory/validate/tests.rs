//! The validator over a small signed world, and over all that a liar on the way may make of it.

use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::{A, SOA};

use super::world::{SignedWorld, Signing, fqdn};
use super::*;
use crate::dns::hickory::scripted::{Act, Server};
use crate::dns::hickory::{DnsSettings, HickoryResolver, Trust};
use crate::dns::{Data, Dnssec, Family, Resolver as _};
use crate::mail::Domain;

/// What a liar does with an answer on its way to us.
pub(super) type Lie = fn(&SignedWorld, &Query, &mut Message) -> Act;

pub(super) fn world() -> SignedWorld {
    SignedWorld::new(&[
        (".", Signing::Nsec, ""),
        (
            "example.",
            Signing::Nsec,
            "mx A 192.0.2.1\n alias CNAME mx.example.\n far CNAME host.unsigned.example.\n\
             _25._tcp.mx TLSA 07\n _25._tcp.alias CNAME _25._tcp.mx.example.\n old DNAME new.example.\n\
             mx.new A 192.0.2.3\n *.wild A 192.0.2.4\n known.wild A 192.0.2.6\n other A 192.0.2.5",
        ),
        ("evil.", Signing::Nsec, ""),
        ("slow.evil.", Signing::Nsec3 { opt_out: false, iterations: 200 }, ""),
        ("unsigned.example.", Signing::None, "host A 192.0.2.2\n back CNAME mx.example."),
        (
            "com.",
            Signing::Nsec3 { opt_out: true, iterations: 0 },
            "nic A 192.0.2.8\n _25._tcp.nic TLSA 08\n *.wild A 192.0.2.13",
        ),
        ("victim.com.", Signing::Nsec, "mx A 192.0.2.9\n _25._tcp.mx TLSA 09"),
        ("plain.com.", Signing::None, "host A 192.0.2.10"),
        (
            "hashed.",
            Signing::Nsec3 { opt_out: false, iterations: 5 },
            "mx A 192.0.2.11\n *.wild A 192.0.2.12",
        ),
    ])
}

pub(super) async fn told(world: &Arc<SignedWorld>, lie: Lie) -> Server {
    let world = Arc::clone(world);
    Server::start(move |query, answer| {
        world.answer(query, answer);
        lie(&world, query, answer)
    })
    .await
}

/// One round through the servers, with the real wait for each.
pub(super) fn resolver(servers: &[&Server], anchors: Vec<Anchor>) -> (HickoryResolver, Dnssec) {
    waiting(DnsSettings::default().timeout, servers, anchors)
}

/// One that waits no longer than this for a server: for servers whose answer is not to come.
fn waiting(timeout: Duration, servers: &[&Server], anchors: Vec<Anchor>) -> (HickoryResolver, Dnssec) {
    let believed = Dnssec::new(true);
    let settings = DnsSettings {
        servers: servers.iter().map(|s| s.address).collect(),
        trust: Trust::Validation { anchors: anchors.into(), believed: believed.clone() },
        timeout,
        attempts: 1,
        ..DnsSettings::default()
    };
    (HickoryResolver::new(settings).unwrap(), believed)
}

/// One for servers that are silent.
fn silence(servers: &[&Server], anchors: Vec<Anchor>) -> (HickoryResolver, Dnssec) {
    waiting(Duration::from_millis(300), servers, anchors)
}

fn name(text: &str) -> Domain {
    Domain::parse_host(text).unwrap()
}

pub(super) type Said = Result<(String, bool), DnsErrorKind>;

/// `data secure`, for a host's address, or for TLSA records where the name begins with a port.
pub(super) async fn says(dns: &HickoryResolver, host: &str) -> Said {
    fn shown<T>(data: Data<T>, one: impl Fn(T) -> String) -> String {
        match data {
            Data::Records(all) => all.into_iter().map(one).collect::<Vec<_>>().join(","),
            Data::NoData => "nodata".to_owned(),
            Data::NxDomain => "nx".to_owned(),
        }
    }
    if host.starts_with('_') {
        let answer = dns.tlsa(&name(host)).await.map_err(|e| e.kind)?;
        return Ok((
            shown(answer.data, |t| t.data.first().map_or_else(String::new, u8::to_string)),
            answer.secure,
        ));
    }
    let answer = dns.addresses(&name(host), Family::V4).await.map_err(|e| e.kind)?;
    Ok((shown(answer.data, |ip| ip.to_string()), answer.secure))
}

pub(super) fn ok(data: &str, secure: bool) -> Said {
    Ok((data.to_owned(), secure))
}

pub(super) const fn honest(_: &SignedWorld, _: &Query, _: &mut Message) -> Act {
    Act::Answer
}

// DANE-03, DANE-11, DANE-12: proven authentic, proven unsigned, data and denial, through aliases of every kind.
#[tokio::test]
async fn every_answer_is_proven_authentic_or_proven_unsigned() {
    let world = Arc::new(world());
    let server = told(&world, honest).await;
    for anchors in [vec![world.root_key()], vec![world.root_digest()]] {
        let (dns, _) = resolver(&[&server], anchors);
        for (host, want) in [
            ("mx.example", ok("192.0.2.1", true)),
            ("alias.example", ok("192.0.2.1", true)),
            ("host.unsigned.example", ok("192.0.2.2", false)),
            ("none.unsigned.example", ok("nx", false)),
            ("far.example", ok("192.0.2.2", false)),
            ("back.unsigned.example", ok("192.0.2.1", false)),
            ("mx.old.example", ok("192.0.2.3", true)),
            ("any.wild.example", ok("192.0.2.4", true)),
            ("far.any.wild.example", ok("192.0.2.4", true)),
            ("known.wild.example", ok("192.0.2.6", true)),
            ("none.example", ok("nx", true)),
            ("_25._tcp.mx.example", ok("7", true)),
            ("_25._tcp.alias.example", ok("7", true)),
            ("_25._tcp.other.example", ok("nx", true)),
            ("_tcp.mx.example", ok("nodata", true)),
            // Below aliases, into zones of both kinds.
            ("_26._tcp.alias.example", ok("nx", true)),
            ("_25._tcp.far.example", ok("nx", true)),
            ("_25._tcp.host.unsigned.example", ok("nx", false)),
            ("nic.com", ok("192.0.2.8", true)),
            ("mx.victim.com", ok("192.0.2.9", true)),
            ("host.plain.com", ok("192.0.2.10", false)),
            ("none.plain.com", ok("nx", false)),
            // Opt-out: there may be an unsigned delegation (DANE-03).
            ("none.com", ok("nx", false)),
            ("any.wild.com", ok("192.0.2.13", false)),
            // But not where a name is (RFC 5155 §9.2).
            ("_tcp.nic.com", ok("nodata", true)),
            ("mx.hashed", ok("192.0.2.11", true)),
            ("far.any.wild.hashed", ok("192.0.2.12", true)),
            ("_25._tcp.mx.hashed", ok("nx", true)),
        ] {
            assert_eq!(says(&dns, host).await, want, "{host}");
        }
    }
    let keys = server.asked().iter().filter(|q| q.starts_with("DNSKEY example.")).count();
    assert_eq!(keys, 2, "keys are asked for once in each resolver");
    assert!(server.asked().iter().all(|q| q.contains("+cd")), "the servers are not to check");
}

fn is_about(query: &Query, host: &str) -> bool {
    query.name == fqdn(host)
}

pub(super) fn unsigned_soa(zone: &str) -> Record {
    let soa = SOA::new(fqdn(zone), fqdn(zone), 1, 2, 3, 4, 5);
    Record::from_rdata(fqdn(zone), 300, RData::SOA(soa))
}

fn without_signatures(_: &SignedWorld, _: &Query, m: &mut Message) -> Act {
    m.answers.retain(|r| r.record_type() != RecordType::RRSIG);
    m.authorities.clear();
    Act::Answer
}

/// All TLSA records denied, in the name of a zone that is unsigned.
fn denied_by_an_unsigned_zone(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA {
        m.answers.clear();
        m.metadata.response_code = ResponseCode::NoError;
        m.authorities = vec![unsigned_soa("unsigned.example.")];
    }
    Act::Answer
}

/// Nothing is signed, and the delegation is denied in the name of a zone that is unsigned.
fn stripped_below_a_denied_delegation(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.name.is_root() || is_about(q, "unsigned.example.") {
        return Act::Answer;
    }
    if q.query_type == RecordType::DS {
        m.answers.clear();
        m.authorities = vec![unsigned_soa("unsigned.example.")];
        return Act::Answer;
    }
    without_signatures(w, q, m)
}

/// All TLSA records denied, by a zone whose owner may sign what he likes, and which has nothing to do with the name.
fn denied_by_a_signed_zone_elsewhere(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA {
        m.answers.clear();
        m.metadata.response_code = ResponseCode::NXDomain;
        m.authorities = w.boast("evil.", "zzz.");
    }
    Act::Answer
}

/// All TLSA records denied, with nothing to show for it.
fn denied_by_nothing(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA {
        m.answers.clear();
        m.authorities.clear();
        m.metadata.response_code = ResponseCode::NXDomain;
    }
    Act::Answer
}

/// All TLSA records denied, with the authentic denial of another name.
fn denied_by_another_denial(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::TLSA {
        m.answers.clear();
        w.answer(&Query::query(fqdn("_25._tcp.other.example."), RecordType::TLSA), m);
    }
    Act::Answer
}

fn another_address(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    for r in m.answers.iter_mut().filter(|r| r.record_type() == RecordType::A && r.name == q.name) {
        r.data = RData::A(A::new(198, 51, 100, 66));
    }
    Act::Answer
}

fn unsigned_alias(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if is_about(q, "mx.example.") && q.query_type != RecordType::NS {
        let alias = RData::CNAME(CNAME(fqdn("host.unsigned.example.")));
        m.answers = vec![Record::from_rdata(q.name.clone(), 300, alias)];
        m.authorities.clear();
    }
    Act::Answer
}

/// A zone cut where there is none, so that the name seems to lie in an unsigned zone.
fn invented_delegation(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.name.zone_of(&fqdn("mx.example.")) && q.name.num_labels() == 2 {
        m.answers.retain(|r| r.record_type() == RecordType::A);
        m.authorities.clear();
        if q.query_type == RecordType::NS {
            let ns = RData::NS(hickory_resolver::proto::rr::rdata::NS(fqdn("ns.evil.example.")));
            m.answers = vec![Record::from_rdata(q.name.clone(), 300, ns)];
        }
    }
    Act::Answer
}

/// Whatever an alias leads to is added, forged.
fn alias_with_forged_target(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if is_about(q, "alias.example.") {
        let forged = RData::A(A::new(198, 51, 100, 66));
        m.answers.retain(|r| r.name == q.name);
        m.add_answer(Record::from_rdata(fqdn("mx.example."), 300, forged));
    }
    Act::Answer
}

/// What a wildcard makes of other names, under a name that has records of its own.
fn wildcard_instead_of_the_name(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if is_about(q, "known.wild.example.") && q.query_type == RecordType::A {
        m.answers.clear();
        w.answer(&Query::query(fqdn("any.wild.example."), RecordType::A), m);
        m.answers.iter_mut().for_each(|r| r.name = q.name.clone());
    }
    Act::Answer
}

/// The like, with the authentic denial of a zone elsewhere.
fn wildcard_and_a_denial_from_elsewhere(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    wildcard_instead_of_the_name(w, q, m);
    if is_about(q, "known.wild.example.") && q.query_type == RecordType::A {
        m.authorities = w.boast("evil.", "zzz.");
    }
    Act::Answer
}

/// A forged address with a wildcard's signature, and a denial of so many iterations that nobody reads it.
fn forged_beside_a_denial_too_dear_to_read(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    wildcard_instead_of_the_name(w, q, m);
    if is_about(q, "known.wild.example.") && q.query_type == RecordType::A {
        another_address(w, q, m);
        m.authorities = w.denial_by("slow.evil.", &fqdn("slow.evil."));
    }
    Act::Answer
}

/// A zone cut that is none, below which the registry's opt-out records allow for anything.
fn opted_out_inside_a_signed_zone(w: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    let host = fqdn("mx.victim.com.");
    if !host.zone_of(&q.name) {
        return Act::Answer;
    }
    m.metadata.response_code = ResponseCode::NoError;
    m.authorities.clear();
    m.answers.retain(|r| r.record_type() != RecordType::RRSIG);
    match q.query_type {
        RecordType::NS if q.name == host => {
            let ns = RData::NS(hickory_resolver::proto::rr::rdata::NS(fqdn("ns.evil.")));
            m.answers = vec![Record::from_rdata(host, 300, ns)];
        }
        RecordType::DS => m.authorities = w.denial_by("com.", &q.name),
        RecordType::A => {
            let forged = RData::A(A::new(198, 51, 100, 66));
            m.answers = vec![Record::from_rdata(q.name.clone(), 300, forged)];
        }
        _ => m.answers.clear(),
    }
    Act::Answer
}

fn silent_about_ds(_: &SignedWorld, q: &Query, _: &mut Message) -> Act {
    if q.query_type == RecordType::DS { Act::Silence } else { Act::Answer }
}

fn servfail_for_keys(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::DNSKEY && !q.name.is_root() {
        m.metadata.response_code = ResponseCode::ServFail;
    }
    Act::Answer
}

/// The server of the child answers what only the parent's knows.
fn ds_from_the_child(_: &SignedWorld, q: &Query, m: &mut Message) -> Act {
    if q.query_type == RecordType::DS && is_about(q, "unsigned.example.") {
        m.answers.clear();
        m.authorities = vec![unsigned_soa("unsigned.example.")];
    }
    Act::Answer
}

// DANE-02, DANE-06, DANE-37: no lie turns what is signed into unsigned, and trouble on the way keeps its name.
#[tokio::test]
async fn no_lie_makes_a_signed_name_unsigned() {
    use DnsErrorKind::{Bogus, Servfail, Timeout, Undecided};
    let world = Arc::new(world());
    let (mx, tlsa) = ("mx.example", "_25._tcp.mx.example");
    for (case, lie, host, want) in [
        ("signatures stripped", without_signatures as Lie, mx, Err(Bogus)),
        ("and from TLSA records", without_signatures, tlsa, Err(Bogus)),
        ("and from denials", without_signatures, "none.example", Err(Bogus)),
        ("denied by a zone that is unsigned", denied_by_an_unsigned_zone, tlsa, Err(Bogus)),
        (
            "a delegation denied by a zone that is unsigned",
            stripped_below_a_denied_delegation,
            mx,
            Err(Undecided),
        ),
        ("denied by a signed zone elsewhere", denied_by_a_signed_zone_elsewhere, tlsa, Err(Bogus)),
        ("denied by nothing", denied_by_nothing, tlsa, Err(Bogus)),
        ("denied by the denial of another name", denied_by_another_denial, tlsa, Err(Bogus)),
        ("another address", another_address, mx, Err(Bogus)),
        ("an alias that nobody signed", unsigned_alias, mx, Err(Bogus)),
        ("a zone cut that is none", invented_delegation, mx, Err(Bogus)),
        ("a wildcard in place of the name", wildcard_instead_of_the_name, "known.wild.example", Err(Bogus)),
        (
            "and a denial from elsewhere",
            wildcard_and_a_denial_from_elsewhere,
            "known.wild.example",
            Err(Bogus),
        ),
        (
            "a denial too dear to read",
            forged_beside_a_denial_too_dear_to_read,
            "known.wild.example",
            Err(Bogus),
        ),
        ("opted out inside a signed zone", opted_out_inside_a_signed_zone, "mx.victim.com", Err(Bogus)),
        ("and its TLSA records", opted_out_inside_a_signed_zone, "_25._tcp.mx.victim.com", Err(Bogus)),
        ("a forged target beside an alias", alias_with_forged_target, "alias.example", ok("192.0.2.1", true)),
        ("no answer about delegations", silent_about_ds, mx, Err(Timeout)),
        ("SERVFAIL for keys", servfail_for_keys, mx, Err(Servfail)),
        (
            "an unsigned name behind a walk in a circle",
            ds_from_the_child,
            "host.unsigned.example",
            Err(Undecided),
        ),
    ] {
        let server = told(&world, lie).await;
        let dns = if want == Err(Timeout) { silence } else { resolver };
        let (dns, _) = dns(&[&server], vec![world.root_key()]);
        assert_eq!(says(&dns, host).await, want, "{case}");
        assert!(server.asked().len() < 130, "{case}: {} questions", server.asked().len());
    }
}

#[tokio::test]
async fn a_server_that_strips_signatures_is_made_up_for_by_another() {
    let world = Arc::new(world());
    let (stripping, sound) = (told(&world, without_signatures).await, told(&world, honest).await);
    let (dns, _) = resolver(&[&stripping, &sound], vec![world.root_key()]);
    assert_eq!(says(&dns, "mx.example").await, ok("192.0.2.1", true));
    assert_eq!(says(&dns, "_25._tcp.mx.example").await, ok("7", true));
}

// Nothing of a failure is kept: the next question is answered as if it were the first.
#[tokio::test]
async fn a_repaired_server_is_believed_at_once() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let world = Arc::new(world());
    let broken = Arc::new(AtomicBool::new(true));
    let (w, b) = (Arc::clone(&world), Arc::clone(&broken));
    let server = Server::start(move |query, answer| {
        w.answer(query, answer);
        if b.load(Ordering::Relaxed) { without_signatures(&w, query, answer) } else { Act::Answer }
    })
    .await;
    let (dns, _) = resolver(&[&server], vec![world.root_key()]);
    assert_eq!(says(&dns, "mx.example").await, Err(DnsErrorKind::Bogus));
    broken.store(false, Ordering::Relaxed);
    assert_eq!(says(&dns, "mx.example").await, ok("192.0.2.1", true));
}

// DANE-02: what the self-test shows of validation, and that without it signed names are like others, never failures.
#[tokio::test]
async fn the_self_test_tells_sound_resolvers_from_those_that_strip_signatures() {
    let world = Arc::new(world());
    let other = SignedWorld::new(&[(".", Signing::Nsec, "")]);
    let every = "mail to every domain waits";
    for (case, lie, anchor, believe, part) in [
        ("sound", honest as Lie, world.root_key(), Some(true), "found that it validates"),
        ("stripped", without_signatures, world.root_key(), Some(false), "hands out no signatures"),
        ("silent", |_, _, _| Act::Silence, world.root_key(), None, "no answer in time"),
        ("wrong key", honest, other.root_key(), None, "dns.trust_anchor"),
        ("wrong key", honest, other.root_key(), None, every),
        ("wrong digest", honest, other.root_digest(), None, "dns.trust_anchor"),
        ("silent", |_, _, _| Act::Silence, world.root_key(), None, every),
    ] {
        let server = told(&world, lie).await;
        let dns = if case == "silent" { silence } else { resolver };
        let (dns, believed) = dns(&[&server], vec![anchor]);
        let verdict = dns.self_test(".", "", false).await;
        assert_eq!(verdict.believe, believe, "{case}: {}", verdict.text);
        assert!(verdict.text.contains(part), "{case}: {}", verdict.text);
        // Not even that a domain is unsigned can be proven then.
        if verdict.text.contains(every) || case == "stripped" {
            for host in ["mx.example", "host.unsigned.example", "none.unsigned.example"] {
                assert!(says(&dns, host).await.is_err(), "{case}: {host}");
            }
        }
        if case == "stripped" {
            believed.set(false);
            assert_eq!(says(&dns, "mx.example").await, ok("192.0.2.1", false));
        }
    }
}
