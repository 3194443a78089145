use das_common::config::{Inputs, Loaded, Outcome, load};

use super::*;

fn outcome(args: &[&str]) -> Result<Outcome<AggregatorOptions>, String> {
    load(&Inputs::of_args(args)).map_err(|problems| problems.to_string())
}

fn run(args: &[&str]) -> Loaded<AggregatorOptions> {
    match outcome(args) {
        Ok(Outcome::Run(loaded)) => loaded,
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn the_sample_is_usable_as_it_is() {
    let sample = run(&["--conf.file", concat!(env!("CARGO_MANIFEST_DIR"), "/sample/das-aggregator.jsonc")]);
    assert!(sample.notices.is_empty(), "{:?}", sample.notices);
    assert!(sample.options.has_store_key());
    assert_eq!(sample.options.committee.file, PathBuf::from("/das/committee.toml"));
    assert_eq!(sample.options.data_availability.rpc_aggregator.retry_duration, Duration::from_secs(120));
}

#[test]
fn the_reference_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/options-das-aggregator.md");
    das_common::config::check_page::<AggregatorOptions>(std::path::Path::new(path));
}

#[test]
fn members_may_come_in_nitros_form() {
    const LIST: &str = r#"[{"url":"http://a:1","pubkey":"YQ=="},{"url":"http://b:1","pubkey":"Yg=="}]"#;
    let prefix = "--data-availability.rpc-aggregator";
    let args = ["--enable-rpc", &format!("{prefix}.backends={LIST}"), &format!("{prefix}.assumed-honest=1")];
    let nitro = run(&args).options.data_availability.rpc_aggregator;
    assert_eq!(nitro.backends.0.len(), 2);
    assert_eq!((nitro.backends.0[1].url.as_str(), nitro.assumed_honest), ("http://b:1", 1));

    // In a file the list may be JSON or, as Nitro writes it, a text that holds JSON.
    for value in [LIST.to_owned(), serde_json::Value::from(LIST).to_string()] {
        let string = format!(
            r#"{{"enable-rest": true, "data-availability": {{"rpc-aggregator": {{"assumed-honest": 1, "backends": {value}}}}}}}"#
        );
        assert_eq!(
            run(&["--conf.string", &string]).options.data_availability.rpc_aggregator.backends.0.len(),
            2
        );
    }
    for wrong in [r#"[{"url":"x"}]"#, "[1]", "{", r#"[{"url":"x","pubkey":"y","extra":1}]"#] {
        let problem = outcome(&[&format!("{prefix}.backends={wrong}")]).unwrap_err();
        assert!(problem.contains("expected a JSON list of members"), "{problem}");
    }
}

#[test]
fn every_start_that_cannot_work_names_the_option_and_the_cure() {
    for (args, expected) in [
        ("", "please specify at least one of --enable-rest or --enable-rpc"),
        ("--enable-rpc", "--committee.file: no committee is named"),
        (
            r#"--data-availability.rpc-aggregator.backends=[{"url":"a","pubkey":"b"}]"#,
            "--data-availability.rpc-aggregator.assumed-honest: 0 of 1 members cannot be assumed honest",
        ),
        (
            "--provider-server.enable --provider-server.enable-da-writer",
            "--provider-server.enable-da-writer (command line): a writer signs store requests",
        ),
        ("--provider-server.supported-header-bytes 808", "is not the hex of bytes"),
        (
            "--data-availability.store-key.hex 1 --data-availability.store-key.file f",
            "leave out one of the two",
        ),
        ("--data-availability.rest-aggregator.enable", "no server to read from is named"),
        ("--data-availability.request-timeout 0", "no member can answer in time"),
        ("--parent-chain.sequencer-inbox-address 0x12", "is no address"),
        (
            "--parent-chain.node-url http://a --parent-chain.sequencer-inbox-address \
             0xFf63b7c125284ac17E20e7F6473f3c38B3eF12AE",
            "no folder to keep its keysets in",
        ),
        ("--explorer.enable", "no parent chain to show batches of"),
        ("--post.enable", "there is no parent chain to post to"),
        ("--post.enable --post.key.file a --post.key.keystore b", "one account posts, with one key"),
        ("--post.enable --post.max-fee-gwei=-1", "-1 is no amount"),
        ("--post.fallback blob", "hold or calldata"),
        (
            "--provider-server.enable --provider-server.enable-da-writer --provider-server.addr 0.0.0.0",
            "could store in this aggregator's name",
        ),
        (
            "--enable-rest --provider-server.enable --require-tls",
            "plain HTTP would be served on --rest-port, --provider-server.port; give --tls.cert",
        ),
        ("--tls.plain rset", "there are rpc, rest, provider, explorer, dashboard, metrics"),
        ("--assumed-honest 2", "the nearest known one is --data-availability.rpc-aggregator.assumed-honest"),
    ] {
        let args: Vec<_> = args.split_whitespace().collect();
        let problems = outcome(&args).unwrap_err();
        assert!(problems.contains(expected), "{args:?}: expected {expected}\nin {problems}");
    }
}

#[test]
fn a_store_key_without_signers_is_worth_a_warning() {
    let base = ["--enable-rpc", "--committee.file", "c"];
    assert!(run(&base).notices[0].contains("no store key"));
    let key = ["--data-availability.store-key.file", "f"];
    assert!(run(&[&base[..], &key[..]].concat()).notices[0].contains("no signers are named"));
    let open = ["--data-availability.disable-signature-checking"];
    assert!(
        run(&[&base[..], &key[..], &open[..]].concat()).notices[0].contains("SIGNATURES ARE NOT CHECKED")
    );
}
