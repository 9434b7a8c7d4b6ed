//! `cargo run --release --example bench`: how fast Sealpost is, measured beside Postfix in one run.
//!
//! Every run starts a fresh contender with an empty queue on a real disk, drives it with the same loader and
//! takes its mail with the same sink, and counts at both ends. Contenders alternate, so that what else happens on
//! the machine strikes all of them; ratios are of medians. As root everything runs in namespaces of its own,
//! with port 25 and `/etc/resolv.conf` to itself; Postfix needs that and is left out otherwise.
//!
//! | file | what |
//! | --- | --- |
//! | `options` | the command line |
//! | `namespace` | a private network, mount and process tree |
//! | `site` | DNS, policy hosts, the authority, addresses |
//! | `loader`, `sink`, `ledger` | the two ends, and what each message's id went through |
//! | `meter` | CPU, memory, flushes, and what others did meanwhile |
//! | `contender`, `postfix`, `relay` | what is measured |
//! | `evening` | the reports of a large day |
//! | `measure` | one run of each kind |
//! | `table` | medians, goals, the table and the JSON |

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program whose output is its purpose")]

#[path = "bench/contender.rs"]
mod contender;
#[path = "bench/evening.rs"]
mod evening;
#[path = "bench/ledger.rs"]
mod ledger;
#[path = "bench/loader.rs"]
mod loader;
#[path = "bench/measure.rs"]
mod measure;
#[path = "bench/meter.rs"]
mod meter;
#[path = "bench/namespace.rs"]
mod namespace;
#[path = "bench/options.rs"]
mod options;
#[path = "bench/postfix.rs"]
mod postfix;
#[path = "bench/relay.rs"]
mod relay;
#[path = "bench/sink.rs"]
mod sink;
#[path = "bench/site.rs"]
mod site;
#[path = "bench/table.rs"]
mod table;
#[allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the scenarios use the rest of it, and may fail loudly"
)]
mod world;

use std::process::ExitCode;

use clap::Parser as _;

use options::Options;

/// The commands that make this program the relay itself: one build, never stale.
const RELAY_COMMANDS: [&str; 2] = ["serve", "queue"];

fn main() -> ExitCode {
    let first = std::env::args().nth(1).unwrap_or_default();
    if RELAY_COMMANDS.contains(&first.as_str()) {
        return sealpost::cli::main();
    }
    let done = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        if first == evening::COMMAND {
            return runtime.block_on(evening::play(std::env::args().skip(2))).map(|()| ExitCode::SUCCESS);
        }
        runtime.block_on(namespace::enter(Options::parse()))
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
