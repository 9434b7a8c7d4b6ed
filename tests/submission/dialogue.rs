//! Rules of the dialogue that need a connection to be seen.

use sealpost::submission::Timers;
use tokio::io::AsyncWriteExt;

use crate::client::start;
use crate::relay::relay;

// SUB-11
#[tokio::test]
async fn one_octet_behind_starttls_ends_the_session() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "ehlo").await;
    client.send(b"STARTTLS\r\nN").await;
    assert!(client.reply().await.unwrap().starts_with("554 5.5.0"));
    client.send(b"OOP\r\n").await;
    assert_eq!(client.reply().await, None);
}

// SUB-20, HS-033
#[tokio::test]
async fn auth_in_the_clear_is_refused_alike_for_good_and_bad_credentials() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "ehlo").await;
    client.say("AUTH PLAIN AGFwcDEAc2VjcmV0", "530 5.7.0").await;
    client.say("AUTH PLAIN AGFwcDEAYmFk", "530 5.7.0").await;
    client.say("AUTH NONSENSE !", "530 5.7.0").await;
    let tail = &client.replies[client.replies.len() - 3..];
    assert!(tail.iter().all(|r| *r == tail[0]), "{tail:?}");
}

// SUB-07
#[tokio::test]
async fn a_pipelined_transaction_is_answered_in_order() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "authed").await;
    client
        .send(
            b"MAIL FROM:<app1@example.org>\r\nRCPT TO:<a@example.net>\r\nRCPT TO:<bad>\r\nDATA\r\n\
              From: app1@example.org\r\n\r\n..x\r\n.\r\nNOOP\r\nRCPT TO:<a@example.net>\r\nQUIT\r\n",
        )
        .await;
    for want in [
        "250 2.1.0",
        "250 2.1.5",
        "501 5.1.3",
        "354 ",
        "250 2.0.0 Ok: q",
        "250 2.0.0",
        "503 5.5.1",
        "221 2.0.0",
    ] {
        let got = client.reply().await.unwrap();
        assert!(got.starts_with(want), "{want}: {got}");
    }
    assert_eq!(client.reply().await, None);
    let stored = relay.store.0.lock().unwrap();
    let content = stored[0].content.in_memory().unwrap();
    assert!(content.ends_with(b"\r\n\r\n.x\r\n"), "{content:?}");
    // Signatures stand above the trace field, which no signature covers (RFC 6376 §3.5).
    let received =
        "\r\nReceived: from client.example ([127.0.0.1])\r\n\tby relay.example.net with ESMTPSA id ";
    let text = String::from_utf8_lossy(&content);
    let (signature, _) = text.split_once(received).unwrap();
    assert!(signature.starts_with("DKIM-Signature: v=1; "), "{text}");
    assert_eq!(signature.matches("DKIM-Signature:").count(), 1);
    assert_eq!(stored[0].submitter, "app1");
}

// DUR-18
#[tokio::test]
async fn closing_lets_content_end_and_sends_idle_clients_away() {
    let relay = relay(Timers::default()).await;
    let mut idle = start(&relay, "authed").await;
    let mut busy = start(&relay, "data").await;
    busy.send(b"From: app1@example.org\r\n").await;
    relay.close.cancel();
    assert!(idle.reply().await.unwrap().starts_with("421 4.3.2"));
    busy.send(b"\r\nx\r\n.\r\n").await;
    assert!(busy.reply().await.unwrap().starts_with("250 2.0.0"));
    assert!(busy.reply().await.unwrap().starts_with("421 4.3.2"));
    assert_eq!(relay.store.0.lock().unwrap().len(), 1);
}

// DUR-04
#[tokio::test]
async fn content_without_its_end_is_not_stored() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "data").await;
    client.send(b"From: app1@example.org\r\n\r\nx\r\n.").await;
    client.io().shutdown().await.unwrap();
    assert_eq!(client.reply().await, None);
    assert!(relay.store.0.lock().unwrap().is_empty());
}
