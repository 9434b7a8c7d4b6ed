//! Due work, suspensions, warnings, lists and what operators do.

use super::*;

// QUE-30, QUE-32
pub(in crate::store) async fn every_domain_with_due_work_is_found<S: Site>(site: S) {
    let store = site.open(clock());
    let names: Vec<String> = (0..1000).map(|n| format!("a@d{n:04}.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    store.enqueue(message(1, &names), None).await.unwrap();
    for n in 2..50 {
        store.enqueue(message(n, &["a@d0500.example"]), None).await.unwrap();
    }
    let (mut seen, mut after, mut calls) = (0, None, 0);
    loop {
        let due = store.due(DueQuery { after: after.clone(), limit: 64 }).await.unwrap();
        calls += 1;
        seen += due.domains.len();
        let Some(last) = due.domains.last() else { break };
        assert!(due.domains.iter().all(|d| Some(&d.domain) > after.as_ref() && d.since == NOON));
        assert_eq!(due.next.is_some(), seen < 1000, "more of it is due now");
        after = Some(last.domain.clone());
    }
    assert_eq!((seen, calls), (1000, 17));
    site.close(store).await;
}

fn suspension(until: Timestamp) -> Suspension {
    Suspension { until, step: 2, last: diagnosis("no route") }
}

// QUE-34
pub(in crate::store) async fn a_suspended_domain_is_skipped_until_its_probe<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    store.enqueue(message(1, &["a@x.example", "b@y.example"]), None).await.unwrap();
    let until = NOON.after(5 * MINUTE);
    store.suspend(domain("x.example"), Some(suspension(until))).await.unwrap();
    let due = store.due(DueQuery { after: None, limit: 9 }).await.unwrap();
    assert_eq!((due.domains.len(), due.domains[0].domain.as_str()), (1, "y.example"));
    assert_eq!(due.next, Some(until));
    let listed = QueueStore::list(&store, Filter::default(), 9).await.unwrap();
    assert_eq!(listed[0].next_attempt, Some(until), "the list shows the suspension's end");
    assert_eq!(stands(&store, 1, 0).await, (RecipientState::Queued, 0, "connect".to_owned()));
    clock.advance(5 * MINUTE);
    let due = store.due(DueQuery { after: None, limit: 9 }).await.unwrap();
    assert_eq!(due.domains[0].probe.as_ref().map(|p| (p.step, p.last.text.as_str())), Some((2, "no route")));
    assert!(due.domains[1].probe.is_none());
    store.suspend(domain("x.example"), None).await.unwrap();
    let due = store.due(DueQuery { after: None, limit: 9 }).await.unwrap();
    assert!(due.domains.iter().all(|d| d.probe.is_none()));
    site.close(store).await;
}

// QUE-34, QUE-06
pub(in crate::store) async fn expired_mail_of_a_dead_domain_is_claimed_by_age<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    for n in 0..6 {
        let mut new = message(n, &["a@x.example", "b@x.example"]);
        new.arrived = NOON.before(u32::try_from(n).unwrap() * 60 * MINUTE);
        store.enqueue(new, None).await.unwrap();
    }
    for lease in claim(&store, "x.example", 6).await {
        store.finish(all_of(&lease, &deferred())).await.unwrap();
    }
    assert!(claim(&store, "x.example", 6).await.is_empty());
    // One of ours, younger than what an application may wait.
    let mut report = message(7, &["tlsrpt@x.example"]);
    (report.origin, report.arrived) = (Origin::TlsReport, NOON.before(90 * MINUTE));
    store.enqueue(report, None).await.unwrap();
    let old =
        Which::ArrivedBefore { submitted: NOON.before(150 * MINUTE), generated: NOON.before(80 * MINUTE) };
    let leases = store.claim(domain("x.example"), old, 2, terms(None)).await.unwrap();
    assert_eq!(leases.len(), 2);
    let rest = store.claim(domain("x.example"), old, 9, terms(None)).await.unwrap();
    let mut seen: Vec<_> = leases.iter().chain(&rest).map(|l| l.message.id).collect();
    seen.sort_unstable();
    assert_eq!(seen, [id(3), id(4), id(5), id(7)]);
    let mut sizes: Vec<_> = leases.iter().chain(&rest).map(|l| l.recipients.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 2, 2, 2]);
    assert!(store.claim(domain("x.example"), old, 9, terms(None)).await.unwrap().is_empty());
    site.close(store).await;
}

