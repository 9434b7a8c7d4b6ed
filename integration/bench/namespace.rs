//! A network, mount and process namespace of our own: ports 25 and 53 are free, `/etc/resolv.conf` is ours, and
//! every daemon ends with us, whatever happens.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use crate::measure;
use crate::options::Options;

/// Set for the inner process: the scratch folder that the outer one made and will remove.
const SCRATCH: &str = "SEALPOST_BENCH_SCRATCH";

/// What makes a namespace; the command to run in it follows.
const UNSHARE: [&str; 7] =
    ["--net", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Starts this program again in namespaces when that is possible, and measures.
pub(crate) async fn enter(options: Options) -> Result<ExitCode> {
    if let Some(scratch) = std::env::var_os(SCRATCH) {
        let scratch = PathBuf::from(scratch);
        furnish(&scratch).await?;
        return measure::all(&options, &scratch, true).await;
    }
    let mut scratch = TempDir::with_prefix_in("sealpost-bench-", &options.dir)
        .with_context(|| format!("no scratch folder in {}", options.dir.display()))?;
    // Postfix's daemons run as users of their own and must reach their queue.
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    if options.keep {
        scratch.disable_cleanup(true);
        eprintln!("kept in {}", scratch.path().display());
    }
    if let Err(why) = possible().await {
        eprintln!("no namespaces ({why}): Postfix is left out");
        return measure::all(&options, scratch.path(), false).await;
    }
    let mut inner = Command::new("unshare")
        .args(UNSHARE)
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(SCRATCH, scratch.path())
        .kill_on_drop(true)
        .spawn()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        status = inner.wait() => Ok(if status?.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    }
}

async fn possible() -> Result<()> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        bail!("not root");
    }
    let probe = Command::new("unshare").args(UNSHARE).arg("true").stderr(Stdio::null()).status().await;
    if !probe.context("unshare")?.success() {
        bail!("unshare is not permitted");
    }
    Ok(())
}

/// Loopback up, and the system's resolver file replaced by one that names the bench's DNS.
async fn furnish(scratch: &Path) -> Result<()> {
    command("ip", &["link", "set", "lo", "up"]).await?;
    let resolver = scratch.join("resolv.conf");
    fs::write(&resolver, format!("nameserver {}\n", crate::site::DNS_ADDRESS))?;
    let resolver = resolver.to_str().context("scratch folder")?;
    command("mount", &["--bind", resolver, "/etc/resolv.conf"]).await
}

/// Runs a program to its end; what it says on stderr is the error.
pub(crate) async fn command(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output().await.with_context(|| program.to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{program} {}: {} {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(())
}
