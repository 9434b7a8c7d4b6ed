//! What is measured, behind one face.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::loader;
use crate::meter;
use crate::postfix::Postfix;
use crate::relay::Relay;
use crate::site::Site;

/// Longest time from start to greeting.
const START: Duration = Duration::from_secs(30);

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// Upstream defaults and verified TLS.
    PostfixStock,
    /// Sessions and TLS state kept, no brakes.
    PostfixTuned,
    /// The relay.
    Sealpost,
}

impl Contender {
    /// All of them, in the order in which they alternate.
    pub(crate) const ALL: [Self; 3] = [Self::PostfixStock, Self::Sealpost, Self::PostfixTuned];

    /// The name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::PostfixStock => "Postfix stock",
            Self::PostfixTuned => "Postfix tuned",
            Self::Sealpost => "Sealpost",
        }
    }
}

/// A contender that runs, with an empty queue.
pub(crate) struct Running {
    /// Where it takes mail.
    pub(crate) submission: SocketAddr,
    /// The first process of its tree.
    pub(crate) root: u32,
    /// From start to greeting.
    pub(crate) to_banner: Duration,
    /// Octets (PSS) after a moment of rest.
    pub(crate) idle_memory: u64,
    program: Program,
}

enum Program {
    Postfix(Postfix),
    Relay(Relay),
}

impl Running {
    /// Starts it in a new folder. With `held`, what it accepts for any domain of the run must not be delivered.
    pub(crate) async fn start(contender: Contender, site: &Site, dir: PathBuf, held: bool) -> Result<Self> {
        std::fs::create_dir(&dir)?;
        let began = Instant::now();
        let program = match contender {
            Contender::PostfixStock => Program::Postfix(Postfix::start(site, dir, false, held).await?),
            Contender::PostfixTuned => Program::Postfix(Postfix::start(site, dir, true, held).await?),
            Contender::Sealpost => Program::Relay(Relay::start(site, dir)?),
        };
        let submission = match &program {
            Program::Postfix(_) => Postfix::submission(),
            Program::Relay(relay) => relay.submission(),
        };
        loader::greets(submission, START).await.with_context(|| contender.name())?;
        let to_banner = began.elapsed();
        let root = match &program {
            Program::Postfix(postfix) => postfix.master()?,
            Program::Relay(relay) => relay.process()?,
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (idle_memory, _) = meter::memory(root);
        if held && let Program::Relay(relay) = &program {
            relay.hold().await?;
        }
        Ok(Self { submission, root, to_banner, idle_memory, program })
    }

    /// Makes everything that waits due now.
    pub(crate) async fn flush(&self) -> Result<()> {
        match &self.program {
            Program::Postfix(postfix) => postfix.flush().await,
            Program::Relay(relay) => relay.flush().await,
        }
    }

    /// Ends it and waits for the end.
    pub(crate) async fn stop(self) -> Result<()> {
        match self.program {
            Program::Postfix(postfix) => postfix.stop().await,
            Program::Relay(relay) => relay.stop().await,
        }
    }
}
