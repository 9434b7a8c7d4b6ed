//! `sealpost status` over a real socket and the real store, and over the database alone.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use sealpost::admin::http::{self, AdminState, Limits};
use sealpost::admin::{AdminActions, Readiness};
use sealpost::clock::{Clock, ManualClock, Timestamp};
use sealpost::config::Secret;
use sealpost::dns::belief::Mode;
use sealpost::mail::{
    Domain, EnhancedCode, Envelope, EnvelopeRecipient, ForwardPath, Origin, QueueId, ReversePath, SenderTls,
};
use sealpost::mtasts::StoredPolicy;
use sealpost::queue::{
    ClaimTerms, DeferReason, Diagnosis, Filter, Finish, NewMessage, Outcome, QueueStore, RetrySchedule,
    Settled, TimelineEntry, Which,
};
use sealpost::status::{ConfigurationFile, Disk, Dnssec, Listening, Place, Relay, Running, Status};
use sealpost::store::sqlite::{SqliteSettings, SqliteStore};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::doubles::{NoMetrics, NoReports, command};

fn now() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T08:00:00Z").unwrap()
}

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

/// A running relay on a disk of this many free octets.
struct RunningRelay(Mutex<u64>);

impl AdminActions for RunningRelay {
    fn refresh(&self, _: Domain) -> BoxFuture<'_, Result<StoredPolicy, String>> {
        async { Err("not here".to_owned()) }.boxed()
    }

    fn retried(&self, _: &Filter) {}

    fn readiness(&self) -> Readiness {
        let disk_free = *self.0.lock().unwrap();
        let dnssec = "trust-ad: so it is".to_owned();
        Readiness { store_writable: true, disk_free, disk_ok: disk_free > 100, listeners_up: true, dnssec }
    }

    fn standing(&self, now: Timestamp) -> (Place, Running) {
        let readiness = self.readiness();
        let place = Place {
            hostname: domain("relay.example.net"),
            disk: Some(Disk { data_dir: "/q".into(), free: readiness.disk_free, needed: 100 }),
            certificate: None,
            exceptions: Vec::new(),
            max_age: Duration::from_secs(5 * 86_400),
            rules: Arc::default(),
        };
        let listening = Listening { address: "127.0.0.1:2525".parse().unwrap(), protocol: "smtp".to_owned() };
        let words = readiness.dnssec.clone();
        let running = Running {
            relay: Relay { started: now, draining: false, listeners: vec![listening] },
            readiness,
            dnssec: Dnssec {
                mode: Mode::TrustAd,
                configured: true,
                believed: true,
                proven: true,
                words,
                ..Dnssec::default()
            },
            standing: Vec::new(),
            reports_wait: None,
            configuration: ConfigurationFile {
                file: "/etc/sealpost.toml".into(),
                changed: None,
                unreadable: None,
            },
        };
        (place, running)
    }
}

struct World {
    dir: tempfile::TempDir,
    store: Arc<SqliteStore>,
    relay: Arc<RunningRelay>,
    config: String,
    stop: CancellationToken,
}

/// A relay that answers, with mail for bank.example that waits for 26 hours.
async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(now())) as Arc<dyn Clock>;
    let store = Arc::new(SqliteStore::open(&SqliteSettings::new(dir.path()), Arc::clone(&clock)).unwrap());
    let relay = Arc::new(RunningRelay(Mutex::new(1 << 30)));
    let state = AdminState {
        queue: Arc::clone(&store) as _,
        policies: Arc::clone(&store) as _,
        reports: Arc::new(NoReports),
        overview: Arc::clone(&store) as _,
        actions: Arc::clone(&relay) as _,
        metrics: Arc::new(NoMetrics),
        token: Secret::new("t"),
        clock,
        max_age: Duration::from_secs(5 * 86_400),
        limits: Limits::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = configuration(dir.path(), &listener.local_addr().unwrap().to_string(), "");
    let stop = CancellationToken::new();
    tokio::spawn(http::serve(state, listener, stop.clone()));
    waiting(&store).await;
    World { dir, store, relay, config, stop }
}

