//! Places, and whose turn it is.

use sealpost::queue::{Filter, QueueStore};

use super::world::*;

// QUE-30
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_domain_with_much_mail_does_not_delay_another() {
    let w = world(|s| s.places = 30);
    w.deliverer.plan("slow.example", Plan::Hang);
    for n in 0..2000 {
        w.store.enqueue(w.message(n, &["a@slow.example"]), None).await.unwrap();
    }
    w.manager.start();
    w.until("slow fills its places", async || w.deliverer.tries("slow.example") == 20).await;
    w.submit(5000, &["a@fast.example"]).await;
    w.until("fast is delivered", async || w.of_domain("fast.example").await.is_empty()).await;
    assert_eq!(w.deliverer.tries("slow.example"), 20, "a domain holds its own places at most (QUE-31)");
    w.manager.abandon();
}

// QUE-30
#[tokio::test(flavor = "multi_thread")]
async fn when_places_are_short_every_domain_gets_its_turn() {
    let w = world(|s| s.places = 4);
    let domains: Vec<String> = (0..12).map(|d| format!("d{d:02}.example")).collect();
    for n in 0..40 * 12_u64 {
        let to = format!("a@{}", domains[usize::try_from(n).unwrap() % 12]);
        w.store.enqueue(w.message(n, &[&to]), None).await.unwrap();
    }
    w.manager.start();
    w.until("all delivered", async || w.list(Filter::default()).await.is_empty()).await;
    let tried = w.deliverer.tried.lock().unwrap();
    let nth =
        |domain: &str, n: usize| tried.iter().enumerate().filter(|(_, d)| *d == domain).nth(n).unwrap().0;
    let last_first = domains.iter().map(|d| nth(d, 0)).max().unwrap();
    let first_done = domains.iter().map(|d| nth(d, 39)).min().unwrap();
    assert!(
        last_first < first_done,
        "the last domain began at {last_first}, the first was done at {first_done}"
    );
}
