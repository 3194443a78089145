//! The first exchange on every connection, each way: a bounded greeting, and a bounded answer to it.
//!
//! ```text
//! greeting  u16 length || bytes        the peer's card, see [`Hello`]
//! answer    u16 length || bytes        welcome or refused, see [`Answer`]
//! ```
//!
//! The only protocol that exists for a stranger. One greeting is read of each connection; what the bytes mean is
//! decided outside, where bindings are known.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bincode::{Decode, Encode};
use futures::future::BoxFuture;
use futures::prelude::*;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::ReadyUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{ConnectionEvent, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{PeerId, StreamProtocol};

/// The protocol's name.
pub const HELLO_PROTOCOL: StreamProtocol = StreamProtocol::new("/das/peer/hello/1");
/// Longest greeting or answer.
pub const MAX_BYTES: usize = 4096;
/// Time for each half of the exchange.
pub const PATIENCE: Duration = Duration::from_secs(8);
/// Longest text of a refusal.
const MAX_TEXT: usize = 400;

const VERSION: u8 = 1;

/// A greeting.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// Drawn at the start of the process: connections of an earlier process are dead.
    pub boot: u64,
    /// The sender's clock, milliseconds since 1970.
    pub clock: u64,
    /// The sender's card, encoded.
    pub card: Vec<u8>,
}

/// The answer to a greeting.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// The binding is taken.
    Welcome,
    /// It is not, and the connection will be closed.
    Refused {
        /// Why, for the log of the other side.
        text: String,
    },
}

impl Answer {
    /// A refusal with a text of bounded length.
    pub fn refused(text: &impl ToString) -> Self {
        Self::Refused { text: text.to_string().chars().take(MAX_TEXT / 4).collect() }
    }
}

/// Writes a greeting or an answer.
pub fn encode(message: &impl Encode) -> Vec<u8> {
    let mut out = vec![VERSION];
    bincode::encode_into_std_write(message, &mut out, bincode::config::standard())
        .expect("writing to memory");
    out
}

/// Reads a greeting or an answer; `None` when it is malformed.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Option<T> {
    let rest = bytes.strip_prefix(&[VERSION])?;
    let config = bincode::config::standard().with_limit::<{ 2 * MAX_BYTES }>();
    match bincode::decode_from_slice(rest, config) {
        Ok((message, used)) if used == rest.len() => Some(message),
        _ => None,
    }
}

/// What happens on a connection.
#[derive(Debug)]
pub enum Event {
    /// The peer greets; it waits for [`Behaviour::answer`].
    Heard {
        /// Who.
        peer: PeerId,
        /// Where.
        connection: ConnectionId,
        /// The greeting.
        bytes: Vec<u8>,
    },
    /// The peer answered our greeting.
    Answered {
        /// Who.
        peer: PeerId,
        /// Where.
        connection: ConnectionId,
        /// The answer.
        bytes: Vec<u8>,
    },
    /// One half of the exchange failed.
    Failed {
        /// Who.
        peer: PeerId,
        /// Where.
        connection: ConnectionId,
        /// Why.
        error: io::Error,
    },
}

/// The exchange on all connections.
#[derive(Default)]
pub struct Behaviour {
    orders: VecDeque<(PeerId, ConnectionId, Order)>,
    events: VecDeque<Event>,
}

/// What a handler is to do.
#[derive(Debug)]
pub enum Order {
    /// Greet the peer.
    Greet(Vec<u8>),
    /// Answer its greeting.
    Answer(Vec<u8>),
}

/// What a handler reports.
#[derive(Debug)]
pub enum Report {
    /// A greeting.
    Heard(Vec<u8>),
    /// An answer.
    Answered(Vec<u8>),
    /// Neither.
    Failed(io::Error),
}

impl Behaviour {
    /// Greets the peer of a connection.
    pub fn greet(&mut self, peer: PeerId, connection: ConnectionId, bytes: Vec<u8>) {
        self.orders.push_back((peer, connection, Order::Greet(bytes)));
    }

