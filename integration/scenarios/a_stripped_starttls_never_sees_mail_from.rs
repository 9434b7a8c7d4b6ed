//! Enforce, and each way in which a host fails to do STARTTLS: no envelope is ever sent.

use crate::world::World;
use crate::world::mx::StartTls;
use crate::world::relay::Setup;
use crate::{SENDER, relay_with};

#[tokio::test(flavor = "multi_thread")]
async fn no_envelope_without_starttls() {
    let world = World::start().await;
    let relay = relay_with(&world, Setup::default()).await;
    for (domain, starttls, failure) in [
        ("stripped.example", StartTls::Stripped, "starttls-not-supported"),
        ("refused.example", StartTls::Refused, "starttls-not-supported"),
        ("broken.example", StartTls::Octets(b"no handshake\r\n"), "validation-failure"),
    ] {
        let host = world.enforcing_domain(domain).await;
        host.behave(|b| b.starttls = starttls);
        let to = format!("u@{domain}");
        assert_eq!(relay.submit(SENDER, &to, domain).await.code, 250);
        let row = relay.deferred(&to).await;
        assert_eq!(row["last"]["tls_failure"], failure, "{row}");
        assert!(row["last"]["enhanced"].as_str().unwrap().starts_with("4.7."), "{row}");
        relay.session_with(domain, failure).await;
        let seen = host.seen();
        assert!(!seen.connections.is_empty(), "{domain} was never tried");
        assert_eq!(
            (seen.mail_commands(false), seen.mail_commands(true), seen.messages.len()),
            (0, 0, 0),
            "{domain}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_a_policy_gets_its_mail_in_the_clear() {
    let world = World::start().await;
    let host = world.domain("plain.example").await;
    host.behave(|b| b.starttls = StartTls::Stripped);
    let relay = relay_with(&world, Setup::default()).await;
    assert_eq!(relay.submit(SENDER, "u@plain.example", "clear").await.code, 250);
    let line = relay.delivery("u@plain.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"plain".into()), "{line:?}");
    relay.gone("u@plain.example").await;
    assert_eq!(host.seen().messages.len(), 1);
}
