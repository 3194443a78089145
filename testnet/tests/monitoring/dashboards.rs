//! The Grafana dashboards, as lists of panels: title, unit, and queries with their legends.

use serde_json::{Value, json};

/// A panel: title, unit by Grafana's name, queries with legends.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
/// A row: title and panels.
type Row = (&'static str, &'static [Panel]);

const COMMITTEE: &[Row] = &[
    (
        "Can it certify?",
        &[
            ("Members up", "none", &[("sum(das_member_up)", "up"), ("count(das_member_up)", "all")]),
            (
                "Alarms",
                "none",
                &[("sum by (instance, code) (das_alarm) > 0 or vector(0)", "{{instance}} {{code}}")],
            ),
            (
                "Certificates per second",
                "reqps",
                &[(
                    "sum by (result) (rate(das_certificate_duration_seconds_count[$__rate_interval]))",
                    "{{result}}",
                )],
            ),
            (
                "Time to a certificate",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(das_certificate_duration_seconds_bucket{result=\"ok\"}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(das_certificate_duration_seconds_bucket{result=\"ok\"}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
        ],
    ),
    (
        "Members, as the aggregator sees them",
        &[
            (
                "Store p50",
                "s",
                &[(
                    "histogram_quantile(0.5, sum by (member, le) (rate(das_member_store_duration_seconds_bucket{result=\"ok\"}[$__rate_interval])))",
                    "{{member}}",
                )],
            ),
            (
                "Store p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (member, le) (rate(das_member_store_duration_seconds_bucket{result=\"ok\"}[$__rate_interval])))",
                    "{{member}}",
                )],
            ),
            ("Share of stores signed", "percentunit", &[("das:member_signing:ratio5m", "{{member}}")]),
            ("Clock ahead", "s", &[("das_member_clock_ahead_seconds", "{{member}}")]),
            ("Free on disk", "bytes", &[("das_member_disk_free_bytes", "{{member}}")]),
            ("Alarms that they have", "none", &[("das_member_alarms", "{{member}}")]),
        ],
    ),
    (
        "Canary",
        &[
            ("Stood the last round", "none", &[("das_canary_member_good", "{{member}}")]),
            (
                "Seconds since it last came back",
                "s",
                &[("time() - das_canary_last_success_timestamp_seconds", "{{instance}}")],
            ),
            (
                "Time of its steps, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (member, step, le) (rate(das_canary_duration_seconds_bucket[5m])))",
                    "{{member}} {{step}}",
                )],
            ),
            (
                "Rounds per hour",
                "none",
                &[("sum by (result) (increase(das_canary_rounds_total[1h]))", "{{result}}")],
            ),
        ],
    ),
];

