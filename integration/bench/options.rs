//! The command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::contender::Contender;

/// Measures Sealpost side by side with Postfix.
#[derive(Debug, Clone, Parser)]
#[command(name = "bench")]
pub(crate) struct Options {
    /// Runs of each measure and contender; medians are of these
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: u32,
    /// One small run of everything: shows that it works, measures little
    #[arg(long)]
    pub(crate) quick: bool,
    /// Also 100 KB messages and 1,000 domains
    #[arg(long)]
    pub(crate) full: bool,
    /// Only one of the contenders
    #[arg(long)]
    pub(crate) only: Option<Only>,
    /// Only measures whose name contains this (accept, relay, drain, evening, …)
    #[arg(long, default_value = "")]
    pub(crate) measure: String,
    /// Writes everything measured as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Where the queues lie; must be on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    pub(crate) dir: PathBuf,
    /// Keeps queues, configurations and logs
    #[arg(long)]
    pub(crate) keep: bool,
}

/// `--only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Only {
    /// Postfix, stock and tuned
    Postfix,
    /// Sealpost
    Sealpost,
}

impl Options {
    /// How often each measure is taken.
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }

    /// Whether this contender takes part.
    pub(crate) fn wants(&self, contender: Contender) -> bool {
        match self.only {
            None => true,
            Some(Only::Postfix) => contender != Contender::Sealpost,
            Some(Only::Sealpost) => contender == Contender::Sealpost,
        }
    }
}
