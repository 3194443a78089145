//! One form for records and messages: a version byte, then bincode, strictly read and bounded.

use bincode::de::{BorrowDecoder, Decoder};
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;

/// The first byte of every record and message of custody.
pub const RECORD_VERSION: u8 = 1;

/// Bytes that are no record or message of custody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than such a thing may have.
    #[error("{got} bytes; at most {limit} are allowed")]
    TooLong {
        /// Bytes there are.
        got: usize,
        /// The most there may be.
        limit: usize,
    },
    /// Another version, or no bytes at all.
    #[error("version {got:?}; expected {RECORD_VERSION}")]
    Version {
        /// The first byte.
        got: Option<u8>,
    },
    /// They do not decode.
    #[error("damaged or of another form")]
    Damaged,
    /// Bytes are left over.
    #[error("{got} bytes are left over")]
    LeftOver {
        /// How many.
        got: usize,
    },
}

/// The value behind its version byte.
pub(crate) fn encode(value: &impl Encode) -> Vec<u8> {
    let mut out = vec![RECORD_VERSION];
    bincode::encode_into_std_write(value, &mut out, bincode::config::standard()).expect("writing to memory");
    out
}

/// The value that these bytes are, all of them. Neither they nor what they claim to hold may exceed `LIMIT` bytes.
pub(crate) fn decode<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > LIMIT {
        return Err(CodecError::TooLong { got: bytes.len(), limit: LIMIT });
    }
    let (version, rest) = bytes.split_first().ok_or(CodecError::Version { got: None })?;
    if *version != RECORD_VERSION {
        return Err(CodecError::Version { got: Some(*version) });
    }
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::decode_from_slice(rest, config).map_err(|_| CodecError::Damaged)?;
    if used == rest.len() { Ok(value) } else { Err(CodecError::LeftOver { got: rest.len() - used }) }
}

/// Types that are 32 bytes.
macro_rules! as_bytes {
    ($($name:ty),*) => {$(
        impl Encode for $name {
            fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
                self.as_bytes().encode(encoder)
            }
        }

        impl<C> Decode<C> for $name {
            fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Ok(Self::from_bytes(Decode::decode(decoder)?))
            }
        }

        impl<'de, C> BorrowDecode<'de, C> for $name {
            fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
                Decode::decode(decoder)
            }
        }
    )*};
}

as_bytes!(DataHash, Root, CodingId);
