//! What a sequencer asks for when it hands over a batch to be posted.

use bytes::Bytes;
use das_common::store_auth::RequestDigest;
use thiserror::Error;

/// First byte of a batch that nodes read from the chain itself (brotli).
pub const DATA_HEADER: u8 = 0x00;

/// A batch with what the contract is to be told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostRequest {
    /// The batch, header byte first.
    pub message: Bytes,
    /// Until when the committee is to keep it, unix seconds.
    pub timeout: u64,
    /// Delayed messages that are read with it and before.
    pub after_delayed: u64,
    /// Messages of the chain before it; 0: the contract does not look at the counts.
    pub prev_count: u64,
    /// Messages of the chain with it.
    pub new_count: u64,
}

/// Why a batch is not taken.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum RequestError {
    /// There is nothing in it.
    #[error("message: it is empty")]
    Empty,
    /// Its length.
    #[error("message: {got} bytes are more than the {limit} that are possible")]
    TooLarge {
        /// Bytes given.
        got: usize,
        /// Bytes possible.
        limit: usize,
    },
    /// It could not be posted itself.
    #[error(
        "message: its first byte is {got:#04x}; with post.fallback = calldata only batches that begin with 0x00 are taken: \
         the contract and the nodes would read others as something else"
    )]
    Header {
        /// Its first byte.
        got: u8,
    },
    /// The committee would be asked for too little.
    #[error(
        "timeout: {got} is too early; a batch needs one of at least {least}: 7 days beyond the latest time that its messages \
         can name, and a day in reserve"
    )]
    Timeout {
        /// Unix seconds given.
        got: u64,
        /// Unix seconds needed.
        least: u64,
    },
    /// The counts of its messages.
    #[error("newMessageCount: {new} is below prevMessageCount, {prev}")]
    Counts {
        /// Messages before.
        prev: u64,
        /// Messages with it.
        new: u64,
    },
    /// It does not follow the batch before it.
    #[error("prevMessageCount: {got} does not follow the batch before, whose newMessageCount is {expected}")]
    Gap {
        /// Messages before it, as given.
        got: u64,
        /// Messages with the batch before it.
        expected: u64,
    },
    /// Delayed messages are not given back.
    #[error("afterDelayedMessagesRead: {got} is below {expected}, that of the batch before")]
    Delayed {
        /// As given.
        got: u64,
        /// That of the batch before.
        expected: u64,
    },
    /// There is no room.
    #[error(
        "the queue holds {batches} batches of {bytes} bytes that are not final; at most {limit} are possible: try again later"
    )]
    Full {
        /// Batches in it.
        batches: usize,
        /// Their bytes.
        bytes: u64,
        /// The bound that is met.
        limit: String,
    },
}

impl PostRequest {
    /// What its signature is over.
    pub fn digest(&self, chain_id: u64, inbox: &[u8; 20]) -> RequestDigest {
        let numbers = [self.timeout, self.after_delayed, self.prev_count, self.new_count];
        RequestDigest::post_batch(chain_id, inbox, numbers, &self.message)
    }

    /// Whether it can be taken, whatever else there is. `least_timeout`: unix seconds. `as_data`: whether it may have to be
    /// posted itself.
    pub fn check(&self, limit: usize, least_timeout: u64, as_data: bool) -> Result<(), RequestError> {
        let got = self.message.len();
        let Some(first) = self.message.first() else { return Err(RequestError::Empty) };
        if got > limit {
            return Err(RequestError::TooLarge { got, limit });
        }
        if as_data && *first != DATA_HEADER {
            return Err(RequestError::Header { got: *first });
        }
        if self.timeout < least_timeout {
            return Err(RequestError::Timeout { got: self.timeout, least: least_timeout });
        }
        // The contract leaves both out of account when either is 0.
        if self.prev_count > 0 && self.new_count > 0 && self.new_count < self.prev_count {
            return Err(RequestError::Counts { prev: self.prev_count, new: self.new_count });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use das_common::data_hash::DataHash;

    use super::*;

    fn request() -> PostRequest {
        let message = Bytes::from_static(b"\0batch");
        PostRequest { message, timeout: 1000, after_delayed: 3, prev_count: 5, new_count: 9 }
    }

    #[test]
    fn the_signature_is_over_everything_that_reaches_the_contract() {
        let inbox = [7; 20];
        let mut signed = b"das-aggregator postBatch v1:".to_vec();
        signed.extend(412_346_u64.to_be_bytes());
        signed.extend(inbox);
        for number in [1000_u64, 3, 5, 9] {
            signed.extend(number.to_be_bytes());
        }
        signed.extend(b"\0batch");
        let digest = request().digest(412_346, &inbox);
        assert_eq!(digest.as_bytes(), DataHash::of(&signed).as_bytes());
    }

    #[test]
    fn what_cannot_be_posted_is_refused_with_its_field_and_limit() {
        assert_eq!(request().check(6, 1000, true), Ok(()));
        let cases = [
            (PostRequest { message: Bytes::new(), ..request() }, RequestError::Empty),
            (PostRequest { timeout: 999, ..request() }, RequestError::Timeout { got: 999, least: 1000 }),
            (PostRequest { new_count: 4, ..request() }, RequestError::Counts { prev: 5, new: 4 }),
            (
                PostRequest { message: Bytes::from_static(b"1234567"), ..request() },
                RequestError::TooLarge { got: 7, limit: 6 },
            ),
            (
                PostRequest { message: Bytes::from_static(&[0x88, 1]), ..request() },
                RequestError::Header { got: 0x88 },
            ),
        ];
        for (wrong, expected) in cases {
            assert_eq!(wrong.check(6, 1000, true), Err(expected));
        }
        let other_header = PostRequest { message: Bytes::from_static(&[0x88, 1]), ..request() };
        assert_eq!(other_header.check(6, 1000, false), Ok(()), "where only certificates are posted");
        let unchecked = PostRequest { prev_count: 0, new_count: 0, ..request() };
        assert_eq!(unchecked.check(6, 1000, true), Ok(()), "as the contract has it");
    }
}
