//! What only this store has: files, locks, damage, and how it goes about a full disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::inbox::Lane;
use super::*;
use crate::queue::{Filter, Outcome, QueueStore, RecipientState, Suspension};
use crate::store::contract::{
    self, PATIENCE, Site, all_of, claim, clock, delivered, domain, id, message, stands,
};

mod damage;
mod depth;
mod glance;
mod metrics;

/// A directory of its own.
struct Here(tempfile::TempDir);

impl Here {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn settings(&self) -> SqliteSettings {
        SqliteSettings { busy_timeout: Duration::from_millis(50), ..SqliteSettings::new(self.0.path()) }
    }

    fn database(&self) -> PathBuf {
        open::database(self.0.path())
    }

    fn raw(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.database()).unwrap()
    }

    fn count(&self, sql: &str) -> i64 {
        self.raw().query_row(sql, [], |r| r.get(0)).unwrap()
    }
}

impl Site for Here {
    type Store = SqliteStore;

    fn open(&self, clock: Arc<dyn Clock>) -> SqliteStore {
        SqliteStore::open(&self.settings(), clock).unwrap()
    }

    fn close(&self, store: SqliteStore) -> BoxFuture<'static, ()> {
        let database = self.database();
        Box::pin(async move {
            store.close().await;
            depth::holds(&database);
        })
    }

    fn kill(&self, store: SqliteStore) {
        // The writer ends what it has begun, which a killed process would not; nothing else is done. In
        // particular no lease is given back.
        drop(store);
        depth::holds(&self.database());
    }
}

#[tokio::test]
async fn the_contract_holds() {
    contract::run(Here::new).await;
}

// DUR-14
#[tokio::test]
async fn a_second_start_is_refused_and_names_the_first() {
    let here = Here::new();
    let store = here.open(clock());
    let Err(error) = SqliteStore::open(&here.settings(), clock()) else { panic!("opened twice") };
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    store.close().await;
    drop(store);
    here.open(clock()).close().await;
}

// DUR-01
#[tokio::test]
async fn commits_are_synced() {
    let here = Here::new();
    let store = here.open(clock());
    let read = |tx: &mut writer::Tx<'_>| {
        let get = |sql| tx.conn.query_row(sql, [], |r| r.get::<_, i64>(0));
        Ok((get("PRAGMA synchronous")?, get("PRAGMA auto_vacuum")?))
    };
    assert_eq!(store.inbox.write(Lane::Work, read).await.unwrap(), (2, 2));
    store.close().await;
}

// DUR-13, DUR-15
#[tokio::test]
async fn a_database_that_is_not_ours_is_left_alone() {
    let here = Here::new();
    std::fs::write(here.database(), vec![0x5a; 8192]).unwrap();
    assert!(matches!(SqliteStore::open(&here.settings(), clock()), Err(OpenError::Sqlite(_))));
    assert_eq!(std::fs::read(here.database()).unwrap(), vec![0x5a; 8192]);
    std::fs::remove_file(here.database()).unwrap();
    here.raw().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(matches!(SqliteStore::open(&here.settings(), clock()), Err(OpenError::NotOurs(_))));
    std::fs::remove_file(here.database()).unwrap();
    here.open(clock()).close().await;
    here.raw()
        .execute_batch("INSERT INTO refinery_schema_history SELECT 99, name, applied_on, checksum FROM refinery_schema_history LIMIT 1")
        .unwrap();
    let Err(error) = SqliteStore::open(&here.settings(), clock()) else { panic!("opened") };
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

// DUR-12
#[tokio::test]
async fn a_locked_database_is_busy_and_then_recovers() {
    let here = Here::new();
    let store = here.open(clock());
    let other = here.raw();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.enqueue(message(1, &["a@x.example"]), None).await;
    assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
    other.execute_batch("COMMIT").unwrap();
    assert!(store.health().writable);
    assert!(store.show(id(1)).await.unwrap().is_none());
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    store.close().await;
}

// DUR-03, DUR-10, DUR-11
#[tokio::test]
async fn a_full_disk_refuses_messages_and_keeps_outcomes() {
    let here = Here::new();
    let store = Arc::new(here.open(clock()));
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    let lease = claim(&*store, "x.example", 1).await.remove(0);
    let cap = |tx: &mut writer::Tx<'_>| {
        let pages: i64 = tx.conn.query_row("PRAGMA page_count", [], |r| r.get(0))?;
        tx.conn.query_row(&format!("PRAGMA max_page_count = {}", pages + 8), [], |_| Ok(()))?;
        Ok(())
    };
    store.inbox.write(Lane::Work, cap).await.unwrap();
    let large: Vec<_> = (10..20)
        .map(|n| {
            let store = Arc::clone(&store);
            let mut new = message(n, &["a@y.example"]);
            new.content = Arc::new(Bytes::from(vec![b'x'; 200_000]));
            tokio::spawn(async move { store.enqueue(new, None).await.map(|_| ()) })
        })
        .collect();
    store.finish(all_of(&lease, &delivered())).await.unwrap();
    for one in large {
        assert!(matches!(one.await.unwrap(), Err(StoreError::Full)));
    }
    assert_eq!(stands(&*store, 1, 0).await.0, RecipientState::Delivered);
    assert_eq!(store.list(Filter::default(), 99).await.unwrap().len(), 0);
    assert!(store.health().writable, "a full disk is no damage");
    store.close().await;
}

