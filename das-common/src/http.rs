//! HTTP plumbing of the servers.

pub mod answers;
pub mod body;
pub mod client;
pub mod per_client;
pub mod rest;
pub mod server;
