//! The one thread that starts all children.
//!
//! The kernel sends the parent-death signal when the *thread* that made the child ends, not when the process does. Test
//! threads end long before the servers they share, so every child is made by a thread that lives as long as the
//! process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

struct Order {
    command: Command,
    started: mpsc::SyncSender<io::Result<Child>>,
}

/// Starts a child that the kernel kills when this process dies, however it dies.
pub(super) fn spawn(mut command: Command, own_group: bool) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    if own_group {
        command.process_group(0);
    }
    let parent = getpid();
    let tie_to_parent = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died between the fork and the line above.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    };
    // SAFETY: between fork and exec the closure makes two system calls and returns; it allocates nothing, takes no lock
    // and touches no memory but its own copy of `parent`.
    unsafe { command.pre_exec(tie_to_parent) };
    let orders = SPAWNER.get_or_init(|| {
        let (orders, incoming) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for Order { mut command, started } in incoming {
                let _ = started.send(command.spawn());
            }
        });
        orders
    });
    let (started, result) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes has ended");
    orders.send(Order { command, started }).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
