//! `das-node`: one member of a data availability committee, or a mirror.

use std::process::ExitCode;

use das_common::config::load_or_exit;
use das_common::fault::Coded;
use das_common::shutdown::ShutdownSignals;
use das_common::telemetry::{init_logging, init_metrics};
use das_node::node::Node;
use das_node::options::NodeOptions;
use tracing::{error, info, warn};

/// Keeps freed pages for a moment: batches are large, and asking the kernel for each anew costs more than hashing.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let loaded = load_or_exit::<NodeOptions>();
    let options = loaded.options;
    if let Err(error) = init_logging(options.log_level, options.log_type, &options.log_filter) {
        return failed(&format!("das-node: {error}"));
    }
    for notice in loaded.notices {
        warn!("{notice}");
    }
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(&options)),
        Err(error) => failed(&format!("das-node: cannot start threads: {error}")),
    }
}

async fn run(options: &NodeOptions) -> ExitCode {
    let mut signals = match ShutdownSignals::catch() {
        Ok(signals) => signals,
        Err(error) => return failed(&format!("das-node: cannot wait for signals: {error}")),
    };
    let node = match Node::start(options, init_metrics()).await {
        Ok(node) => node,
        Err(error) => {
            let fault = error.fault();
            error!(code = fault.code, cure = fault.cure, "{error}");
            return failed(&format!("das-node: {}: {error}\n  to do: {}", fault.code, fault.cure));
        }
    };
    announce(&node.bound().to_string());
    let signal = signals.requested().await;
    info!(signal, "shutting down: requests in flight finish first");
    node.shut_down().await;
    info!("ended in order");
    ExitCode::SUCCESS
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
fn failed(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
