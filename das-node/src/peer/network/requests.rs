//! Questions and answers, and gossip, of members.

use std::time::Instant;

use bytes::Bytes;
use das_common::binding::MemberId;
use das_common::telemetry::names;
use libp2p::PeerId;
use libp2p::gossipsub::{self, MessageAcceptance};
use libp2p::request_response::{self, InboundFailure, OutboundFailure, ResponseChannel};
use libp2p::swarm::ConnectionId;
use tokio::sync::oneshot;
use tracing::debug;

use super::{GOSSIP_TOPIC, PeerNetwork, refused};
use crate::peer::frames::{FrameRequest, FrameResponse, Kind, Outcome};
use crate::peer::handle::{AskError, PeerEvent, PublishError, Reply, Verdict};

/// A question under way.
pub(super) enum Ask {
    /// Of the layer above.
    Application { member: MemberId, answer: oneshot::Sender<Result<Bytes, AskError>> },
    /// Of this layer.
    Cards { member: MemberId },
}

impl Ask {
    pub(super) fn member(&self) -> MemberId {
        match self {
            Self::Application { member, .. } | Self::Cards { member } => *member,
        }
    }

    /// Whether somebody waits for the answer.
    pub(super) fn is_wanted(&self) -> bool {
        match self {
            Self::Application { answer, .. } => !answer.is_closed(),
            Self::Cards { .. } => true,
        }
    }
}

type FramesEvent = request_response::Event<FrameRequest, FrameResponse>;

impl PeerNetwork {
    pub(super) fn ask(
        &mut self,
        id: MemberId,
        bytes: Bytes,
        answer: oneshot::Sender<Result<Bytes, AskError>>,
    ) {
        let limit = self.options.limits.asks_per_member;
        let refusal = match self.members.get(id) {
            Some(member) if member.is_up() && member.asks >= limit => AskError::TooMany { limit },
            Some(member) if member.is_up() => match member.card.as_ref().map(|card| card.peer) {
                Some(peer) => {
                    member.asks += 1;
                    let request = FrameRequest::new(Kind::Application, bytes);
                    let sent = self.swarm.behaviour_mut().frames.inner().send_request(&peer, request);
                    self.asks.insert(sent, Ask::Application { member: id, answer });
                    return;
                }
                None => AskError::NotConnected,
            },
            _ => AskError::NotConnected,
        };
        // Whoever asked may have gone.
        let _ = answer.send(Err(refusal));
    }

    pub(super) fn on_frames(&mut self, event: FramesEvent) {
        use request_response::Message;
        match event {
            FramesEvent::Message { peer, connection_id, message } => match message {
                Message::Request { request, channel, .. } => {
                    self.asked(peer, connection_id, request, channel);
                }
                Message::Response { request_id, response } => {
                    let Some(ask) = self.asks.remove(&request_id) else { return };
                    self.members.ask_done(ask.member());
                    self.answered(ask, &response);
                }
            },
            FramesEvent::OutboundFailure { request_id, error, .. } => {
                let Some(ask) = self.asks.remove(&request_id) else { return };
                self.members.ask_done(ask.member());
                if let Ask::Application { answer, .. } = ask {
                    let after = self.options.limits.answer_timeout;
                    let _ = answer.send(Err(match error {
                        OutboundFailure::Timeout => AskError::Timeout { after },
                        other => AskError::Lost { reason: other.to_string() },
                    }));
                }
            }
            FramesEvent::InboundFailure { peer, error, .. } => match error {
                InboundFailure::Timeout => refused("slow"),
                other => debug!(%peer, %other, "a request came to nothing"),
            },
            FramesEvent::ResponseSent { .. } => {}
        }
    }

    fn answered(&mut self, ask: Ask, response: &FrameResponse) {
        match ask {
            Ask::Application { answer, .. } => {
                let _ = answer.send(match response.outcome {
                    Outcome::Answered => Ok(response.bytes.clone()),
                    Outcome::Busy => Err(AskError::Busy),
                    Outcome::Refused => Err(AskError::Refused),
                });
            }
            Ask::Cards { member } => {
                if response.outcome == Outcome::Answered {
                    self.hear_answered_cards(member, &response.bytes);
                }
            }
        }
    }

