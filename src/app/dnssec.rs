//! The self-test of the resolvers (DANE-02): every minute while something is amiss that stops mail or switches DANE off,
//! then hourly, and soon after lookups have failed in a row.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::SelfTest;
use crate::dns::belief::{Belief, Believing};
use crate::dns::cache::CachingResolver;
use crate::dns::cache::alarm::Alarm;
use crate::dns::hickory::HickoryResolver;
use crate::dns::self_test::{Trouble, Verdict};
use crate::observe::metrics::{Counters, words};

/// While something is amiss; and no test comes sooner after another.
const SOON: Duration = Duration::from_secs(60);
/// When all is well, and lookups succeed.
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
            Verdict { trouble: Some(_), answered: false, .. } => Self::Unanswered,
            Verdict { trouble: Some(_), .. } => Self::Partial,
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
    /// Rings when lookups fail.
    pub alarm: Arc<Alarm>,
}

impl SelfTesting {
    /// Asks once. Where nothing is believed, only whether anybody answers.
    pub async fn once(&self) -> Verdict {
        let verdict = {
            let proven = self.belief.proven().is_believed();
            self.asker.self_test(&self.names.secure, &self.names.bogus, proven).await
        };
        // Gone before anybody takes it for authentic or for conclusive.
        if self.belief.outdates_answers(&verdict) {
            self.answers.inner().clear();
        }
        self.belief.learn(&verdict);
        verdict
    }

    /// Asks again and again, and says what changes.
    pub(super) async fn watch(self, tests: Counters<Tested>, stop: CancellationToken) {
        let mut said = String::new();
        let look = async {
            loop {
                let verdict = self.once().await;
                if self.belief.configured() {
                    tests.count(Tested::of(&verdict));
                }
                if verdict.text != said {
                    let words = self.belief.words();
                    if verdict.trouble.is_some() {
                        tracing::warn!(event = "dnssec", "DNSSEC {words}");
                    } else {
                        tracing::info!(event = "dnssec", "DNSSEC {words}");
                    }
                    said.clone_from(&verdict.text);
                }
                pause(settled(&verdict), &self.alarm).await;
            }
        };
        stop.run_until_cancelled(look).await;
    }
}

/// Whether it may be believed for a while. What is switched off, or stops all mail, is looked at again soon: one spoilt
/// answer may have done it, and whoever has mended it wants to see that.
fn settled(verdict: &Verdict) -> bool {
    verdict.answered
        && verdict.believe != Some(false)
        && !matches!(verdict.trouble, Some(Trouble::DoesNotHold | Trouble::NoSignatures))
}

/// The time to the next test.
async fn pause(settled: bool, alarm: &Alarm) {
    tokio::time::sleep(SOON).await;
    if settled {
        tokio::select! {
            () = alarm.rings() => {}
            () = tokio::time::sleep(LATER.saturating_sub(SOON)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // DANE-02
    #[test]
    fn a_self_test_is_counted_by_what_follows_from_it() {
        let (yes, no) = (Some(true), Some(false));
        let warn = Some(Trouble::Partial);
        for (believe, proven, trouble, answered, want) in [
            (yes, yes, None, true, Tested::Passed),
            (None, yes, None, true, Tested::Passed),
            (None, yes, None, false, Tested::Passed),
            (yes, yes, warn, true, Tested::Partial),
            (None, None, warn, true, Tested::Partial),
            (yes, no, warn, true, Tested::Unauthenticated),
            (None, no, warn, true, Tested::Unauthenticated),
            (None, None, warn, false, Tested::Unanswered),
            (no, no, warn, true, Tested::Disproved),
        ] {
            let verdict = Verdict { believe, proven, trouble, answered, text: String::new() };
            assert_eq!(Tested::of(&verdict), want, "{verdict:?}");
        }
    }

    #[test]
    fn what_stops_mail_or_switches_dane_off_is_looked_at_again_soon() {
        for (believe, trouble, answered, want) in [
            (Some(true), None, true, true),
            (None, Some(Trouble::Partial), true, true),
            (Some(true), Some(Trouble::Unauthenticated), true, true),
            (None, Some(Trouble::NoAnswer), false, false),
            (Some(false), Some(Trouble::Lies), true, false),
            (None, Some(Trouble::DoesNotHold), true, false),
            (None, Some(Trouble::NoSignatures), true, false),
        ] {
            let verdict = Verdict { believe, proven: None, trouble, answered, text: String::new() };
            assert_eq!(settled(&verdict), want, "{verdict:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lookups_that_fail_bring_the_next_test_forward_but_not_below_a_minute() {
        let second = Duration::from_secs;
        // When lookups failed three times, after the last test; `None`: not at all.
        for (is_settled, failed, want) in [
            (true, None, LATER),
            (true, Some(second(1000)), second(1000)),
            (true, Some(second(5)), SOON),
            (false, None, SOON),
            (false, Some(second(5)), SOON),
        ] {
            let alarm = Alarm::default();
            let (begun, fail) = (tokio::time::Instant::now(), async {
                if let Some(after) = failed {
                    tokio::time::sleep(after).await;
                    (0..3).for_each(|_| alarm.heard(false));
                }
            });
            let waited = async {
                pause(is_settled, &alarm).await;
                begun.elapsed()
            };
            let (waited, ()) = tokio::join!(waited, fail);
            assert!(waited.abs_diff(want) < second(1), "{is_settled} {failed:?}: {waited:?}");
        }
    }
}
