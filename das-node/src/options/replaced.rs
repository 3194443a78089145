//! Options of Nitro's server that are accepted and do nothing.

use das_common::config::Replaced;

/// All of them, with what replaces them.
pub(super) const REPLACED: &[Replaced] = &[
    Replaced {
        section: "data-availability",
        options: &[("panic-on-error", "bool", "false")],
        by: "errors are answered, logged, counted, and shown as alarms at /status; the server goes on",
    },
    Replaced {
        section: "data-availability.rest-aggregator",
        options: &[("connection-wait", "duration", "1s")],
        by: "endpoints that do not answer at the start are tried again with every read; the start does not wait",
    },
    Replaced {
        section: "data-availability.rest-aggregator",
        options: &[("strategy-update-interval", "duration", "10s")],
        by: "the order of the endpoints is worked out anew for every read",
    },
    Replaced {
        section: "data-availability.rest-aggregator.sync-to-storage",
        options: &[
            ("delay-on-error", "duration", "1s"),
            ("ignore-write-errors", "bool", "true"),
            ("parent-chain-blocks-per-read", "uint64", "100"),
            ("state-dir", "string", ""),
        ],
        by: "a batch that cannot be fetched or stored is tried again later and holds up no other; the position is kept in the \
             data directory; parent-chain.max-log-blocks bounds how much is asked for at once",
    },
    Replaced {
        section: "",
        options: &[("pprof", "bool", "false")],
        by: "programs carry line tables: profile them with perf or another system profiler",
    },
    Replaced {
        section: "pprof-cfg",
        options: &[("addr", "string", "127.0.0.1"), ("port", "int", "6071")],
        by: "programs carry line tables: profile them with perf or another system profiler",
    },
];
