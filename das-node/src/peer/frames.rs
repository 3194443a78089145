//! Requests and answers between members: a kind or outcome, a length, and bytes that only the layer above understands.
//!
//! ```text
//! request   u8 kind    || u32 length || bytes        kind     0 application, 1 cards
//! answer    u8 outcome || u32 length || bytes        outcome  0 answered, 1 busy, 2 refused
//! ```
//!
//! Numbers are big-endian. A frame is read in steps: memory follows what arrives, not what was promised, and comes out
//! of a budget that all peers share.

use std::io;

use bytes::Bytes;
use das_common::telemetry::{names, traffic};
use futures::prelude::*;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use thiserror::Error;

use super::budget::{Budget, Reservation};
use super::refused;

/// The protocol's name.
pub const FRAME_PROTOCOL: StreamProtocol = StreamProtocol::new("/das/peer/frame/1");

/// Bytes read at once.
const STEP: usize = 64 << 10;

/// What is wrong with a frame.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameError {
    /// Announced longer than allowed.
    #[error("a frame of {got} bytes; at most {limit} are allowed")]
    TooLong {
        /// Bytes announced.
        got: u64,
        /// Most allowed.
        limit: usize,
    },
    /// A kind or an outcome that there is not.
    #[error("a frame of kind {got}, which there is not")]
    Kind {
        /// The byte.
        got: u8,
    },
    /// The budget is used up.
    #[error("the memory for frames is used up")]
    NoMemory,
}

impl FrameError {
    /// Value of the label `reason` of the metric of refusals.
    fn reason(self) -> &'static str {
        match self {
            Self::TooLong { .. } => "too-long",
            Self::Kind { .. } => "malformed",
            Self::NoMemory => "memory",
        }
    }

    /// Counted here, as libp2p tells nobody of a request that could not be read.
    fn io(self) -> io::Error {
        refused(self.reason());
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For the layer above.
    Application,
    /// For this layer: cards of members.
    Cards,
}

/// A request.
#[derive(Debug)]
pub struct FrameRequest {
    /// For whom.
    pub kind: Kind,
    /// The bytes.
    pub bytes: Bytes,
    pub(super) _space: Option<Reservation>,
}

impl FrameRequest {
    /// A request to be sent.
    pub fn new(kind: Kind, bytes: Bytes) -> Self {
        Self { kind, bytes, _space: None }
    }
}

/// How a request was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The bytes are the answer.
    Answered,
    /// Too much is being asked at the moment.
    Busy,
    /// There is no answer.
    Refused,
}

/// An answer.
#[derive(Debug)]
pub struct FrameResponse {
    /// How the request was taken.
    pub outcome: Outcome,
    /// The bytes.
    pub bytes: Bytes,
    pub(super) _space: Option<Reservation>,
}

impl FrameResponse {
    #[cfg(test)]
    fn answered(bytes: Bytes) -> Self {
        Self { outcome: Outcome::Answered, bytes, _space: None }
    }

    pub(super) fn without_bytes(outcome: Outcome) -> Self {
        Self { outcome, bytes: Bytes::new(), _space: None }
    }
}

/// Reads and writes frames within bounds.
#[derive(Clone, Debug)]
pub struct FrameCodec {
    pub(super) max_request: usize,
    pub(super) max_response: usize,
    pub(super) requests: Budget,
    pub(super) responses: Budget,
}

impl FrameCodec {
    /// With bounds in bytes: of one request, of one answer, and of all requests and all answers being received.
    pub fn new(max_request: usize, max_response: usize, all_requests: usize, all_responses: usize) -> Self {
        Self {
            max_request,
            max_response,
            requests: Budget::new(all_requests),
            responses: Budget::new(all_responses),
        }
    }
}

impl Codec for FrameCodec {
    type Protocol = StreamProtocol;
    type Request = FrameRequest;
    type Response = FrameResponse;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<FrameRequest> {
        let kind = match read_byte(io).await? {
            0 => Kind::Application,
            1 => Kind::Cards,
            got => return Err(FrameError::Kind { got }.io()),
        };
        let (bytes, space) = read_bytes(io, self.max_request, &self.requests).await?;
        count("in", "request", bytes.len());
        Ok(FrameRequest { kind, bytes, _space: Some(space) })
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<FrameResponse> {
        let outcome = match read_byte(io).await? {
            0 => Outcome::Answered,
            1 => Outcome::Busy,
            2 => Outcome::Refused,
            got => return Err(FrameError::Kind { got }.io()),
        };
        let (bytes, space) = read_bytes(io, self.max_response, &self.responses).await?;
        count("in", "answer", bytes.len());
        Ok(FrameResponse { outcome, bytes, _space: Some(space) })
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: FrameRequest,
    ) -> io::Result<()> {
        let kind = match request.kind {
            Kind::Application => 0,
            Kind::Cards => 1,
        };
        write(io, kind, &request.bytes).await?;
        count("out", "request", request.bytes.len());
        Ok(())
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        response: FrameResponse,
    ) -> io::Result<()> {
        let outcome = match response.outcome {
            Outcome::Answered => 0,
            Outcome::Busy => 1,
            Outcome::Refused => 2,
        };
        write(io, outcome, &response.bytes).await?;
        count("out", "answer", response.bytes.len());
        Ok(())
    }
}

async fn read_byte(io: &mut (impl AsyncRead + Unpin)) -> io::Result<u8> {
    let mut byte = [0];
    io.read_exact(&mut byte).await?;
    Ok(byte[0])
}

async fn read_bytes(
    io: &mut (impl AsyncRead + Unpin),
    limit: usize,
    budget: &Budget,
) -> io::Result<(Bytes, Reservation)> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    let too_long = || FrameError::TooLong { got: u64::from(length), limit }.io();
    let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or_else(too_long)?;
    let no_memory = || FrameError::NoMemory.io();
    let mut space = budget.reserve(0).ok_or_else(no_memory)?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let have = bytes.len();
        let step = STEP.min(length - have);
        if bytes.capacity() < have + step {
            // Twice what has arrived, never more than will be needed.
            let more = have.max(step).min(length - have);
            if !space.grow(more) {
                return Err(no_memory());
            }
            bytes.reserve_exact(more);
        }
        bytes.resize(have + step, 0);
        io.read_exact(&mut bytes[have..]).await?;
    }
    Ok((bytes.into(), space))
}