const AGGREGATOR: &[Row] = &[
    (
        "Stores",
        &[
            (
                "Stores per second",
                "reqps",
                &[(
                    "sum by (instance, result) (rate(das_store_duration_seconds_count{job=\"das-aggregator\"}[$__rate_interval]))",
                    "{{result}}",
                )],
            ),
            (
                "Time of a store by size, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (size, le) (rate(das_store_duration_seconds_bucket{job=\"das-aggregator\",result=\"ok\"}[$__rate_interval])))",
                    "{{size}}",
                )],
            ),
            (
                "Bytes certified per second",
                "Bps",
                &[("sum(rate(das_certificate_batch_bytes_total[$__rate_interval]))", "bytes")],
            ),
            ("Batches owed to late members", "none", &[("das_retry_batches", "{{instance}}")]),
            (
                "Certificates handed to members per second",
                "reqps",
                &[("sum by (result) (rate(das_certificates_handed_total[$__rate_interval]))", "{{result}}")],
            ),
        ],
    ),
    (
        "Reads",
        &[
            (
                "Reads per second",
                "reqps",
                &[(
                    "sum by (result) (rate(das_read_duration_seconds_count{job=\"das-aggregator\"}[$__rate_interval]))",
                    "{{result}}",
                )],
            ),
            (
                "Time of a read by size, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (size, le) (rate(das_read_duration_seconds_bucket{job=\"das-aggregator\",result=\"ok\"}[$__rate_interval])))",
                    "{{size}}",
                )],
            ),
            (
                "REST by route and status, per second",
                "reqps",
                &[(
                    "sum by (route, code) (rate(das_rest_duration_seconds_count{job=\"das-aggregator\"}[$__rate_interval]))",
                    "{{route}} {{code}}",
                )],
            ),
        ],
    ),
    (
        "Errors and process",
        &[
            (
                "Errors answered per second",
                "reqps",
                &[(
                    "sum by (code) (rate(das_errors_total{job=\"das-aggregator\"}[$__rate_interval]))",
                    "{{code}}",
                )],
            ),
            (
                "JSON-RPC by method, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (method, le) (rate(das_rpc_duration_seconds_bucket{job=\"das-aggregator\"}[$__rate_interval])))",
                    "{{method}}",
                )],
            ),
            (
                "Processors in use",
                "none",
                &[(
                    "rate(process_cpu_seconds_total{job=\"das-aggregator\"}[$__rate_interval])",
                    "{{instance}}",
                )],
            ),
            ("Memory", "bytes", &[("process_resident_memory_bytes{job=\"das-aggregator\"}", "{{instance}}")]),
            ("Connections", "none", &[("das_http_connections{job=\"das-aggregator\"}", "{{instance}}")]),
            (
                "Refused to clients per second",
                "reqps",
                &[(
                    "sum by (port, why) (rate(das_clients_refused_total{job=\"das-aggregator\"}[$__rate_interval]))",
                    "{{port}}: {{why}}",
                )],
            ),
            (
                "Network, this process",
                "Bps",
                &[(
                    "sum by (instance, direction) (rate(process_network_bytes_total{job=\"das-aggregator\"}[$__rate_interval]))",
                    "{{instance}} {{direction}}",
                )],
            ),
            ("Open files", "none", &[("process_open_fds{job=\"das-aggregator\"}", "{{instance}}")]),
        ],
    ),
];

const MEMBER: &[Row] = &[
    (
        "Stores",
        &[
            (
                "Stores per second",
                "reqps",
                &[(
                    "sum by (instance, result) (rate(das_store_duration_seconds_count{job=\"das-node\"}[$__rate_interval]))",
                    "{{instance}} {{result}}",
                )],
            ),
            (
                "Time of a store by size, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (instance, size, le) (rate(das_store_duration_seconds_bucket{job=\"das-node\",result=\"ok\"}[$__rate_interval])))",
                    "{{instance}} {{size}}",
                )],
            ),
            (
                "Stages of a store, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (stage, le) (rate(das_store_stage_duration_seconds_bucket[$__rate_interval])))",
                    "{{stage}}",
                )],
            ),
            (
                "Signatures per second",
                "reqps",
                &[(
                    "sum by (instance, kind) (rate(das_signer_signatures_total[$__rate_interval])) or sum by (instance) (rate(das_store_stage_duration_seconds_count{stage=\"sign\"}[$__rate_interval]))",
                    "{{instance}} {{kind}}",
                )],
            ),
        ],
    ),
    (
        "Reads",
        &[
            (
                "Reads per second",
                "reqps",
                &[(
                    "sum by (instance, result) (rate(das_read_duration_seconds_count{job=\"das-node\"}[$__rate_interval]))",
                    "{{instance}} {{result}}",
                )],
            ),
            (
                "Time of a read by size, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (instance, size, le) (rate(das_read_duration_seconds_bucket{job=\"das-node\",result=\"ok\"}[$__rate_interval])))",
                    "{{instance}} {{size}}",
                )],
            ),
            (
                "Where the batch was, per second",
                "reqps",
                &[(
                    "sum by (instance, source) (rate(das_read_source_total[$__rate_interval]))",
                    "{{instance}} {{source}}",
                )],
            ),
            (
                "REST by route and status, per second",
                "reqps",
                &[(
                    "sum by (route, code) (rate(das_rest_duration_seconds_count{job=\"das-node\"}[$__rate_interval]))",
                    "{{route}} {{code}}",
                )],
            ),
        ],
    ),
    (
        "Disk",
        &[
            ("Free", "bytes", &[("das_storage_free_bytes", "{{instance}}")]),
            ("Batches", "none", &[("das_storage_batches", "{{instance}}")]),
            ("Bytes of batches", "bytes", &[("das_storage_batch_bytes", "{{instance}}")]),
            ("RocksDB files", "bytes", &[("sum by (instance) (das_rocksdb_sst_bytes)", "{{instance}}")]),
            (
                "RocksDB in memory",
                "bytes",
                &[("sum by (instance) (das_rocksdb_memtable_bytes)", "{{instance}}")],
            ),
            (
                "RocksDB behind with compacting",
                "bytes",
                &[("sum by (instance) (das_rocksdb_pending_compaction_bytes)", "{{instance}}")],
            ),
            (
                "RocksDB jobs, and writes stopped",
                "none",
                &[
                    ("das_rocksdb_running_jobs", "{{instance}} jobs"),
                    ("das_rocksdb_write_stopped", "{{instance}} stopped"),
                ],
            ),
            (
                "Written by the process",
                "Bps",
                &[("rate(process_written_bytes_total{job=\"das-node\"}[$__rate_interval])", "{{instance}}")],
            ),
            (
                "Read by the process",
                "Bps",
                &[("rate(process_read_bytes_total{job=\"das-node\"}[$__rate_interval])", "{{instance}}")],
            ),
        ],
    ),
    (
        "Errors and process",
        &[
            (
                "Errors answered per second",
                "reqps",
                &[(
                    "sum by (instance, code) (rate(das_errors_total{job=\"das-node\"}[$__rate_interval]))",
                    "{{instance}} {{code}}",
                )],
            ),
            (
                "JSON-RPC by method, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (method, le) (rate(das_rpc_duration_seconds_bucket{job=\"das-node\"}[$__rate_interval])))",
                    "{{method}}",
                )],
            ),
            (
                "Processors in use",
                "none",
                &[("rate(process_cpu_seconds_total{job=\"das-node\"}[$__rate_interval])", "{{instance}}")],
            ),
            ("Memory", "bytes", &[("process_resident_memory_bytes{job=\"das-node\"}", "{{instance}}")]),
            ("Connections", "none", &[("das_http_connections{job=\"das-node\"}", "{{instance}}")]),
            (
                "Refused to clients per second",
                "reqps",
                &[(
                    "sum by (port, why) (rate(das_clients_refused_total{job=\"das-node\"}[$__rate_interval]))",
                    "{{port}}: {{why}}",
                )],
            ),
            (
                "Network, this process",
                "Bps",
                &[(
                    "sum by (instance, direction) (rate(process_network_bytes_total{job=\"das-node\"}[$__rate_interval]))",
                    "{{instance}} {{direction}}",
                )],
            ),
        ],
    ),
];

