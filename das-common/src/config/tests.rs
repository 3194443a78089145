use std::time::Duration;

use proptest::prelude::*;

use super::*;

options! {
    /// A small program.
    struct Small {
        ["Server"]
        /// Serve.
        enable_rpc: bool = "false",
        /// Port.
        rest_port: u16 = "9877",
        /// Wait.
        wait: Duration = "504h0m0s",
        ["Keys"]
        /// Section.
        key: KeySection,
    }
}

options! {
    /// A section.
    struct KeySection {
        /// Where.
        key_dir: String,
        /// Secret.
        priv_key: Secret,
        /// Places.
        urls: Vec<String>,
        /// Size.
        max_bytes: ByteSize = "64MiB",
    }
}

impl Program for Small {
    const NAME: &'static str = "small";
    const ABOUT: &'static str = "A program of the tests.";
    const VERSION: &'static str = "1.2.3";
    const REPLACED: &'static [Replaced] = &[Replaced {
        section: "redis-cache",
        options: &[("enable", "bool", "false"), ("secret-key", "string", "")],
        by: "the cache in memory needs no server",
    }];
    fn check(&self) -> Vec<Problem> {
        let wrong = self.rest_port == 1;
        wrong
            .then(|| Problem { option: "rest-port", text: "it is 1".to_owned(), cure: "give another" })
            .into_iter()
            .collect()
    }
}

