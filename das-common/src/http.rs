//! HTTP plumbing of the servers.

pub mod answers;
pub mod body;
pub mod client;
pub mod rest;
pub mod server;
