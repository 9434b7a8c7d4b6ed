//! A host in its pause was not asked: what the other hosts say does not end the message (OUT-22, QUE-09).

use crate::world::World;
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_beside_a_paused_host_waits() {
    let world = World::start().await;
    let nobody = world.next_address().ip();
    world.dns.a("dead.example", nobody);
    world.dns.mx("first.example", &[(10, "dead.example")]);
    let refuses = world.mx_host("mx.refuses.example").await;
    refuses.behave(|b| b.greeting = Some("554 5.7.1 no".to_owned()));
    let small = world.mx_host("mx.small.example").await;
    small.behave(|b| b.size = Some(100));
    for (domain, preference, host) in [
        ("refuses.example", 10, &refuses),
        ("refuses-last.example", 30, &refuses),
        ("small.example", 10, &small),
    ] {
        world.dns.mx(domain, &[(preference, host.name()), (20, "dead.example")]);
    }
    let relay = relay(&world).await;
    // The failed dial pauses the host for all.
    relay.submit(SENDER, "u@first.example", "first").await;
    assert_eq!(relay.delivery("u@first.example", 1).await["outcome"], "deferred");
    for domain in ["refuses.example", "refuses-last.example", "small.example"] {
        let to = format!("u@{domain}");
        relay.submit(SENDER, &to, domain).await;
        let line = relay.delivery(&to, 1).await;
        assert_eq!((&line["outcome"], &line["enhanced"]), (&"deferred".into(), &"4.4.1".into()), "{line:?}");
    }
    assert_eq!(refuses.seen().connections.len(), 2, "the host that answers was asked each time");
}
