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
    let left = policy.expires.since(now);
    let persists = failing_since < now;
    if persists && (left < policy.policy.max_age / 4 || left < TWO_DAYS) {
        Alarm::Urgent
    } else {
        Alarm::Warn
    }
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
