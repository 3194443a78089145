//! The network itself: one task that owns all connections and decides who is a member.
//!
//! Nothing here waits: bindings are verified and names looked up beside the task, requests of the layer above have their
//! own streams, and a member that hangs costs its own requests only.

mod cards;
mod dial;
mod greeting;
mod members;
mod requests;
mod setup;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use das_common::binding::{Binding, MemberId, Place, SignedBinding};
use das_common::committee::Committee;
use das_common::signer::{Message, SignError, Signer};
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::request_response::{self, OutboundRequestId};
use libp2p::swarm::{ConnectionId, ListenError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, connection_limits, gossipsub, identify, ping};
use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, info, warn};

use self::greeting::Greeting;
use self::members::Members;
use self::requests::Ask;
pub use self::setup::PeerError;
use self::setup::{check_free, make_swarm, member_address, own_id};
use super::address::{is_loopback, is_peer_address};
use super::budget::Budget;
use super::card::{Card, CardError, KnownCard};
use super::door::Door;
use super::frames::FrameCodec;
use super::gated::{Gate, Gated};
use super::handle::{Command, PeerEvent, PeerHandle};
use super::hello;
use super::identity::PeerIdentity;
use super::options::PeerOptions;
use super::refused;

/// The one topic of gossip.
pub const GOSSIP_TOPIC: &str = "das/peer/1";
/// Deadlines and dials are looked at this often.
const TICK: Duration = Duration::from_millis(100);
/// Everything slower, this many ticks apart.
const SLOW_TICKS: u64 = 10;
/// A signer that is away is asked again after this.
const SIGN_AGAIN: Duration = Duration::from_secs(5);
/// Time for a refusal to reach the refused.
const FAREWELL: Duration = Duration::from_secs(1);

/// All protocols of a connection.
#[derive(NetworkBehaviour)]
struct Wire {
    limits: connection_limits::Behaviour,
    door: Door,
    hello: hello::Behaviour,
    frames: Gated<request_response::Behaviour<FrameCodec>>,
    gossip: Gated<gossipsub::Behaviour>,
    ping: Gated<ping::Behaviour>,
    identify: Gated<identify::Behaviour>,
}

/// What comes back from work done beside the task.
enum Internal {
    Greeted { connection: ConnectionId, greeting: Result<Box<Greeting>, CardError> },
    Cards { from: MemberId, cards: Vec<KnownCard>, bad: Option<CardError> },
    Resolved { member: MemberId, addresses: Vec<Multiaddr>, error: Option<String> },
    Signed(Result<SignedBinding, SignError>),
}

/// One connection.
struct Connection {
    peer: PeerId,
    address: Multiaddr,
    /// Whom we called, if we did.
    target: Option<MemberId>,
    /// Whose binding was shown.
    member: Option<MemberId>,
    /// The other side took ours.
    welcomed: bool,
    up: bool,
    /// The process at the other end.
    boot: u64,
    /// Closed then, unless up.
    deadline: Instant,
    refused: bool,
    failed_pings: u32,
}

/// Starts the peer layer.
pub struct PeerNetwork {
    swarm: Swarm<Wire>,
    options: PeerOptions,
    identity: PeerIdentity,
    signer: Option<Arc<dyn Signer>>,
    own: MemberId,
    own_binding: Option<SignedBinding>,
    own_binding_shown: Arc<RwLock<Option<SignedBinding>>>,
    own_card: Option<KnownCard>,
    own_issued: u64,
    signing: bool,
    /// The committees changed while the signer was at work.
    sign_once_more: bool,
    sign_again: Instant,
    sequence: u64,
    boot: u64,
    committees: Arc<[Arc<Committee>]>,
    members: Members,
    connections: HashMap<ConnectionId, Connection>,
    asks: HashMap<OutboundRequestId, Ask>,
    memory: Budget,
    sending: Budget,
    events: mpsc::Sender<PeerEvent>,
    /// Comings and goings that did not fit into the queue: they are never lost.
    backlog: std::collections::VecDeque<PeerEvent>,
    commands: mpsc::Receiver<Command>,
    replies: mpsc::UnboundedReceiver<Command>,
    reply_to: mpsc::UnboundedSender<Command>,
    internal: mpsc::UnboundedReceiver<Internal>,
    internal_to: mpsc::UnboundedSender<Internal>,
    warned: HashMap<&'static str, Instant>,
    cards_changed: bool,
}

