//! What is remembered of one batch, and the keys by which the work on it is found.
//!
//! ```text
//! Q Encode   coding  since hash                     whole; no shard yet
//! Q State    coding  since hash                     a shard that is to be stated (again)
//! Q Wait     coding  class  since hash              whole, shard stated; too few others
//! Q Dropping coding  since hash                     the whole copy is being dropped
//! Q Dropped  coding  class  since hash              the shard only
//! Q Missing  coding  since hash                     should be here and is not
//! Q Whole    coding  since hash                     whole, and to stay so
//! Q Keep     coding  since hash                     here, and somebody with authority wants it kept for longer
//! class      u16 own witness | u8 count | u16 witness ...      whose statements reach to the promise
//! ```
//!
//! All batches of one class stand and fall together, so what a member's silence or new storage id changes is found by
//! looking at the few classes there are.

use bincode::{Decode, Encode};

use super::ledger::expiry_key;
use crate::data_hash::DataHash;
use crate::erasure::Root;

/// In which form a batch is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub enum Form {
    /// Whole, no shard under the coding in force yet.
    Encode,
    /// Whole, and the shard.
    Wait,
    /// The decision to drop the whole copy was written down.
    Dropping,
    /// The shard only.
    Dropped,
    /// Nothing that is enough, though it should be here.
    Missing,
    /// Whole, and never to be dropped.
    Whole,
    /// Not here; others state that they have it.
    Unheld,
}

/// How many forms there are.
pub(super) const FORMS: usize = 7;

/// The byte of a form in the keys of work.
pub(super) mod queue {
    pub(in super::super) const ENCODE: u8 = 1;
    pub(in super::super) const STATE: u8 = 2;
    pub(in super::super) const WAIT: u8 = 3;
    pub(in super::super) const DROPPING: u8 = 4;
    pub(in super::super) const DROPPED: u8 = 5;
    pub(in super::super) const MISSING: u8 = 6;
    pub(in super::super) const WHOLE: u8 = 7;
    pub(in super::super) const KEEP: u8 = 8;
}

/// What is known of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Record {
    /// When it came (unix seconds): older work goes first.
    pub(super) since: u64,
    /// The latest time promised to anyone.
    pub(super) promise: u64,
    /// Until when it may be repaired; 0 when nobody with authority asked for it.
    pub(super) authority: u64,
    /// When it may be forgotten if it never comes here.
    pub(super) forget: u64,
    pub(super) length: u64,
    pub(super) form: Form,
    /// The coding that the form is about.
    pub(super) coding: u8,
    /// The coding whose members were seen to have all taken it over (a leaver's record only).
    pub(super) good: Option<u8>,
    pub(super) parts: Vec<Part>,
}

/// What is known of a batch under one coding.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Part {
    pub(super) coding: u8,
    /// Roots that anybody stated.
    pub(super) roots: Vec<Root>,
    /// Which of them is the own one, if the own shard was ever made.
    pub(super) own: Option<u8>,
    /// Until when the own shard was stated; 0 before.
    pub(super) stated: u64,
    /// Under which own witness.
    pub(super) stated_as: u16,
    pub(super) seen: Vec<Seen>,
}

/// Somebody's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(super) struct Seen {
    pub(super) witness: u16,
    pub(super) until: u64,
    /// Which of the part's roots.
    pub(super) root: u8,
    /// An audit showed that it is not true; it counts again when it is made again, or another audit shows that it is.
    pub(super) failed: bool,
}

impl Record {
    pub(super) fn new(since: u64) -> Self {
        Self {
            since,
            promise: 0,
            authority: 0,
            forget: 0,
            length: 0,
            form: Form::Unheld,
            coding: 0,
            good: None,
            parts: Vec::new(),
        }
    }

    pub(super) fn part(&self, coding: u8) -> Option<&Part> {
        self.parts.iter().find(|part| part.coding == coding)
    }

    pub(super) fn part_mut(&mut self, coding: u8) -> &mut Part {
        let at = self.parts.iter().position(|part| part.coding == coding);
        let at = at.unwrap_or_else(|| {
            self.parts.push(Part {
                coding,
                roots: Vec::new(),
                own: None,
                stated: 0,
                stated_as: 0,
                seen: Vec::new(),
            });
            self.parts.len() - 1
        });
        &mut self.parts[at]
    }

    /// Until when it must not be deleted or forgotten.
    pub(super) fn keep(&self) -> u64 {
        let stated = self.parts.iter().map(|part| part.stated).max().unwrap_or(0);
        let wanted = if self.form == Form::Unheld { self.forget } else { self.authority };
        self.promise.max(stated).max(wanted)
    }

