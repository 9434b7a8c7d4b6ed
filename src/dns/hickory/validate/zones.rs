//! In which zone a name lies, and whether that zone is signed: from the root down, a DS question per label.
//!
//! The library proves signatures. It does not always ask whose they are: denials of any signed zone may count for any name,
//! and an opt-out record of a zone far above for names inside a signed one. So what it calls unsigned, and each denial, count
//! only where this walk, which believes nothing but DS records and the denials of the very zone it stands in, agrees.

use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3};
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType, RecordTypeSet};

use super::asker::{Asker, signature};
use super::{Found, MOST_ITERATIONS, Validator};
use crate::dns::hickory::servers::Failure;

/// Where a name lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In this zone, whose keys the root vouches for.
    Signed(Name),
    /// At or below a delegation that is proven to be unsigned.
    Unsigned,
}

/// What the zone we stand in says of a name right below the last.
enum Step {
    /// A signed zone begins here.
    Signed,
    /// An unsigned one does, or may, where the zone opts out.
    Unsigned,
    /// No zone begins here.
    Same,
    /// There is no such name, and so none below it.
    Absent,
}

/// Labels of the names walked: a chain longer than this is nobody's mail.
const MOST_LABELS: u8 = 40;

impl Validator {
    /// The zone of `name`.
    pub(super) async fn place(&self, asker: &Asker, name: &Name) -> Result<Place, Failure> {
        let labels = name.num_labels();
        if labels > MOST_LABELS {
            return Err(asker.undecided());
        }
        let mut zone = Name::root();
        for depth in 1..=labels {
            let at = name.trim_to(usize::from(depth));
            let delegation = Query::query(at.clone(), RecordType::DS);
            // At an alias the answer is about what it leads to (RFC 1034 §3.6.2).
            if is_alias(&asker.fetch(&delegation).await?, &at) {
                self.stays_in(asker, &zone, at).await?;
                continue;
            }
            let (message, _) = self.looked_up(asker, &delegation).await?;
            match step(&message, &at, &zone).ok_or_else(|| asker.blame())? {
                Step::Signed => zone = at,
                Step::Unsigned => return Ok(Place::Unsigned),
                Step::Same => {}
                Step::Absent => break,
            }
        }
        Ok(Place::Signed(zone))
    }

    /// Has it proven that `at` is an alias in `zone`, and so no zone cut (RFC 2181 §10.1). What a wildcard makes of a name
    /// does not say that no zone begins there.
    async fn stays_in(&self, asker: &Asker, zone: &Name, at: Name) -> Result<(), Failure> {
        let alias = Query::query(at, RecordType::CNAME);
        let (response, proven) = self.looked_up(asker, &alias).await?;
        let Found { secure, wild, .. } = Found::of(&response, &alias);
        let here = |r: &&Record| r.name == alias.name && r.record_type() == RecordType::CNAME;
        let ours = response.answers.iter().filter(here).all(|r| is_signed_by(&response.answers, r, zone));
        if proven && secure && wild.is_none() && ours { Ok(()) } else { Err(asker.blame()) }
    }
}

/// Whether an alias, and no delegation, is what is said of the name; unproven.
fn is_alias(message: &Message, name: &Name) -> bool {
    let has = |kind| message.answers.iter().any(|r| r.name == *name && r.record_type() == kind);
    has(RecordType::CNAME) && !has(RecordType::DS)
}

/// The name whose zone answers a question: for DS records the one above (RFC 4035 §3.1.4.1).
pub(super) fn asked_of(question: &Query) -> Name {
    match question.query_type {
        RecordType::DS => question.name.base_name(),
        _ => question.name.clone(),
    }
}

