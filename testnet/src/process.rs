//! Server programs as child processes: start one, learn its addresses, measure it, end it politely or not.
//!
//! What this module guarantees to a test or to the launcher:
//! - [`Launch::start`] returns only when the program printed its ready line, or says why it did not, with the last
//!   lines of its output in the error.
//! - No child outlives its owner: dropping a [`ServerProcess`] kills it, and if the owner itself is killed the kernel
//!   kills the child (parent-death signal).
//! - Every process is ended by its own id. Ids are not reused while the handle lives, because the child is only
//!   reaped through the handle.
//!
//! ```no_run
//! use das_testnet::process::Launch;
//! let mut node = Launch::new("das-node").args(["--enable-rpc", "--rpc-port=0"]).start()?;
//! println!("serves {}", node.ready().url("rpc")?);
//! node.stop()?;
//! # Ok::<(), das_testnet::process::ProcessError>(())
//! ```

mod ready;
mod spawner;
mod usage;

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub use ready::ReadyLine;
pub use usage::{Usage, UsageMeter, wait_until_idle};

/// How long a server may take to print its ready line unless the caller says otherwise.
pub const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to finish its work after SIGTERM unless the caller says otherwise.
pub const STOP_WITHIN: Duration = Duration::from_secs(30);

/// How much of the end of a failed server's output goes into the error.
const OUTPUT_TAIL: u64 = 8 * 1024;

/// Why a process could not be started, measured or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The program is not where it is looked for.
    #[error("no program {name} in {}: run scripts/test (or cargo build --release --workspace)", looked_in.display())]
    NoProgram {
        /// The program's file name.
        name: String,
        /// The directory that was searched.
        looked_in: PathBuf,
    },
    /// The operating system refused something.
    #[error("{action} {}: {source}", subject.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// The file or program it was done to.
        subject: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The program ended before it was ready.
    #[error("{name} ended with {status} before it was ready; its last output:\n{output}")]
    EndedEarly {
        /// The program's file name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// The program printed no ready line in time.
    #[error("{name} was not ready after {waited:?}; its last output:\n{output}")]
    NotReady {
        /// The program's file name.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// The end of what it printed.
        output: String,
    },
    /// The ready line names no such listener, so it is not enabled.
    #[error("{name} printed no {listener} address in its ready line: {line}")]
    NoListener {
        /// The program's file name.
        name: String,
        /// The listener asked for: `rpc`, `rest`, `metrics`.
        listener: String,
        /// The ready line.
        line: String,
    },
    /// The program did not end by itself and was killed.
    #[error("{name} still ran {waited:?} after SIGTERM and was killed; its last output:\n{output}")]
    WouldNotStop {
        /// The program's file name.
        name: String,
        /// How long was waited.
        waited: Duration,
        /// The end of what it printed.
        output: String,
    },
    /// The program stopped when asked but reported a failure.
    #[error("{name} ended with {status} after SIGTERM; its last output:\n{output}")]
    StoppedBadly {
        /// The program's file name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// A file below `/proc` did not have the expected form.
    #[error("cannot read {field} of process {pid} from {file}")]
    Proc {
        /// The process.
        pid: u32,
        /// The file's name below `/proc/<pid>/`.
        file: &'static str,
        /// What was looked for in it.
        field: &'static str,
    },
}

impl ProcessError {
    pub(crate) fn io(action: &'static str, subject: &Path, source: std::io::Error) -> Self {
        Self::Io { action, subject: subject.to_owned(), source }
    }
}

/// Where the workspace's programs are: `DAS_BIN_DIR`, or the directory of the running program or, for a test
/// executable (which cargo puts into `deps`), the one above it.
pub fn bin_dir() -> PathBuf {
    if let Some(dir) = std::env::var_os("DAS_BIN_DIR") {
        return dir.into();
    }
    let exe = std::env::current_exe().unwrap_or_default();
    let dir = exe.parent().unwrap_or(Path::new("."));
    if dir.ends_with("deps") || dir.ends_with("examples") {
        dir.parent().unwrap_or(dir).to_owned()
    } else {
        dir.to_owned()
    }
}

/// The path of one of the workspace's programs; an error that says how to build it when it is not there.
pub fn binary(name: &str) -> Result<PathBuf, ProcessError> {
    let dir = bin_dir();
    let path = dir.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        Err(ProcessError::NoProgram { name: name.to_owned(), looked_in: dir })
    }
}

