//! JSON-RPC 2.0 over HTTP, as spec section 6 has it.
//!
//! A server implements [`Methods`] and mounts [`router`]. What is promised to it and to its clients:
//!
//! * A request costs what was received of it and no more: the body is bounded, its memory grows with what has arrived
//!   and is accounted in a budget that all requests of the router share, batches are bounded in length and in what
//!   they answer, and no nesting, number or string in it reaches the stack.
//! * What a client does not read of its answer is held within a budget too ([`AnswerBudget`]).
//! * A large parameter is looked at twice in all: once by the vector search that finds its end, once by the
//!   hex decoder that writes its bytes where they stay.
//! * Ids are echoed as they were written, up to a length that no client needs, and errors are those that callers match on.
//!
//! ```text
//! body ── scan ──► messages ── namespace_method ──► Methods::call(params) ──► answer
//!          │          positions in the body              decoded from the body
//!          └► parse error
//! ```

mod answer;
mod engine;
mod error;
mod media_type;
mod over_http;
mod params;
mod request;
mod scan;
mod text;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use answer::RawJson;
pub use error::RpcError;
pub use params::Params;

use crate::http::answers::AnswerBudget;
use crate::http::body::{BodyBudget, Pace};

/// The methods of one namespace.
pub trait Methods: Send + Sync + 'static {
    /// What stands before the underscore in the names of the methods.
    fn namespace(&self) -> &'static str;

    /// Runs the method of this name (without namespace and underscore); `None` when there is none.
    ///
    /// Calls of one batch run one after the other; calls of different requests run at once.
    fn call(
        &self,
        method: &str,
        params: Params,
    ) -> impl Future<Output = Option<Result<RawJson, RpcError>>> + Send;
}

/// What a request may cost.
#[derive(Debug, Clone, Copy)]
pub struct RpcLimits {
    /// Bytes of a body; a longer one is refused before it is read.
    pub body_limit: usize,
    /// How slowly a body may arrive.
    pub body_pace: Pace,
    /// Bytes of all bodies that are being received or worked on at once. Beyond, requests wait, then get a 503.
    pub bodies_in_flight: usize,
    /// Bytes of all answers that are being sent at once, apart from small ones. Beyond, answers wait, then become a 503.
    pub answers_in_flight: usize,
    /// How long they wait.
    pub patience: Duration,
    /// Messages in one batch.
    pub max_batch: usize,
    /// Bytes of results in the answer to one batch; calls beyond get an error.
    pub max_batch_response: usize,
}

impl Default for RpcLimits {
    fn default() -> Self {
        Self {
            body_limit: 5 * 1024 * 1024,
            body_pace: Pace::default(),
            bodies_in_flight: 256 * 1024 * 1024,
            answers_in_flight: 256 * 1024 * 1024,
            patience: Duration::from_secs(10),
            max_batch: 1000,
            max_batch_response: 25_000_000,
        }
    }
}

/// Serves `methods` on every path, with the HTTP rules of spec section 6.
pub fn router<M: Methods>(methods: Arc<M>, limits: RpcLimits) -> axum::Router {
    let bodies = BodyBudget::new(limits.bodies_in_flight, limits.patience);
    let answers = AnswerBudget::new(limits.answers_in_flight, limits.patience);
    axum::Router::new().fallback(move |request: axum::extract::Request| {
        let (methods, bodies, answers) = (Arc::clone(&methods), bodies.clone(), answers.clone());
        async move { over_http::respond(&*methods, request, &limits, &bodies, &answers).await }
    })
}

/// Answers one request's body without HTTP around it; empty when there is nothing to answer. For tests and benchmarks.
pub async fn run_request<M: Methods>(methods: &M, text: bytes::Bytes, limits: &RpcLimits) -> Vec<u8> {
    engine::run(methods, text, limits).await
}
