//! What the process itself uses.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

use super::metering::MetricsHandle;
use super::names;

/// Memory, files, threads, CPU time and written bytes of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessUse {
    /// Resident memory in bytes.
    pub memory: u64,
    /// Files open.
    pub files: u64,
    /// Threads.
    pub threads: u64,
    /// CPU time, of user and system together.
    pub cpu: Duration,
    /// Bytes read from disks.
    pub read: u64,
    /// Bytes handed to disks.
    pub written: u64,
}

/// What the process reads and writes. Opened once: a process that keeps others out of its memory cannot open it later,
/// but goes on reading it.
static IO: OnceLock<Option<File>> = OnceLock::new();

/// Opens what can no longer be opened by a process that keeps others out of its memory.
pub(crate) fn open_process_files() {
    IO.get_or_init(|| File::open("/proc/self/io").ok());
}

fn io_text() -> String {
    open_process_files();
    let mut text = [0; 1024];
    let read = IO.get().and_then(Option::as_ref).and_then(|file| file.read_at(&mut text, 0).ok());
    String::from_utf8_lossy(&text[..read.unwrap_or(0)]).into_owned()
}

/// What this process uses now. Zero where the system does not tell.
pub fn process_use() -> ProcessUse {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let io = io_text();
    let number = |key: &str| {
        let line = status.lines().chain(io.lines()).find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let time = clock_gettime(ClockId::ProcessCPUTime);
    ProcessUse {
        memory: number("VmRSS:").unwrap_or(0) * 1024,
        files: std::fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
        threads: number("Threads:").unwrap_or(0),
        cpu: Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0)),
        read: number("read_bytes:").unwrap_or(0),
        written: number("write_bytes:").unwrap_or(0),
    }
}

/// Publishes what the process uses every `interval`, and keeps the metrics' memory bounded, until `shutdown`. To be run
/// whether or not metrics are served: what is measured piles up otherwise.
pub async fn watch_process(
    handle: MetricsHandle,
    program: &'static str,
    version: &'static str,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    metrics::gauge!(names::PROCESS_START).set(now.as_secs_f64());
    metrics::gauge!(names::BUILD_INFO, "program" => program, "version" => version).set(1.0);
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let used = process_use();
        metrics::gauge!(names::PROCESS_MEMORY).set(used.memory as f64);
        metrics::gauge!(names::PROCESS_FILES).set(used.files as f64);
        metrics::gauge!(names::PROCESS_THREADS).set(used.threads as f64);
        metrics::counter!(names::PROCESS_READ).absolute(used.read);
        metrics::counter!(names::PROCESS_WRITTEN).absolute(used.written);
        metrics::gauge!(names::PROCESS_CPU).set(used.cpu.as_secs_f64());
        handle.upkeep();
    }
}
