//! Combinations of options that cannot work.

use std::time::Duration;

use das_common::config::Problem;
use das_common::config::sections::is_address;
use das_common::http::per_client::Network;
use das_common::tls::Port;

use super::AggregatorOptions;

/// A round a second is plenty for a test.
const LEAST_CANARY: Duration = Duration::from_secs(1);
/// A batch that is over before it is read back tells nothing.
const LEAST_RETENTION: Duration = Duration::from_secs(60);

fn problem(option: &'static str, text: impl Into<String>, cure: &'static str) -> Problem {
    Problem { option, text: text.into(), cure }
}

pub(super) fn problems(options: &AggregatorOptions) -> Vec<Problem> {
    let mut found = Vec::new();
    clients(options, &mut found);
    servers(options, &mut found);
    committee(options, &mut found);
    storing(options, &mut found);
    reading(options, &mut found);
    chain(options, &mut found);
    found.extend(options.tls.problems(options.require_tls, &ports(options)));
    found
}

/// The servers, as far as TLS is concerned.
fn ports(options: &AggregatorOptions) -> [Port; 6] {
    [
        Port { name: "rpc", option: "rpc-port", on: options.enable_rpc },
        Port { name: "rest", option: "rest-port", on: options.enable_rest },
        Port { name: "provider", option: "provider-server.port", on: options.provider_server.enable },
        Port { name: "explorer", option: "explorer.port", on: options.explorer.enable },
        Port { name: "dashboard", option: "dashboard.port", on: options.dashboard.enable },
        Port { name: "metrics", option: "metrics-server.port", on: options.metrics },
    ]
}

fn clients(options: &AggregatorOptions, found: &mut Vec<Problem>) {
    let limits = &options.limits;
    for (option, of_port) in
        [("limits.rpc-client.rate", &limits.rpc_client), ("limits.rest-client.rate", &limits.rest_client)]
    {
        if let Some(text) = of_port.problem() {
            found.push(problem(option, text, "give 0 for no limit, or a number of requests a second"));
        }
    }
    if let Some(text) = limits.reads.problem() {
        found.push(problem("limits.reads.niceness", text, "give 0 to 19"));
    }
    for range in &limits.trusted_proxies {
        if let Err(error) = range.parse::<Network>() {
            let cure = "give addresses, or ranges as 10.0.0.0/8, separated by commas";
            found.push(problem("limits.trusted-proxies", error.to_string(), cure));
        }
    }
}

fn servers(options: &AggregatorOptions, found: &mut Vec<Problem>) {
    if !options.enable_rpc
        && !options.enable_rest
        && !options.provider_server.enable
        && !options.explorer.enable
    {
        found.push(problem(
            "enable-rpc",
            "none of --enable-rpc, --enable-rest and --provider-server.enable is given, so there is nothing to serve",
            "please specify at least one of --enable-rest or --enable-rpc",
        ));
    }
    let provider = &options.provider_server;
    let ports = [
        ("rpc-port", options.enable_rpc, &options.rpc_addr, options.rpc_port),
        ("rest-port", options.enable_rest, &options.rest_addr, options.rest_port),
        ("provider-server.port", provider.enable, &provider.addr, provider.port),
        ("explorer.port", options.explorer.enable, &options.explorer.addr, options.explorer.port),
        ("dashboard.port", options.dashboard.enable, &options.dashboard.addr, options.dashboard.port),
        ("metrics-server.port", options.metrics, &options.metrics_server.addr, options.metrics_server.port),
    ];
    for (i, (name, on, addr, port)) in ports.iter().enumerate() {
        let taken = |other: &&(&str, bool, &String, u16)| other.1 && other.2 == *addr && other.3 == *port;
        if let Some(other) = ports[..i].iter().find(taken).filter(|_| *on && *port != 0) {
            let text = format!("port {port} of {addr} is that of --{} too", other.0);
            found.push(problem(name, text, "give each server a port of its own"));
        }
    }
    if provider.enable
        && provider.enable_da_writer
        && provider.jwtsecret.as_os_str().is_empty()
        && !is_loopback(&provider.addr)
    {
        found.push(problem(
            "provider-server.jwtsecret",
            format!("whoever reaches {} could store in this aggregator's name", provider.addr),
            "give the file of a secret, or serve writers on the loopback address only",
        ));
    }
    let hex = &provider.supported_header_bytes;
    if !hex.len().is_multiple_of(2) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        found.push(problem(
            "provider-server.supported-header-bytes",
            format!("{hex:?} is not the hex of bytes"),
            "give two hex digits a byte, 8088, or nothing",
        ));
    }
    if options.canary.enable && !options.has_store_key() {
        found.push(problem(
            "canary.enable",
            "the canary signs its store requests to the members, and there is no store key",
            "give --data-availability.store-key.file",
        ));
    }
    if options.canary.enable
        && (options.canary.interval < LEAST_CANARY || options.canary.retention < LEAST_RETENTION)
    {
        found.push(problem(
            "canary.interval",
            format!(
                "{:?} between rounds and {:?} of retention are too short",
                options.canary.interval, options.canary.retention
            ),
            "give an interval of 1s or more and a retention of 1m or more",
        ));
    }
    if provider.enable && provider.enable_da_writer && !options.has_store_key() {
        found.push(problem(
            "provider-server.enable-da-writer",
            "a writer signs store requests to the members, and there is no store key",
            "give --data-availability.store-key.file",
        ));
    }
}

