//! The arguments, and what `--help` says about them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::mail::{Domain, QueueId};
use crate::queue::{DeferReason, Filter, RecipientState};
use crate::tlsrpt::Day;

/// Where the configuration lies when nobody says otherwise.
pub(super) const DEFAULT_CONFIG: &str = "/etc/sealpost/sealpost.toml";

/// An outbound SMTP relay that keeps every recipient domain's TLS promise.
#[derive(Debug, Parser)]
#[command(
    name = "sealpost",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit status: 0 done; 1 the answer is \"no\" or the operation failed; 2 the command line or the \
                  configuration is wrong."
)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SEALPOST_CONFIG",
        default_value = DEFAULT_CONFIG
    )]
    pub(super) config: PathBuf,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the relay in the foreground
    Serve,
    /// Show on one screen what waits and why, what is due, and what you should look at
    ///
    /// Queue by state and cause, the policy cache, TLS reports, DNSSEC, exceptions. Exit status 0 when nothing needs a
    /// person; 1 when something under "look at" is marked BAD, which this relay fails at and only a person can mend here,
    /// and when the relay does not answer. What others break is marked "note" and does not change the exit status.
    Status {
        #[command(flatten)]
        output: Output,
    },
    /// Explain, step by step, what would happen to mail for a domain now; without a domain, how this relay stands
    ///
    /// Runs the delivery's own code: route, policy live and cached, demand and verdict per MX host. Stores nothing,
    /// counts nothing, uses up no back-off. Exit status 0 when mail would be delivered, 1 when it would wait or be
    /// returned. Without a domain: names of our addresses, DKIM keys, DNSSEC, clock, authorities and, with --probe, port
    /// 25; exit status 1 when something would fail.
    Check(Check),
    /// See what waits and why; make it due now
    #[command(subcommand)]
    Queue(Queue),
    /// See and refresh the MTA-STS policies of recipient domains
    #[command(subcommand)]
    Policy(Policy),
    /// See and send TLS reports; read those that others sent
    #[command(subcommand)]
    Report(Report),
    /// Check, show or write the configuration
    #[command(subcommand)]
    Config(Config),
    /// Make what [[submission.user]] needs
    #[command(subcommand)]
    User(User),
    /// Make what [[dkim]] needs
    #[command(subcommand)]
    Dkim(Dkim),
}

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The recipient domain
    #[arg(value_parser = domain)]
    pub(super) domain: Option<Domain>,
    /// Open a session to each MX host, up to TLS and no further; without a domain, see whether port 25 is open
    #[arg(long)]
    pub(super) probe: bool,
    /// Go by the cached policy, whatever is live
    #[arg(long, requires = "domain")]
    pub(super) from_cache: bool,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Queue {
    /// One row per recipient still owed a delivery, oldest first
    List {
        #[command(flatten)]
        select: Select,
        /// At most so many rows
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        #[command(flatten)]
        output: Output,
    },
    /// One message: envelope, recipients, header, and the timeline of every attempt
    Show {
        /// The id of the 250 reply and of `queue list`
        id: QueueId,
        #[command(flatten)]
        output: Output,
    },
    /// Make recipients due now, ending suspensions of their domains and pauses of their hosts
    ///
    /// An ID means all recipients of that message still owed; the options select recipients, never other
    /// domains' copies. Rows in flight are left alone and named. More than 100 rows ask first, unless --yes.
    Retry {
        /// Messages
        #[arg(value_name = "ID")]
        ids: Vec<QueueId>,
        #[command(flatten)]
        select: Select,
        /// Recipients with this address
        #[arg(long, value_name = "ADDRESS")]
        recipient: Option<String>,
        /// Everything that waits
        #[arg(long)]
        all: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Select {
    /// Recipients in this domain
    #[arg(long, value_parser = domain)]
    domain: Option<Domain>,
    /// Recipients in this state
    #[arg(long)]
    state: Option<State>,
    /// Messages from this envelope sender; <> for the null sender
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Recipients that wait for this cause
    #[arg(long, value_parser = DeferReason::ALL.map(DeferReason::as_str))]
    cause: Option<String>,
}

impl Select {
    /// The filter that these options mean.
    pub(super) fn filter(self, ids: Vec<QueueId>, recipient: Option<String>) -> Filter {
        let sender = self.sender.map(|s| if s == "<>" { String::new() } else { s });
        Filter {
            ids,
            recipient,
            domain: self.domain,
            state: self.state.map(Into::into),
            sender,
            cause: self.cause,
        }
    }
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
    /// Ask the running relay only: exit 1 when it does not answer, instead of reading its database
    #[arg(long)]
    pub(super) online: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Queued,
    Delivering,
    Deferred,
    Held,
    Delivered,
    Bounced,
    Deleted,
}

impl From<State> for RecipientState {
    fn from(s: State) -> Self {
        match s {
            State::Queued => Self::Queued,
            State::Delivering => Self::Delivering,
            State::Deferred => Self::Deferred,
            State::Held => Self::Held,
            State::Delivered => Self::Delivered,
            State::Bounced => Self::Bounced,
            State::Deleted => Self::Deleted,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Policy {
    /// All stored policies
    List {
        #[command(flatten)]
        output: Output,
    },
    /// One domain: its policy, and what changed when
    Show {
        #[arg(value_parser = domain)]
        domain: Domain,
        #[command(flatten)]
        output: Output,
    },
    /// Fetch a domain's policy now, ignoring back-off
    Refresh {
        #[arg(value_parser = domain)]
        domain: Domain,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Report {
    /// Show what will be sent: today so far, or another day that was not sent yet
    Preview {
        /// The UTC day
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<Day>,
        /// Only about this recipient domain
        #[arg(long, value_parser = domain)]
        domain: Option<Domain>,
        #[command(flatten)]
        output: Output,
    },
    /// Send the reports of a day now instead of at their time
    ///
    /// Of today a copy goes out that covers the day so far; the report of the whole day follows at its time. A day
    /// that was sent already goes out again, octet for octet, with --again. Exit status 1 when nothing was sent.
    Send {
        /// The UTC day; without it, today so far
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<Day>,
        /// Only about this recipient domain
        #[arg(long, value_parser = domain)]
        domain: Option<Domain>,
        /// Send once more what was sent of a day that is over
        #[arg(long, requires = "day")]
        again: bool,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Reports due and sent: to whom, and what they answered
    List {
        /// Only of this UTC day
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<Day>,
        /// Only about this recipient domain
        #[arg(long, value_parser = domain)]
        domain: Option<Domain>,
        #[command(flatten)]
        output: Output,
    },
    /// One report: to whom it went, what they answered, and the very JSON that was sent
    Show {
        /// The number of `report list`, or a report-id
        id: String,
        #[command(flatten)]
        output: Output,
    },
    /// Prove that receivers would believe our reports
    ///
    /// DKIM key and record, SPF, DMARC, the contact, and that no report runs in a circle. Exit status 1 when something
    /// would fail.
    Check {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
    /// Show TLS reports that others sent: who saw what, which failures, since when, what to mend
    ///
    /// Reads JSON, gzip and whole messages, mbox files and folders (maildirs too), in any mixture. What cannot be
    /// read is named on stderr, and the next file goes on. Exit status 0 when all was read and no report tells of a
    /// failure, else 1.
    Read {
        /// Files and folders; - for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Print one JSON array: per report its file and the report, under the names of RFC 8460
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Say everything that is wrong, with line and key
    Check,
    /// Print the effective configuration, secrets blanked
    Show,
    /// Write a commented starter file that shows every key and its default
    Init {
        /// Where to; - for stdout. An existing file is left alone
        #[arg(default_value = "-")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Read a password from stdin and print its argon2id hash
    Hash,
}

#[derive(Debug, Subcommand)]
pub(super) enum Dkim {
    /// Make a private key and print the DNS record that goes with it
    Keygen(Keygen),
}

#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// The signing domain: that of the From field, or a parent of it
    #[arg(long, value_parser = domain)]
    pub(super) domain: Domain,
    /// The name of the key within the domain; a new one for each key
    #[arg(long)]
    pub(super) selector: String,
    /// Every receiver verifies rsa (2048 bits); ed25519 is for a second key beside it
    #[arg(long, value_enum, default_value = "rsa")]
    pub(super) algorithm: DkimAlgorithm,
    /// Where to [default: dkim-SELECTOR.DOMAIN.pem]. An existing file is left alone
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DkimAlgorithm {
    Rsa,
    Ed25519,
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::parse(text).map_err(|e| e.to_string())
}
