//! `options.json`: every option of Nitro's programs is known to ours by name, type and default.
//!
//! The programs are asked themselves: what `--conf.dump` prints without options are the defaults; with every option
//! given, what arrived; and a value of a wrong type must be refused by the option's name.

use std::collections::BTreeMap;
use std::process::{Command, Output};

use das_testnet::process::binary;
use serde_json::Value;

/// Where the options of a recorded program are in ours.
struct Ours {
    program: &'static str,
    words: &'static [&'static str],
    /// Beginning of the recorded names, and what stands there in ours.
    prefix: (&'static str, &'static str),
    /// Recorded options that ours does not have: the beginning of their names, and the reason.
    left_out: &'static [(&'static str, &'static str)],
}

const TOOL: &str = "dastool";

fn ours(recorded: &str) -> Option<Ours> {
    let tool = |words| Ours { program: TOOL, words, prefix: ("", ""), left_out: &[] };
    Some(match recorded {
        "anytrustserver" => Ours { program: "das-node", words: &[], prefix: ("", ""), left_out: &[] },
        name if name.starts_with("daprovider") => Ours {
            program: "das-aggregator",
            words: &[],
            prefix: ("anytrust.", "data-availability."),
            left_out: &[
                ("anytrust.key.", "an aggregator has no BLS key: its members sign"),
                ("anytrust.local-file-storage.", "an aggregator keeps nothing on disk: its members do"),
                ("anytrust.s3-storage.", "as local-file-storage"),
                ("anytrust.google-cloud-storage.", "as local-file-storage"),
                ("anytrust.redis-cache.", "as local-file-storage"),
                ("data-signer-wallet.", "the key that signs stores is data-availability.store-key"),
                ("with-data-signer", "a store key is used when one is given"),
                ("mode", "there is one mode"),
            ],
        },
        name if name.contains("node.da.anytrust") => Ours {
            program: "das-aggregator",
            words: &[],
            prefix: ("node.da.anytrust.", "data-availability."),
            left_out: &[(
                "node.da.anytrust.enable",
                "turns the client of a node on; an aggregator is nothing else",
            )],
        },
        "anytrusttool client rpc store" => tool(&["client", "rpc", "store"]),
        "anytrusttool client rest getbyhash" => tool(&["client", "rest", "getbyhash"]),
        "anytrusttool keygen" => tool(&["keygen"]),
        "anytrusttool dumpkeyset" => tool(&["dumpkeyset"]),
        _ => return None,
    })
}

/// Defaults that differ on purpose.
const OTHER_DEFAULTS: &[(&str, &str, &str)] = &[
    (
        "das-aggregator",
        "data-availability.local-cache.enable",
        "reads through an aggregator go to the members, so its cache is on unless switched off",
    ),
    (TOOL, "signing-wallet-password", "secrets are blank in every dump, their defaults too"),
];

/// Options that are blank in every dump.
const SECRETS: &[&str] = &["key", "password", "token", "account", "redis-cache.url"];

/// Options that take fewer values than their recorded type, and one that they take.
const NARROWER: &[(&str, &str)] = &[("log-level", "DEBUG"), ("log-type", "json")];

/// Options that are read while options are read: what stands in a dump of them says nothing.
const OF_THE_LOADER: &[&str] = &["conf.dump", "conf.file", "conf.string", "conf.env-prefix"];

