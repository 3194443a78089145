//! What the layers above hold: a handle to ask and publish with, and the events that come out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use das_common::binding::{MemberId, SignedBinding, VerifiedBinding};
use das_common::committee::Committee;
use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::request_response::ResponseChannel;
use libp2p::{Multiaddr, PeerId};
use parking_lot::RwLock;
use schemars::JsonSchema;
use serde::Serialize;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::budget::Reservation;
use super::frames::{FrameResponse, Outcome};

/// Why there is no answer.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AskError {
    /// Nobody of that id, or not connected.
    #[error("the member is not connected")]
    NotConnected,
    /// The request is longer than allowed.
    #[error("the request is {got} bytes long; at most {limit} are allowed")]
    TooLong {
        /// Bytes.
        got: usize,
        /// Most allowed.
        limit: usize,
    },
    /// Too many requests wait for this member already.
    #[error("{limit} requests wait for this member already")]
    TooMany {
        /// Most allowed.
        limit: usize,
    },
    /// No answer in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// The time given.
        after: Duration,
    },
    /// The member has too much to do.
    #[error("the member is busy")]
    Busy,
    /// The member has no answer.
    #[error("the member refused to answer")]
    Refused,
    /// The connection broke, or what came was no answer.
    #[error("the answer was lost: {reason}")]
    Lost {
        /// What happened.
        reason: String,
    },
    /// The peer layer has ended.
    #[error("the peer layer has ended")]
    Stopped,
}

/// Why a message was not published.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PublishError {
    /// Nobody to send it to.
    #[error("no member is connected")]
    NoPeers,
    /// Longer than allowed.
    #[error("the message is {got} bytes long; at most {limit} are allowed")]
    TooLong {
        /// Bytes.
        got: usize,
        /// Most allowed.
        limit: usize,
    },
    /// The queues to all members are full, or the message cannot be signed.
    #[error("the message cannot be sent: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The peer layer has ended.
    #[error("the peer layer has ended")]
    Stopped,
}

/// What happens.
#[derive(Debug)]
pub enum PeerEvent {
    /// A member is connected, and both sides have shown their bindings.
    Up(MemberId),
    /// Its last connection is gone.
    Down(MemberId),
    /// A published message. Until it is accepted it goes no further.
    Gossip {
        /// Who wrote and signed it (not necessarily who passed it on).
        from: MemberId,
        /// The message.
        bytes: Bytes,
        /// What becomes of it; dropped, it is ignored.
        verdict: Verdict,
    },
    /// A request.
    Asked {
        /// Who asks.
        from: MemberId,
        /// The request.
        bytes: Bytes,
        /// To answer with; dropped, the request is refused.
        reply: Reply,
    },
}

/// What the handle tells the network.
#[derive(Debug)]
pub(super) enum Command {
    Ask { member: MemberId, bytes: Bytes, answer: oneshot::Sender<Result<Bytes, AskError>> },
    Publish { bytes: Bytes, done: oneshot::Sender<Result<(), PublishError>> },
    Answer { member: MemberId, channel: ResponseChannel<FrameResponse>, outcome: Outcome, bytes: Bytes },
    Judge { message: MessageId, source: PeerId, acceptance: MessageAcceptance },
    Committees { committees: Vec<Arc<Committee>>, done: oneshot::Sender<()> },
    Disconnect { member: MemberId },
    Listening { done: oneshot::Sender<Vec<Multiaddr>> },
    Stop { done: oneshot::Sender<()> },
}

/// The answer to a request, still to be given.
#[derive(Debug)]
pub struct Reply {
    pub(super) member: MemberId,
    pub(super) channel: Option<ResponseChannel<FrameResponse>>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    /// Of the request's bytes.
    pub(super) space: Option<Reservation>,
}

impl Reply {
    /// Answers. Bytes beyond the bound of an answer turn it into a refusal.
    pub fn send(mut self, bytes: Bytes) {
        self.give(Outcome::Answered, bytes);
    }

    /// Says that there is too much to do at the moment.
    pub fn busy(mut self) {
        self.give(Outcome::Busy, Bytes::new());
    }

    /// Whether anybody still waits for it.
    pub fn is_wanted(&self) -> bool {
        self.channel.as_ref().is_some_and(ResponseChannel::is_open)
    }

    fn give(&mut self, outcome: Outcome, bytes: Bytes) {
        if let Some(channel) = self.channel.take() {
            // When the network has ended nobody waits.
            let _ = self.commands.send(Command::Answer { member: self.member, channel, outcome, bytes });
        }
        self.space = None;
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.give(Outcome::Refused, Bytes::new());
    }
}

/// What becomes of a published message. It is passed on to others only if accepted within seconds.
#[derive(Debug)]
pub struct Verdict {
    pub(super) message: Option<MessageId>,
    pub(super) source: PeerId,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) _space: Option<Reservation>,
}

impl Verdict {
    /// It is good: let it travel on.
    pub fn accept(mut self) {
        self.judge(MessageAcceptance::Accept);
    }

