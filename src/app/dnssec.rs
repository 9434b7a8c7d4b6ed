//! The self-test of the resolvers (DANE-02): every minute until the first answer, then hourly.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::SelfTest;
use crate::dns::belief::{Belief, Believing};
use crate::dns::cache::CachingResolver;
use crate::dns::hickory::HickoryResolver;
use crate::dns::self_test::Verdict;
use crate::observe::metrics::{Counters, words};

/// Until the first answer.
const SOON: Duration = Duration::from_secs(60);
/// From then on.
const LATER: Duration = Duration::from_secs(3600);

words! {
    /// What a self-test came to.
    pub(super) enum Tested {
        Passed = "passed",
        Partial = "partial",
        Unauthenticated = "unauthenticated",
        Unanswered = "unanswered",
        Disproved = "disproved",
    }
}

impl Tested {
    const fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict { believe: Some(false), .. } => Self::Disproved,
            Verdict { proven: Some(false), .. } => Self::Unauthenticated,
            Verdict { warn: true, answered: false, .. } => Self::Unanswered,
            Verdict { warn: true, .. } => Self::Partial,
            Verdict { .. } => Self::Passed,
        }
    }
}

/// Who is asked, about what, and who is told.
pub struct SelfTesting {
    /// Asks each server by itself.
    pub asker: HickoryResolver,
    /// The names.
    pub names: SelfTest,
    /// What is believed.
    pub belief: Arc<Belief>,
    /// Answers that were kept.
    pub answers: Arc<Believing<CachingResolver<HickoryResolver>>>,
}

impl SelfTesting {
    /// Asks once, where there is a belief to be tested; `None` where there is not.
    pub async fn once(&self) -> Option<Verdict> {
        if !self.belief.configured() {
            return None;
        }
        let verdict = {
            let proven = self.belief.proven().is_believed();
            self.asker.self_test(&self.names.secure, &self.names.bogus, proven).await
        };
        // Gone before anybody takes it for authentic or for conclusive.
        if self.belief.outdates_answers(&verdict) {
            self.answers.inner().clear();
        }
        self.belief.learn(&verdict);
        Some(verdict)
    }

    /// Asks again and again, and says what changes.
    pub(super) async fn watch(self, tests: Counters<Tested>, stop: CancellationToken) {
        let mut said = String::new();
        let look = async {
            loop {
                let Some(verdict) = self.once().await else { return };
                tests.count(Tested::of(&verdict));
                if verdict.text != said {
                    let words = self.belief.words();
                    if verdict.warn {
                        tracing::warn!(event = "dnssec", "DNSSEC {words}");
                    } else {
                        tracing::info!(event = "dnssec", "DNSSEC {words}");
                    }
                    said.clone_from(&verdict.text);
                }
                // What is switched off is looked at again soon: one spoilt answer may have done it.
                let settled = verdict.answered && verdict.believe != Some(false);
                tokio::time::sleep(if settled { LATER } else { SOON }).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // DANE-02
    #[test]
    fn a_self_test_is_counted_by_what_follows_from_it() {
        let (yes, no) = (Some(true), Some(false));
        for (believe, proven, warn, answered, want) in [
            (yes, yes, false, true, Tested::Passed),
            (None, yes, false, true, Tested::Passed),
            (None, yes, false, false, Tested::Passed),
            (yes, yes, true, true, Tested::Partial),
            (None, None, true, true, Tested::Partial),
            (yes, no, true, true, Tested::Unauthenticated),
            (None, no, true, true, Tested::Unauthenticated),
            (None, None, true, false, Tested::Unanswered),
            (no, no, true, true, Tested::Disproved),
        ] {
            let verdict = Verdict { believe, proven, warn, answered, text: String::new() };
            assert_eq!(Tested::of(&verdict), want, "{verdict:?}");
        }
    }
}