// DUR-01, DUR-04
#[tokio::test]
async fn orphans_of_large_content_are_deleted_at_the_start() {
    let here = Here::new();
    here.open(clock()).close().await;
    here.raw()
        .execute_batch(
            "INSERT INTO unused_content VALUES (5); INSERT INTO content VALUES (5 << 20, x'00'), ((5 << 20) + 40, x'00')",
        )
        .unwrap();
    let store = here.open(clock());
    let begun = std::time::Instant::now();
    while here.count("SELECT (SELECT count(*) FROM content) + (SELECT count(*) FROM unused_content)") > 0 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    store.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let here = Here::new();
    let store = here.open(clock());
    assert_eq!(store.last_written(), None);
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    store.close().await;
    store.closed().await;
    assert!(matches!(store.heartbeat().await, Err(StoreError::Closed)));
    assert!(matches!(store.show(id(1)).await, Err(StoreError::Closed)));
    assert!(!store.health().writable);
    drop(store);
    let reader = SqliteStore::open_read_only(here.0.path()).unwrap();
    assert_eq!(reader.list(Filter::default(), 9).await.unwrap().len(), 1);
    assert!(reader.show(id(1)).await.unwrap().is_some());
    assert_eq!(here.open(clock()).last_written(), Some(contract::NOON));
}

// DUR-21
#[tokio::test]
async fn a_dead_writer_is_seen() {
    let here = Here::new();
    let store = here.open(clock());
    let dead = store.inbox.write(Lane::Work, |_| -> Result<(), writer::Fault> { panic!("injected") }).await;
    assert!(matches!(dead, Err(StoreError::Closed)));
    store.closed().await;
    assert!(!store.health().writable);
}

// RPT-29, RPT-30, RPT-31
#[tokio::test]
async fn session_records_are_counted_once_and_in_bounds() {
    use crate::tlsrpt::{
        AppliedPolicy, FailureDetail, PolicyVerdict, ResultType, SessionRecord, SessionStore,
    };
    let here = Here::new();
    let store = here.open(clock());
    let records = 1500;
    for n in 0..records {
        store.record(SessionRecord {
            at: contract::NOON,
            report_domain: domain("x.example"),
            sending_ip: None,
            mx_host: Some(domain("mx.x.example")),
            mx_helo: Some(format!("helo-{n}")),
            receiving_ip: None,
            verdicts: vec![PolicyVerdict {
                policy: AppliedPolicy::NoPolicyFound { domain: domain("x.example") },
                success: false,
                details: vec![FailureDetail { result: ResultType::CertificateExpired, reason: None }],
            }],
        });
    }
    store.close().await;
    drop(store);
    let store = here.open(clock());
    let begun = std::time::Instant::now();
    while here.count("SELECT count(*) FROM session_record") > 0 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(here.count("SELECT count(*) FROM counted_detail") <= 1000);
    assert_eq!(here.count("SELECT sum(count) FROM counted_detail"), records);
    assert_eq!(here.count("SELECT failure FROM counted_policy"), records);
    store.close().await;
}

