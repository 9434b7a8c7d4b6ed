//! The metrics of a relay after traffic of every kind: each metric of the table is there, the numbers are right, and no
//! peer, whatever it says, makes a series.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use sealpost::observe::metrics::Kind;
use sealpost::observe::metrics::table::ALL;

use crate::world::ca::Flaw;
use crate::world::client::{Client, message};
use crate::world::mx::{MxHost, StartTls};
use crate::world::relay::{HOSTNAME, Relay, Setup};
use crate::world::scrape::{Scrape, get};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, relay_with};

/// What a server says that knows nothing newer than TLS 1.1: alert `protocol_version`.
const TOO_OLD: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];

/// Series and the values they come to.
type Values<'a> = &'a [(&'a str, f64)];

/// Nothing is under way any more, as far as the store tells.
const AT_REST: Values<'static> = &[
    ("sealpost_scrape_complete", 1.0),
    ("sealpost_queue_recipients{state=\"queued\",cause=\"\"}", 0.0),
    ("sealpost_queue_recipients{state=\"delivering\",cause=\"\"}", 0.0),
];

/// Waits for a scrape that shows all of this together and meets this condition. What lies in the store is read before
/// what is counted, so that a scrape may show the one before an event and the other after it.
async fn comes_to(world: &World, values: &[Values<'_>], also: impl Fn(&Scrape) -> bool) -> Scrape {
    let wrong = Mutex::new(Vec::new());
    let there = async || {
        let scrape = Scrape::of(world.address(5)).await;
        let all = values.iter().copied().flatten();
        let off = all.filter(|(series, value)| scrape.find(series) != Some(*value));
        let off: Vec<String> = off
            .map(|(series, value)| format!("{series} is {:?}, not {value}", scrape.find(series)))
            .collect();
        let right = off.is_empty() && also(&scrape);
        *wrong.lock().unwrap() = off;
        right.then_some(scrape)
    };
    let found = eventually(PATIENCE, there).await;
    found.unwrap_or_else(|| {
        panic!("no scrape is as it must be; the last was off by {:#?}", wrong.lock().unwrap())
    })
}

/// Waits until one series has come to a value.
async fn becomes(world: &World, series: &str, value: f64) -> Scrape {
    comes_to(world, &[&[(series, value)]], |_| true).await
}

fn exception(domain: &str) -> String {
    format!(
        "[[exception]]\ndomain = \"{domain}\"\nallow = \"encrypt\"\nuntil = \"2099-12-24\"\nreason = \"r\"\nby = \"ops\"\n"
    )
}

/// A relay with everything that has metrics of its own: TLS, users, exceptions, a listener for metrics.
async fn measured(world: &World) -> Relay {
    let leaf = world.ca.issue(Flaw::None, &[HOSTNAME]);
    std::fs::write(world.dir.path().join("chain.pem"), &leaf.chain_pem).unwrap();
    std::fs::write(world.dir.path().join("key.pem"), &leaf.key_pem).unwrap();
    let hash = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$k5rCY8NvnXJ2tMZV1mJ0xw";
    let user = format!("[[submission.user]]\nname = \"app1\"\npassword_hash = \"{hash}\"\n");
    let tls = "[tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n";
    let (forgiven, healed) = (exception("forgiven.example"), exception("healed.example"));
    let setup = Setup {
        sections: format!("{user}{tls}{forgiven}{healed}"),
        keys: vec![("metrics", format!("listen = \"{}\"", world.address(5)))],
        ..Setup::default()
    };
    relay_with(world, setup).await
}

async fn expired(world: &World, domain: &str) -> MxHost {
    let host = world.enforcing_domain(domain).await;
    host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_there_and_the_numbers_are_right() {
    let world = World::start().await;
    let sound = world.enforcing_domain("sound.example").await;
    expired(&world, "broken.example").await;
    expired(&world, "forgiven.example").await;
    world.enforcing_domain("healed.example").await;
    world.domain("clear.example").await.behave(|b| b.starttls = StartTls::Stripped);
    world.domain("old.example").await.behave(|b| b.starttls = StartTls::Octets(TOO_OLD));
    let refuses = world.domain("refuses.example").await;
    refuses.behave(|b| _ = b.rcpt.insert("u@refuses.example".into(), "550 5.1.1 nobody".into()));
    let mut relay = measured(&world).await;

    // Before anything has happened every metric is there, and nothing has been counted.
    let before = becomes(&world, "sealpost_queue_domain_recipients{domain=\"other\"}", 0.0).await;
    for metric in ALL {
        let family = before.families.get(metric.name).unwrap_or_else(|| panic!("no {}", metric.name));
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert_eq!((family.kind.as_str(), family.help.as_str()), (kind, metric.help), "{}", metric.name);
        for sample in &family.samples {
            let labels: BTreeSet<&str> =
                sample.labels.keys().map(String::as_str).filter(|l| *l != "le").collect();
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{}", metric.name);
        }
    }
    assert_eq!(before.families.len(), ALL.len(), "and no others");
    assert_eq!(before.sum("sealpost_messages_accepted_total"), 0.0);

    let mut client = Client::connect(relay.submission()).await.unwrap();
    // The session that delivered one message stays open for a moment; another goes over it, if it comes in time.
    let mut again = 0_u32;
    loop {
        let to = format!("u{again}@sound.example");
        let content = message(SENDER, &to, &format!("sound-{again}"));
        assert_eq!(client.submit(SENDER, &[&to], &content).await.unwrap().code, 250);
        if relay.delivery(&to, 1).await["reused"] == true {
            break;
        }
        again += 1;
        assert!(again < 20, "no session was used again");
    }
    for name in ["broken", "forgiven", "healed", "clear", "old", "refuses"] {
        let to = format!("u@{name}.example");
        let content = message(SENDER, &to, name);
        assert_eq!(client.submit(SENDER, &[&to], &content).await.unwrap().code, 250, "{name}");
        relay.delivery(&to, 1).await;
    }
    assert_eq!(client.command("RCPT TO:<no address>").await.unwrap().code / 100, 5);
    let bare = "Subject: a bare line end\r\n\r\none\ntwo\r\n";
    assert_eq!(client.submit(SENDER, &["u@sound.example"], bare).await.unwrap().code / 100, 5);
    let mut secure = Client::connect_tls(relay.submission(), &world.ca.pem(), HOSTNAME).await.unwrap();
    assert_eq!(secure.auth_plain("app1", "wrong").await.unwrap().code, 535);

    // Each session with sound delivered one message, and the last one two.
    let sessions = f64::from(again);
    let after: Values<'_> = &[
        ("sealpost_recipients_bounced_total{cause=\"no_such_domain\"}", 1.0),
        ("sealpost_messages_accepted_total", sessions + 7.0),
        ("sealpost_submission_refusals_total{stage=\"content\",reply=\"5xx\"}", 1.0),
        ("sealpost_submission_auth_total{result=\"failure\"}", 1.0),
        ("sealpost_submission_connections_open", 2.0),
        // sound's and healed's; forgiven's host shows an old certificate.
        ("sealpost_recipients_delivered_total{security=\"verified\"}", sessions + 2.0),
        ("sealpost_recipients_delivered_total{security=\"encrypted\"}", 1.0),
        ("sealpost_recipients_delivered_total{security=\"plain\"}", 2.0),
        ("sealpost_recipients_deferred_total{cause=\"tls_certificate\"}", 1.0),
        ("sealpost_recipients_bounced_total{cause=\"rejected\"}", 1.0),
        // The notification of that finds no sender.example, and ends there.
        ("sealpost_notifications_total{kind=\"outcome\"}", 1.0),
        ("sealpost_double_bounces_total", 1.0),
        ("sealpost_queue_recipients{state=\"deferred\",cause=\"tls_certificate\"}", 1.0),
        ("sealpost_delivery_delay_seconds_count", sessions + 5.0),
        ("sealpost_connections_reused_total", 1.0),
        ("sealpost_connections_failed_total{stage=\"handshake\"}", 1.0),
        ("sealpost_tls_sessions_total{security=\"verified\",version=\"TLSv1.3\"}", sessions + 1.0),
        ("sealpost_tls_sessions_total{security=\"plain\",version=\"none\"}", 2.0),
        ("sealpost_tls_failures_total{type=\"certificate-expired\",effect=\"refused\"}", 1.0),
        ("sealpost_tls_failures_total{type=\"certificate-expired\",effect=\"passed\"}", 1.0),
        ("sealpost_tls_failures_total{type=\"starttls-not-supported\",effect=\"passed\"}", 1.0),
        ("sealpost_tls_failures_total{type=\"validation-failure\",effect=\"passed\"}", 1.0),
        // TLS-25: in the clear because of our floor, and not because nothing was offered.
        ("sealpost_plaintext_fallbacks_total{cause=\"incompatible\"}", 1.0),
        ("sealpost_exception_recipients_total{domain=\"forgiven.example\",allow=\"encrypt\"}", 1.0),
        ("sealpost_exception_recipients_total{domain=\"healed.example\",allow=\"encrypt\"}", 0.0),
        ("sealpost_exception_in_force{domain=\"forgiven.example\",allow=\"encrypt\"}", 1.0),
        ("sealpost_exception_in_force{domain=\"healed.example\",allow=\"encrypt\"}", 0.0),
        ("sealpost_exception_ended_early{domain=\"healed.example\",allow=\"encrypt\"}", 1.0),
        (
            "sealpost_exception_end_timestamp_seconds{domain=\"forgiven.example\",allow=\"encrypt\"}",
            4_101_839_999.0,
        ),
        ("sealpost_policy_fetches_total{result=\"success\"}", 4.0),
        ("sealpost_policies{mode=\"enforce\"}", 4.0),
        ("sealpost_dane_hosts_total{tlsa=\"none\"}", sessions + 7.0),
        ("sealpost_dnssec_believed", 0.0),
        ("sealpost_db_writable", 1.0),
        ("sealpost_db_errors_total{kind=\"broken\"}", 0.0),
    ];
    let after = comes_to(&world, &[AT_REST, after], |_| true).await;
    assert_eq!(after.sum("sealpost_submission_auth_total"), 1.0);
    for name in [
        "sealpost_attempt_duration_seconds",
        "sealpost_db_commit_duration_seconds",
        "sealpost_db_batch_jobs",
        "sealpost_dns_lookup_duration_seconds",
        "sealpost_policy_fetch_duration_seconds",
        "sealpost_dns_lookups_total",
        "sealpost_dns_cache_entries",
        "sealpost_connections_opened_total",
        "sealpost_messages_accepted_bytes_total",
        "sealpost_certificate_end_timestamp_seconds",
        "sealpost_start_time_seconds",
        "sealpost_disk_free_bytes",
        "sealpost_disk_reserve_bytes",
        "sealpost_db_size_bytes",
        "sealpost_queue_oldest_age_seconds",
    ] {
        assert!(after.sum(name) > 0.0, "{name}: {:?}", after.families[name]);
    }
    // An attempt that waits for an answer holds its connection.
    sound.behave(|b| b.dot_delay = Duration::from_secs(3600));
    let content = message(SENDER, "v@sound.example", "held");
    assert_eq!(client.submit(SENDER, &["v@sound.example"], &content).await.unwrap().code, 250);
    comes_to(&world, &[], |s| s.sum("sealpost_connections_open") > 0.0).await;
    sound.behave(|b| b.dot_delay = Duration::ZERO);
    sound.hang_up();
    // The domain that waits is found within a round.
    becomes(&world, "sealpost_queue_domain_recipients{domain=\"broken.example\"}", 1.0).await;
    relay.stop().await;
}

// LIM-32
#[tokio::test(flavor = "multi_thread")]
async fn no_peer_makes_a_series_and_who_asks_on_the_admin_listener_needs_the_token() {
    const EVIL: &str = "\"} 1\\n# TYPE evil counter\\nevil{by=\"";
    let world = World::start().await;
    let host = world.domain("hostile.example").await;
    host.behave(|b| {
        b.greeting = Some(format!("220 {EVIL}"));
        b.ehlo = Some(format!("250-{EVIL}\r\n250 STARTTLS"));
        b.ehlo_tls = Some(format!("250 {EVIL}"));
        for n in 0..20 {
            b.rcpt.insert(format!("u{n}@hostile.example"), format!("5{n:02} 5.{n}.{n} {EVIL}"));
        }
    });
    world.publish_policy("hostile.example", "1", "none\r\nevil: \"}", &[host.name()]);
    let relay = measured(&world).await;
    let before = becomes(&world, "sealpost_queue_domain_recipients{domain=\"other\"}", 0.0).await;

    let mut client = Client::connect(relay.submission()).await.unwrap();
    for n in 0..20 {
        let to = format!("u{n}@hostile.example");
        // The envelope sender is the null one, so that no notification follows.
        assert_eq!(client.submit("", &[&to], &message(SENDER, &to, "x")).await.unwrap().code, 250);
        relay.delivery(&to, 1).await;
        client.command(&format!("VRFY {EVIL}{n}")).await.unwrap();
    }
    // A round that saw the domain wait shows it until the next.
    let bounced: Values<'_> = &[("sealpost_recipients_bounced_total{cause=\"rejected\"}", 20.0)];
    let known = before.values_of("domain");
    let forgotten = |s: &Scrape| s.values_of("domain").is_subset(&known);
    let refused = comes_to(&world, &[AT_REST, bounced], forgotten).await;
    for label in [
        "cause", "type", "stage", "version", "security", "result", "record", "kind", "reply", "effect",
        "state",
    ] {
        assert_eq!(refused.values_of(label), before.values_of(label), "{label}");
    }
    assert_eq!(refused.series(), before.series(), "not one series more");

    let (status, ..) = get(world.address(2), "/metrics", None).await.unwrap();
    assert_eq!(status, 401);
    let token = std::fs::read_to_string(relay.data_dir().join("admin.token")).unwrap();
    let (status, _, body) = get(world.address(2), "/metrics", Some(token.trim())).await.unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        Scrape::parse(&body).unwrap().value("sealpost_recipients_bounced_total{cause=\"rejected\"}"),
        20.0
    );
    // The other listener has health too, and nothing that could be commanded.
    for (path, want) in [("/healthz", 200), ("/readyz", 200), ("/v1/queue", 404)] {
        assert_eq!(get(world.address(5), path, Some(token.trim())).await.unwrap().0, want, "{path}");
    }
}
