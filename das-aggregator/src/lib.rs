//! The front of a committee.

pub mod options;
pub mod tool;
