//! The front of a committee.

pub mod aggregator;
pub mod api;
pub mod backlog;
pub mod canary;
pub mod certificates;
pub mod collect;
pub mod explorer;
pub mod fan_out;
pub mod health;
pub mod member;
pub mod options;
pub mod page;
pub mod post;
pub mod provider;
pub mod read;
pub mod recent;
pub mod reports;
pub mod retry;
pub mod store;
pub mod tool;
pub mod watch;

use std::process::ExitCode;

/// The program `das-aggregator`, from its arguments to its exit code.
#[must_use]
pub fn run() -> ExitCode {
    das_common::server::run::<aggregator::Aggregator>()
}
