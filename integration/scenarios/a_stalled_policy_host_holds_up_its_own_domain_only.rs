//! STS-22, STS-27: a policy host that never answers costs its own domain the fetch limit, and nobody else anything.

use std::time::Duration;

use crate::world::World;
use crate::world::policy_host::Page;
use crate::world::relay::Setup;
use crate::{SENDER, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn others_go_on_and_the_domain_is_delivered_after_the_limit() {
    let world = World::start().await;
    let stalled = world.enforcing_domain("stalled.example").await;
    let page = Page { delay: Duration::from_secs(3600), ..Page::policy("") };
    world.policies.answer("mta-sts.stalled.example", page);
    let sound = world.enforcing_domain("sound.example").await;
    let keys = vec![("mta_sts", "fetch_timeout = \"30s\"".to_owned())];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    relay.submit(SENDER, "u@stalled.example", "stalled").await;
    relay.submit(SENDER, "u@sound.example", "sound").await;
    assert_eq!(relay.delivery("u@sound.example", 1).await["security"], "verified");
    assert!(stalled.seen().connections.is_empty(), "the first message waits for the policy");
    let line = relay.delivery("u@stalled.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"encrypted".into()), "{line:?}");
    relay.gone("u@stalled.example").await;
    relay.session_with("stalled.example", "sts-policy-fetch-error").await;
    assert_eq!((stalled.seen().messages.len(), sound.seen().messages.len()), (1, 1));
}
