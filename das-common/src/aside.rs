//! Threads that give way: requests of strangers are worked on where they cannot hold up stores.
//!
//! The threads have a lower priority for the kernel (their *niceness* is higher), so they get what the rest of the
//! process, and of the machine, leaves. On a machine with nothing else to do they are as fast as any.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};
use tracing::warn;

/// The niceness that gives way to everything.
pub const MOST: u32 = 19;

/// Threads of their own with an executor. Dropped, they end with what they are doing.
#[derive(Debug)]
pub struct Aside(Option<Runtime>);

impl Aside {
    /// As many threads as there are processors, of this niceness (1 to [`MOST`]).
    ///
    /// # Errors
    /// The system has no threads left.
    pub fn start(niceness: u32) -> io::Result<Self> {
        let give_way = move || {
            let niceness = i32::try_from(niceness.min(MOST)).unwrap_or_default();
            // On Linux this is about the calling thread alone.
            if let Err(error) = rustix::process::setpriority_process(None, niceness) {
                warn!(%error, "a thread for reads does not give way to stores");
            }
        };
        let runtime = Builder::new_multi_thread()
            .enable_all()
            .thread_name("reads")
            .on_thread_start(give_way)
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where to spawn what may wait.
    pub fn handle(&self) -> Handle {
        self.0.as_ref().expect("there until dropped").handle().clone()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // Waiting for the threads would block the executor that drops this.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_its_threads_give_way_those_for_blocking_work_too() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let aside = Aside::start(7).unwrap();
        let seen =
            aside.handle().spawn(async move { (niceness(), tokio::task::spawn_blocking(niceness).await) });
        let (working, blocking) = seen.await.unwrap();
        let raised = before.max(7);
        assert_eq!((working, blocking.unwrap(), niceness()), (raised, raised, before));
    }
}
