//! What a client says about TLS on the way onward: the parameter REQUIRETLS and the header TLS-Required (RFC 8689).

use sealpost::mail::SenderTls;
use sealpost::submission::Timers;

use crate::client::{Client, start};
use crate::relay::{Relay, SUBMISSION, SUBMISSIONS, TRUSTED, relay, relay_without_dnssec};

async fn keywords(client: &mut Client) -> Vec<String> {
    client.send(b"EHLO client.example\r\n").await;
    let first = client.reply_lines().await;
    first.iter().map(|l| l[4..].to_owned()).collect()
}

/// A client that has come this far, without EHLO.
async fn at(relay: &Relay, door: usize) -> Client {
    let mut client = Client::connect(relay, door).await;
    if door == SUBMISSIONS {
        assert!(client.start_tls(relay).await);
    }
    client.reply().await.unwrap();
    client
}

// RTLS-01, RTLS-29
#[tokio::test]
async fn requiretls_is_offered_inside_tls_and_only_where_it_can_be_kept() {
    let (able, unable) = (relay(Timers::default()).await, relay_without_dnssec().await);
    for (relay, kept) in [(&able, true), (&unable, false)] {
        for door in [SUBMISSION, TRUSTED] {
            let mut client = at(relay, door).await;
            assert!(!keywords(&mut client).await.contains(&"REQUIRETLS".to_owned()));
            client.say("STARTTLS", "220 2.0.0").await;
            assert!(client.start_tls(relay).await);
            assert_eq!(keywords(&mut client).await.contains(&"REQUIRETLS".to_owned()), kept);
        }
        let mut client = at(relay, SUBMISSIONS).await;
        assert_eq!(keywords(&mut client).await.contains(&"REQUIRETLS".to_owned()), kept);
    }
}

// RTLS-02, RTLS-03
#[tokio::test]
async fn the_parameter_has_no_value_comes_once_and_inside_tls() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "authed").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS=1", "501 5.5.4").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS requiretls", "501 5.5.4").await;
    client.say("MAIL FROM:<app1@example.org> SIZE=10 requireTLS BODY=8BITMIME", "250 2.1.0").await;
    let mut client = at(&relay, TRUSTED).await;
    client.say("EHLO client.example", "250 ").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS", "523 5.7.10").await;
    client.say("MAIL FROM:<app1@example.org>", "250 2.1.0").await;
    client.say("RSET", "250 ").await;
    client.say("HELO client.example", "250 ").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS", "555 5.5.4").await;

    let relay = relay_without_dnssec().await;
    let mut client = start(&relay, "authed").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS", "555 5.5.4").await;
    let mut client = at(&relay, TRUSTED).await;
    client.say("EHLO client.example", "250 ").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS", "555 5.5.4").await;
}

// RTLS-02: eleven octets more, on the longest MAIL command that extensions allow (LIM-03).
#[tokio::test]
async fn the_longest_command_has_room_for_the_parameter() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "authed").await;
    let (local, domain) = ("x".repeat(64), format!("{}.example", "y.".repeat(89) + "y"));
    let xtext = "x".repeat(100);
    let mailbox = format!("{}@example.org", "a".repeat(488));
    let line = format!(
        "MAIL FROM:<{local}@{domain}> SIZE=99999999 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID={xtext} AUTH={mailbox} REQUIRETLS"
    );
    // Whose address it is, is asked after the line was read.
    client.say(&line, "55").await;
    let refusal = client.replies.last().unwrap();
    assert!(refusal.starts_with("552 5.3.4") || refusal.starts_with("550 5.7.1"), "{refusal}");
}

/// What is stored of a message with this MAIL parameter and these header fields.
async fn stored(relay: &Relay, parameter: &str, fields: &str) -> (SenderTls, String) {
    let mut client = start(relay, "authed").await;
    client.say(&format!("MAIL FROM:<app1@example.org>{parameter}"), "250 2.1.0").await;
    for to in ["bob@example.net", "eve@example.com"] {
        client.say(&format!("RCPT TO:<{to}>"), "250 2.1.5").await;
    }
    client.say("DATA", "354 ").await;
    client.say(&format!("From: app1@example.org\r\n{fields}\r\nbody\r\n."), "250 2.0.0").await;
    let mut all = relay.store.0.lock().unwrap();
    let message = all.pop().unwrap();
    assert!(all.is_empty() && message.envelope.recipients.len() == 2, "RTLS-04: one tag for all recipients");
    let content = message.content.in_memory().unwrap();
    (message.envelope.sender_tls, String::from_utf8(content.to_vec()).unwrap())
}

// RTLS-04, RTLS-05, RTLS-06, RTLS-07, RTLS-08, RTLS-10
#[tokio::test]
async fn the_tag_comes_from_the_parameter_and_else_from_the_header() {
    use SenderTls::{Optional, Required, Unsaid};
    let relay = relay(Timers::default()).await;
    for (parameter, fields, tag) in [
        ("", "", Unsaid),
        (" REQUIRETLS", "", Required),
        (" REQUIRETLS", "TLS-Required: No\r\n", Required),
        ("", "TLS-Required: No\r\n", Optional),
        ("", "tls-required:no\r\n", Optional),
        ("", "TLS-Required: nO\r\n", Optional),
        ("", "TLS-Required:\r\n No\r\n", Optional),
        ("", "TLS-Required: \t\r\n\tNo\r\n", Optional),
        ("", "TLS-Required: No\r\nTLS-Required:no\r\n", Optional),
        ("", "TLS-Required: No\r\nTLS-Required: Yes\r\n", Unsaid),
        ("", "TLS-Required: Yes\r\nTLS-Required: No\r\n", Unsaid),
        ("", "TLS-Required: Yes\r\n", Unsaid),
        ("", "TLS-Required: No (really)\r\n", Unsaid),
        ("", "TLS-Required: (c) No\r\n", Unsaid),
        ("", "TLS-Required: \"No\"\r\n", Unsaid),
        ("", "TLS-Required: No, No\r\n", Unsaid),
        ("", "TLS-Required:\r\n", Unsaid),
        ("", "X-TLS-Required: No\r\n", Unsaid),
    ] {
        let (got, content) = stored(&relay, parameter, fields).await;
        assert_eq!(got, tag, "{parameter} {fields:?}");
        assert!(content.contains(&format!("\r\n{fields}")), "RTLS-08: {content}");
    }
    // Whoever cannot keep REQUIRETLS can keep this.
    let relay = relay_without_dnssec().await;
    assert_eq!(stored(&relay, "", "TLS-Required: No\r\n").await.0, Optional);
}

// RFC 3207 §4.2: what was said before TLS is forgotten, and what is said after it counts.
#[tokio::test]
async fn each_transaction_has_its_own_tag() {
    let relay = relay(Timers::default()).await;
    assert_eq!(stored(&relay, " REQUIRETLS", "").await.0, SenderTls::Required);
    let mut client = start(&relay, "authed").await;
    client.say("MAIL FROM:<app1@example.org> REQUIRETLS", "250 ").await;
    client.say("RSET", "250 ").await;
    for want in [SenderTls::Unsaid, SenderTls::Required] {
        let parameter = if want == SenderTls::Required { " REQUIRETLS" } else { "" };
        client.say(&format!("MAIL FROM:<app1@example.org>{parameter}"), "250 ").await;
        client.say("RCPT TO:<bob@example.net>", "250 ").await;
        client.say("DATA", "354 ").await;
        client.say("From: app1@example.org\r\n\r\nx\r\n.", "250 ").await;
        assert_eq!(relay.store.0.lock().unwrap().pop().unwrap().envelope.sender_tls, want);
    }
}
