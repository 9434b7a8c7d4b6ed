//! The counts that are kept are those of the rows, whatever happened.

use super::*;
use crate::observe::figures::Figures as _;

/// What is counted, and what there is.
const KEPT: &str = "SELECT state, cause, recipients FROM queue_depth WHERE recipients <> 0 ORDER BY 1, 2";
const THERE: &str = "SELECT state, CASE state WHEN 2 THEN '' ELSE coalesce(cause, '') END, count(*) FROM recipient \
                     WHERE state <= 3 GROUP BY 1, 2 ORDER BY 1, 2";

#[track_caller]
pub(super) fn holds(database: &Path) {
    let conn = rusqlite::Connection::open(database).unwrap();
    let rows = |sql: &str| -> Vec<(i64, String, i64)> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)));
        rows.unwrap().collect::<rusqlite::Result<_>>().unwrap()
    };
    assert_eq!(rows(KEPT), rows(THERE));
}

// DUR-15
#[tokio::test]
async fn the_queue_of_an_earlier_schema_is_counted_once() {
    let here = Here::new();
    open::migrated_to(&here.database(), 4).unwrap();
    here.raw()
        .execute_batch(
            "INSERT INTO recipient (id, domain, address, state, lease, cause, arrived, next_attempt) VALUES
               (1, 'a.example', 'a@a.example', 0, NULL, NULL, 1, 1), (2, 'a.example', 'b@a.example', 1, NULL, 'reply', 1, 1),
               (3, 'b.example', 'c@b.example', 1, NULL, 'tls_missing', 1, 1), (4, 'b.example', 'd@b.example', 1, NULL, 'reply', 1, 1),
               (5, 'b.example', 'e@b.example', 3, NULL, 'damaged', 1, 1), (6, 'b.example', 'f@b.example', 4, NULL, NULL, 1, 1),
               (7, 'c.example', 'g@c.example', 2, 9, 'reply', 1, 1)",
        )
        .unwrap();
    let store = here.open(clock());
    let mut rows = store.stored(contract::NOON).await.unwrap().recipients;
    rows.retain(|(.., n)| *n > 0);
    assert_eq!(rows.iter().map(|(.., n)| n).sum::<u64>(), 6);
    here.close(store).await;
}

// A job that fails takes its own counts back and leaves those of the others.
#[tokio::test]
async fn a_job_that_fails_counts_nothing() {
    let here = Here::new();
    let store = here.open(clock());
    store.enqueue(message(1, &["a@x.example", "b@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    // The second of them is not held by this lease any more.
    here.raw()
        .execute("UPDATE recipient SET state = 1, lease = NULL, cause = 'reply' WHERE id & 1", [])
        .unwrap();
    here.raw().execute_batch("INSERT INTO queue_depth VALUES (1, 'reply', 1); UPDATE queue_depth SET recipients = 1 WHERE state = 2").unwrap();
    let (lost, kept) = tokio::join!(
        store.finish(all_of(&lease, &contract::deferred())),
        store.enqueue(message(2, &["c@y.example"]), None),
    );
    assert!(matches!(lost, Err(StoreError::LeaseLost)) && kept.is_ok(), "{lost:?} {kept:?}");
    here.close(store).await;
}

// What a scrape asks costs the same however long the queue is.
#[tokio::test]
async fn no_query_of_a_scrape_reads_rows_of_the_queue() {
    let here = Here::new();
    here.open(clock()).close().await;
    let conn = here.raw();
    for (sql, index) in [
        (figures::OLDEST, "USING INDEX message_finished (finished=?)"),
        (figures::SUSPENDED, "USING COVERING INDEX suspension_until (until>?)"),
        (figures::POLICIES, "USING COVERING INDEX policy_mode"),
        (figures::FAILING, "policy_memory_failing"),
        (figures::DUE, "report_planned"),
        (figures::WAITING, "report_destination_due"),
        (figures::QUEUED, "report_destination_queued"),
        (figures::FIRST, "recipient_due"),
        (figures::NEXT, "recipient_due (domain>?)"),
        (figures::OF_DOMAIN, "recipient_due (domain=?)"),
    ] {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> =
            explain.raw_query().mapped(|r| r.get("detail")).collect::<rusqlite::Result<_>>().unwrap();
        assert!(steps.iter().any(|s| s.contains(index)), "{sql}: {steps:?}");
        assert!(!steps.iter().any(|s| s.contains("TEMP B-TREE")), "{sql}: {steps:?}");
    }
}
