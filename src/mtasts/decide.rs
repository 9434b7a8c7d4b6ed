//! What a delivery attempt does about MTA-STS, from what is stored, what the TXT lookup said, and the time.
//!
//! Pure. [`super::service`] carries the step out.

use std::time::Duration;

use super::record::NoRecord;
use super::{Backoff, DomainMemory, FetchFailure, Mode, StoredPolicy};
use crate::clock::Timestamp;

/// What the TXT lookup of `_mta-sts.<domain>` said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Txt {
    /// One usable record with this id.
    Id(String),
    /// A definite answer without a usable record.
    Nothing(NoRecord),
    /// No answer.
    Failed,
}

/// The next step of a discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The stored policy applies and nothing is wrong.
    UseStored,
    /// Fetch, and store the result under this id.
    Fetch {
        /// The live id, or the stored one where only the HTTPS side is to be asked.
        id: String,
    },
    /// The id is new but its fetch failed a short while ago: go on with the stored policy, if it is valid.
    BackedOff,
    /// The TXT side gave nothing: the stored policy applies all the same (STS-12).
    UseStoredUndiscovered,
    /// The domain has no policy.
    NoPolicy,
    /// Nothing stored, and the lookup failed: wait. `start` says that the grace begins now (STS-14).
    Wait {
        /// Whether to store this moment as the start of the grace.
        start: bool,
    },
}

/// Limits of discovery. The defaults are those of the specification.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long a domain's mail waits after its first failed discovery (STS-14): 15 min.
    pub grace: Duration,
    /// How long after a grace that ran out no new one starts: 24 h.
    pub grace_pause: Duration,
    /// The wait after a first failed fetch (STS-25): 5 min.
    pub backoff_first: Duration,
    /// The longest wait between fetches of one id: 1 h.
    pub backoff_most: Duration,
    /// How long a policy with `max_age: 0` serves the attempts that start together (STS-39): 10 s.
    pub zero_age_spacing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(15 * 60),
            grace_pause: Duration::from_secs(24 * 3600),
            backoff_first: Duration::from_secs(5 * 60),
            backoff_most: Duration::from_secs(3600),
            zero_age_spacing: Duration::from_secs(10),
        }
    }
}

/// Chooses the step. `no_expiry` is set while the clock is doubted: no policy counts as expired then (STS-57).
pub fn step(
    stored: Option<&StoredPolicy>,
    memory: &DomainMemory,
    txt: &Txt,
    now: Timestamp,
    no_expiry: bool,
    limits: &Limits,
) -> Step {
    let stored = stored.map(|p| (&p.id, life(p, memory, now, no_expiry, limits)));
    match (stored, txt) {
        (Some((stored, Life::Valid)), Txt::Id(id)) if stored == id => Step::UseStored,
        // Past its day, but no fetch has failed since: it still holds until one has (STS-57).
        (Some((stored, Life::Due)), Txt::Nothing(_) | Txt::Failed) => Step::Fetch { id: stored.clone() },
        (Some((_, Life::Due)), Txt::Id(id)) => Step::Fetch { id: id.clone() },
        (_, Txt::Id(id)) if is_backed_off(memory, id, now, limits) => Step::BackedOff,
        (_, Txt::Id(id)) => Step::Fetch { id: id.clone() },
        (Some((_, Life::Valid)), _) => Step::UseStoredUndiscovered,
        (_, Txt::Nothing(_)) => Step::NoPolicy,
        (_, Txt::Failed) => grace(memory, now, limits),
    }
}

/// How far a stored policy has lived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It applies.
    Valid,
    /// Its time is over but no fetch since then has failed: fetch first; it applies until that fails (STS-57).
    Due,
    /// It applies no more.
    Over,
}

/// How far `policy` has lived at `now`. Expiry is `expires` and nothing else (STS-45).
pub fn life(
    policy: &StoredPolicy,
    memory: &DomainMemory,
    now: Timestamp,
    no_expiry: bool,
    limits: &Limits,
) -> Life {
    if policy.policy.max_age.is_zero() {
        // Legal, and never served from the cache; a burst of attempts counts as one (STS-39).
        let fresh = policy.fetched <= now && now.since(policy.fetched) < limits.zero_age_spacing;
        return if fresh { Life::Valid } else { Life::Over };
    }
    if now < policy.expires || no_expiry {
        return Life::Valid;
    }
    let tried_since = memory.refresh_tried.is_some_and(|t| t >= policy.expires);
    // "As if there were no policy" is not worth a fetch: it lapses.
    if tried_since || policy.policy.mode == Mode::None { Life::Over } else { Life::Due }
}

/// Whether no GET for `id` is due yet (STS-25). A wait longer than any we set comes from a clock that was
/// wrong, and does not count.
pub fn is_backed_off(memory: &DomainMemory, id: &str, now: Timestamp, limits: &Limits) -> bool {
    memory
        .backoff
        .as_ref()
        .is_some_and(|b| b.id == id && now < b.until && b.until.since(now) <= limits.backoff_most)
}

