//! The admin interface over a real socket and the real store: who is let in, what is answered, what is bounded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use sealpost::admin::client::{Client, ClientError};
use sealpost::admin::http::{self, AdminState, Limits, RetryRequest};
use sealpost::admin::metrics::{self, Metrics, MetricsState};
use sealpost::admin::view::{Message, Policy, PolicyDetail, Retried, Row};
use sealpost::admin::{AdminActions, Readiness};
use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::config::Secret;
use sealpost::mail::{Domain, Envelope, EnvelopeRecipient, ForwardPath, Origin, QueueId, ReversePath};
use sealpost::mtasts::{self, Mode, PolicyStore, StoredPolicy};
use sealpost::queue::{Filter, NewMessage, QueueStore};
use sealpost::status::{Place, Running};
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::doubles::NoReports;

pub(crate) const TOKEN: &str = "a-token-of-this-test";

const PATIENCE: Duration = Duration::from_secs(60);

/// The running relay, as far as the admin interface asks it.
#[derive(Default)]
pub(crate) struct Relay {
    pub(crate) retried: Mutex<Vec<Filter>>,
    disk_full: Mutex<bool>,
}

impl AdminActions for Relay {
    fn refresh(&self, domain: Domain) -> BoxFuture<'_, Result<StoredPolicy, String>> {
        async move {
            match domain.as_str() {
                "sound.example" => Ok(policy("sound.example")),
                "slow.example" => std::future::pending().await,
                _ => Err("the policy host answers 404".to_owned()),
            }
        }
        .boxed()
    }

    fn retried(&self, filter: &Filter) {
        self.retried.lock().unwrap().push(filter.clone());
    }

    fn readiness(&self) -> Readiness {
        Readiness {
            store_writable: true,
            disk_free: 1,
            disk_ok: !*self.disk_full.lock().unwrap(),
            listeners_up: true,
            dnssec: "off: a test".to_owned(),
        }
    }

    fn standing(&self, _: Timestamp) -> (Place, Running) {
        panic!("the tests of `status` ask for this");
    }
}

impl Metrics for Relay {
    fn scrape(&self) -> BoxFuture<'_, Arc<str>> {
        async { "sealpost_queue_domain_recipients{domain=\"a.example\"} 7\n".into() }.boxed()
    }
}

pub(crate) fn policy(domain: &str) -> StoredPolicy {
    let text = format!("version: STSv1\r\nmode: enforce\r\nmx: mx.{domain}\r\nmax_age: 604800\r\n");
    StoredPolicy {
        domain: Domain::parse(domain).unwrap(),
        id: "1".to_owned(),
        policy: mtasts::policy::Policy::parse(text.as_bytes()).unwrap(),
        fetched: now(),
        expires: now().after(Duration::from_secs(604_800)),
        last_used: now(),
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()
}

pub(crate) struct World {
    _dir: tempfile::TempDir,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) relay: Arc<Relay>,
    address: SocketAddr,
    stop: CancellationToken,
}

pub(crate) async fn world(limits: Limits) -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now())) as Arc<dyn Clock>;
    let store = Arc::new(SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap());
    let relay = Arc::new(Relay::default());
    let state = AdminState {
        queue: Arc::clone(&store) as _,
        policies: Arc::clone(&store) as _,
        reports: Arc::new(NoReports),
        actions: Arc::clone(&relay) as _,
        metrics: Arc::clone(&relay) as _,
        token: Secret::new(TOKEN),
        overview: Arc::clone(&store) as _,
        clock: Arc::clone(&clock),
        max_age: Duration::from_secs(5 * 86_400),
        limits,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(http::serve(state, listener, stop.clone()));
    World { _dir: dir, store, relay, address, stop }
}