const CUSTODY: &[Row] = &[
    (
        "Batches",
        &[
            ("By form", "none", &[("das_custody_batches", "{{instance}} {{form}}")]),
            ("By coverage", "none", &[("das_custody_coverage_batches", "{{instance}} {{state}}")]),
            ("Repairing without a pause", "s", &[("das_custody_repairing_seconds", "{{instance}}")]),
            (
                "Hours that the disk lasts",
                "h",
                &[(
                    "das_custody_disk_lasts_hours < +Inf or das_custody_disk_lasts_hours * 0",
                    "{{instance}}",
                )],
            ),
            (
                "Encoded",
                "Bps",
                &[("rate(das_custody_encoded_bytes_total[$__rate_interval])", "{{instance}}")],
            ),
            (
                "Certificates kept",
                "reqps",
                &[(
                    "sum by (instance, outcome) (rate(das_custody_certificates_total[$__rate_interval]))",
                    "{{instance}} {{outcome}}",
                )],
            ),
            (
                "Reconciliations",
                "none",
                &[("sum by (instance) (increase(das_custody_reconciliations_total[1h]))", "{{instance}}")],
            ),
        ],
    ),
    (
        "Peers",
        &[
            ("Connected", "none", &[("das_peer_connected", "{{instance}}")]),
            ("Up", "none", &[("sum by (member) (das_peer_up)", "{{member}}")]),
            ("Ping", "s", &[("avg by (member) (das_peer_rtt_seconds)", "{{member}}")]),
            (
                "Bytes exchanged",
                "Bps",
                &[(
                    "sum by (instance, direction) (rate(das_peer_bytes_total[$__rate_interval]))",
                    "{{instance}} {{direction}}",
                )],
            ),
            (
                "Frames per second",
                "reqps",
                &[(
                    "sum by (kind, direction) (rate(das_peer_frames_total[$__rate_interval]))",
                    "{{kind}} {{direction}}",
                )],
            ),
        ],
    ),
];

