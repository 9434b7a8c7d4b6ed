//! Domains with TLSA records of every kind, in zones that knot signs and unbound validates, some of them broken: what
//! becomes of mail to each, what its hosts saw and what the report will say. Then Postfix, which many trust with DANE,
//! sends to the same domains, and its verdicts are compared with ours.

mod row;
mod rows;
mod rows_dns;
mod signed;

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use row::{Row, Stage};
use signed::{SignedDns, Signing};

use crate::every_domain_gets_what_it_promised::records;
use crate::world::ca::Flaw;
use crate::world::client::{self, Client};
use crate::world::dns::Fault;
use crate::world::postfix::Postfix;
use crate::world::relay::{Relay, Setup};
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, can_run, path_of, relay_with, run};

/// The programs that must be there.
fn needs() -> Vec<&'static str> {
    [SignedDns::NEEDS, Postfix::NEEDS, &["unshare", "posttls-finger"]].concat()
}

/// How the zones are signed.
const ZONES: &[(&str, Signing)] = &[
    (".", Signing::Sound),
    ("example.", Signing::Sound),
    ("unsigned.example.", Signing::Unsigned),
    ("tlsa-bogus.example.", Signing::Broken("TLSA")),
    ("mx-bogus.example.", Signing::Broken("MX")),
    ("expired.example.", Signing::Expired),
    ("hashed.", Signing::Hashed),
    ("optout.", Signing::OptOut),
    ("insecure.optout.", Signing::Unsigned),
];

/// Where the verdicts of Postfix and ours differ, and how: the domain, ours, Postfix's. Explained in
/// `sealpost::manual::decisions`.
const DIFFERENCES: &[(&str, &str, &str)] =
    &[("d77.unsigned.example", "dane", "tls"), ("ta-short.example", "deferred", "dane")];

#[tokio::test(flavor = "multi_thread")]
async fn every_tlsa_record_counts_and_postfix_agrees() {
    if !can_run("DANE over knot and unbound, beside Postfix", &needs(), true) {
        return;
    }
    let world = World::start().await;
    let rows = rows::all();
    let (stages, dns) = stage(&world, &rows).await;
    let relay = relay(&world, &rows, &format!("servers = [\"{}\"]\ndnssec = \"auto\"", dns.resolver)).await;
    all_as_promised(&relay, &rows, &stages).await;
    let ours: Vec<String> = rows.iter().map(Row::verdict).collect();

    let theirs = postfix(&world, &dns, &rows).await;
    let fingers = fingers(&world, &dns, &rows).await;
    let mut table = String::new();
    for (i, row) in rows.iter().enumerate() {
        let known = DIFFERENCES.iter().find(|(domain, ..)| *domain == row.domain);
        let expected =
            known.map_or((ours[i].as_str(), ours[i].as_str()), |(_, ours, theirs)| (*ours, *theirs));
        let same = (ours[i].as_str(), theirs[i].0.as_str()) == expected
            && fingers[i] == finger(&theirs[i].0, row.taken_by.or_else(|| known.map(|_| 0)));
        table += &format!(
            "{} {:24} {:26} ours {:9} Postfix {:9} posttls-finger {:9} {}\n",
            if same { " " } else { "!" },
            row.domain,
            row.ids,
            ours[i],
            theirs[i].0,
            fingers[i],
            theirs[i].1
        );
    }
    assert!(!table.lines().any(|l| l.starts_with('!')), "\n{table}");
}

