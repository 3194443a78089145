//! What a node and `das-signer` say to each other: JSON over HTTPS with certificates on both sides.
//!
//! ```text
//! POST /v1/sign   {"kind":"certificate","dataHash":"0x..","timeout":1700000000}
//!                 {"kind":"binding","binding":"0x.."}           the encoding of a binding, without a signature
//!                 {"kind":"possession"}
//! 200             {"signature":"0x.."}                          96 bytes
//! else            {"code":"DAS-KEY-018","message":".."}
//! ```

use das_common::binding::Binding;
use das_common::bls::{SIGNATURE_BYTES, Signature};
use das_common::data_hash::DataHash;
use das_common::signer::{Kind, Message, MessageError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Where signatures are asked for.
pub const SIGN_PATH: &str = "/v1/sign";
/// The longest request.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;
/// The longest answer.
pub const MAX_ANSWER_BYTES: usize = 16 << 10;

/// A request to sign. It may ask for anything: see [`Request::message`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// A certificate's word.
    Certificate {
        /// The batch: 0x and 64 hex digits.
        data_hash: String,
        /// Unix seconds.
        timeout: u64,
    },
    /// A binding.
    Binding {
        /// 0x and the hex of its encoding.
        binding: String,
    },
    /// The proof of possession.
    Possession {},
}

/// What no request is.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Not of this form.
    #[error("it is no request to sign: {0}")]
    Json(#[from] serde_json::Error),
    /// No bytes.
    #[error("{field} is not 0x and {expected}")]
    Hex {
        /// The field.
        field: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// Nothing that is ever signed.
    #[error(transparent)]
    Message(#[from] MessageError),
}

impl From<&Message> for Request {
    fn from(message: &Message) -> Self {
        match message.kind() {
            Kind::Certificate { data_hash, timeout } => {
                Self::Certificate { data_hash: hex(data_hash.as_bytes()), timeout: *timeout }
            }
            Kind::Binding(binding) => Self::Binding { binding: hex(&binding.encode()) },
            Kind::Possession => Self::Possession {},
        }
    }
}

impl Request {
    /// Reads a request of at most [`MAX_REQUEST_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, RequestError> {
        Ok(serde_json::from_slice(bytes)?)
    }

    /// What is to be signed, if it is well-formed.
    pub fn message(&self) -> Result<Message, RequestError> {
        match self {
            Self::Certificate { data_hash, timeout } => {
                let error = RequestError::Hex { field: "dataHash", expected: "64 hex digits" };
                let mut hash = [0; 32];
                let digits = data_hash.strip_prefix("0x").filter(|digits| digits.len() == 64);
                match digits.map(|digits| const_hex::decode_to_slice(digits, &mut hash)) {
                    Some(Ok(())) => Ok(Message::certificate(DataHash::from_bytes(hash), *timeout)?),
                    _ => Err(error),
                }
            }
            Self::Binding { binding } => {
                let error = RequestError::Hex { field: "binding", expected: "the hex of a binding" };
                let digits = binding.strip_prefix("0x");
                let Some(Ok(bytes)) = digits.map(const_hex::decode) else { return Err(error) };
                Ok(Message::binding(Binding::decode(&bytes).map_err(MessageError::from)?)?)
            }
            Self::Possession {} => Ok(Message::possession()),
        }
    }
}

/// A signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// 0x and 192 hex digits.
    pub signature: String,
}

impl From<&Signature> for Signed {
    fn from(signature: &Signature) -> Self {
        Self { signature: hex(&signature.to_bytes()) }
    }
}

impl Signed {
    /// The signature, if it is one at all.
    pub fn signature(&self) -> Option<Signature> {
        parse_signature(&self.signature)
    }
}

/// A signature of 0x and 192 hex digits.
pub fn parse_signature(text: &str) -> Option<Signature> {
    let mut bytes = [0; SIGNATURE_BYTES];
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 2 * SIGNATURE_BYTES)?;
    const_hex::decode_to_slice(digits, &mut bytes).ok()?;
    Signature::parse(&bytes).ok()
}

/// Why there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The code of the registry of errors.
    pub code: String,
    /// In words.
    pub message: String,
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_requests_become_messages() {
        let hash = DataHash::from_bytes([7; 32]);
        for message in [Message::certificate(hash, 5).unwrap(), Message::possession()] {
            let text = serde_json::to_string(&Request::from(&message)).unwrap();
            assert_eq!(Request::parse(text.as_bytes()).unwrap().message().unwrap(), message);
        }
        let digits = "07".repeat(32);
        for (text, expected) in [
            (format!(r#"{{"kind":"certificate","dataHash":"0x{digits}"}}"#), "timeout"),
            (format!(r#"{{"kind":"certificate","dataHash":"{digits}","timeout":1}}"#), "64 hex digits"),
            (format!(r#"{{"kind":"certificate","dataHash":"0x{digits}07","timeout":1}}"#), "64 hex digits"),
            (
                format!(r#"{{"kind":"certificate","dataHash":"0x{digits}","timeout":9223372036854775808}}"#),
                "above the limit",
            ),
            (
                format!(r#"{{"kind":"certificate","dataHash":"0x{digits}","timeout":1,"x":2}}"#),
                "unknown field",
            ),
            (format!(r#"{{"kind":"bytes","bytes":"0x{digits}"}}"#), "unknown variant"),
            (r#"{"kind":"binding","binding":"0x00"}"#.to_owned(), "version"),
            (r#"{"kind":"binding","binding":"0x01"}"#.to_owned(), "malformed"),
            (format!(r#"{{"kind":"binding","binding":"0x01{}"}}"#, "00".repeat(2000)), "at most"),
            (r#"{"kind":"binding","binding":"0x010000"}"#.to_owned(), "malformed"),
            ("[]".to_owned(), "no request"),
        ] {
            let error = Request::parse(text.as_bytes()).and_then(|request| request.message()).unwrap_err();
            assert!(error.to_string().contains(expected), "{text}: {error}");
        }
    }
}
