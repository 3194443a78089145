//! Whom to ask next, as pure code: no clock, no sockets, no hashing.
//!
//! ```text
//!                 in time: counted on        late: not counted on, but its answer is taken
//! shards          as many as are missing     (the time in which 95 % of the answers came has passed)
//! whole copies    none; one as soon as the shards that can still come are too few
//! ```
//!
//! A member is asked for its shard once and for its whole copy once, and again only after it refused for now, when the
//! caller says that enough time has passed. When the caller's patience is over, a refusal is final; so whatever the
//! members do, a gather ends.
//!
//! Shards are kept by the root they lead to. A liar can make roots, but every member adds one shard to one root, so the
//! batch's own root reaches k as soon as k honest members have answered, whatever the others sent before.

use std::collections::VecDeque;

use das_common::erasure::{CheckedShard, Root};

use super::source::SourceError;

/// Whole copies under way at the same time.
pub(super) const MAX_WHOLE: usize = 2;

/// One question to one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    Shard(usize),
    Whole(usize),
}

impl Ask {
    pub(super) fn member(self) -> usize {
        let (Self::Shard(member) | Self::Whole(member)) = self;
        member
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Unasked,
    Asked,
    Late,
    Gave,
    /// Refused for now; asked once more when the caller says.
    Later,
    Failed(SourceError),
    Lied,
}

impl Standing {
    fn is_open(self) -> bool {
        matches!(self, Self::Asked | Self::Late)
    }
}

/// The shards of one root.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) root: Root,
    /// Of distinct indices; a peer's shard has the index of the peer.
    pub(super) shards: Vec<CheckedShard>,
    /// It has rebuilt something that is not the batch.
    pub(super) dishonest: bool,
}

/// The state of one gather.
#[derive(Debug)]
pub(super) struct Plan {
    needed: usize,
    own: Option<usize>,
    /// Members not yet asked for shards, best first.
    rest: VecDeque<usize>,
    /// By member: what came of asking for the shard, and for the whole copy.
    shard: Vec<Standing>,
    whole: Vec<Standing>,
    trusted: Option<Root>,
    groups: Vec<Group>,
    /// Refusals are not final.
    patient: bool,
}

/// Why nothing came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failed {
    DishonestRoot(Root),
    /// Everybody answered, and nobody has it in any form.
    NotFound {
        asked: usize,
    },
    /// Everybody answered, and too few shards exist.
    Missing {
        got: usize,
    },
    /// Somebody could not answer.
    Unavailable {
        got: usize,
        failures: Vec<(usize, SourceError)>,
    },
}

impl Plan {
    /// `order`: the members to ask, best first, without oneself. With a trusted root, shards under other roots do not
    /// count unless that root turns out to be dishonest.
    pub(super) fn new(
        needed: usize,
        members: usize,
        own: Option<usize>,
        order: Vec<usize>,
        trusted: Option<Root>,
        own_shard: Option<CheckedShard>,
    ) -> Self {
        let shard = vec![Standing::Unasked; members];
        let mut plan = Self {
            needed,
            own,
            rest: order.into(),
            whole: shard.clone(),
            shard,
            trusted,
            groups: Vec::new(),
            patient: true,
        };
        if let Some(own_shard) = own_shard {
            plan.add(own_shard);
        }
        plan
    }

    fn add(&mut self, shard: CheckedShard) {
        match self.groups.iter_mut().find(|group| group.root == *shard.root()) {
            // A mirror may begin with a shard that some member has too.
            Some(group) if group.shards.iter().any(|held| held.index() == shard.index()) => {}
            Some(group) => group.shards.push(shard),
            None => {
                let root = *shard.root();
                self.groups.push(Group { root, shards: vec![shard], dishonest: false });
            }
        }
    }

    /// The groups that may be the batch's.
    fn candidates(&self) -> impl Iterator<Item = &Group> {
        let trusted = self.trusted;
        self.groups
            .iter()
            .filter(move |group| !group.dishonest && trusted.is_none_or(|root| root == group.root))
    }

    fn best(&self) -> usize {
        self.candidates().map(|group| group.shards.len()).max().unwrap_or(0)
    }

