//! The parameters of a call, decoded straight from the text of the request.

use std::ops::Range;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::RpcError;
use super::scan::{NotJson, Scanner};

/// Positions of this many parameters are kept; what is beyond is only counted.
const KEPT: usize = 16;

/// The shape of a request's `params`, found while the request is scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// `null`.
    Null,
    /// The first parameters' positions in the text, and how many there are in all.
    Array { kept: Vec<Range<usize>>, count: usize },
    /// Something else; methods are called by position only.
    Other,
}

impl Shape {
    /// Crosses a value and says what it is.
    pub(super) fn scan(scanner: &mut Scanner<'_>) -> Result<Self, NotJson> {
        match scanner.peek() {
            Some(b'[') => {
                let mut kept = Vec::new();
                let mut count = 0;
                let mut more = scanner.enter(b']')?;
                while more {
                    let range = scanner.value()?;
                    if count < KEPT {
                        kept.push(range);
                    }
                    count += 1;
                    more = scanner.more(b']')?;
                }
                Ok(Self::Array { kept, count })
            }
            Some(b'n') => scanner.value().map(|_| Self::Null),
            _ => scanner.value().map(|_| Self::Other),
        }
    }
}

/// The parameters of one call.
///
/// A method takes them by position, in order, and calls [`Params::at_most`] last: then a call that is wrong in several
/// ways is refused for the same reason as by the servers that were recorded. It should drop the parameters as soon as
/// they are decoded, since they hold the text of the request.
///
/// ```
/// # use das_common::json_rpc::{Params, RpcError};
/// # use bytes::Bytes;
/// fn store(params: Params) -> Result<(Bytes, u64, Bytes), RpcError> {
///     let decoded = (params.bytes(0)?, params.uint64(1)?, params.bytes(2)?);
///     params.at_most(3)?;
///     Ok(decoded)
/// }
///
/// let params = Params::parse(Bytes::from_static(br#"["0x68690a", "0x5f", "0x"]"#)).unwrap();
/// assert_eq!(store(params).unwrap(), (Bytes::from_static(b"hi\n"), 0x5f, Bytes::new()));
///
/// let params = Params::parse(Bytes::from_static(br#"["0x68690"]"#)).unwrap();
/// assert!(store(params).unwrap_err().message.contains("odd length"));
/// ```
#[derive(Debug, Clone)]
pub struct Params {
    text: Bytes,
    shape: Shape,
}

impl Params {
    pub(super) fn new(text: Bytes, shape: Option<Shape>) -> Self {
        Self { text, shape: shape.unwrap_or(Shape::Null) }
    }

    /// The parameters in a JSON text, as `params` of a request would be. An error when it is no JSON.
    pub fn parse(text: Bytes) -> Result<Self, RpcError> {
        let shape = Shape::scan(&mut Scanner::new(&text))
            .map_err(|NotJson| RpcError::new(RpcError::PARSE, "parse error"))?;
        Ok(Self::new(text, Some(shape)))
    }

    /// How many parameters were given.
    pub fn count(&self) -> usize {
        match self.shape {
            Shape::Array { count, .. } => count,
            Shape::Null | Shape::Other => 0,
        }
    }

    /// The JSON text of parameter `index`, with its quotes if it is a string.
    pub fn raw(&self, index: usize) -> Result<&[u8], RpcError> {
        match &self.shape {
            Shape::Other => Err(RpcError::invalid_params("non-array args")),
            Shape::Array { kept, .. } if index < kept.len() => Ok(&self.text[kept[index].clone()]),
            Shape::Array { .. } | Shape::Null => {
                Err(RpcError::invalid_params(format!("missing value for required argument {index}")))
            }
        }
    }

    /// Parameter `index` as a byte string: hex with `0x` or `0X`, of even length; the empty string is empty too.
    pub fn bytes(&self, index: usize) -> Result<Bytes, RpcError> {
        let decoded = string(self.raw(index)?).and_then(decode_bytes);
        decoded.map(Bytes::from).map_err(|fault| fault.in_argument(index, "hexutil.Bytes"))
    }

    /// Parameter `index` as a number: hex with `0x` or `0X` and no leading zeros; the empty string is 0.
    pub fn uint64(&self, index: usize) -> Result<u64, RpcError> {
        let decoded = string(self.raw(index)?).and_then(decode_uint64);
        decoded.map_err(|fault| fault.in_argument(index, "hexutil.Uint64"))
    }

    /// Parameter `index` as anything that serde can read.
    pub fn json<T: DeserializeOwned>(&self, index: usize) -> Result<T, RpcError> {
        serde_json::from_slice(self.raw(index)?)
            .map_err(|error| RpcError::invalid_params(format!("invalid argument {index}: {error}")))
    }

    /// Refuses more than `count` parameters, and parameters that are no list.
    pub fn at_most(&self, count: usize) -> Result<(), RpcError> {
        match self.shape {
            Shape::Other => Err(RpcError::invalid_params("non-array args")),
            Shape::Array { count: given, .. } if given > count => {
                Err(RpcError::invalid_params(format!("too many arguments, want at most {count}")))
            }
            Shape::Array { .. } | Shape::Null => Ok(()),
        }
    }
}

