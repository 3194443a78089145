//! What is known of each member: its card, its connections, and when it is called next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::binding::{MemberId, VerifiedBinding};
use das_common::committee::Committee;
use das_common::telemetry::names;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use parking_lot::RwLock;

use super::dial::Dial;
use super::{PeerError, member_address};
use crate::peer::bucket::Bucket;
use crate::peer::card::{CardError, KnownCard, verify};
use crate::peer::handle::MemberStatus;
use crate::peer::options::PeerLimits;

/// Cards of one member a second, and at once.
const CARD_RATE: (f64, f64) = (2.0, 128.0);

/// One member or mirror.
pub(super) struct Member {
    pub(super) name: String,
    pub(super) mirror: bool,
    index: Option<u8>,
    /// From the committee files.
    pub(super) addresses: Vec<Multiaddr>,
    pub(super) card: Option<KnownCard>,
    pub(super) connections: BTreeMap<ConnectionId, Multiaddr>,
    since: Option<u64>,
    rtt: Option<Duration>,
    clock_ahead_ms: Option<i64>,
    last_error: Option<String>,
    pub(super) dial: Dial,
    pub(super) requests: Bucket,
    pub(super) gossip: Bucket,
    pub(super) cards: Bucket,
    /// Requests of it that are being worked on.
    pub(super) in_work: usize,
    /// Requests to it that wait for an answer.
    pub(super) asks: usize,
    /// When cards are exchanged next.
    pub(super) exchange: Instant,
}

impl Member {
    fn new(name: &str, mirror: bool, limits: &PeerLimits, first: Instant) -> Self {
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            mirror,
            index: None,
            addresses: Vec::new(),
            card: None,
            connections: BTreeMap::new(),
            since: None,
            rtt: None,
            clock_ahead_ms: None,
            last_error: None,
            dial: Dial::new(first),
            requests: Bucket::new(limits.request_rate, limits.request_burst, now),
            gossip: Bucket::new(limits.gossip_rate, limits.gossip_burst, now),
            cards: Bucket::new(CARD_RATE.0, CARD_RATE.1, now),
            in_work: 0,
            asks: 0,
            exchange: now,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        !self.connections.is_empty()
    }
}

/// All members and mirrors of the committees in force, but ourselves.
pub(super) struct Members {
    own: MemberId,
    limits: PeerLimits,
    all: BTreeMap<MemberId, Member>,
    peers: HashMap<PeerId, MemberId>,
    status: Arc<RwLock<Vec<MemberStatus>>>,
}

impl Members {
    pub(super) fn new(own: MemberId, limits: PeerLimits) -> Self {
        let status = Arc::new(RwLock::new(Vec::new()));
        Self { own, limits, all: BTreeMap::new(), peers: HashMap::new(), status }
    }

    /// Takes over the committees in force; returns who is in none of them any more.
    pub(super) fn set(&mut self, committees: &[Arc<Committee>]) -> Result<HashSet<MemberId>, PeerError> {
        struct Named {
            name: String,
            mirror: bool,
            index: Option<u8>,
            addresses: Vec<Multiaddr>,
        }
        let mut named: BTreeMap<MemberId, Named> = BTreeMap::new();
        // The newest committee's name and address come first.
        for committee in committees.iter().rev() {
            for (index, member) in committee.members().iter().enumerate() {
                let id = MemberId::of(&member.public_key);
                let new = || Named {
                    name: member.name.clone(),
                    mirror: false,
                    index: u8::try_from(index).ok(),
                    addresses: Vec::new(),
                };
                let address = member_address(&member.name, member.peer.as_ref())?;
                named.entry(id).or_insert_with(new).addresses.extend(address);
            }
            for mirror in committee.mirrors() {
                let id = MemberId::of_mirror(&mirror.peer_key);
                let new =
                    || Named { name: mirror.name.clone(), mirror: true, index: None, addresses: Vec::new() };
                let address = member_address(&mirror.name, mirror.peer.as_ref())?;
                named.entry(id).or_insert_with(new).addresses.extend(address);
            }
        }
        named.remove(&self.own);
        let gone: HashSet<MemberId> =
            self.all.keys().filter(|member| !named.contains_key(member)).copied().collect();
        self.all.retain(|member, _| !gone.contains(member));
        self.peers.retain(|_, member| !gone.contains(member));
        let limits = &self.limits;
        for (id, new) in named {
            // Of two that start together one calls at once; the other waits, to see whether it is called.
            let wait = limits.min_backoff.mul_f64(if self.own < id { 0.1 } else { 0.9 });
            let first = Instant::now() + wait.mul_f64(rand::random_range(0.5..1.5));
            let member =
                self.all.entry(id).or_insert_with(|| Member::new(&new.name, new.mirror, limits, first));
            member.name = new.name;
            member.index = new.index;
            member.addresses = new.addresses;
            member.addresses.dedup();
        }
        self.publish_status();
        Ok(gone)
    }

