//! JSON-RPC client of a member.