/// Why a hex string does not decode. The texts are those of the recorded servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum HexFault {
    #[error("non-string")]
    NoString,
    #[error("hex string without 0x prefix")]
    NoPrefix,
    #[error("hex string of odd length")]
    OddLength,
    #[error("invalid hex string")]
    BadDigit,
    #[error("hex string \"0x\"")]
    NoDigits,
    #[error("hex number with leading zero digits")]
    LeadingZero,
    #[error("hex number > 64 bits")]
    TooLarge,
}

impl HexFault {
    fn in_argument(self, index: usize, kind: &str) -> RpcError {
        RpcError::invalid_params(format!(
            "invalid argument {index}: json: cannot unmarshal {self} into Go value of type {kind}"
        ))
    }
}

/// What is between the quotes. Escapes are not undone: no hex digit needs one, and the recorded servers do not either.
fn string(raw: &[u8]) -> Result<&[u8], HexFault> {
    match raw {
        [b'"', inner @ .., b'"'] => Ok(inner),
        _ => Err(HexFault::NoString),
    }
}

fn digits(text: &[u8]) -> Result<&[u8], HexFault> {
    match text {
        [b'0', b'x' | b'X', digits @ ..] => Ok(digits),
        _ => Err(HexFault::NoPrefix),
    }
}

fn decode_bytes(text: &[u8]) -> Result<Vec<u8>, HexFault> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let digits = digits(text)?;
    if digits.len() % 2 != 0 {
        return Err(HexFault::OddLength);
    }
    // The decoder would drop a second prefix, which is no digit.
    if digits.starts_with(b"0x") {
        return Err(HexFault::BadDigit);
    }
    const_hex::decode(digits).map_err(|_| HexFault::BadDigit)
}

fn decode_uint64(text: &[u8]) -> Result<u64, HexFault> {
    if text.is_empty() {
        return Ok(0);
    }
    match digits(text)? {
        [] => Err(HexFault::NoDigits),
        [b'0', _, ..] => Err(HexFault::LeadingZero),
        long if long.len() > 16 => Err(HexFault::TooLarge),
        digits => digits.iter().try_fold(0, |number: u64, &digit| {
            let digit = char::from(digit).to_digit(16).ok_or(HexFault::BadDigit)?;
            Ok((number << 4) | u64::from(digit))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        Params::parse(Bytes::copy_from_slice(text.as_bytes())).expect("the test's text is JSON")
    }

    #[test]
    fn numbers() {
        for (text, number) in
            [("\"\"", 0), ("\"0x0\"", 0), ("\"0Xff\"", 255), ("\"0xFfFfFfFfFfFfFfFf\"", u64::MAX)]
        {
            assert_eq!(params(&format!("[{text}]")).uint64(0), Ok(number), "{text}");
        }
        for (text, part) in [
            ("\"0x\"", "hex string \"0x\""),
            ("\"0x00\"", "leading zero"),
            ("\"0x0g\"", "leading zero"),
            ("\"0x10000000000000000\"", "> 64 bits"),
            ("\"0xg000000000000000\"", "invalid hex string"),
            ("\"-0x1\"", "without 0x prefix"),
            ("7", "non-string"),
            ("null", "non-string"),
            ("{}", "non-string"),
            (r#""0x\u0031""#, "invalid hex string"),
        ] {
            let error = params(&format!("[{text}]")).uint64(0).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error}");
            assert!(error.message.ends_with("hexutil.Uint64"), "{text}: {error}");
        }
    }

    #[test]
    fn byte_strings() {
        let long = vec![0xa5; 100_000];
        let text = format!("[\"0x{}\"]", const_hex::encode(&long));
        assert_eq!(params(&text).bytes(0).expect("hex"), long);
        for (text, part) in [
            ("\"0x0x12\"", "invalid hex string"),
            ("\"0X0x12\"", "invalid hex string"),
            ("\"0x1\"", "odd length"),
            ("\"12\"", "without 0x prefix"),
            ("\"0\"", "without 0x prefix"),
            ("\"0x1g\"", "invalid hex string"),
            (r#""0x6\u0038""#, "odd length"),
            ("[]", "non-string"),
        ] {
            let error = params(&format!("[{text}]")).bytes(0).expect_err(text);
            assert!(error.message.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn counts() {
        let message = |result: Result<(), RpcError>| result.expect_err("refused").message;
        assert_eq!(params("null").at_most(0), Ok(()));
        assert_eq!(message(params("{}").at_most(0)), "non-array args");
        assert_eq!(message(params("[1,2]").at_most(1)), "too many arguments, want at most 1");
        assert_eq!(
            params("[1]").raw(1).expect_err("refused").message,
            "missing value for required argument 1"
        );
        assert_eq!(params(&format!("[{}1]", "1,".repeat(100))).count(), 101);
    }
}
