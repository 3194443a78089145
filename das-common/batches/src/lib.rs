//! The batches that are posted to a parent chain: read from it, remembered through reorganizations and resets, fetched
//! for those who keep them, and shown to people.
//!
//! A package of its own, so that only programs that follow a chain are compiled with it.

pub mod explorer;
pub mod types;
