//! The HTTP rules around a call, in the order in which they are applied.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body::Body as _;

use super::{Methods, RpcLimits, engine, media_type};
use crate::fault;
use crate::http::answers::AnswerBudget;
use crate::http::body::{BodyBudget, BodyError, Overlong, read};
use crate::telemetry::within_request;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

pub(super) async fn respond<M: Methods>(
    methods: &M,
    request: Request,
    limits: &RpcLimits,
    bodies: &BodyBudget,
    answers: &AnswerBudget,
) -> Response {
    // Unknown when the body comes in chunks.
    let declared = request.body().size_hint().exact();
    if request.method() == Method::GET
        && declared == Some(0)
        && request.uri().query().unwrap_or("").is_empty()
    {
        // Load balancers probe like this.
        return Response::new(Body::empty());
    }
    if let Some(refusal) = refuse(&request, declared, limits) {
        return refusal;
    }
    let (head, body) = request.into_parts();
    // A body of unknown length is cut at the limit: what fits may be a whole call.
    let collected = match read(body, limits.body_limit, Overlong::Cut, limits.body_pace, bodies).await {
        Ok(collected) => collected,
        // What has come of it is no whole JSON value.
        Err(BodyError::Incomplete(_)) => return json(engine::parse_error()),
        Err(error) => return broken(&error),
    };
    let (text, _held) = collected.into_parts();
    let answer = within_request("rpc", &head.headers, engine::run(methods, text, limits)).await;
    let mut response = json(Vec::new());
    match answers.fill(&mut response, answer.into()).await {
        Ok(()) => response,
        Err(error) => {
            fault::count(fault::NET_OVERLOADED);
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
    }
}

fn json(answer: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(answer));
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn refuse(request: &Request, declared: Option<u64>, limits: &RpcLimits) -> Option<Response> {
    let method = request.method();
    if method == Method::PUT || method == Method::DELETE {
        return Some(plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"));
    }
    if let Some(length) = declared.filter(|&length| length > limits.body_limit as u64) {
        let text = format!("content length too large ({length}>{})\n", limits.body_limit);
        return Some(plain(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    if method == Method::OPTIONS {
        return None;
    }
    let content_type = request.headers().get(header::CONTENT_TYPE);
    if content_type.is_some_and(|value| media_type::is_accepted(value.as_bytes())) {
        return None;
    }
    let text = "invalid content type, only application/json is supported\n";
    Some(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, text))
}

fn broken(error: &BodyError) -> Response {
    let status = match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
        BodyError::Overloaded => {
            fault::count(fault::NET_OVERLOADED);
            StatusCode::SERVICE_UNAVAILABLE
        }
        BodyError::Incomplete(_) => StatusCode::BAD_REQUEST,
    };
    let mut response = plain(status, format!("{error}\n"));
    // The rest of the body is not wanted.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, PLAIN);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
