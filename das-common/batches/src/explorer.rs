//! The batch explorer: posted batches for people and for programs.
//!
//! What it promises, also to callers that mean harm:
//!
//! * An answer is of the chain as it is known now: a listing read page by page has every batch that was there all the
//!   time exactly once, whatever was posted or taken back meanwhile, because a cursor names an era and a number.
//! * A payload is hashed before its first byte is sent, and a check says of a batch what every node would say.
//! * Nothing is unbounded: every parameter has a limit, keysets and payloads are asked for few at a time and not longer
//!   than a named time, large answers share the memory of an [`AnswerBudget`].
//! * Whatever comes from outside is escaped where it is written into a page, and a page can load nothing and run nothing.
//!
//! ```text
//! request ──► api, pages      a handler per route
//!               │  query      parameters, checked once
//!               ▼
//!             listing, verify ──► Batches, Signers, Payloads
//!               │
//!               ▼
//!             shapes (JSON) or pages (HTML) ──► answer: headers, and refusals in the form of the route
//! ```
//!
//! docs/explorer.md describes routes and shapes.

mod answer;
mod api;
mod clock;
mod listing;
mod pages;
mod query;
mod refusal;
mod rosters;
mod search;
mod shapes;
mod sources;
mod verify;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use das_common::http::answers::AnswerBudget;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::types::Batches;
pub use pages::{BadLink, LinkTemplate, Links};
use refusal::Refusal;
pub use sources::{Availability, KeysetOf, NamedKeysets, PayloadUnavailable, Payloads, Signers};

/// Reads of the index under way at once.
const MAX_READS: usize = 32;
/// Questions about availability under way at once.
const MAX_QUESTIONS: usize = 16;
/// Payloads being fetched at once, for a download or a check.
const MAX_FETCHES: usize = 4;
/// How long a request waits for one of these places.
const PATIENCE: Duration = Duration::from_secs(10);
/// A keyset that takes longer is left out of a page.
const KEYSET_PATIENCE: Duration = Duration::from_secs(3);
/// Availability that takes longer cannot be told.
const AVAILABILITY_PATIENCE: Duration = Duration::from_secs(5);
/// A payload that takes longer cannot be read.
const FETCH_PATIENCE: Duration = Duration::from_secs(30);

/// What is shown, and whom it is asked from.
pub struct Explorer {
    batches: Arc<dyn Batches>,
    signers: Arc<dyn Signers>,
    payloads: Arc<dyn Payloads>,
    links: Links,
    answers: AnswerBudget,
    reads: Arc<Semaphore>,
    questions: Semaphore,
    fetches: Semaphore,
}

impl Explorer {
    /// An explorer whose large answers share `answers` with whatever else is on its port.
    pub fn new(
        batches: Arc<dyn Batches>,
        signers: Arc<dyn Signers>,
        payloads: Arc<dyn Payloads>,
        links: Links,
        answers: AnswerBudget,
    ) -> Self {
        Self {
            batches,
            signers,
            payloads,
            links,
            answers,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            questions: Semaphore::new(MAX_QUESTIONS),
            fetches: Semaphore::new(MAX_FETCHES),
        }
    }

    /// Reads from the index, away from the threads that serve. The place is given back when the read is done, also when
    /// nobody waits for it any more.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Batches) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let place = patient(Arc::clone(&self.reads).acquire_owned()).await?.map_err(|_| Refusal::Busy)?;
        let batches = Arc::clone(&self.batches);
        tokio::task::spawn_blocking(move || {
            let _place = place;
            work(&*batches)
        })
        .await
        .unwrap_or(Err(Refusal::Lost))
    }

    async fn question(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        patient(self.questions.acquire()).await?.map_err(|_| Refusal::Busy)
    }

    async fn fetch_place(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        patient(self.fetches.acquire()).await?.map_err(|_| Refusal::Busy)
    }
}

async fn patient<T>(place: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::time::timeout(PATIENCE, place).await.map_err(|_| Refusal::Busy)
}

/// The routes of the explorer's port.
pub fn routes(explorer: Arc<Explorer>) -> Router {
    Router::new()
        .route("/", get(pages::newest))
        .route("/batch/{number}", get(pages::batch))
        .route("/batch/{number}/verify", get(pages::verify))
        .route("/search", get(pages::search))
        .route("/api/batches", get(api::batches))
        .route("/api/batches/{number}", get(api::batch))
        .route("/api/batches/{number}/payload", get(api::payload))
        .route("/api/batches/{number}/verify", get(api::verify))
        .route("/api/batches/by-hash/{hash}", get(api::by_hash))
        .route("/api/batches/by-transaction/{hash}", get(api::by_transaction))
        .route("/api/batches/at/{time}", get(api::at))
        .route("/api/eras", get(api::eras))
        .route("/api/progress", get(api::progress))
        .route("/api/search", get(api::search))
        .fallback(async || Refusal::NoSuchPage)
        .method_not_allowed_fallback(async || Refusal::Method)
        .layer(axum::middleware::from_fn(answer::finish))
        .with_state(explorer)
}
