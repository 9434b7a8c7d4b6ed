//! Enforce with an expired certificate: the mail waits and says why; after the repair it goes out, verified.

use crate::world::ca::Flaw;
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay};

#[tokio::test(flavor = "multi_thread")]
async fn mail_waits_for_the_repair() {
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    let relay = relay(&world).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "one").await.code, 250);

    let row = relay.deferred("u@a.example").await;
    assert_eq!(row["last"]["tls_failure"], "certificate-expired", "{row}");
    assert!(row["last"]["enhanced"].as_str().unwrap().starts_with("4.7."), "{row}");
    assert_eq!(row["last"]["host"], "mx.a.example");
    let line = relay.delivery("u@a.example", 1).await;
    assert_eq!((&line["outcome"], &line["policy_mode"]), (&"deferred".into(), &"enforce".into()), "{line:?}");
    relay.session_with("a.example", "certificate-expired").await;
    {
        let seen = host.seen();
        assert!(!seen.connections.is_empty());
        assert_eq!((seen.mail_commands(true), seen.mail_commands(false), seen.messages.len()), (0, 0, 0));
        assert!(seen.connections.iter().all(|c| c.sni.as_deref().is_none_or(|s| s == "mx.a.example")));
    }
    let shown = relay.json(&["queue", "show", row["id"].as_str().unwrap()]).await;
    assert!(shown.to_string().contains("certificate-expired"), "{shown}");

    // A first self-test without an answer is something to look at until the second, a minute later.
    let sound = async || relay.cli(&["status", "--json"]).await.ok().filter(|o| o.status.success());
    let status = eventually(PATIENCE, sound).await.expect("a sound relay");
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let cause = &status["queue"]["causes"][0];
    assert_eq!((&cause["cause"], &cause["recipients"]), (&"tls_certificate".into(), &1.into()), "{status}");
    assert_eq!((&cause["example"]["id"], &cause["example"]["host"]), (&row["id"], &"mx.a.example".into()));
    assert!(cause["example"]["certificate"]["not_after"].is_string() && cause["example"]["promised"] == true);
    let screen = relay.cli(&["status"]).await.unwrap();
    let screen = String::from_utf8(screen.stdout).unwrap();
    assert!(screen.contains("certificate of mx.a.example not acceptable: expired"), "{screen}");

    host.certificate(&world.ca.issue(Flaw::None, &[host.name()]));
    relay.json(&["queue", "retry", row["id"].as_str().unwrap()]).await;
    let line = relay.delivery("u@a.example", 2).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"verified".into()), "{line:?}");
    relay.gone("u@a.example").await;
    let seen = host.seen();
    assert_eq!((seen.messages.len(), seen.mail_commands(false)), (1, 0));
    assert!(seen.messages[0].tls && seen.messages[0].text().contains("Subject: one\r\n"));
}