// DSN-04
pub(in crate::store) async fn delay_warnings_are_given_once<S: Site>(site: S) {
    let store = site.open(clock());
    for n in 1..=3 {
        let mut new = message(n, &["a@x.example", "b@y.example"]);
        new.arrived = NOON.before(u32::try_from(n).unwrap() * 60 * MINUTE);
        store.enqueue(new, None).await.unwrap();
    }
    store.suspend(domain("y.example"), Some(suspension(NOON))).await.unwrap();
    let before = NOON.before(90 * MINUTE);
    let found = store.delayed(before, None, 9).await.unwrap();
    let names: Vec<_> =
        found.iter().map(|d| (d.message.id, d.recipient.no, d.suspension.is_some())).collect();
    assert_eq!(names, [(id(3), 0, false), (id(3), 1, true), (id(2), 0, false), (id(2), 1, true)]);
    assert!(found.iter().all(|d| d.cause.is_empty()), "never tried");
    for (after, want) in [(None, (id(3), 0)), (Some((id(3), 0)), (id(3), 1)), (Some((id(3), 1)), (id(2), 0))]
    {
        let one = store.delayed(before, after, 1).await.unwrap();
        assert_eq!(one.iter().map(|d| (d.message.id, d.recipient.no)).collect::<Vec<_>>(), [want]);
    }
    assert!(store.delayed(before, Some((id(2), 1)), 9).await.unwrap().is_empty());
    assert_eq!(
        store.delayed(before, Some((id(77), 0)), 9).await.unwrap().len(),
        4,
        "unknown: from the start"
    );
    let both = vec![(id(3), 0), (id(3), 1)];
    store.warned(both.clone(), vec![message(10, &["sender@example.net"])]).await.unwrap();
    assert_eq!(store.delayed(before, None, 9).await.unwrap().len(), 2);
    assert!(store.show(id(10)).await.unwrap().is_some());
    // Asked again because the answer was lost: no second warning.
    store.warned(both, vec![message(11, &["sender@example.net"])]).await.unwrap();
    assert!(store.show(id(11)).await.unwrap().is_none());
    site.close(store).await;
}

// What `origin_key` promises, also after the message is purged.
pub(in crate::store) async fn an_origin_key_counts_for_ever<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    let keyed = |n| {
        let mut new = message(n, &["a@x.example"]);
        new.origin_key = Some("tlsrpt/2026-11-21/x.example".to_owned());
        new
    };
    let first = store.enqueue(keyed(1), Some(terms(Some("x.example")))).await.unwrap();
    assert!(!first.already_there);
    let second = store.enqueue(keyed(2), Some(terms(Some("x.example")))).await.unwrap();
    assert!(second.already_there && second.lease.is_none());
    assert!(store.show(id(2)).await.unwrap().is_none());
    store.finish(all_of(&first.lease.unwrap(), &delivered())).await.unwrap();
    clock.advance(2 * MINUTE);
    while QueueStore::purge(&store, MINUTE, u64::MAX).await.unwrap() {}
    assert!(store.show(id(1)).await.unwrap().is_none());
    assert!(store.enqueue(keyed(3), None).await.unwrap().already_there);
    site.close(store).await;
}

// QUE-37
pub(in crate::store) async fn retry_makes_due_what_matches<S: Site>(site: S) {
    let store = site.open(clock());
    for n in 1..=3 {
        store.enqueue(message(n, &["a@x.example", "b@x.example", "c@y.example"]), None).await.unwrap();
    }
    let leases = claim(&store, "x.example", 9).await;
    for lease in leases.iter().take(2) {
        store.finish(all_of(lease, &deferred())).await.unwrap();
    }
    store.suspend(domain("x.example"), Some(suspension(NOON.after(MINUTE)))).await.unwrap();
    store.suspend(domain("y.example"), Some(suspension(NOON.after(MINUTE)))).await.unwrap();
    assert!(due_names(&store).await.is_empty());
    let filter = Filter { domain: Some(domain("x.example")), ..Filter::default() };
    let touched = store.retry(filter).await.unwrap();
    assert_eq!(touched, Touched { recipients: 4, messages: 2, in_flight: 2 });
    assert_eq!(due_names(&store).await, ["x.example"]);
    assert_eq!(claim(&store, "x.example", 9).await.len(), 2);
    let none = Filter { ids: vec![id(99)], ..Filter::default() };
    assert_eq!(store.retry(none).await.unwrap(), Touched::default());
    site.close(store).await;
}

