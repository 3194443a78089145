//! TLS on the links between real processes: what somebody on the way sees, who is refused, and files that are replaced.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

mod common;

mod tls {
    mod capture;
    mod drop_in;
    mod reload;
    pub(crate) mod server;
    mod strangers;
    pub(crate) mod tap;
}
