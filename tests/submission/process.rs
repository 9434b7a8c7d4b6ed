//! What a relay takes of its machine: descriptors, processor time, memory. It runs in a process of its own, which is
//! the same test once more.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sealpost::submission::Timers;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::client::{Client, PATIENCE};
use crate::relay::{SUBMISSIONS, TRUSTED, relay_for};

/// The environment variable that makes a process of these tests the relay.
const AS_RELAY: &str = "SEALPOST_TEST_AS_RELAY";

fn is_relay() -> bool {
    std::env::var_os(AS_RELAY).is_some()
}

/// Says on a line of its own where it listens and where its certificate lies; keeps nothing of what it accepts.
#[tokio::main(flavor = "current_thread")]
async fn be_relay() {
    let relay = relay_for(1000, Timers::default()).await;
    let doors = relay.doors.map(|d| d.to_string()).join(" ");
    let said = format!("\nrelay {doors} {}\n", relay.dir.path().display());
    std::io::stdout().write_all(said.as_bytes()).unwrap();
    loop {
        relay.store.0.lock().unwrap().clear();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

struct Process {
    child: Child,
    doors: Vec<SocketAddr>,
    tls: TlsConnector,
}

impl Process {
    /// The relay of the test of this name, with so many descriptors.
    fn start(test: &str, descriptors: u32) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &format!("process::{test}"), "--nocapture"])
            .env(AS_RELAY, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let said = lines.map_while(Result::ok).find_map(|l| l.strip_prefix("relay ").map(str::to_owned));
        let said = said.unwrap();
        let mut words = said.split(' ');
        let doors = words.by_ref().take(3).map(|d| d.parse().unwrap()).collect();
        let chain = std::path::Path::new(words.next().unwrap()).join("chain.pem");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(chain).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { child, doors, tls: Arc::new(client).into() }
    }

    /// Processor time so far, in clock ticks of 10 ms (proc(5)).
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().skip(11).take(2).map(|n| n.parse::<u64>().unwrap()).sum()
    }

    /// A field of proc(5) `status` that counts KiB.
    fn kib(&self, field: &str) -> i64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':')).unwrap();
        value.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn greeting(address: SocketAddr) -> Option<[u8; 4]> {
    let mut tcp = BlockingStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut greeting = [0; 4];
    tcp.read_exact(&mut greeting).ok().map(|()| greeting)
}

// LIM-13
#[test]
fn without_descriptors_the_listener_neither_spins_nor_stops() {
    if is_relay() {
        return be_relay();
    }
    let relay = Process::start("without_descriptors_the_listener_neither_spins_nor_stops", 40);
    let address = relay.doors[TRUSTED];
    let crowd: Vec<_> = (0..100).map(|_| BlockingStream::connect(address).unwrap()).collect();
    // At the limit a client is let go without a word, by the descriptor in reserve.
    let let_go = |tcp: &BlockingStream| {
        tcp.set_nonblocking(true).unwrap();
        matches!((&*tcp).read(&mut [0; 1]), Ok(0))
    };
    let begun = Instant::now();
    while !crowd.iter().rev().any(let_go) {
        assert!(begun.elapsed() < PATIENCE, "nobody is let go");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (begun, before) = (Instant::now(), relay.ticks());
    std::thread::sleep(Duration::from_secs(1));
    let spent = Duration::from_millis(10) * u32::try_from(relay.ticks() - before).unwrap();
    // On a busy machine the second is longer.
    let elapsed = begun.elapsed();
    assert!(spent * 10 < elapsed * 3, "{spent:?} of {elapsed:?} without descriptors");
    drop(crowd);
    let begun = Instant::now();
    while greeting(address) != Some(*b"220 ") {
        assert!(begun.elapsed() < PATIENCE, "no connection is served any more");
    }
}

/// A client that has sent a message up to the last line of its content.
async fn nearly_sent(relay: &Process, tls: bool, content: &[u8]) -> Client {
    let tcp = TcpStream::connect(relay.doors[if tls { SUBMISSIONS } else { TRUSTED }]).await.unwrap();
    let mut client = if tls {
        Client::over(relay.tls.connect("relay.example.net".try_into().unwrap(), tcp).await.unwrap())
    } else {
        Client::over(tcp)
    };
    client.reply().await.unwrap();
    client.say("EHLO client.example", "250 ").await;
    if tls {
        client.say("AUTH PLAIN AGFwcDEAc2VjcmV0", "235 ").await;
    }
    client.say("MAIL FROM:<app1@example.org>", "250 ").await;
    client.say("RCPT TO:<bob@example.net>", "250 ").await;
    client.say("DATA", "354 ").await;
    client.send(content).await;
    client
}

// LIM-02
#[test]
fn a_large_message_takes_at_most_256_kib_of_memory_while_it_comes_in() {
    if is_relay() {
        return be_relay();
    }
    let many = if std::env::var_os("SEALPOST_LONG").is_some_and(|v| v == "1") { 500 } else { 50 };
    let line = [b"x".repeat(998), b"\r\n".to_vec()].concat();
    let content = [b"From: app1@example.org\r\n\r\n".to_vec(), line.repeat(900)].concat();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for tls in [false, true] {
        let relay = Process::start("a_large_message_takes_at_most_256_kib_of_memory_while_it_comes_in", 4096);
        runtime.block_on(async {
            let mut first = nearly_sent(&relay, tls, &content).await;
            first.say(".", "250 ").await;
            drop(first);
            let before = relay.kib("VmRSS");
            let mut clients = join_all((0..many).map(|_| nearly_sent(&relay, tls, &content))).await;
            // Whoever has read all of it waits for more.
            let mut last = relay.ticks();
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                let now = relay.ticks();
                if now == last {
                    break;
                }
                last = now;
            }
            let during = (relay.kib("VmRSS") - before) / many;
            join_all(clients.iter_mut().map(|c| c.say(".", "250 "))).await;
            assert!(during <= 256, "tls {tls}: {during} KiB for each connection");
        });
    }
}
