//! Where a member keeps its BLS key: four ways, one interface ([`das_common::signer::Signer`]).
//!
//! ```text
//! file         das_bls, as Nitro has it ──────────────────────────────┐
//! keystore     EIP-2335 + password ───────────────────────────────────┼─► key in this process ─► LocalSigner
//! envelope     ciphertext + key management service ───────────────────┘
//! das-signer   another process, mutual TLS ─────────────────────────────► RemoteSigner
//! ```
//!
//! # Guarantees
//! - For equal messages the four give equal signatures; a signature of a remote signer is used only if it verifies under
//!   the public key that was expected.
//! - A secret or a password appears in no debug output, no error and no log, and its memory is overwritten when it is no
//!   longer needed.
//! - No file and no answer makes us take more memory or time than named bounds allow.

pub mod audit_log;
pub mod envelope;
pub mod kms;
pub mod options;
pub mod remote;
pub mod source;
pub mod storage_file;
pub mod storage_key;
pub mod storage_options;
pub mod wire;
