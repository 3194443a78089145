//! The batch that the doctor stores and reads back.

use std::time::Duration;

use bytes::Bytes;
use das_common::data_hash::DataHash;
use das_common::rpc_client::store_body;
use das_common::store_auth::{RequestDigest, StoreKey};
use rand::Rng as _;

/// Long enough to be no special case, short enough to cost nothing.
const LENGTH: usize = 1000;

/// One batch, the same for everybody examined, and the request that stores it.
pub(super) struct Probe {
    pub(super) hash: DataHash,
    pub(super) timeout: u64,
    pub(super) request: Bytes,
}

impl Probe {
    /// A new batch, to be kept for `retention`; unsigned without a key.
    pub(super) fn new(key: Option<&StoreKey>, retention: Duration) -> Self {
        // Random, so that it was never stored before: a server must write it to sign it.
        let mut message = vec![0; LENGTH];
        rand::rng().fill(message.as_mut_slice());
        let timeout = super::super::now().saturating_add(retention.as_secs());
        let signature = key.map(|key| key.sign(&RequestDigest::store(&message, timeout)));
        let request = store_body(&message, timeout, signature.as_ref().map_or(&[][..], |s| &s[..]));
        Self { hash: DataHash::of(&message), timeout, request }
    }
}
