//! One member of a data availability committee, or a mirror of one.
//!
//! ```text
//!  das_store ──► api::rpc ──► store ──► storage ──► signer ──► answer
//!                (hex, JSON)  (checks)  (on disk)   (BLS)
//!                                         │ noted in the same change
//!                                         └──► archive (an object store)
//!  GET ──► api::rest ──► retrieve ──► cache, storage, shared_cache, archive, other servers
//! ```

pub mod admin;
pub mod api;
pub mod archive;
pub(crate) mod breaker;
pub mod clock;
pub mod custody;
pub mod damage;
pub mod expiry;
pub mod gather;
pub mod health;
pub mod maintain;
pub(crate) mod mirror;
pub mod node;
pub mod options;
pub mod page;
pub mod peer;
pub mod policy;
pub mod retrieve;
pub(crate) mod rotation;
pub mod shared_cache;
pub mod storage;
pub mod store;

use std::process::ExitCode;

/// The program `das-node`, from its arguments to its exit code. With a word as the first argument it is one of the programs of
/// [`maintain`], which work on the data directory of a node that is stopped.
#[must_use]
pub fn run() -> ExitCode {
    if let Some(outcome) = maintain::run() {
        return outcome;
    }
    das_common::server::run::<node::Node>()
}
