//! DUR-18: SIGTERM lets running attempts and submissions finish, ends with 0, and a restart delivers the rest.

use std::time::{Duration, Instant};

use crate::world::client::{Client, message};
use crate::world::relay::Relay;
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_attempt_is_finished() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let other = world.enforcing_domain("b.example").await;
    host.behave(|b| b.dot_delay = Duration::from_secs(2));
    other.behave(|b| b.greylist = true);
    let mut relay = relay(&world).await;
    relay.submit(SENDER, "u@b.example", "later").await;
    relay.deferred("u@b.example").await;
    relay.submit(SENDER, "u@a.example", "running").await;
    let dotted = async || (!host.seen().messages.is_empty()).then_some(());
    eventually(PATIENCE, dotted).await.expect("the attempt runs");
    relay.stop().await;
    assert_eq!(host.seen().messages.iter().map(|m| m.answered).collect::<Vec<_>>(), [true]);

    relay.run().await;
    assert!(relay.waiting("u@a.example").await.is_none(), "delivered before the end, so not repeated");
    let row = relay.waiting("u@b.example").await.expect("it still waits");
    relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
    relay.gone("u@b.example").await;
    assert_eq!((host.saw(), other.saw()), ((0, 1), (0, 1)));
    relay.counted("a.example", (1, 0)).await;
}

/// A client in the middle of DATA.
async fn in_data(relay: &Relay) -> Client {
    let mut client = Client::connect(relay.submission()).await.unwrap();
    let replies = client.pipeline(&[&format!("MAIL FROM:<{SENDER}>"), "RCPT TO:<u@a.example>", "DATA"]).await;
    assert_eq!(replies.unwrap().iter().map(|r| r.code).collect::<Vec<_>>(), [250, 250, 354]);
    client
}

/// SIGTERM, and the moment when new clients are refused.
async fn closing(relay: &Relay) {
    relay.signal("TERM").await;
    let refused = async || Client::connect(relay.submission()).await.is_err().then_some(());
    eventually(PATIENCE, refused).await.expect("the listener closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_in_data_is_finished() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    host.stop().await;
    let mut relay = relay(&world).await;
    let mut idle = Client::connect(relay.submission()).await.unwrap();
    let mut client = in_data(&relay).await;
    let content = message(SENDER, "u@a.example", "in-data");
    let (begin, rest) = content.split_at(content.len() / 2);
    client.write(begin.as_bytes()).await.unwrap();
    closing(&relay).await;
    let farewell = idle.reply().await.unwrap();
    assert_eq!((farewell.code, &farewell.lines[0][..5]), (421, "4.3.2"), "{farewell:?}");
    let reply = client.command(&format!("{rest}.")).await.unwrap();
    assert!(reply.code == 250 && reply.queue_id().is_some(), "{reply:?}");
    drop(client);
    assert!(relay.wait(PATIENCE).await.success(), "{}", relay.log_text());

    host.listen().await;
    relay.run().await;
    relay.json(&["queue", "retry", "--all", "--yes"]).await;
    relay.gone("u@a.example").await;
    assert_eq!(host.saw(), (0, 1));
    assert!(host.seen().messages[0].text().ends_with("\r\n\r\nHello.\r\n"));
    relay.counted("a.example", (1, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_at_its_dot_is_finished() {
    for _ in 0..5 {
        if finished_at_its_dot().await {
            return;
        }
    }
    panic!(
        "the machine is too slow: SIGTERM never came to the relay in the time that a commit waits for a lock"
    );
}

/// Whether the lock was there for no longer than the relay waits for one, 5 s; else it has told nothing.
async fn finished_at_its_dot() -> bool {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    host.stop().await;
    let mut relay = relay(&world).await;
    let mut client = in_data(&relay).await;
    // The commit waits for this lock, so the signal comes between the dot and its reply.
    let intruder = rusqlite::Connection::open(relay.data_dir().join("queue.db")).unwrap();
    intruder.busy_timeout(Duration::from_secs(60)).unwrap();
    let locked = Instant::now();
    intruder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let content = message(SENDER, "u@a.example", "at-the-dot");
    client.write(format!("{content}.\r\n").as_bytes()).await.unwrap();
    relay.signal("TERM").await;
    let stopping = async || relay.log_text().contains("\"stopping\"").then_some(());
    eventually(PATIENCE, stopping).await.expect("the relay says that it stops");
    intruder.execute_batch("ROLLBACK").unwrap();
    drop(intruder);
    if locked.elapsed() >= Duration::from_secs(4) {
        return false;
    }
    let reply = client.reply().await.unwrap();
    assert!(reply.code == 250 && reply.queue_id().is_some(), "{reply:?}");
    drop(client);
    assert!(relay.wait(PATIENCE).await.success(), "{}", relay.log_text());

    host.listen().await;
    relay.run().await;
    relay.json(&["queue", "retry", "--all", "--yes"]).await;
    relay.gone("u@a.example").await;
    assert_eq!(host.saw(), (0, 1));
    relay.counted("a.example", (1, 0)).await;
    true
}
