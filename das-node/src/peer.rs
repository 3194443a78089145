//! Peers: opaque, bounded frames between the members of a committee, over libp2p.
//!
//! **Guarantee.** What comes out as an event of a member was sent by whoever holds the peer key that this member's BLS
//! key vouched for, with a binding in force and not superseded (a mirror's key is vouched for by the committee file).
//! Everybody else gets one bounded exchange of a few kilobytes per connection, and then a refusal; the other protocols
//! do not exist for him. Whatever anybody sends, memory is bounded by [`PeerLimits`].
//!
//! ```text
//!            door             hello                    gated
//!  address ─► tokens per ─► binding and addresses ─► frames (ask, answer), gossip, ping, identify
//!             address       both ways, 10 s            tokens per member, budgets of memory
//! ```
//!
//! A member is known by its [`MemberId`](das_common::binding::MemberId), whatever connection, address or peer key it has
//! today. Its *card* (binding and signed addresses) is passed on by all members, so that one behind a changed address is found through the others.

mod address;
mod bucket;
mod budget;
mod card;
mod door;
mod frames;
mod gated;
mod handle;
pub mod hello;
mod identity;
mod network;
mod options;

use das_common::telemetry::names;

pub use address::{AddressError, parse_address};
pub use card::{Card, CardError};
pub use frames::{FRAME_PROTOCOL, FrameCodec, FrameRequest, FrameResponse};
pub use handle::{AskError, MemberStatus, PeerEvent, PeerHandle, PublishError, Reply, Verdict};
pub use identity::{KEY_FILE, PeerIdentity, PeerKeyFileError, peer_key_signed};
pub use network::{GOSSIP_TOPIC, PeerError, PeerNetwork};
pub use options::{Clock, PeerLimits, PeerOptions, system_clock, wants_peers};

/// Counts a refusal.
fn refused(reason: &'static str) {
    metrics::counter!(names::PEER_REFUSED, "reason" => reason).increment(1);
}
