//! What only raw sockets show: octets in any order and any portions, old TLS, too many connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sealpost::submission::Timers;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{Client, PATIENCE, start};
use crate::relay::{Relay, SUBMISSION, SUBMISSIONS, TRUSTED, relay, relay_for};

/// Everything that comes until the end of the connection, however it ends.
async fn rest(tcp: &mut TcpStream) -> Vec<u8> {
    let (mut all, mut buf) = (Vec::new(), [0; 4096]);
    while let Ok(n) = timeout(PATIENCE, tcp.read(&mut buf)).await.expect("the connection stays open")
        && n > 0
    {
        all.extend_from_slice(&buf[..n]);
    }
    all
}

fn any_octets() -> impl Strategy<Value = Vec<u8>> {
    let text = |s: &'static str| Just(s.as_bytes().to_vec());
    let command = prop_oneof![
        text("EHLO client.example\r\n"),
        text("MAIL FROM:<a@example.org>\r\n"),
        text("RCPT TO:<b@example.net>\r\n"),
        text("DATA\r\n"),
        text("Subject: x\r\n\r\nbody\r\n.\r\n"),
        text("RSET\r\nNOOP\r\n"),
        text("AUTH PLAIN\r\n"),
        text("BDAT 1000000 LAST\r\n"),
        text("QUIT\r\n"),
    ];
    prop_oneof![
        6 => command.clone(),
        1 => (command, any::<prop::sample::Index>()).prop_map(|(octets, at)| {
            octets[..at.index(octets.len())].to_vec()
        }),
        2 => prop::collection::vec(any::<u8>(), 1..200),
        1 => (1_usize..300).prop_map(|n| vec![0; n]),
        1 => (any::<u8>(), 500_usize..100_000).prop_map(|(octet, n)| vec![octet; n]),
        1 => text("\r"),
        1 => text("\n"),
    ]
}

async fn throw(relay: &Relay, portions: &[Vec<u8>]) {
    relay.store.0.lock().unwrap().clear();
    let mut tcp = TcpStream::connect(relay.doors[TRUSTED]).await.unwrap();
    let mut greeting = [0; 4];
    tcp.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"220 ");
    let (mut read, mut write) = tcp.split();
    let send = async {
        for portion in portions {
            if timeout(PATIENCE, write.write_all(portion)).await.expect("a deadlock").is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let _ = write.shutdown().await;
    };
    let mut replies = Vec::new();
    let hear = async {
        // A reset after the last words is the client's own fault.
        let _ = timeout(PATIENCE, read.read_to_end(&mut replies)).await.expect("the connection stays open");
    };
    tokio::join!(send, hear);
    let replies = String::from_utf8(replies).expect("replies are ASCII");
    let (_, replies) = replies.split_once("\r\n").unwrap_or_default();
    for line in replies.split_inclusive("\r\n") {
        let code = line.get(..3).filter(|c| c.bytes().all(|b| b.is_ascii_digit()));
        let parted = matches!(line.as_bytes().get(3), Some(b' ' | b'-'));
        assert!(code.is_some() && parted && line.ends_with("\r\n"), "no reply: {line:?}");
    }
    let stored = relay.store.0.lock().unwrap().len();
    assert_eq!(replies.matches("queued as").count(), stored, "{replies}");
}

// SUB-03, SUB-07, LIM-03, LIM-11: whatever comes, in whatever portions, is answered with whole replies and ends.
#[test]
fn any_octets_get_whole_replies_and_an_end() {
    // All sessions run on this thread; a panic of one would look like an ordinary end from outside.
    let (here, panics) = (std::thread::current().id(), Arc::new(AtomicUsize::new(0)));
    let (counter, usual) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == here {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        usual(info);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let relay = runtime.block_on(relay(Timers { linger: Duration::from_millis(50), ..Timers::default() }));
    let mut runner = TestRunner::new(Config { cases: 96, failure_persistence: None, ..Config::default() });
    runner
        .run(&prop::collection::vec(any_octets(), 1..20), |portions| {
            runtime.block_on(throw(&relay, &portions));
            prop_assert_eq!(panics.swap(0, Ordering::SeqCst), 0);
            Ok(())
        })
        .unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(&relay, SUBMISSION).await;
        assert!(client.reply().await.unwrap().starts_with("220 "), "the next client is served");
    });
}

