//! The relay under test, as a process of its own.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::client::{self, Client, Reply};
use super::{PATIENCE, World, eventually};

/// Its name.
pub const HOSTNAME: &str = "relay.lab.example";

/// What differs from the plain relay of a world.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Lines for the top of the configuration: keys of no section.
    pub top: String,
    /// Sections added to the configuration.
    pub sections: String,
    /// Keys by section that replace or join the plain ones, such as `("queue", "max_age = \"1h\"")`.
    pub keys: Vec<(&'static str, String)>,
    /// A program and its arguments that starts the relay, such as strace.
    pub wrapper: Vec<String>,
    /// Another place for the queue than the world's folder.
    pub data_dir: Option<PathBuf>,
}

/// A relay process with its configuration, queue and log. Dropping it kills the process.
pub struct Relay {
    program: PathBuf,
    setup: Setup,
    config: PathBuf,
    data_dir: PathBuf,
    submission: SocketAddr,
    child: Option<Child>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// Writes the configuration and starts `program serve`; returns when it greets.
    pub async fn start(program: &Path, world: &World, setup: Setup) -> Self {
        let mut relay = Self::prepare(program, world, setup);
        relay.run().await;
        relay
    }

    /// Writes the configuration only.
    pub fn prepare(program: &Path, world: &World, setup: Setup) -> Self {
        let data_dir = setup.data_dir.clone().unwrap_or_else(|| world.dir.path().join("queue"));
        let config = world.dir.path().join("sealpost.toml");
        std::fs::write(&config, configuration(world, &setup, &data_dir)).unwrap();
        Self {
            program: program.to_owned(),
            setup,
            config,
            data_dir,
            submission: world.address(1),
            child: None,
            log: Arc::default(),
        }
    }

    /// Starts the process, at first or again, and waits until it greets.
    pub async fn run(&mut self) {
        let submission = self.submission;
        self.spawn();
        let child = Mutex::new(self.child.as_mut().unwrap());
        let ready = eventually(PATIENCE, async || {
            if let Some(status) = child.lock().unwrap().try_wait().unwrap() {
                return Some(Err(status));
            }
            Client::connect(submission).await.ok().map(|_| Ok(()))
        });
        match ready.await {
            Some(Ok(())) => {}
            Some(Err(status)) => panic!("the relay ended at start with {status}:\n{}", self.log_text()),
            None => panic!("the relay did not get ready:\n{}", self.log_text()),
        }
    }