    /// Shards still needed.
    pub(super) fn missing(&self) -> usize {
        self.needed.saturating_sub(self.best())
    }

    /// The shards that rebuild the batch, or what a liar made of it.
    pub(super) fn ready(&self) -> Option<&Group> {
        self.candidates().find(|group| group.shards.len() >= self.needed)
    }

    /// What this root rebuilds is not the batch. Whoever trusted it was wrong, so from now on every root counts.
    pub(super) fn dishonest(&mut self, root: Root) {
        if self.trusted == Some(root) {
            self.trusted = None;
        }
        self.groups.iter_mut().filter(|group| group.root == root).for_each(|group| group.dishonest = true);
    }

    /// One question more than are needed, not counted on: to learn how a member does.
    pub(super) fn extra(&mut self, member: usize) -> Option<Ask> {
        let position = self.rest.iter().position(|waiting| *waiting == member)?;
        self.rest.remove(position);
        self.shard[member] = Standing::Late;
        Some(Ask::Shard(member))
    }

    /// What to ask now.
    pub(super) fn asks(&mut self) -> Vec<Ask> {
        let mut asks = Vec::new();
        if self.ready().is_some() {
            return asks;
        }
        let missing = self.missing();
        let count = |plan: &Self, what| plan.shard.iter().filter(|standing| **standing == what).count();
        let mut in_time = count(self, Standing::Asked);
        while in_time < missing {
            let Some(member) = self.rest.pop_front() else { break };
            self.shard[member] = Standing::Asked;
            asks.push(Ask::Shard(member));
            in_time += 1;
        }
        // Where somebody has the batch whole and nobody gave a shard, it has probably not been cut up yet.
        let has_whole = self.shard.iter().any(|standing| standing.is_whole_only());
        let uncut = has_whole && !self.shard.contains(&Standing::Gave);
        // Who refused for now is worth waiting for, unless a whole copy is known of.
        let can_come = in_time + if has_whole { 0 } else { count(self, Standing::Later) };
        if (can_come < missing || uncut) && !self.whole.contains(&Standing::Asked) {
            let under_way = self.whole.iter().filter(|standing| standing.is_open()).count();
            if let Some(member) = self.next_whole().filter(|_| under_way < MAX_WHOLE) {
                self.whole[member] = Standing::Asked;
                asks.push(Ask::Whole(member));
            }
        }
        asks
    }

    /// Who is most likely to have a whole copy. Not who says that he has nothing, and not who does not answer.
    fn next_whole(&self) -> Option<usize> {
        let rank = |standing: Standing| match standing {
            Standing::Failed(SourceError::OnlyWhole { .. }) => Some(0),
            // It may still have both forms.
            Standing::Gave => Some(1),
            Standing::Failed(SourceError::Refused | SourceError::Malformed) => Some(2),
            Standing::Lied => Some(3),
            Standing::Failed(SourceError::Absent | SourceError::Unreachable | SourceError::NoAnswer)
            | Standing::Unasked
            | Standing::Asked
            | Standing::Late
            | Standing::Later => None,
        };
        let members = self.shard.iter().zip(&self.whole).enumerate();
        members
            .filter(|(_, (_, whole))| **whole == Standing::Unasked)
            .filter_map(|(member, (shard, _))| Some((rank(*shard)?, member)))
            .min()
            .map(|(_, member)| member)
    }

    /// The question is not counted on any more, so that somebody else is asked. False when it never was.
    pub(super) fn late(&mut self, ask: Ask) -> bool {
        let standing = self.standing(ask);
        let counted_on = *standing == Standing::Asked;
        if counted_on {
            *standing = Standing::Late;
        }
        counted_on
    }

    /// The member's shard has come and leads to some root.
    pub(super) fn gave(&mut self, member: usize, shard: CheckedShard) {
        self.shard[member] = Standing::Gave;
        self.add(shard);
    }

    /// The member gave nothing.
    pub(super) fn failed(&mut self, ask: Ask, error: SourceError) {
        let later = self.patient && error == SourceError::Refused;
        *self.standing(ask) = if later { Standing::Later } else { Standing::Failed(error) };
    }

