//! Launcher, load generator and test support.

pub mod args;
pub mod chain;
pub mod custody;
pub mod http;
pub mod image;
pub mod link;
pub mod load;
pub mod network;
pub mod nitro;
pub mod process;
pub mod promises;
pub mod tls;
pub mod transcripts;
pub mod vectors;
