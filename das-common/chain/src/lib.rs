//! The parent chain: who may store, which keysets there are, what is posted, and posting.
//!
//! A package of its own, so that what it is compiled with is compiled only for those who read the chain.
//!
//! [`endpoints`] finds somebody who answers, [`reader`] asks, [`follow`] sees what happens from block to block,
//! reorganizations included. [`permission`] knows who may store, [`keysets`] who signs; [`contract`] is what they ask,
//! and [`parent`] puts all of it together as the options say.
//!
//! Who posts has a [`poster_key`], which signs a [`transaction`], and asks and sends by [`poster_rpc`]; what the contract
//! answers is read by [`revert`], what a node answers by [`refusal`].

pub mod contract;
pub mod endpoints;
mod error;
pub mod follow;
pub mod keysets;
pub mod names;
pub mod parent;
pub mod permission;
pub mod poster_key;
pub mod poster_rpc;
pub mod reader;
pub mod refusal;
pub mod revert;
pub mod transaction;

pub use error::ChainError;
