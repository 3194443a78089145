//! Reading the parent chain: who may store, which keysets there are, and what is posted.
//!
//! A package of its own, so that what it is compiled with is compiled only for those who read the chain.
//!
//! [`endpoints`] finds somebody who answers, [`reader`] asks, [`follow`]
//! sees what happens from block to block, reorganizations included.

pub mod contract;
pub mod endpoints;
mod error;
pub mod follow;
pub mod names;
pub mod reader;

pub use error::ChainError;
