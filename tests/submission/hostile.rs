//! The hostile dialogues of `tests/hostile/submission.json`, run in process against real sockets.
//!
//! Beside the replies it checks what must not have happened: a message is in the queue if and only if a 250
//! named it, none is for `victim@example.com`, and after content the next command gets the next reply.

use std::path::Path;
use std::time::Duration;

use sealpost::queue::NewMessage;
use sealpost::submission::Timers;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::{Client, PATIENCE, start};
use crate::relay::{Relay, relay};

/// Cases for what this release does not have.
const SKIPPED: &[(&str, &str)] =
    &[("HS-102", "LIM-14: a bound on key updates and handshakes per source comes later")];

/// Every text that a pattern stands for, from literals, `\x`, `[ab]` and `(a|b)`; `$` at the end stays.
fn expand(pattern: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut rest = pattern.strip_prefix('^').unwrap_or(pattern);
    while let Some(c) = rest.chars().next() {
        let (choices, len): (Vec<String>, usize) = match c {
            '\\' => (vec![rest[1..2].to_owned()], 2),
            '[' => {
                let end = rest.find(']').unwrap();
                (rest[1..end].chars().map(String::from).collect(), end + 1)
            }
            '(' => {
                let (mut depth, mut cuts) = (0, vec![0]);
                let end = rest
                    .char_indices()
                    .find(|(i, c)| {
                        match c {
                            '(' => depth += 1,
                            ')' => depth -= 1,
                            '|' if depth == 1 => cuts.push(*i),
                            _ => {}
                        }
                        depth == 0
                    })
                    .unwrap()
                    .0;
                cuts.push(end);
                (cuts.windows(2).flat_map(|w| expand(&rest[w[0] + 1..w[1]])).collect(), end + 1)
            }
            c => (vec![c.to_string()], c.len_utf8()),
        };
        all = all.iter().flat_map(|a| choices.iter().map(move |c| format!("{a}{c}"))).collect();
        rest = &rest[len..];
    }
    all
}

fn matches(pattern: &str, reply: &str) -> bool {
    expand(pattern).iter().any(|p| match p.strip_suffix('$') {
        Some(whole) => reply == whole,
        None => reply.starts_with(p.as_str()),
    })
}

