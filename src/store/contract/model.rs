//! Random operations against a reference automaton (QUE-02).

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::*;

#[derive(Debug, Clone)]
enum Op {
    Enqueue { claim: bool },
    Claim,
    Finish { which: usize, outcome: u8, counted: bool },
    Release { which: usize },
    Wait,
    Retry,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<bool>().prop_map(|claim| Op::Enqueue { claim }),
        4 => Just(Op::Claim),
        4 => (any::<usize>(), 0..3u8, any::<bool>())
            .prop_map(|(which, outcome, counted)| Op::Finish { which, outcome, counted }),
        2 => any::<usize>().prop_map(|which| Op::Release { which }),
        2 => Just(Op::Wait),
        1 => Just(Op::Retry),
        1 => Just(Op::Restart),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Model {
    state: RecipientState,
    attempts: u32,
    tried: bool,
    /// Whether the next attempt has come: the model's times are "now" and "later".
    due: bool,
}

impl Model {
    fn go(&mut self, to: RecipientState) {
        assert!(self.state.may_become(to), "the test itself is wrong: {:?} -> {to:?}", self.state);
        self.state = to;
    }
}

// QUE-02, QUE-03, QUE-38
pub(in crate::store) async fn the_store_follows_the_model<S: Site>(site: impl Fn() -> S) {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 24, failure_persistence: None, ..Config::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let strategy = proptest::collection::vec(op(), 1..40);
    for _ in 0..24 {
        let ops = strategy.new_tree(&mut runner).unwrap().current();
        walk(&site(), ops).await;
    }
}

async fn walk<S: Site>(site: &S, ops: Vec<Op>) {
    let clock = clock();
    let mut store = site.open(Arc::clone(&clock) as _);
    let mut model: BTreeMap<u64, Model> = BTreeMap::new();
    let mut held: Vec<Lease> = Vec::new();
    let number = |lease: &Lease| u64::try_from(u128::from_be_bytes(*lease.message.id.as_bytes())).unwrap();
    for op in ops {
        let shown = format!("{op:?}");
        match op {
            Op::Enqueue { claim } => {
                let n = model.len() as u64;
                let terms = claim.then(|| terms(Some("x.example")));
                let lease = store.enqueue(message(n, &["a@x.example"]), terms).await.unwrap().lease;
                assert_eq!(lease.is_some(), claim);
                let state = if claim { RecipientState::Delivering } else { RecipientState::Queued };
                model.insert(n, Model { state, attempts: u32::from(claim), tried: false, due: !claim });
                held.extend(lease);
            }
            Op::Claim => {
                let leases = claim(&store, "x.example", 2).await;
                let due = model.values().filter(|m| m.state.is_waiting() && m.due).count();
                assert_eq!(leases.len(), due.min(2), "{shown}");
                for lease in leases {
                    let m = model.get_mut(&number(&lease)).unwrap();
                    m.go(RecipientState::Delivering);
                    m.attempts += 1;
                    assert_eq!(lease.recipients[0].attempts, m.attempts);
                    m.due = false;
                    held.push(lease);
                }
            }
            Op::Finish { which, outcome, counted } if !held.is_empty() => {
                let lease = held.remove(which % held.len());
                let m = model.get_mut(&number(&lease)).unwrap();
                let outcome = [delivered(), deferred(), bounced()][usize::from(outcome)].clone();
                m.go(match &outcome {
                    Outcome::Delivered(_) => RecipientState::Delivered,
                    Outcome::Deferred(..) => RecipientState::Deferred,
                    Outcome::Failed(..) => RecipientState::Bounced,
                });
                let taken_back = !counted && m.state == RecipientState::Deferred;
                m.attempts -= u32::from(taken_back);
                m.tried = true;
                let mut finish = all_of(&lease, &outcome);
                finish.settled[0].counted = counted;
                store.finish(finish.clone()).await.unwrap();
                assert!(matches!(store.finish(finish).await, Err(StoreError::LeaseLost)));
            }
            Op::Release { which } if !held.is_empty() => {
                let lease = held.remove(which % held.len());
                let m = model.get_mut(&number(&lease)).unwrap();
                m.go(if m.tried { RecipientState::Deferred } else { RecipientState::Queued });
                m.attempts -= 1;
                m.due = true;
                store.release(lease.id, vec![0], None).await.unwrap();
            }
            Op::Finish { .. } | Op::Release { .. } => {}
            Op::Wait => {
                // Longer than any wait here: what is in flight is due once it is deferred or recovered.
                clock.advance(12 * MINUTE);
                model.values_mut().for_each(|m| m.due = true);
            }
            Op::Retry => {
                let touched = store.retry(Filter::default()).await.unwrap();
                assert_eq!(touched.in_flight, held.len() as u64);
                model.values_mut().filter(|m| m.state.is_waiting()).for_each(|m| m.due = true);
            }
            Op::Restart => {
                site.kill(store);
                store = site.open(Arc::clone(&clock) as _);
                for lease in held.drain(..) {
                    let m = model.get_mut(&number(&lease)).unwrap();
                    m.go(RecipientState::Deferred);
                    m.tried = true;
                }
            }
        }
        for (n, m) in &model {
            let (state, attempts, _) = stands(&store, *n, 0).await;
            assert_eq!((state, attempts), (m.state, m.attempts), "message {n} after {shown}");
        }
        let counted = store.stored(clock.now()).await.unwrap().recipients;
        for state in RecipientState::ALL.into_iter().filter(|s| !s.is_terminal()) {
            let counted: u64 = counted.iter().filter(|(s, ..)| *s == state).map(|(.., n)| n).sum();
            let want = model.values().filter(|m| m.state == state).count() as u64;
            assert_eq!(counted, want, "{state:?} after {shown}");
        }
    }
    site.close(store).await;
}
