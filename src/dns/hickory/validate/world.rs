//! A small signed DNS for tests: zones with one key each, NSEC and NSEC3 denials, aliases of both kinds, wildcards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use hickory_resolver::proto::dnssec::crypto::Ed25519SigningKey;
use hickory_resolver::proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, NSEC, NSEC3, RRSIG};
use hickory_resolver::proto::dnssec::{
    Algorithm, DigestType, DnssecSigner, Nsec3HashAlgorithm, PublicKey as _, SigningKey as _,
};
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, CNAME, NS, NULL, SOA};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordSet, RecordType};
use hickory_resolver::proto::serialize::binary::{BinEncodable as _, BinEncoder};

use super::dname_target;
use super::zones::base32hex;
use crate::dns::anchor::Anchor;
use crate::dns::hickory::scripted::tlsa_record;

pub(super) fn fqdn(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

type Sets = BTreeMap<(Name, RecordType), Vec<RData>>;

/// How a zone is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing {
    None,
    Nsec,
    /// NSEC3 with so many iterations.
    Nsec3 {
        opt_out: bool,
        iterations: u16,
    },
}

struct Zone {
    apex: Name,
    signing: Signing,
    signer: Option<DnssecSigner>,
    sets: Sets,
}

/// The zones, deepest first.
pub(super) struct SignedWorld(Vec<Zone>);

const TTL: u32 = 300;

impl SignedWorld {
    /// Zones from the root down: apex, how it is signed, and lines of `label… type data` without the apex.
    pub(super) fn new(zones: &[(&str, Signing, &str)]) -> Self {
        let mut all: Vec<Zone> = Vec::new();
        for (apex, signing, text) in zones {
            let apex = fqdn(apex);
            let signer = (*signing != Signing::None).then(|| signer(&apex));
            let mut sets = Sets::new();
            let soa = SOA::new(fqdn("ns.example."), apex.clone(), 1, 2, 3, 4, TTL);
            sets.insert((apex.clone(), RecordType::SOA), vec![RData::SOA(soa)]);
            let ns = RData::NS(NS(fqdn("ns.example.")));
            sets.insert((apex.clone(), RecordType::NS), vec![ns.clone()]);
            if let Some(signer) = &signer {
                let key = RData::DNSSEC(DNSSECRData::DNSKEY(signer.dnskey().clone()));
                sets.insert((apex.clone(), RecordType::DNSKEY), vec![key]);
            }
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let owner = fqdn(&format!("{}.{apex}", words[0]));
                let (kind, data) = record(words[1], words[2]);
                sets.entry((owner, kind)).or_default().push(data);
            }
            if let Some(parent) = all.iter_mut().filter(|z| z.apex.zone_of(&apex)).last() {
                parent.sets.insert((apex.clone(), RecordType::NS), vec![ns]);
                if let Some(signer) = &signer {
                    let ds = DS::from_key(&signer.key().to_public_key().unwrap(), &apex, DigestType::SHA256);
                    let ds = RData::DNSSEC(DNSSECRData::DS(ds.unwrap()));
                    parent.sets.insert((apex.clone(), RecordType::DS), vec![ds]);
                }
            }
            all.push(Zone { apex, signing: *signing, signer, sets });
        }
        all.reverse();
        Self(all)
    }

    fn root(&self) -> &DNSKEY {
        self.0.last().unwrap().signer.as_ref().unwrap().dnskey()
    }

    pub(super) fn root_key(&self) -> Anchor {
        let key = self.root().public_key();
        Anchor::Key { algorithm: key.algorithm().into(), key: key.public_bytes().to_vec() }
    }

    pub(super) fn root_digest(&self) -> Anchor {
        let digest = self.root().to_digest(&Name::root(), DigestType::SHA256).unwrap();
        Anchor::Digest {
            tag: self.root().calculate_key_tag().unwrap(),
            algorithm: self.root().public_key().algorithm().into(),
            kind: 2,
            digest: digest.as_ref().to_vec(),
        }
    }

    fn zone(&self, apex: &str) -> &Zone {
        let apex = fqdn(apex);
        self.0.iter().find(|z| z.apex == apex).unwrap()
    }

    /// What the zone `apex` has to deny `name` with, be it its business or not.
    pub(super) fn denial_by(&self, apex: &str, name: &Name) -> Vec<Record> {
        self.zone(apex).denial(name)
    }

    /// An authentic NSEC record of the zone `apex` that says of itself that nothing comes before `next`.
    pub(super) fn boast(&self, apex: &str, next: &str) -> Vec<Record> {
        let (zone, apex) = (self.zone(apex), fqdn(apex));
        let nsec = NSEC::new_cover_self(fqdn(next), [RecordType::A]);
        let record = Record::from_rdata(apex.clone(), TTL, RData::DNSSEC(DNSSECRData::NSEC(nsec)));
        zone.with_signature(&apex, &apex, RecordType::NSEC, vec![record], a_minute_ago())
    }

    /// The SOA record of the zone `apex` with its signature.
    pub(super) fn soa(&self, apex: &str) -> Vec<Record> {
        self.zone(apex).signed(&fqdn(apex), &fqdn(apex), RecordType::SOA)
    }

    /// These records, signed anew by the zone `apex`: good for an hour from `since`.
    pub(super) fn signed_since(
        &self,
        apex: &str,
        records: Vec<Record>,
        since: time::OffsetDateTime,
    ) -> Vec<Record> {
        let (owner, kind) = records.first().map(|r| (r.name.clone(), r.record_type())).unwrap();
        self.zone(apex).with_signature(&owner, &owner, kind, records, since)
    }

    /// Answers as a resolver does that has fetched it all.
    pub(super) fn answer(&self, query: &Query, message: &mut Message) {
        let mut at = query.name.clone();
        for _ in 0..9 {
            let above =
                |z: &&Zone| z.apex.zone_of(&at) && !(query.query_type == RecordType::DS && z.apex == at);
            let zone = self.0.iter().find(above).unwrap();
            match zone.answer(&at, query.query_type, message) {
                Some(next) => at = next,
                None => return,
            }
        }
    }
}

