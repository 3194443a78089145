//! The archive on object storage and the shared cache, with real processes, an S3 server and a Redis.

// Helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod findings;

mod archive {
    mod cache;
    mod doctor;
    mod durability;
    mod figures;
    mod local;
    pub(crate) mod nodes;
    mod outgrown;
    mod reads;
    pub(crate) mod redis;
    pub(crate) mod s3;
}