/// Can nobody from another machine reach it?
fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn committee(options: &AggregatorOptions, found: &mut Vec<Problem>) {
    let file = !options.committee.file.as_os_str().is_empty();
    let nitro = &options.data_availability.rpc_aggregator;
    let backends = nitro.backends.0.len();
    if !file && backends == 0 {
        found.push(problem(
            "committee.file",
            "no committee is named",
            "give the committee file, or --data-availability.rpc-aggregator.assumed-honest and .backends",
        ));
    }
    if backends > 0 && (nitro.assumed_honest == 0 || nitro.assumed_honest > backends as u64) {
        found.push(problem(
            "data-availability.rpc-aggregator.assumed-honest",
            format!("{} of {backends} members cannot be assumed honest", nitro.assumed_honest),
            "give a number from 1 to that of the backends",
        ));
    }
    if nitro.enable && backends == 0 && !file {
        found.push(problem(
            "data-availability.rpc-aggregator.backends",
            "the aggregator is enabled without members",
            "list the members",
        ));
    }
}

fn storing(options: &AggregatorOptions, found: &mut Vec<Problem>) {
    let da = &options.data_availability;
    let key = &da.store_key;
    if !key.file.as_os_str().is_empty() && !key.hex.is_empty() {
        found.push(problem(
            "data-availability.store-key.hex",
            "--data-availability.store-key.file is given too, and there is one store key",
            "leave out one of the two",
        ));
    }
    for address in da.allowed_signers.iter().filter(|address| !is_address(address)) {
        found.push(problem(
            "data-availability.allowed-signers",
            format!("{address:?} is no address"),
            "give 0x and 40 hex digits",
        ));
    }
    if da.request_timeout.is_zero() {
        found.push(problem(
            "data-availability.request-timeout",
            "with 0 no member can answer in time",
            "give a few seconds",
        ));
    }
    /// Below this a chunk of a batch has no room beside the rest of the request.
    const SMALLEST_BODY: usize = 1_024;
    if da.rpc_aggregator.rpc_client.data_stream.max_store_chunk_body_size < SMALLEST_BODY {
        found.push(problem(
            "data-availability.rpc-aggregator.rpc-client.data-stream.max-store-chunk-body-size",
            format!("it is below {SMALLEST_BODY} bytes, too little for a chunk"),
            "give the body limit of the members, 5242880 by default",
        ));
    }
    if da.max_batch_size == 0 {
        found.push(problem("data-availability.max-batch-size", "it is 0", "give a number of bytes"));
    }
}

