//! What members, aggregators and their clients say to each other, byte for byte as Nitro has it (spec sections 6 and 7).

mod rest;
mod store;

pub use rest::{
    CACHE_FOUND, CACHE_OTHER, CertificateBytes, ExpirationPolicy, GetByHashFault, UnknownPolicy,
    certificate_answer, get_by_hash_answer, parse_certificate_answer, parse_get_by_hash,
};
pub use store::{BatchId, StoreResult, StoreResultFault, uint64};

/// Error texts that callers match on, and those that they show to operators who look them up.
pub mod texts {
    /// A store request whose signature is not one of those allowed.
    pub const NOT_PROPERLY_SIGNED: &str = "request not properly signed";
    /// A server that checks signatures, but was not told whose.
    pub const NO_VERIFICATION_METHOD: &str = "no signature verification method configured";
    /// A chunk of a message that was never begun, with its number after this.
    pub const UNKNOWN_MESSAGE: &str = "unknown message(";
    /// A chunked start whose time is too far from the server's.
    pub const TOO_MUCH_TIME: &str = "too much time has elapsed since request was signed";
    /// A chunked start that was accepted before.
    pub const REPLAYED: &str = "we have already seen this request; aborting replayed protocol";
    /// A chunk that differs from one received under the same number.
    pub const DIFFERENT_CHUNK: &str = "received different chunk data than previously; aborting protocol";
    /// Too few members answered: the batch poster turns to its next way of posting.
    pub const FALLBACK: &str = "DA provider requests fallback to next writer";
    /// The batch poster builds a smaller batch.
    pub const TOO_LARGE: &str = "message too large for current DA backend";
    /// Ends the text of a committee that did not reach its threshold.
    pub const UNABLE_TO_BATCH: &str = "unable to batch to DAS";
    /// A batch whose certificate does not hold.
    pub const CERTIFICATE_INVALID: &str = "certificate validation failed";
    /// A keyset that does not parse: with any other text a node stops on the batch.
    pub const RECOVERY_INVALID: &str = "error validating recovered payload from batch";

    /// A timeout that a signed number of seconds cannot hold.
    pub fn timeout_exceeds_int64(timeout: u64) -> String {
        format!("request expiry time ({timeout}) exceeds max int64")
    }

    /// A timeout further away than the server keeps anything; both in seconds.
    pub fn timeout_exceeds_retention(timeout: u64, max_retention: u64) -> String {
        format!(
            "requested expiry time ({timeout}) exceeds current time plus maximum allowed retention period\
             ({max_retention}s)"
        )
    }
}
