//! Combinations of options that cannot work.

use das_common::config::Problem;
use das_common::config::sections::is_address;
use das_common::http::per_client::Network;
use das_common::tls::Port;
use das_keys::options::NODE_NAMES;

use super::{NodeOptions, custody};

pub(super) fn problem(option: &'static str, text: impl Into<String>, cure: &'static str) -> Problem {
    Problem { option, text: text.into(), cure }
}

pub(super) fn problems(options: &NodeOptions) -> Vec<Problem> {
    let mut found = Vec::new();
    clients(options, &mut found);
    servers(options, &mut found);
    storage(options, &mut found);
    signers(options, &mut found);
    reading(options, &mut found);
    limits(options, &mut found);
    custody::check(options, &mut found);
    super::archive::check(options, &mut found);
    following(options, &mut found);
    super::peer::problems(options, &mut found);
    found.extend(options.storage_encryption.keys().problems());
    if options.storage_encryption.keys().is_given() && options.is_read_node() {
        found.push(problem(
            "storage-encryption.key-file",
            "this node has no disk of its own (data-availability.local-file-storage.enable)",
            "leave out storage-encryption.*; an archive holds batches as they are",
        ));
    }
    found.extend(options.tls.problems(options.require_tls, &ports(options)));
    if options.require_tls {
        calls(options, &mut found);
    }
    found
}

/// The servers, as far as TLS is concerned.
fn ports(options: &NodeOptions) -> [Port; 5] {
    [
        Port { name: "rpc", option: "rpc-port", on: options.enable_rpc },
        Port { name: "rest", option: "rest-port", on: options.enable_rest },
        Port { name: "explorer", option: "explorer.port", on: options.explorer.enable },
        Port { name: "dashboard", option: "dashboard.port", on: options.dashboard.enable },
        Port { name: "metrics", option: "metrics-server.port", on: options.metrics },
    ]
}

fn calls(options: &NodeOptions, found: &mut Vec<Problem>) {
    let reading = &options.data_availability.rest_aggregator.servers;
    let plain = |url: &&String| url.starts_with("http://");
    for (option, urls) in [
        ("data-availability.rest-aggregator.urls", &reading.urls[..]),
        ("data-availability.rest-aggregator.online-url-list", std::slice::from_ref(&reading.online_url_list)),
    ] {
        if let Some(url) = urls.iter().find(plain).filter(|_| reading.enable) {
            let text = format!("{url} is called over plain HTTP, and --require-tls is given");
            found.push(problem(option, text, "give https URLs"));
        }
    }
}

