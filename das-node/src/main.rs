//! `das-node`: one member of a data availability committee, or a mirror.

use std::process::ExitCode;

/// Keeps freed pages for a moment: batches are large, and asking the kernel for each anew costs more than hashing.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    das_node::run()
}
