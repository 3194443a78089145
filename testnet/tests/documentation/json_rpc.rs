//! Every example of docs/json-rpc.md, sent to a committee on a chain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use das_common::keccak::keccak256;
use das_common::store_auth::{RequestDigest, StoreKey};
use das_testnet::http::Connection;
use das_testnet::load::bodies::unix_now;
use das_testnet::network::{Network, Plan, Who};
use serde_json::Value;

/// Beyond the time of every message by a week and a day.
const RETENTION: u64 = 16 * 24 * 3600;
/// Any value.
const ANY: &str = "<...>";

fn text(of: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A request with its answer.
struct Example {
    line: usize,
    /// `a member`, `the aggregator` or `the provider`.
    to: String,
    /// "A moment later": it is asked until this is the answer.
    later: bool,
    request: Value,
    answer: Value,
}

/// The examples in their order: blocks of JSON in pairs, after a line `To whom:`.
fn examples(page: &str) -> Vec<Example> {
    let (mut examples, mut to, mut later) = (Vec::new(), String::new(), false);
    let mut open: Option<(usize, Value)> = None;
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(whom) = line.strip_prefix("To ").and_then(|rest| rest.strip_suffix(':')) {
            whom.clone_into(&mut to);
        }
        later |= line == "A moment later:";
        if line != "```json" {
            assert!(!line.starts_with("```") || line == "```", "line {}: another kind of block", number + 1);
            continue;
        }
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        let json: Value = serde_json::from_str(&block.join("\n"))
            .unwrap_or_else(|error| panic!("line {}: {error}", number + 1));
        let first = if json.is_array() { &json[0] } else { &json };
        match (open.take(), first.get("method").is_some()) {
            (None, true) => open = Some((number + 1, json)),
            (Some((line, request)), false) => {
                examples.push(Example { line, to: to.clone(), later, request, answer: json });
                later = false;
            }
            (None, false) => panic!("line {}: an answer without a request", number + 1),
            (Some((line, _)), true) => panic!("line {line}: a request without an answer"),
        }
    }
    assert!(open.is_none(), "the last request has no answer");
    examples
}

fn uint(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// What stands for other values.
struct Names(BTreeMap<String, String>);

impl Names {
    /// The text with the values of its names; `at_start` keeps their 0x.
    fn fill(&self, text: &str) -> String {
        let mut filled = text.to_owned();
        for (name, value) in &self.0 {
            if text == name {
                return value.clone();
            }
            filled = filled.replace(name, value.trim_start_matches("0x"));
        }
        filled
    }

    /// What a request signs, or commits to: the data and the numbers.
    fn signed(&self, method: &str, params: &[Value]) -> (Vec<u8>, Vec<u64>) {
        let data = |place: usize| const_hex::decode(params[place].as_str().unwrap()).unwrap();
        let numbers = |places: &[usize]| places.iter().map(|&place| uint(&params[place])).collect();
        match method.split_once('_').unwrap().1 {
            "store" => (data(0), numbers(&[1])),
            "startChunkedStore" => (Vec::new(), numbers(&[0, 1, 2, 3, 4])),
            "sendChunk" => (data(2), numbers(&[0, 1])),
            "commitChunkedStore" => (Vec::new(), numbers(&[0])),
            "postBatch" => (data(0), numbers(&[1, 2, 3, 4])),
            other => panic!("{other} is not signed"),
        }
    }

    /// The request as it is sent.
    fn request(&self, request: &Value, key: &StoreKey, inbox: (u64, [u8; 20])) -> Value {
        let mut request = request.clone();
        let method = request["method"].as_str().unwrap_or_default().to_owned();
        let Some(params) = request.get_mut("params").and_then(Value::as_array_mut) else { return request };
        for param in params.iter_mut() {
            if let Some(text) = param.as_str() {
                *param = self.fill(text).into();
            }
        }
        let proof = match params.last().and_then(Value::as_str) {
            Some("<signature>") if method == "das_postBatch" => {
                let (message, numbers) = self.signed(&method, params);
                let numbers = numbers.try_into().unwrap();
                key.sign(&RequestDigest::post_batch(inbox.0, &inbox.1, numbers, &message)).to_vec()
            }
            Some("<signature>") => {
                let (data, numbers) = self.signed(&method, params);
                key.sign(&RequestDigest::over(&data, &numbers)).to_vec()
            }
            Some("<commitment>") => {
                let (mut data, numbers) = self.signed(&method, params);
                data.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
                keccak256(&data).to_vec()
            }
            _ => return request,
        };
        *params.last_mut().unwrap() = const_hex::encode_prefixed(proof).into();
        request
    }

    /// Where the answer is another than the example's. Names that were not met before get their values.
    fn compare(&mut self, at: &str, example: &Value, answer: &Value) -> Result<(), String> {
        match (example, answer) {
            (Value::String(any), value) if any == ANY => {
                if value.is_null() {
                    Err(format!("{at}: null"))
                } else {
                    Ok(())
                }
            }
            (Value::String(name), Value::String(value)) if name.starts_with('<') && name.ends_with('>') => {
                let known = self.0.entry(name.clone()).or_insert_with(|| value.clone());
                if known == value { Ok(()) } else { Err(format!("{at}: {name} is {value}, it was {known}")) }
            }
            (Value::Object(example), Value::Object(answer)) => {
                let names = |of: &serde_json::Map<String, Value>| of.keys().cloned().collect::<BTreeSet<_>>();
                let (wanted, given) = (names(example), names(answer));
                if wanted != given {
                    return Err(format!("{at}: the fields are {given:?}, not {wanted:?}"));
                }
                example.iter().try_for_each(|(name, example)| {
                    self.compare(&format!("{at}.{name}"), example, &answer[name])
                })
            }
            (Value::Array(example), Value::Array(answer)) if example.len() == answer.len() => {
                let pairs = example.iter().zip(answer).enumerate();
                pairs.into_iter().try_for_each(|(place, (example, answer))| {
                    self.compare(&format!("{at}[{place}]"), example, answer)
                })
            }
            _ if example == answer => Ok(()),
            _ => Err(format!("{at}: {answer}, not {example}")),
        }
    }
}

/// Every method that a source file answers: the arms of its matches on the method's name.
fn methods(source: &str, namespace: &str) -> Vec<String> {
    let lines = text(source);
    let names = lines.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("            \"")?.split_once('"')?;
        (rest.starts_with(" =>") || rest.starts_with(" if ")).then(|| format!("{namespace}_{name}"))
    });
    let names: Vec<String> = names.collect();
    assert!(names.len() > 3, "{source}: its methods were not found, only {names:?}");
    names
}