pub(in crate::store) async fn lists_are_filtered<S: Site>(site: S) {
    let store = site.open(clock());
    store.enqueue(message(1, &["a@x.example", "b@y.example"]), None).await.unwrap();
    let mut bounce = message(2, &["a@x.example"]);
    bounce.envelope.reverse_path = ReversePath::Null;
    store.enqueue(bounce, None).await.unwrap();
    let lease = claim(&store, "y.example", 1).await.remove(0);
    store.finish(all_of(&lease, &deferred())).await.unwrap();
    store.enqueue(message(3, &["done@z.example"]), None).await.unwrap();
    let lease = claim(&store, "z.example", 1).await.remove(0);
    store.finish(all_of(&lease, &delivered())).await.unwrap();
    let all = Filter::default();
    for (name, filter, want) in [
        ("everything owed", all.clone(), vec![(1, 0), (1, 1), (2, 0)]),
        ("id", Filter { ids: vec![id(2), id(77)], ..all.clone() }, vec![(2, 0)]),
        ("recipient", Filter { recipient: Some("a@x.example".into()), ..all.clone() }, vec![(1, 0), (2, 0)]),
        ("domain", Filter { domain: Some(domain("y.example")), ..all.clone() }, vec![(1, 1)]),
        ("state", Filter { state: Some(RecipientState::Deferred), ..all.clone() }, vec![(1, 1)]),
        ("terminal", Filter { state: Some(RecipientState::Delivered), ..all.clone() }, vec![(3, 0)]),
        ("null sender", Filter { sender: Some(String::new()), ..all.clone() }, vec![(2, 0)]),
        ("cause", Filter { cause: Some("reply".into()), ..all.clone() }, vec![(1, 1)]),
        ("both", Filter { cause: Some("reply".into()), ids: vec![id(2)], ..all.clone() }, vec![]),
        ("hostile", Filter { recipient: Some("' OR 1=1 --".into()), ..all.clone() }, vec![]),
    ] {
        let got = QueueStore::list(&store, filter, 9).await.unwrap();
        let got: Vec<_> = got.iter().map(|r| (r.message.id, r.no)).collect();
        let want: Vec<_> = want.into_iter().map(|(n, no)| (id(n), no)).collect();
        assert_eq!(got, want, "{name}");
    }
    assert_eq!(QueueStore::list(&store, all, 2).await.unwrap().len(), 2);
    site.close(store).await;
}

// DUR-16
pub(in crate::store) async fn history_is_purged_by_age_and_by_size<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    store.enqueue(message(1, &["a@x.example", "b@x.example"]), None).await.unwrap();
    store.enqueue(message(2, &["a@x.example"]), None).await.unwrap();
    let leases = claim(&store, "x.example", 9).await;
    store.finish(finish(&leases[0], &delivered(), &[0])).await.unwrap();
    store.finish(all_of(&leases[1], &delivered())).await.unwrap();
    clock.advance(60 * MINUTE);
    store.finish(finish(&leases[0], &deferred(), &[1])).await.unwrap();
    while QueueStore::purge(&store, 30 * MINUTE, u64::MAX).await.unwrap() {}
    assert!(store.show(id(2)).await.unwrap().is_none());
    let shown = store.show(id(1)).await.unwrap().unwrap();
    assert_eq!((shown.recipients.len(), shown.timeline.len()), (2, 2), "it is not finished");
    let line = serde_json::to_string(&shown.timeline[1]).unwrap().len() as u64;
    while QueueStore::purge(&store, 30 * MINUTE, line).await.unwrap() {}
    assert_eq!(store.show(id(1)).await.unwrap().unwrap().timeline, shown.timeline[1..]);
    while QueueStore::purge(&store, 30 * MINUTE, 0).await.unwrap() {}
    assert!(store.show(id(1)).await.unwrap().unwrap().timeline.is_empty());
    site.close(store).await;
}

// DUR-17
pub(in crate::store) async fn a_clock_set_back_leaves_nothing_stuck<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    store.enqueue(message(1, &["never@a.example", "tried@b.example"]), None).await.unwrap();
    let lease = claim(&store, "b.example", 1).await.remove(0);
    store.finish(all_of(&lease, &deferred())).await.unwrap();
    let week = Duration::from_secs(7 * 24 * 3600);
    let back = NOON.before(week);
    clock.jump_to(back);
    // The heartbeat is what notices; housekeeping follows at its own pace.
    store.heartbeat().await.unwrap();
    let begun = std::time::Instant::now();
    loop {
        let due = store.due(DueQuery { after: None, limit: 9 }).await.unwrap();
        let names: Vec<_> = due.domains.iter().map(|d| d.domain.as_str()).collect();
        let soon = due.next.is_none_or(|n| n.since(back) <= Duration::from_secs(24 * 3600));
        if names.first() == Some(&"a.example") && soon {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{due:?}");
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(due_names(&store).await, ["a.example", "b.example"]);
    site.close(store).await;
}