/// Arguments split at white space, variables `NAME=value`.
fn inputs(args: &str, env: &[&str]) -> Inputs {
    let mut inputs = Inputs::of_args(args.split_whitespace());
    inputs.env = env.iter().filter_map(|v| v.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect();
    inputs
}

fn run(args: &str, env: &[&str]) -> Loaded<Small> {
    match load(&inputs(args, env)) {
        Ok(Outcome::Run(loaded)) => loaded,
        other => panic!("{args} {env:?}: {other:?}"),
    }
}

fn problems(args: &str, env: &[&str]) -> String {
    match load::<Small>(&inputs(args, env)) {
        Err(problems) => problems.to_string(),
        Ok(other) => panic!("{args} {env:?}: {other:?}"),
    }
}

fn printed(args: &str) -> String {
    match load::<Small>(&inputs(args, &[])) {
        Ok(Outcome::Print(text)) => text,
        other => panic!("{args}: {other:?}"),
    }
}

/// A file that lasts as long as the test.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn stronger_sources_win() {
    let a = file(r#"{"rest-port": 1000, "key": {"key-dir": "a", "urls": ["x", "y"]}, "wait": "1h"}"#);
    let b = file(r#"{"rest-port": "2000", "key.urls": "z"}"#);
    let files = format!("--conf.file {},{}", a.path().display(), b.path().display());

    let one = run(&files, &[]).options;
    assert_eq!((one.rest_port, one.key.key_dir.as_str(), one.wait), (2000, "a", Duration::from_secs(3600)));
    assert_eq!(one.key.urls, ["z"]);
    let repeated = format!("--conf.file {} --conf.file={}", b.path().display(), a.path().display());
    assert_eq!(run(&repeated, &[]).options.rest_port, 1000);

    let string = format!(r#"{files} --conf.string {{"rest-port":3000}} --conf.env-prefix NITRO"#);
    assert_eq!(run(&string, &[]).options.rest_port, 3000);
    let env = ["NITRO_REST__PORT=4000", "NITRO_KEY_URLS=p,q", "OTHER_REST__PORT=1"];
    let all = run(&string, &env).options;
    assert_eq!((all.rest_port, all.key.urls), (4000, vec!["p".to_owned(), "q".to_owned()]));
    assert_eq!(run(&format!("{string} --rest-port 5000"), &env).options.rest_port, 5000);
}

#[test]
fn the_prefix_may_come_from_a_file_and_the_file_from_the_environment() {
    let config = file(r#"{"conf": {"env-prefix": "NITRO"}, "rest-port": 1}"#);
    let by_file = run(&format!("--conf.file {}", config.path().display()), &["NITRO_REST__PORT=7"]);
    assert_eq!(by_file.options.rest_port, 7);

    let variable = format!("NITRO_CONF_FILE={}", config.path().display());
    let by_env = run("--conf.env-prefix=NITRO", &[&variable, "NITRO_REST__PORT=8"]);
    assert_eq!(by_env.options.rest_port, 8);
}

#[test]
fn the_command_line_is_read_as_pflag_reads_it() {
    assert!(run("--enable-rpc", &[]).options.enable_rpc);
    assert!(run("--enable-rpc=T", &[]).options.enable_rpc);
    assert!(!run("--enable-rpc --enable-rpc=false", &[]).options.enable_rpc);
    assert_eq!(run("--rest-port=1 --rest-port 0x10", &[]).options.rest_port, 16);
    assert_eq!(run("--key.urls a,b --key.urls=c", &[]).options.key.urls, ["a", "b", "c"]);
    assert_eq!(run("--key.key-dir --strange", &[]).options.key.key_dir, "--strange");

    let text = problems("--enable-rpc false", &[]);
    assert!(text.contains("--enable-rpc=false"), "{text}");
    let text = problems("-rest-port=5", &[]);
    assert!(text.contains("two dashes, --rest-port"), "{text}");
    let text = problems("--rest-port", &[]);
    assert!(text.contains("--rest-port (command line): a value must follow, a uint16"), "{text}");
}

#[test]
fn an_unknown_key_is_named_with_its_source_and_the_nearest_option() {
    let config =
        file(r#"{"key": {"keydir": 1}, "nested": {"deep": 1}, "rest-port": {"x": 1}, "key2": null}"#);
    let text = problems(
        &format!(
            "--conf.file {} --conf.env-prefix NITRO --rest-prot 5 --max-bytes=1",
            config.path().display()
        ),
        &["NITRO_KEY_PRIV_KEY=x"],
    );
    let path = config.path().display();
    for expected in [
        format!("unknown option key.keydir (file {path}); the nearest known one is key.key-dir"),
        format!("unknown option nested (file {path})"),
        "unknown option key.priv.key (environment variable NITRO_KEY_PRIV_KEY); \
         the nearest known one is NITRO_KEY_PRIV__KEY"
            .to_owned(),
        "unknown option --rest-prot (command line); the nearest known one is --rest-port".to_owned(),
        "unknown option --max-bytes (command line); the nearest known one is --key.max-bytes".to_owned(),
        format!(r#"--rest-port (file {path}): "{{\"x\":1}}" is wrong: expected a whole number, 0 to 65535"#),
        format!("unknown option key2 (file {path})"),
    ] {
        assert!(text.contains(&expected), "missing: {expected}\nin: {text}");
    }
    assert_eq!(text.lines().count(), 7, "each problem once: {text}");
}

#[test]
fn a_wrong_value_names_option_source_value_and_expectation() {
    let text = problems("--wait 30 --rest-port 70000 --enable-rpc=yes --key.max-bytes 1QB", &[]);
    assert_eq!(
        text,
        "--enable-rpc (command line): \"yes\" is wrong: expected true or false\n\
         --rest-port (command line): \"70000\" is wrong: expected a whole number, 0 to 65535\n\
         --wait (command line): \"30\" is wrong: expected a duration such as 30s, 1h30m or 504h\n\
         --key.max-bytes (command line): \"1QB\" is wrong: expected an amount of bytes such as 64MiB, 1GB or 5242880"
    );
    let secret = problems(r#"--conf.string {"key":{"priv-key":["hunter2"]}}"#, &[]);
    assert!(!secret.contains("hunter2") && secret.contains("key.priv-key"), "{secret}");
    let check = problems("--rest-port 1", &[]);
    assert_eq!(check, "--rest-port (command line): it is 1; give another");
    assert!(problems("--conf.file /nowhere.json", &[]).contains("cannot read /nowhere.json"));
    assert!(problems("--conf.string {broken", &[]).contains("--conf.string: not a JSON object"));
}

#[test]
fn what_is_replaced_is_accepted_with_one_line() {
    let loaded = run("--redis-cache.enable --redis-cache.secret-key hunter2", &[]);
    assert_eq!(
        loaded.notices,
        ["--redis-cache.{enable,secret-key}: accepted, without effect: the cache in memory needs no server"]
    );
    assert!(run("", &[]).notices.is_empty());
    assert!(run("--conf.reload-interval 1s", &[]).notices[0].contains("restart"));
    assert!(problems("--redis-cache.enable=maybe", &[]).contains("expected true or false"));
}

#[test]
fn the_dump_is_complete_has_no_secrets_and_reads_back_the_same() {
    let dump = printed(
        "--rest-port 1 --enable-rpc --wait 90s --key.priv-key hunter2 --key.urls a,b --redis-cache.secret-key \
         hunter2 --conf.dump",
    );
    assert!(!dump.contains("hunter2"), "{dump}");
    let value: serde_json::Value = serde_json::from_str(&dump).unwrap();
    assert_eq!(value["wait"], "1m30s");
    assert_eq!(
        value["key"],
        serde_json::json!({
            "key-dir": "", "priv-key": "", "urls": ["a", "b"], "max-bytes": "64MiB"
        })
    );
    let again = file(&dump);
    assert_eq!(
        printed(&format!("--conf.file {} --conf.dump", again.path().display()))
            .replace(&again.path().display().to_string(), "")
            .replace("\"file\": [\n      \"\"\n    ]", "\"file\": []"),
        dump
    );
}

#[test]
fn help_is_grouped_and_version_is_plain() {
    let help = printed("--help --unknown");
    let order: Vec<_> =
        ["\nServer\n", "--enable-rpc", "\nKeys\n", "--key.urls", "\nConfiguration\n", "--conf.file  ["]
            .iter()
            .map(|part| help.find(part).unwrap_or_else(|| panic!("no {part} in {help}")))
            .collect();
    assert!(order.is_sorted(), "{help}");
    assert!(help.contains("--wait  [duration, 504h0m0s]"), "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 110), "{help}");
    assert_eq!(printed("--version"), "small 1.2.3\n");
}

#[test]
fn durations_are_those_of_go() {
    for (text, nanos) in [
        ("0", 0u128),
        ("1ns", 1),
        ("1.5us", 1_500),
        ("2\u{b5}s", 2_000),
        ("2\u{3bc}s", 2_000),
        ("-0s", 0),
        (".5s", 500_000_000),
        ("1.s", 1_000_000_000),
        ("+1h1m1.000000001s", 3_661_000_000_001),
        ("876000h", 876_000 * 3_600_000_000_000),
        ("0.100000000000000000000h", 360_000_000_000),
        ("0.3333333333333333333h", 1_199_999_999_999),
    ] {
        assert_eq!(parse_duration(text).map(|d| d.as_nanos()), Ok(nanos), "{text}");
    }
    for text in [
        "",
        "3",
        "-",
        "s",
        ".",
        ".s",
        "1x",
        "1h-1m",
        "1 s",
        "9999999h",
        "-1s",
        "1e3s",
        "99999999999999999999s",
    ] {
        assert!(parse_duration(text).is_err(), "{text}");
    }
    for (nanos, text) in [
        (0u64, "0s"),
        (1, "1ns"),
        (1_500, "1.5\u{b5}s"),
        (100_000_000, "100ms"),
        (2_000_000_000, "2s"),
        (90_500_000_000, "1m30.5s"),
        (1_814_400_000_000_000, "504h0m0s"),
    ] {
        assert_eq!(format_duration(Duration::from_nanos(nanos)), text);
    }
}

#[test]
fn comments_and_trailing_commas_are_blanked_outside_strings() {
    let text = "{ // a, }\n \"a//b\": \"/* no */\\\"//\", /* x\n} */ \"c\": [1, /* , */ 2, ], }";
    let clean = strip_comments(text);
    assert_eq!(clean.len(), text.len());
    assert_eq!(clean.lines().count(), text.lines().count());
    let value: serde_json::Value = serde_json::from_str(&clean).unwrap();
    assert_eq!(value, serde_json::json!({"a//b": "/* no */\"//", "c": [1, 2]}));
    for kept in ["[,]", "{,}", "[1,,]", ",,}", "{\"a\":,}"] {
        assert_eq!(strip_comments(kept), kept, "two mistakes do not make a value");
    }
}

#[test]
fn sizes_and_numbers() {
    let size = |text: &str| ByteSize::parse(&RawValue::Text(text.to_owned())).map(|s| s.0);
    for (text, bytes) in
        [("0", 0), ("5242880", 5_242_880), ("64MiB", 64 << 20), ("1.5 GB", 1_500_000_000), ("7b", 7)]
    {
        assert_eq!(size(text), Some(bytes), "{text}");
    }
    for text in ["", "MiB", "-1", "1.5.5MB", "99999999999TiB", "1 000", "0x"] {
        assert_eq!(size(text), None, "{text}");
    }
    let number = |text: &str| u64::parse(&RawValue::Text(text.to_owned()));
    assert_eq!(number("1_000"), Some(1000));
    assert_eq!(number("18446744073709551615"), Some(u64::MAX));
    for text in ["", "-1", "010", "_1", "1_", "1__0", "0x", "0x+1", "++1", "1.0", "18446744073709551616"] {
        assert_eq!(number(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn durations_survive_writing_and_reading(nanos in 0..=i64::MAX as u64) {
        let duration = Duration::from_nanos(nanos);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }

    #[test]
    fn any_text_is_a_value_or_a_problem(text in ".{0,60}", json in "[\\[\\]{}\",:/*a-z0-9. \\\\\n-]{0,80}") {
        let _ = parse_duration(&text);
        let raw = RawValue::Text(text.clone());
        let _ = (ByteSize::parse(&raw), u64::parse(&raw), f64::parse(&raw), Vec::<String>::parse(&raw));
        let stripped = strip_comments(&json);
        prop_assert_eq!(stripped.len(), json.len());
        // Twice is once: nothing that was blanked can be found again.
        prop_assert_eq!(strip_comments(&stripped), stripped.clone());
        let mut inputs = Inputs::of_args([text.as_str(), "--conf.env-prefix=P", "--conf.string", json.as_str()]);
        inputs.env = vec![("P_REST__PORT".into(), text.clone().into()), (format!("P_{text}").into(), "".into())];
        let _ = load::<Small>(&inputs);
        let _ = nearest(&text, ["rest-port", "key.urls"].into_iter());
    }

    #[test]
    fn json_without_comments_is_left_alone(value in "[ -~]{0,40}") {
        let text = serde_json::json!({"k": value, "l": [value.clone(), 1]}).to_string();
        prop_assert_eq!(strip_comments(&text), text);
    }
}
