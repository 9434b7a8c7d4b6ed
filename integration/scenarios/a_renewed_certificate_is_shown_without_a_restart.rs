//! DUR-23: a renewed certificate is shown to new clients by itself or at SIGHUP; one that is no use is not.

use crate::world::ca::{Authority, Flaw, Leaf};
use crate::world::client::{Client, message};
use crate::world::relay::Setup;
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay_with};

/// The name that clients expect.
const NAME: &str = "relay.lab.example";

#[tokio::test(flavor = "multi_thread")]
async fn new_clients_see_the_new_one_and_old_sessions_go_on() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let place = |certificate: &Leaf, key: &Leaf| {
        std::fs::write(world.dir.path().join("chain.pem"), &certificate.chain_pem).unwrap();
        std::fs::write(world.dir.path().join("key.pem"), &key.key_pem).unwrap();
    };
    // Each certificate has an authority of its own, so that a client can tell which it was shown.
    let authorities = ["first", "second", "third"].map(Authority::new);
    let leaves = authorities.each_ref().map(|a| a.issue(Flaw::None, &[NAME]));
    place(&leaves[0], &leaves[0]);
    let sections = "[tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n".to_owned();
    let relay = relay_with(&world, Setup { sections, ..Setup::default() }).await;
    let connect =
        async |n: usize| Client::connect_tls(relay.submission(), &authorities[n].pem(), NAME).await.ok();
    let mut old = connect(0).await.expect("the first certificate");

    // The key belongs to another certificate.
    place(&leaves[1], &leaves[0]);
    relay.signal("HUP").await;
    let kept = async || relay.log_text().contains("certificate-not-reloaded").then_some(());
    eventually(PATIENCE, kept).await.expect("it says so");
    assert!(connect(0).await.is_some() && connect(1).await.is_none(), "the old one stays");

    place(&leaves[1], &leaves[1]);
    relay.signal("HUP").await;
    eventually(PATIENCE, async || connect(1).await).await.expect("the second certificate");

    place(&leaves[2], &leaves[2]);
    eventually(PATIENCE, async || connect(2).await).await.expect("the third, by itself");
    assert!(connect(0).await.is_none() && connect(1).await.is_none());

    let content = message(SENDER, "u@a.example", "old-session");
    assert_eq!(old.submit(SENDER, &["u@a.example"], &content).await.unwrap().code, 250);
    assert_eq!(relay.delivery("u@a.example", 1).await["security"], "verified");
    relay.gone("u@a.example").await;
    relay.counted("a.example", (1, 0)).await;
    assert_eq!(host.saw(), (0, 1));
}
