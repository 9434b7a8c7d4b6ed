//! Collectors that answer 500, 429 with Retry-After, or nothing: the other rua gets the report at once, and
//! `report list` says what became of each.

use std::time::Duration;

use sealpost::clock::Timestamp;
use serde_json::Value;

use crate::world::{World, clear_of_midnight, eventually};
use crate::{SENDER, relay_with};

// RPT-08, RPT-87, RPT-89
#[tokio::test(flavor = "multi_thread")]
async fn the_report_is_delivered_by_the_other_rua_and_the_list_says_so() {
    clear_of_midnight().await;
    let world = World::start().await;
    world.domain("sender.example").await;
    let receiver = world.domain("receiver.example").await;
    let names = ["broken.example", "busy.example", "refusing.example", "silent.example"];
    let mut collectors = Vec::new();
    for name in names {
        world.enforcing_domain(name).await;
        collectors.push(world.collector(&format!("reports.{name}")).await);
        let post = format!("https://reports.{name}:{}/v1", world.port);
        let mail = "mailto:tlsrpt@receiver.example";
        world.dns.txt(&format!("_smtp._tls.{name}"), &format!("v=TLSRPTv1; rua={post},{mail}"));
    }
    collectors[0].answer("500 Oops\r\n");
    collectors[1].answer("429 Too Many Requests\r\nRetry-After: 7200\r\n");
    collectors[2].answer("400 Bad Request\r\n");
    collectors[3].delay(Duration::from_secs(600));
    let relay = relay_with(&world, world.reporting("sender.example")).await;
    for name in names {
        assert_eq!(relay.submit(SENDER, &format!("u@{name}"), "counted").await.code, 250);
        relay.counted(name, (1, 0)).await;
    }
    let sent = relay.json(&["report", "send"]).await;
    assert_eq!(sent["sent"].as_array().unwrap().len(), names.len(), "{sent}");

    let settled = async || {
        let list = relay.json(&["report", "list"]).await;
        let reports = list.as_array().unwrap();
        let of = |report: &Value, n: usize| report["destinations"][n]["attempts"].as_u64().unwrap();
        let asked = reports.iter().all(|r| of(r, 0) > 0);
        let delivered = reports.iter().all(|r| r["state"] == "delivered");
        (reports.len() == names.len() && asked && delivered).then_some(list)
    };
    // A minute until the POST without an answer is given up, and until the queue is asked what became of the mail.
    let list = eventually(Duration::from_secs(300), settled).await;
    let Some(list) = list else {
        panic!("{:#}\n{}", relay.json(&["report", "list"]).await, relay.log_text());
    };
    for (n, (name, state, reply)) in [
        ("broken.example", "waiting", "HTTP 500 Internal Server Error"),
        ("busy.example", "waiting", "HTTP 429 Too Many Requests"),
        ("refusing.example", "failed", "HTTP 400 Bad Request"),
        ("silent.example", "waiting", "no answer in time"),
    ]
    .into_iter()
    .enumerate()
    {
        let report = &list[n];
        assert_eq!(report["domain"], name, "{list:#}");
        let (post, mail) = (&report["destinations"][0], &report["destinations"][1]);
        assert_eq!(post["state"], state, "{report:#}");
        assert!(post["reply"].as_str().unwrap().starts_with(reply), "{report:#}");
        assert_eq!(mail["state"], "accepted", "{report:#}");
        let posts = collectors[n].posts();
        assert_eq!(posts.len(), 1, "{name}: asked once");
        let asked = std::time::UNIX_EPOCH.elapsed().unwrap() - posts[0].at.elapsed();
        let asked = Timestamp::from_millis(i64::try_from(asked.as_millis()).unwrap());
        let next = post["next"].as_str().map(|t| Timestamp::parse_rfc3339(t).unwrap().since(asked).as_secs());
        let (soonest, latest) = match name {
            "broken.example" | "silent.example" => (270, 500),
            "busy.example" => (7199, 7300),
            _ => continue,
        };
        let next = next.expect("it is asked again");
        assert!((soonest..latest).contains(&next), "{name}: {next} s: {report:#}");
    }
    let texts: Vec<String> = receiver.seen().messages.iter().map(|m| m.text()).collect();
    for name in names {
        let line = format!("\r\nTLS-Report-Domain: {name}\r\n");
        assert_eq!(texts.iter().filter(|t| t.contains(&line)).count(), 1, "{name}: {texts:?}");
    }
}
