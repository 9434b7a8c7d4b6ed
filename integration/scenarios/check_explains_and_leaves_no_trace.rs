//! `sealpost check`: what would happen to mail, by the delivery's own code; nothing is stored, nothing counted.

use serde_json::Value;

use crate::relay;
use crate::world::World;
use crate::world::ca::Flaw;
use crate::world::mx::StartTls;
use crate::world::relay::Relay;

/// What a person reads and what a program reads, which must agree; and the exit status.
pub(crate) async fn check(relay: &Relay, words: &[&str]) -> (String, Value) {
    let text = relay.cli(&[&["check"], words].concat()).await.unwrap();
    let json = relay.cli(&[&["check"], words, &["--json"]].concat()).await.unwrap();
    assert_eq!(text.status.code(), json.status.code(), "{words:?}");
    assert!(json.stderr.is_empty() && text.stderr.is_empty(), "{words:?}: {text:?}");
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    let sentence = report["sentence"].as_str().unwrap();
    assert!(text.lines().any(|l| l == sentence), "{text}");
    assert_eq!(json.status.code(), Some(i32::from(report["answer"] != "delivered")), "{text}");
    (text, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_domain_is_explained() {
    let world = World::start().await;
    let sound = world.enforcing_domain("sound.example").await;
    let expired = world.enforcing_domain("expired.example").await;
    let stripped = world.enforcing_domain("stripped.example").await;
    let testing = world.domain("testing.example").await;
    world.publish_policy("testing.example", "1", "testing", &[testing.name()]);
    world.domain("unlisted.example").await;
    world.publish_policy("unlisted.example", "1", "enforce", &["mx.elsewhere.example"]);
    world.dns.mx("nullmx.example", &[(0, ".")]);
    for host in [&expired, &testing] {
        host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    }
    stripped.behave(|b| b.starttls = StartTls::Stripped);
    let relay = relay(&world).await;

    for (domain, answer, parts) in [
        (
            "sound.example",
            "delivered",
            &["listed by the policy", "applies the live one, mode enforce", "security level verified"][..],
        ),
        (
            "expired.example",
            "wait",
            &["fault: expired", "certificate-expired", "4.7.5", "cause tls_certificate", "What to do: "],
        ),
        (
            "stripped.example",
            "wait",
            &["STARTTLS not offered", "starttls-not-supported", "cause tls_missing"],
        ),
        ("unlisted.example", "wait", &["NOT listed", "not contacted", "cause policy_mx"]),
        (
            "testing.example",
            "delivered",
            &["mode testing", "promise broken: ", "enforce policy mail would wait"],
        ),
        ("nullmx.example", "returned", &["5.1.10", "not asked for: the domain takes no mail"]),
        ("nosuch.example", "returned", &["5.1.2", "not asked for: the domain does not exist"]),
    ] {
        let (text, report) = check(&relay, &[domain, "--probe"]).await;
        assert_eq!(report["answer"], answer, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
    }
    let (text, _) = check(&relay, &["sound.example"]).await;
    assert!(text.contains("TLS is required") && text.contains("add --probe"), "{text}");
    // What is examined is the file; what the relay does is what stood there at its start.
    assert!(!text.contains("restart it"), "{text}");
    let file = std::fs::read_to_string(relay.config()).unwrap();
    std::fs::write(relay.config(), file + "\n# a word\n").unwrap();
    let (text, report) = check(&relay, &["sound.example"]).await;
    assert!(text.ends_with("and the relay runs with that of its start: restart it.\n"), "{text}");
    assert!(report["configuration_changed"].is_string(), "{text}");
    for host in [&sound, &expired, &stripped, &testing] {
        let seen = host.seen();
        assert_eq!(seen.mail_commands(true) + seen.mail_commands(false), 0, "{} saw MAIL", host.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_read_and_nothing_is_written() {
    let world = World::start().await;
    let host = world.enforcing_domain("cached.example").await;
    let mut relay = relay(&world).await;
    assert_eq!(relay.submit(crate::SENDER, "u@cached.example", "prime").await.code, 250);
    relay.gone("u@cached.example").await;
    relay.stop().await;
    // A new record announces a policy that cannot be fetched: nothing answers at .254.
    world.dns.a("mta-sts.cached.example", world.address(254).ip());
    world.dns.txt("_mta-sts.cached.example", "v=STSv1; id=2;");
    host.behave(|b| b.starttls = StartTls::Stripped);

    let database = relay.data_dir().join("queue.db");
    let before = std::fs::read(&database).unwrap();
    let (text, report) = check(&relay, &["cached.example", "--probe"]).await;
    assert_eq!(
        (&report["policy"]["applied"], &report["answer"]),
        (&"cached".into(), &"wait".into()),
        "{text}"
    );
    assert!(text.contains("sts-policy-fetch-error"), "{text}");
    let (text, report) = check(&relay, &["cached.example", "--from-cache"]).await;
    assert_eq!(
        (&report["policy"]["applied"], &report["answer"]),
        (&"cached".into(), &"delivered".into()),
        "{text}"
    );

    // A DNS server that is not there: mail waits, and what is cached is still shown.
    let config = std::fs::read_to_string(relay.config()).unwrap();
    let (alive, dead) = (world.dns.address().to_string(), world.address(253).to_string());
    std::fs::write(relay.config(), config.replace(&alive, &dead)).unwrap();
    let (text, report) = check(&relay, &["cached.example", "--probe"]).await;
    assert_eq!(
        (&report["answer"], &report["policy"]["cached"]["mode"]),
        (&"wait".into(), &"enforce".into()),
        "{text}"
    );
    assert!(text.contains("cause dns") && text.contains("not asked for: the DNS does not answer"), "{text}");
    assert_eq!(std::fs::read(&database).unwrap(), before, "check wrote to the database");
}