fn octets(text: &Value, i: u64) -> Vec<u8> {
    let text = text.as_str().unwrap().replace("{i}", &i.to_string());
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Runs steps; `Err` is what went wrong.
async fn run(relay: &Relay, client: &mut Client, steps: &[Value], i: u64) -> Result<(), String> {
    let mut unread = 0;
    for step in steps {
        if let Some(text) = step.get("send") {
            client.send(&octets(text, i)).await;
        } else if let Some(repeat) = step.get("send_repeat") {
            let one = octets(&repeat["text"], i);
            client.send(&one.repeat(usize::try_from(repeat["count"].as_u64().unwrap()).unwrap())).await;
        } else if let Some(drip) = step.get("drip") {
            // Slower than the shortened deadlines allow, as the original is slower than the real ones.
            for octet in octets(&drip["text"], i) {
                client.send(&[octet]).await;
                if timeout(Duration::from_millis(250), client.io().read_u8()).await.is_ok_and(|r| {
                    r.is_ok_and(|b| {
                        client.read.push(b);
                        true
                    })
                }) {
                    break;
                }
            }
        } else if let Some(repeat) = step.get("repeat") {
            let count = repeat["count"].as_u64().unwrap();
            let steps = repeat["steps"].as_array().unwrap();
            for i in 0..count {
                match Box::pin(run(relay, client, steps, i)).await {
                    Err(_) if client.replies.last().is_some_and(|r| r.starts_with("421")) => return Ok(()),
                    result => result?,
                }
            }
            unread = if steps.iter().any(|s| s.get("expect").is_some()) { 0 } else { count - 1 };
        } else if step.get("starttls").is_some() {
            let ready = client.reply().await.unwrap_or_default();
            if !ready.starts_with("220") || !client.start_tls(relay).await {
                return Err(format!("no TLS: {ready}"));
            }
        } else if step.get("close").is_some() {
            client.io().shutdown().await.unwrap();
        } else if let Some(pattern) = step.get("expect") {
            for _ in 0..std::mem::take(&mut unread) {
                let reply = client.reply().await.unwrap_or_default();
                if !reply.starts_with("250 ") {
                    return Err(format!("within the repetition: {reply}"));
                }
            }
            let pattern = pattern.as_str().unwrap();
            let reply = client.reply().await.unwrap_or_default();
            if !matches(pattern, &reply) {
                return Err(format!("wanted {pattern}, got {reply:?}"));
            }
        } else if step.get("wait_s").is_none() && step.get("note").is_none() {
            return Err(format!("a step that this test does not know: {step}"));
        }
    }
    Ok(())
}

async fn case(relay: &Relay, case: &Value) -> Result<(), String> {
    let (id, state) = (case["id"].as_str().unwrap(), case["start"].as_str().unwrap());
    let steps = case["steps"].as_array().unwrap();
    relay.store.0.lock().unwrap().clear();
    let mut client = start(relay, state).await;
    client.replies.clear();
    if state == "connect-587" && steps.iter().all(|s| s.get("note").is_none()) {
        client.reply().await.unwrap();
    }
    if id == "HS-030" || id == "HS-101" {
        // A TLS port never says a word of SMTP.
        client.send(&octets(&steps[0]["send"], 0)).await;
        let mut all = Vec::new();
        let _ = timeout(PATIENCE, client.io().read_to_end(&mut all)).await.map_err(|_| "still open")?;
        return if all.first().is_none_or(|b| *b == 0x15) { Ok(()) } else { Err(format!("{all:?}")) };
    }
    run(relay, &mut client, steps, 0).await?;
    let half_closed = steps.iter().any(|s| s.get("close").is_some());
    let said_quit = client.replies.last().is_some_and(|r| r.starts_with("221") || r.starts_with("421"));
    if state == "data" && !half_closed && !said_quit {
        client.send(b"NOOP\r\n").await;
        let next = client.reply().await.unwrap_or_default();
        if !next.starts_with("250 2.0.0 Ok [") && next != "250 2.0.0 Ok" {
            return Err(format!("one reply to content, then the next command: {next:?}"));
        }
    }
    let stored = relay.store.0.lock().unwrap();
    let promised = client.replies.iter().filter(|r| r.contains("queued as")).count();
    if stored.len() != promised {
        return Err(format!("{promised} promised, {} stored", stored.len()));
    }
    for message in stored.iter() {
        if !client.replies.iter().any(|r| r.ends_with(&message.id.to_string())) {
            return Err("the 250 names another id".to_owned());
        }
        if message.envelope.recipients.iter().any(|r| r.path.to_string() == "victim@example.com") {
            return Err("a smuggled recipient".to_owned());
        }
    }
    stored.iter().try_for_each(signed_rightly)
}

/// SIG-11, SIG-13: a signature seals the one From field, and stands under mail of our own domain only.
fn signed_rightly(message: &NewMessage) -> Result<(), String> {
    let content = message.content.in_memory().unwrap();
    let header = &content[..content.windows(4).position(|w| w == b"\r\n\r\n").unwrap()];
    let header = String::from_utf8_lossy(header).to_ascii_lowercase().replace("\r\n\t", "");
    let from: Vec<_> = header.lines().filter(|l| l.starts_with("from:")).collect();
    let signatures: Vec<_> = header.lines().filter(|l| l.starts_with("dkim-signature:")).collect();
    let ours = from.iter().any(|f| f.contains("@example.org"));
    let sealed = signatures.iter().all(|s| s.contains("d=example.org;") && s.contains(":from:from:"));
    if from.len() == 1 && signatures.len() == usize::from(ours) && sealed {
        return Ok(());
    }
    Err(format!("{from:?} {signatures:?}"))
}

/// The real deadlines, but for the one that a case is about; `None` for most.
fn shortened(id: &str) -> Option<Timers> {
    let (short, real) = (Duration::from_millis(1500), Timers::default());
    match id {
        "HS-094" | "HS-096" => Some(Timers { unproven: short, ..real }),
        "HS-095" => Some(Timers { data_grace: short, ..real }),
        "HS-030" | "HS-101" => Some(Timers { handshake: short, ..real }),
        _ => None,
    }
}

#[tokio::test]
async fn hostile_clients_get_the_replies_of_the_table() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/submission.json"));
    let cases: Vec<Value> = serde_json::from_str(&text.unwrap()).unwrap();
    let patient = relay(Timers::default()).await;
    let (mut failed, mut passed) = (Vec::new(), 0);
    for one in &cases {
        let id = one["id"].as_str().unwrap();
        if SKIPPED.iter().any(|(skipped, _)| *skipped == id) {
            continue;
        }
        let result = match shortened(id) {
            Some(timers) => case(&relay(timers).await, one).await,
            None => case(&patient, one).await,
        };
        match result {
            Ok(()) => passed += 1,
            Err(why) => failed.push(format!("{id} {}: {why}", one["title"])),
        }
    }
    assert!(failed.is_empty(), "{passed} passed, failed:\n{}", failed.join("\n"));
    assert_eq!(passed + SKIPPED.len(), cases.len(), "skipped only by name: {SKIPPED:?}");
}
