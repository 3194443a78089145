//! Cards passed on: whoever knows where a member is today tells the others, and keeps it over restarts.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bincode::{Decode, Encode};
use bytes::Bytes;
use das_common::binding::{MemberId, SignedBinding};
use das_common::keccak::keccak256;
use tracing::{debug, warn};

use super::requests::Ask;
use super::{Internal, PeerNetwork, refused};
use crate::peer::card::{self, Card, CardError, KnownCard};
use crate::peer::frames::{FrameRequest, Kind};

/// Most cards of one message.
const MAX_CARDS: usize = 256;
/// Longest message of cards.
const MAX_BYTES: usize = 640 << 10;
const VERSION: u8 = 1;

/// A question about cards, and news of some.
#[derive(Debug, Encode, Decode)]
struct Question {
    /// Of the cards known to the sender; the answer is empty when both know the same. Without, none is wanted.
    digest: Option<[u8; 32]>,
    /// What is new to the sender.
    cards: Vec<Vec<u8>>,
}

fn encode(message: &impl Encode) -> Vec<u8> {
    let mut out = vec![VERSION];
    bincode::encode_into_std_write(message, &mut out, bincode::config::standard())
        .expect("writing to memory");
    out
}

fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let rest = bytes.strip_prefix(&[VERSION]).filter(|rest| rest.len() <= MAX_BYTES)?;
    let config = bincode::config::standard().with_limit::<{ 4 * MAX_BYTES }>();
    match bincode::decode_from_slice(rest, config) {
        Ok((message, used)) if used == rest.len() => Some(message),
        _ => None,
    }
}

impl PeerNetwork {
    fn known_cards(&mut self) -> Vec<Bytes> {
        let own = self.own_card.iter().map(|card| card.bytes.clone());
        let others = self.members.all().filter_map(|(_, member)| Some(member.card.as_ref()?.bytes.clone()));
        own.chain(others).take(MAX_CARDS).collect()
    }

    fn digest(&mut self) -> [u8; 32] {
        let hashes: BTreeSet<[u8; 32]> = self.known_cards().iter().map(|card| keccak256(card)).collect();
        keccak256(&hashes.into_iter().flatten().collect::<Vec<u8>>())
    }

    /// Asks those members for whom it is time again, the newly connected among them.
    pub(super) fn exchange_cards(&mut self) {
        let now = Instant::now();
        let interval = self.options.limits.card_interval.mul_f64(rand::random_range(0.75..1.25));
        let mut due = Vec::new();
        for (id, member) in self.members.all() {
            if member.is_up() && now >= member.exchange {
                member.exchange = now + interval;
                due.push(id);
            }
        }
        if due.is_empty() {
            return;
        }
        let question = encode(&Question { digest: Some(self.digest()), cards: Vec::new() });
        for member in due {
            self.send_cards(member, question.clone().into());
        }
    }

    /// Somebody cannot be reached: asks everybody soon, but not more often than every few seconds.
    pub(super) fn ask_for_cards(&mut self) {
        let soon = Instant::now() + std::time::Duration::from_secs(2);
        for (_, member) in self.members.all() {
            member.exchange = member.exchange.min(soon);
        }
    }

    /// Shows a new card to all who are connected.
    pub(super) fn push_card(&mut self, card: &Bytes, not_to: Option<MemberId>) {
        let up = self.members.all().filter(|(id, member)| member.is_up() && Some(*id) != not_to);
        let up: Vec<MemberId> = up.map(|(id, _)| id).collect();
        if up.is_empty() {
            return;
        }
        let question: Bytes = encode(&Question { digest: None, cards: vec![card.to_vec()] }).into();
        for member in up {
            self.send_cards(member, question.clone());
        }
    }

    fn send_cards(&mut self, id: MemberId, bytes: Bytes) {
        let most = self.options.limits.asks_per_member;
        let Some(member) = self.members.get(id) else { return };
        let Some(peer) = member.card.as_ref().map(|card| card.peer).filter(|_| member.asks < most) else {
            return;
        };
        member.asks += 1;
        let request = FrameRequest::new(Kind::Cards, bytes);
        let sent = self.swarm.behaviour_mut().frames.inner().send_request(&peer, request);
        self.asks.insert(sent, Ask::Cards { member: id });
    }

