//! OUT-03, OUT-04: a resolver that is silent, says SERVFAIL, or denies everything costs a deferral and nothing else.

use crate::world::World;
use crate::world::dns::Fault;
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn mail_waits_for_the_resolver() {
    let world = World::start().await;
    let relay = relay(&world).await;
    for (domain, fault) in [
        ("servfail.example", Fault::ServFail),
        ("refused.example", Fault::Refused),
        ("silent.example", Fault::Silent),
        ("denied.example", Fault::NxDomain),
    ] {
        let host = world.domain(domain).await;
        world.dns.a(domain, host.address().ip());
        world.dns.fault_everywhere(Some(fault));
        let to = format!("u@{domain}");
        assert_eq!(relay.submit(SENDER, &to, "dns").await.code, 250);
        let row = relay.deferred(&to).await;
        assert_eq!(
            (&row["last"]["enhanced"], &row["last"]["tls_failure"]),
            (&"4.4.3".into(), &().into()),
            "{row}"
        );
        assert!(host.seen().connections.is_empty(), "never the domain's own address instead of its MX");
        assert!(relay.sessions(domain).is_empty(), "no session, no record");
        world.dns.fault_everywhere(None);
        relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
        assert_eq!(relay.delivery(&to, 2).await["outcome"], "delivered");
        relay.gone(&to).await;
        assert_eq!(host.saw(), (0, 1));
        relay.counted(domain, (1, 0)).await;
    }
}
