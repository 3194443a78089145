//! What a run measured, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

use serde::Serialize;

use crate::args::Size;
use crate::process::Usage;

/// The figures of one run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The mode's name.
    pub mode: &'static str,
    /// Bytes in a batch.
    pub size: usize,
    /// Clients at a time.
    pub clients: usize,
    /// Operations that succeeded.
    pub ops: u64,
    /// Bytes of the batches of these.
    pub bytes: u64,
    /// Time under load.
    pub seconds: f64,
    /// How long operations took, as their client saw it.
    pub latency: Latencies,
    /// Operations that failed.
    pub errors: u64,
    /// Some of the reasons, with how often each was met.
    pub error_texts: BTreeMap<String, u64>,
    /// What each server process used.
    pub processes: Vec<ProcessUse>,
    /// False when a server was still busy long after the last answer: its figures are then too low.
    pub servers_rested: bool,
    /// Seed of the batches.
    pub seed: u64,
    /// Type of the file system of the servers' data.
    pub file_system: Option<String>,
}

/// Milliseconds within which that share of the operations was answered.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latencies {
    /// Half of them.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// All but one in a hundred.
    pub p99: f64,
    /// All.
    pub max: f64,
}

impl Latencies {
    /// From single durations in nanoseconds.
    pub fn of(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        let at = |share: f64| {
            // The smallest value that at least this share of all does not exceed.
            let rank = (nanoseconds.len() as f64 * share).ceil() as usize;
            nanoseconds.get(rank.saturating_sub(1)).map_or(0.0, |&n| n as f64 / 1e6)
        };
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) }
    }
}

/// What a server process used during a run.
#[derive(Debug, Clone, Serialize)]
pub struct ProcessUse {
    /// The name the caller gave it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// User and system time per operation, in milliseconds.
    pub cpu_ms_per_op: f64,
    /// The part in user mode.
    pub user_ms_per_op: f64,
    /// The most memory it had at a time, in bytes.
    pub peak_rss: u64,
    /// Memory after the run, in bytes.
    pub rss: u64,
    /// Bytes it wrote to disk.
    pub write_bytes: u64,
    /// Bytes it read from disk (what the page cache had not).
    pub read_bytes: u64,
    /// Bytes written per byte of a batch.
    pub written_per_byte: f64,
}

impl ProcessUse {
    pub(super) fn new(name: &str, pid: u32, usage: &Usage, ops: u64, bytes: u64) -> Self {
        let ops = ops.max(1) as f64;
        Self {
            name: name.to_owned(),
            pid,
            cpu_ms_per_op: usage.cpu().as_secs_f64() * 1e3 / ops,
            user_ms_per_op: usage.user.as_secs_f64() * 1e3 / ops,
            peak_rss: usage.peak_rss,
            rss: usage.rss,
            write_bytes: usage.write_bytes,
            read_bytes: usage.read_bytes,
            written_per_byte: usage.write_bytes as f64 / bytes.max(1) as f64,
        }
    }
}

impl Report {
    /// Operations in a second.
    pub fn ops_per_second(&self) -> f64 {
        self.ops as f64 / self.seconds.max(1e-9)
    }

    /// Megabytes (10^6) of batches in a second.
    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds.max(1e-9)
    }

    /// The figures with the derived ones, as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        let mut json = serde_json::to_value(self).unwrap_or_default();
        json["ops_per_s"] = self.ops_per_second().into();
        json["mb_per_s"] = self.megabytes_per_second().into();
        json
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, clients, ops, errors, latency, .. } = self;
        let clients_are = if *clients == 1 { "client" } else { "clients" };
        writeln!(
            f,
            "{mode}, batches of {}, {clients} {clients_are}, seed {}",
            Size(self.size as u64),
            self.seed
        )?;
        writeln!(
            f,
            "  {ops} operations in {:.1} s, {errors} errors: {:.1} ops/s, {:.1} MB/s",
            self.seconds,
            self.ops_per_second(),
            self.megabytes_per_second()
        )?;
        let Latencies { p50, p90, p99, max } = latency;
        writeln!(f, "  latency ms: p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  max {max:.2}")?;
        if !self.processes.is_empty() {
            writeln!(
                f,
                "  {:<14} {:>10} {:>10} {:>12} {:>14} {:>13}",
                "process", "CPU ms/op", "user ms/op", "peak RSS MB", "written/byte", "disk reads MB"
            )?;
        }
        for p in &self.processes {
            writeln!(
                f,
                "  {:<14} {:>10.3} {:>10.3} {:>12.1} {:>14.3} {:>13.1}",
                p.name,
                p.cpu_ms_per_op,
                p.user_ms_per_op,
                p.peak_rss as f64 / 1e6,
                p.written_per_byte,
                p.read_bytes as f64 / 1e6
            )?;
        }
        if let Some(file_system) = &self.file_system {
            writeln!(f, "  data on {file_system}")?;
        }
        if !self.servers_rested {
            writeln!(f, "  the servers had not come to rest: their figures are too low")?;
        }
        for (text, count) in &self.error_texts {
            writeln!(f, "  {count} x {text}")?;
        }
        Ok(())
    }
}

/// Type and mount point of the file system that holds a directory.
pub fn file_system_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (device, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        dir.starts_with(point).then_some((point.len(), device, point, kind))
    });
    // Of equal mount points the last one hides the others.
    match mounts.max_by_key(|(length, ..)| *length) {
        Some((_, device, point, kind)) => format!("{kind} ({device} at {point})"),
        None => "an unknown file system".to_owned(),
    }
}

/// Processor model, number of processors and kernel: what the figures belong to.
pub fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    let processors = std::thread::available_parallelism().map_or(0, |n| n.get());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {processors} processors, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_definition() {
        let latencies = Latencies::of((1..=100).rev().map(|ms| ms * 1_000_000).collect());
        assert_eq!((latencies.p50, latencies.p90, latencies.p99, latencies.max), (50.0, 90.0, 99.0, 100.0));
        let one = Latencies::of(vec![2_000_000]);
        assert_eq!((one.p50, one.max), (2.0, 2.0));
        assert_eq!(Latencies::of(Vec::new()).max, 0.0);
    }

    #[test]
    fn the_file_system_of_a_directory_is_that_of_the_nearest_mount() {
        assert!(
            file_system_of(Path::new("/proc/self")).starts_with("proc "),
            "{}",
            file_system_of(Path::new("/proc"))
        );
    }
}
