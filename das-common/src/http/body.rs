//! Receiving a request's body within bounds of size, time and memory.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// The budget counts memory in units of this many bytes.
const UNIT: usize = 1024;
/// A body that is not there in one piece starts with room for this much.
const FIRST_ROOM: usize = 4 * UNIT;

/// From here on a body's room does not grow any more, and its share of the budget grows in steps of this size.
const STEP: usize = 256 * UNIT;

/// How slowly something may come or go: at any time, what has moved must have taken at most `grace` and as long as
/// `bytes_per_second` allows for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Time that is granted on top.
    pub grace: Duration,
    /// The lowest rate on the way.
    pub bytes_per_second: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { grace: Duration::from_secs(20), bytes_per_second: 32 * 1024 }
    }
}

impl Pace {
    /// How much time moving `bytes` may have taken.
    pub fn allowance(&self, bytes: u64) -> Duration {
        self.grace + Duration::from_millis(bytes.saturating_mul(1000) / self.bytes_per_second.max(1))
    }
}

/// Memory that the bodies of a server's requests share.
#[derive(Debug, Clone)]
pub struct BodyBudget {
    units: Arc<Semaphore>,
    patience: Duration,
}

impl BodyBudget {
    /// A budget of this many bytes, rounded up, for which a body waits for so long.
    pub fn new(bytes: usize, patience: Duration) -> Self {
        let units = bytes.div_ceil(UNIT).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), patience }
    }

    async fn acquire(&self, bytes: usize) -> Result<OwnedSemaphorePermit, BodyError> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).map_err(|_| BodyError::Overloaded)?;
        if let Ok(permit) = Arc::clone(&self.units).try_acquire_many_owned(units) {
            return Ok(permit);
        }
        // Everyone may be waiting with half a body each: the first to lose patience frees what it holds.
        match tokio::time::timeout(self.patience, Arc::clone(&self.units).acquire_many_owned(units)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(BodyError::Overloaded),
        }
    }
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLarge {
        /// The longest that is allowed.
        limit: usize,
    },
    /// It came too slowly.
    #[error("the body came too slowly")]
    TooSlow,
    /// Too many bodies are being received at once.
    #[error("too many requests at once, try again")]
    Overloaded,
    /// It broke off, or its framing is wrong.
    #[error("the body is incomplete: {0}")]
    Incomplete(axum::Error),
}

/// What to do with a body that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlong {
    /// Refuse it.
    Refuse,
    /// Take what fits. (A declared length above the limit is refused all the same.)
    Cut,
}

/// A body, and its share of the budget.
#[derive(Debug)]
pub struct Collected {
    bytes: Bytes,
    held: Held,
}

/// A share of the budget, given back when this is dropped.
#[derive(Debug, Default)]
pub struct Held(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

impl Collected {
    /// The body. The share is to be held until the request is answered: what the body was decoded to takes its place.
    pub fn into_parts(self) -> (Bytes, Held) {
        (self.bytes, self.held)
    }
}

/// The body of a request, at most `limit` bytes, with no budget.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, BodyError> {
    let budget = BodyBudget::new(limit, Duration::ZERO);
    Ok(read(body, limit, Overlong::Refuse, Pace::default(), &budget).await?.bytes)
}

/// Receives `body` whole.
///
/// Memory grows with what has arrived, whatever length was announced. (After a quarter of a megabyte, address space is
/// taken for the whole, so that what is there need not be moved again; its pages become memory when they are written.) A
/// body that arrives in one piece is not copied.
pub async fn read(
    mut body: Body,
    limit: usize,
    overlong: Overlong,
    pace: Pace,
    budget: &BodyBudget,
) -> Result<Collected, BodyError> {
    let announced = body.size_hint().exact();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(BodyError::TooLarge { limit });
    }
    let target = announced.map_or(limit, |length| usize::try_from(length).unwrap_or(limit));
    let started = Instant::now();

    let mut buffer: Vec<u8> = Vec::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    let mut accounted = 0;
    loop {
        let deadline = started + pace.allowance(buffer.len() as u64);
        let frame = tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| BodyError::TooSlow)?;
        let Some(frame) = frame else { break };
        let Ok(mut data) = frame.map_err(BodyError::Incomplete)?.into_data() else { continue };
        if data.len() > target - buffer.len() {
            if overlong == Overlong::Refuse {
                return Err(BodyError::TooLarge { limit });
            }
            data.truncate(target - buffer.len());
        }
        let filled = buffer.len() + data.len();
        if buffer.is_empty() && announced == Some(filled as u64) {
            return Ok(Collected { bytes: data, held: Held(held) });
        }
        if filled > accounted {
            let account = (accounted * 2).min(accounted + STEP).max(FIRST_ROOM).max(filled).min(target);
            let more = budget.acquire(account - accounted).await?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            accounted = account;
        }
        if filled > buffer.capacity() {
            let room = if filled >= STEP { target } else { (buffer.capacity() * 2).max(accounted) };
            buffer.reserve_exact(room.min(target) - buffer.len());
        }
        buffer.extend_from_slice(&data);
        if overlong == Overlong::Cut && announced.is_none() && filled == limit {
            break;
        }
    }
    Ok(Collected { bytes: buffer.into(), held: Held(held) })
}