fn chain(options: &AggregatorOptions, found: &mut Vec<Problem>) {
    let parent = &options.parent_chain;
    if parent.names_inbox() && !is_address(&parent.sequencer_inbox_address) {
        found.push(problem(
            "parent-chain.sequencer-inbox-address",
            format!("{:?} is no address", parent.sequencer_inbox_address),
            "give the contract's address (0x and 40 hex digits), or none",
        ));
    }
    if parent.is_given() && options.data_dir.as_os_str().is_empty() {
        found.push(problem(
            "data-dir",
            "there is a parent chain, and no folder to keep its keysets in",
            "give a folder of this aggregator's own",
        ));
    }
    if options.explorer.enable && !parent.is_given() {
        found.push(problem(
            "explorer.enable",
            "there is no parent chain to show batches of",
            "give --parent-chain.node-url and --parent-chain.sequencer-inbox-address",
        ));
    }
    let post = &options.post;
    if !post.enable {
        return;
    }
    if !parent.is_given() {
        found.push(problem(
            "post.enable",
            "there is no parent chain to post to",
            "give --parent-chain.node-url and --parent-chain.sequencer-inbox-address",
        ));
    }
    if !options.enable_rpc {
        found.push(problem(
            "post.enable",
            "batches come with das_postBatch, and JSON-RPC is not served",
            "give --enable-rpc",
        ));
    }
    if post.max_in_flight == 0 {
        found.push(problem("post.max-in-flight", "with 0 nothing is ever sent", "give at least 1"));
    }
    let fees = [
        ("post.max-fee-gwei", post.max_fee_gwei),
        ("post.max-tip-gwei", post.max_tip_gwei),
        ("post.min-tip-gwei", post.min_tip_gwei),
        ("post.min-balance-ether", post.min_balance_ether),
    ];
    for (option, value) in fees {
        if !value.is_finite() || value < 0.0 {
            found.push(problem(option, format!("{value} is no amount"), "give 0 or more"));
        }
    }
    if post.min_tip_gwei > post.max_fee_gwei {
        found.push(problem(
            "post.min-tip-gwei",
            format!("{} is above --post.max-fee-gwei, {}", post.min_tip_gwei, post.max_fee_gwei),
            "make it less",
        ));
    }
    let key = &post.key;
    let keys =
        [!key.file.as_os_str().is_empty(), !key.keystore.as_os_str().is_empty(), !key.remote.url.is_empty()];
    if keys.iter().filter(|given| **given).count() != 1 {
        found.push(problem(
            "post.key.file",
            "one account posts, with one key",
            "give one of --post.key.file, --post.key.keystore and --post.key.remote.url",
        ));
    }
}

fn reading(options: &AggregatorOptions, found: &mut Vec<Problem>) {
    let reading = &options.data_availability.rest_aggregator;
    if reading.enable
        && reading.urls.is_empty()
        && reading.online_url_list.is_empty()
        && options.committee.file.as_os_str().is_empty()
    {
        found.push(problem(
            "data-availability.rest-aggregator.urls",
            "reading is enabled and no server to read from is named",
            "give --data-availability.rest-aggregator.urls or .online-url-list, or a committee file with REST URLs",
        ));
    }
    if reading.strategy != "simple-explore-exploit" {
        found.push(problem(
            "data-availability.rest-aggregator.strategy",
            format!("{:?} is no strategy", reading.strategy),
            "leave it out, or give simple-explore-exploit",
        ));
    }
}

pub(super) fn notices(options: &AggregatorOptions) -> Vec<String> {
    let mut lines = Vec::new();
    if !options.has_store_key() {
        lines.push(
            "no store key (--data-availability.store-key.file): stores that come in chunks, or are too large for one \
             request to a member, will be refused"
                .to_owned(),
        );
    }
    let da = &options.data_availability;
    let signers = !da.allowed_signers.is_empty() || !da.extra_signature_checking_public_key.is_empty();
    if options.enable_rpc && options.has_store_key() && !signers {
        let text = if da.disable_signature_checking {
            "SIGNATURES ARE NOT CHECKED (--data-availability.disable-signature-checking): with the store key anybody \
             who reaches the JSON-RPC port can store at the members. This is for tests only"
        } else {
            "no signers are named (--data-availability.allowed-signers): a store in one piece is checked by the \
             members alone, and a store in chunks, which the aggregator signs itself, is refused"
        };
        lines.push(text.to_owned());
    }
    lines.extend(options.tls.notice(&ports(options)));
    lines
}
