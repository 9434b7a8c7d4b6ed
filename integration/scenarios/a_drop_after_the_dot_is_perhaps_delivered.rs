//! OUT-45: silence after the final dot means "perhaps delivered": deferred, marked, one connection per attempt.

use crate::world::World;
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn the_attempt_is_marked_uncertain_and_repeated() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let spare = world.mx_host("mx2.a.example").await;
    world.dns.mx("a.example", &[(10, host.name()), (20, spare.name())]);
    world.publish_policy("a.example", "1", "enforce", &["*.a.example"]);
    host.behave(|b| b.drop_after_dot = 1);
    let relay = relay(&world).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "perhaps").await.code, 250);
    let row = relay.deferred("u@a.example").await;
    assert_eq!(row["last"]["enhanced"], "4.4.2", "{row}");
    let line = relay.delivery("u@a.example", 1).await;
    assert_eq!(line["maybe_delivered"], true, "{line:?}");
    assert_eq!(host.saw(), (0, 1));
    assert_eq!(host.seen().connections.len(), 1);
    assert!(spare.seen().connections.is_empty(), "no other host in the same attempt");

    relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
    assert_eq!(relay.delivery("u@a.example", 2).await["outcome"], "delivered");
    relay.gone("u@a.example").await;
    relay.counted("a.example", (2, 0)).await;
    let seen = host.seen();
    assert_eq!(seen.messages.iter().map(|m| m.answered).collect::<Vec<_>>(), [false, true]);
}
