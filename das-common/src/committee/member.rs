//! One member of a committee, and the checks on its fields.

use std::fmt;

use url::Url;

use super::error::{Problem, UrlProblem};
use crate::bls::PublicKey;

/// The longest name of a member, in characters.
pub const MAX_NAME: usize = 64;

/// One member: who it is and where it answers.
#[derive(Clone, Debug)]
pub struct Member {
    /// Unique in the committee.
    pub name: String,
    /// Strictly checked, possession proved.
    pub public_key: PublicKey,
    /// Where it takes stores (JSON-RPC).
    pub rpc: Url,
    /// Where it serves reads; `None` only for a committee from Nitro's options, which do not say.
    pub rest: Option<Url>,
    /// Where other members reach it.
    pub peer: Option<PeerAddress>,
}

/// A member's peer address in multiaddr notation; its protocols are checked by whoever dials it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PeerAddress(String);

impl PeerAddress {
    /// The text, beginning with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn parse(member: &str, text: &str) -> Result<Self, Problem> {
        let mut parts = text.split('/');
        let begins = parts.next() == Some("");
        let (mut count, mut clean) = (0, true);
        for part in parts {
            count += 1;
            clean &= !part.is_empty() && part.chars().all(|c| c.is_ascii_graphic());
        }
        if begins && clean && count >= 2 {
            Ok(Self(text.to_owned()))
        } else {
            Err(Problem::Peer { member: member.to_owned(), got: text.to_owned() })
        }
    }
}

impl fmt::Debug for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    // Names appear in metric labels, log lines and tables.
    let printable = |c: char| !c.is_control() && !c.is_whitespace();
    if (1..=MAX_NAME).contains(&name.chars().count()) && name.chars().all(printable) {
        Ok(())
    } else {
        Err(Problem::Name { got: name.to_owned(), limit: MAX_NAME })
    }
}

pub(super) fn parse_key(member: &str, base64: &str) -> Result<PublicKey, Problem> {
    let bytes = base64_simd::STANDARD
        .decode_to_vec(base64.trim())
        .map_err(|_| Problem::KeyNotBase64 { member: member.to_owned() })?;
    PublicKey::parse(&bytes).map_err(|source| Problem::Key { member: member.to_owned(), source })
}

pub(super) fn parse_url(member: &str, field: &'static str, text: &str) -> Result<Url, Problem> {
    check_url(text).map_err(|reason| {
        let got = match (&reason, text.rsplit_once('@')) {
            // The error is logged: what was a secret stays one.
            (UrlProblem::Credentials, Some((_, rest))) => format!("...@{rest}"),
            _ => text.to_owned(),
        };
        Problem::Url { member: member.to_owned(), field, got, reason }
    })
}

fn check_url(text: &str) -> Result<Url, UrlProblem> {
    let url = Url::parse(text)?;
    if !matches!(url.scheme(), "http" | "https") {
        Err(UrlProblem::Scheme)
    } else if !url.username().is_empty() || url.password().is_some() {
        Err(UrlProblem::Credentials)
    } else if url.query().is_some() || url.fragment().is_some() {
        Err(UrlProblem::Tail)
    } else {
        Ok(url)
    }
}

/// Refuses what two members share. `members` is short (at most 64), so the quadratic look is cheap.
pub(super) fn check_distinct(earlier: &[Member], member: &Member) -> Result<(), Problem> {
    let repeated = |field, other: &Member, value: String| Problem::Repeated {
        field,
        member: member.name.clone(),
        other: other.name.clone(),
        value,
    };
    for other in earlier {
        if other.public_key.point_bytes() == member.public_key.point_bytes() {
            let start = const_hex::encode(&member.public_key.point_bytes()[..8]);
            return Err(repeated("public-key", other, format!("0x{start}...")));
        }
        // One member may serve both ports behind one URL; two members cannot share any.
        let same_url = urls(member).find(|url| urls(other).any(|theirs| plain(theirs) == plain(url)));
        if let Some(url) = same_url {
            return Err(repeated("url", other, url.to_string()));
        }
        if other.name == member.name {
            return Err(repeated("name", other, member.name.clone()));
        }
        if member.peer.is_some() && member.peer == other.peer {
            let peer = member.peer.as_ref().map(|peer| peer.as_str().to_owned());
            return Err(repeated("peer", other, peer.unwrap_or_default()));
        }
    }
    Ok(())
}

fn urls(member: &Member) -> impl Iterator<Item = &Url> {
    std::iter::once(&member.rpc).chain(&member.rest)
}

/// A URL as it is compared: without a closing slash, which means nothing to our clients.
fn plain(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}