impl std::fmt::Debug for PeerNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerNetwork({})", self.own)
    }
}

impl PeerNetwork {
    /// Listens, signs a binding, and begins to look for the others. `committees`: those of which unexpired batches are
    /// held, the newest last. Without a signer this is a mirror.
    ///
    /// # Errors
    /// When the key is of no member, an address is none, or a port cannot be listened on.
    pub async fn start(
        options: PeerOptions,
        committees: Vec<Arc<Committee>>,
        identity: PeerIdentity,
        signer: Option<Arc<dyn Signer>>,
    ) -> Result<(PeerHandle, mpsc::Receiver<PeerEvent>), PeerError> {
        let own = own_id(&committees, &identity, signer.as_deref())?;
        let swarm = make_swarm(&options, &identity)?;
        let limits = &options.limits;
        let (events, events_out) = mpsc::channel(limits.event_queue.max(1));
        let (commands_in, commands) = mpsc::channel(256);
        let (reply_to, replies) = mpsc::unbounded_channel();
        let (internal_to, internal) = mpsc::unbounded_channel();
        let committees: Arc<[Arc<Committee>]> = committees.into();
        let mut members = Members::new(own, limits.clone());
        members.set(&committees)?;
        let status = members.status();
        let own_binding_shown = Arc::new(RwLock::new(None));
        let handle = PeerHandle {
            own_binding: Arc::clone(&own_binding_shown),
            commands: commands_in,
            status,
            own,
            max_request: limits.max_request,
            max_gossip: limits.max_gossip,
        };
        let mut network = Self {
            swarm,
            identity,
            signer,
            own,
            own_binding: None,
            own_binding_shown,
            own_card: None,
            own_issued: 0,
            signing: false,
            sign_once_more: false,
            sign_again: Instant::now(),
            sequence: 0,
            boot: rand::random(),
            committees,
            members,
            connections: HashMap::new(),
            asks: HashMap::new(),
            memory: Budget::new(limits.request_memory),
            sending: Budget::new(limits.sending_memory),
            events,
            backlog: std::collections::VecDeque::new(),
            commands,
            replies,
            reply_to,
            internal,
            internal_to,
            warned: HashMap::new(),
            cards_changed: false,
            options,
        };
        network.load_cards().await;
        for address in network.options.listen.clone() {
            let refused = |reason| PeerError::Listen { address: address.clone(), reason };
            check_free(&address).map_err(|error| refused(error.to_string()))?;
            network.swarm.listen_on(address.clone()).map_err(|error| refused(error.to_string()))?;
        }
        info!(peer_id = %network.identity.peer_key(), "looking for the other members");
        network.sign_binding();
        tokio::spawn(network.run());
        Ok((handle, events_out))
    }

