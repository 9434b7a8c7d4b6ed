//! DNSSEC validation in this process (`dns.dnssec = "validate"`), with hickory's validator over our own exchange.
//!
//! The validator answers for one name at a time: of an answer with aliases only the first link is taken, and the next one
//! is asked for by itself. So each link has a proof of its own, and what a message holds besides is never used.
//!
//! Whatever the validator cannot settle is an error, never "unsigned": a failed fetch on the way up to the root keeps its
//! own name (the library calls it bogus), and a walk that the library gives up on is [`DnsErrorKind::Undecided`]. Nothing
//! of either is kept. Known of hickory 0.26: it may walk in a circle over DS records answered from the wrong side of a
//! zone cut, branching as often as there are SOA records beside them, ends that at a depth of 26, and calls the name bogus.
//! It takes a wildcard's place from any signature, be it one that holds or not. So [`asker`] bounds what one name may cost, and
//! `prove` asks again whose proof it is.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::xfer::FirstAnswer as _;
use hickory_resolver::net::{DnsError, DnsHandle as _, NetError};
use hickory_resolver::proto::dnssec::rdata::{DNSSECRData, DS};
use hickory_resolver::proto::dnssec::{Algorithm, PublicKeyBuf, TrustAnchors};
use hickory_resolver::proto::op::{DnsRequestOptions, Message, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::CNAME;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::servers::{Checking, Failure, Servers};
use crate::dns::DnsErrorKind;
use crate::dns::anchor::Anchor;
use crate::dns::self_test::Said;

mod asker;
mod zones;

use asker::{Asker, Kept, signature};
use zones::{Place, denied_by, has_soa_of};

/// Validated RRsets remembered within one question: a message has a few, each with a chain up to the root.
const MOST_PROOFS: usize = 512;

/// Iterations of NSEC3 beyond which a denial proves nothing, and mail waits. RFC 9276 §3.1 wants none; resolvers allow as
/// many as this.
const MOST_ITERATIONS: u16 = 150;

/// Validates what the servers hand out.
#[derive(Debug)]
pub(super) struct Validator {
    /// Empty: the keys of the root that are built in.
    anchors: Arc<[Anchor]>,
    kept: Arc<Kept>,
}

/// What one name says, proven one way or the other.
#[derive(Debug)]
pub(super) struct Link {
    /// The records asked for, or an alias in their place, or a denial.
    pub(super) message: Message,
    /// Proven to be authentic; else proven to be unsigned.
    pub(super) secure: bool,
    /// The resolver that handed it out.
    pub(super) server: SocketAddr,
}

impl Validator {
    /// A validator that believes in `anchors`, or in the keys of IANA that are built in.
    pub(super) fn new(anchors: Arc<[Anchor]>) -> Self {
        Self { anchors, kept: Arc::default() }
    }

    /// What the name in `question` says. What cannot be proven with all servers together is tried with each by itself, since
    /// one of them may strip signatures or be lied to.
    pub(super) async fn ask(&self, servers: &Arc<Servers>, question: &Query) -> Result<Link, Failure> {
        let first = self.ask_once(servers, question).await;
        let is_verdict = matches!(first, Err((DnsErrorKind::Bogus | DnsErrorKind::Undecided, _)));
        if is_verdict && servers.list().len() > 1 {
            for server in servers.list() {
                if let Ok(link) = self.ask_once(&Arc::new(servers.only(*server)), question).await {
                    return Ok(link);
                }
            }
        }
        first
    }

    async fn ask_once(&self, servers: &Arc<Servers>, question: &Query) -> Result<Link, Failure> {
        let asker = Asker::new(Arc::clone(servers), Arc::clone(&self.kept));
        let link = async {
            let plain = asker.fetch(question).await?;
            let here = |r: &&Record| r.name == question.name;
            let kind = question.query_type;
            let is_here = |kind| plain.answers.iter().filter(here).any(|r| r.record_type() == kind);
            if kind != RecordType::CNAME && is_here(kind) {
                return self.prove(&asker, question).await;
            }
            // The CNAME that a DNAME makes is not signed, asked for by itself or not; the DNAME is (RFC 6672 §5.3.1).
            if let Some(above) = plain.answers.iter().find(|r| is_dname_above(r, &question.name)) {
                return self.through_dname(&asker, above.name.clone(), question).await;
            }
            if is_here(RecordType::CNAME) {
                let alias = Query::query(question.name.clone(), RecordType::CNAME);
                return self.prove(&asker, &alias).await;
            }
            self.prove(&asker, question).await
        };
        let result = link.await;
        match result {
            Ok(_) => asker.share_what_was_proven(),
            Err(_) => asker.forget_what_was_used(),
        }
        result.map(|(message, secure)| Link { message, secure, server: asker.server() })
    }

    /// Has the library prove what the servers say to `question`, checks whose proof it is, and takes from the answer only
    /// what is proven.
    async fn prove(&self, asker: &Asker, question: &Query) -> Result<(Message, bool), Failure> {
        let (response, proven) = self.looked_up(asker, question).await?;
        let Found { any: found, secure, wild } = Found::of(&response, question);
        if secure && wild.is_none() {
            return Ok((only(question, response), true));
        }
        // What a wildcard made up is no zone; the name above the wildcard is there.
        let from = wild
            .map_or_else(|| zones::asked_of(question), |labels| question.name.trim_to(usize::from(labels)));
        let secure = match self.place(asker, &from).await? {
            Place::Unsigned => false,
            Place::Signed(zone) => {
                // What lies between the wildcard and the name must not be there, a zone cut least of all; and which wildcard
                // it was says only the signature that held (RFC 5155 §8.8).
                let next_closer =
                    wild.map(|labels| question.name.trim_to(usize::from(labels).saturating_add(1)));
                let stands_in = next_closer.is_none_or(|name| zones::is_absent(&response, &name, &zone));
                let denied = denied_by(&response, &zone) && (found || has_soa_of(&response, &zone));
                if !proven || !stands_in || !denied || found && !secure {
                    return Err(asker.blame());
                }
                // Under opt-out an unsigned delegation may hide where nothing is said to be (RFC 5155 §9.2, DANE-03).
                zones::is_there(&response, &question.name, &zone)
                    || !response.authorities.iter().any(opts_out)
            }
        };
        Ok((only(question, response), secure))
    }

    /// What the library says of the answer to `question`: each record with its proof, and whether it found the whole proven.
    /// Whose signature it was is not asked.
    async fn looked_up(&self, asker: &Asker, question: &Query) -> Result<(Message, bool), Failure> {
        let anchors = self.anchors(asker).await?;
        let handle = DnssecDnsHandle::with_trust_anchor(asker.clone(), Arc::new(anchors))
            // Beyond the limit the library looks at nothing else, so that it must not end in "unsigned".
            .nsec3_iteration_limits(Some(MOST_ITERATIONS), Some(MOST_ITERATIONS))
            .validation_cache_size(MOST_PROOFS);
        let lookup = handle.lookup(question.clone(), DnsRequestOptions::default()).first_answer();
        // The library asserts what it thinks impossible; a peer's message is no reason to end a worker.
        let answer = AssertUnwindSafe(lookup).catch_unwind().await.map_err(|_| asker.undecided())?;
        match answer {
            Ok(response) => Ok((response.into_message(), true)),
            Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => {
                let proven =
                    made_by_wildcard(&response, question) || zones::is_bare_dname(&response, question);
                if proven || proof.is_insecure() {
                    Ok((response.into_message(), proven))
                } else {
                    Err(asker.blame())
                }
            }
            Err(_) => Err(asker.blame()),
        }
    }

    /// The alias that a DNAME above the name makes of it (RFC 6672 §2.2).
    async fn through_dname(
        &self,
        asker: &Asker,
        owner: Name,
        question: &Query,
    ) -> Result<(Message, bool), Failure> {
        let dname = Query::query(owner.clone(), RecordType::DNAME);
        asker.fetch(&dname).await?;
        let (mut message, secure) = self.prove(asker, &dname).await?;
        let made = message.answers.iter().find_map(|r| {
            let target = dname_target(r)?;
            let kept =
                usize::from(question.name.num_labels()).checked_sub(usize::from(owner.num_labels()))?;
            let labels: Vec<&[u8]> = question.name.iter().take(kept).collect();
            let alias = Name::from_labels(labels).ok()?.append_domain(&target).ok()?;
            Some(Record::from_rdata(question.name.clone(), r.ttl, RData::CNAME(CNAME(alias))))
        });
        message.answers = vec![made.ok_or_else(|| (DnsErrorKind::Malformed, Some(asker.server())))?];
        Ok((message, secure))
    }

    /// The keys of the root that are believed. Where only a digest is known, the root is asked for the key that has it.
    async fn anchors(&self, asker: &Asker) -> Result<TrustAnchors, Failure> {
        if self.anchors.is_empty() {
            return Ok(TrustAnchors::default());
        }
        let mut anchors = TrustAnchors::empty();
        let mut digests = Vec::new();
        for anchor in self.anchors.iter() {
            match anchor {
                Anchor::Key { algorithm, key } => {
                    anchors.insert(&PublicKeyBuf::new(key.clone(), Algorithm::from_u8(*algorithm)));
                }
                Anchor::Digest { tag, algorithm, kind, digest } => {
                    digests.push(DS::new(
                        *tag,
                        Algorithm::from_u8(*algorithm),
                        (*kind).into(),
                        digest.clone(),
                    ));
                }
            }
        }
        if !digests.is_empty() {
            let keys = asker.fetch(&Query::query(Name::root(), RecordType::DNSKEY)).await?;
            for record in &keys.answers {
                let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &record.data else { continue };
                let believed = |d: &DS| d.covers(&Name::root(), key).unwrap_or(false);
                if record.name.is_root() && key.zone_key() && !key.revoke() && digests.iter().any(believed) {
                    anchors.insert(key.public_key());
                }
            }
        }
        Ok(anchors)
    }

    /// What one server says to a question of the self-test (DANE-02).
    pub(super) async fn said(&self, servers: &Servers, server: SocketAddr, question: &Query) -> Said {
        let servers = Arc::new(servers.only(server));
        let plain = match servers.ask_one(server, question, Checking::Ours).await {
            Ok(plain) => plain,
            Err(kind) => return Said::Nothing(kind),
        };
        let is_data = |m: &Message| m.answers.iter().any(|r| r.record_type() == question.query_type);
        let is_signed = |r: &Record| r.record_type() == RecordType::RRSIG;
        if is_data(&plain) && !plain.answers.iter().any(is_signed) {
            return Said::Unsigned;
        }
        match self.ask(&servers, question).await {
            Ok(link) if is_data(&link.message) => Said::Data(link.secure),
            Ok(link) => Said::Denial(link.secure),
            Err((kind, _)) => Said::Nothing(kind),
        }
    }
}

/// What there is among the answers.
struct Found {
    /// A record of the kind asked for.
    any: bool,
    /// And all of them are authentic.
    secure: bool,
    /// They come from a wildcard below the name with so many labels.
    wild: Option<u8>,
}

impl Found {
    fn of(response: &Message, question: &Query) -> Self {
        let mut found = Self { any: false, secure: true, wild: None };
        for record in &response.answers {
            if record.name == question.name && record.record_type() == question.query_type {
                found.any = true;
                found.secure &= record.proof.is_secure();
            }
            let made_up = signature(record).filter(|s| {
                s.type_covered == question.query_type && s.num_labels < question.name.num_labels()
            });
            if let Some(signature) = made_up.filter(|_| record.proof.is_secure()) {
                found.wild = Some(signature.num_labels);
            }
        }
        found.secure &= found.any;
        found
    }
}

fn opts_out(record: &Record) -> bool {
    match &record.data {
        RData::DNSSEC(DNSSECRData::NSEC3(nsec3)) => nsec3.opt_out() && record.proof.is_secure(),
        _ => false,
    }
}

/// Whether these are authentic records of a wildcard right above the name, and the name itself is proven not to exist
/// (RFC 4035 §5.3.4). The library looks for a proof that even the wildcard is not there, and so finds none.
fn made_by_wildcard(response: &Message, question: &Query) -> bool {
    let asked = |r: &&Record| r.name == question.name && r.record_type() == question.query_type;
    let secure = response.answers.iter().filter(asked).all(|r| r.proof.is_secure());
    let signer = response.answers.iter().filter(|r| r.proof.is_secure()).find_map(|r| {
        let signature = signature(r).filter(|s| s.type_covered == question.query_type)?;
        // One label was made up: nothing else could lie between the name and the wildcard.
        (signature.num_labels.checked_add(1)? == question.name.num_labels()).then_some(&signature.signer_name)
    });
    let denied = |r: &Record| {
        let RData::DNSSEC(DNSSECRData::NSEC(nsec)) = &r.data else { return false };
        let (next, types) = (nsec.next_domain_name(), nsec.type_set());
        let last = next <= &r.name;
        let delegation = types.contains(RecordType::NS) && !types.contains(RecordType::SOA);
        r.proof.is_secure()
            && signer.is_some_and(|zone| zone.zone_of(&r.name) && (!last || next == zone))
            && r.name < question.name
            && (last || &question.name < next)
            && !question.name.zone_of(next)
            && !((delegation || types.contains(RecordType::DNAME)) && r.name.zone_of(&question.name))
    };
    secure && response.answers.iter().any(|r| asked(&r)) && response.authorities.iter().any(denied)
}

/// The message with nothing in it but the answer to `question`, or the denial.
fn only(question: &Query, mut message: Message) -> Message {
    message.answers.retain(|r| r.name == question.name && r.record_type() == question.query_type);
    if message.answers.is_empty() {
        message.authorities.retain(|r| r.record_type() == RecordType::SOA);
    } else {
        // Nobody signs the code, and a denial beside records is one of another name (RFC 6604 §3).
        message.metadata.response_code = ResponseCode::NoError;
        message.authorities.clear();
    }
    message.additionals.clear();
    message
}

fn is_dname_above(record: &Record, name: &Name) -> bool {
    record.record_type() == RecordType::DNAME && record.name != *name && record.name.zone_of(name)
}

/// The library has no such type; the name is never compressed (RFC 6672 §2.5).
fn dname_target(record: &Record) -> Option<Name> {
    use hickory_resolver::proto::serialize::binary::{BinDecodable as _, BinDecoder};
    match &record.data {
        RData::Unknown { code: RecordType::DNAME, rdata } => {
            Name::read(&mut BinDecoder::new(&rdata.anything)).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;