async fn write(io: &mut (impl AsyncWrite + Unpin), first: u8, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut head = [first, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_be_bytes());
    io.write_all(&head).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

fn count(direction: &'static str, kind: &'static str, bytes: usize) {
    metrics::counter!(names::PEER_FRAMES, "direction" => direction, "kind" => kind).increment(1);
    metrics::counter!(names::PEER_BYTES, "direction" => direction, "kind" => kind).increment(bytes as u64);
    match direction {
        "in" => traffic().received(bytes),
        _ => traffic().sent(bytes),
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;

    use super::*;

    async fn read(bytes: Vec<u8>) -> Result<(FrameRequest, Budget), Option<FrameError>> {
        let mut codec = FrameCodec::new(1 << 20, 10, 2 << 20, 10);
        let request = codec.read_request(&FRAME_PROTOCOL, &mut Cursor::new(bytes)).await;
        match request {
            Ok(request) => Ok((request, codec.requests)),
            Err(error) => {
                assert_eq!(codec.requests.used(), 0, "what was reserved is given back");
                Err(error.get_ref().and_then(|inner| inner.downcast_ref::<FrameError>()).copied())
            }
        }
    }

    fn frame(kind: u8, length: u32, bytes: usize) -> Vec<u8> {
        [&[kind][..], &length.to_be_bytes(), &vec![7; bytes]].concat()
    }

    #[tokio::test]
    async fn frames_come_back_as_they_were() {
        for length in [0, 1, STEP - 1, STEP, STEP + 1, 5 * STEP + 3, 1 << 20] {
            let mut codec = FrameCodec::new(1 << 20, 1 << 20, 2 << 20, 2 << 20);
            let bytes = Bytes::from(vec![3; length]);
            let mut wire = Cursor::new(Vec::new());
            let request = FrameRequest::new(Kind::Application, bytes.clone());
            codec.write_request(&FRAME_PROTOCOL, &mut wire, request).await.unwrap();
            wire.set_position(0);
            let read = codec.read_request(&FRAME_PROTOCOL, &mut wire).await.unwrap();
            assert_eq!((read.kind, &read.bytes), (Kind::Application, &bytes));
            assert_eq!(codec.requests.used(), length, "no more memory than bytes");
            let mut wire = Cursor::new(Vec::new());
            let answer = FrameResponse::answered(bytes.clone());
            codec.write_response(&FRAME_PROTOCOL, &mut wire, answer).await.unwrap();
            wire.set_position(0);
            let read = codec.read_response(&FRAME_PROTOCOL, &mut wire).await.unwrap();
            assert_eq!((read.outcome, read.bytes), (Outcome::Answered, bytes));
        }
    }

    #[tokio::test]
    async fn what_is_promised_costs_nothing_until_it_arrives() {
        let too_long = FrameError::TooLong { got: (1 << 20) + 1, limit: 1 << 20 };
        assert_eq!(read(frame(0, (1 << 20) + 1, 0)).await.unwrap_err(), Some(too_long));
        assert_eq!(read(frame(9, 1, 1)).await.unwrap_err(), Some(FrameError::Kind { got: 9 }));
        assert_eq!(read(frame(0, 1 << 20, STEP + 1)).await.unwrap_err(), None, "cut short");
        assert_eq!(read(vec![0, 0]).await.unwrap_err(), None);
        let (request, budget) = read(frame(1, 5, 5)).await.unwrap();
        assert_eq!((request.kind, budget.used()), (Kind::Cards, 5));
        drop(request);
        assert_eq!(budget.used(), 0);
        // Two of the largest fill the budget; the third has to wait for another time.
        let mut codec = FrameCodec::new(1 << 20, 10, 2 << 20, 10);
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut wire = Cursor::new(frame(0, 1 << 20, 1 << 20));
            held.push(codec.read_request(&FRAME_PROTOCOL, &mut wire).await.unwrap());
        }
        let mut wire = Cursor::new(frame(0, 1, 1));
        let error = codec.read_request(&FRAME_PROTOCOL, &mut wire).await.unwrap_err();
        assert_eq!(error.to_string(), FrameError::NoMemory.to_string());
        held.pop();
        wire.set_position(0);
        assert!(codec.read_request(&FRAME_PROTOCOL, &mut wire).await.is_ok());
    }
}