fn step(message: &Message, at: &Name, zone: &Name) -> Option<Step> {
    let delegations: Vec<_> = message
        .answers
        .iter()
        .filter(|r| r.name == *at && r.proof.is_secure())
        .filter_map(|r| match &r.data {
            RData::DNSSEC(DNSSECRData::DS(ds)) => Some(ds),
            _ => None,
        })
        .collect();
    if !delegations.is_empty() {
        // Of algorithms that nobody here knows nothing follows (RFC 4035 §5.2).
        let known =
            delegations.iter().any(|d| d.algorithm().is_supported() && d.digest_type().is_supported());
        return Some(if known { Step::Signed } else { Step::Unsigned });
    }
    let denials = of_zone(message, zone);
    denials.iter().find_map(|r| match &r.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) => by_nsec(&r.name, nsec, at, zone),
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => by_nsec3(&r.name, nsec3, at, zone),
        _ => None,
    })
}

/// The authentic denials that `zone` itself has signed.
fn of_zone<'m>(message: &'m Message, zone: &Name) -> Vec<&'m Record> {
    let authorities = &message.authorities;
    let authentic = |r: &&Record| is_denial(r) && r.proof.is_secure() && is_signed_by(authorities, r, zone);
    authorities.iter().filter(authentic).collect()
}

/// Whether the signature among `records` that held for `record` is one of `zone`.
fn is_signed_by(records: &[Record], record: &Record, zone: &Name) -> bool {
    records.iter().filter(|s| s.name == record.name && s.proof.is_secure()).any(|s| {
        signature(s).is_some_and(|s| s.type_covered == record.record_type() && s.signer_name == *zone)
    })
}

/// Whether there is an authentic SOA record in `message`, and none but that of `zone`, as in each denial (RFC 2308 §3). Without
/// it the library takes the name right above for one that is there, and looks for no wildcard further up.
pub(super) fn has_soa_of(message: &Message, zone: &Name) -> bool {
    let secure = |r: &&Record| r.record_type() == RecordType::SOA && r.proof.is_secure();
    let ours = |r: &Record| r.name == *zone && is_signed_by(&message.authorities, r, zone);
    let mut found = message.authorities.iter().filter(secure).peekable();
    found.peek().is_some() && found.all(ours)
}

/// Whether `zone` denies, in `message`, that there is anything at `name` or below it.
pub(super) fn is_absent(message: &Message, name: &Name, zone: &Name) -> bool {
    of_zone(message, zone).iter().any(|r| {
        let step = match &r.data {
            RData::DNSSEC(DNSSECRData::NSEC(nsec)) => by_nsec(&r.name, nsec, name, zone),
            RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) if r.name != *name => {
                by_nsec3(&r.name, nsec3, name, zone)
            }
            _ => None,
        };
        matches!(step, Some(Step::Absent | Step::Unsigned))
    })
}

/// Whether `zone` says, in `message`, that `name` itself is there.
pub(super) fn is_there(message: &Message, name: &Name, zone: &Name) -> bool {
    of_zone(message, zone).iter().any(|r| types_of(r, name).is_some())
}

/// Whether the owner of a DNAME is shown not to have what was asked of it. The library takes such a record for one of a
/// delegation, which it is only for the names below (RFC 6840 §4.1).
pub(super) fn is_bare_dname(message: &Message, question: &Query) -> bool {
    let bare = |types: &RecordTypeSet| {
        let has = |kind| types.contains(kind);
        let delegation = has(RecordType::NS) && !has(RecordType::SOA);
        has(RecordType::DNAME) && !has(question.query_type) && !has(RecordType::CNAME) && !delegation
    };
    let authentic = message.authorities.iter().filter(|r| is_denial(r) && r.proof.is_secure());
    let mut own = authentic.filter_map(|r| types_of(r, &question.name)).peekable();
    question.query_type != RecordType::DS
        && message.metadata.response_code == ResponseCode::NoError
        && message.answers.is_empty()
        && own.peek().is_some()
        && own.all(bare)
}

