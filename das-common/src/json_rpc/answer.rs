//! Writing answers.

use bytes::Bytes;
use serde::Serialize;

use super::RpcError;
use super::text::{push_echo, push_quoted};

/// A JSON text that is known to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

impl RawJson {
    /// The result of a method that has nothing to say.
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// The JSON text of `value`.
    ///
    /// # Panics
    /// When `value` has no JSON form, which is a fault of its type (a map with keys that are no strings).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        Self(serde_json::to_vec(value).expect("a wire type has a JSON form").into())
    }

    /// Takes `text` as it is. The caller answers for it being JSON, written without white space.
    pub fn from_trusted(text: impl Into<Bytes>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The id of answers to what has none.
const NO_ID: &[u8] = b"null";

/// Appends the answer to one call.
pub(super) fn push(out: &mut Vec<u8>, id: Option<&[u8]>, outcome: &Result<RawJson, RpcError>) {
    if let Ok(result) = outcome {
        out.reserve(result.0.len() + 64);
    }
    out.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
    push_echo(out, id.unwrap_or(NO_ID));
    match outcome {
        Ok(result) => {
            out.extend_from_slice(b",\"result\":");
            out.extend_from_slice(&result.0);
        }
        Err(error) => {
            out.extend_from_slice(b",\"error\":{\"code\":");
            out.extend_from_slice(error.code.to_string().as_bytes());
            out.extend_from_slice(b",\"message\":");
            push_quoted(out, &error.message);
            if let Some(data) = &error.data {
                out.extend_from_slice(b",\"data\":");
                out.extend_from_slice(&data.0);
            }
            out.push(b'}');
        }
    }
    out.push(b'}');
}
