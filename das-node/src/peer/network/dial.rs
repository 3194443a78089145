//! Calling members: when, and where.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use das_common::binding::MemberId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, PeerId};
use tracing::debug;

use super::{Internal, PeerNetwork};
use crate::peer::address::{resolve, split_peer_id};

/// Most addresses called at once.
const MAX_CALLS: usize = 12;

/// When a member is called, and the calls under way.
pub(super) struct Dial {
    next: Instant,
    failures: u32,
    /// Names are being looked up.
    looking: bool,
    pending: HashSet<ConnectionId>,
}

impl Dial {
    pub(super) fn new(first: Instant) -> Self {
        Self { next: first, failures: 0, looking: false, pending: HashSet::new() }
    }

    pub(super) fn soon(&mut self) {
        self.failures = 0;
        self.next = Instant::now();
    }

    pub(super) fn after(&mut self, wait: Duration) {
        self.next = Instant::now() + wait;
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.looking && self.pending.is_empty() && now >= self.next
    }

    pub(super) fn connected(&mut self, connection: ConnectionId, patience: Duration) -> bool {
        let ours = self.pending.remove(&connection);
        if ours {
            // Not again while bindings are being exchanged.
            self.next = Instant::now() + patience;
        }
        ours
    }

    /// `None`: not ours. True: it was the last one under way, and none has connected.
    pub(super) fn failed(&mut self, connection: ConnectionId) -> Option<bool> {
        self.pending.remove(&connection).then(|| self.pending.is_empty() && Instant::now() >= self.next)
    }

    pub(super) fn back_off(&mut self, least: Duration, most: Duration) {
        let doubled = least.saturating_mul(1 << self.failures.min(16)).min(most);
        self.failures = self.failures.saturating_add(1);
        self.next = Instant::now() + doubled.mul_f64(rand::random_range(0.5..1.5));
    }
}

impl PeerNetwork {
    /// Begins the calls that are due.
    pub(super) fn call_members(&mut self, now: Instant) {
        if self.own_card.is_none() {
            return;
        }
        for (id, member) in self.members.all() {
            if member.is_up() || !member.dial.is_due(now) {
                continue;
            }
            let known = member.card.iter().flat_map(|card| {
                card.addresses.iter().map(|address| {
                    let (address, _) = split_peer_id(address.clone());
                    address.with(libp2p::multiaddr::Protocol::P2p(card.peer))
                })
            });
            let mut addresses: Vec<Multiaddr> = member.addresses.iter().cloned().chain(known).collect();
            addresses.truncate(MAX_CALLS);
            if addresses.is_empty() {
                // It will call us, or its card will come.
                member.dial.after(Duration::from_secs(5));
                continue;
            }
            member.dial.looking = true;
            let found = self.internal_to.clone();
            tokio::spawn(async move {
                let mut resolved = Vec::new();
                let mut error = None;
                for address in addresses {
                    match resolve(address).await {
                        Ok(addresses) => resolved.extend(addresses),
                        Err(reason) => error = Some(reason),
                    }
                }
                let _ = found.send(Internal::Resolved { member: id, addresses: resolved, error });
            });
        }
    }

    /// Calls a member at all its addresses at once. Where the peer id is known, nobody else is talked to there.
    pub(super) fn dial(&mut self, id: MemberId, addresses: Vec<Multiaddr>, error: Option<&str>) {
        let own = *self.swarm.local_peer_id();
        let Some(member) = self.members.get(id) else { return };
        member.dial.looking = false;
        if member.is_up() {
            return;
        }
        if let Some(error) = error {
            self.members.note_error(id, error);
        }
        let mut calls: Vec<(Option<PeerId>, Multiaddr)> = Vec::new();
        for address in addresses {
            let (address, peer) = split_peer_id(address);
            if peer != Some(own) && !calls.contains(&(peer, address.clone())) {
                calls.push((peer, address));
            }
        }
        // An address of the committee file is not called twice because a card names it too.
        let named: Vec<Multiaddr> =
            calls.iter().filter(|(peer, _)| peer.is_none()).map(|(_, address)| address.clone()).collect();
        calls.retain(|(peer, address)| peer.is_none() || !named.contains(address));
        let mut begun = HashSet::new();
        for (peer, address) in calls.into_iter().take(MAX_CALLS) {
            let options = match peer {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(vec![address])
                    .allocate_new_port()
                    .build(),
                None => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
            };
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => {
                    begun.insert(connection);
                }
                Err(error) => self.members.note_error(id, &describe(&error)),
            }
        }
        if begun.is_empty() {
            self.members.call_failed(id, "there is no address to call");
        } else if let Some(member) = self.members.get(id) {
            member.dial.pending.extend(begun);
        }
        let failures = self.members.get(id).map_or(0, |member| member.dial.failures());
        debug!(member = %self.members.name(id), failures, "calling");
        if failures > 0 {
            // Perhaps it has moved: the others may know.
            self.ask_for_cards();
        }
    }
}

/// A failed dial in one line.
pub(super) fn describe(error: &DialError) -> String {
    match error {
        DialError::Transport(errors) => {
            let one = errors.iter().map(|(address, error)| format!("{address}: {}", innermost(error)));
            one.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { obtained, address } => {
            format!("{address}: another peer answers there, {obtained}")
        }
        other => other.to_string(),
    }
}

/// libp2p wraps an error in several others that say nothing.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (least, most) = (Duration::from_millis(500), Duration::from_secs(60));
        let mut dial = Dial::new(Instant::now());
        for expected in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0] {
            let before = Instant::now();
            dial.back_off(least, most);
            let pause = dial.next.duration_since(before).as_secs_f64();
            assert!(pause >= expected * 0.5 && pause <= expected * 1.5 + 1.0, "{pause} of {expected}");
        }
        for _ in 0..100 {
            dial.back_off(least, most);
        }
        assert!(dial.next <= Instant::now() + most * 2);
        dial.soon();
        assert!(dial.is_due(Instant::now()) && dial.failures() == 0);
    }
}
