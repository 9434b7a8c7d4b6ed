//! RFC 8689: a sender who says REQUIRETLS gets all or nothing, through a kill and its notifications; a sender who says
//! `TLS-Required: No` gets the mail through, and the reports tell the truth.

use crate::world::ca::Flaw;
use crate::world::client::{Client, Reply, message};
use crate::world::mx::{Message, MxHost};
use crate::world::relay::{Relay, Setup};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay_with};

/// A relay with a certificate for its applications, and a resolver whose AD flag it believes once the self-test has seen it.
async fn believing_relay(world: &World) -> Relay {
    let dns = "dnssec = \"trust-ad\"\nself_test = { secure = \"sender.example\" }".to_owned();
    let keys = vec![("dns", dns), ("tls", world.certificate_of_relay())];
    relay_with(world, Setup { keys, ..Setup::default() }).await
}

/// Waits until applications can ask for REQUIRETLS: at the latest after the second self-test, a minute after a silent one.
async fn offered(world: &World, relay: &Relay) {
    let (address, root) = (relay.submission(), world.ca.pem());
    let offer = async || {
        let mut client = Client::connect_tls(address, &root, "relay.lab.example").await.ok()?;
        let ehlo = client.command("EHLO app.example").await.ok()?;
        ehlo.lines.iter().any(|l| l == "REQUIRETLS").then_some(())
    };
    let found = eventually(PATIENCE, offer).await;
    assert!(found.is_some(), "REQUIRETLS is not offered:\n{}", relay.log_text());
}

/// Submits inside TLS with these MAIL parameters and this content.
async fn submit(world: &World, relay: &Relay, parameters: &str, to: &str, content: &str) -> Reply {
    let address = relay.submission();
    let mut client = Client::connect_tls(address, &world.ca.pem(), "relay.lab.example").await.unwrap();
    let (mail, rcpt) = (format!("MAIL FROM:<{SENDER}>{parameters}"), format!("RCPT TO:<{to}>"));
    for reply in client.pipeline(&[&mail, &rcpt, "DATA"]).await.unwrap() {
        assert!(reply.code < 400, "{reply:?}");
    }
    client.command(&format!("{content}.")).await.unwrap()
}

async fn nth(host: &MxHost, n: usize) -> Message {
    let found = async || host.seen().messages.get(n - 1).cloned();
    eventually(PATIENCE, found).await.expect("a message")
}