/// How to start one server process.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    program: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    log: Option<PathBuf>,
    ready_within: Duration,
    own_group: bool,
}

impl Launch {
    /// Starts the program of that name from [`bin_dir`].
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            program: None,
            args: Vec::new(),
            env: Vec::new(),
            log: None,
            ready_within: READY_WITHIN,
            own_group: false,
        }
    }

    /// Starts this file instead of looking for the name in [`bin_dir`].
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Appends everything the program prints to this file. Without it the output goes to an unnamed temporary file
    /// and can still be read with [`ServerProcess::output`].
    pub fn log(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// Waits that long for the ready line.
    pub fn ready_within(mut self, limit: Duration) -> Self {
        self.ready_within = limit;
        self
    }

    /// Puts the process into a process group of its own, so that Ctrl-C at the terminal reaches only the owner.
    pub fn own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Starts the program and waits for its ready line (`<name> ready: rpc=http://... rest=http://...`).
    pub fn start(&self) -> Result<ServerProcess, ProcessError> {
        let mut process = self.begin()?;
        process.await_ready(self.ready_within)?;
        Ok(process)
    }

    /// Runs the program to its end, for start-ups that must fail: its exit status and all it printed.
    pub fn run_to_end(&self, within: Duration) -> Result<(ExitStatus, String), ProcessError> {
        let mut process = self.begin()?;
        match process.wait_for_exit(within)? {
            Some(status) => Ok((status, process.output())),
            None => {
                let output = process.output_tail();
                process.kill()?;
                Err(ProcessError::WouldNotStop { name: self.name.clone(), waited: within, output })
            }
        }
    }

    /// Starts the program and does not wait: for tests that end it before it is ready.
    pub fn begin(&self) -> Result<ServerProcess, ProcessError> {
        let program = match &self.program {
            Some(path) => path.clone(),
            None => binary(&self.name)?,
        };
        let log = self.open_log()?;
        let clone_log = || log.try_clone().map_err(|e| ProcessError::io("open the log of", &program, e));
        let output_start = log.metadata().map(|m| m.len()).unwrap_or(0);
        let mut command = Command::new(&program);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(clone_log()?);
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        let mut child =
            spawner::spawn(command, self.own_group).map_err(|e| ProcessError::io("start", &program, e))?;
        let stdout = child.stdout.take().expect("stdout was asked for as a pipe");
        let ready = copy_output(stdout, clone_log()?, &self.name);
        Ok(ServerProcess {
            name: self.name.clone(),
            child,
            exit: None,
            awaited_ready: Some(ready),
            ready: ReadyLine::none(&self.name),
            log,
            output_start,
        })
    }

    fn open_log(&self) -> Result<File, ProcessError> {
        let Some(path) = &self.log else {
            return tempfile::tempfile()
                .map_err(|e| ProcessError::io("make", Path::new("a temporary log file"), e));
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(|e| ProcessError::io("make the directory", dir, e))?;
        }
        let open = OpenOptions::new().create(true).append(true).read(true).open(path);
        open.map_err(|e| ProcessError::io("open the log", path, e))
    }
}

/// Copies a program's standard output into its log for as long as it runs and hands out its ready line.
fn copy_output(stdout: ChildStdout, mut log: File, name: &str) -> mpsc::Receiver<ReadyLine> {
    let (found, ready) = mpsc::channel();
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        // Lossy and by line: a server may print anything, only the ready line has a form.
        while matches!(lines.read_until(b'\n', &mut line), Ok(n) if n > 0) {
            // A log that cannot be written must not stop the server by filling its pipe.
            let _ = log.write_all(&line);
            if let Some(ready) = ReadyLine::parse(&name, &String::from_utf8_lossy(&line)) {
                let _ = found.send(ready);
            }
            line.clear();
        }
    });
    ready
}

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct ServerProcess {
    name: String,
    child: Child,
    exit: Option<ExitStatus>,
    awaited_ready: Option<mpsc::Receiver<ReadyLine>>,
    ready: ReadyLine,
    log: File,
    output_start: u64,
}

