//! Protocols that exist only on connections of members.
//!
//! Until a connection's peer has shown its binding, the protocols of the behaviour inside are neither offered nor
//! spoken: a stranger's stream is refused while its protocol is negotiated. Two steps, because the two ends learn about
//! each other at different times: a peer that we know is listened to; one that knows us too is spoken to.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use either::Either;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::DeniedUpgrade;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, ListenUpgradeError,
    SendWrapper,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};

/// How far a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing is heard or said.
    Shut,
    /// The peer's streams are taken.
    Listen,
    /// Ours are opened too.
    Open,
}

/// A behaviour that is there only for members.
pub(super) struct Gated<B> {
    inner: B,
    orders: VecDeque<(PeerId, ConnectionId, Gate)>,
}

impl<B> Gated<B> {
    pub(super) fn new(inner: B) -> Self {
        Self { inner, orders: VecDeque::new() }
    }

    pub(super) fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Opens a connection further.
    pub(super) fn set(&mut self, peer: PeerId, connection: ConnectionId, gate: Gate) {
        self.orders.push_back((peer, connection, gate));
    }
}

/// What the behaviour tells its handlers.
#[derive(Debug)]
pub(super) enum ToHandler<E> {
    /// To open.
    Gate(Gate),
    /// For the handler inside.
    Inner(E),
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gated<B> {
    type ConnectionHandler = GatedHandler<THandler<B>>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(GatedHandler { inner, gate: Gate::Shut })
    }

    // Behaviours may offer addresses for a dial here. Ours are chosen by whoever dials, so none are asked for.

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let inner =
            self.inner.handle_established_outbound_connection(connection, peer, address, role, port)?;
        Ok(GatedHandler { inner, gate: Gate::Shut })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event {
            self.orders.retain(|(_, connection, _)| *connection != closed.connection_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection, gate)) = self.orders.pop_front() {
            let handler = NotifyHandler::One(connection);
            return Poll::Ready(ToSwarm::NotifyHandler { peer_id, handler, event: ToHandler::Gate(gate) });
        }
        self.inner.poll(cx).map(|order| order.map_in(ToHandler::Inner))
    }
}

/// The handler of one connection.
pub(super) struct GatedHandler<H> {
    inner: H,
    gate: Gate,
}

impl<H: ConnectionHandler> ConnectionHandler for GatedHandler<H> {
    type FromBehaviour = ToHandler<H::FromBehaviour>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Either<SendWrapper<H::InboundProtocol>, SendWrapper<DeniedUpgrade>>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = Option<H::InboundOpenInfo>;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        if self.gate == Gate::Shut {
            SubstreamProtocol::new(Either::Right(SendWrapper(DeniedUpgrade)), None)
        } else {
            self.inner
                .listen_protocol()
                .map_upgrade(|upgrade| Either::Left(SendWrapper(upgrade)))
                .map_info(Some)
        }
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        match self.gate {
            // The order to open wakes the connection's task.
            Gate::Shut => Poll::Pending,
            // What the handler inside wants to say while it may only listen is kept back by not asking it. It has
            // nothing to report then either: a member is spoken to milliseconds after it is listened to.
            Gate::Listen => Poll::Pending,
            Gate::Open => self.inner.poll(cx),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            ToHandler::Gate(gate) => self.gate = gate,
            ToHandler::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(stream) => match (stream.protocol, stream.info) {
                (futures::future::Either::Left(protocol), Some(info)) => {
                    ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
                }
                // Of a stream that began while the gate was shut; there is no such protocol.
                _ => return,
            },
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => match (error, info) {
                (Either::Left(error), Some(info)) => {
                    ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
                }
                _ => return,
            },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info })
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error })
            }
            ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
            ConnectionEvent::LocalProtocolsChange(change) => ConnectionEvent::LocalProtocolsChange(change),
            ConnectionEvent::RemoteProtocolsChange(change) => ConnectionEvent::RemoteProtocolsChange(change),
            _ => return,
        };
        self.inner.on_connection_event(event);
    }
}
