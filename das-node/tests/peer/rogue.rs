//! Somebody who speaks the protocols by hand, and says whatever he likes.

use std::collections::HashMap;
use std::io;

use das_common::binding::{Binding, DEFAULT_LIFE, Place, SignedBinding};
use das_common::committee::Committee;
use das_node::peer::hello::{self, Answer, Hello};
use das_node::peer::{Card, FRAME_PROTOCOL, PeerIdentity};
use futures::prelude::*;
use libp2p::request_response::{self, Codec, OutboundFailure, OutboundRequestId, ProtocolSupport};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, SwarmBuilder, noise, tcp, yamux};

use crate::team::{LONG, secret};

/// gossipsub's protocol.
const GOSSIP: StreamProtocol = StreamProtocol::new("/meshsub/1.1.0");

/// In front of bytes: after them the stream is left open, and nothing more comes.
pub(crate) const HOLD: u8 = 200;

/// Writes what it is given, and reads what comes.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        if *protocol == GOSSIP {
            // What the member has to say is of no interest, but it wants to say it.
            futures::io::copy(io, &mut futures::io::sink()).await?;
            return Ok(Vec::new());
        }
        let mut head = [0; 5];
        io.read_exact(&mut head).await?;
        let mut bytes = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize];
        io.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(
        &mut self,
        protocol: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Vec<u8>> {
        if *protocol == GOSSIP {
            return Ok(Vec::new());
        }
        let mut bytes = Vec::new();
        io.take(1 << 20).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        let held = bytes.strip_prefix(&[HOLD]);
        io.write_all(held.unwrap_or(&bytes)).await?;
        io.flush().await?;
        match held {
            Some(_) => future::pending().await,
            None => Ok(()),
        }
    }

    async fn write_response<T: AsyncWrite + Unpin + Send>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        io.write_all(&bytes).await
    }
}

#[derive(NetworkBehaviour)]
struct Wire {
    hello: hello::Behaviour,
    frames: request_response::Behaviour<Raw>,
    gossip: request_response::Behaviour<Raw>,
}

/// One connection to a member.
pub(crate) struct Rogue {
    swarm: Swarm<Wire>,
    peer: PeerId,
    connection: ConnectionId,
    /// What a request of the member is answered with.
    pub(crate) answer: Vec<u8>,
    outcomes: HashMap<OutboundRequestId, Result<Vec<u8>, OutboundFailure>>,
    answered: Option<Answer>,
    closed: bool,
}

