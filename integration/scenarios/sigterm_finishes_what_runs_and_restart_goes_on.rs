//! DUR-18: SIGTERM lets a running attempt finish, ends with 0, and a restart delivers the rest.

use std::time::Duration;

use crate::world::{World, eventually};
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
    eventually(Duration::from_secs(30), dotted).await.expect("the attempt runs");
    relay.stop().await;
    assert_eq!(host.seen().messages.iter().map(|m| m.answered).collect::<Vec<_>>(), [true]);

    relay.run().await;
    assert!(relay.waiting("u@a.example").await.is_none(), "delivered before the end, so not repeated");
    let row = relay.waiting("u@b.example").await.expect("it still waits");
    relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
    relay.gone("u@b.example").await;
    assert_eq!((host.seen().messages.len(), other.seen().messages.len()), (1, 1));
}