#[test]
fn examples_are_what_is_answered_and_every_method_has_one() {
    let examples = examples(&text("docs/json-rpc.md"));
    let shown: BTreeSet<String> = examples
        .iter()
        .flat_map(|example| match &example.request {
            Value::Array(all) => all.clone(),
            one => vec![one.clone()],
        })
        .map(|request| request["method"].as_str().unwrap().to_owned())
        .collect();
    for (source, namespace) in [
        ("das-node/src/api/rpc.rs", "das"),
        ("das-aggregator/src/api/rpc.rs", "das"),
        ("das-aggregator/src/provider.rs", "daprovider"),
    ] {
        for method in methods(source, namespace) {
            assert!(shown.contains(&method), "docs/json-rpc.md has no example of {method} ({source})");
        }
    }

    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap().with_chain(&plan).unwrap();
    for member in 0..3 {
        network.start(Who::Member(member)).unwrap();
    }
    let provider =
        ["--provider-server.enable", "--provider-server.enable-da-writer", "--provider-server.port=0"];
    let aggregator = network.launch(Who::Aggregator).args(provider).start().unwrap();
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let key = StoreKey::from_hex(key.trim()).unwrap();
    let ask = |to: &str, request: &Value| -> Value {
        let url = match to {
            "a member" => network.addresses(Who::Member(0)).unwrap().rpc,
            "the aggregator" => aggregator.rpc_url(),
            "the provider" => aggregator.ready().url("provider").unwrap().to_owned(),
            other => panic!("To {other}: nobody is called so"),
        };
        let body = request.to_string();
        let answer = Connection::new(&url).unwrap().post_json(&[body.as_bytes()]).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    };
    // A signature names the contract; the first look at the chain may still be under way.
    let begun = Instant::now();
    let status = loop {
        let status = ask(
            "the aggregator",
            &serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": "das_postStatus", "params": [] }),
        );
        if status["result"]["keysetValid"] == true {
            break status["result"].clone();
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{status}");
        std::thread::sleep(Duration::from_millis(100));
    };
    let inbox = const_hex::decode(status["sequencerInbox"].as_str().unwrap()).unwrap().try_into().unwrap();
    let inbox = (status["chainId"].as_u64().unwrap(), inbox);

    let now = unix_now();
    let quantity = |number: u64| format!("{number:#x}");
    let mut names = Names(BTreeMap::from([
        ("<now>".to_owned(), quantity(now)),
        ("<timeout>".to_owned(), quantity(now + RETENTION)),
    ]));
    for example in &examples {
        let request = match &example.request {
            Value::Array(all) => all.iter().map(|one| names.request(one, &key, inbox)).collect(),
            one => names.request(one, &key, inbox),
        };
        let begun = Instant::now();
        loop {
            let answer = ask(&example.to, &request);
            match names.compare("", &example.answer, &answer) {
                Ok(()) => break,
                Err(_) if example.later && begun.elapsed() < Duration::from_secs(60) => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(difference) => {
                    panic!("docs/json-rpc.md:{}: {difference}\n{request}\n{answer}", example.line)
                }
            }
        }
    }
}
