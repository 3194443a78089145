//! What a call can end in other than a result.

use std::borrow::Cow;

use super::RawJson;

/// An error as it travels: a code, a text, and data for those who want to know more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// One of the constants of this type, or a method's own.
    pub code: i32,
    /// What people and some callers read.
    pub message: Cow<'static, str>,
    /// Left out of the answer when there is none.
    pub data: Option<RawJson>,
}

impl RpcError {
    /// Everything that a method itself reports.
    pub const METHOD: i32 = -32000;
    /// The answers to a batch became larger than is allowed.
    pub const RESPONSE_TOO_LARGE: i32 = -32003;
    /// The request is no JSON.
    pub const PARSE: i32 = -32700;
    /// The request is JSON, but no call.
    pub const INVALID_REQUEST: i32 = -32600;
    /// There is no such method.
    pub const METHOD_NOT_FOUND: i32 = -32601;
    /// The parameters are not what the method takes.
    pub const INVALID_PARAMS: i32 = -32602;

    /// An error without data.
    pub fn new(code: i32, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// An error of the method itself.
    pub fn method(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Self::METHOD, message)
    }

    /// Parameters that the method does not take.
    pub fn invalid_params(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Self::INVALID_PARAMS, message)
    }

    /// The text by which clients learn that they must fall back to another method.
    pub(super) fn method_not_found(method: &str) -> Self {
        Self::new(Self::METHOD_NOT_FOUND, format!("the method {method} does not exist/is not available"))
    }

    pub(super) fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Self::INVALID_REQUEST, message)
    }
}

impl std::fmt::Display for RpcError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for RpcError {}
