//! The peer layer over real sockets: members that find each other, and everybody else turned away.
#![allow(clippy::unwrap_used, reason = "tests")]

mod finding;
mod refusing;
mod rogue;
mod team;
