//! How each TLSA record by itself judges a peer, for people who look for the one that is wrong.

use super::TlsFacts;
use crate::dane::tlsa::Usable;
use crate::dane::verify::{Terms, verify};
use crate::dane::{DaneFault, Tlsa, TlsaAnswer};
use crate::security::decide::TlsPolicy;

/// What one record makes of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordVerdict {
    /// It vouches for the peer; one that does is enough (DANE-30).
    Matches,
    /// It does not, and why.
    Mismatch(Vec<DaneFault>),
    /// It cannot be used for SMTP (DANE-20, DANE-21).
    Unusable,
    /// Another record of its usage and selector has a stronger digest (DANE-31).
    Superseded,
}

impl TlsFacts {
    /// The verdict of each record that the host has, in the order of the DNS.
    pub fn by_record(&self, policy: &TlsPolicy) -> Vec<(Tlsa, RecordVerdict)> {
        let TlsaAnswer::Found(set) = &policy.tlsa else { return Vec::new() };
        let used = set.usable();
        let terms = Terms {
            references: &policy.references,
            algorithms: &self.chain.algorithms,
            now: self.chain.judged,
        };
        let judge = |record: &Tlsa| match Usable::of(record) {
            None => RecordVerdict::Unusable,
            Some(usable) if !used.contains(&usable) => RecordVerdict::Superseded,
            Some(usable) => match verify(&[usable], &self.chain.certificates, terms) {
                faults if !faults.is_empty() => RecordVerdict::Mismatch(faults),
                _ if !self.signature_verified => RecordVerdict::Mismatch(vec![DaneFault::Unproven]),
                _ => RecordVerdict::Matches,
            },
        };
        set.records.iter().map(|record| (record.clone(), judge(record))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{CertificateParams, KeyPair};
    use rustls::pki_types::CertificateDer;

    use super::super::PeerChain;
    use super::*;
    use crate::clock::Timestamp;
    use crate::dane::TlsaSet;
    use crate::mail::Domain;
    use crate::security::decide::{Asked, Demand, Gate, MessageKind, Sources, decide};

    fn facts(leaf: &CertificateDer<'static>, signature_verified: bool) -> TlsFacts {
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        TlsFacts {
            version: "TLSv1.3".to_owned(),
            cipher: String::new(),
            sni: None,
            signature_verified,
            pkix: Vec::new(),
            chain: PeerChain {
                certificates: vec![leaf.clone()],
                algorithms,
                judged: Timestamp::from_millis(1_795_333_080_000),
            },
            certificate: None,
        }
    }

    fn policy(tlsa: &TlsaAnswer) -> TlsPolicy {
        let name = Domain::parse("mx.example").unwrap();
        let gate = decide(&Sources {
            next_hop: &name,
            host: &name,
            name_assured: true,
            identified: true,
            tlsa,
            references: std::slice::from_ref(&name),
            require_both: false,
            policy: None,
            fetch_failure: None,
            operator: Demand::NOTHING,
            floor: Demand::NOTHING,
            exception: None,
            message: MessageKind::Normal,
            asked: Asked::All,
        });
        match gate {
            Gate::Contact(policy) | Gate::Refuse(policy, _) => policy,
        }
    }

    // DANE-20, DANE-23, DANE-30, DANE-31
    #[test]
    fn each_record_is_judged_by_itself() {
        let own = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["mx.example".to_owned()]).unwrap().self_signed(&own).unwrap();
        let leaf = leaf.der().clone();
        let digest = |algorithm| aws_lc_rs::digest::digest(algorithm, &leaf).as_ref().to_vec();
        let of = |usage, matching, data| Tlsa { usage, selector: 0, matching, data };
        let records = vec![
            of(3, 2, digest(&aws_lc_rs::digest::SHA512)),
            of(3, 1, digest(&aws_lc_rs::digest::SHA256)),
            of(2, 1, vec![7; 32]),
            of(1, 1, digest(&aws_lc_rs::digest::SHA256)),
        ];
        let base = Domain::parse("mx.example").unwrap();
        let answer = TlsaAnswer::Found(Arc::new(TlsaSet { base, records }));
        let verdicts = |signed| -> Vec<RecordVerdict> {
            let judged = facts(&leaf, signed).by_record(&policy(&answer));
            judged.into_iter().map(|(_, verdict)| verdict).collect()
        };
        let other = RecordVerdict::Mismatch(vec![DaneFault::NoMatch]);
        assert_eq!(
            verdicts(true),
            [RecordVerdict::Matches, RecordVerdict::Superseded, other.clone(), RecordVerdict::Unusable]
        );
        let unproven = RecordVerdict::Mismatch(vec![DaneFault::Unproven]);
        assert_eq!(
            verdicts(false),
            [unproven, RecordVerdict::Superseded, other, RecordVerdict::Unusable],
            "a copy of a certificate matches nothing"
        );
        assert!(facts(&leaf, true).by_record(&policy(&TlsaAnswer::None)).is_empty());
    }
}
