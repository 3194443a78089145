//! The four ways to hold a member's key, as processes: make a key, start, sign, restart, rotate; and what goes wrong.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod keys {
    pub(crate) mod authority;
    mod cores;
    pub(crate) mod envelope;
    mod held;
    mod kms_states;
    pub(crate) mod member;
    pub(crate) mod moto;
    mod secrets;
    mod signer;
    pub(crate) mod strict;
}
