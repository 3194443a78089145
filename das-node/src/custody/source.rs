//! Shards and whole copies from other members' disks.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use das_common::binding::MemberId;
use das_common::committee::CodingId;
use das_common::custody::message::{PeerRequest, PeerResponse};
use das_common::custody::{Coding, MemberKey};
use das_common::data_hash::DataHash;
use das_common::erasure::Shard;

use crate::gather::{ShardSource, SourceError};
use crate::peer::{AskError, PeerHandle};

/// The longest that an answer is waited for; a gather gives up sooner when it has what it needs.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest batch or shard.
pub(super) const MAX_PAYLOAD: usize = 64 << 20;

/// The members of one coding, as peers.
pub(super) struct PeerSource {
    peers: PeerHandle,
    /// By index in the coding.
    members: Vec<Option<MemberId>>,
}

impl PeerSource {
    pub(super) fn new(peers: PeerHandle, coding: &Coding, ids: &HashMap<MemberKey, MemberId>) -> Self {
        Self { peers, members: coding.members.iter().map(|key| ids.get(key).copied()).collect() }
    }

    async fn ask(&self, member: usize, request: &PeerRequest) -> Result<PeerResponse, SourceError> {
        let member = self.members.get(member).copied().flatten().ok_or(SourceError::Unreachable)?;
        ask(&self.peers, member, request, PATIENCE).await
    }
}

/// Asks a member, and reads its answer.
pub(super) async fn ask(
    peers: &PeerHandle,
    member: MemberId,
    request: &PeerRequest,
    patience: Duration,
) -> Result<PeerResponse, SourceError> {
    let answer =
        peers.ask(member, request.to_bytes().into(), patience).await.map_err(|error| match error {
            AskError::NotConnected | AskError::Stopped => SourceError::Unreachable,
            AskError::Busy | AskError::Refused | AskError::TooMany { .. } | AskError::TooLong { .. } => {
                SourceError::Refused
            }
            AskError::Timeout { .. } | AskError::Lost { .. } => SourceError::NoAnswer,
        })?;
    match PeerResponse::from_bytes(&answer, request.answer_limit(MAX_PAYLOAD)) {
        Ok(PeerResponse::Busy) => Err(SourceError::Refused),
        Ok(answer) => Ok(answer),
        Err(_) => Err(SourceError::Malformed),
    }
}

impl ShardSource for PeerSource {
    async fn shard(&self, member: usize, hash: DataHash, coding: CodingId) -> Result<Shard, SourceError> {
        match self.ask(member, &PeerRequest::Shard { hash, coding }).await? {
            PeerResponse::Shard(Some(shard)) => Ok(shard.into()),
            PeerResponse::Shard(None) => Err(SourceError::Absent),
            PeerResponse::OnlyWhole { data_length } => Err(SourceError::OnlyWhole { data_length }),
            _ => Err(SourceError::Malformed),
        }
    }

    async fn whole(&self, member: usize, hash: DataHash) -> Result<Bytes, SourceError> {
        match self.ask(member, &PeerRequest::Whole { hash }).await? {
            PeerResponse::Whole(Some(bytes)) => Ok(bytes.into()),
            PeerResponse::Whole(None) => Err(SourceError::Absent),
            _ => Err(SourceError::Malformed),
        }
    }
}
