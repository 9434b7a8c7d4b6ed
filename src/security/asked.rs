//! Whose demand a failure leaves unmet, so that whoever waits is told by whom.

use crate::queue::unmet::{Fixed, Unmet};
use crate::security::decide::{Reason, TlsPolicy};
use crate::security::failure::TlsFailure;

impl TlsPolicy {
    /// Who asks for what `failure` says is missing. `next_hop`: the host is one of a `[[destination]]`.
    pub fn unmet(&self, failure: &TlsFailure, next_hop: bool) -> Unmet {
        let by = self.asked_by(failure);
        let fixed = if !by.contains(&Reason::Operator) {
            None
        } else if self.floor.authenticated() {
            Some(Fixed::Password)
        } else if self.floor.tls && !matches!(failure, TlsFailure::Certificate(_) | TlsFailure::Dane(_)) {
            Some(Fixed::Smtps)
        } else {
            None
        };
        let token = failure.details().into_iter().next().and_then(|d| d.reason);
        Unmet { by, next_hop, fixed, token, certificate: None }
    }

    fn asked_by(&self, failure: &TlsFailure) -> Vec<Reason> {
        let authenticates = |wanted: bool| match &self.waiver {
            // An exception leaves of what asks for proof only what no exception reaches, which is the operator's.
            Some(_) => vec![Reason::Operator],
            None => self.reasons.iter().copied().filter(|r| self.wants_proof(*r, wanted)).collect(),
        };
        match failure {
            TlsFailure::NotListed => vec![Reason::MtaSts],
            TlsFailure::TlsaLookup(_) => vec![Reason::Dane],
            TlsFailure::DaneRequired(_) => vec![Reason::Operator],
            TlsFailure::NameNotAssured { .. }
            | TlsFailure::PolicyNotFetched(_)
            | TlsFailure::NoRequireTls => vec![Reason::Sender],
            TlsFailure::Certificate(_) => authenticates(false),
            TlsFailure::Dane(_) => authenticates(true),
            TlsFailure::NotOffered | TlsFailure::Refused(_) | TlsFailure::Handshake(_) => {
                self.reasons.clone()
            }
        }
    }

    /// Whether `reason` asks that the host proves who it is: by DANE, or by PKIX.
    fn wants_proof(&self, reason: Reason, by_dane: bool) -> bool {
        match reason {
            Reason::MtaSts => !by_dane,
            Reason::Dane => by_dane,
            Reason::Sender => self.dane().is_some() == by_dane,
            Reason::Operator if by_dane => self.operator.dane,
            Reason::Operator => self.operator.verified,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::clock::Timestamp;
    use crate::dane::{DaneFault, Tlsa, TlsaAnswer, TlsaSet};
    use crate::mail::Domain;
    use crate::mtasts::{Mode, Policy, StoredPolicy};
    use crate::security::decide::{Asked, Demand, Gate, MessageKind, Sources, decide};
    use crate::security::pkix::PkixFault;
    use crate::security::verdict::refused;

    fn host() -> Domain {
        Domain::parse("mx.example").unwrap()
    }

    /// What is demanded of a host of the domain.
    fn gate(records: bool, enforce: bool, message: MessageKind, operator: Demand, floor: Demand) -> Gate {
        let record = Tlsa { usage: 3, selector: 1, matching: 1, data: vec![1; 32] };
        let set = Arc::new(TlsaSet { base: host(), records: vec![record] });
        let max_age = Duration::from_secs(86_400);
        let policy =
            Policy { mode: Mode::Enforce, mx: vec!["mx.example".into()], max_age, lines: Vec::new() };
        let now = Timestamp::from_millis(0);
        let (id, domain) = ("1".to_owned(), host());
        let stored =
            Arc::new(StoredPolicy { domain, id, policy, fetched: now, expires: now, last_used: now });
        decide(&Sources {
            next_hop: &host(),
            host: &host(),
            name_assured: true,
            // So that DANE does not take the policy's place.
            identified: false,
            tlsa: &if records { TlsaAnswer::Found(set) } else { TlsaAnswer::None },
            references: &[host()],
            require_both: false,
            policy: enforce.then_some((&stored, true)),
            fetch_failure: None,
            operator,
            floor,
            exception: None,
            message,
            asked: Asked::All,
        })
    }

    // R1, RFC 8689 §4.2.2
    #[test]
    fn a_failure_is_told_to_whoever_asks_for_what_is_missing() {
        use MessageKind::{Normal, RequireTls, TlsOptional};
        use Reason::{Dane, MtaSts, Operator, Sender};
        let (n, e, v) = (Demand::NOTHING, Demand::ENCRYPTED, Demand::VERIFIED);
        let (no, yes) = (false, true);
        let clear = TlsFailure::NotOffered;
        let pkix = TlsFailure::Certificate(vec![PkixFault::Name]);
        let dane = TlsFailure::Dane(vec![DaneFault::NoMatch]);
        for (what, records, enforce, message, operator, floor, failure, by, fixed) in [
            ("policy", no, yes, Normal, n, n, &pkix, &[MtaSts][..], None),
            ("records", yes, no, Normal, n, n, &dane, &[Dane], None),
            ("records beside a rule", yes, no, Normal, v, n, &dane, &[Dane], None),
            ("a rule beside records", yes, no, Normal, v, n, &pkix, &[Operator], None),
            ("policy beside a rule for less", no, yes, Normal, e, n, &pkix, &[MtaSts], None),
            ("policy and rule", no, yes, Normal, e, n, &clear, &[MtaSts, Operator], None),
            ("sender by PKIX", no, no, RequireTls, n, n, &pkix, &[Sender], None),
            ("sender by DANE", yes, no, RequireTls, n, n, &dane, &[Dane, Sender], None),
            ("sender and rule", no, no, RequireTls, v, n, &pkix, &[Sender, Operator], None),
            ("no REQUIRETLS", no, no, RequireTls, v, n, &TlsFailure::NoRequireTls, &[Sender], None),
            ("the sender looks away", yes, yes, TlsOptional, v, n, &pkix, &[Operator], None),
            ("a password", no, no, Normal, v, v, &pkix, &[Operator], Some(Fixed::Password)),
            ("smtps", no, no, Normal, e, e, &clear, &[Operator], Some(Fixed::Smtps)),
            ("smtps and more", no, no, Normal, v, e, &pkix, &[Operator], None),
        ] {
            let (Gate::Contact(policy) | Gate::Refuse(policy, _)) =
                gate(records, enforce, message, operator, floor);
            let unmet = policy.unmet(failure, true);
            assert_eq!((unmet.by.as_slice(), unmet.fixed, unmet.next_hop), (by, fixed, true), "{what}");
        }
    }

    // D63: the operator's wish for records is no promise of the domain.
    #[test]
    fn records_that_only_the_operator_asks_for_are_promised_by_nobody() {
        let Gate::Refuse(policy, failure) =
            gate(false, false, MessageKind::Normal, Demand::DANE, Demand::NOTHING)
        else {
            panic!("it is not dialled");
        };
        assert_eq!(policy.unmet(&failure, false).by, [Reason::Operator]);
        // What `roots` of a next hop would mend is told apart by this word.
        let unknown = TlsFailure::Certificate(vec![PkixFault::Untrusted("unknown-issuer")]);
        assert_eq!(policy.unmet(&unknown, false).token.as_deref(), Some("unknown-issuer"));
        assert_eq!(refused(&policy, failure).promise, None);
    }
}