// RTLS-01, RTLS-04, RTLS-26, RTLS-28, RTLS-29, RTLS-40 to RTLS-43, RTLS-50, RTLS-53
#[tokio::test(flavor = "multi_thread")]
async fn all_or_nothing_and_a_notification_that_keeps_the_promise() {
    let world = World::start().await;
    let sender = world.domain("sender.example").await;
    world.dns.sign("sender.example");
    let able = world.enforcing_domain("able.example").await;
    able.behave(|b| b.requiretls = true);
    able.certificate(&world.ca.issue(Flaw::Expired, &[able.name()]));
    let unable = world.enforcing_domain("unable.example").await;
    let unsigned = world.domain("unsigned.example").await;
    unsigned.behave(|b| b.requiretls = true);
    let mut relay = believing_relay(&world).await;
    offered(&world, &relay).await;
    let content = |to: &str| message(SENDER, to, "private");

    // A broken certificate is waited for, through a kill.
    let to = "u@able.example";
    assert_eq!(submit(&world, &relay, " REQUIRETLS", to, &content(to)).await.code, 250);
    let row = relay.deferred(to).await;
    assert_eq!(
        (&row["sender_tls"], &row["last"]["enhanced"]),
        (&"requiretls".into(), &"4.7.5".into()),
        "{row}"
    );
    relay.kill().await;
    able.certificate(&world.ca.issue(Flaw::None, &[able.name()]));
    relay.run().await;
    offered(&world, &relay).await;
    let id = row["id"].as_str().unwrap();
    assert_eq!(relay.json(&["queue", "show", id]).await["sender_tls"], "requiretls");
    relay.json(&["queue", "retry", id]).await;
    relay.gone(to).await;
    let taken = nth(&able, 1).await;
    assert!(taken.tls && taken.mail.starts_with("FROM:<app@sender.example>"), "{taken:?}");
    assert!(taken.mail.ends_with(" REQUIRETLS"), "{}", taken.mail);
    let line = relay.delivered(to).await;
    assert_eq!(
        (&line["security"], &line["sender_tls"], &line["requiretls"]),
        (&"verified".into(), &"requiretls".into(), &true.into())
    );
    assert_eq!(able.saw(), (0, 1));

    // What no host offers, and a name that nothing vouches for, are final; the notification goes to a host that knows
    // nothing of REQUIRETLS, without the body.
    for (n, to) in [(1, "u@unable.example"), (2, "u@unsigned.example")] {
        assert_eq!(submit(&world, &relay, " RET=FULL REQUIRETLS", to, &content(to)).await.code, 250);
        relay.gone(to).await;
        let line = relay.delivery(to, 1).await;
        assert_eq!((&line["outcome"], &line["enhanced"]), (&"bounced".into(), &"5.7.30".into()), "{line:?}");
        let dsn = nth(&sender, n).await;
        assert!(
            dsn.tls && dsn.mail.starts_with("FROM:<>") && !dsn.mail.contains("REQUIRETLS"),
            "{}",
            dsn.mail
        );
        let text = dsn.text();
        assert!(text.contains("Status: 5.7.30") && text.contains("(REQUIRETLS)"), "{text}");
        assert!(text.contains("text/rfc822-headers") && !text.contains("Hello."), "{text}");
    }
    assert_eq!((unable.saw(), unsigned.seen().connections.len()), ((0, 0), 0));
    // To a host that keeps it, the notification is protected as the message was.
    sender.behave(|b| b.requiretls = true);
    sender.hang_up();
    let to = "u@unable.example";
    assert_eq!(submit(&world, &relay, " REQUIRETLS", to, &content(to)).await.code, 250);
    let dsn = nth(&sender, 3).await;
    assert!(dsn.mail.ends_with(" REQUIRETLS"), "{}", dsn.mail);

    // The other wish: delivered where ordinary mail waits, and counted as the failure that it is.
    unable.certificate(&world.ca.issue(Flaw::Expired, &[unable.name()]));
    let wish = format!("TLS-Required: No\r\n{}", content("v@unable.example"));
    assert_eq!(submit(&world, &relay, "", "v@unable.example", &wish).await.code, 250);
    let line = relay.delivery("v@unable.example", 1).await;
    assert_eq!(
        (&line["outcome"], &line["security"], &line["sender_tls"]),
        (&"delivered".into(), &"encrypted".into(), &"tls-required-no".into()),
        "{line:?}"
    );
    assert!(nth(&unable, 1).await.text().contains("\r\nTLS-Required: No\r\n"));
    assert_eq!(submit(&world, &relay, "", "w@unable.example", &content("w@unable.example")).await.code, 250);
    relay.deferred("w@unable.example").await;
    relay.session_with("unable.example", "certificate-expired").await;
    assert_eq!(unable.saw(), (0, 1));

    // `check` says the same beforehand.
    for (domain, answer, part) in [
        ("able.example", "delivered", "would be delivered to mx.able.example now, security level verified"),
        ("unsigned.example", "returned", "5.7.30, requiretls_missing"),
    ] {
        let report = relay.json(&["check", domain, "--probe"]).await;
        let told = &report["requiretls"];
        assert_eq!((&told["answer"], &told["accepted"]), (&answer.into(), &true.into()), "{told}");
        let sentence = told["sentence"].as_str().unwrap();
        assert!(sentence.starts_with("Mail with REQUIRETLS for ") && sentence.contains(part), "{sentence}");
        let text = relay.cli(&["check", domain, "--probe"]).await.unwrap();
        assert!(String::from_utf8_lossy(&text.stdout).contains(sentence));
        assert_eq!(report["answer"], "delivered");
    }
}
