//! The command line: arguments, exit codes, tables and JSON.
//!
//! Exit status: 0 done, 1 the answer is "no" or the operation failed, 2 the command line or the configuration
//! is wrong. Tables and JSON go to stdout, everything else to stderr. [`run`] takes all it needs, so that
//! tests need no process.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::clock::Timestamp;
use crate::config::{Config, ConfigErrors};
use crate::mail::Domain;

mod args;
mod check;
mod config;
mod dkim;
mod offline;
mod policy;
mod print;
mod queue;
mod relay;
mod report;
mod standing;
mod status;
mod surroundings;
mod user;

use args::{Arguments, Command};
pub use surroundings::System;

/// Where a command reads and writes.
pub struct Io<'a> {
    /// stdin.
    pub input: &'a mut dyn BufRead,
    /// Whether a person sits at stdin.
    pub interactive: bool,
    /// stdout.
    pub out: &'a mut dyn Write,
    /// Whether it is a terminal.
    pub terminal: bool,
    /// stderr.
    pub err: &'a mut dyn Write,
    /// The time, for "in 5m".
    pub now: Timestamp,
}

/// What is to be done after [`run`].
#[derive(Debug)]
pub enum Next {
    /// End with this status.
    Exit(u8),
    /// Run the relay.
    Serve(Box<Config>),
}

/// Why a command ends early.
#[derive(Debug)]
enum Failure {
    /// Words for stderr, and the exit status.
    Words(u8, String),
    /// Writing failed; a broken pipe is the reader's choice and no failure.
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Output(e)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(e: ConfigErrors) -> Self {
        Self::Words(2, e.to_string())
    }
}

/// The operation failed, or the answer is "no".
fn failed(words: impl Into<String>) -> Failure {
    Failure::Words(1, words.into())
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let stdin = io::stdin();
    let interactive = stdin.is_terminal();
    let next = run(
        std::env::args_os(),
        &mut Io {
            input: &mut stdin.lock(),
            interactive,
            out: &mut io::stdout().lock(),
            terminal: io::stdout().is_terminal(),
            err: &mut io::stderr().lock(),
            now: surroundings::now(),
        },
    );
    match next {
        Next::Exit(status) => ExitCode::from(status),
        Next::Serve(config) => crate::app::serve(*config),
    }
}

/// Runs one command; `args` starts with the program's name.
pub fn run<I, T>(args: I, io: &mut Io<'_>) -> Next
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(e) => {
            // clap gives 0 to --help and --version, 2 to mistakes.
            let (status, sink) = if e.use_stderr() { (2, &mut *io.err) } else { (0, &mut *io.out) };
            let _ = write!(sink, "{e}");
            return Next::Exit(status);
        }
    };
    let result = command(arguments, io).and_then(|next| {
        io.out.flush()?;
        Ok(next)
    });
    match result {
        Ok(next) => next,
        Err(Failure::Words(status, words)) => {
            let _ = writeln!(io.err, "{words}");
            Next::Exit(status)
        }
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => Next::Exit(0),
        Err(Failure::Output(e)) => {
            let _ = writeln!(io.err, "writing failed: {e}");
            Next::Exit(1)
        }
    }
}

fn command(arguments: Arguments, io: &mut Io<'_>) -> Result<Next, Failure> {
    let file = arguments.config.as_path();
    let status = match arguments.command {
        Command::Serve => return Ok(Next::Serve(Box::new(load_config(file)?))),
        Command::Check(command) => check::run(command, &check_config(file)?, io)?,
        Command::Status { output } => status::run(output, &visit(file)?, io)?,
        Command::Queue(command) => queue::run(command, &visit(file)?, io)?,
        Command::Policy(command) => policy::run(command, &visit(file)?, io)?,
        Command::Config(command) => config::run(command, file, io)?,
        Command::Report(command) => report::run(command, file, io)?,
        Command::User(args::User::Hash) => user::hash(io)?,
        Command::Dkim(args::Dkim::Keygen(command)) => dkim::keygen(command, io)?,
    };
    Ok(Next::Exit(status))
}

/// The configuration of `check`: without a file at the default place, the defaults, under this machine's name.
fn check_config(path: &Path) -> Result<Config, ConfigErrors> {
    if path.exists() || path != Path::new(args::DEFAULT_CONFIG) {
        return visit(path);
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let hostname = Domain::parse(name.trim()).map_or_else(|_| "check.invalid".to_owned(), |d| d.to_string());
    Config::parse(&format!("hostname = \"{hostname}\"\n"), path, &System::RELAY)
}

/// The configuration for a command that needs none of the relay's private keys.
fn visit(path: &Path) -> Result<Config, ConfigErrors> {
    Config::load(path, &System::VISITOR)
}

/// Reads and checks the configuration at `path`, in this machine's surroundings. Also for a reload.
///
/// # Errors
/// All errors at once.
pub fn load_config(path: &Path) -> Result<Config, ConfigErrors> {
    Config::load(path, &System::RELAY)
}
