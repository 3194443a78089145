//! TLS on the links between real processes: what somebody on the way sees, who is refused, and files that are replaced.

// Helpers of tests fail like tests, and say the seed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

mod tls {
    mod capture;
    mod drop_in;
    mod reload;
    pub(crate) mod server;
    mod strangers;
    pub(crate) mod tap;
}
