//! How long a member keeps batches.

use std::time::Duration;

use das_common::wire::ExpirationPolicy;

/// What an operator decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// How far ahead of now a timeout may be.
    pub max_retention: Duration,
    /// Whether batches are deleted after their timeout.
    pub delete_expired: bool,
}

impl RetentionPolicy {
    /// The word for it on the wire.
    pub fn expiration(&self) -> ExpirationPolicy {
        if self.delete_expired {
            ExpirationPolicy::DiscardAfterDataTimeout
        } else {
            ExpirationPolicy::KeepForever
        }
    }
}
