//! swaks, Python's smtplib and Postfix's smtp-source submit, in the clear and over STARTTLS with AUTH.

use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::world::World;
use crate::world::ca::Flaw;
use crate::world::relay::Setup;
use crate::{SENDER, can_run, count, program, relay, relay_with, run};

const SMTPLIB: &str = r#"
import smtplib, ssl, sys
from email.message import EmailMessage
host, port, root, user, password = sys.argv[1:]
m = EmailMessage()
m["From"], m["To"], m["Subject"] = "app@sender.example", "python@a.example", "Grüße from smtplib"
m.set_content("Größe\n.\n..dots\n" + "x" * 2000 + "\n")
m.add_attachment(bytes(range(256)) * 100, maintype="application", subtype="octet-stream", filename="a.bin")
with smtplib.SMTP(host, int(port)) as s:
    context = ssl.create_default_context(cafile=root)
    context.check_hostname = False
    s.starttls(context=context)
    s.login(user, password)
    s.send_message(m)
print("sent")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn swaks_and_smtplib_submit_over_tls_with_auth() {
    if !can_run("swaks and smtplib submit", &["swaks", "python3"], false) {
        return;
    }
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let leaf = world.ca.issue(Flaw::None, &["relay.lab.example"]);
    std::fs::write(world.dir.path().join("chain.pem"), &leaf.chain_pem).unwrap();
    std::fs::write(world.dir.path().join("key.pem"), &leaf.key_pem).unwrap();
    let hash = password_hash("open sesame").await;
    let sections = format!(
        "[tls]\ncertificate = \"chain.pem\"\nprivate_key = \"key.pem\"\n
         [[submission.user]]\nname = \"app\"\npassword_hash = \"{hash}\"\nallowed_senders = [\"@sender.example\"]\n"
    );
    let keys = vec![("submission", "trusted_networks = []".to_owned())];
    let relay = relay_with(&world, Setup { sections, keys, ..Setup::default() }).await;
    let (ip, port) = (relay.submission().ip().to_string(), relay.submission().port().to_string());

    let swaks = async |more: &[&str]| {
        let plain = ["--server", &ip, "--port", &port, "--from", SENDER, "--to", "swaks@a.example"];
        run("swaks", &[&plain, more].concat()).await
    };
    assert!(swaks(&[]).await.contains("5.7."), "nobody relays without AUTH");
    let said = swaks(&["--tls", "--auth", "PLAIN", "--auth-user", "app", "--auth-password", "wrong"]).await;
    assert!(said.contains("535 5.7.8"), "{said}");
    for mechanism in ["PLAIN", "LOGIN"] {
        let words = ["--tls", "--auth", mechanism, "--auth-user", "app", "--auth-password", "open sesame"];
        let said = swaks(&words).await;
        assert!(said.contains("queued as"), "{said}");
    }
    let root = world.dir.path().join("ca.pem").display().to_string();
    let said = run("python3", &["-c", SMTPLIB, &ip, &port, &root, "app", "open sesame"]).await;
    assert!(said.contains("sent"), "{said}");

    assert_eq!(relay.delivery("python@a.example", 1).await["security"], "verified");
    relay.delivery("swaks@a.example", 2).await;
    relay.gone("python@a.example").await;
    relay.gone("swaks@a.example").await;
    let seen = host.seen();
    assert_eq!((seen.messages.len(), seen.mail_commands(false)), (3, 0));
    assert_eq!(relay.session_counts("a.example").1, 0, "no session failed");
    let python = seen.messages.iter().find(|m| m.rcpt[0].contains("python@")).unwrap();
    assert!(python.content.split(|b| *b == b'\n').all(|l| l.len() <= 999), "no line over 998 octets");
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_source_submits_by_the_hundred() {
    if !can_run("smtp-source submits", &["smtp-source"], false) {
        return;
    }
    let world = World::start().await;
    let host = world.enforcing_domain("a.example").await;
    let relay = relay(&world).await;
    let total = count(2000);
    let (messages, server) = (total.to_string(), format!("inet:{}", relay.submission()));
    let words = ["-s", "10", "-m", &messages, "-l", "4096", "-f", SENDER, "-t", "u@a.example", &server];
    let said = run(crate::path_of("smtp-source"), &words).await;
    assert!(!said.contains("fatal"), "{said}");
    relay.gone("u@a.example").await;
    let seen = host.seen();
    assert_eq!((seen.messages.len(), seen.mail_commands(false)), (total, 0));
    assert_eq!(relay.session_counts("a.example").1, 0, "no session failed");
    // 20 at once, each for 100 messages at most; and as many more whenever the machine stands still for so long that the
    // idle ones are closed.
    assert!(
        seen.connections.len() <= total / 2,
        "{} connections for {total} messages",
        seen.connections.len()
    );
}

/// `sealpost user hash`, fed on its standard input.
async fn password_hash(password: &str) -> String {
    let mut child = Command::new(program())
        .args(["user", "hash"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
