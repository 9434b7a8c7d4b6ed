//! Rows that cannot be read: whatever wrote them, the rest of the queue goes on.

use super::*;

// OUT-54
#[tokio::test]
async fn a_row_that_cannot_be_read_is_held_and_does_not_stop_its_domain() {
    let here = Here::new();
    let store = here.open(clock());
    for n in 1..=2 {
        store.enqueue(message(n, &["a@one.example"]), None).await.unwrap();
    }
    here.raw().execute("UPDATE recipient SET address = 'a\r\nDATA' WHERE id >> 20 = 1", []).unwrap();
    let leases = claim(&store, "one.example", 10).await;
    let ids: Vec<_> = leases.iter().map(|l| l.message.id).collect();
    assert_eq!(ids, [id(2)]);
    assert_eq!(here.count("SELECT count(*) FROM recipient WHERE state = 3 AND cause = 'damaged'"), 1);
    here.close(store).await;
}

// OUT-54: rows written by nobody we know stop neither the search for work, nor a list, nor the warnings.
#[tokio::test]
async fn damaged_rows_of_any_kind_are_passed_over_and_named() {
    for (name, damage, due, listed) in [
        ("address", "UPDATE recipient SET address = 'a\r\nDATA' WHERE id >> 20 = 1", 3, 2),
        ("negative attempts", "UPDATE recipient SET attempts = -1 WHERE id >> 20 = 1", 3, 2),
        ("domain", "UPDATE recipient SET domain = 'a b\r\n' WHERE id >> 20 = 1", 2, 3),
        ("empty domain", "UPDATE recipient SET domain = '' WHERE id >> 20 = 1", 2, 3),
        ("no UTF-8", "UPDATE recipient SET domain = CAST(x'62ff' AS TEXT) WHERE id >> 20 = 1", 2, 3),
        ("sender", "UPDATE message SET sender = 'no sender' WHERE seq = 1", 3, 2),
        (
            "suspension",
            "INSERT INTO suspension VALUES ('b.example', 9223372036854775807, 1, 'no JSON')",
            3,
            3,
        ),
    ] {
        let here = Here::new();
        let store = here.open(clock());
        for (n, to) in [(1, "a@b.example"), (2, "a@a.example"), (3, "a@c.example")] {
            store.enqueue(message(n, &[to]), None).await.unwrap();
        }
        here.raw().execute(damage, []).unwrap();
        // Twice: the first look puts aside what no later one must stumble over.
        for _ in 0..2 {
            assert_eq!(contract::due_names(&store).await.len(), due, "{name}");
        }
        let rows = store.list(Filter::default(), 9).await.unwrap();
        assert_eq!(rows.len(), listed, "{name}");
        let page = store.delayed(contract::NOON.after(contract::MINUTE), None, 2).await.unwrap();
        assert_eq!(page.len(), 2, "{name}");
        assert_eq!(store.retry(Filter::default()).await.unwrap().recipients, due as u64, "{name}");
        assert_eq!(claim(&store, "a.example", 9).await.len() + claim(&store, "c.example", 9).await.len(), 2);
        claim(&store, "b.example", 9).await;
        let held = here.count("SELECT count(*) FROM recipient WHERE state = 3 AND cause = 'damaged'");
        assert_eq!(held, i64::from(name != "suspension"), "{name}");
        here.close(store).await;
    }
}

// A message is shown as far as it can be read.
#[tokio::test]
async fn what_is_left_of_a_damaged_message_is_shown() {
    let here = Here::new();
    let store = here.open(clock());
    store.enqueue(message(1, &["a@x.example", "b@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    store.finish(contract::finish(&lease, &delivered(), &[0])).await.unwrap();
    here.raw()
        .execute_batch("UPDATE recipient SET address = '' WHERE id & 1; INSERT INTO timeline (message, entry) VALUES (1, '{')")
        .unwrap();
    let shown = store.show(id(1)).await.unwrap().unwrap();
    assert_eq!((shown.recipients.len(), shown.timeline.len()), (1, 1));
    store.close().await;
}
