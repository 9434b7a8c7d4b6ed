//! Enqueue, lease, outcome, start.

use std::io;

use super::*;

// DUR-01, QUE-01, STS-57
pub(in crate::store) async fn what_was_acknowledged_is_there_after_a_start<S: Site>(site: S) {
    let store = site.open(clock());
    let sent = store.enqueue(message(1, &["a@x.example", "b@x.example", "c@y.example"]), None).await.unwrap();
    assert!(sent.lease.is_none() && !sent.already_there);
    assert_eq!(due_names(&store).await, ["x.example", "y.example"]);
    site.kill(store);
    let store = site.open(clock());
    let shown = store.show(id(1)).await.unwrap().unwrap();
    assert_eq!(shown.recipients.len(), 3);
    assert!(shown.recipients.iter().all(|r| r.state == RecipientState::Queued && r.attempts == 0));
    assert_eq!((shown.submitter.as_str(), shown.header.as_str()), ("app", "Subject: 1\r\n"));
    assert_eq!(due_names(&store).await, ["x.example", "y.example"]);
    assert!(store.health().writable && store.health().free > 0);
    site.close(store).await;
}

// QUE-03
pub(in crate::store) async fn a_claim_with_the_enqueue_is_a_lease<S: Site>(site: S) {
    let store = site.open(clock());
    let new = message(1, &["a@x.example", "b@y.example", "c@x.example"]);
    let lease = store.enqueue(new, Some(terms(Some("x.example")))).await.unwrap().lease.unwrap();
    assert_eq!(lease.recipients.iter().map(|r| (r.no, r.attempts)).collect::<Vec<_>>(), [(0, 1), (2, 1)]);
    assert_eq!(lease.content.as_deref(), Some(&b"Subject: 1\r\n\r\nbody\r\n"[..]));
    let wait = lease.recipients[0].next_attempt.since(NOON);
    assert!(wait >= 9 * MINUTE && wait <= 11 * MINUTE, "{wait:?}");
    assert_eq!(stands(&store, 1, 0).await.0, RecipientState::Delivering);
    assert_eq!(stands(&store, 1, 1).await.0, RecipientState::Queued);
    assert_eq!(due_names(&store).await, ["y.example"]);
    store.finish(all_of(&lease, &delivered())).await.unwrap();
    assert_eq!(stands(&store, 1, 2).await, (RecipientState::Delivered, 1, String::new()));
    site.close(store).await;
}

// QUE-38
pub(in crate::store) async fn no_recipient_is_leased_twice_at_once<S: Site>(site: S) {
    let store = Arc::new(site.open(clock()));
    for n in 0..40 {
        store.enqueue(message(n, &["a@x.example"]), None).await.unwrap();
    }
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let leases = claim(&*store, "x.example", 3).await;
                    if leases.is_empty() {
                        return mine;
                    }
                    mine.extend(leases.iter().map(|l| l.message.id));
                }
            })
        })
        .collect();
    let mut seen = Vec::new();
    for worker in workers {
        seen.extend(worker.await.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).map(id).collect::<Vec<_>>());
}

