//! What a process has cost the machine, from `/proc/<pid>`.

use std::path::Path;
use std::time::{Duration, Instant};

use super::ProcessError;

/// The unit of times in `/proc/<pid>/stat` (USER_HZ), part of Linux's interface to programs on every architecture this
/// runs on.
const TICK: Duration = Duration::from_millis(10);

/// What a process has used since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time in user mode, ended threads included. The kernel counts in nanoseconds and shows hundredths of a
    /// second.
    pub user: Duration,
    /// Processor time in the kernel, ended threads included.
    pub system: Duration,
    /// Memory in use now, in bytes (`VmRSS`).
    pub rss: u64,
    /// The most memory ever in use, in bytes (`VmHWM`).
    pub peak_rss: u64,
    /// Bytes sent to the block layer on behalf of this process. Dirty pages count when they are made dirty, so this
    /// includes what the page cache still holds.
    pub write_bytes: u64,
    /// Bytes fetched from the block layer: reads that the page cache could not answer.
    pub read_bytes: u64,
    /// Threads now.
    pub threads: u64,
}

impl Usage {
    /// Reads the figures of a process.
    pub fn of(pid: u32) -> Result<Self, ProcessError> {
        let stat = read(pid, "stat")?;
        let status = read(pid, "status")?;
        let io = read(pid, "io")?;
        // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
        let after_name = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
        let ticks = |index: usize, field: &'static str| -> Result<Duration, ProcessError> {
            let value = after_name.split_whitespace().nth(index).and_then(|v| v.parse::<u64>().ok());
            let value = value.ok_or(ProcessError::Proc { pid, file: "stat", field })?;
            Ok(Duration::from_nanos(value * TICK.as_nanos() as u64))
        };
        let kib = |field| labelled(&status, field).ok_or(ProcessError::Proc { pid, file: "status", field });
        let bytes = |field| labelled(&io, field).ok_or(ProcessError::Proc { pid, file: "io", field });
        Ok(Self {
            // Fields 14 and 15 of proc(5), counted here from the third.
            user: ticks(11, "utime")?,
            system: ticks(12, "stime")?,
            rss: kib("VmRSS")? * 1024,
            peak_rss: kib("VmHWM")? * 1024,
            write_bytes: bytes("write_bytes")?,
            read_bytes: bytes("read_bytes")?,
            threads: kib("Threads")?,
        })
    }

    /// User and system time together.
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

fn read(pid: u32, file: &'static str) -> Result<String, ProcessError> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).map_err(|e| ProcessError::io("read", Path::new(&path), e))
}

/// The number after `label:` at the start of a line.
fn labelled(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Measures what a process uses between two instants.
#[derive(Debug, Clone, Copy)]
pub struct UsageMeter {
    pid: u32,
    before: Usage,
}

impl UsageMeter {
    /// Begins to measure, and resets the process's peak memory where the kernel allows it, so that the peak belongs to
    /// what follows.
    pub fn start(pid: u32) -> Result<Self, ProcessError> {
        // "5" resets the peak (proc(5), clear_refs). Without the permission the peak is that of the whole life.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        Ok(Self { pid, before: Usage::of(pid)? })
    }

    /// What was used since the start; the memory figures are those of now.
    pub fn read(&self) -> Result<Usage, ProcessError> {
        let now = Usage::of(self.pid)?;
        Ok(Usage {
            user: now.user.saturating_sub(self.before.user),
            system: now.system.saturating_sub(self.before.system),
            write_bytes: now.write_bytes.saturating_sub(self.before.write_bytes),
            read_bytes: now.read_bytes.saturating_sub(self.before.read_bytes),
            ..now
        })
    }
}

/// Waits until none of the processes has written anything or used noticeable processor time for `still`, so that
/// flushes and compactions are counted; gives up after `at_most` and returns false.
pub fn wait_until_idle(pids: &[u32], still: Duration, at_most: Duration) -> Result<bool, ProcessError> {
    // Timers and metrics upkeep may go on for ever: this much of one core is idle.
    const IDLE_SHARE: f64 = 0.01;
    const STEP: Duration = Duration::from_millis(250);
    let deadline = Instant::now() + at_most;
    let read_all = || pids.iter().map(|&pid| Usage::of(pid)).collect::<Result<Vec<_>, _>>();
    let mut reference = read_all()?;
    let mut since = Instant::now();
    loop {
        std::thread::sleep(STEP);
        let now = read_all()?;
        let allowed = since.elapsed().mul_f64(IDLE_SHARE) + TICK;
        let quiet = reference
            .iter()
            .zip(&now)
            .all(|(a, b)| a.write_bytes == b.write_bytes && b.cpu().saturating_sub(a.cpu()) <= allowed);
        if !quiet {
            (reference, since) = (now, Instant::now());
        } else if since.elapsed() >= still {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
    }
}
