//! What metrics look up.

use super::*;
use crate::mtasts::{DomainMemory, Mode, Policy, StoredPolicy};
use crate::observe::figures::Stored;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Recipients by state and cause, those that there are, in order.
pub(super) fn depth(stored: &Stored) -> Vec<(&'static str, &'static str, u64)> {
    let rows = stored.recipients.iter().filter(|(.., n)| *n > 0);
    let mut rows: Vec<_> =
        rows.map(|(state, cause, n)| (state.as_str(), cause.map_or("", |c| c.as_str()), *n)).collect();
    rows.sort_unstable();
    rows
}

pub(in crate::store) async fn recipients_are_counted_by_state_and_cause<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    let look = async |store: &S::Store| store.stored(clock.now()).await.unwrap();
    assert_eq!((depth(&look(&store).await), look(&store).await.oldest), (vec![], None));
    let lease = store
        .enqueue(
            message(1, &["a@x.example", "b@x.example", "c@x.example", "d@y.example"]),
            Some(terms(Some("x.example"))),
        )
        .await
        .unwrap()
        .lease
        .unwrap();
    clock.advance(MINUTE);
    store.enqueue(NewMessage { arrived: clock.now(), ..message(2, &["e@y.example"]) }, None).await.unwrap();
    let before = look(&store).await;
    assert_eq!(depth(&before), [("delivering", "", 3), ("queued", "", 2)]);
    assert_eq!(before.oldest, Some(NOON));
    store.finish(finish(&lease, &deferred(), &[0])).await.unwrap();
    store.finish(finish(&lease, &delivered(), &[1])).await.unwrap();
    assert_eq!(
        depth(&look(&store).await),
        [("deferred", "reply", 1), ("delivering", "", 1), ("queued", "", 2)]
    );
    // A repeat that comes too late counts nothing.
    assert!(store.finish(finish(&lease, &delivered(), &[1])).await.is_err());
    store.release(lease.id, vec![2], None).await.unwrap();
    assert_eq!(depth(&look(&store).await), [("deferred", "reply", 1), ("queued", "", 3)]);
    // An interruption counts as one from the next start on.
    clock.advance(11 * MINUTE);
    assert_eq!(claim(&store, "x.example", 9).await.len(), 1);
    assert_eq!(depth(&look(&store).await), [("delivering", "", 2), ("queued", "", 2)]);
    site.kill(store);
    let store = site.open(Arc::clone(&clock) as _);
    assert_eq!(depth(&look(&store).await), [("deferred", "interrupted", 2), ("queued", "", 2)]);
    for name in ["x.example", "y.example"] {
        clock.advance(11 * MINUTE);
        for lease in claim(&store, name, 9).await {
            store.finish(all_of(&lease, &bounced())).await.unwrap();
        }
    }
    assert_eq!((depth(&look(&store).await), look(&store).await.oldest), (vec![], None));
    site.close(store).await;
}

// LIM-32
pub(in crate::store) async fn what_waits_is_counted_domain_by_domain_in_pages<S: Site>(site: S) {
    let store = site.open(clock());
    assert_eq!(store.waiting(None, 10, MINUTE).await.unwrap(), Default::default());
    for (n, to) in (1..).zip([
        ["a@a.example", "b@b.example"],
        ["c@b.example", "d@c.example"],
        ["e@b.example", "f@d.example"],
    ]) {
        store.enqueue(message(n, &to), None).await.unwrap();
    }
    // What an attempt is under way for does not wait.
    assert_eq!(claim(&store, "d.example", 1).await.len(), 1);
    let all =
        [(Some(domain("a.example")), 1), (Some(domain("b.example")), 3), (Some(domain("c.example")), 1)];
    let page = store.waiting(None, 10, MINUTE).await.unwrap();
    assert_eq!((page.domains.as_slice(), page.next), (&all[..], None));
    // Without patience each page still brings one domain; of none more than asked for are counted.
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.waiting(after, 2, Duration::ZERO).await.unwrap();
        assert!(page.domains.len() <= 1);
        found.extend(page.domains);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [all[0].clone(), (all[1].0.clone(), 2), all[2].clone()]);
    site.close(store).await;
}

pub(in crate::store) async fn policies_suspensions_and_reports_are_counted<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    for (name, mode) in
        [("a.example", Mode::Enforce), ("b.example", Mode::Enforce), ("c.example", Mode::Testing)]
    {
        let policy = Policy {
            mode,
            mx: vec!["mx.example".to_owned()],
            max_age: 7 * DAY,
            lines: vec!["version: STSv1".to_owned()],
        };
        let policy = StoredPolicy {
            domain: domain(name),
            id: "1".to_owned(),
            policy,
            fetched: NOON,
            expires: NOON.after(7 * DAY),
            last_used: NOON,
        };
        store.save(policy, None).await.unwrap();
    }
    // The second was never fetched: nothing of it is in the cache.
    for name in ["b.example", "d.example"] {
        let memory = DomainMemory { refresh_failing_since: Some(NOON), ..DomainMemory::default() };
        store.remember(domain(name), memory).await.unwrap();
    }
    for (name, until) in [("e.example", NOON), ("f.example", NOON.after(MINUTE))] {
        let suspension = Suspension { until, step: 1, last: diagnosis("dead") };
        store.suspend(domain(name), Some(suspension)).await.unwrap();
    }
    let now = clock.now();
    let stored = store.stored(now).await.unwrap();
    let mut policies = stored.policies.clone();
    policies.sort_by_key(|(mode, _)| mode.as_str());
    assert_eq!(policies, [(Mode::Enforce, 2), (Mode::Testing, 1)]);
    assert_eq!((stored.failing, stored.suspended), (1, 1));
    assert!(stored.octets > 0);
    assert_eq!((stored.reports_due, stored.destinations_waiting, stored.destinations_queued), (0, 0, 0));
    reports::one_of_each(&store).await;
    let stored = store.stored(now).await.unwrap();
    assert_eq!((stored.reports_due, stored.destinations_waiting, stored.destinations_queued), (1, 1, 1));
    site.close(store).await;
}
