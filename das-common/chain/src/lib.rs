//! Reading the parent chain.
pub mod contract;
