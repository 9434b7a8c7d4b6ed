//! DUR-01: strace sees the write-ahead log synced before the 250 is written.

use std::collections::HashMap;

use crate::world::relay::Setup;
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, can_run, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_synced_first() {
    if !can_run("the 250 comes after the sync", &["strace"], false) {
        return;
    }
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let trace = world.dir.path().join("trace");
    let calls = "trace=pwrite64,fdatasync,fsync,write,writev,sendto,sendmsg";
    let words = ["strace", "-D", "-f", "-y", "-s", "65536", "-e", calls, "-o", trace.to_str().unwrap()];
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
    let text = eventually(PATIENCE, complete).await.expect("a trace");

    let mut messages: Vec<Progress> = vec![Progress::default(); 5];
    let mut syncing: HashMap<&str, Vec<usize>> = HashMap::new();
    for line in text.lines() {
        let thread = line.split_whitespace().next().unwrap();
        let is_sync = line.contains("fdatasync(") || line.contains("fsync(");
        if line.contains("pwrite64(") && line.contains("queue.db-wal>") {
            for (n, message) in messages.iter_mut().enumerate() {
                message.written |= line.contains(&format!("Subject: sync-{n}\\r"));
            }
        } else if is_sync && line.contains("queue.db-wal>") {
            // What a sync covers is what was written when it began.
            let covered = (0..messages.len()).filter(|n| messages[*n].written).collect();
            if line.contains("unfinished") {
                syncing.insert(thread, covered);
            } else if line.ends_with("= 0") {
                covered.iter().for_each(|n| messages[*n].synced = true);
            }
        } else if line.contains("sync resumed") && line.ends_with("= 0") {
            let covered = syncing.remove(thread).unwrap_or_default();
            covered.iter().for_each(|n| messages[*n].synced = true);
        } else if line.contains("250 2.0.0") && line.contains("queued as") {
            let message = messages.iter_mut().find(|m| !m.acknowledged).expect("one 250 per message");
            assert!(message.written && message.synced, "a 250 before its sync: {message:?}\n{line}");
            message.acknowledged = true;
        }
    }
    assert!(messages.iter().all(|m| m.acknowledged), "{messages:?}");

    relay.gone("u@a.example").await;
    assert_eq!(host.saw(), (0, 5));
    assert_eq!(relay.session_counts("a.example").1, 0);
}

/// What the trace has shown of one message so far.
#[derive(Debug, Clone, Default)]
struct Progress {
    written: bool,
    synced: bool,
    acknowledged: bool,
}
