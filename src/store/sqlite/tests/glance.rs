//! What `status` asks: by indexes, and past damage.

use super::*;
use crate::status::Overview as _;

// What `status` asks is answered by indexes alone, in their order: rows are read one by one where they are named.
#[tokio::test]
async fn no_question_of_status_reads_a_whole_table_or_sorts() {
    let here = Here::new();
    here.open(clock()).close().await;
    let conn = here.raw();
    for (sql, index) in [
        (status::WAITING, "COVERING INDEX recipient_due"),
        (status::DELIVERING, "INDEX recipient_leased"),
        (status::HELD, "COVERING INDEX recipient_held"),
        (status::LAST_FINISHED, "COVERING INDEX message_finished"),
        (status::POLICIES, "COVERING INDEX policy_mode"),
        (status::FAILING, "INDEX policy_memory_failing"),
        (status::TODAY, "COVERING INDEX sqlite_autoindex_counted_day_1"),
        (status::DUE, "COVERING INDEX report_planned"),
        (status::WAITING_DESTINATIONS, "COVERING INDEX report_destination_due"),
        (status::QUEUED_DESTINATIONS, "COVERING INDEX report_destination_queued"),
        (status::ENDED, "COVERING INDEX report_state (state=? AND day>?)"),
        (status::FAILED, "INDEX report_destination_failed"),
    ] {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> =
            explain.raw_query().mapped(|r| r.get("detail")).collect::<rusqlite::Result<_>>().unwrap();
        let by_index = |s: &String| {
            s.contains("INDEX")
                || s.contains("INTEGER PRIMARY KEY")
                || s.starts_with("CO-ROUTINE")
                || s.starts_with("SCAN (subquery")
        };
        assert!(steps.iter().all(by_index), "{sql}: {steps:?}");
        assert!(steps.iter().any(|s| s.contains(index)), "{sql}: {steps:?}");
        assert!(!steps.iter().any(|s| s.contains("TEMP B-TREE")), "{sql}: {steps:?}");
    }
}

// A row that cannot be read keeps nobody from seeing the others.
#[tokio::test]
async fn damaged_rows_are_told_as_damaged() {
    let here = Here::new();
    let store = here.open(clock());
    for (n, to) in [(1, "a@b.example"), (2, "a@a.example")] {
        store.enqueue(message(n, &[to]), None).await.unwrap();
    }
    let damage =
        "UPDATE recipient SET domain = 'a b\r\n', cause = 'no cause', last = 'no JSON' WHERE id >> 20 = 1";
    here.raw().execute(damage, []).unwrap();
    let q = store.overview(contract::NOON).await.unwrap().queue;
    assert_eq!((q.states.queued.recipients, q.domains, q.damaged), (1, 1, 0));
    contract::due_names(&store).await;
    let q = store.overview(contract::NOON).await.unwrap().queue;
    assert_eq!((q.states.held.recipients, q.damaged), (1, 1));
    let damage = "UPDATE recipient SET cause = 'no cause', last = 'no JSON', address = '' WHERE id >> 20 = 2";
    here.raw().execute(damage, []).unwrap();
    let q = store.overview(contract::NOON).await.unwrap().queue;
    assert_eq!((q.causes.len(), &*q.causes[0].cause, q.causes[0].example.is_some()), (1, "unknown", false));
    store.close().await;
}

// DUR-15: the index of what is due is made anew, and what waited waits.
#[tokio::test]
async fn mail_of_the_fourth_schema_is_counted_and_delivered() {
    let here = Here::new();
    open::migrated_to(&here.database(), 4).unwrap();
    here.raw()
        .execute_batch(
            "INSERT INTO message VALUES (1, zeroblob(16), 'submitted', 'a@x.example', NULL, NULL, 0, 0, 5, 1, '', '', 1, NULL, NULL);
             INSERT INTO recipient (id, domain, address, state, arrived, next_attempt, cause)
             VALUES (1048576, 'b.example', 'b@b.example', 1, 1, 1, 'reply')",
        )
        .unwrap();
    let store = here.open(clock());
    let q = store.overview(contract::NOON).await.unwrap().queue;
    assert_eq!((q.states.deferred.recipients, &*q.causes[0].cause), (1, "reply"));
    assert_eq!(claim(&store, "b.example", 1).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn scratch_timing() {
    let here = Here::new();
    let store = here.open(clock());
    here.raw().execute_batch(
        "BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100000)
         INSERT INTO message SELECT i, randomblob(16), 'submitted', 'a@x.example', NULL, NULL, 0, 0, 5, 1700000000000+i, '<x>', 'app', 1, NULL, NULL FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100000)
         INSERT INTO recipient (id, domain, address, state, arrived, next_attempt, cause, last)
         SELECT i << 20, 'd' || (i * 7919 % 5000) || '.example', 'b@d.example', i % 10 > 0, 1700000000000+i, 1700000000000+i*3,
           CASE WHEN i % 10 > 0 THEN (CASE i % 3 WHEN 0 THEN 'tls_certificate' WHEN 1 THEN 'connect' ELSE 'reply' END) END,
           CASE WHEN i % 10 > 0 THEN hex(zeroblob(500)) END FROM n;
         COMMIT;",
    ).unwrap();
    for _ in 0..5 {
        let t = std::time::Instant::now();
        let q = store.overview(contract::NOON).await.unwrap().queue;
        eprintln!("{:?} {} {}", t.elapsed(), q.states.deferred.recipients, q.domains);
    }
    let conn = here.raw();
    let t = std::time::Instant::now();
    let n: i64 = conn
        .query_row(
            "SELECT count(*), sum(next_attempt) FROM recipient INDEXED BY recipient_due WHERE state <= 1",
            [],
            |r| r.get(0),
        )
        .unwrap();
    eprintln!("count {n} {:?}", t.elapsed());
}