    /// Starts the process without waiting.
    pub fn spawn(&mut self) {
        let mut words: Vec<PathBuf> = self.setup.wrapper.iter().map(PathBuf::from).collect();
        words.push(self.program.clone());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("serve").arg("--config").arg(&self.config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        self.capture(child.stdout.take());
        self.capture(child.stderr.take());
        self.child = Some(child);
    }

    fn capture(&self, pipe: Option<impl AsyncRead + Unpin + Send + 'static>) {
        let (log, Some(pipe)) = (Arc::clone(&self.log), pipe) else { return };
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipe).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                log.lock().unwrap().push(line);
            }
        });
    }

    /// Its configuration file.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The folder of its queue.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where applications submit.
    pub const fn submission(&self) -> SocketAddr {
        self.submission
    }

    /// The process id while it runs.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the relay runs")
    }

    /// Sends a signal by name, such as `TERM`.
    pub async fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.pid());
        assert!(Command::new("sh").args(["-c", &command]).status().await.unwrap().success());
    }

    /// Ends it without warning, as a power failure would.
    pub async fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().await.unwrap();
    }

    /// Waits for its end and returns the exit status.
    pub async fn wait(&mut self, limit: Duration) -> std::process::ExitStatus {
        let mut child = self.child.take().unwrap();
        let Ok(status) = timeout(limit, child.wait()).await else {
            panic!("the relay did not end:\n{}", self.log_text());
        };
        status.unwrap()
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self) {
        self.signal("TERM").await;
        let status = self.wait(PATIENCE).await;
        assert!(status.success(), "the relay ended with {status}:\n{}", self.log_text());
    }

    /// Everything it said so far.
    pub fn log_text(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The `delivery` lines of its log, fields only, oldest first.
    pub fn deliveries(&self) -> Vec<Map<String, Value>> {
        let log = self.log.lock().unwrap();
        log.iter().filter_map(|l| delivery_fields(l)).collect()
    }

    /// The `delivery` lines for one recipient.
    pub fn deliveries_to(&self, recipient: &str) -> Vec<Map<String, Value>> {
        let mut all = self.deliveries();
        all.retain(|d| d.get("recipient").and_then(Value::as_str) == Some(recipient));
        all
    }

    /// Waits for the n-th `delivery` line of a recipient (counted from 1) and returns it.
    pub async fn delivery(&self, recipient: &str, n: usize) -> Map<String, Value> {
        let found = eventually(PATIENCE, async || self.deliveries_to(recipient).into_iter().nth(n - 1)).await;
        found.unwrap_or_else(|| panic!("no delivery line {n} for {recipient}:\n{}", self.log_text()))
    }

    /// Waits for the `delivery` line that says that a recipient's mail was delivered, at whichever attempt. It comes after
    /// the commit that takes the recipient off the queue.
    pub async fn delivered(&self, recipient: &str) -> Map<String, Value> {
        let found = async || self.deliveries_to(recipient).into_iter().find(|d| d["outcome"] == "delivered");
        let found = eventually(PATIENCE, found).await;
        found.unwrap_or_else(|| panic!("no delivery to {recipient}:\n{}", self.log_text()))
    }

    /// Runs a command of the program with this relay's configuration.
    pub async fn cli(&self, words: &[&str]) -> io::Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--config").arg(&self.config).stdin(Stdio::null()).kill_on_drop(true);
        timeout(PATIENCE, command.output()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Runs a command that must succeed, with `--json`, and returns its document.
    pub async fn json(&self, words: &[&str]) -> Value {
        let output = self.cli(&[words, &["--json"]].concat()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {}: {said}\n{}", output.status, self.log_text());
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `queue list`: the recipients still owed a delivery.
    pub async fn queue(&self) -> Vec<Value> {
        self.json(&["queue", "list"]).await.as_array().unwrap().clone()
    }

    /// The row of one recipient in `queue list`.
    pub async fn waiting(&self, recipient: &str) -> Option<Value> {
        self.queue().await.into_iter().find(|r| r["recipient"] == recipient)
    }

    /// Waits until the queue holds nothing for this recipient.
    pub async fn gone(&self, recipient: &str) {
        let empty = async || self.waiting(recipient).await.is_none().then_some(());
        let found = eventually(PATIENCE, empty).await;
        assert!(found.is_some(), "{recipient} still waits:\n{}", self.log_text());
    }

    /// Waits until an attempt for this recipient was deferred, and returns its row.
    pub async fn deferred(&self, recipient: &str) -> Value {
        let row = async || self.waiting(recipient).await.filter(|r| r["state"] == "deferred");
        let found = eventually(PATIENCE, row).await;
        found.unwrap_or_else(|| panic!("{recipient} is not deferred:\n{}", self.log_text()))
    }

    /// Submits a small message and returns the reply to the final dot.
    pub async fn submit(&self, from: &str, to: &str, subject: &str) -> Reply {
        let mut client = Client::connect(self.submission).await.unwrap();
        client.submit(from, &[to], &client::message(from, to, subject)).await.unwrap()
    }

    /// The database, read-only and beside the running relay.
    pub fn database(&self) -> rusqlite::Connection {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        rusqlite::Connection::open_with_flags(self.data_dir.join("queue.db"), flags).unwrap()
    }

    /// The stored TLS-RPT facts that name `domain`, folded or not: each row as `column=value` words.
    pub fn sessions(&self, domain: &str) -> Vec<String> {
        let mut database = self.database();
        // One snapshot of both: folding moves rows from the first to the second.
        let snapshot = database.transaction().unwrap();
        let mut rows = rows_as_text(&snapshot, "SELECT body FROM session_record");
        rows.extend(rows_as_text(
            &snapshot,
            "SELECT c.day, c.domain, p.policy, p.success, p.failure, d.* FROM counted_day c \
             JOIN counted_policy p ON p.counted = c.id LEFT JOIN counted_detail d ON d.policy = p.id",
        ));
        rows.retain(|r| r.contains(domain));
        rows
    }

    /// The sessions counted for the report domain `domain`, folded or not: successes and failures.
    pub fn session_counts(&self, domain: &str) -> (i64, i64) {
        session_counts(&mut self.database(), domain).unwrap()
    }

    /// Waits until as many successes and failures are counted; records are stored behind the mail.
    pub async fn counted(&self, domain: &str, expected: (i64, i64)) {
        let right = async || (self.session_counts(domain) == expected).then_some(());
        let found = eventually(PATIENCE, right).await;
        assert!(found.is_some(), "{domain}, not {expected:?}: {:#?}", self.sessions(domain));
    }

    /// Waits until a stored TLS-RPT fact about `domain` contains `word`.
    pub async fn session_with(&self, domain: &str, word: &str) -> String {
        let row = async || self.sessions(domain).into_iter().find(|r| r.contains(word));
        let found = eventually(PATIENCE, row).await;
        found.unwrap_or_else(|| panic!("no session of {domain} with {word}: {:#?}", self.sessions(domain)))
    }
}

/// See [`Relay::session_counts`].
///
/// # Errors
/// Of the database.
pub fn session_counts(database: &mut rusqlite::Connection, domain: &str) -> rusqlite::Result<(i64, i64)> {
    // One snapshot of both: folding moves rows from the first to the second.
    let snapshot = database.transaction()?;
    let query = "SELECT coalesce(sum(success), 0), coalesce(sum(failure), 0) FROM (
           SELECT success, failure FROM counted_policy p JOIN counted_day c ON c.id = p.counted WHERE domain = ?1
           UNION ALL
           SELECT v.value ->> 'success', NOT (v.value ->> 'success')
           FROM session_record, json_each(body, '$.verdicts') v WHERE body ->> 'report_domain' = ?1)";
    snapshot.query_row(query, [domain], |r| Ok((r.get(0)?, r.get(1)?)))
}

fn configuration(world: &World, setup: &Setup, data_dir: &Path) -> String {
    let (port, dns) = (world.port, world.dns.address());
    let mut sections: Vec<(&str, String)> = vec![
        ("dns", format!("servers = [\"{dns}\"]\ndnssec = \"off\"")),
        ("trust", "roots = \"none\"\nextra_roots = [\"ca.pem\"]".to_owned()),
        ("delivery", format!("port = {port}\ndeny_networks = []")),
        ("mta_sts", format!("port = {port}")),
        ("admin", format!("listen = \"{}\"", world.address(2))),
        ("log", "format = \"json\"".to_owned()),
    ];
    for (section, lines) in &setup.keys {
        match sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, text)) => {
                for line in lines.lines() {
                    let key = line.split('=').next().unwrap_or_default().trim();
                    let others =
                        text.lines().filter(|l| l.split('=').next().unwrap_or_default().trim() != key);
                    *text = others.chain([line]).collect::<Vec<_>>().join("\n");
                }
            }
            None => sections.push((section, lines.clone())),
        }
    }
    let data_dir = data_dir.display();
    let mut text = format!("hostname = \"{HOSTNAME}\"\ndata_dir = \"{data_dir}\"\n{}\n", setup.top);
    let _ = writeln!(text, "[[listener]]\naddress = \"{}\"\n", world.address(1));
    for (name, keys) in sections {
        let _ = writeln!(text, "[{name}]\n{keys}\n");
    }
    text + &setup.sections
}