fn a_minute_ago() -> time::OffsetDateTime {
    time::OffsetDateTime::now_utc() - Duration::from_secs(60)
}

fn signer(apex: &Name) -> DnssecSigner {
    let der = Ed25519SigningKey::generate_pkcs8().unwrap();
    let key = Ed25519SigningKey::from_pkcs8(&der).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    DnssecSigner::new(dnskey, Box::new(key), apex.clone(), Duration::from_secs(3600))
}

fn record(kind: &str, data: &str) -> (RecordType, RData) {
    match kind {
        "A" => (RecordType::A, RData::A(A(data.parse().unwrap()))),
        "CNAME" => (RecordType::CNAME, RData::CNAME(CNAME(fqdn(data)))),
        "TLSA" => (RecordType::TLSA, tlsa_record(3, &[data.parse().unwrap(); 32])),
        // Its algorithm and the kind of its digest: `250/2`.
        "DS" => {
            let (algorithm, digest) = data.split_once('/').unwrap();
            let (algorithm, digest) = (algorithm.parse().unwrap(), digest.parse::<u8>().unwrap());
            let ds = DS::new(1, Algorithm::from_u8(algorithm), digest.into(), vec![1; 32]);
            (RecordType::DS, RData::DNSSEC(DNSSECRData::DS(ds)))
        }
        "DNAME" => {
            let mut wire = Vec::new();
            fqdn(data).emit(&mut BinEncoder::new(&mut wire)).unwrap();
            (RecordType::DNAME, RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(wire) })
        }
        _ => panic!("{kind}"),
    }
}

