//! Bytes that the process exchanges with others.

use std::sync::LazyLock;

use metrics::{Counter, counter};

use super::names;

/// Counts bytes of servers, clients and peers together.
pub struct Traffic {
    received: Counter,
    sent: Counter,
}

static TRAFFIC: LazyLock<Traffic> = LazyLock::new(|| {
    let of = |direction: &'static str| counter!(names::PROCESS_NETWORK, "direction" => direction);
    Traffic { received: of("in"), sent: of("out") }
});

/// The counts of this process. After [`init_metrics`](super::init_metrics).
pub fn traffic() -> &'static Traffic {
    &TRAFFIC
}

impl Traffic {
    /// So many bytes came in.
    pub fn received(&self, bytes: usize) {
        self.received.increment(bytes as u64);
    }

    /// So many went out.
    pub fn sent(&self, bytes: usize) {
        self.sent.increment(bytes as u64);
    }
}