// RPT-30: reply and status codes are a peer's choice too, so neither they nor policies that change make more rows.
#[tokio::test]
async fn reasons_and_policies_make_no_more_rows_than_allowed() {
    use crate::tlsrpt::{
        AppliedPolicy, FailureDetail, PolicyVerdict, ResultType, SessionRecord, SessionStore,
    };
    let here = Here::new();
    let store = here.open(clock());
    let records = 3000;
    for n in 0..records {
        let lines = vec![format!("mode: testing {}", n / 600)];
        let reason = Some(format!("starttls-reply-{}", n % 600));
        store.record(SessionRecord {
            at: contract::NOON,
            report_domain: domain("x.example"),
            sending_ip: None,
            mx_host: Some(domain("mx.x.example")),
            mx_helo: None,
            receiving_ip: None,
            verdicts: vec![PolicyVerdict {
                policy: AppliedPolicy::Sts { domain: domain("x.example"), lines, mx: vec![] },
                success: false,
                details: vec![FailureDetail { result: ResultType::StarttlsNotSupported, reason }],
            }],
        });
    }
    store.close().await;
    drop(store);
    let store = here.open(clock());
    let begun = std::time::Instant::now();
    while here.count("SELECT count(*) FROM session_record") > 0 {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rows = here.count("SELECT count(*) FROM counted_detail");
    assert!((900..=1000).contains(&rows), "{rows}");
    assert_eq!(here.count("SELECT sum(count) FROM counted_detail"), records);
    assert_eq!(here.count("SELECT details FROM counted_day"), rows);
    store.close().await;
}

// QUE-32: what runs at every look, claim and sweep costs the same however long the queue is.
#[tokio::test]
async fn no_query_of_the_scheduler_scans_or_sorts() {
    let here = Here::new();
    here.open(clock()).close().await;
    let conn = here.raw();
    for (name, sql, index) in [
        ("due, the first domain", reads::next_domain(">="), "recipient_due (domain>?)"),
        ("due, the next domain", reads::next_domain(">"), "recipient_due (domain>?)"),
        ("due, later work", reads::LATER.to_owned(), "recipient_due (domain=? AND next_attempt>?)"),
        ("claim", leases::OLDEST_DUE.to_owned(), "recipient_due (domain=? AND next_attempt<?)"),
        ("lease", leases::transaction(), "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("delayed", reads::unwarned(), "recipient_unwarned"),
    ] {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps: Vec<String> =
            explain.raw_query().mapped(|r| r.get("detail")).collect::<rusqlite::Result<_>>().unwrap();
        assert!(steps.iter().all(|s| s.starts_with("SEARCH")), "{name}: {steps:?}");
        assert!(steps.iter().any(|s| s.contains(index)), "{name}: {steps:?}");
    }
}

// DUR-06, DUR-03: a commit that fails is an error for the message in it, and none of it stays; others in the same
// group are not lost with it.
#[tokio::test]
async fn a_failed_commit_is_never_an_accepted_message() {
    let here = Here::new();
    let store = here.open(clock());
    store.enqueue(message(1, &["a@x.example"]), None).await.unwrap();
    let lease = claim(&store, "x.example", 1).await.remove(0);
    // From now on a new message for y.example breaks a constraint that is looked at in COMMIT only.
    let sabotage = |tx: &mut writer::Tx<'_>| {
        tx.conn.execute_batch(
            "RELEASE job; COMMIT; PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; SAVEPOINT job; \
             CREATE TEMP TABLE parent (x PRIMARY KEY); \
             CREATE TEMP TABLE child (x REFERENCES parent DEFERRABLE INITIALLY DEFERRED); \
             CREATE TEMP TRIGGER sabotage AFTER INSERT ON main.recipient WHEN NEW.domain = 'y.example' \
             BEGIN INSERT INTO child VALUES (1); END",
        )?;
        Ok(())
    };
    store.inbox.write(Lane::Work, sabotage).await.unwrap();
    let (bad, good, outcome) = tokio::join!(
        store.enqueue(message(2, &["a@y.example"]), None),
        store.enqueue(message(3, &["a@z.example"]), None),
        store.finish(all_of(&lease, &delivered())),
    );
    assert!(matches!(bad, Err(StoreError::Broken(_))), "{bad:?}");
    assert!(good.is_ok() && outcome.is_ok(), "{good:?} {outcome:?}");
    assert!(store.show(id(2)).await.unwrap().is_none());
    assert_eq!(here.count("SELECT count(*) FROM content"), 1, "nothing of it is left");
    assert_eq!(stands(&store, 1, 0).await.0, RecipientState::Delivered);
    store.inbox.write(Lane::Work, |tx| Ok(tx.conn.execute_batch("DROP TRIGGER sabotage")?)).await.unwrap();
    store.enqueue(message(2, &["a@y.example"]), None).await.unwrap();
    store.close().await;
}

// DUR-06, DUR-13: after a failed write nothing is said to be stored any more, on this handle or by a retry.
#[tokio::test]
async fn an_input_output_error_ends_all_writing() {
    let here = Here::new();
    let store = here.open(clock());
    let broken = |_: &mut writer::Tx<'_>| -> Result<(), writer::Fault> {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        Err(rusqlite::Error::SqliteFailure(code, None).into())
    };
    assert!(matches!(store.inbox.write(Lane::Work, broken).await, Err(StoreError::Broken(_))));
    assert!(!store.health().writable, "new connections get 421");
    let refused = store.enqueue(message(1, &["a@x.example"]), None).await;
    assert!(matches!(refused, Err(StoreError::Broken(_))), "{refused:?}");
    store.close().await;
    assert_eq!(here.count("SELECT count(*) FROM message"), 0);
}

