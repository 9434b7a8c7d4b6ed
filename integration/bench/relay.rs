//! Sealpost: this program, started again as `serve`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::ledger::Ledger;
use crate::loader::{self, Load};
use crate::site::{DARK, Site};

const SUBMISSION: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2525);

/// How long a command or a stop may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running relay.
pub(crate) struct Relay {
    config: PathBuf,
    log: PathBuf,
    child: Child,
}

impl Relay {
    /// Writes a configuration into `dir` and starts the relay.
    pub(crate) fn start(site: &Site, dir: PathBuf) -> Result<Self> {
        let (config, log) = (dir.join("sealpost.toml"), dir.join("relay.log"));
        let text = format!(
            "hostname = \"sealpost.test\"\ndata_dir = \"data\"\n\
             [[listener]]\naddress = \"{SUBMISSION}\"\n\
             [dns]\nservers = [\"{dns}\"]\ndnssec = \"off\"\n\
             [trust]\nroots = \"none\"\nextra_roots = [\"{ca}\"]\n\
             [delivery]\nport = {smtp}\ndeny_networks = []\n\
             [mta_sts]\nport = {https}\n",
            dns = site.dns,
            ca = site.ca_file.display(),
            smtp = site.smtp_port,
            https = site.https_port,
        );
        fs::write(&config, text)?;
        let out = File::create(&log)?;
        let child = Command::new(std::env::current_exe()?)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { config, log, child })
    }

    /// Where it takes mail.
    pub(crate) const fn submission(&self) -> SocketAddr {
        SUBMISSION
    }

    /// Its process.
    pub(crate) fn process(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("the relay has ended: {}", self.last_words()))
    }

    /// Has the domain [`DARK`] suspended, as the relay does by itself once all hosts of a domain refuse to be
    /// reached: from then on its mail is stored and left alone until the suspension runs out, a minute later.
    pub(crate) async fn hold(&self) -> Result<()> {
        let ledger = Ledger::new(0, 1).into();
        let load = Load { clients: 1, size: 100, domains: vec![DARK.to_owned()] };
        loader::run(SUBMISSION, &load, &ledger).await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let rows = self.command(&["queue", "list", "--json"]).await?;
            let rows: Value = serde_json::from_slice(&rows).context("queue list --json")?;
            if rows.pointer("/0/last").is_some_and(|last| !last.is_null()) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the unreachable domain was not tried: {rows}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// `queue retry --all --yes`.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.command(&["queue", "retry", "--all", "--yes"]).await.map(drop)
    }

    /// SIGTERM, and the end.
    pub(crate) async fn stop(mut self) -> Result<()> {
        let process = self.process()?.to_string();
        crate::namespace::command("kill", &["-TERM", &process]).await?;
        let status =
            tokio::time::timeout(PATIENCE, self.child.wait()).await.context("SIGTERM had no effect")??;
        if !status.success() {
            bail!("the relay ended with {status}: {}", self.last_words());
        }
        Ok(())
    }

    async fn command(&self, words: &[&str]) -> Result<Vec<u8>> {
        let run =
            Command::new(std::env::current_exe()?).args(words).arg("--config").arg(&self.config).output();
        let output = tokio::time::timeout(PATIENCE, run).await.with_context(|| words.join(" "))??;
        if !output.status.success() {
            bail!(
                "{}: {} {}",
                words.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(output.stdout)
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}