    /// Does anybody wait to be asked once more?
    pub(super) fn has_later(&self) -> bool {
        self.shard.iter().chain(&self.whole).any(|standing| *standing == Standing::Later)
    }

    /// Whoever refused for now may be asked once more.
    pub(super) fn ask_again(&mut self) {
        for (member, standing) in self.shard.iter_mut().enumerate() {
            if *standing == Standing::Later {
                *standing = Standing::Unasked;
                self.rest.push_back(member);
            }
        }
        let whole = self.whole.iter_mut().filter(|standing| **standing == Standing::Later);
        whole.for_each(|standing| *standing = Standing::Unasked);
    }

    /// From now on a refusal is final, and those that were heard are.
    pub(super) fn lose_patience(&mut self) {
        self.patient = false;
        let standings = self.shard.iter_mut().chain(&mut self.whole);
        standings
            .filter(|standing| **standing == Standing::Later)
            .for_each(|standing| *standing = Standing::Failed(SourceError::Refused));
    }

    /// The member sent something that is not what was asked for.
    pub(super) fn lied(&mut self, ask: Ask) {
        *self.standing(ask) = Standing::Lied;
    }

    fn standing(&mut self, ask: Ask) -> &mut Standing {
        match ask {
            Ask::Shard(member) => &mut self.shard[member],
            Ask::Whole(member) => &mut self.whole[member],
        }
    }

    /// Does anything speak for it that the batch exists?
    pub(super) fn has_trace(&self) -> bool {
        !self.groups.is_empty() || self.shard.iter().any(|standing| standing.is_whole_only())
    }

    /// The members that said they have nothing.
    pub(super) fn absent(&self) -> impl Iterator<Item = usize> {
        let standings = self.shard.iter().enumerate();
        standings.filter(|(_, s)| **s == Standing::Failed(SourceError::Absent)).map(|(member, _)| member)
    }

    /// The members that have it in some form.
    pub(super) fn had(&self) -> impl Iterator<Item = usize> {
        let standings = self.shard.iter().enumerate();
        standings.filter(|(_, s)| **s == Standing::Gave || s.is_whole_only()).map(|(member, _)| member)
    }

    /// Bytes of all shards in memory.
    pub(super) fn held_bytes(&self) -> u64 {
        self.groups.iter().flat_map(|group| &group.shards).map(|shard| shard.bytes().len() as u64).sum()
    }

    /// All shards, by root.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter()
    }

    /// All shards, by root.
    pub(super) fn into_groups(self) -> Vec<Group> {
        self.groups
    }

    /// The verdict when there is nobody left to ask and nobody left to wait for.
    pub(super) fn verdict(&self) -> Failed {
        if let Some(group) = self.groups.iter().find(|group| group.dishonest) {
            return Failed::DishonestRoot(group.root);
        }
        let got = self.best();
        let standings = self.shard.iter().zip(&self.whole).enumerate();
        let peers = standings.filter(|(member, _)| Some(*member) != self.own);
        let failures: Vec<_> = peers
            .filter_map(|(member, (shard, whole))| {
                let of = |standing: Standing| match standing {
                    Standing::Unasked | Standing::Gave | Standing::Failed(SourceError::Absent) => None,
                    Standing::Failed(SourceError::OnlyWhole { .. }) => None,
                    Standing::Failed(error) => Some(error),
                    Standing::Later => Some(SourceError::Refused),
                    Standing::Asked | Standing::Late => Some(SourceError::NoAnswer),
                    Standing::Lied => Some(SourceError::Malformed),
                };
                Some((member, of(*shard).or_else(|| of(*whole))?))
            })
            .collect();
        if !failures.is_empty() {
            Failed::Unavailable { got, failures }
        } else if self.has_trace() {
            Failed::Missing { got }
        } else {
            Failed::NotFound { asked: self.absent().count() }
        }
    }
}

impl Standing {
    fn is_whole_only(self) -> bool {
        matches!(self, Self::Failed(SourceError::OnlyWhole { .. }))
    }
}
