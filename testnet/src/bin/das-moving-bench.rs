//! Measures moving in from a generated directory of Nitro's server and moving out again, with a kill on the way, and backups.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use das_testnet::args::{Args, Size};
use das_testnet::load::bodies::unix_now;
use das_testnet::nitro::{Generated, generate};
use das_testnet::process::binary;
use serde_json::Value;

const HELP: &str = "\
das-moving-bench: dastool import, export, backup and restore of a generated directory of Nitro's server

  --bytes SIZE   of the directory (default 10GB); the disk must have room for it three times
  --least SIZE   of a batch (default 50KB)
  --most SIZE    of a batch (default 500KB)
  --dir DIR      where all is kept meanwhile: a real file system, not tmpfs (default: the temporary directory)
  --seed N       of the batches (default random, printed)

The import is killed half way (SIGKILL) and run again. What is exported is compared with what was generated, file by file.
Before each step the files that it reads are dropped from memory where the system lets us.
";

/// Processes are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    match run(Args::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "das-moving-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn run(mut args: Args) -> anyhow::Result<()> {
    if args.switch("help") {
        say(HELP);
        return Ok(());
    }
    let bytes = args.value_or("bytes", Size(10_000_000_000))?.0;
    let least = usize::try_from(args.value_or("least", Size(50_000))?.0)?;
    let most = usize::try_from(args.value_or("most", Size(500_000))?.0)?;
    let parent = args.value_or("dir", std::env::temp_dir())?;
    let seed = args.value_or("seed", rand::random())?;
    args.finish()?;
    ensure!(least <= most && most <= 64 << 20, "--least to --most, at most 64MiB");
    std::fs::create_dir_all(&parent)?;
    let dir = tempfile::Builder::new().prefix("das-moving-").tempdir_in(&parent)?;
    let at = |part: &str| dir.path().join(part);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    say(&format!(
        "{} in batches of {} to {}; {cores} cores; seed {seed}",
        Size(bytes),
        Size(least as u64),
        Size(most as u64)
    ));

    let begun = Instant::now();
    let made = generate(&at("nitro"), seed, bytes, least..=most, unix_now())?;
    let bytes: u64 = made.iter().map(|batch| batch.length).sum();
    say(&format!("{} batches generated in {:.0} s", made.len(), begun.elapsed().as_secs_f64()));
    std::fs::create_dir(at("das"))?;
    let bench = Bench { bytes, batches: made.len() as u64, dir: dir.path().to_owned() };
    say("");
    say(&format!("{:<34}{:>9}{:>10}{:>13}{:>13}", "step", "time s", "MB/s", "dastool MB", "das-node MB"));
    bench.import()?;
    std::fs::remove_dir_all(at("nitro"))?;
    bench.step("backup", &["backup", "--data-dir", "@das", "--to", "@backup"])?;
    let base = ["backup", "--data-dir", "@das", "--to", "@backup-2", "--base", "@backup"];
    bench.step("backup on an earlier one", &base)?;
    std::fs::remove_dir_all(at("backup-2"))?;
    bench.step("check of a backup", &["restore", "--from", "@backup", "--verify-only"])?;
    bench.step("restore", &["restore", "--from", "@backup", "--data-dir", "@restored"])?;
    for folder in ["backup", "restored"] {
        std::fs::remove_dir_all(at(folder))?;
    }
    bench.step("export", &["export", "--data-dir", "@das", "--to", "@out"])?;
    bench.step("export, nothing to do", &["export", "--data-dir", "@das", "--to", "@out"])?;
    compare(&made, &at("out"))?;
    say("\nwhat was exported is what was generated, byte for byte, with the same links");
    Ok(())
}

struct Bench {
    bytes: u64,
    batches: u64,
    dir: PathBuf,
}

/// What a run took, and at most held of memory.
struct Took {
    status: ExitStatus,
    time: Duration,
    tool: u64,
    node: u64,
    said: Value,
}

