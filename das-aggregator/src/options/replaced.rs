//! Options of Nitro's aggregating client and provider server that are accepted and do nothing.

use das_common::config::Replaced;

/// All of them, with what replaces them.
pub(super) const REPLACED: &[Replaced] = &[
    Replaced {
        section: "data-availability.rpc-aggregator.rpc-client.data-stream.rpc-methods",
        options: &[
            ("finalize-stream", "string", "das_commitChunkedStore"),
            ("start-stream", "string", "das_startChunkedStore"),
            ("stream-chunk", "string", "das_sendChunk"),
        ],
        by: "members are called by the names that every AnyTrust server has",
    },
    Replaced {
        section: "data-availability.rpc-aggregator.rpc-client.rpc",
        options: &[
            ("arg-log-limit", "uint", "2048"),
            ("connection-wait", "duration", "0s"),
            ("jwtsecret", "string", ""),
            ("retries", "uint", "3"),
            ("retry-delay", "duration", "0s"),
            (
                "retry-errors",
                "string",
                "websocket: close.*|dial tcp .*|.*i/o timeout|.*connection reset by peer|.*connection refused",
            ),
            ("timeout", "duration", "10s"),
            ("url", "string", "self-auth"),
            ("websocket-message-size-limit", "int64", "268435456"),
        ],
        by: "members are called over HTTP at the URLs of the committee, once within \
             data-availability.request-timeout and again for data-availability.rpc-aggregator.retry-duration",
    },
    Replaced {
        section: "data-availability",
        options: &[("enable", "bool", "true"), ("panic-on-error", "bool", "false")],
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
            ("eager", "bool", "false"),
            ("eager-lower-bound-block", "uint64", "0"),
            ("ignore-write-errors", "bool", "true"),
            ("parent-chain-blocks-per-read", "uint64", "100"),
            ("retention-period", "duration", "360h0m0s"),
            ("state-dir", "string", ""),
            ("sync-expired-data", "bool", "true"),
        ],
        by: "an aggregator keeps no batches on disk; run a mirror (das-node with data-availability.rest-aggregator)",
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
