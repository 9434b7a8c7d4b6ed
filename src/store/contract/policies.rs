//! The policy cache.

use super::*;
use crate::mtasts::{Backoff, DomainMemory, FetchFailure, Mode, Policy, StoredPolicy};
use crate::tlsrpt::ResultType;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn stored(name: &str, fetched: Timestamp) -> StoredPolicy {
    StoredPolicy {
        domain: domain(name),
        id: "20260101".to_owned(),
        policy: Policy {
            mode: Mode::Enforce,
            mx: vec!["*.example.org".to_owned()],
            max_age: 7 * DAY,
            lines: vec!["version: STSv1".to_owned(), "x: \"quoted\"".to_owned()],
        },
        fetched,
        expires: fetched.after(7 * DAY),
        last_used: fetched,
    }
}

// STS-48
pub(in crate::store) async fn a_policy_outlives_the_process<S: Site>(site: S) {
    let store = site.open(clock());
    let name = domain("x.example");
    assert_eq!(store.load(&name).await.unwrap(), Default::default());
    let policy = stored("x.example", NOON);
    store.save(policy.clone(), Some("first policy: enforce".to_owned())).await.unwrap();
    let memory = DomainMemory {
        grace_started: Some(NOON),
        backoff: Some(Backoff {
            id: "2".to_owned(),
            until: NOON.after(MINUTE),
            step: MINUTE,
            failure: FetchFailure {
                result: ResultType::StsPolicyFetchError,
                reason: "http-404".to_owned(),
                detail: "not there".to_owned(),
                lines: vec![],
            },
        }),
        last_refetch: None,
        refresh_failing_since: Some(NOON),
        refresh_tried: Some(NOON.after(MINUTE)),
    };
    store.remember(name.clone(), memory.clone()).await.unwrap();
    site.kill(store);
    let store = site.open(clock());
    let row = store.load(&name).await.unwrap();
    assert_eq!((row.policy, row.memory), (Some(policy), memory));
    let mut newer = stored("x.example", NOON.after(DAY));
    newer.policy.mode = Mode::None;
    store.save(newer.clone(), Some("enforce -> none".to_owned())).await.unwrap();
    let history: Vec<_> = store.history(&name).await.unwrap().into_iter().map(|c| c.what).collect();
    assert_eq!(history, ["first policy: enforce", "enforce -> none"]);
    for n in 0..120 {
        store.save(newer.clone(), Some(n.to_string())).await.unwrap();
    }
    let history = store.history(&name).await.unwrap();
    assert_eq!((history.len(), history[99].what.as_str()), (100, "119"));
    store.remember(name.clone(), DomainMemory::default()).await.unwrap();
    assert_eq!(store.load(&name).await.unwrap().memory, DomainMemory::default());
    site.close(store).await;
}

// STS-56
pub(in crate::store) async fn a_policy_is_purged_only_long_after_its_last_use<S: Site>(site: S) {
    let store = site.open(clock());
    for (name, age) in
        [("fresh.example", 0), ("expired.example", 20), ("old.example", 60), ("used.example", 60)]
    {
        store.save(stored(name, NOON.before(age * DAY)), None).await.unwrap();
    }
    store.touch(&domain("used.example"), NOON);
    store.touch(&domain("used.example"), NOON);
    // Uses are written behind everything else; a heartbeat that comes later is committed with them.
    store.heartbeat().await.unwrap();
    assert_eq!(PolicyStore::purge(&store, NOON.before(30 * DAY)).await.unwrap(), 1);
    let left: Vec<_> = PolicyStore::list(&store, None, 10).await.unwrap();
    let left: Vec<_> = left.iter().map(|p| p.domain.as_str()).collect();
    assert_eq!(left, ["expired.example", "fresh.example", "used.example"]);
    let page = PolicyStore::list(&store, Some(domain("expired.example")), 1).await.unwrap();
    assert_eq!(page[0].domain.as_str(), "fresh.example");
    site.close(store).await;
}

// STS-50
pub(in crate::store) async fn refresh_takes_the_oldest_that_was_not_tried<S: Site>(site: S) {
    let store = site.open(clock());
    for (name, age) in [("a.example", 1), ("b.example", 3), ("c.example", 2), ("d.example", 4)] {
        store.save(stored(name, NOON.before(age * DAY)), None).await.unwrap();
    }
    let tried = DomainMemory { refresh_tried: Some(NOON), ..Default::default() };
    store.remember(domain("d.example"), tried).await.unwrap();
    let found = store.due_for_refresh(NOON.before(DAY), NOON, 10).await.unwrap();
    assert_eq!(found.iter().map(|p| p.domain.as_str()).collect::<Vec<_>>(), ["b.example", "c.example"]);
    assert_eq!(
        store.due_for_refresh(NOON, NOON.after(MINUTE), 1).await.unwrap()[0].domain.as_str(),
        "d.example"
    );
    site.close(store).await;
}
