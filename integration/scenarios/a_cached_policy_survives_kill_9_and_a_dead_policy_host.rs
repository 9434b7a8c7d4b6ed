//! STS-48: a policy once fetched protects the domain through kill -9, a dead policy host and vanished records.

use crate::world::World;
use crate::world::dns::Fault;
use crate::world::mx::StartTls;
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn the_cached_policy_still_holds() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let mut relay = relay(&world).await;
    relay.submit(SENDER, "first@a.example", "prime").await;
    assert_eq!(relay.delivery("first@a.example", 1).await["security"], "verified");
    relay.gone("first@a.example").await;

    relay.kill().await;
    world.dns.fault("_mta-sts.a.example", Some(Fault::NxDomain));
    world.dns.a("mta-sts.a.example", world.address(254).ip());
    host.behave(|b| b.starttls = StartTls::Stripped);
    relay.run().await;

    relay.submit(SENDER, "second@a.example", "stripped").await;
    let row = relay.deferred("second@a.example").await;
    assert_eq!(row["last"]["tls_failure"], "starttls-not-supported", "{row}");
    assert_eq!(relay.json(&["policy", "show", "a.example"]).await["policy"]["mode"], "enforce");
    assert_eq!(host.saw(), (0, 1));

    host.behave(|b| b.starttls = StartTls::Offered);
    relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
    let line = relay.delivery("second@a.example", 2).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"verified".into()), "{line:?}");
    relay.gone("second@a.example").await;
    assert_eq!(host.saw(), (0, 2));
    relay.session_with("a.example", "starttls-not-supported").await;
}
