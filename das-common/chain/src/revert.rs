//! What the contract's errors mean.

/// In words.
pub fn explain(data: &[u8]) -> Option<String> {
    (data.len() >= 4).then(|| const_hex::encode_prefixed(data))
}