    /// Answers the greeting of a connection.
    pub fn answer(&mut self, peer: PeerId, connection: ConnectionId, bytes: Vec<u8>) {
        self.orders.push_back((peer, connection, Order::Answer(bytes)));
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.orders.retain(|(_, connection, _)| *connection != closed.connection_id);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        self.events.push_back(match report {
            Report::Heard(bytes) => Event::Heard { peer, connection, bytes },
            Report::Answered(bytes) => Event::Answered { peer, connection, bytes },
            Report::Failed(error) => Event::Failed { peer, connection, error },
        });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(event));
        }
        if let Some((peer_id, connection, event)) = self.orders.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event });
        }
        Poll::Pending
    }
}

/// One half of the exchange, under way.
type Half<T> = BoxFuture<'static, io::Result<T>>;

/// The exchange on one connection.
#[derive(Default)]
pub struct Handler {
    /// The greeting to be sent as soon as there is a stream for it.
    greeting: Option<Vec<u8>>,
    /// Whether a stream is to be asked for.
    open: bool,
    /// A greeting was let in; there is only one of a connection.
    heard: bool,
    /// The peer's stream, while its greeting is being judged.
    waiting: Option<Stream>,
    reading: Option<Half<(Vec<u8>, Stream)>>,
    answering: Option<Half<()>>,
    greeting_out: Option<Half<Vec<u8>>>,
    failed: Option<io::Error>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Report;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(HELLO_PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Report>> {
        if let Some(error) = self.failed.take() {
            return report(Report::Failed(error));
        }
        if std::mem::take(&mut self.open) {
            let protocol =
                SubstreamProtocol::new(ReadyUpgrade::new(HELLO_PROTOCOL), ()).with_timeout(PATIENCE);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        if let Some(Poll::Ready(result)) = self.reading.as_mut().map(|reading| reading.poll_unpin(cx)) {
            self.reading = None;
            return report(match result {
                Ok((bytes, stream)) => {
                    self.waiting = Some(stream);
                    Report::Heard(bytes)
                }
                Err(error) => Report::Failed(error),
            });
        }
        if let Some(Poll::Ready(result)) = self.answering.as_mut().map(|answering| answering.poll_unpin(cx)) {
            self.answering = None;
            if let Err(error) = result {
                return report(Report::Failed(error));
            }
        }
        if let Some(Poll::Ready(result)) = self.greeting_out.as_mut().map(|out| out.poll_unpin(cx)) {
            self.greeting_out = None;
            return report(result.map_or_else(Report::Failed, Report::Answered));
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Greet(bytes) => {
                self.greeting = Some(bytes);
                self.open = true;
            }
            Order::Answer(bytes) => {
                if let Some(stream) = self.waiting.take() {
                    self.answering = Some(in_time(send_answer(stream, bytes)).boxed());
                }
            }
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match event {
            // A second greeting is dropped unread.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. })
                if !self.heard =>
            {
                self.heard = true;
                self.reading = Some(in_time(hear(protocol)).boxed());
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, .. }) => {
                if let Some(greeting) = self.greeting.take() {
                    self.greeting_out = Some(in_time(greet(protocol, greeting)).boxed());
                }
            }
            ConnectionEvent::DialUpgradeError(failed) => {
                self.failed = Some(io::Error::other(failed.error.to_string()));
            }
            _ => {}
        }
    }
}

fn report<A, B>(report: Report) -> Poll<ConnectionHandlerEvent<A, B, Report>> {
    Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report))
}

async fn in_time<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn hear(mut stream: Stream) -> io::Result<(Vec<u8>, Stream)> {
    let bytes = read(&mut stream).await?;
    Ok((bytes, stream))
}

async fn greet(mut stream: Stream, greeting: Vec<u8>) -> io::Result<Vec<u8>> {
    write(&mut stream, &greeting).await?;
    let answer = read(&mut stream).await?;
    // The answer is here; whether the stream closes in order changes nothing.
    let _ = stream.close().await;
    Ok(answer)
}

async fn send_answer(mut stream: Stream, answer: Vec<u8>) -> io::Result<()> {
    write(&mut stream, &answer).await?;
    stream.close().await
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a greeting or answer that is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}