fn grace(memory: &DomainMemory, now: Timestamp, limits: &Limits) -> Step {
    match memory.grace_started {
        Some(started) if started <= now && now.since(started) < limits.grace => Step::Wait { start: false },
        Some(started) if started <= now && now.since(started) < limits.grace + limits.grace_pause => {
            Step::NoPolicy
        }
        // None so far, one of long ago, or one from a clock that was wrong.
        _ => Step::Wait { start: true },
    }
}

/// The back-off after a failed fetch of `id`: twice the last one for the same id (STS-25).
pub fn next_backoff(
    before: Option<&Backoff>,
    id: &str,
    failure: &FetchFailure,
    now: Timestamp,
    limits: &Limits,
) -> Backoff {
    let step = before
        .filter(|b| b.id == id)
        .map_or(limits.backoff_first, |b| b.step.saturating_mul(2))
        .min(limits.backoff_most);
    Backoff { id: id.to_owned(), until: now.after(step), step, failure: failure.clone() }
}

/// How loudly a failed refresh is to be told (STS-50).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alarm {
    /// Nobody needs to know: the policy asks for nothing.
    Silent,
    /// A refresh failed.
    Warn,
    /// Refreshes keep failing and the policy runs out soon.
    Urgent,
}

/// The alarm for a refresh of `policy` that failed at `now`, the failures having begun at `failing_since`.
pub fn refresh_alarm(policy: &StoredPolicy, failing_since: Timestamp, now: Timestamp) -> Alarm {
    if policy.policy.mode == Mode::None {
        return Alarm::Silent;
    }
    if runs_out(policy.expires, policy.policy.max_age, failing_since, now) {
        Alarm::Urgent
    } else {
        Alarm::Warn
    }
}

/// Whether a policy that is not refreshed, the failures having begun at `failing_since`, ends soon (STS-50).
pub fn runs_out(expires: Timestamp, max_age: Duration, failing_since: Timestamp, now: Timestamp) -> bool {
    let left = expires.since(now);
    failing_since < now && (left < max_age / 4 || left < TWO_DAYS)
}

/// Whether two policies of a domain ask for different things.
pub fn differs(a: &StoredPolicy, b: &StoredPolicy) -> bool {
    a.policy.mode != b.policy.mode || a.policy.mx != b.policy.mx
}

/// The history line for a freshly fetched policy; `None` when nothing but the dates changed.
pub fn change(before: Option<&StoredPolicy>, after: &StoredPolicy) -> Option<String> {
    let (mode, id) = (after.policy.mode, &after.id);
    let Some(before) = before else { return Some(format!("first policy: {mode}, id {id}")) };
    let (old, new) = (&before.policy, &after.policy);
    if old.mode != new.mode {
        return Some(format!("{} -> {mode}, id {id}", old.mode));
    }
    if old.mx != new.mx {
        return Some(format!("{mode}, hosts now {}, id {id}", new.mx.join(" ")));
    }
    (before.id != after.id || old.lines != new.lines).then(|| format!("{mode}, id {id}"))
}

