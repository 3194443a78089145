//! What there is to be audited: batches that a member stated it holds its shard of.

use super::super::coding::MemberKey;
use super::super::message::MAX_LISTS;
use super::super::statement::{SignedList, Statement};
use super::ledger::{self, Ledger, hash_at_end, list_key, lists_of};
use super::{Machine, Now, Result};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;

/// Records looked at to find one that the member stated.
const LOOKS: usize = 64;
/// Lists looked through for one statement.
const MAX_SEARCH: usize = 4096;

/// A statement that can be held against a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditTarget {
    /// The batch.
    pub hash: DataHash,
    /// Its length in bytes.
    pub length: u64,
    /// The coding.
    pub coding: CodingId,
    /// The own root, under which the member's leaf must be.
    pub root: Root,
}

impl<L: Ledger> Machine<L> {
    /// A batch at or behind `start` (in the order of data hashes) that this member states it holds, under the root that
    /// was computed here. `None`: none of the next few.
    pub fn audit_target(
        &self,
        member: &MemberKey,
        start: &DataHash,
        now: Now,
    ) -> Result<Option<AuditTarget>, L> {
        let Some(index) = self.member_index(member) else { return Ok(None) };
        let Some(witness) = self.members[index].record.current else { return Ok(None) };
        let from = ledger::record_key(start);
        for key in self.ledger.keys(b"B", &from, LOOKS)? {
            let Some(hash) = hash_at_end(&key) else { continue };
            let Some(record) = self.record(&hash)? else { continue };
            for part in &record.parts {
                let own = part.own;
                let states = |seen: &super::record::Seen| {
                    seen.witness == witness && Some(seen.root) == own && seen.until > now.wall
                };
                let coding = self.codings.get(&part.coding);
                if let (Some(own), Some(coding)) = (own, coding)
                    && part.seen.iter().any(states)
                {
                    let root = part.roots[usize::from(own)];
                    return Ok(Some(AuditTarget { hash, length: record.length, coding: coding.id, root }));
                }
            }
        }
        Ok(None)
    }

    /// The list in which a member stated this batch under the own root, and for how long it is counted; for evidence.
    pub fn statement_list(
        &self,
        member: &MemberKey,
        hash: &DataHash,
        coding: &CodingId,
    ) -> Result<Option<SignedList>, L> {
        let Some(index) = self.member_index(member) else { return Ok(None) };
        let Some(witness) = self.members[index].record.current else { return Ok(None) };
        let number = self.codings.iter().find(|(_, known)| known.id == *coding).map(|(number, _)| *number);
        let record = self.record(hash)?;
        let part = record.as_ref().and_then(|record| number.and_then(|number| record.part(number)));
        let Some(part) = part else { return Ok(None) };
        let seen = part.seen.iter().find(|seen| seen.witness == witness && Some(seen.root) == part.own);
        let Some(seen) = seen else { return Ok(None) };
        let entry =
            Statement { hash: *hash, length: 0, root: part.roots[usize::from(seen.root)], until: seen.until };
        self.list_with(witness, coding, &entry)
    }

    /// The first list of a witness that states this (of any length, and at least for as long), among those that are kept.
    pub(super) fn list_with(
        &self,
        witness: u16,
        coding: &CodingId,
        wanted: &Statement,
    ) -> Result<Option<SignedList>, L> {
        let prefix = lists_of(witness);
        let mut from = list_key(witness, 0);
        for _ in 0..MAX_SEARCH / MAX_LISTS {
            let keys = self.ledger.keys(&prefix, &from, MAX_LISTS)?;
            let Some(last) = keys.last() else { break };
            from = last.clone();
            from.push(0);
            for key in keys {
                let Some(signed) = self.get::<SignedList>(&key)? else { continue };
                let states = signed.read().is_ok_and(|list| {
                    list.coding == *coding
                        && list.entries.iter().any(|entry| {
                            entry.hash == wanted.hash
                                && entry.root == wanted.root
                                && entry.until >= wanted.until
                        })
                });
                if states {
                    return Ok(Some(signed));
                }
            }
        }
        Ok(None)
    }
}
