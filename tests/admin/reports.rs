//! The report commands over a real socket, the real service and the real store, and over the database alone.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::admin::http::{self, AdminState, Limits};
use sealpost::admin::reports::Desk;
use sealpost::admin::{AdminActions, Readiness};
use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::config::Secret;
use sealpost::dkim::{Algorithm, Signers, SigningKey, keygen};
use sealpost::dns::zone::ZoneResolver;
use sealpost::mail::{Domain, Mailbox};
use sealpost::mtasts::StoredPolicy;
use sealpost::queue::{Filter, NewMessage, StoreError};
use sealpost::status::{Place, Running};
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use sealpost::tlsrpt::service::{Parts, ReportService, ReportSettings};
use sealpost::tlsrpt::{
    AppliedPolicy, FailureDetail, PolicyVerdict, Posted, ReportMailer, ReportPoster, ResultType,
    SessionRecord, SessionStore,
};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::doubles::{NoMetrics, command};

const NOON: &str = "2026-11-22T12:00:00Z";

fn now() -> Timestamp {
    Timestamp::parse_rfc3339(NOON).unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// Takes every mail, and answers every POST with 503 and a wish.
#[derive(Default)]
struct Outside {
    mails: Mutex<usize>,
    posts: Mutex<Vec<Bytes>>,
}

impl ReportMailer for Outside {
    fn mail(&self, _: NewMessage) -> BoxFuture<'_, Result<(), StoreError>> {
        *self.mails.lock().unwrap() += 1;
        async { Ok(()) }.boxed()
    }
}

impl ReportPoster for Outside {
    fn post<'a>(&'a self, _: &'a str, packed: Bytes) -> BoxFuture<'a, Posted> {
        self.posts.lock().unwrap().push(packed);
        let reply = "HTTP 503 Service Unavailable".to_owned();
        async { Posted::Later { reply, after: Some(Duration::from_secs(3600)) } }.boxed()
    }
}

struct Idle;

impl AdminActions for Idle {
    fn refresh(&self, _: Domain) -> BoxFuture<'_, Result<StoredPolicy, String>> {
        async { Err("not here".to_owned()) }.boxed()
    }

    fn retried(&self, _: &Filter) {}

    fn readiness(&self) -> Readiness {
        Readiness {
            store_writable: true,
            disk_free: 1,
            disk_ok: true,
            listeners_up: true,
            dnssec: "off: a test".to_owned(),
        }
    }

    fn standing(&self, _: Timestamp) -> (Place, Running) {
        panic!("the tests of `status` ask for this");
    }
}

fn record(of: &str, success: bool) -> SessionRecord {
    let detail = FailureDetail { result: ResultType::CertificateExpired, reason: None };
    SessionRecord {
        at: now(),
        report_domain: domain(of),
        sending_ip: Some("192.0.2.1".parse().unwrap()),
        mx_host: Some(domain(&format!("mx.{of}"))),
        mx_helo: None,
        receiving_ip: Some("198.51.100.1".parse().unwrap()),
        verdicts: vec![PolicyVerdict {
            policy: AppliedPolicy::Sts {
                domain: domain(of),
                lines: vec!["version: STSv1".to_owned()],
                mx: vec![format!("mx.{of}")],
            },
            success,
            details: if success { vec![] } else { vec![detail] },
        }],
    }
}

