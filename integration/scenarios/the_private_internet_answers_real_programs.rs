//! The lab itself is believed by dig, curl, openssl and swaks, so that a scenario tests the relay and not the lab.

use crate::world::ca::Flaw;
use crate::world::dns::Fault;
use crate::world::mx::StartTls;
use crate::world::postfix::Postfix;
use crate::world::{PATIENCE, World, eventually};
use crate::{can_run, run};

#[tokio::test]
async fn dig_gets_every_kind_of_answer() {
    if !can_run("dig_gets_every_kind_of_answer", &["dig"], false) {
        return;
    }
    let world = World::start().await;
    world.enforcing_domain("a.example").await;
    world.dns.mx("null.example", &[(0, ".")]);
    world.dns.cname("alias.example", "a.example");
    world.dns.fault("broken.example", Some(Fault::ServFail));
    world.dns.fault("refused.example", Some(Fault::Refused));
    let at = world.dns.address();
    let (server, port) = (format!("@{}", at.ip()), at.port().to_string());
    let dig = async |more: &[&str]| {
        run("dig", &[&[&*server, "-p", &*port, "+tries=1", "+time=60"], more].concat()).await
    };
    assert!(dig(&["MX", "a.example"]).await.contains("10 mx.a.example."));
    assert!(dig(&["+tcp", "MX", "A.Example"]).await.contains("10 mx.a.example."));
    assert!(dig(&["TXT", "_mta-sts.a.example"]).await.contains("\"v=STSv1; id=1;\""));
    assert!(dig(&["MX", "null.example"]).await.contains("0 ."));
    assert!(dig(&["MX", "alias.example"]).await.contains("10 mx.a.example."));
    assert!(dig(&["AAAA", "a.example"]).await.contains("status: NOERROR"));
    assert!(dig(&["MX", "nowhere.example"]).await.contains("status: NXDOMAIN"));
    assert!(dig(&["MX", "broken.example"]).await.contains("status: SERVFAIL"));
    assert!(dig(&["MX", "refused.example"]).await.contains("status: REFUSED"));
    world.dns.authenticated(true);
    assert!(dig(&["MX", "a.example"]).await.contains("qr aa rd ra ad"));
}

#[tokio::test]
async fn curl_fetches_a_policy_and_refuses_a_wrong_certificate() {
    if !can_run("curl_fetches_a_policy_and_refuses_a_wrong_certificate", &["curl"], false) {
        return;
    }
    let world = World::start().await;
    world.enforcing_domain("a.example").await;
    let host = "mta-sts.a.example";
    let at = world.address(3);
    let map = format!("{host}:{}:{}", at.port(), at.ip());
    let url = format!("https://{host}:{}/.well-known/mta-sts.txt", at.port());
    let root = world.dir.path().join("ca.pem").display().to_string();
    let fetch = async || run("curl", &["-sS", "-i", "--cacert", &root, "--resolve", &map, &url]).await;
    let page = fetch().await;
    assert!(page.contains("text/plain") && page.contains("mode: enforce\r\nmx: mx.a.example\r\n"), "{page}");
    world.policies.certificate(host, &world.ca.issue(Flaw::Expired, &[host]));
    assert!(fetch().await.contains("expired"));
    assert_eq!(world.policies.requests(host).len(), 1);
}

