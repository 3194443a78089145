//! Who a connection is of: bindings shown, judged, and a connection opened to a member or closed to a stranger.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use das_common::binding::VerifiedBinding;
use das_common::committee::Committee;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use tracing::{debug, info};

use super::{FAREWELL, Internal, PeerNetwork, io_text, refused};
use crate::peer::card::{CardError, KnownCard};
use crate::peer::gated::Gate;
use crate::peer::handle::PeerEvent;
use crate::peer::hello::{self, Answer, Hello};

/// A greeting whose card was checked.
pub(super) struct Greeting {
    pub(super) boot: u64,
    pub(super) clock_ahead_ms: i64,
    pub(super) card: KnownCard,
}

fn millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn check(
    bytes: &[u8],
    peer: PeerId,
    committees: &[Arc<Committee>],
    now: u64,
    known: &[VerifiedBinding],
) -> Result<Box<Greeting>, CardError> {
    let hello: Hello = hello::decode(bytes).ok_or(CardError::Malformed)?;
    let find = |signed: &_| known.iter().find(|binding| binding.signed() == signed).cloned();
    let card = KnownCard::check(&hello.card, committees, now, find)?;
    if card.peer != peer {
        return Err(CardError::OtherPeer);
    }
    let ahead = i128::from(hello.clock) - i128::from(millis());
    let clock_ahead_ms = ahead.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    Ok(Box::new(Greeting { boot: hello.boot, clock_ahead_ms, card }))
}

impl PeerNetwork {
    /// What is said first on every connection.
    pub(super) fn greeting(&self) -> Option<Vec<u8>> {
        let card = self.own_card.as_ref()?;
        Some(hello::encode(&Hello { boot: self.boot, clock: millis(), card: card.bytes.to_vec() }))
    }

    pub(super) fn on_hello(&mut self, event: hello::Event) {
        match event {
            hello::Event::Heard { peer, connection, bytes } => {
                let committees = Arc::clone(&self.committees);
                let known = self.members.known_bindings();
                let now = (self.options.clock)();
                let done = self.internal_to.clone();
                // A pairing takes milliseconds: not here, where everybody waits.
                tokio::task::spawn_blocking(move || {
                    let greeting = check(&bytes, peer, &committees, now, &known);
                    let _ = done.send(Internal::Greeted { connection, greeting });
                });
            }
            hello::Event::Answered { connection, bytes, .. } => match hello::decode(&bytes) {
                Some(Answer::Welcome) => {
                    if let Some(found) = self.connections.get_mut(&connection) {
                        found.welcomed = true;
                        self.perhaps_up(connection);
                    }
                }
                Some(Answer::Refused { text }) => self.on_refused(connection, &text),
                None => {
                    refused("malformed");
                    self.close(connection);
                }
            },
            hello::Event::Failed { peer, connection, error } => {
                let Some(found) = self.connections.get(&connection) else { return };
                debug!(%peer, %error, "no exchange of bindings");
                if !found.up && !found.refused {
                    refused("hello");
                    let target = found.target;
                    if let Some(target) = target {
                        self.members.note_error(target, &io_text(&error));
                    }
                    self.close(connection);
                }
            }
        }
    }

    /// The other side does not take our binding.
    fn on_refused(&mut self, connection: ConnectionId, text: &str) {
        let Some(found) = self.connections.get(&connection) else { return };
        let printable: String = text.chars().filter(|c| !c.is_control()).collect();
        let text = format!("it refuses us: {printable}");
        if let Some(member) = found.member.or(found.target) {
            self.members.note_error(member, &text);
            let name = self.members.name(member);
            self.warn_once("refused", &format!("{name}: {text}"));
        }
        self.close(connection);
    }

    pub(super) fn on_greeted(&mut self, id: ConnectionId, greeting: Result<Box<Greeting>, CardError>) {
        let Some(found) = self.connections.get(&id) else { return };
        let (peer, target) = (found.peer, found.target);
        let judged = greeting.and_then(|greeting| {
            let greeting = *greeting;
            let card = greeting.card.clone();
            self.take_card(greeting.card.clone()).map(|news| (greeting, card, news))
        });
        let (greeting, card, news) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                refused(error.reason());
                debug!(%peer, %error, "refused");
                if let Some(target) = target {
                    self.members.note_error(target, &error.to_string());
                }
                if matches!(error, CardError::Ourselves) {
                    self.warn_once("ourselves", &error.to_string());
                } else if error.reason() == "other-coding" {
                    self.warn_once("other-coding", &error.to_string());
                }
                let answer = hello::encode(&Answer::refused(&error));
                self.swarm.behaviour_mut().hello.answer(peer, id, answer);
                if let Some(found) = self.connections.get_mut(&id) {
                    found.refused = true;
                    found.deadline = Instant::now() + FAREWELL;
                }
                return;
            }
        };
        if let Some(found) = self.connections.get_mut(&id) {
            found.member = Some(card.member);
            found.boot = greeting.boot;
        }
        self.members.note_clock(card.member, greeting.clock_ahead_ms);
        self.tell_door();
        self.swarm.behaviour_mut().door.admit(id);
        self.set_gate(peer, id, Gate::Listen);
        self.swarm.behaviour_mut().hello.answer(peer, id, hello::encode(&Answer::Welcome));
        self.perhaps_up(id);
        if news {
            self.push_card(&card.bytes, Some(card.member));
        }
    }

    /// Takes a card that was checked, and closes what it ends: connections of an older binding.
    pub(super) fn take_card(&mut self, card: KnownCard) -> Result<bool, CardError> {
        let (member, peer) = (card.member, card.peer);
        let news = self.members.adopt(card)?;
        if news {
            self.cards_changed = true;
            let old = |found: &super::Connection| found.member == Some(member) && found.peer != peer;
            if self.connections.values().any(old) {
                info!(member = %self.members.name(member), "a newer binding supersedes that of a connection");
                refused("superseded");
                self.close_where(old);
            }
        }
        Ok(news)
    }

    /// Opens a connection when both sides have taken each other's binding.
    pub(super) fn perhaps_up(&mut self, id: ConnectionId) {
        let Some(found) = self.connections.get_mut(&id) else { return };
        let Some(member) = found.member.filter(|_| found.welcomed && !found.up && !found.refused) else {
            return;
        };
        found.up = true;
        let (peer, boot, address) = (found.peer, found.boot, found.address.clone());
        self.set_gate(peer, id, Gate::Open);
        // What an earlier process of that member left behind is dead, though its end may not have been noticed yet.
        self.close_where(|other| other.peer == peer && other.up && other.boot != boot);
        let now = (self.options.clock)();
        if self.members.came(member, id, &address, now) {
            info!(member = %self.members.name(member), %address, "member connected");
            self.tell(PeerEvent::Up(member));
        }
    }
}