/// The fields of a `delivery` event, wherever the JSON layer puts them.
fn delivery_fields(line: &str) -> Option<Map<String, Value>> {
    let Value::Object(mut event) = serde_json::from_str(line).ok()? else { return None };
    if let Some(Value::Object(fields)) = event.remove("fields") {
        event.extend(fields);
    }
    ["event", "message"].iter().any(|k| event.get(*k).is_some_and(|v| v == "delivery")).then_some(event)
}

fn rows_as_text(database: &rusqlite::Connection, query: &str) -> Vec<String> {
    let mut statement = database.prepare(query).unwrap();
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let rows = statement.query_map([], |row| {
        let mut text = String::new();
        for (i, name) in names.iter().enumerate() {
            let value: rusqlite::types::Value = row.get(i)?;
            let value = match value {
                rusqlite::types::Value::Null => "null".to_owned(),
                rusqlite::types::Value::Integer(n) => n.to_string(),
                rusqlite::types::Value::Real(n) => n.to_string(),
                rusqlite::types::Value::Text(t) => t,
                rusqlite::types::Value::Blob(b) => String::from_utf8_lossy(&b).into_owned(),
            };
            let _ = write!(text, "{name}={value} ");
        }
        Ok(text)
    });
    rows.unwrap().map(Result::unwrap).collect()
}