fn configuration(dir: &Path, admin: &str, more: &str) -> String {
    let file = dir.join("sealpost.toml");
    let text = format!(
        "hostname = \"relay.example.net\"\ndata_dir = \"{}\"\n{more}\n[dns]\nservers = [\"127.0.0.1:1\"]\n\
         [queue]\nreserve = \"1 KiB\"\n[submission]\nmax_message_size = \"1 MiB\"\n\
         [admin]\nlisten = \"{admin}\"\ntoken = \"t\"\n",
        dir.display()
    );
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

async fn waiting(store: &SqliteStore) {
    let recipients = ["u@bank.example", "v@bank.example"].map(|a| EnvelopeRecipient {
        path: ForwardPath::parse(a).unwrap(),
        notify: None,
        orcpt: None,
    });
    let message = NewMessage {
        id: QueueId::from_bytes([7; 16]),
        origin: Origin::Submitted,
        envelope: Envelope {
            reverse_path: ReversePath::parse("app@sender.example").unwrap(),
            recipients: recipients.to_vec(),
            ret: None,
            envid: None,
            sender_tls: SenderTls::Unsaid,
            smtputf8: false,
            has_8bit: false,
        },
        message_id: "<7@sender.example>".to_owned(),
        submitter: "127.0.0.1".to_owned(),
        arrived: now().before(Duration::from_secs(26 * 3600)),
        content: Arc::new(Bytes::from_static(b"Subject: s\r\n\r\nbody\r\n")),
        origin_key: None,
    };
    store.enqueue(message, None).await.unwrap();
    let schedule = Arc::new(RetrySchedule::new(vec![Duration::from_secs(600)]));
    let terms = ClaimTerms { domain: None, schedule };
    let lease = store.claim(domain("bank.example"), Which::Due, 1, terms).await.unwrap().remove(0);
    let diagnosis = Diagnosis {
        host: Some(domain("mx1.bank.example")),
        enhanced: EnhancedCode::new(4, 7, 5),
        ..Diagnosis::local(now(), "the certificate of mx1.bank.example has expired".to_owned())
    };
    let outcome = Outcome::Deferred(DeferReason::TlsCertificate, diagnosis);
    let settled = |no| Settled { no, outcome: outcome.clone(), next_attempt: None, counted: true };
    let entry = TimelineEntry {
        at: now(),
        attempt: 1,
        domain: domain("bank.example"),
        steps: vec![],
        results: vec![],
    };
    let finish = Finish { lease: lease.id, settled: vec![settled(0), settled(1)], entry, generated: vec![] };
    store.finish(finish).await.unwrap();
}

/// `sealpost status` and these words: status, stdout, stderr.
async fn status(config: &str, words: &[&str]) -> (u8, String, String) {
    command(now(), config, &[&["status"], words].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_relay_is_asked_and_screen_and_document_agree() {
    let world = world().await;
    let (code, out, err) = status(&world.config, &["--json"]).await;
    assert_eq!((code, err.as_str()), (0, ""), "what others break wakes nobody: {out}");
    let json: Value = serde_json::from_str(&out).unwrap();
    let read: Status = serde_json::from_str(&out).unwrap();
    assert!(read.sound && read.relay.is_some());
    for (path, want) in [
        ("/hostname", "relay.example.net"),
        ("/at", "2026-11-22T08:00:00Z"),
        ("/relay/listeners/0/protocol", "smtp"),
        ("/queue/causes/0/cause", "tls_certificate"),
        ("/queue/causes/0/example/text", "the certificate of mx1.bank.example has expired"),
        ("/queue/busiest/0/domain", "bank.example"),
        ("/dnssec/words", "trust-ad: so it is"),
        ("/dnssec/mode", "trust-ad"),
        ("/configuration/file", "/etc/sealpost.toml"),
        ("/look_at/0/mark", "note"),
        ("/look_at/0/subject", "tls_certificate"),
    ] {
        assert_eq!(json.pointer(path).and_then(Value::as_str), Some(want), "{path}: {out}");
    }
    assert_eq!(json["queue"]["states"]["deferred"]["recipients"], 2);
    // /v1/status kept what it had.
    assert!(json["version"].is_string() && json["readiness"]["disk_ok"] == true, "{out}");

    let (code, out, err) = status(&world.config, &["--online"]).await;
    assert_eq!((code, err.as_str()), (0, ""));
    for words in ["2 deferred (oldest 26h) for 1 domain", "tls_certificate", "mx1.bank.example has expired"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert!(out.ends_with("Nothing needs a person here; 1 thing to look at.\n"), "{out}");
    // Into a pipe each thing is one line, with all that is to be done about it.
    let thing = out.lines().find(|l| l.starts_with("note")).unwrap();
    assert!(thing.contains("the oldest for 26h") && thing.contains("[[destination]] of yours"), "{out}");
    assert!(thing.ends_with("or lower minimum_tls."), "{out}");

    *world.relay.0.lock().unwrap() = 100;
    for words in [&[][..], &["--json"]] {
        let (code, out, _) = status(&world.config, words).await;
        assert!(code == 1 && out.contains("new mail is refused (452)"), "{code} {out}");
    }
    world.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_relay_the_database_is_read_and_that_needs_a_person() {
    let world = world().await;
    world.stop.cancel();
    let exception = |of: &str| {
        format!(
            "[[exception]]\ndomain = \"{of}\"\nallow = \"encrypt\"\nuntil = \"2026-12-24\"\nreason = \"r\"\nby = \"ops\"\n"
        )
    };
    // The store lets go of the file; what ended stays ended.
    let ended = sealpost::security::exception::ExceptionMemory::remember(
        &*world.store,
        "ended.example/encrypt/2026-12-24".to_owned(),
        now(),
    );
    ended.await;
    world.store.close().await;
    let more = exception("broken.example") + &exception("ended.example");
    let text = std::fs::read_to_string(&world.config).unwrap();
    std::fs::write(
        &world.config,
        format!("{text}{more}").replace("listen = \"127.0.0.1:", "listen = \"127.0.0.9:"),
    )
    .unwrap();

    let (code, out, err) = status(&world.config, &["--json"]).await;
    assert!(code == 1 && err.contains("does not answer") && err.contains("reading its database"), "{err}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert!(json["relay"].is_null() && json["readiness"].is_null() && json["sound"] == false, "{out}");
    assert_eq!(json["queue"]["causes"][0]["recipients"], 2);
    assert_eq!(json["dnssec"]["configured"], true, "the resolver is on this machine");
    assert_eq!(json["dnssec"]["believed"], false, "nobody has tested it");
    assert!(json["disk"]["free"].as_u64().is_some_and(|free| free > 0), "{out}");
    let states: Vec<_> = json["exceptions"].as_array().unwrap().iter().map(|e| &e["state"]).collect();
    assert_eq!(states, ["in-force", "not-needed"]);
    assert_eq!(json["look_at"][0]["check"], "relay");
    let (code, out, _) = status(&world.config, &[]).await;
    assert!(code == 1 && out.contains("relay       does not answer"), "{out}");
    assert!(out.ends_with("1 thing needs a person.\n"), "{out}");
    let (code, out, err) = status(&world.config, &["--online"]).await;
    assert!(code == 1 && out.is_empty() && err.contains("does not answer"), "{out} {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_may_not_be_asked_is_no_fault() {
    let world = world().await;
    world.stop.cancel();
    world.store.close().await;
    let config = configuration(world.dir.path(), "", "");
    let (code, out, err) = status(&config, &["--json"]).await;
    let json: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out} {err}"));
    assert_eq!((code, &json["look_at"][0]["mark"]), (0, &"note".into()), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_there_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let config = configuration(dir.path(), "127.0.0.1:1", "");
    let (code, out, err) = status(&config, &["--json"]).await;
    assert!(code == 1 && out.is_empty() && err.contains("there is no queue at"), "{out} {err}");
}
