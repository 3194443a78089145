//! HTTP plumbing of the servers.

pub mod client;
pub mod server;
