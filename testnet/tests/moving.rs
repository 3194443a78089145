//! Moving in from Nitro's server, moving out, and backups: `dastool` and `das-node` as processes.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

mod moving {
    mod backups;
    mod cold;
    mod directories;
    pub(crate) mod member;
    mod switch_over;
}
