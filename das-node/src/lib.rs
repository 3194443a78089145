//! One committee member.

pub mod options;