// DANE-01..03: this process validates what a resolver hands out that does not, and comes to the same in every row. The
// anchor is a DS record of the lab's own root.
#[tokio::test(flavor = "multi_thread")]
async fn validation_in_this_process_comes_to_the_same() {
    if !can_run("DNSSEC validation in the relay, over knot and unbound", SignedDns::NEEDS, true) {
        return;
    }
    let world = World::start().await;
    let rows = rows::all();
    let (stages, dns) = stage(&world, &rows).await;
    let anchor = world.dir.path().join("root.ds");
    std::fs::write(&anchor, format!("; of the lab\n{}\n", dns.root_key)).unwrap();
    let keys = format!(
        "servers = [\"{}\"]\ndnssec = \"validate\"\ntrust_anchor = \"{}\"",
        dns.without_validation,
        anchor.display()
    );
    let relay = relay(&world, &rows, &keys).await;
    all_as_promised(&relay, &rows, &stages).await;
    let checked = relay.cli(&["check", rows[0].domain, "--json"]).await.unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(checked["dnssec"].as_str().unwrap().starts_with("validate: "), "{checked}");
}

/// Hosts and zones of all rows.
async fn stage<'w>(world: &'w World, rows: &[Row]) -> (Vec<Stage<'w>>, SignedDns) {
    let mut stages: Vec<Stage<'_>> = Vec::new();
    let mut text: BTreeMap<&str, String> = BTreeMap::new();
    for row in rows {
        let mut stage = Stage::new(world, row.domain);
        (row.stage)(&mut stage);
        for line in &stage.records {
            *text.entry(zone_of(line)).or_default() += &format!("{line}\n");
        }
        stages.push(stage);
    }
    let zones: Vec<_> =
        ZONES.iter().map(|(name, how)| (*name, *how, text.remove(name).unwrap_or_default())).collect();
    let dns = SignedDns::start(world, &zones).await;
    (stages, dns)
}

/// A relay with these keys in `[dns]` and the rules of the rows, whose self-test has found that it validates.
async fn relay(world: &World, rows: &[Row], keys: &str) -> Relay {
    let keys =
        vec![("dns", format!("{keys}\nself_test = {{ secure = \".\", bogus = \"expired.example\" }}"))];
    let demanding = rows.iter().filter(|r| r.dane_only);
    let rules =
        demanding.map(|r| format!("[[destination]]\ndomain = \"{}\"\nminimum_tls = \"dane\"\n", r.domain));
    let relay = relay_with(world, Setup { keys, sections: rules.collect(), ..Setup::default() }).await;
    let believed = async || relay.log_text().contains("the self-test found that it validates").then_some(());
    assert!(eventually(PATIENCE, believed).await.is_some(), "{}", relay.log_text());
    relay
}

