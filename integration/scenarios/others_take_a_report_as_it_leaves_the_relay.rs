//! Reports as they really leave the relay, received by Postfix, whose certificate ran out under the enforce policy of
//! its domain: parsedmarc finds the numbers that were counted, dkimpy and OpenDKIM verify both signatures, Python
//! reads the structure, and the way of the reports themselves is in no report.

use serde_json::Value;

use crate::parsedmarc_takes_our_reports::{Numbers, numbers_of_parsedmarc, parsedmarc};
use crate::postfix_takes_verified_mail::postfix_for;
use crate::signatures_verify_elsewhere::{PYTHON, Verifiers, keys};
use crate::world::ca::Flaw;
use crate::world::postfix::Postfix;
use crate::world::relay::Setup;
use crate::world::{PATIENCE, World, clear_of_midnight, eventually};
use crate::{SENDER, can_run, python_with, relay_with, run};

const SCENARIO: &str = "others take a report as it leaves the relay";

/// Prints what Python's email package reads in a message.
const EMAIL: &str = r#"
import email, email.policy, gzip, json, sys
message = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
words, packed = message.iter_parts()
print(json.dumps({
    "type": message.get_content_type(),
    "report-type": message["Content-Type"].params["report-type"],
    "parts": [words.get_content_type(), packed.get_content_type()],
    "defects": [str(d) for part in message.walk() for d in part.defects],
    "domain": message["TLS-Report-Domain"],
    "submitter": message["TLS-Report-Submitter"],
    "subject": message["Subject"],
    "file": packed.get_filename(),
    "report": json.loads(gzip.decompress(packed.get_content())),
}))
"#;

/// The messages of an mbox file, with the line ends that they had on the way.
fn messages(mailbox: &str) -> Vec<String> {
    let mailbox = format!("\n{mailbox}");
    let all = mailbox.split("\nFrom ").skip(1).filter_map(|m| m.split_once('\n'));
    all.map(|(_, message)| format!("{}\r\n", message.trim_end().replace('\n', "\r\n"))).collect()
}

// RPT-27, RPT-77, RPT-78, RPT-79, RPT-80, RPT-81, RPT-84, RPT-86
#[tokio::test(flavor = "multi_thread")]
async fn by_mail_through_postfix() {
    let needs = [Postfix::NEEDS, &["opendkim", "dkimverify", PYTHON]].concat();
    let Some(python) = python_with(SCENARIO, "parsedmarc").await else { return };
    if !can_run(SCENARIO, &needs, true) {
        return;
    }
    clear_of_midnight().await;
    let world = World::start().await;
    world.domain("sender.example").await;
    for domain in ["b.example", "c.example"] {
        world.enforcing_domain(domain).await;
    }
    let postfix = postfix_for(&world, Flaw::Expired, "").await;
    for domain in ["a.example", "b.example"] {
        let record = "v=TLSRPTv1; rua=mailto:tlsrpt@a.example";
        world.dns.txt(&format!("_smtp._tls.{domain}"), record);
    }
    let (sections, records) = keys(&world, &["sender.example"]).await;
    let mut verifiers = Verifiers::new(&world, &records);
    let from = vec![("tls_rpt", "from = \"tls-reports@sender.example\"".to_owned())];
    let relay = relay_with(&world, Setup { sections, keys: from, ..Setup::default() }).await;

    assert_eq!(relay.submit(SENDER, "u@a.example", "waits").await.code, 250);
    assert_eq!(relay.submit(SENDER, "u@b.example", "arrives").await.code, 250);
    relay.deferred("u@a.example").await;
    relay.gone("u@b.example").await;
    relay.counted("a.example", (0, 1)).await;
    relay.counted("b.example", (1, 0)).await;
    relay.json(&["report", "send"]).await;
    // Postfix writes a message in blocks, and then this line.
    let sent = async || (postfix.log().matches("status=sent").count() >= 2).then_some(());
    let sent = eventually(PATIENCE, sent).await;
    let arrived = messages(&postfix.mailbox());
    assert!(sent.is_some() && arrived.len() == 2, "{}\n{}", postfix.mailbox(), postfix.log());

    let mut domains = Vec::new();
    for message in &arrived {
        let file = world.dir.path().join(format!("{}.eml", domains.len())).display().to_string();
        std::fs::write(&file, message).unwrap();
        let said = run(PYTHON, &["-c", EMAIL, &file]).await;
        let read: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}"));
        let domain = read["domain"].as_str().unwrap().to_owned();
        let report = &read["report"];
        let id = report["report-id"].as_str().unwrap();
        let subject = format!("Report Domain: {domain} Submitter: sender.example Report-ID: <{id}>");
        for (field, expected) in [
            ("type", "multipart/report".into()),
            ("report-type", "tlsrpt".into()),
            ("parts", vec!["text/plain", "application/tlsrpt+gzip"].into()),
            ("defects", Value::Array(Vec::new())),
            ("submitter", "sender.example".into()),
            ("subject", subject.into()),
        ] {
            assert_eq!(read[field], expected, "{field}: {said}");
        }
        let file_name = read["file"].as_str().unwrap();
        assert!(file_name.starts_with(&format!("sender.example!{domain}!")), "{file_name}");
        let shown = relay.cli(&["report", "show", id, "--json"]).await.unwrap();
        assert_eq!(*report, serde_json::from_slice::<Value>(&shown.stdout).unwrap());

        // The numbers are those of the session records, which the way of these reports has not changed.
        let theirs = parsedmarc(&python, &[&file]).await.remove(0);
        assert_eq!(
            (&theirs["report_id"], &theirs["organization_name"]),
            (&report["report-id"], &report["organization-name"])
        );
        let numbers = numbers_of_parsedmarc(&theirs);
        let failures = match domain.as_str() {
            "a.example" => {
                vec![("certificate-expired".to_owned(), String::new(), "mx.a.example".to_owned(), 1)]
            }
            _ => vec![],
        };
        let (good, failed) = relay.session_counts(&domain);
        let counted = (u64::try_from(good).unwrap(), u64::try_from(failed).unwrap());
        assert_eq!(numbers, Numbers::from([("sts".to_owned(), counted.0, counted.1, failures)]), "{theirs}");

        verifiers.pass(&domain, message.as_bytes()).await;
        for field in ["TLS-Report-Domain", "TLS-Report-Submitter"] {
            let forged = message.replacen(&format!("\r\n{field}: "), &format!("\r\n{field}: x"), 1);
            assert_ne!(forged, *message);
            verifiers.fail(field, forged.as_bytes()).await;
        }
        domains.push(domain);
    }
    domains.sort_unstable();
    assert_eq!(domains, ["a.example", "b.example"]);
    assert!(postfix.log().contains("TLS connection established"), "{}", postfix.log());
    relay.gone("tlsrpt@a.example").await;
    // Records are stored in their order: one of a session with Postfix would be there before this one.
    assert_eq!(relay.submit(SENDER, "u@c.example", "later").await.code, 250);
    relay.counted("c.example", (1, 0)).await;
    assert_eq!((relay.session_counts("a.example"), relay.session_counts("b.example")), ((0, 1), (1, 0)));
}
