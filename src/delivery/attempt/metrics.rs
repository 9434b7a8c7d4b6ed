//! What is counted of sessions: how they came about, how they were secured, and how TLS failed.

use super::super::session::{Seen, Unopened};
use crate::dane::TlsaAnswer;
use crate::observe::metrics::{Counters, Registry, Word, table, words};
use crate::queue::outcome::Stage;
use crate::security::Level;
use crate::security::verdict::{HandshakeFault, Judgement, TlsState};
use crate::tlsrpt::ResultType;

words! {
    /// How far a session came that did not come about.
    enum Reached {
        Connect = "connect",
        Greeting = "greeting",
        Ehlo = "ehlo",
        Starttls = "starttls",
        Handshake = "handshake",
        Ourselves = "ourselves",
    }
}

impl Reached {
    const fn of(why: &Unopened) -> Self {
        match why {
            Unopened::Connect(_) => Self::Connect,
            Unopened::Refused(stage, _) | Unopened::Fault(stage, _) => match stage {
                Stage::Greeting => Self::Greeting,
                Stage::Starttls => Self::Starttls,
                _ => Self::Ehlo,
            },
            Unopened::Ourselves => Self::Ourselves,
            Unopened::Starttls => Self::Handshake,
        }
    }
}

words! {
    /// The version of TLS.
    enum Version {
        None = "none",
        Tls12 = "TLSv1.2",
        Tls13 = "TLSv1.3",
    }
}

impl Version {
    fn of(seen: &Seen) -> Self {
        // There are no others (TLS-20).
        match seen.tls() {
            Some(facts) if facts.version == Self::Tls12.word() => Self::Tls12,
            Some(_) => Self::Tls13,
            None => Self::None,
        }
    }
}

words! {
    /// What a failure of TLS led to.
    enum Effect {
        Refused = "refused",
        Passed = "passed",
    }
}

words! {
    /// Why a session is in the clear although the host offers STARTTLS (TLS-25).
    enum Fallback {
        Refused = "refused",
        Incompatible = "incompatible",
        Alert = "alert",
        Closed = "closed",
        Timeout = "timeout",
        Other = "other",
    }
}

impl Fallback {
    fn of(tls: &TlsState) -> Option<Self> {
        match tls {
            TlsState::NotOffered | TlsState::On(_) => None,
            TlsState::Refused(_) => Some(Self::Refused),
            TlsState::Failed(fault) => Some(Self::of_handshake(fault)),
        }
    }

    fn of_handshake(fault: &HandshakeFault) -> Self {
        match fault.token.as_str() {
            // No version, cipher or curve in common: handshake_failure, protocol_version, insufficient_security of
            // RFC 8446 §6 where the host says so, else what rustls says of its offer.
            "tls-incompatible" | "tls-alert-40" | "tls-alert-70" | "tls-alert-71" => Self::Incompatible,
            "handshake-timeout" => Self::Timeout,
            "handshake-eof" => Self::Closed,
            token if token.starts_with("tls-alert-") => Self::Alert,
            _ => Self::Other,
        }
    }
}

words! {
    /// What is known of a host's TLSA records.
    enum Tlsa {
        Found = "found",
        None = "none",
        Failed = "failed",
    }
}

/// The handles of all attempts.
#[derive(Debug, Clone, Default)]
pub struct AttemptMetrics {
    opened: Counters<()>,
    failed: Counters<Reached>,
    reused: Counters<()>,
    sessions: Counters<(Level, Version)>,
    failures: Counters<(ResultType, Effect)>,
    fallbacks: Counters<Fallback>,
    tlsa: Counters<Tlsa>,
}

impl AttemptMetrics {
    /// Handles that count.
    pub fn new(registry: &Registry<'_>) -> Self {
        Self {
            opened: registry.counters(&table::CONNECTIONS_OPENED),
            failed: registry.counters(&table::CONNECTIONS_FAILED),
            reused: registry.counters(&table::CONNECTIONS_REUSED),
            sessions: registry.counters(&table::TLS_SESSIONS),
            failures: registry.counters(&table::TLS_FAILURES),
            fallbacks: registry.counters(&table::FALLBACKS),
            tlsa: registry.counters(&table::DANE_HOSTS),
        }
    }

    /// A session was dialled, and is open, or why it is not.
    pub(super) fn dialled(&self, failed: Option<&Unopened>) {
        match failed {
            None => self.opened.count(()),
            Some(why) => self.failed.count(Reached::of(why)),
        }
    }

    /// A session is good enough for its mail at this level; `reused`: as it was for other mail before.
    pub(super) fn cleared(&self, seen: &Seen, level: Level, reused: bool) {
        if reused {
            return self.reused.count(());
        }
        self.sessions.count((level, Version::of(seen)));
        if let Some(cause) = Fallback::of(&seen.evidence.tls) {
            self.fallbacks.count(cause);
        }
    }

    /// The first verdict on a session, as it is recorded for the report: each type of failure once.
    pub(super) fn judged(&self, judgement: &Judgement) {
        let effect = if judgement.cleared.is_ok() { Effect::Passed } else { Effect::Refused };
        let details = judgement.verdicts.iter().filter(|v| !v.success).flat_map(|v| &v.details);
        let types: Vec<ResultType> = details.map(|d| d.result).collect();
        for failed in ResultType::ALL.into_iter().filter(|t| types.contains(t)) {
            self.failures.count((failed, effect));
        }
    }

    /// The way to the hosts is forged or broken.
    pub(super) fn bogus(&self) {
        self.failures.count((ResultType::DnssecInvalid, Effect::Refused));
    }

    /// What a look for a host's TLSA records came to.
    pub(super) fn looked_up(&self, answer: &TlsaAnswer) {
        self.tlsa.count(match answer {
            TlsaAnswer::Found(_) => Tlsa::Found,
            TlsaAnswer::None => Tlsa::None,
            TlsaAnswer::Failed(_) => Tlsa::Failed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // TLS-25
    #[test]
    fn what_the_floor_of_tls_1_2_costs_is_told_from_other_failures() {
        let failed =
            |token: &str| TlsState::Failed(HandshakeFault { token: token.to_owned(), words: String::new() });
        let refused = TlsState::Refused(crate::mail::Reply::from_lines(454, &[b"not now"]));
        for (state, want) in [
            (TlsState::NotOffered, None),
            (refused, Some(Fallback::Refused)),
            (failed("tls-incompatible"), Some(Fallback::Incompatible)),
            (failed("tls-alert-70"), Some(Fallback::Incompatible)),
            (failed("tls-alert-40"), Some(Fallback::Incompatible)),
            (failed("tls-alert-80"), Some(Fallback::Alert)),
            (failed("handshake-eof"), Some(Fallback::Closed)),
            (failed("handshake-timeout"), Some(Fallback::Timeout)),
            (failed("whatever a peer brings about"), Some(Fallback::Other)),
        ] {
            assert_eq!(Fallback::of(&state), want, "{state:?}");
        }
    }
}
