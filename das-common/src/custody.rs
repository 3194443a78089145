//! Custody: how members agree who holds which shard, so that each may let go of its whole copy.
//!
//! **Guarantee.** A member that runs [`machine::Machine`] holds at every instant, for each batch it signed for and whose
//! timeout has not passed, the whole batch, or its own shard together with the statements of K distinct members (itself
//! among them) that reach to its own latest promise. Of K members at most n - H lie, so k honest ones hold a shard.
//!
//! | here | what |
//! |---|---|
//! | [`statement`] | what members sign: "I hold my shard of D under root R until T", many in one list |
//! | [`hello`] | what two members tell each other about themselves and about each other |
//! | [`evidence`] | audits, and what proves that a member did not keep its word |
//! | [`message`] | what members ask each other |
//! | [`coding`] | a committee as custody sees it |
//! | [`machine`] | the state machine; the node runs it, and so does the simulation that tests it |
//!
//! Nothing here does I/O.

pub mod bundle;
mod codec;
pub mod coding;
pub mod evidence;
pub mod hello;
pub mod machine;
pub mod message;
pub mod statement;
#[cfg(test)]
mod tests;

pub use codec::{CodecError, RECORD_VERSION};
pub use coding::{Coding, MemberKey};
pub use hello::{Hello, Known, Position};
pub use statement::{
    ListError, PeerPublicKey, SignLists, SignedList, Statement, StatementList, StorageId, VerifiedList,
};

/// The time of a statement or promise that never ends.
pub const FOR_EVER: u64 = u64::MAX;
