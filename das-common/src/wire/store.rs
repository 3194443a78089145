//! Answers to the store calls.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Numbers as they travel in results: hex with `0x` and no leading zeros; `""` is read as 0.
pub mod uint64 {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:#x}"))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Ok(0);
        }
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let digits = digits.ok_or_else(|| D::Error::custom("hex number without 0x prefix"))?;
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) || digits.starts_with('+') {
            return Err(D::Error::custom("hex number with no digits or with leading zeros"));
        }
        u64::from_str_radix(digits, 16).map_err(D::Error::custom)
    }
}

/// What a member, or an aggregator, answers to a store.
///
/// A field that is zero is left out, and one that is left out reads as zero. Keys are read in any case, as Go does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreResult {
    /// Of the batch stored.
    pub data_hash: [u8; 32],
    /// Unix seconds until which the signer keeps the batch.
    pub timeout: u64,
    /// Bit *i* for signer *i* of the keyset; a member says 1.
    pub signers_mask: u64,
    /// Of the keyset that the mask refers to; a member names the keyset of itself alone.
    pub keyset_hash: [u8; 32],
    /// Over data hash, timeout and version; 96 bytes.
    pub sig: Vec<u8>,
    /// Of the certificate that this is for.
    pub version: u64,
}

/// Why an answer to a store is none.
#[derive(Debug, thiserror::Error)]
pub enum StoreResultFault {
    /// A hash that is not of 32 bytes.
    #[error("{field} is of {got} bytes instead of 32")]
    HashLength {
        /// The field's name.
        field: &'static str,
        /// Its length.
        got: usize,
    },
    /// A byte string that is not hex.
    #[error("{field} is not 0x-prefixed hex")]
    Hex {
        /// The field's name.
        field: &'static str,
    },
}

impl StoreResult {
    /// The JSON text, byte for byte as Nitro writes it.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings have a JSON form")
    }
}

impl Serialize for StoreResult {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = |number: u64| (number != 0).then(|| format!("{number:#x}"));
        let hash = |hash: &[u8; 32]| Some(const_hex::encode_prefixed(hash));
        Fields {
            data_hash: hash(&self.data_hash),
            timeout: number(self.timeout),
            signers_mask: number(self.signers_mask),
            keyset_hash: hash(&self.keyset_hash),
            sig: (!self.sig.is_empty()).then(|| const_hex::encode_prefixed(&self.sig)),
            version: number(self.version),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StoreResult {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
        let mut result = Self {
            data_hash: [0; 32],
            timeout: 0,
            signers_mask: 0,
            keyset_hash: [0; 32],
            sig: Vec::new(),
            version: 0,
        };
        for (key, value) in fields {
            let fault = serde::de::Error::custom::<StoreResultFault>;
            let number = |value| uint64::deserialize(value).map_err(serde::de::Error::custom);
            match key.to_ascii_lowercase().as_str() {
                "datahash" => result.data_hash = hash("dataHash", &value).map_err(fault)?,
                "timeout" => result.timeout = number(value)?,
                "signersmask" => result.signers_mask = number(value)?,
                "keysethash" => result.keyset_hash = hash("keysetHash", &value).map_err(fault)?,
                "sig" => result.sig = bytes("sig", &value).map_err(fault)?,
                "version" => result.version = number(value)?,
                _ => {}
            }
        }
        Ok(result)
    }
}

/// The fields in the order in which Nitro writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(skip_serializing_if = "Option::is_none")]
    data_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signers_mask: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keyset_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

fn hash(field: &'static str, value: &serde_json::Value) -> Result<[u8; 32], StoreResultFault> {
    let bytes = bytes(field, value)?;
    if bytes.is_empty() {
        return Ok([0; 32]);
    }
    let got = bytes.len();
    bytes.try_into().map_err(|_| StoreResultFault::HashLength { field, got })
}

fn bytes(field: &'static str, value: &serde_json::Value) -> Result<Vec<u8>, StoreResultFault> {
    let text = value.as_str().ok_or(StoreResultFault::Hex { field })?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let digits =
        text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).ok_or(StoreResultFault::Hex { field })?;
    if digits.starts_with("0x") {
        return Err(StoreResultFault::Hex { field });
    }
    const_hex::decode(digits).map_err(|_| StoreResultFault::Hex { field })
}

/// The name of a chunked store that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchId {
    /// To be given with every chunk and with the commit.
    #[serde(rename = "BatchId", alias = "batchId", alias = "batchid", with = "uint64")]
    pub batch_id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_fields_are_left_out() {
        let full = StoreResult {
            data_hash: [0xaa; 32],
            timeout: 0xf486_5700,
            signers_mask: 1,
            keyset_hash: [0xbb; 32],
            sig: vec![0xcc; 2],
            version: 1,
        };
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let text = format!(
            r#"{{"dataHash":"0x{a}","timeout":"0xf4865700","signersMask":"0x1","keysetHash":"0x{b}","sig":"0xcccc","version":"0x1"}}"#
        );
        assert_eq!(String::from_utf8(full.to_json()).expect("UTF-8"), text);
        assert_eq!(serde_json::from_str::<StoreResult>(&text).expect("readable"), full);
        let bare = StoreResult { timeout: 0, signers_mask: 0, sig: vec![], version: 0, ..full };
        let text = format!(r#"{{"dataHash":"0x{a}","keysetHash":"0x{b}"}}"#);
        assert_eq!(String::from_utf8(bare.to_json()).expect("UTF-8"), text);
        assert_eq!(serde_json::from_str::<StoreResult>(&text).expect("readable"), bare);
    }

    #[test]
    fn reads_leniently_but_not_wrongly() {
        let read = serde_json::from_str::<StoreResult>;
        assert_eq!(
            read(r#"{"DATAHASH":"","Timeout":"","sig":"0X0A","extra":[]}"#).expect("readable").sig,
            [10]
        );
        for text in [
            r#"{"dataHash":"0x00"}"#,
            r#"{"dataHash":5}"#,
            r#"{"timeout":"0x01"}"#,
            r#"{"timeout":"0x+1"}"#,
            r#"{"timeout":7}"#,
            r#"{"sig":"0x0x00"}"#,
            r#"{"sig":"00"}"#,
            "[]",
            "null",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn batch_id() {
        let id = BatchId { batch_id: u64::MAX };
        let text = r#"{"BatchId":"0xffffffffffffffff"}"#;
        assert_eq!(serde_json::to_string(&id).expect("JSON"), text);
        assert_eq!(serde_json::from_str::<BatchId>(text).expect("readable"), id);
    }
}