    fn asked(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        request: FrameRequest,
        channel: ResponseChannel<FrameResponse>,
    ) {
        let Some(found) = self.connections.get_mut(&connection).filter(|found| !found.refused) else {
            return;
        };
        let Some(id) = found.member.filter(|_| found.up) else {
            // The gate lets nobody through who has not shown a binding.
            refused("unbound");
            debug!(%peer, "a request before any binding");
            return;
        };
        let wire = self.swarm.behaviour_mut().frames.inner();
        let Some(member) = self.members.get(id) else { return };
        let limits = &self.options.limits;
        let mut busy = |reason, channel| {
            refused(reason);
            // He may be gone already.
            let _ = wire.send_response(channel, FrameResponse::without_bytes(Outcome::Busy));
        };
        if request.kind == Kind::Cards {
            let (outcome, bytes) = match self.answer_cards(id, &request.bytes) {
                Some(bytes) => (Outcome::Answered, bytes),
                None => (Outcome::Refused, Bytes::new()),
            };
            let response = FrameResponse { outcome, bytes, _space: None };
            let _ = self.swarm.behaviour_mut().frames.inner().send_response(channel, response);
            return;
        }
        if !member.requests.take(Instant::now()) {
            return busy("rate", channel);
        }
        if member.in_work >= limits.requests_per_member {
            return busy("concurrency", channel);
        }
        let Some(room) = self.events.try_reserve().ok().filter(|_| self.backlog.is_empty()) else {
            return busy("queue", channel);
        };
        member.in_work += 1;
        let reply = Reply {
            member: id,
            channel: Some(channel),
            commands: self.reply_to.clone(),
            space: request._space,
        };
        room.send(PeerEvent::Asked { from: id, bytes: request.bytes, reply });
    }

    /// Sends an answer of the layer above.
    pub(super) fn answer(
        &mut self,
        id: MemberId,
        channel: ResponseChannel<FrameResponse>,
        outcome: Outcome,
        bytes: Bytes,
    ) {
        if let Some(member) = self.members.get(id) {
            member.in_work = member.in_work.saturating_sub(1);
        }
        let response = if bytes.len() > self.options.limits.max_answer {
            self.warn_once("answer", "an answer is longer than allowed and not sent");
            FrameResponse::without_bytes(Outcome::Refused)
        } else if let Some(space) = self.sending.reserve(bytes.len()) {
            FrameResponse { outcome, bytes, _space: Some(space) }
        } else {
            refused("memory");
            FrameResponse::without_bytes(Outcome::Busy)
        };
        // Whoever asked may have gone.
        let _ = self.swarm.behaviour_mut().frames.inner().send_response(channel, response);
    }

    pub(super) fn publish(&mut self, bytes: Bytes) -> Result<(), PublishError> {
        let length = bytes.len();
        let gossip = self.swarm.behaviour_mut().gossip.inner();
        match gossip.publish(gossipsub::IdentTopic::new(GOSSIP_TOPIC), bytes) {
            Ok(_) => {
                count_gossip("out", length);
                Ok(())
            }
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoPeers),
            Err(gossipsub::PublishError::MessageTooLarge) => {
                Err(PublishError::TooLong { got: length, limit: self.options.limits.max_gossip })
            }
            Err(error) => Err(PublishError::Failed { reason: error.to_string() }),
        }
    }

    pub(super) fn on_gossip(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else { return };
        let judged = self.judge_gossip(message);
        let room = self.events.try_reserve().ok().filter(|_| self.backlog.is_empty());
        let reason = match (judged, room) {
            (Ok((from, bytes, space)), Some(room)) => {
                count_gossip("in", bytes.len());
                let verdict = Verdict {
                    message: Some(message_id),
                    source: propagation_source,
                    commands: self.reply_to.clone(),
                    _space: Some(space),
                };
                room.send(PeerEvent::Gossip { from, bytes, verdict });
                return;
            }
            (Ok(_), None) => "queue",
            (Err(reason), _) => reason,
        };
        self.drop_gossip(&message_id, propagation_source, reason);
    }

    fn drop_gossip(&mut self, message: &gossipsub::MessageId, source: PeerId, reason: &'static str) {
        refused(reason);
        let gossip = self.swarm.behaviour_mut().gossip.inner();
        gossip.report_message_validation_result(message, &source, MessageAcceptance::Ignore);
    }

    fn judge_gossip(
        &mut self,
        message: gossipsub::Message,
    ) -> Result<(MemberId, Bytes, crate::peer::budget::Reservation), &'static str> {
        // Signed by its author, who may be connected to others only.
        let author = message.source.and_then(|author| self.members.of_peer(&author)).ok_or("author")?;
        let now = (self.options.clock)();
        let member = self.members.get(author).ok_or("author")?;
        if !member.card.as_ref().is_some_and(|card| card.is_in_force(now)) {
            return Err("author");
        }
        if message.data.len() > self.options.limits.max_gossip {
            return Err("too-long");
        }
        if !member.gossip.take(Instant::now()) {
            return Err("rate");
        }
        let space = self.memory.reserve(message.data.len()).ok_or("memory")?;
        Ok((author, message.data.into(), space))
    }
}

fn count_gossip(direction: &'static str, bytes: usize) {
    metrics::counter!(names::PEER_FRAMES, "direction" => direction, "kind" => "gossip").increment(1);
    metrics::counter!(names::PEER_BYTES, "direction" => direction, "kind" => "gossip")
        .increment(bytes as u64);
}
