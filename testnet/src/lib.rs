//! Launcher, load generator and test support.

pub mod process;
pub mod transcripts;
pub mod vectors;