    /// Whether something of it is on the disk, or should be.
    pub(super) fn is_held(&self) -> bool {
        !matches!(self.form, Form::Unheld | Form::Missing)
    }

    /// The keys by which it is found.
    pub(super) fn keys(&self, hash: &DataHash, reach: impl Fn(&Part) -> Vec<u16>) -> Vec<Vec<u8>> {
        let mut keys = Vec::with_capacity(4);
        keys.push(expiry_key(self.keep(), hash));
        let end = |mut key: Vec<u8>| {
            key.extend_from_slice(&self.since.to_be_bytes());
            key.extend_from_slice(hash.as_bytes());
            key
        };
        let plain = |form: u8| end(vec![b'Q', form, self.coding]);
        let class = |form: u8, part: &Part| {
            let mut key = vec![b'Q', form, self.coding];
            key.extend_from_slice(&class_of(part.stated_as, &reach(part)));
            end(key)
        };
        if self.is_held() && self.authority > self.promise {
            keys.push(plain(queue::KEEP));
        }
        let part = self.part(self.coding);
        let unstated = part.is_none_or(|part| part.stated_as == 0 || part.stated < self.promise);
        match (self.form, part) {
            (Form::Encode, _) => keys.push(plain(queue::ENCODE)),
            (Form::Wait, Some(part)) if !unstated => keys.push(class(queue::WAIT, part)),
            (Form::Wait, _) => keys.push(plain(queue::STATE)),
            (Form::Dropping, _) => keys.push(plain(queue::DROPPING)),
            (Form::Dropped, Some(part)) => {
                keys.push(class(queue::DROPPED, part));
                if unstated {
                    keys.push(plain(queue::STATE));
                }
            }
            (Form::Missing, _) => keys.push(plain(queue::MISSING)),
            (Form::Whole, _) => keys.push(plain(queue::WHOLE)),
            (Form::Unheld | Form::Dropped, _) => {}
        }
        keys
    }
}

impl Part {
    /// The index of a root; `None` when there are more than a committee can state.
    pub(super) fn root_index(&mut self, root: Root) -> Option<u8> {
        let at = self.roots.iter().position(|known| *known == root).unwrap_or_else(|| {
            self.roots.push(root);
            self.roots.len() - 1
        });
        u8::try_from(at).ok()
    }

    /// Forgets roots that nobody states any more.
    pub(super) fn tidy(&mut self) {
        let used = |index: u8, part: &Self| {
            part.own == Some(index) || part.seen.iter().any(|seen| seen.root == index)
        };
        let mut index = 0;
        while let Ok(at) = u8::try_from(index)
            && index < self.roots.len()
        {
            if used(at, self) {
                index += 1;
                continue;
            }
            self.roots.remove(index);
            let down = |root: &mut u8| *root -= u8::from(*root > at);
            self.own.iter_mut().for_each(down);
            self.seen.iter_mut().for_each(|seen| down(&mut seen.root));
        }
    }
}

/// The middle of a key of [`queue::WAIT`] and [`queue::DROPPED`].
fn class_of(stated_as: u16, witnesses: &[u16]) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 + 2 * witnesses.len());
    out.extend_from_slice(&stated_as.to_be_bytes());
    out.push(u8::try_from(witnesses.len()).expect("one witness of each of at most 64 members"));
    witnesses.iter().for_each(|witness| out.extend_from_slice(&witness.to_be_bytes()));
    out
}

/// A class as it stands in a key, and the prefix of all keys of the class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) prefix: Vec<u8>,
    pub(super) coding: u8,
    pub(super) stated_as: u16,
    pub(super) witnesses: Vec<u16>,
}

impl Class {
    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let (head, rest) = key.split_first_chunk::<3>()?;
        let (stated_as, rest) = rest.split_first_chunk::<2>()?;
        let (count, rest) = rest.split_first()?;
        let witnesses = rest.get(..2 * usize::from(*count))?;
        let (pairs, _) = witnesses.as_chunks::<2>();
        Some(Self {
            prefix: key[..6 + witnesses.len()].to_vec(),
            coding: head[2],
            stated_as: u16::from_be_bytes(*stated_as),
            witnesses: pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect(),
        })
    }
}

/// When a batch of a key of work came.
pub(super) fn since_of(key: &[u8]) -> Option<u64> {
    let at = key.len().checked_sub(40)?;
    super::ledger::number_at(key, at)
}
