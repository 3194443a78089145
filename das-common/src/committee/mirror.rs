//! Mirrors: peers that keep copies and sign nothing.

use super::error::Problem;
use super::member::{Member, PeerAddress};
use crate::binding::PeerKey;

/// Most mirrors of a committee file.
pub const MAX_MIRRORS: usize = 64;

/// A mirror that the members let in. It has no BLS key: the file itself vouches for its peer key.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Unique among members and mirrors.
    pub name: String,
    /// Where members reach it; without, it calls them.
    pub peer: Option<PeerAddress>,
    /// Its peer key, given as its peer id.
    pub peer_key: PeerKey,
}

pub(super) fn parse_key(mirror: &str, text: &str) -> Result<PeerKey, Problem> {
    text.trim().parse().map_err(|source| Problem::PeerId {
        mirror: mirror.to_owned(),
        got: text.to_owned(),
        source,
    })
}

/// Refuses what two of them share.
pub(super) fn check_distinct(members: &[Member], earlier: &[Mirror], mirror: &Mirror) -> Result<(), Problem> {
    let repeated = |field, other: &str, value: &dyn ToString| Problem::Repeated {
        field,
        member: mirror.name.clone(),
        other: other.to_owned(),
        value: value.to_string(),
    };
    let others = members.iter().map(|member| (&member.name, &member.peer, None));
    let others = others.chain(earlier.iter().map(|other| (&other.name, &other.peer, Some(other.peer_key))));
    for (name, peer, key) in others {
        if *name == mirror.name {
            return Err(repeated("name", name, name));
        }
        if key == Some(mirror.peer_key) {
            return Err(repeated("peer-id", name, &mirror.peer_key));
        }
        if let (Some(ours), Some(theirs)) = (&mirror.peer, peer)
            && ours == theirs
        {
            return Err(repeated("peer", name, &ours.as_str()));
        }
    }
    Ok(())
}
