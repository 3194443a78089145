//! Launcher, load generator and test support.

pub mod args;
pub mod http;
pub mod image;
pub mod process;
pub mod transcripts;
pub mod vectors;
