//! `sealpost check` shows what DNSSEC vouches for at each step, which TLSA record matches, what the operator's rules and
//! exceptions do, and what would become of mail with REQUIRETLS; in text and in JSON alike.

use serde_json::Value;

use crate::check_explains_and_leaves_no_trace::check;
use crate::program;
use crate::world::World;
use crate::world::ca::Flaw;
use crate::world::mx::{MxHost, StartTls};
use crate::world::relay::{Relay, Setup};

/// A domain whose zone is signed, with TLSA records for its one host, which has a name of no authority's.
async fn dane_domain(world: &World, domain: &str, digest: Option<[u8; 32]>) -> MxHost {
    let host = world.domain(domain).await;
    let leaf = world.ca.issue(Flaw::SelfSigned, &[host.name()]);
    host.certificate(&leaf);
    let records = format!("_{}._tcp.{}", world.port, host.name());
    world.dns.tlsa(&records, digest.unwrap_or_else(|| leaf.key_digest(0)));
    for name in [domain, host.name(), &records] {
        world.dns.sign(name);
    }
    host
}

/// A world in which everything of [`rows`] happens, and a relay for it that need not run.
async fn staged(world: &World, sections: String) -> Relay {
    dane_domain(world, "dane.example", None).await.behave(|b| b.requiretls = true);
    dane_domain(world, "mismatch.example", Some([7; 32])).await;
    let unlisted = dane_domain(world, "both.example", None).await;
    world.publish_policy("both.example", "1", "enforce", &[unlisted.name()]);
    world.domain("plain.example").await.behave(|b| b.starttls = StartTls::Stripped);
    world
        .domain("raised.example")
        .await
        .certificate(&world.ca.issue(Flaw::SelfSigned, &["mx.raised.example"]));
    for domain in ["broken.example", "over.example"] {
        let host = world.enforcing_domain(domain).await;
        host.certificate(&world.ca.issue(Flaw::Expired, &[host.name()]));
    }
    world.enforcing_domain("sound.example").await;
    world.mx_host("hop.example").await;
    let lapsed = world.mx_host("lapsed.example").await;
    lapsed.certificate(&world.ca.issue(Flaw::Expired, &[lapsed.name()]));
    world.dns.sign("");
    let keys = vec![
        ("dns", "dnssec = \"trust-ad\"".to_owned()),
        ("dane", "require_both = true".to_owned()),
        ("tls", world.certificate_of_relay()),
    ];
    Relay::prepare(&program(), world, Setup { keys, sections, ..Setup::default() })
}

fn sections(port: u16, smtps: u16) -> String {
    let exception = |domain: &str, until: &str| {
        format!(
            "[[exception]]\ndomain = \"{domain}\"\nallow = \"encrypt\"\nuntil = \"{until}\"\nreason = \"ticket 4711\"\n\
             by = \"ops\"\n"
        )
    };
    let rules = format!(
        "[[destination]]\ndomain = \"raised.example\"\nminimum_tls = \"verify\"\nrate = \"600/m\"\n\
         [[destination]]\ndomain = \"*.routed.example\"\nnext_hop = \"hop.example:{port}\"\nuser = \"relay\"\n\
         password = \"secret-of-the-next-hop\"\nmax_connections = 5\n\
         [[destination]]\ndomain = \"refused.example\"\nnext_hop = \"lapsed.example:{port}\"\nuser = \"relay\"\n\
         password = \"secret-of-the-next-hop\"\n\
         [[destination]]\ndomain = \"smtps.example\"\nnext_hop = \"smtps://hop.example:{smtps}\"\nminimum_tls = \"none\"\n\
         [[destination]]\ndomain = \"here.example\"\nnext_hop = \"127.0.0.1:1\"\n"
    );
    let exceptions = [
        exception("broken.example", "2999-12-24"),
        exception("sound.example", "2999-12-24"),
        exception("over.example", "2020-01-01"),
        exception("b.routed.example", "2999-12-24"),
        exception("refused.example", "2999-12-24"),
    ];
    rules + &exceptions.concat()
}

type Shown = (&'static str, &'static str, Vec<&'static str>, Vec<(&'static str, Value)>);