impl ServerProcess {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The program's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The addresses that the server printed when it was ready.
    pub fn ready(&self) -> &ReadyLine {
        &self.ready
    }

    /// URL of its JSON-RPC listener.
    ///
    /// # Panics
    /// When it has none: a test that asks for it configured the server wrongly.
    pub fn rpc_url(&self) -> String {
        self.ready.url("rpc").expect("the server was started with a JSON-RPC listener").to_owned()
    }

    /// URL of its REST listener.
    ///
    /// # Panics
    /// When it has none: a test that asks for it configured the server wrongly.
    pub fn rest_url(&self) -> String {
        self.ready.url("rest").expect("the server was started with a REST listener").to_owned()
    }

    /// Everything this process printed so far (standard output and error).
    pub fn output(&self) -> String {
        self.read_output(0)
    }

    fn output_tail(&self) -> String {
        self.read_output(OUTPUT_TAIL)
    }

    fn read_output(&self, at_most: u64) -> String {
        let end = self.log.metadata().map(|m| m.len()).unwrap_or(0);
        let tail = if at_most == 0 { 0 } else { end.saturating_sub(at_most) };
        let start = tail.max(self.output_start);
        let mut bytes = vec![0; end.saturating_sub(start) as usize];
        // At an offset, without seeking: the descriptor's position is shared with the writers.
        if self.log.read_exact_at(&mut bytes, start).is_err() {
            bytes.clear();
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn await_ready(&mut self, within: Duration) -> Result<(), ProcessError> {
        let Some(awaited) = self.awaited_ready.take() else { return Ok(()) };
        match awaited.recv_timeout(within) {
            Ok(ready) => {
                self.ready = ready;
                Ok(())
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let output = self.output_tail();
                self.kill()?;
                Err(ProcessError::NotReady { name: self.name.clone(), waited: within, output })
            }
            // Its standard output was closed: it ended, or is about to.
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = match self.wait_for_exit(STOP_WITHIN)? {
                    Some(status) => status,
                    None => self.kill()?,
                };
                Err(ProcessError::EndedEarly { name: self.name.clone(), status, output: self.output_tail() })
            }
        }
    }

    /// Has the process ended, and how?
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        if self.exit.is_none() {
            let name = Path::new(&self.name);
            self.exit = self.child.try_wait().map_err(|e| ProcessError::io("wait for", name, e))?;
        }
        Ok(self.exit)
    }

    /// Waits for the process to end by itself; `None` if it still runs after that time.
    pub fn wait_for_exit(&mut self, within: Duration) -> Result<Option<ExitStatus>, ProcessError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.exit_status()? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal to the process; nothing happens if it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).map_err(|e| ProcessError::io("signal", Path::new(&self.name), e.into()))
    }

    /// Kills it at once (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::KILL)?;
        if let Some(status) = self.exit {
            return Ok(status);
        }
        let status = self.child.wait().map_err(|e| ProcessError::io("wait for", Path::new(&self.name), e))?;
        self.exit = Some(status);
        Ok(status)
    }

    /// Stops its threads where they are (SIGSTOP): a server that hangs without closing its connections.
    pub fn pause(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::STOP)
    }

    /// Lets a paused server go on.
    pub fn resume(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::CONT)
    }

    /// Asks it to end (SIGTERM) and waits; an error if it has to be killed or reports a failure.
    pub fn stop(&mut self) -> Result<(), ProcessError> {
        self.stop_within(STOP_WITHIN)
    }

    /// The same with another limit.
    pub fn stop_within(&mut self, limit: Duration) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)?;
        let Some(status) = self.wait_for_exit(limit)? else {
            let output = self.output_tail();
            self.kill()?;
            return Err(ProcessError::WouldNotStop { name: self.name.clone(), waited: limit, output });
        };
        if status.success() {
            Ok(())
        } else {
            Err(ProcessError::StoppedBadly { name: self.name.clone(), status, output: self.output_tail() })
        }
    }

    /// What the process has used so far.
    pub fn usage(&self) -> Result<Usage, ProcessError> {
        Usage::of(self.id())
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // The process may be gone; there is nobody left to tell.
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests;
