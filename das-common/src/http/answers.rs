//! The memory of answers on their way out.
//!
//! A client that asks for much and reads nothing makes the server hold the answer for it. So what a port's answers may
//! hold together is bounded, and counted until their last byte was handed to the system or their connection is gone:
//!
//! ```text
//! answer ──► small ─────────────────────────────────────────► sent, uncounted
//!   └──────► its length is free ────────────────────────────► sent, counted
//!   └──────► not free: room to wait? ──► in time ───────────► sent, counted
//!                  └► no ──┴► too late ─────────────────────► refused with 503
//! ```
//!
//! While somebody waits, who takes an answer slowly is cut off early ([`AnswerBudget::is_wanted`]): holding memory for a
//! trickle must not keep others from theirs.
//!
//! A batch that many read at once is in memory once, and counts once ([`Counted`]).

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget counts memory in units of this many bytes.
const UNIT: usize = 1024;
/// Answers up to this length are not counted: the number of connections bounds them.
pub const SMALL: usize = 64 * UNIT;
/// Answers that wait are in memory too; they may take this part of the budget on top of it.
const WAITING_PART: usize = 4;

/// The answers in flight take all the memory that they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many answers are being sent at once, try again")]
pub struct Exhausted;

/// Memory that the answers of one port share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AnswerBudget {
    units: Arc<Semaphore>,
    all_units: u32,
    waiting: Arc<Semaphore>,
    all_waiting: u32,
    patience: Duration,
}

impl AnswerBudget {
    /// How long an answer waits for memory, unless said otherwise. Longer than it takes to find out who is slow.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// A budget of this many bytes, for which an answer waits for so long.
    pub fn new(bytes: usize, patience: Duration) -> Self {
        let all_units = units(bytes).max(1);
        let all_waiting = units(bytes / WAITING_PART).max(1);
        Self {
            units: Arc::new(Semaphore::new(all_units as usize)),
            all_units,
            waiting: Arc::new(Semaphore::new(all_waiting as usize)),
            all_waiting,
            patience,
        }
    }

    /// Is an answer waiting for memory?
    pub fn is_wanted(&self) -> bool {
        self.waiting.available_permits() < self.all_waiting as usize
    }

    /// Makes `answer` the body of `response`.
    pub async fn fill(&self, response: &mut Response, answer: Bytes) -> Result<(), Exhausted> {
        self.fill_counted(response, answer, None).await
    }

    /// Makes `answer` the body of `response`; it counts once among all that share `counted`.
    pub async fn fill_counted(
        &self,
        response: &mut Response,
        answer: Bytes,
        counted: Option<&Counted>,
    ) -> Result<(), Exhausted> {
        let body = if answer.len() <= SMALL {
            answer
        } else {
            let shared = counted.and_then(Counted::held);
            let held = match shared {
                Some(held) => held,
                None => {
                    let held = Arc::new(self.acquire(answer.len()).await?);
                    if let Some(counted) = counted {
                        *counted.0.lock() = Arc::downgrade(&held);
                    }
                    held
                }
            };
            // For whoever watches over the connection.
            response.extensions_mut().insert(self.clone());
            Bytes::from_owner(Holding { answer, _held: held })
        };
        *response.body_mut() = Body::from(body);
        Ok(())
    }

    async fn acquire(&self, bytes: usize) -> Result<Held, Exhausted> {
        // An answer larger than the whole budget is sent when it is the only one.
        let wanted = units(bytes).min(self.all_units);
        if let Ok(permit) = Arc::clone(&self.units).try_acquire_many_owned(wanted) {
            return Ok(Held { _permit: permit });
        }
        let place = self.waiting.try_acquire_many(wanted.min(self.all_waiting)).map_err(|_| Exhausted)?;
        let waited =
            tokio::time::timeout(self.patience, Arc::clone(&self.units).acquire_many_owned(wanted)).await;
        drop(place);
        match waited {
            Ok(Ok(permit)) => Ok(Held { _permit: permit }),
            Ok(Err(_)) | Err(_) => Err(Exhausted),
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX)
}

/// A share of the budget, given back when this is dropped.
#[derive(Debug)]
struct Held {
    _permit: OwnedSemaphorePermit,
}

/// The share of one piece of memory that may be the answer to many requests at once. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Counted(Arc<Mutex<Weak<Held>>>);

impl Counted {
    fn held(&self) -> Option<Arc<Held>> {
        self.0.lock().upgrade()
    }
}

/// The bytes of an answer, which keep its share for as long as anything refers to them: the body itself is dropped as
/// soon as it was queued, long before it was sent.
struct Holding {
    answer: Bytes,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Holding {
    fn as_ref(&self) -> &[u8] {
        &self.answer
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    const MB: usize = 1 << 20;

    fn answer(bytes: usize) -> Bytes {
        vec![7; bytes].into()
    }

    async fn send(
        budget: &AnswerBudget,
        answer: Bytes,
        counted: Option<&Counted>,
    ) -> Result<Response, Exhausted> {
        let mut response = Response::new(Body::empty());
        budget.fill_counted(&mut response, answer, counted).await.map(|()| response)
    }

    #[tokio::test]
    async fn an_answer_counts_until_its_bytes_are_gone() {
        let budget = AnswerBudget::new(4 * MB, Duration::ZERO);
        let first = send(&budget, answer(3 * MB), None).await.unwrap();
        assert_eq!(send(&budget, answer(2 * MB), None).await.unwrap_err(), Exhausted);
        for _ in 0..1000 {
            send(&budget, answer(SMALL), None).await.unwrap();
        }
        let bytes = first.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(bytes.len(), 3 * MB);
        let queued = bytes.slice(5..);
        drop(bytes);
        assert_eq!(send(&budget, answer(2 * MB), None).await.unwrap_err(), Exhausted, "not sent yet");
        drop(queued);
        send(&budget, answer(2 * MB), None).await.unwrap();
        send(&budget, answer(100 * MB), None).await.expect("alone, one above the bound is sent");
    }

    #[tokio::test]
    async fn one_piece_of_memory_counts_once() {
        let budget = AnswerBudget::new(4 * MB, Duration::ZERO);
        let (batch, counted) = (answer(3 * MB), Counted::default());
        let responses: Vec<_> =
            futures::future::join_all((0..100).map(|_| send(&budget, batch.clone(), Some(&counted)))).await;
        assert!(responses.iter().all(Result::is_ok));
        assert_eq!(send(&budget, answer(3 * MB), None).await.unwrap_err(), Exhausted);
        drop(responses);
        send(&budget, answer(3 * MB), None).await.unwrap();
    }

    #[tokio::test]
    async fn few_wait_and_are_served_when_there_is_room_again() {
        let budget = AnswerBudget::new(4 * MB, Duration::from_secs(60));
        let first = send(&budget, answer(4 * MB), None).await.unwrap();
        assert!(!budget.is_wanted());
        let waits = tokio::spawn({
            let budget = budget.clone();
            async move { send(&budget, answer(MB), None).await.is_ok() }
        });
        while !budget.is_wanted() {
            tokio::task::yield_now().await;
        }
        assert_eq!(send(&budget, answer(MB), None).await.unwrap_err(), Exhausted, "no room to wait in");
        drop(first);
        assert!(waits.await.unwrap());
        assert!(!budget.is_wanted());
    }
}
