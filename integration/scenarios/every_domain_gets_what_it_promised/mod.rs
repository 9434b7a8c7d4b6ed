//! One private internet in which every domain has a promise or a fault of its own, and one relay that must be
//! right about each of them: what became of the mail, why, how well secured, what the report will say, and what
//! nobody may have seen.
//!
//! The rows lie in the files beside this one. Every expectation comes from the requirements, not from the relay.

mod cached;
mod certificates;
mod dialogue;
mod discovery;
mod names;
mod policies;
mod policy_files;
mod routes;
mod row;
mod signed;
mod stage;
mod starttls;

use std::collections::HashSet;

use futures_util::future::join_all;

use crate::world::client::Client;
use crate::world::relay::{Relay, Setup};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay_with};
use row::{Row, Want, check, check_again};
use stage::Stage;

pub(crate) use row::records;

/// What the relay of this internet differs in. Its resolver validates, as far as the AD flag goes; and the
/// networks that no MX host may lie in leave room for those that do.
fn setup() -> Setup {
    Setup {
        keys: vec![
            ("dns", "dnssec = \"trust-ad\"".to_owned()),
            ("delivery", "deny_networks = [\"private\", \"link-local\", \"127.0.0.0/24\"]".to_owned()),
            ("mta_sts", "fetch_timeout = \"20s\"".to_owned()),
        ],
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_domain_gets_what_it_promised() {
    let world = World::start().await;
    let sender = world.domain("sender.example").await;
    let rows: Vec<Row> = [
        policies::rows(),
        policy_files::rows(),
        discovery::rows(),
        cached::rows(),
        certificates::rows(),
        starttls::rows(),
        names::rows(),
        routes::rows(),
        signed::rows(),
        dialogue::rows(),
    ]
    .into_iter()
    .flatten()
    .collect();
    let distinct: HashSet<&str> = rows.iter().map(|r| r.domain).collect();
    assert_eq!(distinct.len(), rows.len(), "each domain has one row");
    assert!(rows.len() >= 66, "{} domains", rows.len());

    let mut stages: Vec<Stage<'_>> = rows.iter().map(|r| Stage::new(&world, r.domain)).collect();
    for (row, stage) in rows.iter().zip(&mut stages) {
        (row.stage)(stage);
    }
    let mut relay = relay_with(&world, setup()).await;
    prime(&mut relay, &rows, &mut stages).await;

    submit_all(&relay, &rows).await;
    let wrong: Vec<String> =
        join_all(rows.iter().zip(&stages).map(|(row, stage)| check(&relay, row, stage))).await.concat();
    assert!(wrong.is_empty(), "{} of {} domains:\n{}", wrong.len(), rows.len(), wrong.join("\n"));

    // What was returned came back, and nothing else did.
    let returned = rows.iter().filter(|r| r.wants.iter().any(Want::is_bounce)).count();
    let dsns = async || (sender.seen().messages.len() >= returned).then_some(());
    assert!(eventually(PATIENCE, dsns).await.is_some(), "not all returned mail came back");
    assert_eq!(sender.seen().messages.len(), returned, "DSNs");
    let wrong = second_attempts(&relay, &rows, &stages).await;
    assert!(wrong.is_empty(), "at the second attempt {} domains:\n{}", wrong.len(), wrong.join("\n"));
}

/// Lets the relay fetch the policies that a row then takes away, and gives it a resolver with an empty memory.
async fn prime(relay: &mut Relay, rows: &[Row], stages: &mut [Stage<'_>]) {
    for row in rows.iter().filter(|r| r.later.is_some()) {
        let output = relay.cli(&["policy", "refresh", row.domain]).await.unwrap();
        assert!(output.status.success(), "{}: {}", row.domain, String::from_utf8_lossy(&output.stderr));
    }
    relay.stop().await;
    for (row, stage) in rows.iter().zip(stages) {
        if let Some(later) = row.later {
            stage.forget_requests();
            later(stage);
        }
    }
    relay.run().await;
}

async fn submit_all(relay: &Relay, rows: &[Row]) {
    let mut client = Client::connect(relay.submission()).await.unwrap();
    for row in rows {
        let mut commands = vec![format!("MAIL FROM:<{SENDER}>{}", row.parameters)];
        commands.extend(row.addresses().map(|r| format!("RCPT TO:<{r}>")));
        commands.push("DATA".to_owned());
        for command in &commands {
            let reply = client.command(command).await.unwrap();
            assert!(reply.code < 400, "{}: {command}: {reply:?}", row.domain);
        }
        let content = format!(
            "From: <{SENDER}>\r\nTo: undisclosed:;\r\nSubject: {domain}\r\nDate: Sun, 22 Nov 2026 08:00:00 +0000\r\n\
             Message-ID: <{domain}@app.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Transfer-Encoding: 8bit\r\n\r\n{body}\r\n.",
            domain = row.domain,
            body = row.body
        );
        assert_eq!(client.command(&content).await.unwrap().code, 250, "{}", row.domain);
    }
}

/// What waits is tried once more. Nothing is returned that waited before, nothing leaks, and rows that say so get
/// their mail now.
async fn second_attempts(relay: &Relay, rows: &[Row], stages: &[Stage<'_>]) -> Vec<String> {
    relay.json(&["queue", "retry", "--all", "--yes"]).await;
    join_all(rows.iter().zip(stages).map(|(row, stage)| check_again(relay, row, stage))).await.concat()
}