// QUE-01, OUT-52
pub(in crate::store) async fn a_lease_holds_at_most_a_transaction<S: Site>(site: S) {
    let store = site.open(clock());
    let names: Vec<String> = (0..250).map(|n| format!("r{n}@x.example")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let first =
        store.enqueue(message(1, &names), Some(terms(Some("x.example")))).await.unwrap().lease.unwrap();
    let rest = claim(&store, "x.example", 10).await;
    let sizes: Vec<_> = rest.iter().map(|l| l.recipients.len()).collect();
    assert_eq!((first.recipients.len(), &*sizes), (MAX_TRANSACTION, &[100, 50][..]));
    assert!(claim(&store, "x.example", 10).await.is_empty());
    site.close(store).await;
}

// DUR-09, DSN-14
pub(in crate::store) async fn an_outcome_and_its_dsn_are_one_commit<S: Site>(site: S) {
    let store = site.open(clock());
    store.enqueue(message(1, &["a@x.example", "b@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    let mut wrong = finish(&lease, &bounced(), &[0, 1, 2]);
    wrong.generated = vec![message(2, &["sender@example.net"])];
    assert!(matches!(store.finish(wrong).await, Err(StoreError::LeaseLost)));
    assert!(store.show(id(2)).await.unwrap().is_none(), "nothing of a refused outcome is kept");
    assert_eq!(stands(&store, 1, 0).await.0, RecipientState::Delivering);
    let mut right = finish(&lease, &bounced(), &[0]);
    right.generated = vec![message(2, &["sender@example.net"])];
    store.finish(right.clone()).await.unwrap();
    site.kill(store);
    let store = site.open(clock());
    assert_eq!(stands(&store, 1, 0).await, (RecipientState::Bounced, 1, "rejected".to_owned()));
    assert_eq!(stands(&store, 2, 0).await.0, RecipientState::Queued);
    let shown = store.show(id(1)).await.unwrap().unwrap();
    assert_eq!((shown.timeline.len(), shown.recipients[0].next_attempt), (1, None));
    assert_eq!(shown.recipients[0].last.as_ref().unwrap().text, "no");
    // The lease died with its process.
    assert!(matches!(store.finish(right).await, Err(StoreError::LeaseLost)));
    site.close(store).await;
}

// DUR-02
pub(in crate::store) async fn content_goes_with_the_last_recipient<S: Site>(site: S) {
    let store = site.open(clock());
    store.enqueue(message(1, &["a@x.example", "b@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    store.finish(finish(&lease, &delivered(), &[0])).await.unwrap();
    assert!(store.content(id(1), 0).await.unwrap().is_some());
    assert!(store.content(id(1), 1).await.unwrap().is_none());
    store.finish(finish(&lease, &bounced(), &[1])).await.unwrap();
    assert!(store.content(id(1), 0).await.unwrap().is_none());
    assert_eq!(store.show(id(1)).await.unwrap().unwrap().header, "");
    site.close(store).await;
}

// RPT-28: what decides whether sessions are reported is kept with the message, not in memory.
pub(in crate::store) async fn the_origin_outlives_attempts_and_restarts<S: Site>(site: S) {
    let clock = clock();
    let mut store = site.open(Arc::clone(&clock) as _);
    for (n, origin) in [(1, Origin::TlsReport), (2, Origin::Dsn), (3, Origin::Submitted)] {
        store.enqueue(NewMessage { origin, ..message(n, &["a@x.example"]) }, None).await.unwrap();
    }
    for _ in 0..3 {
        let mut leases = claim(&store, "x.example", 9).await;
        leases.sort_by_key(|l| l.message.id);
        let origins: Vec<_> = leases.iter().map(|l| l.message.origin).collect();
        assert_eq!(origins, [Origin::TlsReport, Origin::Dsn, Origin::Submitted]);
        store.finish(all_of(&leases[0], &deferred())).await.unwrap();
        site.kill(store);
        clock.advance(20 * MINUTE);
        store = site.open(Arc::clone(&clock) as _);
    }
    site.close(store).await;
}

// RTLS-04: through attempts and restarts, and for every domain among the recipients.
pub(in crate::store) async fn what_the_sender_says_about_tls_outlives_attempts_and_restarts<S: Site>(
    site: S,
) {
    use crate::mail::SenderTls::{Optional, Required, Unsaid};
    let clock = clock();
    let mut store = site.open(Arc::clone(&clock) as _);
    for (n, sender_tls) in [(1, Required), (2, Optional), (3, Unsaid)] {
        let mut new = message(n, &["a@x.example", "a@y.example"]);
        new.envelope.sender_tls = sender_tls;
        let lease = store.enqueue(new, Some(terms(Some("x.example")))).await.unwrap().lease.unwrap();
        assert_eq!(lease.message.sender_tls, sender_tls);
        store.finish(all_of(&lease, &deferred())).await.unwrap();
    }
    for _ in 0..2 {
        site.kill(store);
        clock.advance(20 * MINUTE);
        store = site.open(Arc::clone(&clock) as _);
        for name in ["x.example", "y.example"] {
            let mut leases = claim(&store, name, 9).await;
            leases.sort_by_key(|l| l.message.id);
            let tags: Vec<_> = leases.iter().map(|l| l.message.sender_tls).collect();
            assert_eq!(tags, [Required, Optional, Unsaid], "{name}");
            for lease in &leases {
                store.finish(all_of(lease, &deferred())).await.unwrap();
            }
        }
    }
    let shown = store.show(id(1)).await.unwrap().unwrap();
    assert_eq!(shown.message.sender_tls, Required);
    let listed = QueueStore::list(&store, Filter::default(), 9).await.unwrap();
    assert_eq!(listed.iter().filter(|r| r.message.sender_tls == Optional).count(), 2);
    let warned = store.delayed(NOON.after(60 * MINUTE), None, 9).await.unwrap();
    assert_eq!(warned.iter().filter(|d| d.message.sender_tls == Required).count(), 2);
    site.close(store).await;
}

// DUR-18, QUE-09
pub(in crate::store) async fn a_release_restores_what_was_before<S: Site>(site: S) {
    let clock = clock();
    let store = site.open(Arc::clone(&clock) as _);
    let lease = store
        .enqueue(message(1, &["a@x.example"]), Some(terms(Some("x.example"))))
        .await
        .unwrap()
        .lease
        .unwrap();
    store.release(lease.id, vec![0], None).await.unwrap();
    assert_eq!(stands(&store, 1, 0).await, (RecipientState::Queued, 0, String::new()));
    assert!(matches!(store.release(lease.id, vec![0], None).await, Err(StoreError::LeaseLost)));
    let lease = claim(&store, "x.example", 1).await.remove(0);
    store.finish(all_of(&lease, &deferred())).await.unwrap();
    clock.advance(20 * MINUTE);
    let lease = claim(&store, "x.example", 1).await.remove(0);
    assert_eq!(lease.recipients[0].attempts, 2);
    let until = clock.now().after(MINUTE);
    store.release(lease.id, vec![0], Some(until)).await.unwrap();
    assert_eq!(stands(&store, 1, 0).await, (RecipientState::Deferred, 1, "reply".to_owned()));
    assert!(claim(&store, "x.example", 1).await.is_empty());
    assert_eq!(store.due(DueQuery { after: None, limit: 9 }).await.unwrap().next, Some(until));
    clock.advance(MINUTE);
    assert_eq!(claim(&store, "x.example", 1).await.len(), 1);
    site.close(store).await;
}

// QUE-32: a domain with work now and work later is looked at again for the later.
pub(in crate::store) async fn later_work_of_a_busy_domain_is_not_forgotten<S: Site>(site: S) {
    let store = site.open(clock());
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    let mut soon = all_of(&lease, &deferred());
    soon.settled[0].next_attempt = Some(NOON.after(MINUTE));
    store.finish(soon).await.unwrap();
    store.enqueue(message(2, &["b@x.example"]), None).await.unwrap();
    let due = store.due(DueQuery { after: None, limit: 9 }).await.unwrap();
    assert_eq!((due.domains.len(), due.next), (1, Some(NOON.after(MINUTE))));
    site.close(store).await;
}

// QUE-03
pub(in crate::store) async fn an_uncounted_deferral_takes_the_attempt_back<S: Site>(site: S) {
    let store = site.open(clock());
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    let mut local = all_of(&lease, &Outcome::Deferred(DeferReason::Local, diagnosis("no descriptor")));
    local.settled[0].counted = false;
    local.settled[0].next_attempt = Some(NOON);
    store.finish(local).await.unwrap();
    assert_eq!(stands(&store, 1, 0).await, (RecipientState::Deferred, 0, "local".to_owned()));
    let lease = claim(&store, "x.example", 1).await.remove(0);
    assert_eq!(lease.recipients[0].last.as_ref().unwrap().text, "no descriptor");
    store.release(lease.id, vec![0], None).await.unwrap();
    assert_eq!(stands(&store, 1, 0).await.0, RecipientState::Deferred);
    site.close(store).await;
}

// DUR-20, QUE-03
pub(in crate::store) async fn interruptions_are_brought_forward_until_they_look_like_poison<S: Site>(
    site: S,
) {
    let clock = clock();
    let mut store = site.open(Arc::clone(&clock) as _);
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    for (n, within) in [(1, MINUTE), (2, MINUTE), (3, 11 * MINUTE), (4, 11 * MINUTE)] {
        assert_eq!(claim(&store, "x.example", 1).await.len(), 1, "{n}");
        site.kill(store);
        store = site.open(Arc::clone(&clock) as _);
        assert_eq!(stands(&store, 1, 0).await, (RecipientState::Deferred, n, "interrupted".to_owned()));
        let next = store.due(DueQuery { after: None, limit: 9 }).await.unwrap().next.unwrap();
        let wait = next.since(clock.now());
        assert!(wait <= within && wait > within / 2, "{n}: {wait:?}");
        clock.advance(within);
    }
    // A completed attempt starts the count again.
    let lease = claim(&store, "x.example", 1).await.remove(0);
    store.finish(all_of(&lease, &deferred())).await.unwrap();
    clock.advance(11 * MINUTE);
    assert_eq!(claim(&store, "x.example", 1).await.len(), 1);
    site.kill(store);
    let store = site.open(Arc::clone(&clock) as _);
    let next = store.due(DueQuery { after: None, limit: 9 }).await.unwrap().next.unwrap();
    assert!(next.since(clock.now()) <= MINUTE);
    site.close(store).await;
}

// QUE-38
pub(in crate::store) async fn a_lease_ends_with_its_owner<S: Site>(site: S) {
    let store = site.open(clock());
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    let old = claim(&store, "x.example", 1).await.remove(0);
    store.heartbeat().await.unwrap();
    site.kill(store);
    let clock = clock();
    clock.advance(2 * MINUTE);
    let store = site.open(Arc::clone(&clock) as _);
    let early = clock.now();
    clock.advance(MINUTE);
    let new = claim(&store, "x.example", 1).await.remove(0);
    assert!(new.id != old.id && clock.now() > early);
    for outcome in [delivered(), deferred()] {
        assert!(matches!(store.finish(all_of(&old, &outcome)).await, Err(StoreError::LeaseLost)));
    }
    assert!(matches!(store.release(old.id, vec![0], None).await, Err(StoreError::LeaseLost)));
    assert_eq!(stands(&store, 1, 0).await.0, RecipientState::Delivering);
    site.close(store).await;
}

/// Content that lies in no memory, and may fail on the way.
struct OnDisk {
    len: u64,
    fails_at: u64,
}

fn octet(at: u64) -> u8 {
    u8::try_from(at % 251).unwrap()
}

impl ContentSource for OnDisk {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        // Short reads are no end.
        let n = buf.len().min(100_000).min(usize::try_from(self.len - offset).unwrap());
        if offset + n as u64 > self.fails_at {
            return Err(io::Error::other("the disk broke"));
        }
        for (at, b) in (offset..).zip(&mut buf[..n]) {
            *b = octet(at);
        }
        Ok(n)
    }

    fn in_memory(&self) -> Option<Bytes> {
        None
    }
}

// DUR-01, DUR-02
pub(in crate::store) async fn large_content_comes_back_part_by_part<S: Site>(site: S) {
    let store = site.open(clock());
    for (n, len) in [(1, 5 * 1024 * 1024 + 17), (2, 300_000), (3, 2 * 1024 * 1024), (4, 0)] {
        let mut new = message(n, &["a@x.example"]);
        new.content = Arc::new(OnDisk { len, fails_at: u64::MAX });
        store.enqueue(new, None).await.unwrap();
        let (mut got, mut part) = (Vec::new(), 0);
        while let Some(bytes) = store.content(id(n), part).await.unwrap() {
            assert!(bytes.len() <= CONTENT_PART);
            got.extend_from_slice(&bytes);
            part += 1;
        }
        assert_eq!(got.len() as u64, len);
        assert!((0u64..).zip(&got).all(|(at, b)| octet(at) == *b));
    }
    site.close(store).await;
}

// DUR-01, DUR-04
pub(in crate::store) async fn content_that_cannot_be_read_leaves_nothing<S: Site>(site: S) {
    let store = site.open(clock());
    for (n, fails_at) in [(1, 1000), (2, 3 * 1024 * 1024)] {
        let mut new = message(n, &["a@x.example"]);
        new.content = Arc::new(OnDisk { len: 5 * 1024 * 1024, fails_at });
        let error = store.enqueue(new, None).await.unwrap_err();
        assert!(matches!(&error, StoreError::Content(why) if why.contains("the disk broke")), "{error}");
        assert!(store.show(id(n)).await.unwrap().is_none());
    }
    assert!(due_names(&store).await.is_empty());
    site.close(store).await;
}