fn clients(options: &NodeOptions, found: &mut Vec<Problem>) {
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

fn servers(options: &NodeOptions, found: &mut Vec<Problem>) {
    if !options.enable_rpc && !options.enable_rest {
        found.push(problem(
            "enable-rpc",
            "neither --enable-rpc nor --enable-rest is given, so there is nothing to serve",
            "please specify at least one of --enable-rest or --enable-rpc",
        ));
    }
    if options.enable_rpc && !options.has_key() {
        found.push(problem(
            "data-availability.key.key-dir",
            "a member that takes stores (--enable-rpc) signs them, and there is no key",
            "give the directory that dastool keygen made, or another way to hold the key (.keystore, .kms, .signer), or \
             leave out --enable-rpc to run a mirror",
        ));
    }
    found.extend(options.data_availability.key.problems(&NODE_NAMES));
    if !options.data_availability.enable {
        found.push(problem(
            "data-availability.enable",
            "it is false, and this program is nothing else",
            "leave it out",
        ));
    }
    let ports = [
        ("rpc-port", options.enable_rpc, &options.rpc_addr, options.rpc_port),
        ("rest-port", options.enable_rest, &options.rest_addr, options.rest_port),
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
}

fn storage(options: &NodeOptions, found: &mut Vec<Problem>) {
    let storage = &options.data_availability.local_file_storage;
    let no_dir = storage.data_dir.as_os_str().is_empty();
    if !storage.enable {
        if options.enable_rpc || options.has_key() || !options.has_archive() {
            found.push(problem(
                "data-availability.local-file-storage.enable",
                "there is no storage",
                "turn it on and give --data-availability.local-file-storage.data-dir; only a node without a key that \
                 reads from an archive needs none",
            ));
        }
        for (option, on) in [
            (
                "data-availability.rest-aggregator.sync-to-storage.eager",
                options.data_availability.rest_aggregator.sync.eager,
            ),
            ("explorer.enable", options.explorer.enable),
            ("committee.file", !options.committee.file.as_os_str().is_empty()),
        ] {
            if on {
                found.push(problem(
                    option,
                    "it needs a directory, and a node that only reads from an archive has none",
                    "give --data-availability.local-file-storage.enable and .data-dir",
                ));
            }
        }
    } else if no_dir {
        found.push(problem(
            "data-availability.local-file-storage.data-dir",
            "the batch store is enabled and has no directory",
            "give a directory that exists and that only this member writes to",
        ));
    }
    if storage.max_retention.is_zero() {
        found.push(problem(
            "data-availability.local-file-storage.max-retention",
            "with 0 every store is refused",
            "give at least what the batch poster asks for, 360h by default",
        ));
    }
    if storage.segment_size.0 < options.limits.max_message_size.0 {
        let text = format!("{} is below --limits.max-message-size", storage.segment_size);
        found.push(problem(
            "data-availability.local-file-storage.segment-size",
            text,
            "a batch lies in one file; make it at least as large",
        ));
    }
    if storage.expiry_interval.is_zero() {
        found.push(problem(
            "data-availability.local-file-storage.expiry-interval",
            "it is 0",
            "give the time between two looks, such as 1m",
        ));
    }
}

fn signers(options: &NodeOptions, found: &mut Vec<Problem>) {
    let da = &options.data_availability;
    for address in &da.allowed_signers {
        if !is_address(address) {
            found.push(problem(
                "data-availability.allowed-signers",
                format!("{address:?} is no address"),
                "give 0x and 40 hex digits",
            ));
        }
    }
    let inbox = &options.parent_chain.sequencer_inbox_address;
    if options.parent_chain.names_inbox() && !is_address(inbox) {
        found.push(problem(
            "parent-chain.sequencer-inbox-address",
            format!("{inbox:?} is no address"),
            "give the contract's address, or none",
        ));
    } else if options.parent_chain.names_inbox()
        && options.parent_chain.node_url.is_empty()
        && options.enable_rpc
        && !names_signers(options)
    {
        found.push(problem(
            "parent-chain.node-url",
            "there is a contract and no node to ask it, and nobody else is named, so every store would be refused",
            "give the URL of a node of the parent chain, or name the signers with \
             --data-availability.allowed-signers",
        ));
    }
}

/// Can any store be accepted?
fn names_signers(options: &NodeOptions) -> bool {
    let da = &options.data_availability;
    da.disable_signature_checking
        || options.parent_chain.is_given()
        || !da.allowed_signers.is_empty()
        || !da.extra_signature_checking_public_key.is_empty()
}

fn reading(options: &NodeOptions, found: &mut Vec<Problem>) {
    let reading = &options.data_availability.rest_aggregator.servers;
    if reading.enable && reading.urls.is_empty() && reading.online_url_list.is_empty() {
        found.push(problem(
            "data-availability.rest-aggregator.urls",
            "reading from other servers is enabled and none is named",
            "give --data-availability.rest-aggregator.urls or .online-url-list",
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

fn following(options: &NodeOptions, found: &mut Vec<Problem>) {
    let eager = options.data_availability.rest_aggregator.sync.eager;
    let chain = &options.parent_chain;
    for (option, on) in [
        ("data-availability.rest-aggregator.sync-to-storage.eager", eager),
        ("explorer.enable", options.explorer.enable),
    ] {
        if on && !chain.is_given() {
            found.push(problem(
                option,
                "there is no parent chain to follow",
                "give --parent-chain.node-url and --parent-chain.sequencer-inbox-address",
            ));
        }
    }
    if eager && options.data_availability.rest_aggregator.sync.requests_in_flight == 0 {
        found.push(problem(
            "data-availability.rest-aggregator.sync-to-storage.requests-in-flight",
            "with 0 nothing is ever fetched",
            "give at least 1",
        ));
    }
}

fn limits(options: &NodeOptions, found: &mut Vec<Problem>) {
    let limits = &options.limits;
    if limits.max_connections == 0 {
        found.push(problem("limits.max-connections", "it is 0", "give at least 1"));
    }
    if limits.max_request_memory.0 < options.rpc_body_limit() as u64 {
        found.push(problem(
            "limits.max-request-memory",
            format!("{} is below the longest body allowed", limits.max_request_memory),
            "make it several times --rpc-server-body-limit",
        ));
    }
    if limits.max_pending_bytes.0 < limits.max_message_size.0 {
        found.push(problem(
            "limits.max-pending-bytes",
            format!("{} is below --limits.max-message-size", limits.max_pending_bytes),
            "make it at least as large, better several times",
        ));
    }
}

pub(super) fn notices(options: &NodeOptions) -> Vec<String> {
    let mut lines = Vec::new();
    if options.parent_chain.names_inbox() && options.parent_chain.node_url.is_empty() {
        lines.push(
            "--parent-chain.node-url is not given: the contract is not asked who may store; the signers of \
             --data-availability.allowed-signers and .extra-signature-checking-public-key may"
                .to_owned(),
        );
    }
    if options.enable_rpc && !names_signers(options) {
        lines.push(
            "no signature verification method configured: every store will be refused; name the batch posters \
             and the sequencer with --data-availability.allowed-signers, or the chain with --parent-chain.node-url"
                .to_owned(),
        );
    }
    if options.data_availability.disable_signature_checking {
        lines.push(
            "SIGNATURES ARE NOT CHECKED (--data-availability.disable-signature-checking): anybody who reaches the \
             JSON-RPC port can store. This is for tests only"
                .to_owned(),
        );
    }
    lines.extend(options.tls.notice(&ports(options)));
    lines
}
