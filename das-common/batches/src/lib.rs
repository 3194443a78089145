//! The batches that are posted to a parent chain: read from it, remembered through reorganizations and resets, fetched
//! for those who keep them, and shown to people.
//!
//! A package of its own, so that only programs that follow a chain are compiled with it.
//!
//! [`follow`] goes along the chain: what happens there is made into batches by [`reading`] and remembered by [`index`],
//! which [`sync`] works off to fetch the payloads; [`service`] is all of that together. Whoever only asks needs no more than [`types::Batches`],
//! as the [`explorer`] does, which shows them to people and programs.

pub mod explorer;
pub mod follow;
pub mod index;
pub mod names;
pub mod reading;
pub mod service;
pub mod sync;
pub mod types;