/// The types of `name` itself, where `denial` is its own record.
fn types_of<'m>(denial: &'m Record, name: &Name) -> Option<&'m RecordTypeSet> {
    match &denial.data {
        RData::DNSSEC(DNSSECRData::NSEC(nsec)) if denial.name == *name => Some(nsec.type_set()),
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => {
            let (own, wanted) = hashes(&denial.name, nsec3, name)?;
            (own == wanted && denial.name.base_name().zone_of(name)).then(|| nsec3.type_set())
        }
        _ => None,
    }
}

pub(super) fn is_denial(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::NSEC | RecordType::NSEC3)
}

/// Whether every authentic denial in `message` is one of `zone`, and there is one.
pub(super) fn denied_by(message: &Message, zone: &Name) -> bool {
    let secure = message.authorities.iter().filter(|r| is_denial(r) && r.proof.is_secure()).count();
    secure > 0 && of_zone(message, zone).len() == secure
}

fn by_nsec(owner: &Name, nsec: &NSEC, at: &Name, zone: &Name) -> Option<Step> {
    let (types, next) = (nsec.type_set(), nsec.next_domain_name());
    if owner == at {
        return of_types(
            types.contains(RecordType::NS),
            types.contains(RecordType::DS),
            types.contains(RecordType::SOA),
        );
    }
    // At a delegation the zone ends: it says nothing of what lies below (RFC 6840 §4.1).
    let ends_here = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
    let last = next <= owner;
    let covers = owner < at && if last { next == zone } else { at < next };
    let ours = zone.zone_of(owner) && zone.zone_of(next) && !(ends_here && owner.zone_of(at));
    // A name with others below it is there, if only for them.
    (covers && ours).then_some(if at.zone_of(next) { Step::Same } else { Step::Absent })
}

fn by_nsec3(owner: &Name, nsec3: &NSEC3, at: &Name, zone: &Name) -> Option<Step> {
    if owner.base_name() != *zone {
        return None;
    }
    let (own, wanted) = hashes(owner, nsec3, at)?;
    if own == wanted {
        let types = nsec3.type_set();
        return of_types(
            types.contains(RecordType::NS),
            types.contains(RecordType::DS),
            types.contains(RecordType::SOA),
        );
    }
    let next = base32hex(nsec3.next_hashed_owner_name()).into_bytes();
    let covers = if own < next { own < wanted && wanted < next } else { own < wanted || wanted < next };
    // Every name above `at` in this zone is there, or was denied on the way down, so this is the name next closer to it
    // (RFC 5155 §8.9).
    covers.then_some(if nsec3.opt_out() { Step::Unsigned } else { Step::Absent })
}

/// The hash that is the record's own, and that of `name`. `None` where it would cost too much.
fn hashes(owner: &Name, nsec3: &NSEC3, name: &Name) -> Option<(Vec<u8>, Vec<u8>)> {
    if nsec3.iterations() > MOST_ITERATIONS {
        return None;
    }
    let hash = nsec3.hash_algorithm().hash(nsec3.salt(), name, nsec3.iterations()).ok()?;
    Some((owner.iter().next()?.to_ascii_lowercase(), base32hex(hash.as_ref()).into_bytes()))
}

/// What a zone says of a name that it has.
const fn of_types(ns: bool, ds: bool, soa: bool) -> Option<Step> {
    match (ns, ds, soa) {
        (_, true, _) | (_, _, true) => None,
        (true, false, false) => Some(Step::Unsigned),
        (false, false, false) => Some(Step::Same),
    }
}

/// RFC 4648 §7, without padding and in lower case, as owner names of NSEC3 records are (RFC 5155 §3).
pub(super) fn base32hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
    let bits: Vec<u8> = octets.iter().flat_map(|o| (0..8).rev().map(move |n| o >> n & 1)).collect();
    let digit = |five: &[u8]| {
        let value = (0..5).fold(0_usize, |v, n| v << 1 | usize::from(five.get(n).copied().unwrap_or(0)));
        DIGITS.get(value).copied().map_or('0', char::from)
    };
    bits.chunks(5).map(digit).collect()
}