/// Checks one recorded program; every difference is one line of the error.
pub(crate) fn check(case: &Value) -> Result<(), String> {
    let recorded = case["name"].as_str().ok_or("a case without a name")?;
    let ours = ours(recorded).ok_or("no program of ours stands for this one")?;
    let options: Vec<Recorded> = recorded_options(case, &ours)?;
    let mut wrong = Vec::new();

    let defaults = flat(&dump(&ours, &[])?);
    for option in &options {
        let other = OTHER_DEFAULTS.iter().any(|(p, name, _)| *p == ours.program && *name == option.name);
        match defaults.get(&option.name) {
            None => wrong.push(format!("{} is not known to {}", option.name, ours.program)),
            Some(value) if !other && !same(value, &option.default) => {
                wrong.push(format!("{}: default {value}, recorded {}", option.name, option.default));
            }
            Some(_) => {}
        }
    }
    let known = |option: &&Recorded| defaults.contains_key(&option.name);

    let settable: Vec<_> =
        options.iter().filter(known).filter(|o| !OF_THE_LOADER.contains(&o.name.as_str())).collect();
    let args: Vec<_> =
        settable.iter().map(|option| format!("--{}={}", option.name, option.sample())).collect();
    let given = flat(&dump(&ours, &args)?);
    for option in &settable {
        let blank = SECRETS.iter().any(|secret| option.name.contains(secret));
        let expected = option.sample();
        match given.get(&option.name) {
            Some(Value::String(text)) if blank && text.is_empty() => {}
            Some(value) if same(value, &expected) => {}
            found => wrong.push(format!("{} given as {expected} is {found:?}", option.name)),
        }
    }

    let typed: Vec<_> = settable.iter().filter_map(|o| Some((o, o.wrong_sample()?))).collect();
    let args: Vec<_> = typed.iter().map(|(option, value)| format!("--{}={value}", option.name)).collect();
    let refused = run(&ours, &args)?;
    let text = String::from_utf8_lossy(&refused.stderr);
    if !typed.is_empty() && refused.status.success() {
        wrong.push("wrong values were accepted".to_owned());
    }
    for (option, value) in typed {
        if !text.contains(&format!("--{} (command line): ", option.name)) {
            wrong.push(format!("{}={value} was not refused", option.name));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// One recorded option under our name.
struct Recorded {
    name: String,
    kind: String,
    default: String,
}

impl Recorded {
    /// A value of the recorded type that is not the default.
    fn sample(&self) -> String {
        if let Some((_, value)) = NARROWER.iter().find(|(name, _)| *name == self.name) {
            return (*value).to_owned();
        }
        match self.kind.as_str() {
            "bool" => (self.default != "true").to_string(),
            "duration" => "1h2m3s".to_owned(),
            "stringSlice" => "a,b".to_owned(),
            "backendConfigList" => r#"[{"pubkey":"YQ==","url":"http://a"}]"#.to_owned(),
            "string" => "sample".to_owned(),
            _ => "12345".to_owned(),
        }
    }

    /// A value that the recorded type does not have; none for texts.
    fn wrong_sample(&self) -> Option<&'static str> {
        match self.kind.as_str() {
            "bool" => Some("maybe"),
            "duration" => Some("30"),
            "backendConfigList" => Some("{"),
            "string" | "stringSlice" => None,
            _ => Some("abc"),
        }
    }
}

fn recorded_options(case: &Value, ours: &Ours) -> Result<Vec<Recorded>, String> {
    let list = case["options"].as_array().ok_or("a case without options")?;
    let mut options = Vec::new();
    for option in list {
        let text = |key: &str| option[key].as_str().ok_or(format!("an option without {key}: {option}"));
        let name = text("name")?;
        if ours.left_out.iter().any(|(start, _)| name.starts_with(start)) {
            continue;
        }
        let name = match name.strip_prefix(ours.prefix.0) {
            Some(rest) => format!("{}{rest}", ours.prefix.1),
            None => name.to_owned(),
        };
        options.push(Recorded { name, kind: text("type")?.to_owned(), default: text("default")?.to_owned() });
    }
    Ok(options)
}

fn run(ours: &Ours, args: &[String]) -> Result<Output, String> {
    let program = binary(ours.program).map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(ours.words).args(args).arg("--conf.dump");
    command.output().map_err(|error| format!("cannot start {}: {error}", ours.program))
}

fn dump(ours: &Ours, args: &[String]) -> Result<Value, String> {
    let output = run(ours, args)?;
    if !output.status.success() {
        return Err(format!("{} {args:?}: {}", ours.program, String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("the dump is no JSON: {error}"))
}

/// Nested objects as dotted names.
fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(fields) => {
                for (name, below) in fields {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    walk(&name, below, into);
                }
            }
            leaf => {
                into.insert(prefix.to_owned(), leaf.clone());
            }
        }
    }
    let mut into = BTreeMap::new();
    walk("", value, &mut into);
    into
}

/// Is the dumped value that text? Numbers, booleans and lists are recorded, and given, as texts.
fn same(dumped: &Value, recorded: &str) -> bool {
    let empty_list = |text: &str| matches!(text, "[]" | "null" | "");
    match dumped {
        Value::String(text) => text == recorded || (text.is_empty() && empty_list(recorded)),
        Value::Array(items) if items.is_empty() => empty_list(recorded),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            texts.join(",") == recorded
        }
        other => {
            let text = other.to_string();
            text == recorded
        }
    }
}
