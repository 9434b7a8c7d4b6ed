//! `cargo run --release --example lab`: what the relay does, shown in under a minute.
//!
//! Starts a private internet on loopback and the real relay on it, primes each domain while it is sound, breaks
//! most of them, submits again, prints one table, repairs one domain and shows the waiting mail go out. The
//! reasons in the table are the relay's own words. Exit status 0 means that every row ended as it had to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a demonstration may fail loudly"
)]

#[path = "world/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "lab, bench and scenarios each use a part of the world")]
mod world;

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Instant;

use sealpost::tlsrpt::read::{ReceivedReport, read};
use sealpost::tlsrpt::report::Summary;
use serde_json::{Map, Value};

use world::ca::{Flaw, Leaf};
use world::collector::Collector;
use world::mx::{MxHost, StartTls};
use world::relay::Relay;
use world::{PATIENCE, World, clear_of_midnight, eventually};

/// The name of the envelope sender's domain.
const SENDER: &str = "app@sender.example";

/// One domain of the lab.
struct Case {
    domain: &'static str,
    /// What is staged, for the reader.
    kind: &'static str,
    /// The outcome, security level and RFC 8460 result that must come of it ("" for none).
    expected: (&'static str, &'static str, &'static str),
}

/// All domains, in the order of the table.
const CASES: &[Case] = &[
    case("sound.example", "enforce, all sound", ("delivered", "verified", "")),
    case("expired.example", "enforce, certificate ran out", ("deferred", "", "certificate-expired")),
    case(
        "wrongname.example",
        "enforce, certificate for another name",
        ("deferred", "", "certificate-host-mismatch"),
    ),
    case("untrusted.example", "enforce, unknown authority", ("deferred", "", "certificate-not-trusted")),
    case("stripped.example", "enforce, STARTTLS stripped", ("deferred", "", "starttls-not-supported")),
    case("unlisted.example", "enforce, MX not in the policy", ("deferred", "", "validation-failure")),
    case("onebad.example", "enforce, one bad and one good MX", ("delivered", "verified", "")),
    case("testing.example", "testing, certificate ran out", ("delivered", "encrypted", "")),
    case("nopolicy.example", "no policy, self-signed certificate", ("delivered", "encrypted", "")),
    case("plain.example", "no policy, no STARTTLS", ("delivered", "plain", "")),
    case("cached.example", "enforce in the cache, policy host down", ("delivered", "verified", "")),
    case("cachedbad.example", "the same, and STARTTLS stripped", ("deferred", "", "starttls-not-supported")),
    case("dane.example", "DANE, self-signed certificate", ("delivered", "dane", "")),
    case("danebad.example", "DANE, another key after a renewal", ("deferred", "", "validation-failure")),
    case("nullmx.example", "takes no mail", ("bounced", "", "")),
    case("nosuch.example", "does not exist", ("bounced", "", "")),
    case("refused.example", "enforce, mailbox refused", ("bounced", "verified", "")),
    case("greylist.example", "enforce, greylisted", ("deferred", "verified", "")),
];

const fn case(
    domain: &'static str,
    kind: &'static str,
    expected: (&'static str, &'static str, &'static str),
) -> Case {
    Case { domain, kind, expected }
}

fn main() -> ExitCode {
    // The relay process is this program: `lab serve …` is `sealpost serve …`.
    let first = std::env::args().nth(1).unwrap_or_default();
    if !first.is_empty() && !first.starts_with("--stay") && first != "--help" {
        return sealpost::cli::main();
    }
    if first == "--help" {
        println!("lab [--stay]: shows what the relay does to domains that keep or break their promises");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(show(first == "--stay"))
}

async fn show(stay: bool) -> ExitCode {
    clear_of_midnight().await;
    let begun = Instant::now();
    let say = |text: &str| println!("{:5.1} s  {text}", begun.elapsed().as_secs_f32());

    say("starting a private internet: an authority, DNS, policy hosts, MX hosts");
    let world = World::start().await;
    let (hosts, pinned) = build(&world).await;

    say("starting the relay");
    let program = std::env::current_exe().unwrap();
    let collector = reporting(&world).await;
    let mut setup = world.reporting("sender.example");
    // Its resolver is on this machine, and what it calls authenticated is believed.
    setup.keys.push(("dns", "dnssec = \"auto\"".to_owned()));
    let mut relay = Relay::start(&program, &world, setup).await;

    say("priming: one message to each domain that will break, while it is sound");
    for domain in PRIMED {
        let to = format!("prime@{domain}");
        submit(&relay, &to).await;
    }
    for domain in PRIMED {
        let line = relay.delivery(&format!("prime@{domain}"), 1).await;
        assert_eq!(line["outcome"], "delivered", "priming {domain}: {line:?}");
    }

    say("breaking them: certificates, STARTTLS, policy hosts");
    break_things(&world, &hosts);

    say("submitting one message to every domain");
    for case in CASES {
        submit(&relay, &format!("user@{}", case.domain)).await;
    }
    let mut lines = HashMap::new();
    for case in CASES {
        lines.insert(case.domain, relay.delivery(&format!("user@{}", case.domain), 1).await);
    }
    say("every message had its attempt\n");
    let promises = promises(&relay).await;
    let mut wrong = table(&promises, &lines);

    println!();
    say("repairing expired.example: a new certificate; then `queue retry` and `policy refresh`");
    let host = &hosts["expired.example"];
    host.certificate(&world.ca.issue(Flaw::None, &[host.name()]));
    relay.json(&["policy", "refresh", "expired.example"]).await;
    wrong += retried(&relay, "expired.example", "verified", &say).await;
    say("repairing danebad.example: the certificate whose key the DNS names; then `queue retry`");
    hosts["danebad.example"].certificate(&pinned);
    wrong += retried(&relay, "danebad.example", "dane", &say).await;

    say("and the greylisted one: `queue retry`");
    let id = waiting_id(&relay, "user@greylist.example").await;
    relay.json(&["queue", "retry", &id]).await;
    let line = relay.delivery("user@greylist.example", 2).await;
    say(&format!("greylist.example: {} ({})", word(&line, "outcome"), reason(&line)));
    wrong += usize::from(line["outcome"] != "delivered");

    println!();
    say("how the relay stands in the eyes of others: `check --probe`");
    let standing = relay.cli(&["check", "--probe"]).await.unwrap();
    println!("{}", String::from_utf8_lossy(&standing.stdout));
    wrong += usize::from(!standing.status.success());
    say("sending the reports of the day so far: `report send`");
    wrong += reports(&relay, &hosts, &collector).await;

    println!();
    wrong += never(&hosts);
    let waiting = relay.queue().await.len();
    say(&format!("{waiting} recipients still wait, each with its reason; {wrong} surprises"));
    if stay {
        keep_up(&world, &relay).await;
    }
    relay.stop().await;
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Retries the mail that waits for `domain`; 1 when it does not go out at this level.
async fn retried(relay: &Relay, domain: &str, level: &str, say: &impl Fn(&str)) -> usize {
    let to = format!("user@{domain}");
    let id = waiting_id(relay, &to).await;
    relay.json(&["queue", "retry", &id]).await;
    let line = relay.delivery(&to, 2).await;
    let (outcome, security) = (word(&line, "outcome"), word(&line, "security"));
    say(&format!("{domain}: {outcome} ({}), security {security}", reason(&line)));
    usize::from((outcome, security) != ("delivered", level))
}

/// Domains that get a message while they are sound.
const PRIMED: &[&str] = &[
    "expired.example",
    "wrongname.example",
    "untrusted.example",
    "stripped.example",
    "testing.example",
    "cached.example",
    "cachedbad.example",
    "danebad.example",
];

/// All domains, sound where they will be primed; and the certificate that the DNS knows of `danebad.example`.
async fn build(world: &World) -> (HashMap<&'static str, MxHost>, Leaf) {
    let mut hosts = HashMap::new();
    let sender = world.domain("sender.example").await;
    hosts.insert("sender.example", sender);
    for case in CASES {
        let domain = case.domain;
        if ["nullmx.example", "nosuch.example", "onebad.example"].contains(&domain) {
            continue;
        }
        let host = world.domain(domain).await;
        let listed = if domain == "unlisted.example" { "mx.elsewhere.example" } else { host.name() };
        match domain {
            "nopolicy.example" | "plain.example" | "dane.example" | "danebad.example" => {}
            "testing.example" => world.publish_policy(domain, "1", "testing", &[listed]),
            _ => world.publish_policy(domain, "1", "enforce", &[listed]),
        }
        hosts.insert(domain, host);
    }
    world.dns.mx("nullmx.example", &[(0, ".")]);

    let (bad, good) = (world.mx_host("mx1.onebad.example").await, world.mx_host("mx2.onebad.example").await);
    world.dns.mx("onebad.example", &[(10, bad.name()), (20, good.name())]);
    world.publish_policy("onebad.example", "1", "enforce", &["*.onebad.example"]);
    bad.certificate(&world.ca.issue(Flaw::SelfSigned, &[bad.name()]));
    hosts.insert("onebad.example", bad);

    // Signed as the resolver sees it, and so is the root, which the relay's self-test asks about.
    for name in [".", "dane.example", "danebad.example"] {
        world.dns.sign(name);
    }
    pin(world, &hosts["dane.example"]);
    let pinned = pin(world, &hosts["danebad.example"]);
    let own = &hosts["nopolicy.example"];
    own.certificate(&world.ca.issue(Flaw::SelfSigned, &[own.name()]));
    hosts["plain.example"].behave(|b| b.starttls = StartTls::Stripped);
    hosts["greylist.example"].behave(|b| b.greylist = true);
    hosts["refused.example"].behave(|b| {
        let reply = "550 5.1.1 no such mailbox here".to_owned();
        b.rcpt.insert("user@refused.example".to_owned(), reply);
    });
    (hosts, pinned)
}

/// Gives a host a self-signed certificate, and a signed record of its key.
fn pin(world: &World, host: &MxHost) -> Leaf {
    let leaf = world.ca.issue(Flaw::SelfSigned, &[host.name()]);
    host.certificate(&leaf);
    let records = format!("_{}._tcp.{}", world.port, host.name());
    world.dns.tlsa(&records, leaf.key_digest(0));
    world.dns.sign(host.name());
    world.dns.sign(&records);
    leaf
}

fn break_things(world: &World, hosts: &HashMap<&'static str, MxHost>) {
    for (domain, flaw) in [
        ("expired.example", Flaw::Expired),
        ("testing.example", Flaw::Expired),
        ("wrongname.example", Flaw::WrongName),
        ("untrusted.example", Flaw::UntrustedIssuer),
        // A new key, and nobody has told the DNS.
        ("danebad.example", Flaw::None),
    ] {
        let host = &hosts[domain];
        host.certificate(&world.ca.issue(flaw, &[host.name()]));
    }
    for domain in ["stripped.example", "cachedbad.example"] {
        hosts[domain].behave(|b| b.starttls = StartTls::Stripped);
        hosts[domain].hang_up();
    }
    for domain in ["cached.example", "cachedbad.example"] {
        // A new record announces a policy that cannot be fetched: nothing answers at .254.
        world.dns.a(&format!("mta-sts.{domain}"), world.address(254).ip());
        world.dns.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=2;");
    }
}

async fn submit(relay: &Relay, to: &str) {
    let subject = format!("lab-{}", to.replace('@', "-"));
    let reply = relay.submit(SENDER, to, &subject).await;
    assert_eq!(reply.code, 250, "{to}: {reply:?}");
}

/// What the relay's policy cache says of each domain.
async fn promises(relay: &Relay) -> HashMap<String, String> {
    let list = relay.json(&["policy", "list"]).await;
    let mut found = HashMap::new();
    for row in list.as_array().unwrap() {
        found.insert(text(&row["domain"]), text(&row["mode"]));
    }
    found
}

/// Prints the table and returns how many rows ended otherwise than they had to.
fn table(promises: &HashMap<String, String>, lines: &HashMap<&str, Map<String, Value>>) -> usize {
    println!("{:18} {:38} {:8} {:10} {:10} reason", "domain", "staged", "promised", "happened", "security");
    let mut wrong = 0;
    for case in CASES {
        let line = &lines[case.domain];
        let seen = (word(line, "outcome"), word(line, "security"), word(line, "tls_failure"));
        let (outcome, security, failure) = case.expected;
        let right = seen.0 == outcome
            && (security.is_empty() || seen.1 == security)
            && (outcome == "delivered" || failure.is_empty() || seen.2 == failure);
        wrong += usize::from(!right);
        println!(
            "{:18} {:38} {:8} {:10} {:10} {}{}",
            case.domain,
            case.kind,
            promises.get(case.domain).map_or("-", String::as_str),
            seen.0,
            if seen.0 == "delivered" { seen.1 } else { "-" },
            reason(line),
            if right { String::new() } else { format!("   << expected {outcome} {security} {failure}") }
        );
    }
    wrong
}

/// Domains that ask for TLS reports, by mail, by HTTPS or both.
const ASKING: &[(&str, &str)] = &[
    ("sound.example", "mail"),
    ("expired.example", "mail HTTPS"),
    ("unlisted.example", "HTTPS"),
    ("testing.example", "HTTPS"),
    ("stripped.example", "mail"),
];

/// Publishes who asks for reports. Reports by mail go to the domain itself, whatever is broken there.
async fn reporting(world: &World) -> Collector {
    let collector = world.collector("reports.collector.example").await;
    for (domain, ways) in ASKING {
        let uris = ways.split(' ').map(|way| match way {
            "mail" => format!("mailto:tlsrpt@{domain}"),
            _ => format!("https://reports.collector.example:{}/{domain}", collector.address().port()),
        });
        let uris = uris.collect::<Vec<_>>().join(",");
        world.dns.txt(&format!("_smtp._tls.{domain}"), &format!("v=TLSRPTv1; rua={uris}"));
    }
    collector
}

/// Sends the reports and prints each as its receiver got it; returns how many did not arrive.
async fn reports(relay: &Relay, hosts: &HashMap<&'static str, MxHost>, collector: &Collector) -> usize {
    let sent = relay.json(&["report", "send"]).await;
    assert_eq!(sent["sent"].as_array().unwrap().len(), ASKING.len(), "{sent}");
    println!("{:18} {:6} {:>5} {:>6} {:38} report-id", "report about", "by", "good", "failed", "why");
    let mut missing = 0;
    for (domain, ways) in ASKING {
        for way in ways.split(' ') {
            let arrived = async || match way {
                "mail" => by_mail(&hosts[domain]),
                _ => by_https(collector, domain),
            };
            match eventually(PATIENCE, arrived).await {
                Some(report) => print_report(domain, way, &report),
                None => {
                    println!("{domain:18} {way:6} did not arrive");
                    missing += 1;
                }
            }
        }
    }
    missing
}

/// The report among the mail that a host got.
fn by_mail(host: &MxHost) -> Option<ReceivedReport> {
    let seen = host.seen();
    seen.messages.iter().find_map(|m| read(&m.content).into_iter().find_map(Result::ok))
}

/// The report about `domain` that was posted.
fn by_https(collector: &Collector, domain: &str) -> Option<ReceivedReport> {
    let posts = collector.posts();
    let post = posts.iter().find(|p| p.line.starts_with(&format!("POST /{domain} ")))?;
    read(&post.body).into_iter().find_map(Result::ok)
}

fn print_report(domain: &str, way: &str, report: &ReceivedReport) {
    let count = |of: fn(&Summary) -> u64| report.policies.iter().map(|p| of(&p.summary)).sum::<u64>();
    let (good, failed) =
        (count(|s| s.total_successful_session_count), count(|s| s.total_failure_session_count));
    let mut why: Vec<&str> =
        report.policies.iter().flat_map(|p| &p.failure_details).map(|d| d.result_type.as_str()).collect();
    why.sort_unstable();
    why.dedup();
    let why = if why.is_empty() { "-".to_owned() } else { why.join(" ") };
    println!("{domain:18} {way:6} {good:>5} {failed:>6} {why:38} {}", report.report_id);
}

/// What no host may have seen: an envelope without the TLS that an enforce policy asks for.
fn never(hosts: &HashMap<&'static str, MxHost>) -> usize {
    let mut wrong = 0;
    for (domain, host) in hosts {
        let seen = host.seen();
        // Our own reports go where TLS is broken too: they tell of it (RFC 8460 §3).
        let reports = seen.messages.iter().filter(|m| !m.tls && m.text().contains("\r\nTLS-Report-Domain: "));
        let in_clear = seen.mail_commands(false) - reports.count();
        if in_clear > 0 && *domain != "plain.example" {
            println!("{domain} saw {in_clear} MAIL FROM in the clear");
            wrong += 1;
        }
        if *domain == "unlisted.example" && !seen.connections.is_empty() {
            println!("{domain} was connected to although no policy lists it");
            wrong += 1;
        }
    }
    wrong
}

async fn waiting_id(relay: &Relay, recipient: &str) -> String {
    text(&relay.deferred(recipient).await["id"])
}

/// The relay's words for why: its text, with the RFC 8460 result where there is one.
fn reason(line: &Map<String, Value>) -> String {
    let parts = ["enhanced", "tls_failure", "text"].map(|k| word(line, k));
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(" ")
}

fn word<'a>(line: &'a Map<String, Value>, field: &str) -> &'a str {
    line.get(field).and_then(Value::as_str).unwrap_or("")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Says what can be tried and waits for Ctrl-C.
async fn keep_up(world: &World, relay: &Relay) {
    let (at, config) = (relay.submission(), relay.config().display());
    let sealpost = std::env::current_exe().unwrap();
    let sealpost = sealpost.display();
    println!(
        "
The lab stays up until Ctrl-C. Submit with:
  swaks --server {ip} --port {port} --from {SENDER} --to user@stripped.example
  nc {ip} {port}
and look at it with (this program is `sealpost` too):
  {sealpost} queue list --config {config}
  {sealpost} queue show ID --config {config}
  {sealpost} check stripped.example --probe --config {config}
  {sealpost} policy show cached.example --config {config}
  {sealpost} policy refresh cached.example --config {config}
  {sealpost} queue retry ID --config {config}
  {sealpost} check --config {config}
  {sealpost} report check --config {config}
  {sealpost} report preview --config {config}
  {sealpost} report send --config {config}
  {sealpost} report list --config {config}
  {sealpost} report show 1 --config {config}
Its DNS answers at:
  dig @{dns} -p {port} MX onebad.example",
        ip = at.ip(),
        port = at.port(),
        dns = world.dns.address().ip(),
    );
    tokio::signal::ctrl_c().await.unwrap();
}