    /// It is not what its author may say.
    pub fn reject(mut self) {
        self.judge(MessageAcceptance::Reject);
    }

    fn judge(&mut self, acceptance: MessageAcceptance) {
        if let Some(message) = self.message.take() {
            let _ = self.commands.send(Command::Judge { message, source: self.source, acceptance });
        }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        self.judge(MessageAcceptance::Ignore);
    }
}

/// A member as it is seen from here.
#[derive(Clone, Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberStatus {
    /// Who.
    #[serde(skip)]
    pub member: MemberId,
    /// Its name in the committee file.
    pub name: String,
    /// Whether it is a mirror.
    pub mirror: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// Its peer id, if its binding is known.
    pub peer_id: Option<String>,
    /// Its newest binding, to be kept with what it signs; a mirror has none.
    #[serde(skip)]
    pub binding: Option<VerifiedBinding>,
    /// The address of the connection, or where it is dialled.
    pub address: Option<String>,
    /// When it last came or went (unix seconds).
    pub since: Option<u64>,
    /// Time of the last ping's way there and back.
    #[serde(skip)]
    pub rtt: Option<Duration>,
    /// How far its clock was ahead of ours when it connected, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// Its index in the newest committee that it is of.
    pub index: Option<u8>,
    /// Why it could not be reached, or was refused, the last time.
    pub last_error: Option<String>,
}

/// The peer layer, from above. Clones are of the same layer; it ends with [`PeerHandle::stop`] or the last clone.
#[derive(Clone, Debug)]
pub struct PeerHandle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) status: Arc<RwLock<Vec<MemberStatus>>>,
    pub(super) own: MemberId,
    pub(super) own_binding: Arc<RwLock<Option<SignedBinding>>>,
    pub(super) max_request: usize,
    pub(super) max_gossip: usize,
}

impl PeerHandle {
    /// This node.
    pub fn own(&self) -> MemberId {
        self.own
    }

    /// This node's binding, once it is signed; a mirror has none.
    pub fn own_binding(&self) -> Option<SignedBinding> {
        self.own_binding.read().clone()
    }

    /// Asks a connected member.
    ///
    /// # Errors
    /// At once when it is not connected; else when it is busy, refuses, or does not answer in time.
    pub async fn ask(&self, member: MemberId, bytes: Bytes, timeout: Duration) -> Result<Bytes, AskError> {
        if bytes.len() > self.max_request {
            return Err(AskError::TooLong { got: bytes.len(), limit: self.max_request });
        }
        let asked = async {
            let (answer, answered) = oneshot::channel();
            let command = Command::Ask { member, bytes, answer };
            self.commands.send(command).await.map_err(|_| AskError::Stopped)?;
            answered.await.unwrap_or(Err(AskError::Stopped))
        };
        tokio::time::timeout(timeout, asked).await.unwrap_or(Err(AskError::Timeout { after: timeout }))
    }

    /// Sends a message, signed, to all members; they pass it on to those who are not connected here.
    ///
    /// # Errors
    /// When nobody is connected or the message is too long. That it is sent does not mean that it arrives.
    pub async fn publish(&self, bytes: Bytes) -> Result<(), PublishError> {
        if bytes.len() > self.max_gossip {
            return Err(PublishError::TooLong { got: bytes.len(), limit: self.max_gossip });
        }
        let (done, published) = oneshot::channel();
        let command = Command::Publish { bytes, done };
        self.commands.send(command).await.map_err(|_| PublishError::Stopped)?;
        published.await.unwrap_or(Err(PublishError::Stopped))
    }

    /// All members and mirrors but this node.
    pub fn members(&self) -> Vec<MemberStatus> {
        self.status.read().clone()
    }

    /// Those who are connected.
    pub fn connected(&self) -> Vec<MemberStatus> {
        self.status.read().iter().filter(|status| status.connected).cloned().collect()
    }

    /// Whether a member is connected.
    pub fn is_connected(&self, member: MemberId) -> bool {
        self.status.read().iter().any(|status| status.member == member && status.connected)
    }

    /// The committees of which unexpired batches are held, the newest last. Members of none of them are disconnected;
    /// a new binding that names the places in all of them is signed and shown.
    pub async fn set_committees(&self, committees: Vec<Arc<Committee>>) {
        let (done, set) = oneshot::channel();
        if self.commands.send(Command::Committees { committees, done }).await.is_ok() {
            let _ = set.await;
        }
    }

    /// Closes the connections of a member; it is dialled again.
    pub async fn disconnect(&self, member: MemberId) {
        let _ = self.commands.send(Command::Disconnect { member }).await;
    }

    /// The addresses listened on, with this node's peer id.
    pub async fn listening(&self) -> Vec<Multiaddr> {
        let (done, listening) = oneshot::channel();
        if self.commands.send(Command::Listening { done }).await.is_err() {
            return Vec::new();
        }
        listening.await.unwrap_or_default()
    }

    /// Closes all connections and ends. Returns when they are closed.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { done }).await.is_ok() {
            let _ = stopped.await;
        }
    }
}