impl Bench {
    /// Imports half, is killed, imports the rest; then has nothing to do.
    fn import(&self) -> anyhow::Result<()> {
        let args = ["import", "--from", "@nitro", "--data-dir", "@das"];
        self.forget("nitro");
        let segments = self.dir.join("das/segments");
        let killed = self.watch(&args, || size_of(&segments) * 2 >= self.bytes)?;
        ensure!(killed.status.code().is_none(), "the import was to be killed half way: {}", killed.said);
        self.row("import until SIGKILL half way", &killed, self.bytes / 2);
        self.forget("nitro");
        let rest = self.watch(&args, || false)?;
        let number = |name: &str| rest.said[name].as_u64().unwrap_or(0);
        ensure!(rest.status.success(), "the import failed: {}", rest.said);
        ensure!(number("imported") + number("present") == self.batches, "batches are missing: {}", rest.said);
        self.row("import, resumed", &rest, number("importedBytes"));
        let text = format!("{} batches were there, {} came", number("present"), number("imported"));
        say(&format!("  {text}; the whole import {:.1} s", (killed.time + rest.time).as_secs_f64()));
        self.step("import, nothing to do", &args)
    }

    fn step(&self, name: &str, args: &[&str]) -> anyhow::Result<()> {
        self.forget("das");
        let took = self.watch(args, || false)?;
        ensure!(took.status.success(), "{name} failed: {}", took.said);
        self.row(name, &took, self.bytes);
        Ok(())
    }

    fn row(&self, name: &str, took: &Took, bytes: u64) {
        let seconds = took.time.as_secs_f64();
        say(&format!(
            "{name:<34}{seconds:>9.1}{:>10.0}{:>13.0}{:>13.0}",
            bytes as f64 / 1e6 / seconds,
            took.tool as f64 / 1e6,
            took.node as f64 / 1e6
        ));
    }

    /// Runs a command, with `@name` for a folder, and kills it as soon as `enough`.
    fn watch(&self, args: &[&str], enough: impl Fn() -> bool) -> anyhow::Result<Took> {
        let args = args.iter().map(|arg| match arg.strip_prefix('@') {
            Some(folder) => self.dir.join(folder).into_os_string(),
            None => OsString::from(arg),
        });
        let answer = tempfile::tempfile()?;
        let begun = Instant::now();
        let mut child = Command::new(binary("dastool")?)
            .args(args)
            .args(["--json", "--progress=false"])
            .stdin(Stdio::null())
            .stdout(answer.try_clone()?)
            .spawn()?;
        let (mut tool, mut node) = (0, 0);
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            tool = peak(child.id()).max(tool);
            node = child_of(&child).map_or(0, peak).max(node);
            if enough() {
                child.kill()?;
                break child.wait()?;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        let time = begun.elapsed();
        let said = std::io::read_to_string(rewound(answer)?)?;
        let said = serde_json::from_str(&said).unwrap_or(Value::Null);
        Ok(Took { status, time, tool, node, said })
    }

    /// Has the files of a folder read from the disk next time.
    fn forget(&self, folder: &str) {
        let mut folders = vec![self.dir.join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                } else if let Ok(file) = std::fs::File::open(entry.path()) {
                    // What was not written yet cannot be dropped.
                    let _ = file.sync_data();
                    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
                }
            }
        }
    }
}

fn rewound(mut file: std::fs::File) -> std::io::Result<std::fs::File> {
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Bytes on the disk of the files in a folder.
fn size_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum()
}

/// The most memory that a process had so far.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// The process that it started.
fn child_of(child: &Child) -> Option<u32> {
    let id = child.id();
    for task in std::fs::read_dir(format!("/proc/{id}/task")).ok()?.flatten() {
        let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        if let Some(first) = children.split_whitespace().next() {
            return first.parse().ok();
        }
    }
    None
}

fn compare(made: &[Generated], out: &Path) -> anyhow::Result<()> {
    use das_common::nitro_layout::{by_expiry, by_hash};
    use std::os::unix::fs::MetadataExt;
    for batch in made {
        let (path, link) = (out.join(by_hash(&batch.hash)), out.join(by_expiry(&batch.hash, batch.expiry)));
        let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
        if content != batch.bytes() || std::fs::metadata(&link)?.ino() != std::fs::metadata(&path)?.ino() {
            bail!("{} is not what was generated", path.display());
        }
    }
    Ok(())
}
