//! A server process from its arguments to its exit code.
//!
//! [`run`] is called from the libraries of the servers, not from their executables: what is generic here is compiled
//! where it is called, and a server is large.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Program, load_or_exit};
use crate::fault::Coded;
use crate::telemetry::{LogFormat, LogLevel, MetricsHandle, init_logging, init_metrics};
use crate::traces::{TraceSettings, Traces};

/// Where a listener is reached; prints as its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The address.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }
}

/// A program that serves until it is asked to stop.
pub trait Server: Sized {
    /// Its options.
    type Options: Program;
    /// Why it could not start.
    type StartError: Coded;

    /// What to log, in which form, and the filter that overrides the level.
    fn logging(options: &Self::Options) -> (LogLevel, LogFormat, &str);

    /// What traces are made with; none by a server that makes none.
    fn traces(_options: &Self::Options) -> Option<TraceSettings<'_>> {
        None
    }

    /// Opens what it needs. When this returns, requests are served.
    fn start(
        options: &Self::Options,
        metrics: MetricsHandle,
    ) -> impl Future<Output = Result<Self, Self::StartError>> + Send;

    /// Where it listens, for the line on standard output that tells a supervisor or a script.
    fn bound(&self) -> impl fmt::Display;

    /// Lets requests in flight finish, and closes what is open.
    fn shut_down(self) -> impl Future<Output = ()> + Send;
}

/// Reads the options, serves until SIGTERM or SIGINT, and says how it went.
pub fn run<S: Server>() -> ExitCode {
    let loaded = load_or_exit::<S::Options>();
    let options = loaded.options;
    let (level, format, filter) = S::logging(&options);
    // Before anything is counted.
    let metrics = init_metrics();
    let traces = match S::traces(&options).map(|settings| Traces::open(&settings)).transpose() {
        Ok(traces) => traces.flatten(),
        Err(error) => {
            let fault = error.fault();
            return failed::<S>(&format!("{}: {error}\n  to do: {}", fault.code, fault.cure));
        }
    };
    if let Err(error) = init_logging(level, format, filter, traces.as_ref()) {
        return failed::<S>(&error.to_string());
    }
    for notice in loaded.notices {
        warn!("{notice}");
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(serve::<S>(&options, metrics, traces)),
        Err(error) => failed::<S>(&format!("cannot start threads: {error}")),
    }
}

async fn serve<S: Server>(options: &S::Options, metrics: MetricsHandle, traces: Option<Traces>) -> ExitCode {
    let mut signals = match ShutdownSignals::catch() {
        Ok(signals) => signals,
        Err(error) => return failed::<S>(&format!("cannot wait for signals: {error}")),
    };
    let ended = CancellationToken::new();
    let sending = traces.map(|traces| tokio::spawn(traces.into_worker().run(ended.clone())));
    let server = match S::start(options, metrics).await {
        Ok(server) => server,
        Err(error) => {
            let fault = error.fault();
            error!(code = fault.code, cure = fault.cure, "{error}");
            return failed::<S>(&format!("{}: {error}\n  to do: {}", fault.code, fault.cure));
        }
    };
    announce(&server.bound().to_string());
    let signal = signals.requested().await;
    info!(signal, "shutting down: requests in flight finish first");
    server.shut_down().await;
    ended.cancel();
    if let Some(sending) = sending
        && sending.await.is_err()
    {
        warn!("the last traces were not sent");
    }
    info!("ended in order");
    ExitCode::SUCCESS
}

/// The signals that ask a process to end.
struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl ShutdownSignals {
    /// Takes the signals over from the kernel, which would end the process at once. To be called before anybody is told
    /// that the server is ready: who starts it may end it in the next instant.
    fn catch() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits until the process is asked to end, and names the signal.
    async fn requested(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the one line that tells a supervisor or a script where the server listens"
)]
fn announce(line: &str) {
    println!("{line}");
}

#[expect(
    clippy::print_stderr,
    reason = "whoever starts the program by hand sees the reason without looking at logs"
)]
fn failed<S: Server>(text: &str) -> ExitCode {
    eprintln!("{}: {text}", S::Options::NAME);
    ExitCode::FAILURE
}
