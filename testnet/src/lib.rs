//! Launcher, load generator and test support.

pub mod transcripts;
pub mod vectors;
