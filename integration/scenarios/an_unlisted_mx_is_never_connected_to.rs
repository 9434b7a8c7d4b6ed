//! Enforce with an MX host that the policy does not list: no connection at all.

use crate::world::World;
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn an_unlisted_host_is_skipped_and_a_listed_one_used() {
    let world = World::start().await;
    let unlisted = world.domain("none.example").await;
    world.publish_policy("none.example", "1", "enforce", &["mx.elsewhere.example"]);
    let (first, second) = (world.mx_host("mx.wrong.example").await, world.mx_host("mx.some.example").await);
    world.dns.mx("some.example", &[(10, first.name()), (20, second.name())]);
    world.publish_policy("some.example", "1", "enforce", &[second.name()]);

    let relay = relay(&world).await;
    for to in ["u@none.example", "u@some.example"] {
        assert_eq!(relay.submit(SENDER, to, "unlisted").await.code, 250);
    }
    let row = relay.deferred("u@none.example").await;
    assert_eq!(row["last"]["tls_failure"], "validation-failure", "{row}");
    relay.session_with("none.example", "validation-failure").await;
    let line = relay.delivery("u@some.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"verified".into()), "{line:?}");
    assert_eq!(line["mx"], "mx.some.example");
    relay.gone("u@some.example").await;
    assert!(unlisted.seen().connections.is_empty() && first.seen().connections.is_empty());
    assert_eq!(second.seen().messages.len(), 1);
}
