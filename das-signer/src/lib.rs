//! Holds a member's BLS key in a process of its own, and signs for the members that show a certificate.
//!
//! ```text
//! TLS ──► name in the client's certificate ──► well-formed? ──► limits ──► BLS ──► audit log, synced ──► answer
//! ```
//!
//! # Guarantees, also against a node that was taken over
//! - Only words of certificates, bindings of peer keys and the proof of possession of the own key are signed.
//! - No certificate's word beyond the signer's own limit is signed, and no more signatures in a time than it allows.
//! - No signature leaves without a record in the audit log that is on disk.

pub mod limits;
pub mod options;
pub mod service;
pub mod signer;

use std::process::ExitCode;

/// The program `das-signer`, from its arguments to its exit code.
#[must_use]
pub fn run() -> ExitCode {
    das_common::server::run::<signer::SignerServer>()
}
