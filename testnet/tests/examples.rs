//! The examples of docs/json-rpc.md are what servers answer, every method has one, and no link of the documentation leads
//! nowhere.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod documentation {
    mod json_rpc;
    mod links;
    mod samples;
}
