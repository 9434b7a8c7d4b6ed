//! A report goes by mail to a domain under an enforce policy whose certificate has run out: it arrives all the same,
//! and leaves no trace in the next report.

use crate::world::ca::Flaw;
use crate::world::{World, clear_of_midnight};
use crate::{SENDER, relay_with};

// RPT-27, RPT-84, RPT-85, RPT-86
#[tokio::test(flavor = "multi_thread")]
async fn reports_do_not_wait_for_what_they_tell_of() {
    clear_of_midnight().await;
    let world = World::start().await;
    world.domain("sender.example").await;
    world.domain("a.example").await;
    let host = world.enforcing_domain("receiver.example").await;
    host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    for domain in ["a.example", "receiver.example"] {
        let record = "v=TLSRPTv1; rua=mailto:tlsrpt@receiver.example";
        world.dns.txt(&format!("_smtp._tls.{domain}"), record);
    }
    let relay = relay_with(&world, world.reporting("sender.example")).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "counted").await.code, 250);
    relay.counted("a.example", (1, 0)).await;
    relay.json(&["report", "send"]).await;

    let line = relay.delivery("tlsrpt@receiver.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"encrypted".into()), "{line:?}");
    relay.gone("tlsrpt@receiver.example").await;
    let content = host.seen().messages.first().expect("it arrived").text();
    for field in ["TLS-Required: No", "TLS-Report-Domain: a.example", "TLS-Report-Submitter: sender.example"]
    {
        assert!(content.contains(&format!("\r\n{field}\r\n")), "{field}: {content}");
    }
    assert!(content.contains("DKIM-Signature: "), "{content}");
    // A message of an application to the same domain waits, and is what the next report tells of.
    assert_eq!(relay.submit(SENDER, "u@receiver.example", "waits").await.code, 250);
    relay.deferred("u@receiver.example").await;
    relay.counted("receiver.example", (0, 1)).await;
    let next = relay.json(&["report", "preview"]).await;
    let of = |d: &str| {
        next.as_array().unwrap().iter().filter(|r| r["policies"][0]["policy"]["policy-domain"] == d).count()
    };
    assert_eq!(
        (of("a.example"), of("receiver.example"), next.as_array().unwrap().len()),
        (1, 1, 2),
        "{next}"
    );
    assert_eq!(host.saw().1, 1, "the report and nothing else");
}
