//! DUR-01: strace sees the write-ahead log synced before the 250 is written.

use std::collections::HashSet;
use std::time::Duration;

use crate::world::relay::Setup;
use crate::world::{World, eventually};
use crate::{SENDER, can_run, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_synced_first() {
    if !can_run("the 250 comes after the sync", &["strace"], false) {
        return;
    }
    let world = World::start().await;
    let trace = world.dir.path().join("trace");
    let calls = "trace=fdatasync,fsync,write,writev,sendto,sendmsg";
    // -D makes the tracer the grandchild, so the process we start is the relay itself.
    let words = ["strace", "-D", "-f", "-y", "-s", "64", "-e", calls, "-o", trace.to_str().unwrap()];
    let wrapper = words.map(str::to_owned).to_vec();
    let relay = relay_with(&world, Setup { wrapper, ..Setup::default() }).await;
    for n in 0..5 {
        let reply = relay.submit(SENDER, "u@a.example", &format!("sync-{n}")).await;
        assert!(reply.queue_id().is_some(), "{reply:?}");
    }
    let complete = async || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        (text.matches("queued as").count() >= 5).then_some(text)
    };
    let text = eventually(Duration::from_secs(30), complete).await.expect("a trace");

    let (mut syncing, mut synced, mut acknowledged) = (HashSet::new(), false, 0);
    for line in text.lines() {
        let thread = line.split_whitespace().next().unwrap();
        let is_sync = line.contains("fdatasync(") || line.contains("fsync(");
        if line.contains("\"354 ") {
            synced = false;
        } else if is_sync && line.contains("queue.db-wal>") {
            if line.contains("unfinished") {
                syncing.insert(thread.to_owned());
            } else {
                synced |= line.ends_with("= 0");
            }
        } else if line.contains("sync resumed") && syncing.remove(thread) {
            synced |= line.ends_with("= 0");
        } else if line.contains("queued as") {
            assert!(synced, "a 250 before its sync:\n{text}");
            acknowledged += 1;
        }
    }
    assert_eq!(acknowledged, 5);
}
