//! Running what a request asks for.

use std::time::Instant;

use bytes::Bytes;
use metrics::histogram;
use tracing::{Instrument as _, trace_span};

use super::request::{Kind, Message, Request};
use super::scan::NotJson;
use super::{Methods, Params, RawJson, RpcError, RpcLimits, answer};
use crate::telemetry::names;
use crate::traces::TARGET;

/// Method names of more bytes are refused, so that an error that repeats the name stays small.
const MAX_METHOD_NAME: usize = 2048;

/// Answers the request in `text`; empty when there is nothing to answer.
pub(super) async fn run<M: Methods>(methods: &M, text: Bytes, limits: &RpcLimits) -> Vec<u8> {
    match Request::parse(&text, limits.max_batch) {
        Ok(Request::Nothing) => Vec::new(),
        Ok(Request::Single(message)) => single(methods, message, text).await,
        Ok(Request::Batch(messages)) if messages.is_empty() => {
            alone(None, RpcError::invalid_request("empty batch"))
        }
        Ok(Request::Batch(messages)) => batch(methods, messages, &text, limits).await,
        Ok(Request::TooLong(first)) => {
            let mut out = vec![b'['];
            answer::push(&mut out, first.id(&text), &Err(RpcError::invalid_request("batch too large")));
            out.push(b']');
            out
        }
        Err(NotJson) => parse_error(),
    }
}

/// The answer to what is no JSON.
pub(super) fn parse_error() -> Vec<u8> {
    alone(None, RpcError::new(RpcError::PARSE, "parse error"))
}

/// An answer that ends without a newline, as these two kinds of error do.
fn alone(id: Option<&[u8]>, error: RpcError) -> Vec<u8> {
    let mut out = Vec::new();
    answer::push(&mut out, id, &Err(error));
    out
}

async fn single<M: Methods>(methods: &M, mut message: Message, text: Bytes) -> Vec<u8> {
    let kind = message.kind(&text);
    // A copy, so that the method can drop the text as soon as it has decoded its parameters.
    let id = message.id(&text).map(<[u8]>::to_vec);
    let outcome = match kind {
        Kind::Call | Kind::Notification => {
            let params = Params::new(text, message.take_params());
            call(methods, message.method(), params).await
        }
        Kind::Response => return Vec::new(),
        Kind::Invalid => Err(RpcError::invalid_request("invalid request")),
    };
    if kind == Kind::Notification {
        return Vec::new();
    }
    let mut out = Vec::new();
    answer::push(&mut out, id.as_deref(), &outcome);
    out.push(b'\n');
    out
}

async fn batch<M: Methods>(methods: &M, messages: Vec<Message>, text: &Bytes, limits: &RpcLimits) -> Vec<u8> {
    let mut out = Vec::new();
    let mut result_bytes = 0;
    let mut too_large = false;
    for mut message in messages {
        let kind = message.kind(text);
        let outcome = match kind {
            Kind::Response => continue,
            Kind::Notification | Kind::Call if too_large => {
                Err(RpcError::new(RpcError::RESPONSE_TOO_LARGE, "response too large"))
            }
            Kind::Notification | Kind::Call => {
                let params = Params::new(text.clone(), message.take_params());
                call(methods, message.method(), params).await
            }
            Kind::Invalid => Err(RpcError::invalid_request("invalid request")),
        };
        if kind == Kind::Notification {
            continue;
        }
        result_bytes += outcome.as_ref().map_or(0, |result| result.as_bytes().len());
        too_large |= result_bytes > limits.max_batch_response;
        out.push(if out.is_empty() { b'[' } else { b',' });
        answer::push(&mut out, message.id(text), &outcome);
    }
    if !out.is_empty() {
        out.extend_from_slice(b"]\n");
    }
    out
}

async fn call<M: Methods>(methods: &M, method: &str, params: Params) -> Result<RawJson, RpcError> {
    if method.len() > MAX_METHOD_NAME {
        let text = format!("method name too long: {} > {MAX_METHOD_NAME}", method.len());
        return Err(RpcError::invalid_request(text));
    }
    if method.ends_with("_subscribe") {
        return Err(RpcError::new(RpcError::METHOD_NOT_FOUND, "notifications not supported"));
    }
    if method.ends_with("_unsubscribe") {
        return unsubscribe(&params);
    }
    match method.split_once('_') {
        Some(("rpc", "modules")) => {
            params.at_most(0)?;
            Ok(modules(methods.namespace()))
        }
        Some((namespace, name)) if namespace == methods.namespace() => {
            let began = Instant::now();
            let span = trace_span!(target: TARGET, "call", otel.name = format_args!("{namespace}_{name}"));
            let found = methods.call(name, params).instrument(span).await;
            // Only names of methods become labels: there are not more of them than are written down.
            if let Some(outcome) = &found {
                let result = if outcome.is_ok() { "ok" } else { "error" };
                let seconds = began.elapsed().as_secs_f64();
                histogram!(names::RPC_SECONDS, "method" => name.to_owned(), "result" => result)
                    .record(seconds);
            }
            found.unwrap_or_else(|| Err(RpcError::method_not_found(method)))
        }
        _ => Err(RpcError::method_not_found(method)),
    }
}

/// Nobody can have subscribed, but the parameters are looked at first.
fn unsubscribe(params: &Params) -> Result<RawJson, RpcError> {
    let given = match params.raw(0)?.first() {
        Some(b'"' | b'n') => None,
        Some(b'{') => Some("object"),
        Some(b'[') => Some("array"),
        Some(b't' | b'f') => Some("bool"),
        _ => Some("number"),
    };
    if let Some(given) = given {
        let text = format!("invalid argument 0: json: cannot unmarshal {given} into Go value of type rpc.ID");
        return Err(RpcError::invalid_params(text));
    }
    params.at_most(1)?;
    Err(RpcError::method("subscription not found"))
}

/// What `rpc_modules` answers: the namespaces in order of their names.
fn modules(namespace: &str) -> RawJson {
    let modules = std::collections::BTreeMap::from([(namespace, "1.0"), ("rpc", "1.0")]);
    RawJson::of(&modules)
}