const CHAIN: &[Row] = &[
    (
        "The parent chain",
        &[
            ("Head", "none", &[("das_chain_head_block", "{{instance}}")]),
            ("Followed to", "none", &[("das_chain_followed_block", "{{instance}}")]),
            ("Batches known", "none", &[("das_chain_batches", "{{instance}}")]),
            ("Endpoints up", "none", &[("das_chain_endpoint_up", "{{instance}} {{endpoint}}")]),
            (
                "Requests per second",
                "reqps",
                &[("sum by (instance) (rate(das_chain_requests_total[$__rate_interval]))", "{{instance}}")],
            ),
            (
                "Time of a request, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (instance, le) (rate(das_chain_request_duration_seconds_bucket[$__rate_interval])))",
                    "{{instance}}",
                )],
            ),
        ],
    ),
    (
        "Posting",
        &[
            (
                "Batches that are not final",
                "none",
                &[("sum by (instance) (das_post_queue_batches)", "{{instance}}")],
            ),
            ("Their bytes", "bytes", &[("das_post_queue_bytes", "{{instance}}")]),
            ("Balance", "none", &[("das_post_balance_ether", "{{instance}}")]),
        ],
    ),
    (
        "Mirrors",
        &[
            (
                "Fetched per second",
                "reqps",
                &[("sum by (instance) (rate(das_sync_fetched_total[$__rate_interval]))", "{{instance}}")],
            ),
            ("Waiting", "none", &[("das_sync_waiting", "{{instance}}")]),
        ],
    ),
];

/// All of them: file name and JSON.
pub(crate) fn all() -> Vec<(&'static str, Value)> {
    [
        ("committee", "Committee", COMMITTEE),
        ("aggregator", "Aggregator", AGGREGATOR),
        ("member", "Members and mirrors", MEMBER),
        ("custody", "Custody and peers", CUSTODY),
        ("chain", "Parent chain", CHAIN),
    ]
    .map(|(name, title, rows)| (name, dashboard(name, title, rows)))
    .into()
}

/// The queries of a dashboard as Prometheus takes them.
pub(crate) fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets
        .map(|target| target["expr"].as_str().unwrap_or_default().replace("$__rate_interval", "1m"))
        .collect()
}

/// Grafana's width.
const COLUMNS: usize = 24;
const WIDTH: usize = 8;
const HEIGHT: usize = 8;

fn dashboard(name: &str, title: &str, rows: &[Row]) -> Value {
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    let (mut panels, mut y, mut id) = (Vec::new(), 0, 0);
    for (row, of_row) in rows {
        id += 1;
        panels.push(json!({ "id": id, "type": "row", "title": row, "collapsed": false, "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 } }));
        y += 1;
        for (n, (title, unit, targets)) in of_row.iter().enumerate() {
            id += 1;
            let (x, below) = (n * WIDTH % COLUMNS, n * WIDTH / COLUMNS * HEIGHT);
            let target = |(n, (expr, legend)): (usize, &(&str, &str))| json!({ "refId": format!("{}", (b'A' + n as u8) as char), "expr": expr, "legendFormat": legend, "datasource": &source });
            panels.push(json!({
                "id": id, "type": "timeseries", "title": title, "datasource": &source,
                "gridPos": { "x": x, "y": y + below, "w": WIDTH, "h": HEIGHT },
                "fieldConfig": { "defaults": { "unit": unit, "min": if *title == "Clock ahead" { Value::Null } else { json!(0) } }, "overrides": [] },
                "options": { "legend": { "displayMode": "list", "placement": "bottom" }, "tooltip": { "mode": "multi", "sort": "desc" } },
                "targets": targets.iter().enumerate().map(target).collect::<Vec<_>>(),
            }));
        }
        y += of_row.len().div_ceil(COLUMNS / WIDTH) * HEIGHT;
    }
    json!({
        "uid": format!("das-{name}"), "title": format!("Das: {title}"), "tags": ["das"], "schemaVersion": 39, "version": 1,
        "editable": true, "refresh": "10s", "time": { "from": "now-1h", "to": "now" }, "timezone": "browser",
        "templating": { "list": [{ "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus" }] },
        "panels": panels,
    })
}