// TLS-08, SUB-11: nothing that came in the clear after the 220 is ever a command.
#[tokio::test]
async fn clear_octets_between_the_220_and_the_handshake_end_the_connection() {
    let relay = relay(Timers::default()).await;
    let mut client = start(&relay, "ehlo").await;
    client.say("STARTTLS", "220 2.0.0").await;
    client.send(b"EHLO x\r\nMAIL FROM:<a@example.org>\r\n").await;
    let mut after = Vec::new();
    let _ = timeout(PATIENCE, client.io().read_to_end(&mut after)).await.unwrap();
    assert!(after.is_empty() || after[0] == 0x15, "an alert at most: {after:?}");
}

/// A ClientHello that offers TLS 1.1 at most (RFC 4346).
fn hello_of_tls_1_1() -> Vec<u8> {
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 23][..], // supported_groups: secp256r1
        &[0, 11, 0, 2, 1, 0],            // ec_point_formats: uncompressed
        // signature_algorithms, which TLS 1.1 lacks: nothing but the version shall be wrong.
        &[0, 13, 0, 8, 0, 6, 4, 1, 4, 3, 8, 4],
    ]
    .concat();
    let mut body = vec![3, 2];
    body.extend([7; 32]);
    body.push(0);
    // ECDHE with AES-CBC-SHA, RSA and ECDSA; RSA with AES-CBC-SHA.
    body.extend([0, 6, 0xc0, 0x13, 0xc0, 0x09, 0, 0x2f]);
    body.extend([1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let handshake = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    [&[0x16, 3, 1][..], &u16::try_from(handshake.len()).unwrap().to_be_bytes(), &handshake].concat()
}

// TLS-20, TLS-21
#[tokio::test]
async fn tls_1_1_is_refused_at_both_doors_and_1_2_is_not() {
    let relay = relay(Timers::default()).await;
    for at_once in [true, false] {
        let mut client = if at_once {
            Client::connect(&relay, SUBMISSIONS).await
        } else {
            let mut client = start(&relay, "ehlo").await;
            client.say("STARTTLS", "220 2.0.0").await;
            client
        };
        client.send(&hello_of_tls_1_1()).await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, client.io().read_to_end(&mut answer)).await.expect("the connection ends");
        // Fatal alert protocol_version (RFC 5246 §7.2), and the end.
        assert_eq!((answer.first(), &answer[answer.len() - 2..]), (Some(&0x15), &[2, 70][..]), "{answer:?}");
    }
    let only_1_2 = {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(relay.roots.clone())
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    };
    let tcp = TcpStream::connect(relay.doors[SUBMISSIONS]).await.unwrap();
    let mut tls = only_1_2.connect("relay.example.net".try_into().unwrap(), tcp).await.unwrap();
    assert_eq!(tls.read_u8().await.unwrap(), b'2');
}

// LIM-13
#[tokio::test]
async fn one_connection_too_many_is_told_so_and_closed() {
    let relay = relay_for(1, Timers::default()).await;
    let first = start(&relay, "ehlo").await;
    for (door, words) in [(SUBMISSION, "421 4.7.0 too many connections\r\n"), (SUBMISSIONS, "")] {
        let mut tcp = TcpStream::connect(relay.doors[door]).await.unwrap();
        assert_eq!(String::from_utf8(rest(&mut tcp).await).unwrap(), words);
    }
    drop(first);
    let freed = async {
        loop {
            let mut client = Client::connect(&relay, SUBMISSION).await;
            if client.reply().await.unwrap().starts_with("220 ") {
                return;
            }
        }
    };
    timeout(PATIENCE, freed).await.expect("the place is given back");
}