    async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0;
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm(event),
                command = self.commands.recv() => match command {
                    None => break None,
                    Some(Command::Stop { done }) => break Some(done),
                    Some(command) => self.on_command(command),
                },
                Some(command) = self.replies.recv() => self.on_command(command),
                Some(internal) = self.internal.recv() => self.on_internal(internal),
                _ = ticks.tick() => {
                    self.on_tick();
                    count += 1;
                    if count % SLOW_TICKS == 0 {
                        self.on_slow_tick();
                    }
                }
            }
            self.flush_events();
        };
        self.shut_down(done).await;
    }

    /// Tells the others by closing, and waits for that a moment.
    async fn shut_down(mut self, done: Option<oneshot::Sender<()>>) {
        self.save_cards();
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, closed).await;
        drop(self);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    fn on_swarm(&mut self, event: SwarmEvent<WireEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_wire(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.on_closed(connection_id),
            SwarmEvent::IncomingConnectionError { error: ListenError::Denied { cause }, .. } => {
                let reason = cause.downcast_ref::<super::door::Refusal>().map(|refusal| refusal.reason());
                refused(reason.unwrap_or("limit"));
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.members.dial_failed(connection_id, &dial::describe(&error));
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                info!(%address, "peers can connect");
                self.renew_card();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.renew_card(),
            SwarmEvent::ListenerClosed { addresses, reason, .. } => {
                warn!(?addresses, ?reason, "an address is no longer listened on");
            }
            _ => {}
        }
    }

    fn on_wire(&mut self, event: WireEvent) {
        match event {
            WireEvent::Hello(event) => self.on_hello(event),
            WireEvent::Frames(event) => self.on_frames(event),
            WireEvent::Gossip(event) => self.on_gossip(event),
            WireEvent::Ping(event) => self.on_ping(&event),
            WireEvent::Identify(_) => {}
            WireEvent::Limits(never) | WireEvent::Door(never) => match never {},
        }
    }

    fn on_internal(&mut self, internal: Internal) {
        match internal {
            Internal::Greeted { connection, greeting } => self.on_greeted(connection, greeting),
            Internal::Cards { from, cards, bad } => self.on_cards(from, cards, bad),
            Internal::Resolved { member, addresses, error } => self.dial(member, addresses, error.as_deref()),
            Internal::Signed(signed) => self.on_signed(signed),
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Ask { member, bytes, answer } => self.ask(member, bytes, answer),
            Command::Publish { bytes, done } => {
                let _ = done.send(self.publish(bytes));
            }
            Command::Answer { member, channel, outcome, bytes } => {
                self.answer(member, channel, outcome, bytes);
            }
            Command::Judge { message, source, acceptance } => {
                let gossip = self.swarm.behaviour_mut().gossip.inner();
                gossip.report_message_validation_result(&message, &source, acceptance);
            }
            Command::Committees { committees, done } => {
                self.set_committees(committees);
                let _ = done.send(());
            }
            Command::Disconnect { member } => {
                let of_member = |connection: &Connection| connection.member == Some(member);
                self.close_where(of_member);
            }
            Command::Listening { done } => {
                let own = libp2p::multiaddr::Protocol::P2p(*self.swarm.local_peer_id());
                let listening = self.swarm.listeners().map(|address| address.clone().with(own.clone()));
                let _ = done.send(listening.collect());
            }
            Command::Stop { .. } => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let target = self.members.dial_connected(id);
        let connection = Connection {
            peer,
            address: endpoint.get_remote_address().clone(),
            target,
            member: None,
            welcomed: false,
            up: false,
            boot: 0,
            deadline: Instant::now() + self.options.limits.hello_timeout,
            refused: false,
            failed_pings: 0,
        };
        self.connections.insert(id, connection);
        match self.greeting() {
            Some(greeting) => self.swarm.behaviour_mut().hello.greet(peer, id, greeting),
            // Without a binding of our own there is nothing to say yet.
            None => self.close(id),
        }
    }

    fn on_closed(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let now = (self.options.clock)();
        if connection.up {
            if let Some(member) = connection.member
                && self.members.lost(member, id, now)
            {
                info!(member = %self.members.name(member), "member gone");
                self.tell(PeerEvent::Down(member));
            }
        } else if let Some(target) = connection.target {
            self.members.call_failed(target, "the connection closed before bindings were exchanged");
        }
    }

    fn close(&mut self, id: ConnectionId) {
        self.swarm.close_connection(id);
    }

    fn close_where(&mut self, which: impl Fn(&Connection) -> bool) {
        let which = self.connections.iter().filter(|(_, connection)| which(connection));
        let ids: Vec<ConnectionId> = which.map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id);
        }
    }

    fn set_gate(&mut self, peer: PeerId, id: ConnectionId, gate: Gate) {
        let wire = self.swarm.behaviour_mut();
        wire.frames.set(peer, id, gate);
        wire.gossip.set(peer, id, gate);
        wire.ping.set(peer, id, gate);
        wire.identify.set(peer, id, gate);
    }

    fn on_ping(&mut self, event: &ping::Event) {
        let Some(connection) = self.connections.get_mut(&event.connection) else { return };
        match &event.result {
            Ok(rtt) => {
                connection.failed_pings = 0;
                if let Some(member) = connection.member {
                    self.members.pinged(member, *rtt);
                }
            }
            Err(error) => {
                connection.failed_pings += 1;
                debug!(peer = %event.peer, %error, "ping failed");
                if connection.failed_pings >= 2 {
                    self.close(event.connection);
                }
            }
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        let late: Vec<(ConnectionId, bool)> = self
            .connections
            .iter()
            .filter(|(_, connection)| !connection.up && now >= connection.deadline)
            .map(|(id, connection)| (*id, connection.refused))
            .collect();
        for (id, was_refused) in late {
            if !was_refused {
                refused("silent");
            }
            self.close(id);
        }
        self.call_members(now);
    }

    fn on_slow_tick(&mut self) {
        let now = (self.options.clock)();
        let over = self.members.not_in_force(now);
        if !over.is_empty() {
            let up: Vec<MemberId> =
                self.connections.values().filter(|c| c.up).filter_map(|c| c.member).collect();
            for member in over.iter().filter(|member| up.contains(member)) {
                refused("expired");
                warn!(member = %self.members.name(*member), "the member's binding is over, its connections are closed");
            }
            self.close_where(|connection| connection.member.is_some_and(|member| over.contains(&member)));
            self.tell_door();
        }
        let due = |binding: &SignedBinding| now >= binding.binding.renewal();
        let unsigned = self.own_binding.is_none();
        if self.signer.is_some() && (unsigned || self.own_binding.as_ref().is_some_and(due)) {
            self.sign_binding();
        }
        self.asks.retain(|_, ask| {
            ask.is_wanted() || {
                self.members.ask_done(ask.member());
                false
            }
        });
        self.exchange_cards();
        self.members.publish_status();
        if std::mem::take(&mut self.cards_changed) {
            self.save_cards();
        }
    }

    /// Asks the signer for a binding that names this member's place in every committee.
    fn sign_binding(&mut self) {
        let Some(signer) = self.signer.clone() else {
            self.renew_card();
            return;
        };
        if self.signing || Instant::now() < self.sign_again {
            return;
        }
        let key = signer.public_key();
        let place = |committee: &Arc<Committee>| Place::of(committee, committee.index_of(key)?);
        let mut places: Vec<Place> = self.committees.iter().rev().filter_map(place).collect();
        places.truncate(das_common::binding::MAX_PLACES);
        let issued = (self.options.clock)().max(self.own_issued.saturating_add(1));
        let not_after = issued.saturating_add(self.options.binding_life.as_secs().max(2));
        let binding = Binding { places, peer_key: self.identity.peer_key(), issued, not_after };
        self.signing = true;
        self.own_issued = issued;
        let done = self.internal_to.clone();
        tokio::spawn(async move {
            let signed = match Message::binding(binding.clone()) {
                Ok(message) => signer.sign(message).await,
                Err(error) => Err(error.into()),
            };
            let _ = done.send(Internal::Signed(signed.map(|signature| binding.signed(&signature))));
        });
    }

    fn on_signed(&mut self, signed: Result<SignedBinding, SignError>) {
        self.signing = false;
        match signed {
            Ok(binding) => {
                *self.own_binding_shown.write() = Some(binding.clone());
                self.own_binding = Some(binding);
                self.renew_card();
                if std::mem::take(&mut self.sign_once_more) {
                    self.sign_binding();
                }
            }
            Err(error) => {
                warn!(%error, "the binding of the peer key cannot be signed; trying again");
                self.sign_again = Instant::now() + SIGN_AGAIN;
            }
        }
    }

    /// Makes the own card anew, and shows it to everybody.
    fn renew_card(&mut self) {
        if self.signer.is_some() && self.own_binding.is_none() {
            return;
        }
        let addresses = self.own_addresses();
        let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let millis = clock.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        self.sequence = millis.max(self.sequence.saturating_add(1));
        let card = Card::sign(&self.identity, self.own_binding.as_ref(), self.sequence, &addresses).encode();
        let now = (self.options.clock)();
        match KnownCard::check(&card, &self.committees, now, |_| None) {
            Ok(card) => {
                self.push_card(&card.bytes.clone(), None);
                self.own_card = Some(card);
                self.cards_changed = true;
            }
            Err(error) => warn!(%error, "our own binding is not in force; is the clock right?"),
        }
    }

    fn own_addresses(&self) -> Vec<Multiaddr> {
        if !self.options.external.is_empty() {
            return self.options.external.clone();
        }
        let all: Vec<Multiaddr> = self.swarm.listeners().filter(|a| is_peer_address(a)).cloned().collect();
        let others: Vec<Multiaddr> = all.iter().filter(|address| !is_loopback(address)).cloned().collect();
        if others.is_empty() { all } else { others }
    }

    fn set_committees(&mut self, committees: Vec<Arc<Committee>>) {
        self.committees = committees.into();
        let gone = match self.members.set(&self.committees) {
            Ok(gone) => gone,
            Err(error) => {
                warn!(%error, "an address of the committee file cannot be used");
                return;
            }
        };
        // Also those whose binding names none of the places that they have now.
        let now = (self.options.clock)();
        let unfit = self.members.recheck(&self.committees, now);
        self.close_where(|connection| {
            connection.member.is_some_and(|member| gone.contains(&member) || unfit.contains(&member))
        });
        self.tell_door();
        self.sign_once_more = self.signing;
        self.sign_binding();
    }

    fn tell_door(&mut self) {
        let now = (self.options.clock)();
        let known = self.members.known_peers(now);
        self.swarm.behaviour_mut().door.set_known(known);
    }

    /// Queues a coming or going. Of a member that comes and goes while nobody listens, the last two are kept.
    fn tell(&mut self, event: PeerEvent) {
        let whose = |event: &PeerEvent| match event {
            PeerEvent::Up(member) | PeerEvent::Down(member) => Some(*member),
            _ => None,
        };
        let of_member = |other: &PeerEvent| whose(other) == whose(&event);
        if self.backlog.iter().filter(|other| of_member(other)).count() < 2 {
            self.backlog.push_back(event);
        } else if let Some(last) = self.backlog.iter().rposition(of_member) {
            // Comings and goings alternate: what is queued before the last one says the same as the new one.
            self.backlog.remove(last);
        }
    }

    /// Passes on what waits, as far as there is room.
    fn flush_events(&mut self) {
        while let Some(event) = self.backlog.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(event)) = self.events.try_send(event) {
                self.backlog.push_front(event);
                return;
            }
        }
    }

    /// A warning, unless there was one of that kind within the minute.
    fn warn_once(&mut self, kind: &'static str, text: &str) {
        const QUIET: Duration = Duration::from_secs(60);
        let now = Instant::now();
        if self.warned.get(kind).is_none_or(|last| now.duration_since(*last) >= QUIET) {
            self.warned.insert(kind, now);
            warn!(kind, "{text}");
        }
    }
}

fn io_text(error: &io::Error) -> String {
    error.to_string()
}