struct World {
    dir: tempfile::TempDir,
    config: String,
    store: Arc<SqliteStore>,
    outside: Arc<Outside>,
    stop: CancellationToken,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now())) as Arc<dyn Clock>;
    let store = Arc::new(SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap());
    let zone =
        "_smtp._tls.asks.example TXT \"v=TLSRPTv1; rua=mailto:r@asks.example,https://c.asks.example/r\"
                asks.example MX 10 mx.asks.example
                silent.example MX 10 mx.silent.example";
    let pem = keygen::generate(Algorithm::Ed25519).unwrap();
    let key = SigningKey::from_pem(domain("example.net"), "s1".to_owned(), &pem).unwrap();
    let outside = Arc::new(Outside::default());
    let from = Some(Mailbox::parse("tls-reports@example.net").unwrap());
    let service = ReportService::new(
        ReportSettings { from, ..ReportSettings::new(domain("relay.example.net")) },
        Parts {
            store: Arc::clone(&store) as _,
            resolver: Arc::new(ZoneResolver::new(zone).unwrap()),
            mailer: Arc::clone(&outside) as _,
            poster: Arc::clone(&outside) as _,
            signers: Signers::new(vec![key]),
            clock: Arc::clone(&clock),
        },
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let file = dir.path().join("sealpost.toml");
    let text = format!(
        "hostname = \"relay.example.net\"\ndata_dir = \"{}\"\n[tls_rpt]\nfrom = \"tls-reports@example.net\"\n\
         [admin]\nlisten = \"{}\"\ntoken = \"t\"\n",
        dir.path().display(),
        listener.local_addr().unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let stop = CancellationToken::new();
    let state = AdminState {
        queue: Arc::clone(&store) as _,
        policies: Arc::clone(&store) as _,
        reports: Arc::new(Desk { service: service.clone(), store: Arc::clone(&store) as _ }),
        actions: Arc::new(Idle),
        metrics: Arc::new(NoMetrics),
        token: Secret::new("t"),
        overview: Arc::clone(&store) as _,
        clock: Arc::clone(&clock),
        max_age: Duration::from_secs(5 * 86_400),
        limits: Limits::default(),
    };
    tokio::spawn(http::serve(state, listener, stop.clone()));
    tokio::spawn(service.run(stop.clone()));
    World { config: path(&file), dir, store, outside, stop }
}

fn path(file: &Path) -> String {
    file.to_str().unwrap().to_owned()
}

impl World {
    /// `report` and these words: status, stdout, stderr.
    async fn report(&self, words: &[&str]) -> (u8, String, String) {
        command(now(), &self.config, &[&["report"], words].concat()).await
    }

    async fn json(&self, words: &[&str]) -> Value {
        let (_, out, err) = self.report(words).await;
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{words:?}: {e}: {out:?} {err}"))
    }

    /// Counts sessions, and waits until the store has taken them.
    async fn sessions(&self) {
        for (of, success) in [("asks.example", true), ("asks.example", false), ("silent.example", true)] {
            self.store.record(record(of, success));
        }
        while self.json(&["preview", "--json"]).await.as_array().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    }

    /// `report list --json` once no destination waits for its first try.
    async fn tried(&self) -> Vec<Value> {
        loop {
            let list = self.json(&["list", "--json"]).await;
            let list = list.as_array().unwrap().clone();
            let all = || list.iter().flat_map(|r| r["destinations"].as_array().unwrap());
            if all().count() > 0 && all().all(|d| d["state"] != "waiting" || d["attempts"] != 0) {
                return list;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_is_previewed_sent_listed_and_shown() {
    let world = world().await;
    let (status, out, _) = world.report(&["preview"]).await;
    assert_eq!((status, out.contains("No session was counted on 2026-11-22")), (0, true), "{out}");
    world.sessions().await;

    let previewed = world.json(&["preview", "--domain", "asks.example", "--json"]).await;
    let summary = &previewed[0]["policies"][0]["summary"];
    assert_eq!(summary["total-failure-session-count"], 1, "{previewed}");
    assert_eq!(previewed[0]["date-range"]["end-datetime"], NOON);
    let (_, out, _) = world.report(&["preview"]).await;
    for wanted in
        ["2 reports as they would be sent now", "asks.example", "silent.example", "certificate-expired"]
    {
        assert!(out.contains(wanted), "{wanted}: {out}");
    }

    let (status, out, err) = world.report(&["send"]).await;
    assert_eq!(status, 0, "{out} {err}");
    for wanted in ["1 report of 2026-11-22 on the way", "so far", "1 report not sent", "asks for no reports"]
    {
        assert!(out.contains(wanted), "{wanted}: {out}");
    }
    let list = world.tried().await;
    assert_eq!(
        (list.len(), &list[0]["partial"], &list[0]["domain"]),
        (1, &Value::Bool(true), &"asks.example".into())
    );
    assert_eq!(*world.outside.mails.lock().unwrap(), 1);
    let (_, out, _) = world.report(&["list"]).await;
    for wanted in [
        "sending, partial",
        "        mailto:r@asks.example: in the queue as ",
        "        https://c.asks.example/r: waits, next in 60m: HTTP 503 Service Unavailable",
    ] {
        assert!(out.contains(wanted), "{wanted}: {out}");
    }
    assert!(out.lines().all(|line| line.len() <= 100), "{out}");

    // The very octets that were posted, by number and by report-id.
    let packed = world.outside.posts.lock().unwrap()[0].clone();
    let sent = sealpost::tlsrpt::report::unpack(&packed).unwrap();
    for id in [list[0]["no"].to_string(), list[0]["report_id"].as_str().unwrap().to_owned()] {
        let (_, out, err) = world.report(&["show", &id, "--json"]).await;
        assert_eq!(out, format!("{sent}\n"), "{id}: {err}");
        let (_, out, _) = world.report(&["show", &id]).await;
        assert!(out.starts_with("Report 1 about asks.example on 2026-11-22: sending, partial\n"), "{out}");
        assert!(out.contains("  sessions   1 good, 1 failed\n") && out.contains(&sent), "{out}");
    }
    // Sent once more is a day that is over, and it has to be named.
    for words in [&["send", "--again"][..], &["send", "--again", "--day", "2026-11-22"]] {
        let (status, out, err) = world.report(words).await;
        assert!(status > 0 && out.is_empty() && err.contains("--day"), "{words:?}: {err}");
    }
    let (status, _, err) = world.report(&["show", "99"]).await;
    assert!(status == 1 && err.contains("no report 99"), "{err}");

    // RPT-93: what is not closed yet, or not yet come, is not sent as a closed day.
    let (status, _, err) = world.report(&["send", "--day", "2026-11-23"]).await;
    assert!(status == 1 && err.contains("has not come yet"), "{err}");
    let (status, out, _) = world.report(&["send", "--day", "2026-11-20", "--domain", "asks.example"]).await;
    assert!(status == 1 && out.contains("1 report not sent"), "{out}");
    assert_eq!(world.report(&["send", "--day", "yesterday"]).await.0, 2);
    world.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_relay_its_database_is_read_and_nothing_is_changed() {
    let world = world().await;
    world.sessions().await;
    assert_eq!(world.report(&["send"]).await.0, 0);
    world.tried().await;
    let online = (
        world.report(&["list"]).await,
        world.report(&["show", "1", "--json"]).await,
        world.json(&["preview", "--json"]).await,
    );
    world.stop.cancel();
    // The listener is gone once nobody answers.
    while world.report(&["list"]).await.2.is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (status, out, err) = world.report(&["list"]).await;
    assert_eq!((status, &out), (0, &online.0.1), "{err}");
    assert!(err.contains("reading its database instead"), "{err}");
    assert_eq!(world.report(&["show", "1", "--json"]).await.1, online.1.1);
    let offline = world.json(&["preview", "--json"]).await;
    let policies =
        |v: &Value| v.as_array().unwrap().iter().map(|r| r["policies"].clone()).collect::<Vec<_>>();
    assert_eq!(policies(&offline), policies(&online.2));
    let (status, out, err) = world.report(&["send"]).await;
    assert!(status == 1 && out.is_empty() && err.contains("sealpost serve"), "{out} {err}");
    let (status, out, err) = world.report(&["list", "--online"]).await;
    assert!(status == 1 && out.is_empty() && err.contains("does not answer"), "{out} {err}");
    drop(world.dir);
}
