//! What the store counts.

use super::*;
use crate::observe::prometheus::Prometheus;
use crate::store::sqlite::metrics::StoreMetrics;

#[tokio::test]
async fn commits_their_jobs_and_errors_are_counted() {
    let (here, counted) = (Here::new(), Prometheus::new().unwrap());
    let settings = SqliteSettings { metrics: StoreMetrics::new(&counted.registry()), ..here.settings() };
    let store = SqliteStore::open(&settings, clock()).unwrap();
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    assert_eq!(counted.value("sealpost_db_commit_duration_seconds_count"), 1.0);
    assert_eq!(counted.value("sealpost_db_batch_jobs_sum"), 1.0);
    let error = |kind: &str| counted.value(&format!("sealpost_db_errors_total{{kind=\"{kind}\"}}"));
    assert_eq!((error("busy"), error("full"), error("broken")), (0.0, 0.0, 0.0));
    let other = here.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(store.enqueue(message(2, &["a@x.example"]), None).await.is_err());
    other.execute_batch("COMMIT").unwrap();
    assert!(error("busy") >= 1.0);
    assert_eq!(counted.value("sealpost_db_commit_duration_seconds_count"), 1.0, "what failed is no commit");
    let cap = |tx: &mut writer::Tx<'_>| {
        let pages: i64 = tx.conn.query_row("PRAGMA page_count", [], |r| r.get(0))?;
        tx.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        Ok(())
    };
    store.inbox.write(Lane::Work, cap).await.unwrap();
    let mut large = message(3, &["a@y.example"]);
    large.content = Arc::new(Bytes::from(vec![b'x'; 200_000]));
    assert!(matches!(store.enqueue(large, None).await, Err(StoreError::Full)));
    assert!(error("full") >= 1.0);
    assert_eq!(error("broken"), 0.0);
    here.close(store).await;
}
