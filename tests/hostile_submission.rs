//! The hostile dialogues of `tests/hostile/submission.json`, run in process against real sockets.
//!
//! Beside the replies it checks what must not have happened: a message is in the queue if and only if a 250
//! named it, none is for `victim@example.com`, and after content the next command gets the next reply.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail loudly")]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use argon2::PasswordHasher;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use sealpost::clock::{ManualClock, Timestamp};
use sealpost::mail::{Domain, Envelope, QueueId};
use sealpost::queue::{
    ClaimTerms, Delayed, Due, DueQuery, Enqueued, Filter, Finish, Intake, Lease, LeaseId, ListedRecipient,
    NewMessage, Permit, QueueStore, ShownMessage, StoreError, StoreHealth, Suspension, Touched, Which,
};
use sealpost::submission::accept::Acceptor;
use sealpost::submission::fixup::SenderRule;
use sealpost::submission::smtp_connection::Service;
use sealpost::submission::smtp_listener::{Slots, serve};
use sealpost::submission::tls::ReloadingCertificate;
use sealpost::submission::{AuthRule, Listener, Protocol, Settings, Timers, User};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Cases for what this release does not have.
const SKIPPED: &[(&str, &str)] =
    &[("HS-102", "LIM-14: a bound on key updates and handshakes per source comes later")];

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Store(Mutex<Vec<NewMessage>>);

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

fn closed<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(async { Err(StoreError::Closed) })
}

impl QueueStore for Store {
    fn enqueue(&self, message: NewMessage, _: Option<ClaimTerms>) -> Answer<'_, Enqueued> {
        self.0.lock().unwrap().push(message);
        Box::pin(async { Ok(Enqueued { lease: None, already_there: false }) })
    }
    fn health(&self) -> StoreHealth {
        StoreHealth { writable: true, free: u64::MAX }
    }
    fn due(&self, _: DueQuery) -> Answer<'_, Due> {
        closed()
    }
    fn claim(&self, _: Domain, _: Which, _: usize, _: ClaimTerms) -> Answer<'_, Vec<Lease>> {
        closed()
    }
    fn content(&self, _: QueueId, _: u32) -> Answer<'_, Option<Bytes>> {
        closed()
    }
    fn finish(&self, _: Finish) -> Answer<'_, ()> {
        closed()
    }
    fn release(&self, _: LeaseId, _: Vec<u32>, _: Option<Timestamp>) -> Answer<'_, ()> {
        closed()
    }
    fn suspend(&self, _: Domain, _: Option<Suspension>) -> Answer<'_, ()> {
        closed()
    }
    fn delayed(&self, _: Timestamp, _: Option<(QueueId, u32)>, _: usize) -> Answer<'_, Vec<Delayed>> {
        closed()
    }
    fn warned(&self, _: Vec<(QueueId, u32)>, _: Vec<NewMessage>) -> Answer<'_, ()> {
        closed()
    }
    fn purge(&self, _: Duration, _: u64) -> Answer<'_, bool> {
        closed()
    }
    fn heartbeat(&self) -> Answer<'_, ()> {
        closed()
    }
    fn list(&self, _: Filter, _: usize) -> Answer<'_, Vec<ListedRecipient>> {
        closed()
    }
    fn show(&self, _: QueueId) -> Answer<'_, Option<ShownMessage>> {
        closed()
    }
    fn retry(&self, _: Filter) -> Answer<'_, Touched> {
        closed()
    }
}

struct NoSlots;

impl Intake for NoSlots {
    fn permit(&self, _: &Envelope) -> Option<Permit> {
        None
    }
    fn arrived(&self, _: Option<Permit>, _: Option<Lease>) {}
    fn terms(&self, _: &Permit) -> ClaimTerms {
        unreachable!("no permit was given")
    }
}

/// One relay with three doors.
struct Relay {
    store: Arc<Store>,
    doors: [std::net::SocketAddr; 3],
    tls: tokio_rustls::TlsConnector,
    close: CancellationToken,
    _dir: tempfile::TempDir,
}

const SUBMISSION: usize = 0;
const SUBMISSIONS: usize = 1;
const TRUSTED: usize = 2;

