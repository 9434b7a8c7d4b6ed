//! What a run costs: CPU and memory of the contender's process tree, flushes of the disk, and what others did.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Clock ticks a second in /proc: USER_HZ, 100 on every Linux that we meet.
const TICKS: f64 = 100.0;

/// The shortest time between two looks at memory.
const SAMPLE: Duration = Duration::from_millis(500);

/// Cores below which a contender counts as quiet: timers and polls, no mail.
const CALM: f64 = 0.15;

/// What a run cost.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Usage {
    /// Length of the run.
    pub(crate) seconds: f64,
    /// Seconds of CPU that the contender used, user and system.
    pub(crate) cpu: f64,
    /// Seconds that loader and sink used.
    pub(crate) bench_cpu: f64,
    /// Cores that everything else used, on average.
    pub(crate) other_cpu: f64,
    /// Octets at the worst moment: the sum of proportional set sizes.
    pub(crate) peak_memory: u64,
    /// Processes at the worst moment.
    pub(crate) processes: u64,
    /// Flushes of the disk below the queue, whoever asked for them; `None` when the kernel does not count them.
    pub(crate) flushes: Option<u64>,
}

/// A running measurement.
pub(crate) struct Meter {
    start: Instant,
    root: u32,
    tree: f64,
    own: f64,
    busy: f64,
    disk: Option<PathBuf>,
    flushes: Option<u64>,
    peaks: Arc<Peaks>,
    sampler: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Peaks {
    end: AtomicBool,
    memory: AtomicU64,
    processes: AtomicU64,
}

impl Meter {
    /// Begins to watch the process `root` and all that descend from it; `dir` lies on the disk to watch.
    pub(crate) fn start(root: u32, dir: &Path) -> Self {
        let peaks = Arc::new(Peaks::default());
        let shared = Arc::clone(&peaks);
        let sampler = std::thread::spawn(move || {
            while !shared.end.load(Ordering::Relaxed) {
                let began = Instant::now();
                let (memory, processes) = memory(root);
                shared.memory.fetch_max(memory, Ordering::Relaxed);
                shared.processes.fetch_max(processes, Ordering::Relaxed);
                // Looking at two hundred processes is work too: at most one part in fifty.
                let rest = SAMPLE.max(began.elapsed() * 50);
                std::thread::park_timeout(rest);
            }
        });
        let disk = disk(dir);
        Self {
            start: Instant::now(),
            root,
            tree: tree_cpu(root),
            own: own_cpu(),
            busy: busy(),
            flushes: flushes(disk.as_deref()),
            disk,
            peaks,
            sampler: Some(sampler),
        }
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Usage {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = tree_cpu(self.root) - self.tree;
        let bench_cpu = own_cpu() - self.own;
        let other = busy() - self.busy - cpu - bench_cpu;
        let flushed =
            flushes(self.disk.as_deref()).zip(self.flushes).map(|(now, then)| now.saturating_sub(then));
        self.peaks.end.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            sampler.thread().unpark();
            // A sampler that failed has left its peaks where they are.
            let _ = sampler.join();
        }
        let (memory, processes) = memory(self.root);
        Usage {
            seconds,
            cpu,
            bench_cpu,
            other_cpu: (other / seconds).max(0.0),
            peak_memory: self.peaks.memory.load(Ordering::Relaxed).max(memory),
            processes: self.peaks.processes.load(Ordering::Relaxed).max(processes),
            flushes: flushed,
        }
    }
}

/// Waits until the tree uses next to no CPU; `false` when it still does after `patience`.
pub(crate) async fn quiet(root: u32, patience: Duration) -> bool {
    let end = Instant::now() + patience;
    let mut calm = 0;
    while calm < 2 {
        let before = tree_cpu(root);
        tokio::time::sleep(SAMPLE).await;
        calm = if tree_cpu(root) - before < CALM * SAMPLE.as_secs_f64() { calm + 1 } else { 0 };
        if Instant::now() > end {
            return false;
        }
    }
    true
}

/// Octets (PSS) and processes of the tree now.
pub(crate) fn memory(root: u32) -> (u64, u64) {
    let tree = tree(root);
    let sum = tree.iter().filter_map(|p| {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", p.pid)).ok()?;
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
    });
    (sum.sum::<u64>() * 1024, tree.len() as u64)
}

struct Process {
    pid: u32,
    parent: u32,
    /// Own time and that of children that have ended.
    cpu: f64,
}

fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything; state and parent follow it.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11..15)?.iter().filter_map(|f| f.parse::<f64>().ok()).sum();
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, cpu: ticks / TICKS })
}

/// `root` and all that descend from it.
fn tree(root: u32) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    let all: HashMap<u32, Process> = pids.filter_map(process).map(|p| (p.pid, p)).collect();
    let descends = |pid: u32| {
        let mut at = pid;
        // As deep as any tree of daemons; a bound, because the parents were not read at one moment.
        for _ in 0..16 {
            if at == root {
                return true;
            }
            let Some(process) = all.get(&at) else { return false };
            at = process.parent;
        }
        false
    };
    let members: Vec<u32> = all.keys().copied().filter(|p| descends(*p)).collect();
    let mut all = all;
    members.into_iter().filter_map(|p| all.remove(&p)).collect()
}

fn tree_cpu(root: u32) -> f64 {
    tree(root).iter().map(|p| p.cpu).sum()
}

fn own_cpu() -> f64 {
    process(std::process::id()).map_or(0.0, |p| p.cpu)
}

/// Seconds of CPU that the whole machine has worked: user, nice, system, irq, softirq.
fn busy() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<f64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|f| f.parse().ok())
        .collect();
    [0, 1, 2, 5, 6].iter().filter_map(|n| fields.get(*n)).sum::<f64>() / TICKS
}

/// The statistics of the whole disk that holds `dir`.
fn disk(dir: &Path) -> Option<PathBuf> {
    let device = fs::metadata(dir).ok()?.dev();
    // Major and minor numbers as the C library packs them.
    let major = ((device >> 32) & 0xffff_f000) | ((device >> 8) & 0xfff);
    let minor = ((device >> 12) & 0xffff_ff00) | (device & 0xff);
    let node = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let whole = if node.join("partition").exists() { node.parent()?.to_owned() } else { node };
    Some(whole.join("stat"))
}

/// Completed flush requests: the 16th figure.
fn flushes(disk: Option<&Path>) -> Option<u64> {
    fs::read_to_string(disk?).ok()?.split_whitespace().nth(15)?.parse().ok()
}