/// Mail to every domain, and what must become of it.
async fn all_as_promised(relay: &Relay, rows: &[Row], stages: &[Stage<'_>]) {
    let mut wrong = Vec::new();
    for row in rows {
        assert_eq!(relay.submit(SENDER, &row.recipient(), "dane").await.code, 250, "{}", row.domain);
    }
    for (row, stage) in rows.iter().zip(stages) {
        wrong.extend(check(relay, row, stage).await);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What posttls-finger must say beside such a verdict. It sends no mail, asks the first host only, and refuses nothing:
/// that a certificate did not match shows in its word.
fn finger(verdict: &str, taken_by: Option<usize>) -> &'static str {
    if verdict == "dane" && taken_by == Some(0) { "dane" } else { "-" }
}

/// The zone that a record belongs to: the longest that its owner ends in.
fn zone_of(line: &str) -> &'static str {
    let owner = line.split_whitespace().next().unwrap();
    let inside = |zone: &str| zone == "." || owner == zone || owner.ends_with(&format!(".{zone}"));
    ZONES.iter().map(|(z, _)| *z).filter(|z| inside(z)).max_by_key(|z| z.len()).unwrap()
}

async fn check(relay: &Relay, row: &Row, stage: &Stage<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let line = relay.delivery(&row.recipient(), 1).await;
    let said = |key: &str| line.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let outcome = said("outcome");
    let how = if outcome == "delivered" { said("security") } else { said("enhanced") };
    if (outcome.as_str(), how.as_str()) != row.want {
        wrong.push(format!("{outcome} {how}, not {:?}: {}", row.want, said("text")));
    }
    // DANE-16: what the domain says of its hosts is authenticated, or the log says that it is not.
    let signed =
        ZONES.iter().any(|(z, how)| *z == zone_of(&format!("{}.", row.domain)) && *how != Signing::Unsigned);
    let mx_secure = line.get("mx_secure").and_then(serde_json::Value::as_bool);
    if outcome == "delivered" && mx_secure != Some(signed) {
        wrong.push(format!("mx_secure is {mx_secure:?}"));
    }
    if !said("text").contains(row.text) {
        wrong.push(format!("the text is {:?}, without {:?}", said("text"), row.text));
    }
    if outcome == "deferred" {
        let waiting = relay.deferred(&row.recipient()).await;
        if waiting["last"]["enhanced"] != how {
            wrong.push(format!("the queue says {waiting}"));
        }
    }
    let same = async || (records(relay, row.domain) == row.records).then_some(());
    if eventually(PATIENCE, same).await.is_none() {
        wrong.push(format!("records are {:?}, not {:?}", records(relay, row.domain), row.records));
    }
    for (i, host) in stage.hosts.iter().enumerate() {
        let seen = host.seen();
        let (mails, messages) = (seen.mail_commands(true) + seen.mail_commands(false), seen.messages.len());
        let taken = usize::from(row.taken_by == Some(i));
        if (mails, messages) != (taken, taken) {
            wrong.push(format!("{} saw {mails} MAIL and {messages} messages", host.name()));
        }
        if row.want.1 != "plain" && seen.mail_commands(false) > 0 {
            wrong.push(format!("{} saw MAIL in the clear", host.name()));
        }
        if row.connections.is_some_and(|c| c != seen.connections.len()) {
            wrong.push(format!("{} saw {} connections", host.name(), seen.connections.len()));
        }
        if let (Some(sni), Some(connection)) = (row.sni, seen.connections.first())
            && connection.sni.as_deref() != Some(sni)
        {
            wrong.push(format!("{} was asked for {:?}", host.name(), connection.sni));
        }
    }
    wrong.into_iter().map(|w| format!("{} ({}): {w}", row.domain, row.ids)).collect()
}

/// Postfix's verdicts, each with its words.
async fn postfix(world: &World, dns: &SignedDns, rows: &[Row]) -> Vec<(String, String)> {
    let (at, leaf) = (world.address(6), world.ca.issue(Flaw::None, &["judge.lab.example"]));
    let folder = world.dir.path().join("judge");
    let next: Vec<(&str, String)> =
        rows.iter().map(|r| (r.domain, format!("smtp:{}:{}", r.domain, world.port))).collect();
    let demanding = rows.iter().filter(|r| r.dane_only);
    let levels: Vec<String> =
        demanding.map(|r| format!("{{{}:{} = dane-only}}", r.domain, world.port)).collect();
    let more = format!(
        "smtp_tls_CAfile = {}\nsmtp_tls_policy_maps = inline:{{ {} }}\n",
        world.dir.path().join("ca.pem").display(),
        levels.join(" ")
    );
    let postfix = Postfix::sender(&folder, at, &leaf, &dns.resolv_conf, &next, &more).await;
    let mut client = Client::connect(at).await.unwrap();
    for row in rows {
        let content = client::message(SENDER, &row.recipient(), "judge");
        assert_eq!(client.submit(SENDER, &[&row.recipient()], &content).await.unwrap().code, 250);
    }
    let mut verdicts = Vec::new();
    for row in rows {
        let to = format!("to=<{}>", row.recipient());
        let done = async || {
            let log = postfix.log();
            log.lines().find(|l| l.contains(&to) && l.contains("status=")).map(str::to_owned)
        };
        let line = eventually(PATIENCE, done).await;
        let line = line.unwrap_or_else(|| panic!("nothing about {to}: {}", postfix.log()));
        let words = line.split_once("status=").unwrap().1.to_owned();
        let relay = line.split_once("relay=").unwrap().1.split('[').next().unwrap().to_owned();
        let verdict = if words.starts_with("sent") {
            let needle = format!(" TLS connection established to {relay}[");
            match postfix.log().lines().find(|l| l.contains(&needle)) {
                Some(l) if l.contains(": Verified TLS") => "dane",
                Some(_) => "tls",
                None => "plain",
            }
        } else {
            words.split(' ').next().unwrap()
        };
        verdicts.push((verdict.to_owned(), words));
    }
    verdicts
}

/// What posttls-finger says of each domain: `dane` or `-`.
async fn fingers(world: &World, dns: &SignedDns, rows: &[Row]) -> Vec<String> {
    let command = Postfix::in_world(&dns.resolv_conf, &path_of("posttls-finger"));
    let ca = world.dir.path().join("ca.pem").display().to_string();
    let mut all = Vec::new();
    for row in rows {
        let target = format!("{}:{}", row.domain, world.port);
        let words: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
        let more = ["-l", "dane", "-F", &ca, "-t", "50", "-T", "50", "-L", "summary", &target];
        let said = run(&command[0], &[&words[..], &more].concat()).await;
        let verdict = if said.contains("Verified TLS connection") { "dane" } else { "-" };
        all.push(verdict.to_owned());
    }
    all
}

// DANE-02: a resolver that calls everything authenticated is found out; mail flows as if nothing were signed, and log,
// readiness and `check` say so.
#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_authenticates_everything_switches_dane_off() {
    let world = World::start().await;
    let host = world.domain("a.example").await;
    world.dns.tlsa(&format!("_{}._tcp.{}", world.port, host.name()), [7; 32]);
    world.dns.a("broken.example", "192.0.2.1".parse().unwrap());
    world.dns.authenticated(true);
    let dns = "dnssec = \"auto\"\nself_test = { secure = \".\", bogus = \"broken.example\" }".to_owned();
    let keys = vec![("dns", dns)];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    let off = async || relay.log_text().contains("DANE is off").then_some(());
    assert!(eventually(PATIENCE, off).await.is_some(), "{}", relay.log_text());
    relay.submit(SENDER, "u@a.example", "flows").await;
    let line = relay.delivery("u@a.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"encrypted".into()), "{line:?}");
    let checked = relay.cli(&["check", "a.example", "--json"]).await.unwrap();
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert!(checked["dnssec"].as_str().unwrap().starts_with("off: "), "{checked}");
    let at = world.address(2);
    let mut admin = tokio::net::TcpStream::connect(at).await.unwrap();
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n");
    admin.write_all(request.as_bytes()).await.unwrap();
    let mut ready = String::new();
    admin.read_to_string(&mut ready).await.unwrap();
    assert!(ready.contains("its AD bit means nothing"), "{ready}");
}

// DANE-02: whoever drops the packets of the self-test, or answers SERVFAIL, cannot switch DANE off.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_test_without_an_answer_leaves_dane_on() {
    let world = World::start().await;
    let host = world.domain("a.example").await;
    let records = format!("_{}._tcp.{}", world.port, host.name());
    world.dns.tlsa(&records, [7; 32]);
    for name in ["a.example", host.name(), &records] {
        world.dns.sign(name);
    }
    world.dns.fault("broken.example", Some(Fault::ServFail));
    world.dns.fault("dropped.example", Some(Fault::Refused));
    let dns = "dnssec = \"auto\"\nself_test = { secure = \"dropped.example\", bogus = \"broken.example\" }"
        .to_owned();
    let keys = vec![("dns", dns)];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    let told = async || relay.log_text().contains("gave no answer to the self-test").then_some(());
    assert!(eventually(PATIENCE, told).await.is_some(), "{}", relay.log_text());
    relay.submit(SENDER, "u@a.example", "waits").await;
    let line = relay.delivery("u@a.example", 1).await;
    assert_eq!((&line["outcome"], &line["enhanced"]), (&"deferred".into(), &"4.7.5".into()), "{line:?}");
    assert_eq!(host.saw(), (0, 0));
}