const TWO_DAYS: Duration = Duration::from_secs(2 * 24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mail::Domain;
    use crate::mtasts::Policy;

    const T0: Timestamp = Timestamp::from_millis(1_800_000_000_000);
    const DAY: Duration = Duration::from_secs(86400);

    fn stored(mode: Mode, max_age: Duration) -> StoredPolicy {
        StoredPolicy {
            domain: Domain::parse("example.net").unwrap(),
            id: "1".into(),
            policy: Policy { mode, mx: vec!["mx.example.net".into()], max_age, lines: vec![] },
            fetched: T0,
            expires: T0.after(max_age),
            last_used: T0,
        }
    }

    fn id(text: &str) -> Txt {
        Txt::Id(text.into())
    }

    fn at(policy: Option<&StoredPolicy>, memory: &DomainMemory, txt: &Txt, now: Timestamp) -> Step {
        step(policy, memory, txt, now, false, &Limits::default())
    }

    // STS-12, STS-13, STS-47
    #[test]
    fn a_valid_policy_is_left_only_for_another_id() {
        let policy = stored(Mode::Enforce, DAY);
        let (memory, now) = (DomainMemory::default(), T0.after(DAY / 2));
        let step = |txt: &Txt| at(Some(&policy), &memory, txt, now);
        assert_eq!(step(&id("1")), Step::UseStored);
        assert_eq!(step(&id("0")), Step::Fetch { id: "0".into() });
        for nothing in [NoRecord::Missing, NoRecord::Multiple, NoRecord::Invalid] {
            assert_eq!(step(&Txt::Nothing(nothing)), Step::UseStoredUndiscovered);
        }
        assert_eq!(step(&Txt::Failed), Step::UseStoredUndiscovered);
    }

    // STS-45, STS-57
    #[test]
    fn an_expired_policy_holds_until_a_fetch_failed_after_its_day() {
        let policy = stored(Mode::Enforce, DAY);
        let limits = Limits::default();
        let mut memory = DomainMemory { refresh_tried: Some(T0.after(DAY / 2)), ..DomainMemory::default() };
        let last = Timestamp::from_millis(policy.expires.as_millis() - 1);
        assert_eq!(life(&policy, &memory, last, false, &limits), Life::Valid);
        assert_eq!(life(&policy, &memory, policy.expires, false, &limits), Life::Due);
        assert_eq!(at(Some(&policy), &memory, &Txt::Failed, policy.expires), Step::Fetch { id: "1".into() });
        memory.refresh_tried = Some(policy.expires);
        assert_eq!(life(&policy, &memory, policy.expires, false, &limits), Life::Over);
        assert_eq!(life(&policy, &memory, policy.expires, true, &limits), Life::Valid, "clock in doubt");
        assert_eq!(
            at(Some(&policy), &memory, &Txt::Nothing(NoRecord::Missing), policy.expires),
            Step::NoPolicy
        );
        let none = stored(Mode::None, DAY);
        assert_eq!(life(&none, &DomainMemory::default(), none.expires, false, &limits), Life::Over);
    }

    // STS-14
    #[test]
    fn grace_waits_once_and_then_rests_for_a_day() {
        let limits = Limits::default();
        let started = DomainMemory { grace_started: Some(T0), ..DomainMemory::default() };
        let minutes = |n: u64| T0.after(Duration::from_secs(60 * n));
        for (memory, now, want) in [
            (&DomainMemory::default(), T0, Step::Wait { start: true }),
            (&started, minutes(14), Step::Wait { start: false }),
            (&started, minutes(15), Step::NoPolicy),
            (&started, minutes(15 + 24 * 60 - 1), Step::NoPolicy),
            (&started, minutes(15 + 24 * 60), Step::Wait { start: true }),
            // The clock was ahead when the grace began.
            (&started, T0.before(DAY), Step::Wait { start: true }),
        ] {
            assert_eq!(step(None, memory, &Txt::Failed, now, false, &limits), want, "{now}");
        }
        assert_eq!(at(None, &started, &Txt::Nothing(NoRecord::Missing), T0), Step::NoPolicy);
    }

    // STS-25
    #[test]
    fn back_off_doubles_per_id_up_to_an_hour() {
        let limits = Limits::default();
        let why = FetchFailure::fetch_error("http-500", "");
        let (mut last, mut steps) = (None, Vec::new());
        for _ in 0..6 {
            let next = next_backoff(last.as_ref(), "1", &why, T0, &limits);
            steps.push(next.step.as_secs() / 60);
            last = Some(next);
        }
        assert_eq!(steps, [5, 10, 20, 40, 60, 60]);
        assert_eq!(next_backoff(last.as_ref(), "2", &why, T0, &limits).step, limits.backoff_first);
        let memory = DomainMemory { backoff: last, ..DomainMemory::default() };
        assert_eq!(at(None, &memory, &id("1"), T0), Step::BackedOff);
        assert_eq!(at(None, &memory, &id("2"), T0), Step::Fetch { id: "2".into() });
        assert_eq!(
            at(None, &memory, &id("1"), T0.after(Duration::from_secs(3600))),
            Step::Fetch { id: "1".into() }
        );
        assert_eq!(
            at(None, &memory, &id("1"), T0.before(DAY)),
            Step::Fetch { id: "1".into() },
            "clock was ahead"
        );
    }

    // STS-50
    #[test]
    fn alarms_grow_as_the_end_comes_near_and_never_sound_for_none() {
        let policy = stored(Mode::Enforce, DAY * 10);
        for (since, now, want) in [
            (T0, T0, Alarm::Warn),
            (T0, T0.after(DAY), Alarm::Warn),
            (T0, T0.after(DAY * 8), Alarm::Urgent),
            (T0, T0.after(DAY * 11), Alarm::Urgent),
        ] {
            assert_eq!(refresh_alarm(&policy, since, now), want, "{now}");
        }
        assert_eq!(refresh_alarm(&stored(Mode::None, DAY), T0, T0.after(DAY)), Alarm::Silent);
    }

    proptest! {
        // `What always holds` 4: before its day nothing that the DNS says makes a policy go away.
        #[test]
        fn no_answer_and_no_memory_ends_a_valid_policy(
            age in 0_u64..86400, answer in 0..3, tried in prop::option::of(0_u64..86400), graced in any::<bool>(),
        ) {
            let policy = stored(Mode::Enforce, DAY);
            let now = T0.after(Duration::from_secs(age));
            let memory = DomainMemory {
                refresh_tried: tried.map(|t| T0.after(Duration::from_secs(t))),
                grace_started: graced.then_some(T0),
                ..DomainMemory::default()
            };
            let txt = match answer { 0 => id("1"), 1 => Txt::Failed, _ => Txt::Nothing(NoRecord::Missing) };
            let step = at(Some(&policy), &memory, &txt, now);
            prop_assert!(matches!(step, Step::UseStored | Step::UseStoredUndiscovered));
        }
    }
}
