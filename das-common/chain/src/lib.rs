//! Reading the parent chain: who may store, which keysets there are, and what is posted.
//!
//! A package of its own, so that what it is compiled with is compiled only for those who read the chain.
//!
//! [`endpoints`] finds somebody who answers, [`reader`] asks, [`follow`] sees what happens from block to block,
//! reorganizations included. [`permission`] knows who may store, [`keysets`] who signs; [`contract`] is what they ask.

pub mod contract;
pub mod endpoints;
mod error;
pub mod follow;
pub mod keysets;
pub mod names;
pub mod permission;
pub mod poster_key;
pub mod reader;
pub mod transaction;

pub use error::ChainError;