// DUR-15: what the first release counted is still reported.
#[tokio::test]
async fn counters_of_the_first_schema_are_carried_over() {
    use crate::tlsrpt::{Day, ReportStore};
    let here = Here::new();
    open::migrated_to(&here.database(), 1).unwrap();
    // Who only looks says so, and does not speak of a newer release.
    let Err(error) = SqliteStore::open_read_only(here.0.path()) else { panic!("read") };
    assert!(matches!(error, OpenError::Older { found: 1, .. }), "{error}");
    here.raw()
        .execute_batch(
            r#"INSERT INTO session_policy VALUES
                 (3, '2026-11-22', 'x.example', '{"type":"no-policy-found","domain":"x.example"}', 5, 2),
                 (4, '2026-11-22', 'y.example', '{"type":"no-policy-found","domain":"y.example"}', 1, 0);
               INSERT INTO session_detail VALUES
                 (3, 'certificate-expired', '', 'mx.x.example', 'a', '', '', 1),
                 (3, 'certificate-expired', '', 'mx.x.example', 'b', '', '', 1)"#,
        )
        .unwrap();
    let store = here.open(clock());
    let day = Day::of(contract::NOON);
    let counted = store.counters(day, domain("x.example")).await.unwrap().unwrap();
    let of = &counted.policies[0];
    assert_eq!((of.success, of.failure, of.details.len()), (5, 2, 2));
    assert_eq!(store.counted(day, None, 9).await.unwrap(), [domain("x.example"), domain("y.example")]);
    assert_eq!(here.count("SELECT details FROM counted_day WHERE domain = 'x.example'"), 2);
    store.close().await;
}

// DUR-15: mail of an older release says nothing about TLS.
#[tokio::test]
async fn messages_of_the_second_schema_carry_no_tag() {
    let here = Here::new();
    open::migrated_to(&here.database(), 2).unwrap();
    here.raw()
        .execute_batch(
            "INSERT INTO message VALUES (1, zeroblob(16), 'submitted', 'a@x.example', NULL, NULL, 0, 0, 5, 1, '', '', 1, NULL);
             INSERT INTO recipient (id, domain, address, state, arrived, next_attempt)
             VALUES (1048576, 'b.example', 'b@b.example', 0, 1, 1)",
        )
        .unwrap();
    let store = here.open(clock());
    let lease = claim(&store, "b.example", 1).await.remove(0);
    assert_eq!(lease.message.sender_tls, crate::mail::SenderTls::Unsaid);
    store.close().await;
}

// DUR-06
#[tokio::test]
async fn a_message_whose_sender_was_told_no_is_not_stored() {
    struct GivenUp;
    impl crate::queue::ContentSource for GivenUp {
        fn len(&self) -> u64 {
            1
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> std::io::Result<usize> {
            Ok(0)
        }
        fn in_memory(&self) -> Option<Bytes> {
            Some(Bytes::from_static(b"x"))
        }
        fn is_wanted(&self) -> bool {
            false
        }
    }
    let here = Here::new();
    let store = here.open(clock());
    let mut unwanted = message(1, &["a@one.example"]);
    unwanted.content = Arc::new(GivenUp);
    assert!(matches!(store.enqueue(unwanted, None).await, Err(StoreError::Content(_))));
    store.close().await;
    assert_eq!(here.count("SELECT (SELECT count(*) FROM message) + (SELECT count(*) FROM content)"), 0);
}

// QUE-34: domains that nobody writes to any more leave nothing behind.
#[tokio::test]
async fn suspensions_that_ran_out_long_ago_are_forgotten() {
    let (here, clock) = (Here::new(), clock());
    let store = here.open(Arc::clone(&clock) as Arc<dyn Clock>);
    let Outcome::Delivered(last) = delivered() else { panic!("not a delivery") };
    let ends = clock.now().after(Duration::from_secs(60));
    for (name, until) in [("old.example", ends), ("new.example", ends.after(Suspension::FORGOTTEN))] {
        let suspension = Suspension { until, step: 1, last: last.clone() };
        store.suspend(domain(name), Some(suspension)).await.unwrap();
    }
    clock.advance(Suspension::FORGOTTEN + Duration::from_secs(61));
    while store.purge(Duration::from_secs(86_400), 1 << 30).await.unwrap() {}
    store.close().await;
    assert_eq!(here.count("SELECT count(*) FROM suspension WHERE domain = 'old.example'"), 0);
    assert_eq!(here.count("SELECT count(*) FROM suspension"), 1);
}

// An exception that was found to be of no need does not come back with the next start.
#[tokio::test]
async fn an_exception_that_ended_stays_ended() {
    use crate::security::exception::ExceptionMemory as _;
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::ManualClock::new(Timestamp::from_millis(0)));
    let open = || SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap();
    let store = open();
    assert!(store.ended_exceptions().await.unwrap().is_empty());
    for _ in 0..2 {
        store.remember("a.example/plain/2026-12-24".into(), clock.now()).await;
    }
    store.close().await;
    drop(store);
    assert_eq!(open().ended_exceptions().await.unwrap(), ["a.example/plain/2026-12-24"]);
}