impl Zone {
    /// One step; the name to go on with where there is an alias.
    fn answer(&self, at: &Name, kind: RecordType, message: &mut Message) -> Option<Name> {
        let is = |kind| self.sets.get(&(at.clone(), kind));
        if is(kind).is_some() {
            message.answers.extend(self.signed(at, at, kind));
            return None;
        }
        if let Some([RData::CNAME(to)]) = is(RecordType::CNAME).map(Vec::as_slice) {
            message.answers.extend(self.signed(at, at, RecordType::CNAME));
            return Some(to.0.clone());
        }
        let dname = self.sets.iter().find(|((n, k), _)| *k == RecordType::DNAME && n != at && n.zone_of(at));
        if let Some(((above, _), data)) = dname {
            let target = Record::from_rdata(above.clone(), TTL, data[0].clone());
            message.answers.extend(self.signed(above, above, RecordType::DNAME));
            let below = at.iter().take(usize::from(at.num_labels() - above.num_labels()));
            let to =
                Name::from_labels(below).unwrap().append_domain(&dname_target(&target).unwrap()).unwrap();
            message.answers.push(Record::from_rdata(at.clone(), TTL, RData::CNAME(CNAME(to.clone()))));
            return Some(to);
        }
        // The closest name that is there decides which wildcard counts (RFC 4592 §3.3.1).
        let mut encloser = at.base_name();
        while !self.sets.keys().any(|(n, _)| encloser.zone_of(n)) {
            encloser = encloser.base_name();
        }
        let wildcard = encloser.prepend_label("*").unwrap();
        let exists = self.sets.keys().any(|(n, _)| at.zone_of(n));
        if !exists && self.sets.contains_key(&(wildcard.clone(), kind)) {
            message.answers.extend(self.signed(&wildcard, at, kind));
            message.authorities.extend(self.denial(at));
            return None;
        }
        let alias = self.sets.get(&(wildcard.clone(), RecordType::CNAME)).filter(|_| !exists);
        if let Some([RData::CNAME(to)]) = alias.map(Vec::as_slice) {
            message.answers.extend(self.signed(&wildcard, at, RecordType::CNAME));
            message.authorities.extend(self.denial(at));
            return Some(to.0.clone());
        }
        message.authorities.extend(self.signed(&self.apex, &self.apex, RecordType::SOA));
        message.authorities.extend(self.denial(at));
        if !exists {
            let denied = self.denial(&wildcard);
            let known = denied
                .iter()
                .any(|d| message.authorities.iter().any(|r| r.name == d.name && r.data == d.data));
            message.authorities.extend(denied.into_iter().filter(|_| !known));
            if !self.sets.keys().any(|(n, _)| *n == wildcard) {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        None
    }

    /// A set of records with its signature, under the name `shown`.
    fn signed(&self, owner: &Name, shown: &Name, kind: RecordType) -> Vec<Record> {
        let Some(data) = self.sets.get(&(owner.clone(), kind)) else { return Vec::new() };
        let records = data.iter().map(|d| Record::from_rdata(owner.clone(), TTL, d.clone())).collect();
        self.with_signature(owner, shown, kind, records, a_minute_ago())
    }

    fn with_signature(
        &self,
        owner: &Name,
        shown: &Name,
        kind: RecordType,
        mut records: Vec<Record>,
        since: time::OffsetDateTime,
    ) -> Vec<Record> {
        // A delegation's NS records are the child's to sign.
        let delegated = kind == RecordType::NS && *owner != self.apex;
        if let Some(signer) = self.signer.as_ref().filter(|_| !delegated) {
            let mut set = RecordSet::with_ttl(owner.clone(), kind, TTL);
            set.set_records(records.clone());
            let signature = RRSIG::from_rrset(&set, DNSClass::IN, since, signer).unwrap();
            let signature = RData::DNSSEC(DNSSECRData::RRSIG(signature));
            records.push(Record::from_rdata(owner.clone(), TTL, signature));
        }
        records.iter_mut().for_each(|r| r.name = shown.clone());
        records
    }

    /// The NSEC record at or before `name`, or the NSEC3 records that say as much.
    fn denial(&self, name: &Name) -> Vec<Record> {
        match self.signing {
            Signing::None => return Vec::new(),
            Signing::Nsec3 { opt_out, iterations } => return self.hashed_denial(name, opt_out, iterations),
            Signing::Nsec => {}
        }
        let names: BTreeSet<&Name> = self.sets.keys().map(|(n, _)| n).collect();
        let owner = names.iter().rev().find(|n| **n <= name).map_or(&self.apex, |n| *n);
        let next = names.iter().find(|n| **n > owner).map_or(&self.apex, |n| *n);
        let types = self.sets.keys().filter(|(n, _)| n == owner).map(|(_, kind)| *kind);
        let nsec = NSEC::new_cover_self(next.clone(), types);
        let record = Record::from_rdata(owner.clone(), TTL, RData::DNSSEC(DNSSECRData::NSEC(nsec)));
        self.with_signature(owner, owner, RecordType::NSEC, vec![record], a_minute_ago())
    }

    /// A record that matches `name`, or a closest encloser proof with that of the wildcard (RFC 5155 §7.2).
    fn hashed_denial(&self, name: &Name, opt_out: bool, iterations: u16) -> Vec<Record> {
        let types = |n: &Name| self.sets.keys().filter(|(o, _)| o == n).map(|(_, k)| *k).collect::<Vec<_>>();
        let mut names = BTreeSet::new();
        for (owner, _) in self.sets.keys() {
            let is_unsigned_delegation = *owner != self.apex && types(owner) == [RecordType::NS];
            if opt_out && is_unsigned_delegation {
                continue;
            }
            let mut at = owner.clone();
            while at != self.apex {
                names.insert(at.clone());
                at = at.base_name();
            }
            names.insert(at);
        }
        let hash = |n: &Name| Nsec3HashAlgorithm::SHA1.hash(&[], n, iterations).unwrap().as_ref().to_vec();
        let mut chain: Vec<(Vec<u8>, &Name)> = names.iter().map(|n| (hash(n), n)).collect();
        chain.sort();
        let matching = |n: &Name| chain.iter().position(|(_, own)| *own == n);
        let covering = |n: &Name| chain.iter().rposition(|(h, _)| *h < hash(n)).unwrap_or(chain.len() - 1);
        let wanted: BTreeSet<usize> = match matching(name) {
            Some(at) => BTreeSet::from([at]),
            None => {
                let mut next_closer = name.clone();
                while matching(&next_closer.base_name()).is_none() {
                    next_closer = next_closer.base_name();
                }
                let encloser = next_closer.base_name();
                let wildcard = encloser.prepend_label("*").unwrap();
                let of_wildcard = matching(&wildcard).unwrap_or_else(|| covering(&wildcard));
                BTreeSet::from([matching(&encloser).unwrap(), covering(&next_closer), of_wildcard])
            }
        };
        let record = |at: usize| {
            let (own, name) = &chain[at];
            let next = chain[(at + 1) % chain.len()].0.clone();
            let mut types = types(name);
            types.extend((!types.is_empty()).then_some(RecordType::RRSIG));
            let nsec3 = NSEC3::new(Nsec3HashAlgorithm::SHA1, opt_out, iterations, Vec::new(), next, types);
            let owner = self.apex.prepend_label(base32hex(own).as_bytes()).unwrap();
            let record = Record::from_rdata(owner.clone(), TTL, RData::DNSSEC(DNSSECRData::NSEC3(nsec3)));
            self.with_signature(&owner, &owner, RecordType::NSEC3, vec![record], a_minute_ago())
        };
        wanted.into_iter().flat_map(record).collect()
    }
}
