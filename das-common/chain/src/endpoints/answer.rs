//! What an endpoint's answer says.

use alloy_primitives::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// Longest text of an endpoint that is repeated.
const MAX_TEXT: usize = 300;

#[derive(Deserialize)]
struct Envelope<'a> {
    /// `Some` also for `null`, which is an answer.
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorObject>,
}

#[derive(Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// An answer by its meaning.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer<T> {
    /// The result.
    Value(T),
    /// A contract reverted; its error, if given.
    Reverted { data: Bytes, message: String },
    /// It does not do that.
    Refused { code: i64, message: String },
    /// It would, but not now.
    Busy { message: String },
    /// It cannot be understood.
    Malformed { reason: String },
}

pub(crate) fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Answer<T> {
    let envelope = serde_json::from_slice::<Envelope<'_>>(body);
    match envelope {
        // Some send their JSON-RPC errors with another status.
        Ok(Envelope { error: Some(error), .. }) => read_error(status, &error),
        _ if !status.is_success() => {
            let message =
                format!("HTTP status {status}: {}", shortened(&String::from_utf8_lossy(first(body))));
            if is_busy(status) { Answer::Busy { message } } else { Answer::Malformed { reason: message } }
        }
        Ok(Envelope { result: Some(result), .. }) => match serde_json::from_str(result.get()) {
            Ok(value) => Answer::Value(value),
            Err(error) => Answer::Malformed { reason: shortened(&error.to_string()) },
        },
        Ok(_) => Answer::Malformed { reason: "neither a result nor an error".into() },
        Err(error) => Answer::Malformed { reason: shortened(&error.to_string()) },
    }
}

fn read_error<T>(status: StatusCode, error: &ErrorObject) -> Answer<T> {
    let message = shortened(&error.message);
    let words = message.to_ascii_lowercase();
    let data = revert_data(&error.data);
    // A selector and words: some call a revert something else.
    let is_abi = data.as_ref().is_some_and(|data| data.len() % 32 == 4);
    if error.code == 3 || words.contains("revert") || is_abi {
        return Answer::Reverted { data: data.unwrap_or_default(), message };
    }
    // A range with too many logs is often called a limit too, so that only these words are taken for "later".
    let later = ["rate limit", "too many requests", "request rate", "compute units", "quota", "capacity"];
    if is_busy(status) || error.code == 429 || later.iter().any(|word| words.contains(word)) {
        return Answer::Busy { message };
    }
    Answer::Refused { code: error.code, message }
}

fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status.as_u16(), 401 | 402 | 403 | 408 | 425 | 429)
}

/// The contract's error: hex, with or without a word before it, that is the data or stands somewhere below it.
fn revert_data(data: &Value) -> Option<Bytes> {
    match data {
        Value::String(text) => {
            let hex = text.strip_prefix("Reverted ").unwrap_or(text).strip_prefix("0x")?;
            hex.parse().ok()
        }
        Value::Object(fields) => {
            ["data", "originalError"].iter().find_map(|name| fields.get(*name).and_then(revert_data))
        }
        _ => None,
    }
}

fn first(body: &[u8]) -> &[u8] {
    &body[..body.len().min(4 * MAX_TEXT)]
}

/// The start of somebody else's text, in one line.
pub(crate) fn shortened(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let read = |status: u16, body: &str| {
            read::<Option<u8>>(StatusCode::from_u16(status).unwrap(), body.as_bytes())
        };
        assert_eq!(read(200, r#"{"result":7}"#), Answer::Value(Some(7)));
        assert_eq!(read(200, r#"{"result":null}"#), Answer::Value(None));
        let malformed = ["{}", "", "<html>", "[]", r#"{"result":"x"}"#, r#"{"result":7"#];
        for body in malformed {
            assert!(matches!(read(200, body), Answer::Malformed { .. }), "{body}");
        }
        assert!(matches!(read(404, "no"), Answer::Malformed { .. }));
        assert!(matches!(read(502, "<html>"), Answer::Busy { .. }));
        let error = |status, code: i64, message: &str| {
            read(status, &format!(r#"{{"error":{{"code":{code},"message":"{message}"}}}}"#))
        };
        assert!(matches!(
            error(400, -32602, "range limited to 10 blocks"),
            Answer::Refused { code: -32602, .. }
        ));
        assert!(matches!(
            error(200, -32005, "query returned more than 10000 results"),
            Answer::Refused { .. }
        ));
        assert!(matches!(error(200, -32005, "daily Rate limit reached"), Answer::Busy { .. }));
        assert!(matches!(error(429, -32005, "slow down"), Answer::Busy { .. }));
        let reverted =
            |data: &str| read(200, &format!(r#"{{"error":{{"code":3,"message":"m","data":{data}}}}}"#));
        let data = Bytes::from_static(&[0xab]);
        for form in [
            r#""0xab""#,
            r#""Reverted 0xab""#,
            r#"{"data":"0xab"}"#,
            r#"{"data":{"data":"0xab"}}"#,
            r#"{"message":"m","originalError":{"data":"0xab"}}"#,
        ] {
            assert_eq!(reverted(form), Answer::Reverted { data: data.clone(), message: "m".into() });
        }
        assert!(matches!(reverted("[1]"), Answer::Reverted { .. }));
        let unnamed =
            |data: &str| read(200, &format!(r#"{{"error":{{"code":-32015,"message":"m","data":{data}}}}}"#));
        assert!(
            matches!(unnamed(r#""Reverted 0x01020304""#), Answer::Reverted { data, .. } if data.len() == 4)
        );
        for other in
            [r#""0x""#, r#""0x01""#, r#""01020304""#, r#""text""#, r#"{"from":"0x01020304"}"#, "null"]
        {
            assert!(matches!(unnamed(other), Answer::Refused { code: -32015, .. }), "{other}");
        }
    }
}
