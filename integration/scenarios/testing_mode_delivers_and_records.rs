//! Testing mode is evaluated in full, recorded, and never in the way.

use crate::world::World;
use crate::world::ca::Flaw;
use crate::world::mx::StartTls;
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn broken_testing_domains_get_their_mail_and_leave_a_record() {
    let world = World::start().await;
    let expired = world.domain("expired.example").await;
    world.publish_policy("expired.example", "1", "testing", &[expired.name()]);
    expired.certificate(&world.ca.issue(Flaw::Expired, &[expired.name()]));
    let stripped = world.domain("stripped.example").await;
    world.publish_policy("stripped.example", "1", "testing", &[stripped.name()]);
    stripped.behave(|b| b.starttls = StartTls::Stripped);
    let unlisted = world.domain("unlisted.example").await;
    world.publish_policy("unlisted.example", "1", "testing", &["mx.elsewhere.example"]);

    let relay = relay(&world).await;
    for (domain, host, security, failure) in [
        ("expired.example", &expired, "encrypted", "certificate-expired"),
        ("stripped.example", &stripped, "plain", "starttls-not-supported"),
        ("unlisted.example", &unlisted, "encrypted", "validation-failure"),
    ] {
        let to = format!("u@{domain}");
        assert_eq!(relay.submit(SENDER, &to, domain).await.code, 250);
        let line = relay.delivery(&to, 1).await;
        assert_eq!(
            (&line["outcome"], &line["security"]),
            (&"delivered".into(), &security.into()),
            "{line:?}"
        );
        relay.session_with(domain, failure).await;
        relay.gone(&to).await;
        assert_eq!(host.seen().messages.len(), 1, "{domain}");
    }
}