async fn relay(timers: Timers) -> Relay {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["relay.example.net".to_owned()]).unwrap();
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let certificate = Arc::new(ReloadingCertificate::load(&file("chain.pem"), &file("key.pem")).unwrap());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();

    let cheap = argon2::Argon2::from(argon2::Params::new(8, 1, 1, None).unwrap());
    let settings = Arc::new(Settings {
        hostname: Domain::parse("relay.example.net").unwrap(),
        trusted_networks: vec!["127.0.0.0/8".parse().unwrap()],
        max_message_size: 1024 * 1024,
        max_recipients: 1000,
        max_connections: 100,
        max_connections_per_source: 100,
        reserve: 0,
        users: vec![User {
            name: "app1".into(),
            password_hash: cheap.hash_password(b"secret").unwrap().to_string(),
            allowed_senders: vec![SenderRule::parse("app1@example.org").unwrap()],
        }],
        data_dir: dir.path().to_owned(),
        timers,
    });
    let store = Arc::new(Store::default());
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_795_333_080_000)));
    let acceptor = Acceptor::new(settings, store.clone(), Arc::new(NoSlots), clock);
    let service = Arc::new(Service::new(acceptor, Some(certificate.server_config().unwrap())).unwrap());
    let (close, slots) = (CancellationToken::new(), Slots::new(100, 100));
    let mut doors = Vec::new();
    for (protocol, auth) in [
        (Protocol::Smtp, AuthRule::Required),
        (Protocol::Smtps, AuthRule::Required),
        (Protocol::Smtp, AuthRule::Optional),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        doors.push(address);
        let rules = Listener { address, protocol, auth };
        tokio::spawn(serve(socket, rules, service.clone(), slots.clone(), close.clone()));
    }
    let doors = doors.try_into().unwrap();
    Relay { store, doors, tls: Arc::new(client).into(), close, _dir: dir }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Client {
    io: Option<Box<dyn Stream>>,
    read: Vec<u8>,
    replies: Vec<String>,
}

impl Client {
    async fn connect(relay: &Relay, door: usize) -> Self {
        let tcp = TcpStream::connect(relay.doors[door]).await.unwrap();
        Self { io: Some(Box::new(tcp)), read: Vec::new(), replies: Vec::new() }
    }

    fn io(&mut self) -> &mut Box<dyn Stream> {
        self.io.as_mut().unwrap()
    }

    async fn send(&mut self, octets: &[u8]) {
        // A server that has closed is a fact to be seen in its replies, not an error of the test.
        let _ = timeout(PATIENCE, self.io().write_all(octets)).await.unwrap();
        let _ = self.io().flush().await;
    }

    /// The last line of the next reply, without CRLF; `None` at the end.
    async fn reply(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..end + 2).collect();
                let line = String::from_utf8(line[..end].to_vec()).unwrap();
                assert!(line.len() <= 510, "SUB-47: {line}");
                if line.as_bytes().get(3) != Some(&b'-') {
                    self.replies.push(line.clone());
                    return Some(line);
                }
                continue;
            }
            let mut buf = [0; 4096];
            match timeout(PATIENCE, self.io().read(&mut buf)).await.unwrap() {
                Ok(n) if n > 0 => self.read.extend_from_slice(&buf[..n]),
                _ => return None,
            }
        }
    }

    async fn say(&mut self, line: &str, want: &str) {
        self.send(format!("{line}\r\n").as_bytes()).await;
        let got = self.reply().await.unwrap_or_default();
        assert!(got.starts_with(want), "{line}: {got}");
    }

    async fn start_tls(&mut self, relay: &Relay) -> bool {
        let name = "relay.example.net".try_into().unwrap();
        match relay.tls.connect(name, self.io.take().unwrap()).await {
            Ok(tls) => {
                self.io = Some(Box::new(tls));
                true
            }
            Err(_) => false,
        }
    }
}

