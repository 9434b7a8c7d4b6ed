//! A program that nobody here wrote, running as a child in a process group of its own, ended by its id.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;

use super::{PATIENCE, eventually};

/// A running daemon. Dropping it ends its process group.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `program` and waits until it accepts connections at `ready`; what it says goes into `log`.
    pub async fn start(program: &str, words: &[&str], ready: SocketAddr, log: &Path) -> Self {
        use std::os::unix::process::CommandExt as _;
        let file = std::fs::File::create(log).unwrap();
        let mut command = Command::new(program);
        command.args(words).process_group(0).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let daemon = Self { child: command.spawn().unwrap_or_else(|e| panic!("{program}: {e}")) };
        let listening = async || TcpStream::connect(ready).await.ok().map(drop);
        let found = eventually(PATIENCE, listening).await;
        let said = std::fs::read_to_string(log).unwrap_or_default();
        assert!(found.is_some(), "{program} does not listen: {said}");
        daemon
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A negative number is the process group. TERM first, so that it tidies up; then KILL.
        for (signal, tries) in [("TERM", 200), ("KILL", 200)] {
            let end = format!("kill -{signal} -{}", self.child.id());
            let _ = Command::new("sh").args(["-c", &end]).stderr(Stdio::null()).status();
            for _ in 0..tries {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(25));
            }
        }
    }
}
