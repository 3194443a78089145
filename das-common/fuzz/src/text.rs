//! Configuration, committee files, lists of URLs.

use std::fmt::Write;
use std::time::Duration;

use das_common::bls::SecretKey;
use das_common::committee::Committee;
use das_common::config::{
    ByteSize, Inputs, OptionValue, Outcome, Problem, Program, RawValue, Replaced, Secret, format_duration,
    load, parse_duration, strip_comments,
};
use das_common::options;
use das_common::rest_reader::url_list::{ListWalk, MAX_ENDPOINTS, MAX_LISTS};

options! {
    /// A program with an option of every type.
    pub struct Sample {
        /// A switch.
        enable_rpc: bool = "false",
        /// A number.
        rest_port: u16 = "9877",
        /// A time.
        wait: Duration = "2s",
        /// A section.
        key: SampleKey,
    }
}

options! {
    /// A section.
    pub struct SampleKey {
        /// A text.
        key_dir: String,
        /// A secret.
        priv_key: Secret,
        /// A list.
        urls: Vec<String>,
        /// A size.
        max_bytes: ByteSize = "64MiB",
        /// A fraction.
        ratio: f64 = "0.5",
    }
}

impl Program for Sample {
    const NAME: &'static str = "sample";
    const ABOUT: &'static str = "A program of the tests.";
    const VERSION: &'static str = "1";
    const REPLACED: &'static [Replaced] =
        &[Replaced { section: "redis", options: &[("enable", "bool", "false")], by: "memory" }];

    fn check(&self) -> Vec<Problem> {
        Vec::new()
    }
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    [
        r#"{ // a comment
            "rest-port": "1", "key": {"key-dir": "d", "urls": ["a", "b",], "max-bytes": "1.5GB"}, /* x */ "wait": "1h2m", }"#,
        r#"{"key.urls": "a,b", "enable-rpc": true, "redis.enable": 1, "key": {"ratio": "1e3"}, "conf": {"env-prefix": "N"}}"#,
        "--rest-port=5 --enable-rpc --wait 1.5ms --key.urls a,b --key.max-bytes 7KiB",
        "-1h30m1.000000001s",
        "0x1_000",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let plain = strip_comments(&text);
    assert_eq!(plain.len(), text.len());
    assert_eq!(strip_comments(&plain), plain);
    if let Ok(duration) = parse_duration(&text) {
        assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    if let Some(size) = ByteSize::parse(&RawValue::Text(text.to_string())) {
        assert!(ByteSize::parse(&RawValue::Text(size.to_string())) == Some(size));
    }
    // As a string of JSON; the result must be readable in its turn.
    let arguments = ["--conf.string", &text, "--conf.dump"];
    if !text.contains("conf")
        && let Ok(Outcome::Print(dump)) = load::<Sample>(&Inputs::of_args(arguments))
    {
        let again = load::<Sample>(&Inputs::of_args(["--conf.string", &dump, "--conf.dump"]));
        let Ok(Outcome::Print(again)) = again else { panic!("the dump is not readable: {dump}") };
        let bare = |dump: &str| {
            let mut value: serde_json::Value = serde_json::from_str(dump).expect("a dump");
            value["conf"].take();
            value
        };
        assert_eq!(bare(&again), bare(&dump));
    }
    // As a command line and as an environment. No file is named by accident.
    if !text.contains("conf") {
        let mut inputs = Inputs::of_args(text.split_whitespace());
        let _ = load::<Sample>(&inputs);
        inputs.args = vec!["--conf.env-prefix=N".into()];
        inputs.env = text.split_whitespace().map(|word| (format!("N_{word}").into(), word.into())).collect();
        let _ = load::<Sample>(&inputs);
    }
}

pub(crate) fn url_list_seeds() -> Vec<Vec<u8>> {
    [
        "https://a.example https://b.example\nLIST https://lists.example/1 list https://lists.example/2\n",
        "https://a.example LIST https://start LIST LIST LIST",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(crate) fn url_list(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut walk = ListWalk::new("https://start");
    let mut fetched = 0;
    while walk.next().is_some() {
        fetched += 1;
        walk.feed(&text);
    }
    assert!(fetched <= MAX_LISTS);
    assert!(walk.into_endpoints().len() <= MAX_ENDPOINTS);
}

pub(crate) fn committee_seeds() -> Vec<Vec<u8>> {
    let key = |seed: u8| {
        let key = SecretKey::from_bytes(&[seed; 32]).expect("not zero").public_key();
        base64_simd::STANDARD.encode_to_string(key.to_bytes())
    };
    let mut file = String::from("honest-members = 2 # H\ndata-shards = 1\n");
    for (i, name) in ["alice", "bob"].iter().enumerate() {
        let _ = write!(
            file,
            "[[member]]\nname = \"{name}\"\npublic-key = \"{}\"\nrpc = \"http://127.0.0.1:{i}1\"\n\
             rest = 'http://127.0.0.1:{i}2'\n",
            key(i as u8 + 1)
        );
    }
    let nitro = format!(r#"[{{"url":"http://a:1","pubkey":"{}"}}]"#, key(1));
    vec![file.into_bytes(), nitro.into_bytes()]
}

pub(crate) fn committee(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for committee in [Committee::parse(&text), Committee::from_nitro(1, &text)].into_iter().flatten() {
        let (n, honest, shards) =
            (committee.members().len() as u64, committee.honest_members(), committee.data_shards());
        assert!(1 <= shards && shards <= honest && honest <= n && n <= 64);
        assert_eq!(committee.threshold(), n + 1 - committee.assumed_honest());
        assert_eq!(committee.keyset().keys().len() as u64, n);
        assert!(!committee.promise().to_string().is_empty());
    }
}
