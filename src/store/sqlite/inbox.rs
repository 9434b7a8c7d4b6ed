//! The inbox of the writer: jobs in three lanes, from callers who mostly wait for the commit (DUR-03, DUR-08).

use std::collections::{HashSet, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::writer::{Fault, Tx};
use crate::queue::StoreError;

/// The most jobs nobody waits for. Beyond that they are dropped; everything else is bounded by its callers,
/// each of whom waits for its answer.
const BACKGROUND: usize = 10_000;

/// Who goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// What became of an attempt. Before all else (DUR-08).
    Outcome,
    /// Everything that somebody waits for.
    Work,
    /// What nobody waits for.
    Background,
}

/// A job can run more than once: after a rollback the others of its group are done again.
pub(super) trait Job: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    fn answer(self: Box<Self>, failed: Option<StoreError>);
}

struct Call<T, F> {
    work: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send> Job for Call<T, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.value = Some((self.work)(tx)?);
        Ok(())
    }

    fn answer(self: Box<Self>, failed: Option<StoreError>) {
        // A caller that went away does not undo what it asked for (DUR-05).
        let _ = self.reply.send(match failed {
            Some(e) => Err(e),
            None => self.value.ok_or(StoreError::Closed),
        });
    }
}

/// Where callers put their jobs.
#[derive(Default)]
pub(super) struct Inbox {
    lanes: Mutex<Lanes>,
    wake: Condvar,
}

#[derive(Default)]
struct Lanes {
    outcomes: VecDeque<Box<dyn Job>>,
    work: VecDeque<Box<dyn Job>>,
    background: VecDeque<Box<dyn Job>>,
    turn: u8,
    dropped: u64,
    closed: bool,
    nudged: bool,
    uploads: HashSet<i64>,
}

impl Lanes {
    fn pop(&mut self) -> Option<(Lane, Box<dyn Job>)> {
        let first = |lane, q: &mut VecDeque<Box<dyn Job>>| q.pop_front().map(|j| (lane, j));
        self.turn = self.turn.wrapping_add(1);
        // Under a load that never ends, every fourth place goes to what nobody waits for, once half its room is taken:
        // a session record that is dropped would make the day's report untrue (RPT-31).
        if self.turn.is_multiple_of(4) && self.background.len() >= BACKGROUND / 2 {
            return first(Lane::Background, &mut self.background);
        }
        first(Lane::Outcome, &mut self.outcomes)
            .or_else(|| first(Lane::Work, &mut self.work))
            .or_else(|| first(Lane::Background, &mut self.background))
    }

    fn is_empty(&self) -> bool {
        self.outcomes.is_empty() && self.work.is_empty() && self.background.is_empty()
    }
}

/// What ended a wait.
pub(super) enum Woken {
    Work,
    Idle,
    Closed,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, lane: Lane, job: Box<dyn Job>) -> Result<(), StoreError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(StoreError::Closed);
        }
        match lane {
            Lane::Outcome => lanes.outcomes.push_back(job),
            Lane::Work => lanes.work.push_back(job),
            Lane::Background if lanes.background.len() >= BACKGROUND => lanes.dropped += 1,
            Lane::Background => lanes.background.push_back(job),
        }
        drop(lanes);
        self.wake.notify_one();
        Ok(())
    }

    /// Has `work` done and waits for the commit.
    pub(super) async fn write<T, F>(&self, lane: Lane, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.push(lane, Box::new(Call { work, value: None, reply }))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Has `work` done some time, or never when the store cannot keep up.
    pub(super) fn write_later<F>(&self, work: F)
    where
        F: FnMut(&mut Tx<'_>) -> Result<(), Fault> + Send + 'static,
    {
        let (reply, _) = oneshot::channel();
        if self.push(Lane::Background, Box::new(Call { work, value: None, reply })).is_err() {
            tracing::debug!("a background write came after the store was closed");
        }
    }

    /// No further jobs; those waiting are still done.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Content with this number is on its way in and must not be tidied away.
    pub(super) fn begin_upload(&self, seq: i64) {
        self.lock().uploads.insert(seq);
    }

    /// The content has found its message, or never will.
    pub(super) fn end_upload(&self, seq: i64) {
        let mut lanes = self.lock();
        lanes.uploads.remove(&seq);
        lanes.nudged = true;
        drop(lanes);
        self.wake.notify_one();
    }

    pub(super) fn is_uploading(&self, seq: i64) -> bool {
        self.lock().uploads.contains(&seq)
    }

    /// The next job, and its lane.
    pub(super) fn pop(&self) -> Option<(Lane, Box<dyn Job>)> {
        self.lock().pop()
    }

    /// Everything that waits.
    pub(super) fn drain(&self) -> Vec<Box<dyn Job>> {
        let mut lanes = self.lock();
        std::iter::from_fn(|| lanes.pop().map(|(_, job)| job)).collect()
    }

    /// How many background jobs were dropped since the last call.
    pub(super) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.lock().dropped)
    }

    /// Waits for a job, for ever or for this long.
    pub(super) fn wait(&self, patience: Option<Duration>) -> Woken {
        let until = patience.map(|p| Instant::now() + p);
        let mut lanes = self.lock();
        loop {
            if !lanes.is_empty() {
                return Woken::Work;
            }
            if lanes.closed {
                return Woken::Closed;
            }
            let Some(until) = until else {
                if std::mem::take(&mut lanes.nudged) {
                    return Woken::Idle;
                }
                lanes = self.wake.wait(lanes).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::Idle;
            }
            lanes = self.wake.wait_timeout(lanes, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Job for Nothing {
        fn run(&mut self, _: &mut Tx<'_>) -> Result<(), Fault> {
            Ok(())
        }

        fn answer(self: Box<Self>, _: Option<StoreError>) {}
    }

    // RPT-31, DUR-03
    #[test]
    fn outcomes_that_never_end_do_not_starve_session_records() {
        let mut lanes = Lanes::default();
        let job = || Box::new(Nothing) as Box<dyn Job>;
        lanes.background.extend((0..BACKGROUND).map(|_| job()));
        let mut taken = 0;
        for _ in 0..4000 {
            lanes.outcomes.push_back(job());
            taken += usize::from(matches!(lanes.pop(), Some((Lane::Background, _))));
        }
        assert_eq!(taken, 1000);
        // While there is room for them they wait.
        lanes.background.truncate(BACKGROUND / 2 - 1);
        assert!((0..8).all(|_| matches!(lanes.pop(), Some((Lane::Outcome, _)))));
    }
}