/// Domain, answer, what a person reads, and what a program reads.
fn rows() -> Vec<Shown> {
    vec![
        (
            "dane.example",
            "delivered",
            vec![
                "  dnssec    trust-ad",
                "MX records naming 1 host, authenticated by DNSSEC",
                "(authenticated by DNSSEC)",
                "below mx.dane.example, authenticated by DNSSEC",
                "fault: untrusted (self-signed), of no account where a TLSA record decides",
                ": matches",
                "security level dane",
                "REQUIRETLS offered",
                "Mail with REQUIRETLS for dane.example would be delivered to mx.dane.example now, security level dane.",
            ],
            vec![
                ("/route/secure", true.into()),
                ("/hosts/0/addresses_secure", true.into()),
                ("/hosts/0/tlsa/state", "found".into()),
                ("/hosts/0/probes/0/tlsa/0/verdict", "match".into()),
                ("/requiretls/accepted", true.into()),
                ("/requiretls/answer", "delivered".into()),
            ],
        ),
        (
            "mismatch.example",
            "wait",
            vec![": does not match: matches no TLSA record", "cause tls_certificate", "validation-failure"],
            vec![
                ("/hosts/0/probes/0/tlsa/0/verdict", "mismatch".into()),
                ("/requiretls/answer", "wait".into()),
            ],
        ),
        // dane.require_both: DANE alone would be enough.
        (
            "both.example",
            "wait",
            vec![": matches", "mode enforce", "fault: untrusted (self-signed)\n", "cause tls_certificate"],
            vec![("/hosts/0/probes/0/tlsa/0/verdict", "match".into())],
        ),
        (
            "plain.example",
            "delivered",
            vec![
                "MX records naming 1 host, not authenticated by DNSSEC",
                "(not authenticated by DNSSEC)",
                "    tlsa    not asked for: DNSSEC does not vouch for the host's addresses",
                "security level plain",
                "requiretls Mail with REQUIRETLS for plain.example would be returned (5.7.30",
            ],
            vec![("/hosts/0/tlsa/state", "none".into()), ("/requiretls/answer", "returned".into())],
        ),
        (
            "raised.example",
            "wait",
            vec![
                "  rule      [[destination]] \"raised.example\"",
                "    demands verify (minimum_tls says so)",
                "    limits  600/m",
                "required by local policy",
            ],
            vec![("/rule/minimum_tls", "verify".into()), ("/rule/unseen", Value::Null)],
        ),
        // STS-60
        (
            "a.routed.example",
            "delivered",
            vec![
                "  route     a configured next hop",
                "\"*.routed.example\", next hop hop.example:",
                "    demands verify (a password is given over verified TLS only)",
                "    auth    as relay, over verified TLS only; whether it is taken is not tried",
                "    limits  5 connections",
                "    unseen  what a.routed.example promises is for hop.example to keep, and this relay does not see it",
                "  next hop  hop.example",
                "security level verified",
            ],
            vec![("/route/kind", "next hop".into()), ("/rule/user", "relay".into())],
        ),
        // OUT-56: an exception shows no password to whoever answers.
        (
            "b.routed.example",
            "delivered",
            vec!["    demand  TLS is required by local policy, with a certificate valid for hop.example\n"],
            vec![("/hosts/0/required_by/0", "local".into()), ("/exceptions/0/state", "in-force".into())],
        ),
        (
            "refused.example",
            "wait",
            vec![
                "exception: encrypt until 2999-12-24, by ops: ticket 4711; it does not cover what fails here\n",
                "cause tls_certificate",
            ],
            vec![("/hosts/0/probes/0/exception", Value::Null)],
        ),
        (
            "smtps.example",
            "wait",
            vec!["next hop smtps://hop.example:", "    demands encrypt (smtps is TLS)"],
            vec![("/rule/minimum_tls", "encrypt".into())],
        ),
        (
            "here.example",
            "wait",
            vec![
                "    demands none (the next hop is on this machine)",
                "    address 127.0.0.1 (from the configuration)",
                "cause connect",
            ],
            vec![("/hosts/0/addresses_from", "configuration".into())],
        ),
        (
            "broken.example",
            "delivered",
            vec![
                "  exception encrypt until 2999-12-24, by ops: ticket 4711\n",
                "            exception: encrypt until 2999-12-24, by ops: ticket 4711; without it mail would wait: ",
                "    verdict would get mail, security level encrypted, only by the exception that ops allowed until 2999-12-24",
                "security level encrypted, only by the exception that ops allowed until 2999-12-24.\n",
            ],
            vec![
                ("/exceptions/0/state", "in-force".into()),
                ("/hosts/0/probes/0/exception/reason", "ticket 4711".into()),
                ("/hosts/0/probes/0/exception_unneeded", false.into()),
            ],
        ),
        (
            "sound.example",
            "delivered",
            vec!["security level verified; the exception is not needed and would end with that"],
            vec![
                ("/hosts/0/probes/0/exception", Value::Null),
                ("/hosts/0/probes/0/exception_unneeded", true.into()),
            ],
        ),
        (
            "over.example",
            "wait",
            vec!["by ops: ticket 4711 (it is over and has no effect; remove it)", "cause tls_certificate"],
            vec![("/exceptions/0/state", "over".into())],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_binds_a_domain_and_what_lets_it_off_is_shown() {
    let world = World::start().await;
    let relay = staged(&world, sections(world.port, 1)).await;
    for (domain, answer, parts, values) in rows() {
        let (text, report) = check(&relay, &[domain, "--probe"]).await;
        assert_eq!(report["answer"], answer, "{text}");
        for part in parts {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
        for (place, want) in values {
            assert_eq!(report.pointer(place), Some(&want), "{place}:\n{report:#}");
        }
        assert!(!text.contains("secret-of-the-next-hop"), "{text}");
    }
}

// DANE-02: where answers are not believed nothing is signed, nobody is asked for TLSA records, and REQUIRETLS is not taken.
#[tokio::test(flavor = "multi_thread")]
async fn without_belief_nothing_counts_as_signed() {
    let world = World::start().await;
    let relay = staged(&world, String::new()).await;
    let config = std::fs::read_to_string(relay.config()).unwrap();
    for (belief, self_test, words) in [
        ("off", "", "  dnssec    off: switched off by dns.dnssec"),
        ("trust-ad", "self_test = { secure = \".\", bogus = \"mx.dane.example\" }", "  dnssec    off: "),
    ] {
        let changed = config.replace("dnssec = \"trust-ad\"", &format!("dnssec = \"{belief}\"\n{self_test}"));
        std::fs::write(relay.config(), changed).unwrap();
        let (text, report) = check(&relay, &["dane.example", "--probe"]).await;
        for part in
            [words, "not authenticated by DNSSEC", "not asked for: DNSSEC", "security level encrypted"]
        {
            assert!(text.contains(part), "{part:?} is missing:\n{text}");
        }
        assert!(
            text.contains("Senders cannot ask for it here: that takes DNSSEC that is believed"),
            "{text}"
        );
        assert_eq!(report["requiretls"]["accepted"], false);
        assert_eq!(report["hosts"][0]["probes"][0]["tlsa"], serde_json::json!([]));
    }
}