/// A request frame of the application.
pub(crate) fn frame(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A binding of member `i` of a committee, signed with the key of member `signer`.
pub(crate) fn binding(
    committee: &Committee,
    i: usize,
    signer: u8,
    identity: &PeerIdentity,
    issued: u64,
    life: u64,
) -> SignedBinding {
    let binding = Binding {
        places: vec![Place::of(committee, i).unwrap()],
        peer_key: identity.peer_key(),
        issued,
        not_after: issued + life,
    };
    let signature = secret(signer).sign(&binding.digest());
    binding.signed(&signature)
}

/// A greeting with that binding.
pub(crate) fn greeting(identity: &PeerIdentity, binding: Option<&SignedBinding>) -> Vec<u8> {
    let card = Card::sign(identity, binding, 1, &[]).encode();
    hello::encode(&Hello { boot: 1, clock: 0, card })
}

pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

impl Rogue {
    /// Connects and says nothing. `None` when the connection is refused.
    pub(crate) async fn connect(address: &str, identity: &PeerIdentity) -> Option<Self> {
        let keypair = libp2p::identity::Keypair::from(identity.keypair().clone());
        let config = || {
            request_response::Config::default().with_max_concurrent_streams(1000).with_request_timeout(LONG)
        };
        let wire = Wire {
            hello: hello::Behaviour::default(),
            frames: request_response::Behaviour::new([(FRAME_PROTOCOL, ProtocolSupport::Full)], config()),
            gossip: request_response::Behaviour::new([(GOSSIP, ProtocolSupport::Full)], config()),
        };
        let mut swarm = SwarmBuilder::with_existing_identity(keypair)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_quic()
            .with_behaviour(|_| wire)
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(LONG))
            .build();
        let address: Multiaddr = address.parse().unwrap();
        swarm.dial(DialOpts::from(address)).unwrap();
        let established = async {
            loop {
                match swarm.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                        return Some((peer_id, connection_id));
                    }
                    SwarmEvent::OutgoingConnectionError { .. } => return None,
                    _ => {}
                }
            }
        };
        let (peer, connection) = tokio::time::timeout(LONG, established).await.unwrap()?;
        let (outcomes, answer) = (HashMap::new(), Vec::new());
        Some(Self { swarm, peer, connection, answer, outcomes, answered: None, closed: false })
    }

    /// Connects and is taken for member `i`.
    pub(crate) async fn of_member(
        address: &str,
        committee: &Committee,
        i: u8,
        identity: &PeerIdentity,
        issued: u64,
    ) -> Self {
        let mut rogue = Self::connect(address, identity).await.unwrap();
        let binding = binding(committee, i.into(), i, identity, issued, DEFAULT_LIFE.as_secs());
        let answer = rogue.greet(greeting(identity, Some(&binding))).await;
        assert_eq!(answer, Some(Answer::Welcome));
        rogue
    }

    /// Greets; `None` when the connection is closed instead of an answer.
    pub(crate) async fn greet(&mut self, bytes: Vec<u8>) -> Option<Answer> {
        self.answered = None;
        self.swarm.behaviour_mut().hello.greet(self.peer, self.connection, bytes);
        self.until(|rogue| rogue.answered.is_some() || rogue.closed).await;
        self.answered.clone()
    }

    /// The text of a refusal.
    pub(crate) async fn refused(&mut self, bytes: Vec<u8>) -> String {
        match self.greet(bytes).await {
            Some(Answer::Refused { text }) => text,
            other => panic!("{other:?}"),
        }
    }

    /// Sends raw bytes on a stream of frames.
    pub(crate) fn send(&mut self, raw: Vec<u8>) -> OutboundRequestId {
        self.swarm.behaviour_mut().frames.send_request(&self.peer, raw)
    }

    /// Sends raw bytes on a stream of gossip.
    pub(crate) async fn gossip(&mut self, raw: Vec<u8>) {
        let id = self.swarm.behaviour_mut().gossip.send_request(&self.peer, raw);
        let _ = self.outcome(id).await;
    }

    /// What became of a request.
    pub(crate) async fn outcome(&mut self, id: OutboundRequestId) -> Result<Vec<u8>, OutboundFailure> {
        self.until(|rogue| rogue.outcomes.contains_key(&id)).await;
        self.outcomes.remove(&id).unwrap()
    }

    pub(crate) async fn until_closed(&mut self) {
        self.until(|rogue| rogue.closed).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Goes on as usual while something else happens.
    pub(crate) async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return done,
                () = self.step() => {}
            }
        }
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                self.step().await;
            }
        };
        tokio::time::timeout(LONG, wait).await.expect("it does not come to pass");
    }

    async fn step(&mut self) {
        use request_response::{Event, Message};
        match self.swarm.select_next_some().await {
            SwarmEvent::ConnectionClosed { .. } => self.closed = true,
            SwarmEvent::Behaviour(WireEvent::Hello(event)) => match event {
                hello::Event::Heard { peer, connection, .. } => {
                    let welcome = hello::encode(&Answer::Welcome);
                    self.swarm.behaviour_mut().hello.answer(peer, connection, welcome);
                }
                hello::Event::Answered { bytes, .. } => self.answered = hello::decode(&bytes),
                hello::Event::Failed { .. } => {}
            },
            SwarmEvent::Behaviour(WireEvent::Frames(event) | WireEvent::Gossip(event)) => match event {
                Event::Message { message: Message::Response { request_id, response }, .. } => {
                    self.outcomes.insert(request_id, Ok(response));
                }
                Event::Message { message: Message::Request { channel, .. }, .. } => {
                    let answer = self.answer.clone();
                    let _ = self.swarm.behaviour_mut().frames.send_response(channel, answer);
                }
                Event::OutboundFailure { request_id, error, .. } => {
                    self.outcomes.insert(request_id, Err(error));
                }
                _ => {}
            },
            _ => {}
        }
    }
}

/// A gossip message of that author, signed as gossipsub signs, in its frame.
pub(crate) fn gossip_message(author: &PeerIdentity, data: &[u8], number: u64) -> Vec<u8> {
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        [vec![number << 3 | 2], varint(bytes.len()), bytes.to_vec()].concat()
    }
    let keypair = libp2p::identity::Keypair::from(author.keypair().clone());
    let from = keypair.public().to_peer_id().to_bytes();
    let topic = das_node::peer::GOSSIP_TOPIC.as_bytes();
    let message =
        [field(1, &from), field(2, data), field(3, &number.to_be_bytes()), field(4, topic)].concat();
    let signature = keypair.sign(&[b"libp2p-pubsub:".as_slice(), &message].concat()).unwrap();
    let publish = field(2, &[message, field(5, &signature)].concat());
    [varint(publish.len()), publish].concat()
}

/// A length as protobuf writes it.
pub(crate) fn varint(mut number: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 128 {
        out.push((number % 128) as u8 | 128);
        number /= 128;
    }
    out.push(number as u8);
    out
}
