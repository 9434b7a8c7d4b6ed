//! Permanent failures return a DSN that Python's email package can read.

use serde_json::Value;

use crate::world::mx::MxHost;
use crate::world::{PATIENCE, World, eventually};
use crate::{SENDER, can_run, relay, run};

/// Reads a message file and prints what RFC 3464 promises about it.
const READER: &str = r#"
import email, email.policy, json, sys
m = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
parts = list(m.iter_parts())
groups = parts[1].get_payload()
print(json.dumps({
    "type": m.get_content_type(), "report": m.get_param("report-type"), "to": m["To"],
    "defects": [str(d) for p in m.walk() for d in p.defects],
    "parts": [p.get_content_type() for p in parts], "text": parts[0].get_content(),
    "mta": groups[0]["Reporting-MTA"],
    "recipients": [{k.lower(): v for k, v in g.items()} for g in groups[1:]],
}))
"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_sender_learns_what_happened() {
    if !can_run("a refused mailbox and a null MX come back as DSN", &["python3"], false) {
        return;
    }
    let world = World::start().await;
    let sender = world.domain("sender.example").await;
    let host = world.enforcing_domain("a.example").await;
    host.behave(|b| {
        b.rcpt.insert("nobody@a.example".to_owned(), "550 5.1.1 no such mailbox here".to_owned());
    });
    world.dns.mx("null.example", &[(0, ".")]);
    let relay = relay(&world).await;
    for (number, to, status) in [(1, "nobody@a.example", "5.1.1"), (2, "u@null.example", "5.1.10")] {
        assert_eq!(relay.submit(SENDER, to, "lost").await.code, 250);
        assert_eq!(relay.delivery(to, 1).await["outcome"], "bounced");
        relay.gone(to).await;
        let report = dsn(&world, &sender, number).await;
        assert_eq!(report["type"], "multipart/report", "{report}");
        assert_eq!(
            (&report["report"], &report["defects"]),
            (&"delivery-status".into(), &Value::Array(vec![]))
        );
        assert_eq!(report["parts"][1], "message/delivery-status");
        assert_eq!(report["mta"], "dns; relay.lab.example".replace("; ", report_separator(&report)));
        let recipient = &report["recipients"][0];
        assert_eq!(
            (&recipient["action"], &recipient["status"]),
            (&"failed".into(), &status.into()),
            "{report}"
        );
        assert!(recipient["final-recipient"].as_str().unwrap().ends_with(to), "{report}");
    }
    assert!(sender.seen().messages.iter().all(|m| m.mail.to_ascii_uppercase().starts_with("FROM:<>")));
    assert_eq!(sender.seen().messages.len(), 2);
    assert_eq!(host.saw(), (0, 0));
    relay.counted("a.example", (1, 0)).await;
    assert!(relay.sessions("null.example").is_empty(), "a null MX leaves no record (NMX-07)");
    assert_eq!(world.dns.asked("_mta-sts.null.example", hickory_resolver::proto::rr::RecordType::TXT), 0);
}

/// `; ` or `;`: RFC 3464 allows both after `dns`.
fn report_separator(report: &Value) -> &'static str {
    if report["mta"].as_str().is_some_and(|m| m.contains("; ")) { "; " } else { ";" }
}

/// The n-th message that the sender's own host got, as Python reads it.
async fn dsn(world: &World, sender: &MxHost, n: usize) -> Value {
    let content = async || sender.seen().messages.get(n - 1).map(|m| m.content.clone());
    let content = eventually(PATIENCE, content).await.expect("a DSN");
    let file = world.dir.path().join(format!("dsn-{n}.eml"));
    std::fs::write(&file, content).unwrap();
    let said = run("python3", &["-c", READER, file.to_str().unwrap()]).await;
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"))
}