    /// Forgets the cards whose bindings are of none of the committees; returns whose.
    pub(super) fn recheck(&mut self, committees: &[Arc<Committee>], now: u64) -> HashSet<MemberId> {
        let mut unfit = HashSet::new();
        for (id, member) in &mut self.all {
            let Some(binding) = member.card.as_ref().and_then(|card| card.binding.as_ref()) else { continue };
            let signed = binding.signed();
            if committees.iter().any(|committee| signed.claims(committee).is_some()) {
                continue;
            }
            // Verified again for the committees that are in force now, as it is not of any of them.
            if verify(signed, committees, now).is_err() {
                unfit.insert(*id);
                member.card = None;
            }
        }
        self.peers.retain(|_, member| !unfit.contains(member));
        unfit
    }

    pub(super) fn get(&mut self, member: MemberId) -> Option<&mut Member> {
        self.all.get_mut(&member)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = (MemberId, &mut Member)> {
        self.all.iter_mut().map(|(id, member)| (*id, member))
    }

    pub(super) fn name(&self, member: MemberId) -> String {
        self.all.get(&member).map_or_else(|| member.to_string(), |member| member.name.clone())
    }

    /// Whose peer id it is, by the newest binding.
    pub(super) fn of_peer(&self, peer: &PeerId) -> Option<MemberId> {
        self.peers.get(peer).copied()
    }

    pub(super) fn known_peers(&self, now: u64) -> HashSet<PeerId> {
        let cards = self.all.values().filter_map(|member| member.card.as_ref());
        cards.filter(|card| card.is_in_force(now)).map(|card| card.peer).collect()
    }

    pub(super) fn known_bindings(&self) -> Vec<VerifiedBinding> {
        self.all.values().filter_map(|member| member.card.as_ref()?.binding.clone()).collect()
    }

    pub(super) fn not_in_force(&self, now: u64) -> HashSet<MemberId> {
        let over = |member: &Member| member.card.as_ref().is_some_and(|card| !card.is_in_force(now));
        self.all.iter().filter(|(_, member)| over(member)).map(|(id, _)| *id).collect()
    }

    /// Takes a card that was checked. True when it is news.
    pub(super) fn adopt(&mut self, card: KnownCard) -> Result<bool, CardError> {
        if card.member == self.own {
            return Err(CardError::Ourselves);
        }
        let member = self.all.get_mut(&card.member).ok_or(CardError::Unknown)?;
        if let Some(old) = &member.card
            && !card.supersedes(old)
        {
            return match &old.binding {
                Some(newest) if card.binding.as_ref() != Some(newest) => {
                    Err(CardError::Superseded { newest: newest.issued() })
                }
                _ => Ok(false),
            };
        }
        if let Some(old) = &member.card {
            self.peers.remove(&old.peer);
        }
        self.peers.insert(card.peer, card.member);
        if !member.is_up() && member.card.as_ref().is_none_or(|old| old.addresses != card.addresses) {
            member.dial.soon();
        }
        member.card = Some(card);
        Ok(true)
    }

    /// A connection is up. True when it is the member's first.
    pub(super) fn came(
        &mut self,
        id: MemberId,
        connection: ConnectionId,
        address: &Multiaddr,
        now: u64,
    ) -> bool {
        let Some(member) = self.all.get_mut(&id) else { return false };
        let first = member.connections.is_empty();
        member.connections.insert(connection, address.clone());
        member.dial.reset();
        member.last_error = None;
        if first {
            member.since = Some(now);
            member.exchange = Instant::now();
        }
        self.publish_status();
        first
    }

    /// A connection that was up is gone. True when it was the member's last.
    pub(super) fn lost(&mut self, id: MemberId, connection: ConnectionId, now: u64) -> bool {
        let Some(member) = self.all.get_mut(&id) else { return false };
        let last = member.connections.remove(&connection).is_some() && member.connections.is_empty();
        if last {
            member.since = Some(now);
            member.rtt = None;
            let wait = self.limits.min_backoff.mul_f64(if self.own < id { 0.2 } else { 0.9 });
            member.dial.after(wait.mul_f64(rand::random_range(0.5..1.5)));
        }
        self.publish_status();
        last
    }

    pub(super) fn pinged(&mut self, member: MemberId, rtt: Duration) {
        if let Some(member) = self.all.get_mut(&member) {
            member.rtt = Some(rtt);
            metrics::gauge!(names::PEER_RTT_SECONDS, "member" => member.name.clone()).set(rtt.as_secs_f64());
        }
    }

    pub(super) fn note_clock(&mut self, member: MemberId, ahead_ms: i64) {
        if let Some(member) = self.all.get_mut(&member) {
            member.clock_ahead_ms = Some(ahead_ms);
        }
    }

    pub(super) fn note_error(&mut self, member: MemberId, error: &str) {
        if let Some(member) = self.all.get_mut(&member) {
            member.last_error = Some(error.to_owned());
        }
    }

    /// A dial became a connection: whose it was.
    pub(super) fn dial_connected(&mut self, connection: ConnectionId) -> Option<MemberId> {
        let patience = self.limits.hello_timeout;
        self.all
            .iter_mut()
            .find_map(|(id, member)| member.dial.connected(connection, patience).then_some(*id))
    }

    /// A dial failed.
    pub(super) fn dial_failed(&mut self, connection: ConnectionId, error: &str) {
        let limits = &self.limits;
        for member in self.all.values_mut() {
            if let Some(was_last) = member.dial.failed(connection) {
                member.last_error = Some(error.to_owned());
                if was_last {
                    count_failure(member, limits);
                }
                return;
            }
        }
    }

    /// A call failed for another reason than the dial.
    pub(super) fn call_failed(&mut self, member: MemberId, error: &str) {
        if let Some(member) = self.all.get_mut(&member)
            && !member.is_up()
        {
            member.last_error.get_or_insert_with(|| error.to_owned());
            count_failure(member, &self.limits);
        }
    }

    pub(super) fn ask_done(&mut self, member: MemberId) {
        if let Some(member) = self.all.get_mut(&member) {
            member.asks = member.asks.saturating_sub(1);
        }
    }

    pub(super) fn status(&self) -> Arc<RwLock<Vec<MemberStatus>>> {
        Arc::clone(&self.status)
    }

    /// Shows the state of things to the handles and the metrics.
    pub(super) fn publish_status(&self) {
        let mut connected = 0u32;
        let status = self.all.iter().map(|(id, member)| {
            let up = member.is_up();
            connected += u32::from(up);
            metrics::gauge!(names::PEER_UP, "member" => member.name.clone()).set(if up { 1.0 } else { 0.0 });
            let address = member.connections.values().next_back();
            MemberStatus {
                member: *id,
                name: member.name.clone(),
                mirror: member.mirror,
                connected: up,
                peer_id: member.card.as_ref().map(|card| card.peer.to_string()),
                binding: member.card.as_ref().and_then(|card| card.binding.clone()),
                address: address.or(member.addresses.first()).map(ToString::to_string),
                since: member.since,
                rtt: member.rtt,
                clock_ahead_ms: member.clock_ahead_ms,
                index: member.index,
                last_error: member.last_error.clone(),
            }
        });
        let status: Vec<MemberStatus> = status.collect();
        metrics::gauge!(names::PEER_CONNECTED).set(f64::from(connected));
        *self.status.write() = status;
    }
}

fn count_failure(member: &mut Member, limits: &PeerLimits) {
    metrics::counter!(names::PEER_DIALS_FAILED, "member" => member.name.clone()).increment(1);
    member.dial.back_off(limits.min_backoff, limits.max_backoff);
}
