//! Postfix as MX host under an enforce policy: verified mail arrives; with postgrey, at the second attempt.

use crate::every_domain_gets_what_it_promised::records as records_of;
use crate::world::ca::{Flaw, Leaf};
use crate::world::daemon::Daemon;
use crate::world::postfix::Postfix;
use crate::world::relay::Setup;
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, can_run, relay, relay_with};

/// Makes Postfix the MX host of `a.example`, under an enforce policy.
pub(crate) async fn postfix_for(world: &World, flaw: Flaw, more: &str) -> Postfix {
    let at = world.address(5);
    world.dns.a("mx.a.example", at.ip());
    world.dns.mx("a.example", &[(10, "mx.a.example")]);
    world.publish_policy("a.example", "1", "enforce", &["mx.a.example"]);
    let leaf = world.ca.issue(flaw, &["mx.a.example"]);
    let folder = world.dir.path().join("postfix");
    Postfix::start(&folder, "mx.a.example", &["a.example"], at, &leaf, more).await
}

#[tokio::test(flavor = "multi_thread")]
async fn verified_mail_arrives() {
    if !can_run("Postfix takes verified mail", Postfix::NEEDS, true) {
        return;
    }
    let world = World::start().await;
    let postfix = postfix_for(&world, Flaw::None, "").await;
    let relay = relay(&world).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "to-postfix").await.code, 250);
    let line = relay.delivery("u@a.example", 1).await;
    assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"verified".into()), "{line:?}");
    relay.gone("u@a.example").await;
    let arrived = async || postfix.mailbox().contains("Subject: to-postfix\n").then_some(());
    eventually(PATIENCE, arrived).await.expect("in the mailbox");
    assert!(postfix.mailbox().contains("(using TLSv1.3 with cipher"), "{}", postfix.mailbox());
    relay.session_with("a.example", "a.example").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_keeps_the_envelope_from_postfix() {
    if !can_run("Postfix with an expired certificate", Postfix::NEEDS, true) {
        return;
    }
    let world = World::start().await;
    let postfix = postfix_for(&world, Flaw::Expired, "").await;
    let relay = relay(&world).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "never").await.code, 250);
    let row = relay.deferred("u@a.example").await;
    assert_eq!(row["last"]["tls_failure"], "certificate-expired", "{row}");
    relay.session_with("a.example", "certificate-expired").await;
    // The look whether Postfix listens has said no word; the relay has said STARTTLS.
    let session = |l: &str| l.contains("disconnect from") && l.contains(" starttls=");
    let left = async || postfix.log().lines().any(session).then_some(());
    eventually(PATIENCE, left).await.expect("Postfix logs the end of the session");
    assert!(!postfix.log().contains("mail=") && !postfix.log().contains("client="), "{}", postfix.log());
    assert!(postfix.mailbox().is_empty());
}

// DANE-22: OpenSSL signs the handshake with an RSA key of 1024 bits, and the record names that key.
#[tokio::test(flavor = "multi_thread")]
async fn a_short_key_that_a_tlsa_record_names_is_enough() {
    if !can_run("Postfix with an RSA key of 1024 bits", Postfix::NEEDS, true) {
        return;
    }
    for version in ["TLSv1.2", "TLSv1.3"] {
        let world = World::start().await;
        let at = world.address(5);
        let records = format!("_{}._tcp.mx.a.example", at.port());
        let leaf = Leaf::short();
        world.dns.a("mx.a.example", at.ip());
        world.dns.mx("a.example", &[(10, "mx.a.example")]);
        world.dns.tlsa(&records, leaf.key_digest(0));
        for name in ["a.example", "mx.a.example", &records] {
            world.dns.sign(name);
        }
        let (folder, only) = (world.dir.path().join("postfix"), format!("smtpd_tls_protocols = {version}"));
        let postfix = Postfix::start(&folder, "mx.a.example", &["a.example"], at, &leaf, &only).await;
        let keys = vec![("dns", "dnssec = \"trust-ad\"".to_owned())];
        let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
        assert_eq!(relay.submit(SENDER, "u@a.example", "short").await.code, 250);
        let line = relay.delivery("u@a.example", 1).await;
        assert_eq!((&line["outcome"], &line["security"]), (&"delivered".into(), &"dane".into()), "{line:?}");
        let arrived = async || postfix.mailbox().contains("Subject: short\n").then_some(());
        eventually(PATIENCE, arrived).await.expect("in the mailbox");
        let shown = format!("(using {version} with cipher");
        assert!(postfix.mailbox().contains(&shown), "{}", postfix.mailbox());
        let counted = async || (records_of(&relay, "a.example") == ["tlsa +1 -0"]).then_some(());
        eventually(PATIENCE, counted).await.expect("in the report");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgrey_makes_it_wait_once() {
    let needs = [Postfix::NEEDS, &["postgrey"]].concat();
    if !can_run("Postfix with postgrey", &needs, true) {
        return;
    }
    let world = World::start().await;
    let (at, folder) = (world.address(6), world.dir.path());
    let database = folder.join("postgrey");
    std::fs::create_dir(&database).unwrap();
    std::os::unix::fs::chown(&database, Some(crate::user_id("postgrey")), None).unwrap();
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (inet, dbdir) = (format!("--inet={at}"), format!("--dbdir={}", database.display()));
    let words = [&*inet, &dbdir, "--delay=1", "--auto-whitelist-clients=0", "--hostname=mx.a.example"];
    let _postgrey =
        Daemon::start(&crate::path_of("postgrey"), &words, at, &folder.join("postgrey.log")).await;

    let rules = format!("smtpd_recipient_restrictions = check_policy_service inet:{at}");
    let postfix = postfix_for(&world, Flaw::None, &rules).await;
    let keys = vec![("queue", "retry = [\"2s\"]".to_owned())];
    let relay = relay_with(&world, Setup { keys, ..Setup::default() }).await;
    assert_eq!(relay.submit(SENDER, "u@a.example", "grey").await.code, 250);
    let first = relay.delivery("u@a.example", 1).await;
    assert_eq!((&first["outcome"], &first["stage"]), (&"deferred".into(), &"rcpt".into()), "{first:?}");
    let last = relay.delivered("u@a.example").await;
    assert_eq!(last["security"], "verified", "{last:?}");
    relay.gone("u@a.example").await;
    let arrived = async || postfix.mailbox().contains("Subject: grey\n").then_some(());
    eventually(PATIENCE, arrived).await.expect("in the mailbox");
    assert!(postfix.log().contains("Greylisted"), "{}", postfix.log());
}
