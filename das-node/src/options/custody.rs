//! Options of custody.

use std::time::Duration;

use das_common::config::{ByteSize, Problem};
use das_common::options;

use super::NodeOptions;
use super::check::problem;

options! {
    /// Cold batches as shards. Works with a committee file whose data-shards is above 1.
    pub struct CustodySettings {
        /// Keep every batch whole, as if data-shards were 1: no peers, no shards. What is here as a shard already stays.
        whole_only: bool = "false",
        /// How long a batch stays whole after it was stored; 0 turns it into shards at once.
        hot_retention: Duration = "1h",
        /// How long a batch waits for the last members to state that they hold their shards, when enough of them have.
        demotion_patience: Duration = "24h",
        /// A member that was not heard of for so long no longer counts as holding anything.
        silence_limit: Duration = "24h",
        /// Mean time between two questions to one member for a piece of what it states that it holds.
        audit_interval: Duration = "20s",
        /// Everything on the disk is read and checked once in this time.
        scrub_interval: Duration = "120h",
        /// Bytes a second that repair may fetch from other members.
        repair_rate: ByteSize = "20MiB",
        /// Part of the disk, in percent, that stores leave free so that shards can still be written when it is full; the
        /// larger of this and local-file-storage.min-free counts.
        reserve_percent: u32 = "5",
        /// Memory for batches that are being rebuilt from shards.
        gather_memory: ByteSize = "256MiB",
    }
}

pub(super) fn check(options: &NodeOptions, found: &mut Vec<Problem>) {
    if options.custody.repair_rate.0 == 0 {
        found.push(problem(
            "custody.repair-rate",
            "it is 0, and a batch that others lose would never be mended",
            "give bytes a second, such as 20MiB",
        ));
    }
    for (name, zero) in [
        ("custody.audit-interval", options.custody.audit_interval.is_zero()),
        ("custody.scrub-interval", options.custody.scrub_interval.is_zero()),
    ] {
        if zero {
            found.push(problem(name, "it is 0", "leave it out, or give a time such as 20s"));
        }
    }
    if options.custody.reserve_percent > 50 {
        let text = format!("{} percent of the disk would never be used", options.custody.reserve_percent);
        found.push(problem("custody.reserve-percent", text, "give at most 50"));
    }
    if options.custody.silence_limit.is_zero() {
        found.push(problem("custody.silence-limit", "it is 0, and nobody would count", "give hours"));
    }
}