impl World {
    /// The path of a configuration that leads here.
    pub(crate) fn config(&self) -> String {
        let dir = self._dir.path();
        let text = format!(
            "hostname = \"relay.example.net\"\ndata_dir = \"{}\"\n[admin]\nlisten = \"{}\"\ntoken = \"{TOKEN}\"\n",
            dir.display(),
            self.address
        );
        let file = dir.join("sealpost.toml");
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub(crate) async fn submit(&self, n: u8, to: &[&str]) -> QueueId {
        let id = QueueId::from_bytes([n; 16]);
        let recipients = to.iter().map(|a| EnvelopeRecipient {
            path: ForwardPath::parse(a).unwrap(),
            notify: None,
            orcpt: None,
        });
        let message = NewMessage {
            id,
            origin: Origin::Submitted,
            envelope: Envelope {
                reverse_path: ReversePath::parse("app@sender.example").unwrap(),
                recipients: recipients.collect(),
                ret: None,
                envid: None,
                sender_tls: sealpost::mail::SenderTls::Unsaid,
                smtputf8: false,
                has_8bit: false,
            },
            message_id: format!("<{n}@sender.example>"),
            submitter: "127.0.0.1".to_owned(),
            arrived: now(),
            content: Arc::new(Bytes::from_static(b"Subject: s\r\n\r\nbody\r\n")),
            origin_key: None,
        };
        self.store.enqueue(message, None).await.unwrap();
        id
    }

    /// Sends these octets and reads to the end: status, head, body.
    async fn raw(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {answer:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get(&self, path: &str, fields: &str) -> (u16, String, String) {
        let host = self.address;
        self.raw(&format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n{fields}\r\n")).await
    }

    async fn post(&self, path: &str, body: &str) -> (u16, String, String) {
        let head =
            format!("POST {path} HTTP/1.0\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n", self.address);
        let kind = "Content-Type: application/json\r\n";
        self.raw(&format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len())).await
    }

    /// Asks as the command line does.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
    ) -> Result<T, ClientError> {
        let client = Client::new(self.address, Secret::new(TOKEN));
        tokio::task::spawn_blocking(move || ask(&client)).await.unwrap()
    }
}

fn authorized() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

#[tokio::test]
async fn health_is_open_and_says_when_mail_cannot_be_taken() {
    let world = world(Limits::default()).await;
    assert_eq!(world.get("/healthz", "").await.0, 200);
    let (status, _, body) = world.get("/readyz", "").await;
    assert_eq!((status, body.contains("\"disk_ok\":true")), (200, true), "{body}");
    *world.relay.disk_full.lock().unwrap() = true;
    let (status, _, body) = world.get("/readyz", "").await;
    assert_eq!((status, body.contains("\"disk_ok\":false")), (503, true), "{body}");
    assert_eq!(world.get("/healthz", "").await.0, 200);
}

#[tokio::test]
async fn without_the_token_or_from_a_browser_nothing_is_told_or_done() {
    let world = world(Limits::default()).await;
    world.submit(1, &["secret@a.example"]).await;
    let with = |fields: &str| format!("{}{fields}", authorized());
    for (fields, want) in [
        (String::new(), 401),
        ("Authorization: Bearer wrong\r\n".to_owned(), 401),
        ("Authorization: Basic YTpi\r\n".to_owned(), 401),
        (with("Origin: http://127.0.0.1\r\n"), 403),
        (with("Origin: null\r\n"), 403),
        (with(""), 200),
    ] {
        let (status, head, body) = world.get("/v1/queue", &fields).await;
        assert_eq!(status, want, "{fields:?}");
        assert_eq!(body.contains("secret@a.example"), want == 200, "{fields:?}");
        assert_eq!(head.contains("www-authenticate: bearer"), want == 401, "{fields:?}");
    }
    for path in [
        "/metrics",
        "/v1/status",
        "/v1/queue/x",
        "/v1/policies",
        "/v1/policies/a.example",
        "/v1/reports",
        "/v1/reports/1",
        "/v1/reports/preview",
    ] {
        assert_eq!(world.get(path, "").await.0, 401, "{path}");
    }
    let rebound = format!("GET /v1/queue HTTP/1.0\r\nHost: rebind.example:8025\r\n{}\r\n", authorized());
    assert_eq!(world.raw(&rebound).await.0, 403);
    assert_eq!(world.raw(&format!("GET /v1/queue HTTP/1.0\r\n{}\r\n", authorized())).await.0, 403, "no Host");
    let post = "POST /v1/queue/retry HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
    let body = "{\"filter\":{},\"all\":true}";
    let (status, ..) = world.raw(&format!("{post}Content-Length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(status, 401);
    assert!(world.relay.retried.lock().unwrap().is_empty());
}

#[tokio::test]
async fn metrics_are_told_to_who_has_the_token_and_on_a_listener_of_their_own_to_everybody() {
    let world = world(Limits::default()).await;
    let (status, head, body) = world.get("/metrics", &authorized()).await;
    assert_eq!((status, body.contains("a.example")), (200, true), "{body}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{head}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = World { address: listener.local_addr().unwrap(), ..world };
    let state = MetricsState {
        metrics: Arc::clone(&other.relay) as _,
        actions: Arc::clone(&other.relay) as _,
        limits: MetricsState::LIMITS,
    };
    tokio::spawn(metrics::serve(state, listener, other.stop.clone()));
    // A monitoring system comes by name, and without a token.
    let (status, head, body) =
        other.raw("GET /metrics HTTP/1.1\r\nHost: relay.example.net:9100\r\n\r\n").await;
    assert_eq!((status, body.contains("a.example")), (200, true), "{body}");
    assert!(head.contains("version=0.0.4"), "{head}");
    assert_eq!(other.get("/healthz", "").await.0, 200);
    *other.relay.disk_full.lock().unwrap() = true;
    assert_eq!(other.get("/readyz", "").await.0, 503);
    // Nothing else is there, token or not.
    for path in ["/", "/v1/status", "/v1/queue", "/v1/policies", "/v1/reports"] {
        assert_eq!(other.get(path, &authorized()).await.0, 404, "{path}");
    }
    assert_eq!(other.post("/v1/queue/retry", "{\"filter\":{},\"all\":true}").await.0, 404);
    assert_eq!(other.post("/metrics", "").await.0, 405);
    assert!(other.relay.retried.lock().unwrap().is_empty());
}

#[tokio::test]
async fn the_queue_is_listed_shown_and_made_due() {
    let world = world(Limits::default()).await;
    let id = world.submit(1, &["u@a.example", "v@b.example"]).await;
    world.submit(2, &["w@b.example"]).await;

    let rows: Vec<Row> = world.ask(|c| c.get("/v1/queue")).await.unwrap();
    assert_eq!(rows.len(), 3);
    let rows: Vec<Row> = world.ask(|c| c.get("/v1/queue?domain=b.example&limit=1")).await.unwrap();
    assert_eq!((rows.len(), rows[0].recipient.as_str()), (1, "v@b.example"));
    let rows: Vec<Row> = world.ask(move |c| c.get(&format!("/v1/queue?ids={id}"))).await.unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|r| r.id == id), "{rows:?}");

    let message: Message = world.ask(move |c| c.get(&format!("/v1/queue/{id}"))).await.unwrap();
    assert_eq!((message.recipients.len(), message.header.trim_end()), (2, "Subject: s"));

    let filter = Filter { domain: Some(Domain::parse("b.example").unwrap()), ..Filter::default() };
    let request = RetryRequest { filter: filter.clone(), all: false };
    let done: Retried = world.ask(move |c| c.post("/v1/queue/retry", &request)).await.unwrap();
    assert_eq!((done.touched.recipients, done.touched.messages, done.touched.in_flight), (2, 2, 0));
    assert_eq!(*world.relay.retried.lock().unwrap(), [filter]);
    world.stop.cancel();
}

#[tokio::test]
async fn what_is_not_there_or_not_meant_is_said_in_json() {
    let world = world(Limits::default()).await;
    let unknown = QueueId::from_bytes([9; 16]);
    for (path, want, words) in [
        (format!("/v1/queue/{unknown}"), 404, "no message"),
        ("/v1/queue/not-an-id".to_owned(), 400, "id"),
        ("/v1/policies/nobody.example".to_owned(), 404, "nothing is known"),
        ("/v1/policies/localhost".to_owned(), 400, "not a domain"),
        ("/v1/queue?ids=x".to_owned(), 400, "id"),
        ("/v1/reports/7".to_owned(), 404, "no report 7"),
    ] {
        let (status, head, body) = world.get(&path, &authorized()).await;
        let problem: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert_eq!(status, want, "{path}: {body}");
        assert!(head.contains("application/json"), "{path}: {head}");
        assert!(problem["error"].as_str().unwrap().contains(words), "{path}: {body}");
    }
    for (path, want) in [("/v1/queue?limit=x", 400), ("/v1/queue?colour=red", 400), ("/v2", 404)] {
        assert_eq!(world.get(path, &authorized()).await.0, want, "{path}");
    }
    // A filter that selects everything needs a second word.
    for (body, want) in [
        ("{\"filter\":{}}", 400),
        ("{\"filter\":{},\"al\":true}", 422),
        ("{", 400),
        ("{\"filter\":{},\"all\":true}", 200),
    ] {
        assert_eq!(world.post("/v1/queue/retry", body).await.0, want, "{body}");
    }
    assert_eq!(world.relay.retried.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn policies_are_listed_shown_and_refreshed() {
    let world = world(Limits::default()).await;
    PolicyStore::save(&*world.store, policy("sound.example"), Some("first policy".to_owned())).await.unwrap();
    let list: Vec<Policy> = world.ask(|c| c.get("/v1/policies")).await.unwrap();
    assert_eq!((list.len(), list[0].mode, list[0].max_age), (1, Mode::Enforce, 604_800));
    let shown: PolicyDetail = world.ask(|c| c.get("/v1/policies/sound.example")).await.unwrap();
    assert_eq!((shown.lines[1].as_str(), shown.history[0].what.as_str()), ("mode: enforce", "first policy"));
    let (status, _, body) = world.post("/v1/policies/sound.example/refresh", "{}").await;
    assert!(status == 200 && body.contains("\"id\":\"1\""), "{status} {body}");
    let (status, _, body) = world.post("/v1/policies/broken.example/refresh", "{}").await;
    assert!(status == 502 && body.contains("answers 404"), "{status} {body}");
}

#[tokio::test]
async fn bodies_handlers_and_heads_have_bounds() {
    let small = world(Limits { body: 1000, ..Limits::default() }).await;
    let large = format!("{{\"filter\":{{\"sender\":\"{}\"}}}}", "x".repeat(2000));
    assert_eq!(small.post("/v1/queue/retry", &large).await.0, 413);
    // The head's deadline is the client's too that asks at once: it may not be short.
    let (time, head) = (Duration::from_millis(200), Duration::from_secs(3));
    let brief = world(Limits { time, head, ..Limits::default() }).await;
    let (status, _, body) = brief.post("/v1/policies/slow.example/refresh", "{}").await;
    assert!(status == 504 && body.contains("too long"), "{status} {body}");
    // A head that never ends, and a client that asks and then does not go away.
    join_all(["GET /healthz HTTP/1.1\r\nHost: a\r\n", "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"].map(
        async |request| {
            let mut stream = TcpStream::connect(brief.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let end = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
            assert!(end.is_ok(), "{request:?} keeps its connection");
            assert_eq!(answer.starts_with(b"HTTP/1.1 200"), request.ends_with("\r\n\r\n"), "{request:?}");
        },
    ))
    .await;
}

#[tokio::test]
async fn a_crowd_of_silent_clients_cannot_shut_out_the_operator() {
    let head = Duration::from_secs(3);
    let world = world(Limits { connections: 4, head, ..Limits::default() }).await;
    let mut crowd = Vec::new();
    for _ in 0..8 {
        crowd.push(TcpStream::connect(world.address).await.unwrap());
    }
    let answer = timeout(PATIENCE, world.get("/healthz", "")).await;
    assert_eq!(answer.unwrap().0, 200);
    drop(crowd);
}
