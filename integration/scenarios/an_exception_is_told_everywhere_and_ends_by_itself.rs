//! A dated exception: mail goes although a promise is broken, everything that speaks of the message names it, it is warned
//! of before it ends, and it ends by itself when the domain is sound again, also across a restart.

use std::time::Duration;

use serde_json::Value;

use crate::world::ca::Flaw;
use crate::world::relay::{Relay, Setup};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay_with};

/// The last day of an exception that ends within a week.
fn soon() -> String {
    let days = Duration::from_secs(3 * 86_400);
    let then = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap() + days;
    sealpost::clock::Timestamp::from_millis(i64::try_from(then.as_millis()).unwrap()).utc_day()
}

/// Waits for a line of the log with all these words.
async fn logged(relay: &Relay, words: &[&str]) {
    let said = async || {
        let log = relay.log_text();
        log.lines().any(|l| words.iter().all(|w| l.contains(w))).then_some(())
    };
    assert!(eventually(PATIENCE, said).await.is_some(), "{words:?}:\n{}", relay.log_text());
}

/// `status --json`, its exit status aside.
async fn status(relay: &Relay) -> Value {
    serde_json::from_slice(&relay.cli(&["status", "--json"]).await.unwrap().stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exception_is_told_everywhere_and_ends_by_itself() {
    let world = World::start().await;
    let sender = world.domain("sender.example").await;
    let host = world.enforcing_domain("broken.example").await;
    host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    host.behave(|b| {
        b.rcpt.insert("nobody@broken.example".to_owned(), "550 5.1.1 no such mailbox".to_owned());
    });
    let until = soon();
    let sections = format!(
        "[[exception]]\ndomain = \"broken.example\"\nallow = \"encrypt\"\nuntil = \"{until}\"\nreason = \"ticket 4711\"\n\
         by = \"ops\"\n"
    );
    let mut relay = relay_with(&world, Setup { sections, ..Setup::default() }).await;
    logged(&relay, &["exception-ends-soon", "broken.example", &until, "ticket 4711"]).await;

    assert_eq!(relay.submit(SENDER, "u@broken.example", "one").await.code, 250);
    let line = relay.delivery("u@broken.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"encrypted".into()), "{line:?}");
    let told = line["exception"].as_str().unwrap();
    assert!(told.starts_with(&format!("encrypt until {until}, by ops: ticket 4711; without it")), "{told}");
    let shown = relay.json(&["queue", "show", line["queue_id"].as_str().unwrap()]).await;
    let timeline = shown["timeline"].to_string();
    assert!(timeline.contains("good enough by exception: encrypt until"), "{timeline}");
    // RFC 8460 §4.3: the domain is told what was broken all the same.
    relay.session_with("broken.example", "certificate-expired").await;

    assert_eq!(relay.submit(SENDER, "nobody@broken.example", "two").await.code, 250);
    assert_eq!(relay.delivery("nobody@broken.example", 1).await["outcome"], "bounced");
    let notification = async || sender.seen().messages.first().map(|m| m.text());
    let notification = eventually(PATIENCE, notification).await.unwrap();
    let words = notification.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("Until {until}, by permission of ops (ticket 4711)")), "{notification}");

    // A first self-test without an answer is something to look at until the second, a minute later.
    let sound = async || Some(status(&relay).await).filter(|told| told["sound"] == true);
    let told = eventually(PATIENCE, sound).await.expect("a sound relay");
    assert_eq!(told["exceptions"][0]["state"], "ends-soon", "{told}");
    let look_at = told["look_at"].as_array().unwrap();
    let warned = look_at.iter().find(|f| f["check"] == "exception").unwrap();
    assert!(warned["text"].as_str().unwrap().contains("by ops (ticket 4711): it ends soon"), "{warned}");

    host.certificate(&world.ca.issue(Flaw::None, &[host.name()]));
    assert_eq!(relay.submit(SENDER, "v@broken.example", "three").await.code, 250);
    let line = relay.delivery("v@broken.example", 1).await;
    assert_eq!((&line["security"], &line["exception"]), (&"verified".into(), &"".into()), "{line:?}");
    logged(&relay, &["exception-not-needed", "broken.example"]).await;
    assert_eq!(status(&relay).await["exceptions"][0]["state"], "not-needed");

    // Broken again, and started again: the permission does not come back.
    host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    relay.stop().await;
    relay.run().await;
    assert_eq!(relay.submit(SENDER, "w@broken.example", "four").await.code, 250);
    let row = relay.deferred("w@broken.example").await;
    assert_eq!(row["last"]["tls_failure"], "certificate-expired", "{row}");
    assert_eq!(status(&relay).await["exceptions"][0]["state"], "not-needed");
}
