//! One member of a data availability committee, or a mirror of one.
//!
//! ```text
//!  das_store ──► api::rpc ──► store ──► storage ──► signer ──► answer
//!                (hex, JSON)  (checks)  (on disk)   (BLS)
//!  GET ──► api::rest ──► retrieve ──► cache, storage, other servers
//! ```

pub mod api;
pub mod clock;
pub mod custody;
pub mod damage;
pub mod expiry;
pub mod gather;
pub mod health;
pub(crate) mod mirror;
pub mod node;
pub mod options;
pub mod page;
pub mod peer;
pub mod policy;
pub mod retrieve;
pub mod storage;
pub mod store;

use std::process::ExitCode;

/// The program `das-node`, from its arguments to its exit code.
#[must_use]
pub fn run() -> ExitCode {
    das_common::server::run::<node::Node>()
}
