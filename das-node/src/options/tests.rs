use das_common::config::{Inputs, Loaded, Outcome, load};

use super::*;

fn outcome(args: &str) -> Result<Outcome<NodeOptions>, String> {
    load(&Inputs::of_args(args.split_whitespace())).map_err(|problems| problems.to_string())
}

fn run(args: &str) -> Loaded<NodeOptions> {
    match outcome(args) {
        Ok(Outcome::Run(loaded)) => loaded,
        other => panic!("{args}: {other:?}"),
    }
}

fn sample(name: &str) -> Loaded<NodeOptions> {
    run(&format!("--conf.file {}/sample/{name}", env!("CARGO_MANIFEST_DIR")))
}

const MEMBER: &str = "--enable-rpc --data-availability.key.key-dir k --data-availability.local-file-storage.enable \
                      --data-availability.local-file-storage.data-dir d";

const TLS: &str = "--tls.cert c --tls.key k";

#[test]
fn the_samples_are_usable_as_they_are() {
    let member = sample("member.jsonc");
    assert!(member.notices.is_empty(), "{:?}", member.notices);
    let member = member.options;
    assert!(member.enable_rpc && member.enable_rest && member.metrics && member.has_key());
    assert_eq!(member.data_availability.rest_aggregator.servers.urls.len(), 2);
    assert_eq!(member.data_availability.local_file_storage.min_free, ByteSize(10 << 30));

    let mirror = sample("mirror.jsonc").options;
    assert!(mirror.enable_rest && !mirror.enable_rpc && !mirror.has_key());
    assert!(member.require_tls && mirror.require_tls);
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/options-das-node.md");
    das_common::config::check_page::<NodeOptions>(std::path::Path::new(path));
}

#[test]
fn every_start_that_cannot_work_names_the_option_and_the_cure() {
    for (args, expected) in [
        ("", "please specify at least one of --enable-rest or --enable-rpc"),
        (
            "--enable-rpc",
            "--data-availability.key.key-dir: a member that takes stores (--enable-rpc) signs them",
        ),
        ("--enable-rest", "--data-availability.local-file-storage.enable: there is no storage"),
        (
            "--enable-rest --data-availability.local-file-storage.enable",
            "--data-availability.local-file-storage.data-dir: the batch store is enabled and has no directory",
        ),
        (
            "--data-availability.key.key-dir a --data-availability.key.priv-key b",
            "--data-availability.key.priv-key (command line): --data-availability.key.key-dir is given too",
        ),
        (
            "--parent-chain.sequencer-inbox-address xyz",
            "\"xyz\" is no address; give the contract's address, or none",
        ),
        ("--data-availability.allowed-signers 0x12", "\"0x12\" is no address; give 0x and 40 hex digits"),
        (
            "--data-availability.rest-aggregator.enable",
            "reading from other servers is enabled and none is named",
        ),
        ("--data-availability.rest-aggregator.strategy fastest", "\"fastest\" is no strategy"),
        ("--enable-rpc --enable-rest --rest-port 9876", "port 9876 of localhost is that of --rpc-port too"),
        (
            "--rpc-server-body-limit 999999999",
            "--limits.max-request-memory: 256MiB is below the longest body allowed",
        ),
        (
            "--data-availability.s3-storage.enable",
            "--data-availability.s3-storage.bucket: the archive is enabled and has no bucket",
        ),
        (
            "--data-availability.s3-storage.enable --data-availability.s3-storage.access-key a",
            "give both, or none",
        ),
        ("--data-availability.s3-storage.object-prefix /das/", "begins with a slash or has two in a row"),
        (
            "--data-availability.s3-storage.enable --archive.url file:///a",
            "--archive.url (command line): data-availability.s3-storage.enable is given too",
        ),
        ("--archive.required", "--archive.required (command line): there is no archive"),
        ("--archive.url file:///a --archive.read-only --archive.required", "the archive is only read"),
        (
            "--archive.url file:///a --archive.local-retention 1h --committee.file c",
            "--archive.local-retention (command line): with a committee file, what is cold is kept as shards",
        ),
        (
            "--archive.url file:///a --enable-rpc",
            "only a node without a key that reads from an archive needs none",
        ),
        (
            "--archive.url file:///a --enable-rest --explorer.enable",
            "--explorer.enable (command line): it needs a directory",
        ),
        (
            "--data-availability.redis-cache.enable",
            "--data-availability.redis-cache.url: the shared cache is enabled and has no address",
        ),
        (
            "--data-availability.redis-cache.enable --data-availability.redis-cache.key-config 12",
            "give 32 bytes in hex: 64 digits",
        ),
        ("--peer.listen 10.0.0.1:9879", "\"10.0.0.1:9879\" is no address in multiaddr notation"),
        ("--peer.listen /ip4/10.0.0.1/tcp/1/ws", "then /tcp/PORT or /udp/PORT/quic-v1; give a list such as"),
        ("--peer.listen /dns4/alice/tcp/1", "/dns4/alice/tcp/1 is not an address of this machine"),
        ("--enable-rest --peer.listen /ip4/0.0.0.0/tcp/9877", "is that of --rest-port too"),
        (
            "--peer.external-addresses here",
            "--peer.external-addresses (command line): \"here\" is no address",
        ),
        ("--peer.binding-life 1m", "a binding lasts at least 1h and at most 9600h"),
        ("--peer.max-memory 1MiB", "--peer.max-memory (command line): 1MiB is below the longest answer"),
        ("--peer.request-rate 0", "--peer.request-rate (command line): it is 0"),
        ("--peer.max-backoff 1ms", "it is below --peer.min-backoff"),
        (
            "--enable-rest --require-tls",
            "--require-tls (command line): plain HTTP would be served on --rest-port; give",
        ),
        ("--tls.cert c", "--tls.key: there is a certificate without its key"),
        ("--tls.key k", "--tls.cert: there is a key without its certificate"),
        ("--tls.plain rset", "\"rset\" is no server; there are rpc, rest, explorer, dashboard, metrics"),
        ("--tls.rpc.client-ca a", "clients show certificates over TLS only"),
        (
            "--tls.cert c --tls.key k --tls.plain rpc --tls.rpc.client-ca a",
            "clients show certificates over TLS only",
        ),
        ("--tls.rpc.allowed-clients a", "there is no authority to know clients by"),
        ("--tls.outgoing.cert c", "certificate and key are not both given"),
        ("--tls.min-version 1.1", "expected 1.3 or 1.2"),
        (
            "--require-tls --data-availability.rest-aggregator.enable --data-availability.rest-aggregator.urls http://a",
            "http://a is called over plain HTTP",
        ),
        ("--log-level NOPE", "--log-level (command line): \"NOPE\" is wrong: expected TRACE, DEBUG"),
        ("--log-type NOPE", "expected plaintext or json"),
        ("--data-dir x", "the nearest known one is --data-availability.local-file-storage.data-dir"),
        ("--enabel-rpc", "the nearest known one is --enable-rpc"),
    ] {
        match outcome(args) {
            Err(problems) => {
                assert!(problems.contains(expected), "{args}: expected {expected}\nin {problems}");
            }
            Ok(other) => panic!("{args}: {other:?}"),
        }
    }
}

