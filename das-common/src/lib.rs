//! The AnyTrust protocol, and the plumbing that members and aggregators share.

pub mod alarm;
pub mod batch;
pub mod binding;
pub mod bls;
pub mod certificate;
pub mod chunked;
pub mod committee;
pub mod config;
pub mod custody;
pub mod data_hash;
pub mod erasure;
pub mod fault;
pub mod http;
pub mod json_rpc;
pub mod keccak;
pub mod keyset;
pub mod nitro_layout;
pub mod rest_reader;
pub mod rpc_client;
pub mod secret_file;
pub mod sequencer_message;
pub mod server;

pub mod single_flight;
pub mod store_auth;
pub mod telemetry;
pub mod wire;
