//! When to end.

use tokio::signal::unix::{SignalKind, signal};

/// Waits until the process is asked to end, and names the signal.
pub async fn requested() -> &'static str {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        },
        // Without handlers the signals end the process at once, which loses nothing that was signed.
        _ => std::future::pending().await,
    }
}