#[test]
fn a_contract_without_a_node_to_ask_would_refuse_every_store() {
    let inbox = "--parent-chain.sequencer-inbox-address 0xFf63b7c125284ac17E20e7F6473f3c38B3eF12AE";
    assert!(outcome(&format!("{MEMBER} {inbox}")).is_err_and(|p| p.contains("parent-chain.node-url")));
    let chain =
        run(&format!("{MEMBER} {TLS} {inbox} --parent-chain.node-url http://127.0.0.1:1,http://127.0.0.1:2"));
    assert!(chain.notices.is_empty(), "{:?}", chain.notices);
    let named = run(&format!(
        "{MEMBER} {inbox} --data-availability.allowed-signers=0xFf63b7c125284ac17E20e7F6473f3c38B3eF12AE"
    ));
    assert!(named.notices[0].contains("the contract is not asked"), "{:?}", named.notices);
    // Starts as Nitro's server does, and says what will happen.
    assert!(run(MEMBER).notices[0].contains("no signature verification method configured"));
    let open = run(&format!("{MEMBER} --data-availability.disable-signature-checking"));
    assert!(open.notices[0].contains("SIGNATURES ARE NOT CHECKED"));
}

#[test]
fn a_node_that_reads_from_an_archive_needs_neither_disk_nor_key_and_shows_no_secret() {
    let s3 = "--enable-rest --data-availability.s3-storage.enable --data-availability.s3-storage.bucket b \
              --data-availability.s3-storage.access-key id --data-availability.s3-storage.secret-key hidden-one \
              --data-availability.redis-cache.url redis://:hidden-two@h --data-availability.redis-cache.key-config hidden-three \
              --data-availability.google-cloud-storage.access-token hidden-four";
    let loaded = run(s3);
    assert!(loaded.options.is_read_node() && loaded.options.has_archive());
    assert!(!format!("{:?}", loaded.options).contains("hidden"));
    match outcome(&format!("{s3} --conf.dump")) {
        Ok(Outcome::Print(text)) => {
            assert!(text.contains("s3-storage") && !text.contains("hidden"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn servers_without_tls_are_named_in_one_warning() {
    let all = format!("{MEMBER} --data-availability.disable-signature-checking --enable-rest --metrics");
    let named = |extra: &str| run(&format!("{all} {extra}")).notices.pop().unwrap();
    assert!(named("").contains("PLAIN HTTP on --rpc-port, --rest-port, --metrics-server.port:"));
    assert!(named(&format!("{TLS} --tls.plain metrics")).contains("PLAIN HTTP on --metrics-server.port:"));
    assert!(!named(TLS).contains("PLAIN HTTP"));
}

#[test]
fn body_limit_zero_is_nitros_default() {
    assert_eq!(run(MEMBER).options.rpc_body_limit(), 5_242_880);
    assert_eq!(run(&format!("{MEMBER} --rpc-server-body-limit 2000")).options.rpc_body_limit(), 2_000);
}

#[test]
fn the_peer_layer_is_started_with_what_the_options_say() {
    let options = run(&format!(
        "{MEMBER} --peer.external-addresses /dns4/a.example/tcp/7 --limits.max-message-size 96MiB --limits.max-pending-bytes 96MiB"
    ));
    let peer = &options.options.peer;
    let made =
        peer.peer_options(std::path::Path::new("/d"), options.options.limits.max_message_size).unwrap();
    assert_eq!((made.listen.len(), made.external.len()), (2, 1));
    assert_eq!(made.limits.max_answer, 97 << 20);
    assert_eq!(peer.key_file(std::path::Path::new("/d")), std::path::Path::new("/d/peer.key"));
    assert_eq!(made.cards_file.as_deref(), Some(std::path::Path::new("/d/peer.cards")));
}