    /// The answer to a member's question about cards; `None` when it asks too often or says nonsense.
    pub(super) fn answer_cards(&mut self, from: MemberId, bytes: &[u8]) -> Option<Bytes> {
        let member = self.members.get(from)?;
        if !member.cards.take(Instant::now()) {
            refused("rate");
            return None;
        }
        let Some(question) = decode::<Question>(bytes) else {
            refused("malformed");
            return None;
        };
        self.hear_cards(from, question.cards);
        let differs = question.digest.is_some_and(|digest| digest != self.digest());
        let cards: Vec<Vec<u8>> =
            if differs { self.known_cards().iter().map(|card| card.to_vec()).collect() } else { Vec::new() };
        Some(encode(&cards).into())
    }

    /// What a member answered.
    pub(super) fn hear_answered_cards(&mut self, from: MemberId, bytes: &[u8]) {
        match decode::<Vec<Vec<u8>>>(bytes) {
            Some(cards) => self.hear_cards(from, cards),
            None => refused("malformed"),
        }
    }

    /// Has the cards checked that are not known yet.
    fn hear_cards(&mut self, from: MemberId, cards: Vec<Vec<u8>>) {
        let known = self.known_cards();
        let mut new = cards;
        new.truncate(MAX_CARDS);
        new.retain(|card| card.len() <= card::MAX_BYTES && !known.iter().any(|known| known == card));
        if new.is_empty() {
            return;
        }
        let committees = Arc::clone(&self.committees);
        let bindings = self.members.known_bindings();
        let now = (self.options.clock)();
        let done = self.internal_to.clone();
        tokio::task::spawn_blocking(move || {
            let find =
                |signed: &SignedBinding| bindings.iter().find(|known| known.signed() == signed).cloned();
            let mut cards = Vec::new();
            let mut bad = None;
            for card in new {
                match KnownCard::check(&card, &committees, now, find) {
                    Ok(card) => cards.push(card),
                    // Members may know committees that we do not, and bindings end while they travel.
                    Err(error) if matches!(error.reason(), "expired" | "other-committee" | "unknown") => {}
                    Err(error) => {
                        // What else is in there is not worth the time that checking takes.
                        bad = Some(error);
                        break;
                    }
                }
            }
            let _ = done.send(Internal::Cards { from, cards, bad });
        });
    }

    pub(super) fn on_cards(&mut self, from: MemberId, cards: Vec<KnownCard>, bad: Option<CardError>) {
        for card in cards {
            let member = card.member;
            // Anything else is old news, or our own card of an earlier day.
            if let Ok(true) = self.take_card(card) {
                debug!(member = %self.members.name(member), from = %self.members.name(from), "new card");
            }
        }
        self.tell_door();
        if let Some(error) = bad {
            refused(error.reason());
            let name = self.members.name(from);
            self.warn_once("card", &format!("{name} passes on a card that is wrong: {error}"));
        }
    }

    /// Reads the cards that an earlier process knew. A file that cannot be used is as good as none.
    pub(super) async fn load_cards(&mut self) {
        let Some(path) = self.options.cards_file.clone() else { return };
        let bytes = match tokio::fs::read(&path).await {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => {
                warn!(path = %path.display(), %error, "what was known of the other members cannot be read");
                return;
            }
        };
        let Some(cards) = decode::<Vec<Vec<u8>>>(&bytes) else {
            warn!(path = %path.display(), "what was known of the other members is damaged and not used");
            return;
        };
        let now = (self.options.clock)();
        for bytes in cards.into_iter().take(MAX_CARDS) {
            // One that is over is kept: it still supersedes older ones.
            let over = Card::decode(&bytes)
                .ok()
                .and_then(|card| SignedBinding::decode(&card.binding?).ok())
                .map_or(now, |signed| now.min(signed.binding.not_after));
            let Ok(card) = KnownCard::check(&bytes, &self.committees, over, |_| None) else { continue };
            if card.member == self.own {
                self.own_issued = card.binding.as_ref().map_or(0, |binding| binding.issued());
                self.sequence = card.sequence;
            } else if let Err(error) = self.members.adopt(card) {
                debug!(%error, "a card of earlier is not used");
            }
        }
        self.tell_door();
    }

    /// Writes the cards down: at once, as they change seldom and are few.
    pub(super) fn save_cards(&mut self) {
        let Some(path) = self.options.cards_file.clone() else { return };
        let cards: Vec<Vec<u8>> = self.known_cards().iter().map(|card| card.to_vec()).collect();
        let bytes = encode(&cards);
        if let Err(error) = replace_file(&path, &bytes) {
            self.warn_once("cards-file", &format!("{} cannot be written: {error}", path.display()));
        }
    }
}

/// Never half a file: a new one takes the place of the old one. It may be lost in a crash; nothing hangs on it.
fn replace_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let half = path.with_extension("new");
    std::fs::write(&half, bytes)?;
    std::fs::rename(&half, path)
}
