//! What the relay offers when it starts TLS with an MX host, octet for octet.

use std::collections::BTreeMap;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use crate::authority::Authority;
use crate::world::World;

/// The parts of a ClientHello (RFC 8446 §4.1.2).
struct Hello {
    suites: Vec<u16>,
    compression: Vec<u8>,
    extensions: BTreeMap<u16, Vec<u8>>,
}

fn number(octets: &[u8]) -> usize {
    octets.iter().fold(0, |n, o| n << 8 | usize::from(*o))
}

/// Cuts off what a length of `width` octets announces.
fn part<'a>(rest: &mut &'a [u8], width: usize) -> &'a [u8] {
    let (length, after) = rest.split_at(width);
    let (part, after) = after.split_at(number(length));
    *rest = after;
    part
}

fn pairs(octets: &[u8]) -> Vec<u16> {
    octets.chunks(2).map(|p| u16::from_be_bytes([p[0], p[1]])).collect()
}

impl Hello {
    fn read(message: &[u8]) -> Self {
        assert_eq!(message[0], 1, "ClientHello");
        let mut rest = &message[4 + 2 + 32..];
        part(&mut rest, 1);
        let suites = pairs(part(&mut rest, 2));
        let compression = part(&mut rest, 1).to_vec();
        let mut listed = part(&mut rest, 2);
        let mut extensions = BTreeMap::new();
        while !listed.is_empty() {
            let (kind, after) = listed.split_at(2);
            listed = after;
            let twice =
                extensions.insert(u16::from_be_bytes([kind[0], kind[1]]), part(&mut listed, 2).to_vec());
            assert!(twice.is_none());
        }
        Self { suites, compression, extensions }
    }
}

/// The handshake message that follows the 220 to STARTTLS, and every octet that came between.
async fn hello_of(prepare: impl FnOnce(&World)) -> Hello {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let w = World::new(port, Authority::new().tls());
    w.route("a.example", &[("mx.example.net", &["127.0.0.1"])]);
    prepare(&w);
    let server = tokio::spawn(async move {
        let mut io = BufReader::new(listener.accept().await.unwrap().0);
        io.write_all(b"220 ready\r\n").await.unwrap();
        let mut lines = Vec::new();
        for reply in ["250-mx\r\n250 STARTTLS\r\n", "220 go\r\n"] {
            let mut line = String::new();
            io.read_line(&mut line).await.unwrap();
            lines.push(line);
            io.write_all(reply.as_bytes()).await.unwrap();
        }
        assert_eq!(lines[1], "STARTTLS\r\n");
        let mut header = [0; 5];
        io.read_exact(&mut header).await.unwrap();
        assert_eq!(header[0], 0x16, "TLS begins at once after the 220");
        let mut record = vec![0; number(&header[3..])];
        io.read_exact(&mut record).await.unwrap();
        Hello::read(&record)
    });
    let (hello, _) = tokio::join!(server, w.deliver("a.example", 1));
    hello.unwrap()
}

// TLS-01, TLS-20..23, TLS-28, DANE-38 (RFC 9325 §3, §4; RFC 7250): whatever is demanded of the session, the same is offered.
#[tokio::test]
async fn a_client_hello_offers_nothing_weak_and_nothing_that_skips_the_evidence() {
    let nothing: fn(&World) = |_| {};
    let enforce: fn(&World) = |w| w.enforce("a.example", &["mx.example.net"]);
    for prepare in [nothing, enforce] {
        let hello = hello_of(prepare).await;
        let versions = &hello.extensions[&43];
        assert_eq!(pairs(&versions[1..]), [0x0304, 0x0303], "TLS 1.3 before 1.2, and nothing older");
        // TLS 1.3 suites, and those of 1.2 with forward secrecy and authenticated encryption; 0x00ff says that
        // renegotiation is secure (RFC 5746 §3.3).
        let sound = |s: &u16| {
            matches!(s, 0x1301..=0x1303 | 0xc02b | 0xc02c | 0xc02f | 0xc030 | 0xcca8 | 0xcca9 | 0x00ff)
        };
        assert!(hello.suites.iter().all(sound), "{:04x?}", hello.suites);
        assert!(
            hello.suites.contains(&0x00ff) || hello.extensions.contains_key(&0xff01),
            "secure renegotiation"
        );
        assert_eq!(hello.compression, [0], "no compression");
        assert!(hello.extensions.contains_key(&23), "extended master secret");
        assert_eq!(&hello.extensions[&0][5..], b"mx.example.net", "SNI");
        for (kind, name) in [
            (16, "ALPN"),
            (19, "raw public keys of clients"),
            (20, "raw public keys of servers"),
            (41, "a session to resume"),
            (42, "early data"),
        ] {
            assert!(!hello.extensions.contains_key(&kind), "{name}");
        }
        // No TLS 1.2 ticket is handed back.
        assert!(hello.extensions.get(&35).is_none_or(Vec::is_empty));
        // A post-quantum group may be asked for, but its share would make two packets of one, which old hosts drop.
        assert!(hello.extensions[&51].len() < 200, "key shares");
    }
}
