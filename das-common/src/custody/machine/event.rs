//! What the machine is told, and what it wants done.

use super::super::coding::MemberKey;
use super::super::evidence::Evidence;
use super::super::hello::Hello;
use super::super::statement::{StorageId, VerifiedList};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;

/// Something that happened.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "made one at a time and never kept in numbers")]
pub enum Event {
    /// Time has passed; once a second or so.
    Tick,
    /// Batches were stored or extended; their arrival keys are written. A nudge only: [`Event::Tick`] finds them too.
    Arrived,
    /// A connection to a member is up.
    Connected {
        /// The member.
        member: MemberKey,
    },
    /// A member answered a [`Effect::Hello`].
    HelloAnswered {
        /// The member, as the connection proved it.
        member: MemberKey,
        /// Its answer.
        hello: Hello,
    },
    /// A list came by gossip.
    List {
        /// The member that signed it, by the binding of the key that verified it.
        member: MemberKey,
        /// The list.
        list: VerifiedList,
    },
    /// A member answered an [`Effect::AskLists`].
    ListsAnswered {
        /// The member asked.
        member: MemberKey,
        /// Whose lists were asked for.
        storage_id: StorageId,
        /// From which counter on.
        from: u64,
        /// The lists, each with the member that signed it, in the order of their counters.
        lists: Vec<(MemberKey, VerifiedList)>,
        /// Nothing below this counter is left to ask for.
        next: u64,
    },
    /// The shard was written; it is not synced yet.
    Encoded {
        /// The batch.
        hash: DataHash,
        /// The coding.
        coding: CodingId,
        /// The root computed.
        root: Root,
        /// The batch's length in bytes.
        length: u64,
    },
    /// All shards written before [`Effect::SyncShards`] was taken are on disk.
    ShardsSynced,
    /// A drop came to its end; `false` when the store refused it because the promise had changed.
    Dropped {
        /// The batch.
        hash: DataHash,
        /// Whether the whole copy is gone.
        done: bool,
    },
    /// A batch was gathered and is stored whole.
    Whole {
        /// The batch.
        hash: DataHash,
    },
    /// The store's promise was extended.
    Kept {
        /// The batch.
        hash: DataHash,
    },
    /// An [`Effect::Expire`] came to its end; `false` when the store refused it because the promise had changed.
    Expired {
        /// The batch.
        hash: DataHash,
        /// Whether everything of it is gone.
        done: bool,
    },
    /// Work on a batch failed; it is tried again later.
    Failed {
        /// The batch.
        hash: DataHash,
    },
    /// [`Effect::SyncShards`] failed: what was written since the last one is encoded again.
    SyncFailed,
    /// A certificate of a known keyset was verified.
    Certified {
        /// The batch.
        hash: DataHash,
        /// The certificate's timeout.
        until: u64,
    },
    /// What the disk holds of a batch is not what it was: rot was found, or a mend.
    Changed {
        /// The batch.
        hash: DataHash,
    },
    /// A member could not show what it stated (a wrong leaf, or "I do not have it"): its statement counts no more.
    AuditFailed {
        /// The member.
        member: MemberKey,
        /// The batch.
        hash: DataHash,
        /// The coding of the statement.
        coding: CodingId,
    },
    /// A member showed what it stated: its statement counts, if an earlier audit had put an end to that.
    AuditPassed {
        /// The member.
        member: MemberKey,
        /// The batch.
        hash: DataHash,
        /// The coding of the statement.
        coding: CodingId,
    },
    /// Whether there is room on the disk for batches to be made whole.
    HasRoom(bool),
}

/// Something to be done. What names a batch is answered by exactly one event about that batch.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Read the whole batch, encode it, write the own shard. [`Event::Encoded`], [`Event::Failed`].
    Encode {
        /// The batch.
        hash: DataHash,
        /// The coding.
        coding: CodingId,
    },
    /// Sync the shards written so far. [`Event::ShardsSynced`], [`Event::SyncFailed`].
    SyncShards,
    /// Drop the whole copy if `promise` is still the latest timeout promised. [`Event::Dropped`].
    Drop {
        /// The batch.
        hash: DataHash,
        /// The promise that was counted for.
        promise: u64,
    },
    /// Gather the batch and store it whole, to be kept until then; asks no authority. [`Event::Whole`], [`Event::Failed`].
    MakeWhole {
        /// The batch.
        hash: DataHash,
        /// Unix seconds, or for ever.
        until: u64,
        /// Why.
        why: Why,
        /// Roots that are stated under each coding, most stated first: shards under them are worth asking for.
        roots: Vec<(CodingId, Root)>,
    },
    /// Promise to keep a batch that is here until then. [`Event::Kept`], [`Event::Failed`].
    Keep {
        /// The batch.
        hash: DataHash,
        /// Unix seconds.
        until: u64,
    },
    /// Delete everything of the batch if `promise` is still the latest timeout promised. [`Event::Expired`].
    Expire {
        /// The batch.
        hash: DataHash,
        /// The promise known; 0 when nothing was promised.
        promise: u64,
    },
    /// Give this own list to every member.
    Publish(VerifiedList),
    /// Ask a member who it is, if it is connected. [`Event::HelloAnswered`].
    Hello {
        /// The member.
        member: MemberKey,
        /// The question.
        hello: Hello,
    },
    /// Ask a member for lists. [`Event::ListsAnswered`].
    AskLists {
        /// The member.
        member: MemberKey,
        /// Whose lists.
        storage_id: StorageId,
        /// The first counter wanted.
        from: u64,
    },
    /// Save this: a member did not keep its word.
    Evidence {
        /// The member.
        member: MemberKey,
        /// The bundle.
        evidence: Evidence,
    },
    /// An alarm is raised or ends.
    Alarm {
        /// Which.
        alarm: Alarm,
        /// Whether it is raised.
        raised: bool,
    },
}

/// Why a batch is to be made whole. In order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Fewer than K statements count any more.
    Uncovered {
        /// How many count, the own one among them.
        count: usize,
    },
    /// It should be here and is not.
    Missing,
    /// Another coding is in force.
    Recode,
}

/// A condition that an operator should know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// So many disagree about a root that this member is the one to be suspected; nothing is demoted.
    Suspect,
    /// A member stated a wrong root.
    WrongRoot {
        /// The member.
        member: MemberKey,
    },
    /// A member used a counter twice.
    SameCounter {
        /// The member.
        member: MemberKey,
    },
    /// The database was rolled back to an older state; it has a new storage id now.
    RolledBack,
    /// A member shows a storage id that had been replaced.
    OldStorageId {
        /// The member.
        member: MemberKey,
    },
    /// The clock is off from the peers' clocks, or there are too few to compare it with: nothing is deleted.
    Clock,
    /// Batches that are not covered cannot be made whole for want of room.
    NoRoom,
    /// A member states more batches that are not here than are remembered.
    TooManyUnheld {
        /// The member.
        member: MemberKey,
    },
    /// A member is silent for longer than the limit.
    Silent {
        /// The member.
        member: MemberKey,
    },
    /// A peer codes by something that this member does not know.
    OtherCoding {
        /// The member.
        member: MemberKey,
    },
}
