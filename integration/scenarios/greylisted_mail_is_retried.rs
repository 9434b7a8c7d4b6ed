//! A greylisting host gets a second attempt by itself, after the configured wait.

use crate::world::World;
use crate::world::relay::Setup;
use crate::{SENDER, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn the_second_attempt_delivers() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    host.behave(|b| b.greylist = true);
    let keys = vec![("queue", "retry = [\"1s\"]".to_owned())];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "grey").await.code, 250);
    let first = relay.delivery("u@a.example", 1).await;
    assert_eq!((&first["outcome"], &first["code"]), (&"deferred".into(), &451.into()), "{first:?}");
    assert_eq!((&first["enhanced"], &first["stage"]), (&"4.7.1".into(), &"rcpt".into()), "{first:?}");
    let second = relay.delivery("u@a.example", 2).await;
    assert_eq!((&second["outcome"], &second["attempt"]), (&"delivered".into(), &2.into()), "{second:?}");
    relay.gone("u@a.example").await;
    // The second attempt may use the first one's session again.
    let connections = host.seen().connections.len();
    relay.counted("a.example", (i64::try_from(connections).unwrap(), 0)).await;
    let seen = host.seen();
    assert_eq!((seen.messages.len(), seen.mail_commands(true), seen.mail_commands(false)), (1, 2, 0));
}