async fn start(relay: &Relay, state: &str) -> Client {
    match state {
        "connect-587" => return Client::connect(relay, SUBMISSION).await,
        "connect-465" => return Client::connect(relay, SUBMISSIONS).await,
        _ => {}
    }
    let trusted = state == "plain-trusted-txn";
    let mut client = Client::connect(relay, if trusted { TRUSTED } else { SUBMISSION }).await;
    assert!(client.reply().await.unwrap().starts_with("220 relay.example.net ESMTP"));
    client.say("EHLO client.example", "250 ").await;
    if state == "ehlo" {
        return client;
    }
    if !trusted {
        client.say("STARTTLS", "220 2.0.0").await;
        assert!(client.start_tls(relay).await);
        client.say("EHLO client.example", "250 ").await;
        if state == "tls" {
            return client;
        }
        client.say("AUTH PLAIN AGFwcDEAc2VjcmV0", "235 2.7.0").await;
        if state == "authed" {
            return client;
        }
    }
    client.say("MAIL FROM:<app1@example.org>", "250 2.1.0").await;
    client.say("RCPT TO:<bob@example.net>", "250 2.1.5").await;
    if state == "data" {
        client.say("DATA", "354 ").await;
    } else {
        assert!(matches!(state, "txn" | "plain-trusted-txn"), "{state}");
    }
    client
}

/// Every text that a pattern stands for, from literals, `\x`, `[ab]` and `(a|b)`; `$` at the end stays.
fn expand(pattern: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut rest = pattern.strip_prefix('^').unwrap_or(pattern);
    while let Some(c) = rest.chars().next() {
        let (choices, len): (Vec<String>, usize) = match c {
            '\\' => (vec![rest[1..2].to_owned()], 2),
            '[' => {
                let end = rest.find(']').unwrap();
                (rest[1..end].chars().map(String::from).collect(), end + 1)
            }
            '(' => {
                let (mut depth, mut cuts) = (0, vec![0]);
                let end = rest
                    .char_indices()
                    .find(|(i, c)| {
                        match c {
                            '(' => depth += 1,
                            ')' => depth -= 1,
                            '|' if depth == 1 => cuts.push(*i),
                            _ => {}
                        }
                        depth == 0
                    })
                    .unwrap()
                    .0;
                cuts.push(end);
                (cuts.windows(2).flat_map(|w| expand(&rest[w[0] + 1..w[1]])).collect(), end + 1)
            }
            c => (vec![c.to_string()], c.len_utf8()),
        };
        all = all.iter().flat_map(|a| choices.iter().map(move |c| format!("{a}{c}"))).collect();
        rest = &rest[len..];
    }
    all
}

fn matches(pattern: &str, reply: &str) -> bool {
    expand(pattern).iter().any(|p| match p.strip_suffix('$') {
        Some(whole) => reply == whole,
        None => reply.starts_with(p.as_str()),
    })
}

