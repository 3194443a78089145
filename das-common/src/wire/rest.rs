//! Answers of the REST port.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::certificate::CERTIFICATE_BYTES;

/// `Cache-Control` of a batch that was found: under its hash nothing else will ever be found.
pub const CACHE_FOUND: &str = "public, max-age=2419200, immutable";
/// `Cache-Control` of everything else.
pub const CACHE_OTHER: &str = "public, max-age=1";

const HEAD: &[u8] = b"{\"data\":\"";
const TAIL: &[u8] = b"\"}\n";

/// The body of a found batch: `{"data":"<base64>"}` and a newline.
pub fn get_by_hash_answer(batch: &[u8]) -> Vec<u8> {
    let encoded = base64_simd::STANDARD.encoded_length(batch.len());
    let mut answer = Vec::with_capacity(HEAD.len() + encoded + TAIL.len());
    answer.extend_from_slice(HEAD);
    base64_simd::STANDARD.encode_append(batch, &mut answer);
    answer.extend_from_slice(TAIL);
    answer
}

/// Why an answer holds no batch.
#[derive(Debug, thiserror::Error)]
pub enum GetByHashFault {
    /// It is no JSON of the expected shape.
    #[error("not a JSON object with base64 data: {0}")]
    Json(#[from] serde_json::Error),
    /// The data is not standard base64 with padding.
    #[error("the data is not standard base64")]
    Base64,
}

/// The batch in a body that says it was found. `{}` and a null are an empty batch.
///
/// Servers of ours and of Nitro's write one form, which is taken apart where it lies; anything else goes through a JSON
/// parser.
pub fn parse_get_by_hash(body: &[u8]) -> Result<Vec<u8>, GetByHashFault> {
    if let Some(encoded) = usual_form(body)
        && let Ok(batch) = base64_simd::STANDARD.decode_to_vec(encoded)
    {
        return Ok(batch);
    }
    // Keys match in any case and the last one wins, as in Nitro's client.
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
    let data = fields.into_iter().rfind(|(key, _)| key.eq_ignore_ascii_case("data"));
    match data {
        None | Some((_, serde_json::Value::Null)) => Ok(Vec::new()),
        Some((_, serde_json::Value::String(mut encoded))) => {
            // Go's decoder skips line ends.
            encoded.retain(|character| !matches!(character, '\r' | '\n'));
            base64_simd::STANDARD.decode_to_vec(encoded).map_err(|_| GetByHashFault::Base64)
        }
        Some(_) => Err(GetByHashFault::Base64),
    }
}

/// What is between the quotes of the form that [`get_by_hash_answer`] writes.
fn usual_form(body: &[u8]) -> Option<&[u8]> {
    let body = body.trim_ascii();
    let inner = body.strip_prefix(b"{\"data\":\"").or_else(|| body.strip_prefix(b"{\"data\": \""))?;
    inner.strip_suffix(b"\"}")
}

/// A certificate's bytes, version 1.
pub type CertificateBytes = [u8; CERTIFICATE_BYTES];

/// The body of a found certificate: `{"certificate":"0x<178 bytes in hex>"}` and a newline.
pub fn certificate_answer(certificate: &CertificateBytes) -> String {
    format!("{{\"certificate\":\"0x{}\"}}\n", const_hex::encode(certificate))
}

/// The certificate in a body that says it was found. Its bytes, of which nothing is known to be true.
pub fn parse_certificate_answer(body: &[u8]) -> Option<CertificateBytes> {
    #[derive(Deserialize)]
    struct Answer {
        certificate: String,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    const_hex::decode_to_array(answer.certificate).ok()
}

/// What a server does with a batch whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExpirationPolicy {
    /// It keeps it.
    KeepForever,
    /// It discards it when it has been archived, and its time is over.
    DiscardAfterArchiveTimeout,
    /// It discards it.
    DiscardAfterDataTimeout,
    /// Its storages differ.
    MixedTimeout,
    /// It never kept it.
    DiscardImmediately,
}

impl ExpirationPolicy {
    /// The name that travels.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepForever => "KeepForever",
            Self::DiscardAfterArchiveTimeout => "DiscardAfterArchiveTimeout",
            Self::DiscardAfterDataTimeout => "DiscardAfterDataTimeout",
            Self::MixedTimeout => "MixedTimeout",
            Self::DiscardImmediately => "DiscardImmediately",
        }
    }

    /// The body of an answer at `/expiration-policy/`.
    pub fn rest_answer(self) -> String {
        format!("{{\"expirationPolicy\":\"{self}\"}}\n")
    }
}

impl fmt::Display for ExpirationPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no policy's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no expiration policy")]
pub struct UnknownPolicy {
    /// The name.
    pub got: String,
}

impl FromStr for ExpirationPolicy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let all = [
            Self::KeepForever,
            Self::DiscardAfterArchiveTimeout,
            Self::DiscardAfterDataTimeout,
            Self::MixedTimeout,
            Self::DiscardImmediately,
        ];
        all.into_iter()
            .find(|policy| policy.name() == name)
            .ok_or_else(|| UnknownPolicy { got: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_back() {
        for length in [0, 1, 2, 3, 1000, 70_000] {
            let batch: Vec<u8> = (0..length).map(|index: u32| index as u8).collect();
            assert_eq!(parse_get_by_hash(&get_by_hash_answer(&batch)).expect("own form"), batch);
        }
        assert_eq!(get_by_hash_answer(b""), b"{\"data\":\"\"}\n");
    }

    #[test]
    fn other_forms() {
        for body in ["{}", "{}\n", "{\"data\":null}", "{\"other\":1}", "{\"Data\":\"\"}"] {
            assert_eq!(parse_get_by_hash(body.as_bytes()).expect("an empty batch"), b"", "{body}");
        }
        for body in
            ["{\"data\":\"aGk=\"}", "{\"DATA\" : \"aG\\u006b=\"}", "{\"data\":\"x\", \"data\":\"aG\\nk=\"}"]
        {
            assert_eq!(parse_get_by_hash(body.as_bytes()).expect("a batch"), b"hi", "{body}");
        }
        for body in [
            "",
            "[]",
            "{\"data\":5}",
            "{\"data\":\"aGk\"}",
            "{\"data\":\"a-_=\"}",
            "{\"data\":\"aGk=\"",
            "null",
        ] {
            assert!(parse_get_by_hash(body.as_bytes()).is_err(), "{body}");
        }
    }
}
