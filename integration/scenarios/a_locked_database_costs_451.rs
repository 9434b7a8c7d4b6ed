//! DUR-12: another process holds the write lock: 451 4.3.0, nothing stored, no crash; then all is well again.

use crate::world::World;
use crate::{SENDER, count, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_is_a_temporary_refusal() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let relay = relay(&world).await;
    let intruder = rusqlite::Connection::open(relay.data_dir().join("queue.db")).unwrap();
    intruder.busy_timeout(std::time::Duration::from_secs(60)).unwrap();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Each waits for the lock as long as SQLite does, 5 s.
    for _ in 0..count(12) {
        let refused = relay.submit(SENDER, "u@a.example", "locked").await;
        assert_eq!(refused.code, 451, "{refused:?}");
        assert!(refused.lines[0].starts_with("4.3.0"), "{refused:?}");
    }
    intruder.execute_batch("ROLLBACK").unwrap();
    assert!(relay.queue().await.is_empty());
    assert!(host.seen().connections.is_empty());

    assert_eq!(relay.submit(SENDER, "u@a.example", "free").await.code, 250);
    assert_eq!(relay.delivery("u@a.example", 1).await["outcome"], "delivered");
    relay.gone("u@a.example").await;
    relay.counted("a.example", (1, 0)).await;
    assert_eq!(host.saw(), (0, 1));
}