fn octets(text: &Value, i: u64) -> Vec<u8> {
    let text = text.as_str().unwrap().replace("{i}", &i.to_string());
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Runs steps; `Err` is what went wrong.
async fn run(relay: &Relay, client: &mut Client, steps: &[Value], i: u64) -> Result<(), String> {
    let mut unread = 0;
    for step in steps {
        if let Some(text) = step.get("send") {
            client.send(&octets(text, i)).await;
        } else if let Some(repeat) = step.get("send_repeat") {
            let one = octets(&repeat["text"], i);
            client.send(&one.repeat(usize::try_from(repeat["count"].as_u64().unwrap()).unwrap())).await;
        } else if let Some(drip) = step.get("drip") {
            // Slower than the shortened deadlines allow, as the original is slower than the real ones.
            for octet in octets(&drip["text"], i) {
                client.send(&[octet]).await;
                if timeout(Duration::from_millis(250), client.io().read_u8()).await.is_ok_and(|r| {
                    r.is_ok_and(|b| {
                        client.read.push(b);
                        true
                    })
                }) {
                    break;
                }
            }
        } else if let Some(repeat) = step.get("repeat") {
            let count = repeat["count"].as_u64().unwrap();
            let steps = repeat["steps"].as_array().unwrap();
            for i in 0..count {
                match Box::pin(run(relay, client, steps, i)).await {
                    Err(_) if client.replies.last().is_some_and(|r| r.starts_with("421")) => return Ok(()),
                    result => result?,
                }
            }
            unread = if steps.iter().any(|s| s.get("expect").is_some()) { 0 } else { count - 1 };
        } else if step.get("starttls").is_some() {
            let ready = client.reply().await.unwrap_or_default();
            if !ready.starts_with("220") || !client.start_tls(relay).await {
                return Err(format!("no TLS: {ready}"));
            }
        } else if step.get("close").is_some() {
            client.io().shutdown().await.unwrap();
        } else if let Some(pattern) = step.get("expect") {
            for _ in 0..std::mem::take(&mut unread) {
                let reply = client.reply().await.unwrap_or_default();
                if !reply.starts_with("250 ") {
                    return Err(format!("within the repetition: {reply}"));
                }
            }
            let pattern = pattern.as_str().unwrap();
            let reply = client.reply().await.unwrap_or_default();
            if !matches(pattern, &reply) {
                return Err(format!("wanted {pattern}, got {reply:?}"));
            }
        } else if step.get("wait_s").is_none() && step.get("note").is_none() {
            return Err(format!("a step that this test does not know: {step}"));
        }
    }
    Ok(())
}

async fn case(relay: &Relay, case: &Value) -> Result<(), String> {
    let (id, state) = (case["id"].as_str().unwrap(), case["start"].as_str().unwrap());
    let steps = case["steps"].as_array().unwrap();
    relay.store.0.lock().unwrap().clear();
    let mut client = start(relay, state).await;
    client.replies.clear();
    if state == "connect-587" && steps.iter().all(|s| s.get("note").is_none()) {
        client.reply().await.unwrap();
    }
    if id == "HS-030" || id == "HS-101" {
        // A TLS port never says a word of SMTP.
        client.send(&octets(&steps[0]["send"], 0)).await;
        let mut all = Vec::new();
        let _ = timeout(PATIENCE, client.io().read_to_end(&mut all)).await.map_err(|_| "still open")?;
        return if all.first().is_none_or(|b| *b == 0x15) { Ok(()) } else { Err(format!("{all:?}")) };
    }
    run(relay, &mut client, steps, 0).await?;
    let half_closed = steps.iter().any(|s| s.get("close").is_some());
    let said_quit = client.replies.last().is_some_and(|r| r.starts_with("221") || r.starts_with("421"));
    if state == "data" && !half_closed && !said_quit {
        client.send(b"NOOP\r\n").await;
        let next = client.reply().await.unwrap_or_default();
        if !next.starts_with("250 2.0.0 Ok [") && next != "250 2.0.0 Ok" {
            return Err(format!("one reply to content, then the next command: {next:?}"));
        }
    }
    let stored = relay.store.0.lock().unwrap();
    let promised = client.replies.iter().filter(|r| r.contains("queued as")).count();
    if stored.len() != promised {
        return Err(format!("{promised} promised, {} stored", stored.len()));
    }
    for message in stored.iter() {
        if !client.replies.iter().any(|r| r.ends_with(&message.id.to_string())) {
            return Err("the 250 names another id".to_owned());
        }
        if message.envelope.recipients.iter().any(|r| r.path.to_string() == "victim@example.com") {
            return Err("a smuggled recipient".to_owned());
        }
    }
    Ok(())
}

fn short() -> Timers {
    let ms = Duration::from_millis;
    Timers { unproven: ms(1500), handshake: ms(3000), data_grace: ms(1000), ..Timers::default() }
}

#[tokio::test]
async fn hostile_clients_get_the_replies_of_the_table() {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hostile/submission.json"));
    let cases: Vec<Value> = serde_json::from_str(&text.unwrap()).unwrap();
    let (patient, hasty) = (relay(Timers::default()).await, relay(short()).await);
    let (mut failed, mut passed) = (Vec::new(), 0);
    for one in &cases {
        let id = one["id"].as_str().unwrap();
        if SKIPPED.iter().any(|(skipped, _)| *skipped == id) {
            continue;
        }
        let slow = ["drip", "wait_s"]
            .iter()
            .any(|k| one["steps"].as_array().unwrap().iter().any(|s| s.get(k).is_some()));
        match case(if slow || id == "HS-030" { &hasty } else { &patient }, one).await {
            Ok(()) => passed += 1,
            Err(why) => failed.push(format!("{id} {}: {why}", one["title"])),
        }
    }
    assert!(failed.is_empty(), "{passed} passed, failed:\n{}", failed.join("\n"));
    assert_eq!(passed + SKIPPED.len(), cases.len(), "skipped only by name: {SKIPPED:?}");
}

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
    assert!(content.starts_with(
        b"Received: from client.example ([127.0.0.1])\r\n\tby relay.example.net with ESMTPSA id "
    ));
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