#[tokio::test]
async fn openssl_names_each_flaw_of_a_certificate() {
    if !can_run("openssl_names_each_flaw_of_a_certificate", &["openssl"], false) {
        return;
    }
    let world = World::start().await;
    let host = world.domain("a.example").await;
    let root = world.dir.path().join("ca.pem").display().to_string();
    let at = host.address().to_string();
    let name = host.name().to_owned();
    let words = [
        "s_client",
        "-connect",
        &at,
        "-starttls",
        "smtp",
        "-servername",
        &name,
        "-verify_hostname",
        &name,
        "-CAfile",
        &root,
        "-brief",
    ];
    for (flaw, said) in [
        (Flaw::None, "Verification: OK"),
        (Flaw::Expired, "certificate has expired"),
        (Flaw::NotYetValid, "certificate is not yet valid"),
        (Flaw::WrongName, "hostname mismatch"),
        (Flaw::SelfSigned, "self-signed certificate"),
        (Flaw::UntrustedIssuer, "self-signed certificate in certificate chain"),
    ] {
        host.certificate(&world.ca.issue(flaw, &[&name]));
        let seen = run("openssl", &words).await;
        assert!(seen.contains(said), "{flaw:?}: {seen}");
    }
    assert!(
        host.seen().connections.iter().all(|c| c.sni.as_deref() == Some("mx.a.example") || c.sni.is_none())
    );
    host.behave(|b| b.starttls = StartTls::Stripped);
    assert!(run("openssl", &words).await.contains("STARTTLS"));
}

#[tokio::test]
async fn swaks_delivers_and_everything_is_remembered() {
    if !can_run("swaks_delivers_and_everything_is_remembered", &["swaks"], false) {
        return;
    }
    let world = World::start().await;
    let host = world.domain("a.example").await;
    let (ip, port) = (host.address().ip().to_string(), host.address().port().to_string());
    let swaks = async |to: &str| {
        let words = [
            "--server",
            &ip,
            "--port",
            &port,
            "--tls",
            "--to",
            to,
            "--from",
            "x@b.example",
            "--body",
            ".dot",
        ];
        run("swaks", &words).await
    };
    host.behave(|b| {
        b.greylist = true;
        b.rcpt.insert("nobody@a.example".to_owned(), "550 5.1.1 no such mailbox".to_owned());
    });
    assert!(swaks("u@a.example").await.contains("451 4.7.1"));
    assert!(swaks("u@a.example").await.contains("250 2.0.0 taken"));
    assert!(swaks("nobody@a.example").await.contains("550 5.1.1"));
    {
        let seen = host.seen();
        assert_eq!((seen.connections.len(), seen.messages.len()), (3, 1));
        assert_eq!((seen.mail_commands(true), seen.mail_commands(false)), (3, 0));
        assert!(seen.messages[0].tls && seen.messages[0].answered);
        assert!(seen.messages[0].text().contains("\r\n.dot\r\n"));
        assert_eq!(seen.connections[0].tls_version.as_deref(), Some("TLSv1_3"));
    }
    host.behave(|b| b.drop_after_dot = 1);
    swaks("u@a.example").await;
    assert!(!host.seen().messages[1].answered);
    host.stop().await;
    assert!(swaks("u@a.example").await.contains("refused"));
    host.listen().await;
    let taken =
        eventually(PATIENCE, async || swaks("u@a.example").await.contains("250 2.0.0 taken").then_some(()));
    assert!(taken.await.is_some());
}

#[tokio::test]
async fn postfix_takes_mail_with_our_certificate() {
    let needs = [Postfix::NEEDS, &["swaks"]].concat();
    if !can_run("postfix_takes_mail_with_our_certificate", &needs, true) {
        return;
    }
    let world = World::start().await;
    let (at, leaf) = (world.address(5), world.ca.issue(Flaw::None, &["mx.a.example"]));
    let folder = world.dir.path().join("postfix");
    let postfix = Postfix::start(&folder, "mx.a.example", &["a.example"], at, &leaf, "").await;
    let (ip, port) = (at.ip().to_string(), at.port().to_string());
    let words = ["--server", &ip, "--port", &port, "--tls", "--to", "u@a.example", "--from", "x@b.example"];
    let said = run("swaks", &words).await;
    assert!(said.contains("queued as") && said.contains("CN=mx.a.example"), "{said}");
    let arrived = async || postfix.mailbox().contains("for <u@a.example>").then_some(());
    assert!(eventually(PATIENCE, arrived).await.is_some(), "{}", postfix.log());
}
