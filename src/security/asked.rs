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
            TlsFailure::DaneRequired => vec![Reason::Operator],
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
            Reason::Operator => self.operator.pkix,
        }
    }
}
