//! DUR-07, DUR-08: kill -9 while mail flows in and out, counted at both ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::world::client::{self, Client};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, count, relay};

/// Sessions that one host may have at once, so the most messages between dot and commit at one kill.
const SESSIONS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost() {
    let kills = count(100);
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    host.behave(|b| b.dot_delay = Duration::from_millis(5));
    let mut relay = relay(&world).await;

    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let (stop, number) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            tokio::spawn(submit_for_ever(
                relay.submission(),
                Arc::clone(&acknowledged),
                Arc::clone(&number),
                Arc::clone(&stop),
            ))
        })
        .collect();
    let mut deaths = Vec::new();
    for kill in 0..kills {
        let before = acknowledged.lock().unwrap().len();
        let flowing = async || (acknowledged.lock().unwrap().len() > before + kill % 7).then_some(());
        eventually(PATIENCE, flowing).await.expect("mail flows");
        // Not a wait for anything: the moment of each kill is to differ.
        tokio::time::sleep(Duration::from_millis(u64::try_from(kill * 13 % 61).unwrap())).await;
        let from = Instant::now();
        relay.kill().await;
        relay.run().await;
        // Not before: what the dead one has written, its dot perhaps, still waits for the host to read it.
        deaths.push((from, Instant::now()));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let empty = async || {
        relay.cli(&["queue", "retry", "--all", "--yes"]).await.unwrap();
        relay.queue().await.is_empty().then_some(())
    };
    eventually(PATIENCE, empty).await.expect("the queue drains");

    let mut copies: HashMap<String, Vec<Instant>> = HashMap::new();
    for message in &host.seen().messages {
        let text = message.text();
        assert!(text.ends_with("\r\nHello.\r\n"), "cut off: {text}");
        let subject = text.lines().find_map(|l| l.strip_prefix("Subject: ")).unwrap().to_owned();
        copies.entry(subject).or_default().push(message.at);
    }
    let acknowledged = acknowledged.lock().unwrap();
    let lost: Vec<_> = acknowledged.iter().filter(|s| !copies.contains_key(*s)).collect();
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
    // A copy is repeated only when the relay died between its dot and the commit of the outcome.
    let mut repeated = 0;
    for (subject, times) in &copies {
        for pair in times.windows(2) {
            let died = deaths.iter().any(|(from, to)| pair[0] <= *to && *from <= pair[1]);
            assert!(died, "{subject} was repeated by a relay that lived");
            repeated += 1;
        }
    }
    eprintln!("{kills} kills, {} acknowledged, 0 lost, {repeated} repeated", acknowledged.len());
    assert!(repeated <= kills * SESSIONS, "{repeated} repeated");
    assert_eq!(host.seen().mail_commands(false), 0);
    let (verified, failed) = relay.session_counts("a.example");
    assert!(verified >= 1 && failed == 0, "{verified} sessions verified, {failed} failed");
}

/// Submits messages, each with a subject of its own, and notes those answered 250; reconnects when thrown out.
async fn submit_for_ever(
    address: SocketAddr,
    acknowledged: Arc<Mutex<Vec<String>>>,
    number: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            let subject = format!("flow-{}", number.fetch_add(1, Ordering::Relaxed));
            let content = client::message(SENDER, "u@a.example", &subject);
            match client.submit(SENDER, &["u@a.example"], &content).await {
                Ok(reply) if reply.code == 250 => acknowledged.lock().unwrap().push(subject),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
