//! Sealpost against a private internet and against programs that nobody here wrote: one file per scenario.
//!
//! Every scenario asserts the queue, what the MX host saw, the stored session records, and what must not have
//! been seen. A scenario whose programs or rights are missing is named in the file of `SEALPOST_COULD_NOT_RUN`
//! and passes; without that variable it fails. `SEALPOST_LONG=1` takes the full counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

#[path = "../world/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "lab, bench and scenarios each use a part of the world")]
mod world;

mod a_cached_policy_survives_kill_9_and_a_dead_policy_host;
mod a_dead_resolver_costs_a_deferral;
mod a_drop_after_the_dot_is_perhaps_delivered;
mod a_failing_collector_keeps_no_report_from_the_other;
mod a_full_disk_refuses_early;
mod a_locked_database_costs_451;
mod a_refusal_is_final_only_when_every_host_was_asked;
mod a_refused_mailbox_and_a_null_mx_come_back_as_dsn;
mod a_renewed_certificate_is_shown_without_a_restart;
mod a_report_arrives_where_tls_is_broken;
mod a_second_start_on_the_same_queue_refuses;
mod a_stalled_policy_host_holds_up_its_own_domain_only;
mod a_stripped_starttls_never_sees_mail_from;
mod an_exception_is_told_everywhere_and_ends_by_itself;
mod an_expired_certificate_makes_mail_wait_until_the_repair;
mod an_unlisted_mx_is_never_connected_to;
mod applications_nobody_here_wrote_submit;
mod check_explains_and_leaves_no_trace;
mod check_shows_records_rules_and_exceptions;
mod dane_over_real_dns;
mod every_domain_gets_what_it_promised;
mod greylisted_mail_is_retried;
mod kill_9_at_any_moment_loses_nothing;
mod kill_9_while_reports_go_out_makes_each_once;
mod metrics_tell_what_happened;
mod nginx_takes_a_report;
mod others_take_a_report_as_it_leaves_the_relay;
mod parsedmarc_takes_our_reports;
mod postfix_takes_verified_mail;
mod requiretls_is_kept_from_hop_to_hop;
mod signatures_verify_elsewhere;
mod sigterm_finishes_what_runs_and_restart_goes_on;
mod silent_clients_leave_the_rest_working;
mod testing_mode_delivers_and_records;
mod the_250_comes_after_the_sync;
mod the_log_can_leave_local_parts_out;
mod the_private_internet_answers_real_programs;
mod unbound_resolves_for_the_relay;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use world::World;
use world::relay::{Relay, Setup};

/// The envelope sender of most scenarios.
const SENDER: &str = "app@sender.example";

/// The program under test.
fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_sealpost"))
}

/// The plain relay of a world.
async fn relay(world: &World) -> Relay {
    relay_with(world, Setup::default()).await
}

/// The relay of a world, with these differences.
async fn relay_with(world: &World, setup: Setup) -> Relay {
    Relay::start(&program(), world, setup).await
}

/// `full` with `SEALPOST_LONG=1`, else a twentieth of it.
fn count(full: usize) -> usize {
    let long = std::env::var_os("SEALPOST_LONG").is_some_and(|v| v == "1");
    if long { full } else { full.div_ceil(20) }
}

/// Whether these programs are installed and, where asked for, we are root; says so where not.
fn can_run(scenario: &str, programs: &[&str], root: bool) -> bool {
    let mut missing: Vec<&str> = programs.iter().copied().filter(|p| find(p).is_none()).collect();
    if root && !is_root() {
        missing.push("root");
    }
    if missing.is_empty() {
        return true;
    }
    could_not_run(scenario, &missing.join(", "));
    false
}

/// The Python of `integration/test`, or the one on the PATH, when it has this module; says so where not.
async fn python_with(scenario: &str, module: &str) -> Option<PathBuf> {
    let installed = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python");
    let python = std::env::var_os("SEALPOST_PYTHON").map_or_else(installed, PathBuf::from);
    let python = if python.exists() { python } else { PathBuf::from("python3") };
    let asked = find(python.to_str()?).is_some()
        && run(&python, &["-c", &format!("import {module}; print('it is here')")])
            .await
            .contains("it is here");
    if !asked {
        could_not_run(scenario, &format!("the Python module {module}"));
    }
    asked.then_some(python)
}

/// Names a scenario that could not run in the file of `SEALPOST_COULD_NOT_RUN`.
fn could_not_run(scenario: &str, needs: &str) {
    let line = format!("{scenario}: needs {needs}\n");
    let Some(list) = std::env::var_os("SEALPOST_COULD_NOT_RUN") else {
        panic!("could not run {scenario}: needs {needs}. Not installed: run integration/test");
    };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(list).unwrap();
    file.write_all(line.as_bytes()).unwrap();
    eprint!("could not run {line}");
}

/// Where a program lies: on the PATH or where Debian keeps daemons.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|f| f.join(program)).find(|p| p.exists())
}

/// The whole path of an installed program, for those outside an ordinary PATH.
fn path_of(program: &str) -> String {
    find(program).unwrap_or_else(|| program.into()).display().to_string()
}

/// The numeric id of a system user.
fn user_id(name: &str) -> u32 {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|l| l.split(':').next() == Some(name)).expect("the user exists");
    line.split(':').nth(2).unwrap().parse().unwrap()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}

/// Runs a program to its end and returns what it said on stdout and stderr together.
async fn run(program: impl AsRef<Path>, words: &[&str]) -> String {
    let mut command = tokio::process::Command::new(program.as_ref());
    command.args(words).stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(std::time::Duration::from_secs(300), command.output()).await;
    let output = output.expect("the program ends").unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
