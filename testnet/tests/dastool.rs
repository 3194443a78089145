//! `dastool` as a process: alone, and against members and an aggregator.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use das_testnet::process::{Launch, ServerProcess, binary};
use serde_json::Value;

/// What a run printed, and its exit code.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn dastool(args: &[&str]) -> Run {
    let program = binary("dastool").expect("scripts/test builds all programs first");
    let output = Command::new(program).args(args).output().expect("dastool starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("these commands print text");
    Run {
        code: output.status.code().expect("dastool ends by itself"),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

#[track_caller]
fn good(args: &[&str]) -> String {
    let run = dastool(args);
    assert_eq!(run.code, 0, "{args:?}: {} {}", run.stdout, run.stderr);
    run.stdout
}

/// A run with `--json`, the exit code and what was printed.
#[track_caller]
fn json(args: &[&str]) -> (i32, Value) {
    let args = [args, &["--json"]].concat();
    let run = dastool(&args);
    let value = serde_json::from_str(&run.stdout);
    (run.code, value.unwrap_or_else(|_| panic!("{args:?} printed no JSON: {} {}", run.stdout, run.stderr)))
}

/// Fails with exit code 2 and this text.
#[track_caller]
fn fails(args: &[&str], text: &str) {
    let run = dastool(args);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {}", run.stderr);
    assert!(run.stderr.contains(text), "{args:?}: {}", run.stderr);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("the file is there").permissions().mode() & 0o7777
}

/// Keys of members in directories of their own, and the committee file over them with these URLs.
fn committee_file(dir: &Path, honest: usize, shards: usize, urls: &[(String, String)]) -> String {
    let mut file = format!("honest-members = {honest}\ndata-shards = {shards}\n");
    for (i, (rpc, rest)) in urls.iter().enumerate() {
        let key = fs::read_to_string(key_dir(dir, i) + "/das_bls.pub").expect("keygen wrote it");
        file += &format!(
            "[[member]]\nname = \"m{i}\"\npublic-key = \"{key}\"\nrpc = \"{rpc}\"\nrest = \"{rest}\"\n"
        );
    }
    let path = dir.join("committee.toml");
    fs::write(&path, file).expect("a file in a scratch directory");
    path.display().to_string()
}

fn key_dir(dir: &Path, i: usize) -> String {
    dir.join(format!("keys-{i}")).display().to_string()
}

fn made_up_urls(n: usize) -> Vec<(String, String)> {
    (0..n)
        .map(|i| (format!("http://127.0.0.1:{}", 1000 + i), format!("http://127.0.0.1:{}", 2000 + i)))
        .collect()
}

#[test]
fn keys_are_made_once_and_for_their_owner_only() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("not/there/yet");
    let keys = keys.to_str().unwrap();
    assert_eq!(good(&["keygen", "--dir", keys]), "");
    let secret = fs::read(format!("{keys}/das_bls")).unwrap();
    assert_eq!((mode(Path::new(keys)), mode(&Path::new(keys).join("das_bls"))), (0o700, 0o600));
    let run = dastool(&["keygen", "--dir", keys]);
    assert_eq!(run.code, 2);
    assert!(!run.stderr.contains(&String::from_utf8(secret.clone()).unwrap()));
    assert_eq!(fs::read(format!("{keys}/das_bls")).unwrap(), secret);

    let (code, made) = json(&["keygen", "--dir", keys, "--ecdsa"]);
    assert_eq!(code, 0);
    let public = fs::read_to_string(format!("{keys}/ecdsa.pub")).unwrap();
    assert_eq!(made["publicKey"], format!("0x{public}"));
    assert_eq!(mode(&Path::new(keys).join("ecdsa")), 0o600);
    fails(&["keygen", "--dir", keys, "--ecdsa"], "is there already");
    let (_, key) = json(&["inspect", "--file", &format!("{keys}/ecdsa.pub")]);
    assert!(key["address"].as_str().unwrap().starts_with("0x"));

    // Half a pair is not completed with another half.
    fs::remove_file(format!("{keys}/das_bls.pub")).unwrap();
    assert_eq!(dastool(&["keygen", "--dir", keys]).code, 2);
    assert_eq!(fs::read(format!("{keys}/das_bls")).unwrap(), secret);
}

#[test]
fn a_committee_file_gives_the_same_keyset_by_every_command() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..6 {
        good(&["keygen", "--dir", &key_dir(dir.path(), i)]);
    }
    let file = committee_file(dir.path(), 4, 3, &made_up_urls(6));
    let text = good(&["committee", &file]);
    assert!(text.contains("2.00 as shards; 6 while hot"), "{text}");
    let (_, promise) = json(&["committee", "--members=6", "--honest-members=4", "--data-shards=3"]);
    let (_, of_file) = json(&["committee", &file]);
    assert_eq!(promise["promise"], of_file["promise"]);
    assert_eq!(of_file["promise"]["threshold"], 5);

    let dumped = good(&["dump-keyset", "--committee.file", &file]);
    let keyset = dumped.lines().next().and_then(|line| line.strip_prefix("Keyset: ")).unwrap();
    assert_eq!(of_file["keyset"], keyset);
    let (_, inspected) = json(&["inspect", keyset]);
    assert_eq!(inspected["keysetHash"], of_file["keysetHash"]);
    assert_eq!((&inspected["assumedHonest"], &inspected["keys"]), (&2.into(), &6.into()));

    // What the owner sends has the whole keyset, or its hash, in it. That the contract takes it is shown in chain_contract.
    let (_, set) = json(&["keyset-tx", "--committee.file", &file]);
    assert_eq!(set["keysetHash"], of_file["keysetHash"]);
    assert!(set["calldata"].as_str().unwrap().contains(keyset.trim_start_matches("0x")));
    let (_, invalidate) = json(&["keyset-tx", "--committee.file", &file, "--invalidate"]);
    let hash = of_file["keysetHash"].as_str().unwrap();
    let calldata = invalidate["calldata"].as_str().unwrap();
    assert_eq!((calldata.len(), &calldata[10..]), (2 + 8 + 64, hash.trim_start_matches("0x")));
    let (_, by_hash) = json(&["keyset-tx", "--keyset-hash", hash, "--invalidate"]);
    assert_eq!(by_hash, invalidate);
    fails(&["keyset-tx", "--keyset-hash", hash], "give --committee.file");
    fails(&["keyset-tx", "--keyset-hash", "0x12", "--invalidate"], "--keyset-hash");

    // Nitro's options with the same keys; its A is the file's, or the command fails.
    let members = of_file["members"].as_array().unwrap();
    let backends: Vec<Value> = members
        .iter()
        .map(|member| serde_json::json!({ "url": member["rpc"], "pubkey": member["publicKey"] }))
        .collect();
    let backends = Value::Array(backends).to_string();
    let nitro = ["dumpkeyset", "--keyset.assumed-honest", "2", "--keyset.backends", &backends];
    assert_eq!(good(&nitro), dumped);
    let both = [&nitro[..], &["--committee.file", &file]].concat();
    assert_eq!(good(&both), dumped);
    fails(
        &["dumpkeyset", "--keyset.assumed-honest", "4", "--committee.file", &file],
        "is 4, but the committee file's H = 4 and k = 3 give A = 2",
    );

    let bad = fs::read_to_string(&file).unwrap().replace("honest-members = 4", "honest-members = 7");
    fs::write(&file, bad).unwrap();
    fails(&["committee", &file], "committee.toml:1: honest-members is 7");
}

#[test]
fn mistakes_are_named_and_cost_exit_code_two() {
    fails(&[], "dastool help");
    fails(&["stor"], "did you mean store?");
    fails(&["client"], "client rpc store");
    fails(&["generate-hash"], "give a message");
    fails(&["generate-hash", "a", "b"], "2 words");
    fails(&["generate-hash", "a", "--fiel", "b"], "--file");
    fails(&["committee", "--members", "6"], "honest-members is 0");
    fails(&["get", "0x12", "--rest", "http://127.0.0.1:1"], "the data hash");
    fails(&["store", "--rpc", "http://127.0.0.1:1", "--message", "x", "--random", "3"], "one message only");
    fails(&["verify-cert", "0x80"], "--committee.file or --keyset");
    fails(&["inspect", "0x1234"], "nothing this tool knows");
    fails(&["doctor"], "say whom to examine");
    let (code, error) = json(&["get", "0x12", "--rest", "http://127.0.0.1:1"]);
    assert_eq!(code, 2);
    assert!(error["error"].as_str().unwrap().contains("the data hash"));
    for command in
        ["help", "keygen", "committee", "dump-keyset", "store", "get", "verify-cert", "inspect", "doctor"]
    {
        let args: &[&str] = if command == "help" { &["help"] } else { &[command, "--help"] };
        assert!(good(args).contains("dastool"), "{command}");
    }
}

#[test]
fn options_may_be_written_as_go_programs_take_them() {
    let expected = good(&["generate-hash", "hello"]);
    assert_eq!(good(&["GenerateHash", "hello"]), expected);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("message");
    fs::write(&path, "hello").unwrap();
    let path = path.to_str().unwrap();
    assert_eq!(good(&["generate-hash", "-file", path]), expected);
    assert_eq!(good(&["generate-hash", &format!("-file={path}")]), expected);
    assert_eq!(good(&["generatehash", "--", "--file"]), good(&["generate-hash", "--", "--file"]));
}

const MEMBERS: usize = 3;

/// A committee of three with H = 2, k = 1 and its aggregator, all accepting stores by one key.
struct Committee {
    dir: tempfile::TempDir,
    members: Vec<ServerProcess>,
    aggregator: ServerProcess,
    file: String,
    signing_key: String,
}

fn committee() -> Committee {
    let dir = tempfile::tempdir().unwrap();
    let store_keys = dir.path().join("store-key").display().to_string();
    good(&["keygen", "--dir", &store_keys, "--ecdsa"]);
    let public = fs::read_to_string(format!("{store_keys}/ecdsa.pub")).unwrap();
    let signing_key = format!("{store_keys}/ecdsa");
    let members: Vec<ServerProcess> = (0..MEMBERS)
        .map(|i| {
            let keys = key_dir(dir.path(), i);
            good(&["keygen", "--dir", &keys]);
            let data = dir.path().join(format!("data-{i}"));
            fs::create_dir(&data).unwrap();
            let owned = [
                format!("--data-availability.key.key-dir={keys}"),
                format!("--data-availability.local-file-storage.data-dir={}", data.display()),
                format!("--data-availability.extra-signature-checking-public-key=0x{public}"),
            ];
            let fixed = [
                "--enable-rpc",
                "--rpc-addr=127.0.0.1",
                "--rpc-port=0",
                "--enable-rest",
                "--rest-addr=127.0.0.1",
                "--rest-port=0",
                "--parent-chain.sequencer-inbox-address=none",
                "--data-availability.local-file-storage.enable",
            ];
            Launch::new("das-node").args(fixed).args(owned).start().unwrap()
        })
        .collect();
    let urls: Vec<(String, String)> = members.iter().map(|m| (m.rpc_url(), m.rest_url())).collect();
    let file = committee_file(dir.path(), 2, 1, &urls);
    let aggregator = Launch::new("das-aggregator")
        .args(["--enable-rpc", "--rpc-addr=127.0.0.1", "--rpc-port=0"])
        .args(["--enable-rest", "--rest-addr=127.0.0.1", "--rest-port=0"])
        .arg(format!("--committee.file={file}"))
        .arg(format!("--data-availability.store-key.file={signing_key}"))
        .arg(format!("--data-availability.extra-signature-checking-public-key=0x{public}"))
        .start()
        .unwrap();
    Committee { dir, members, aggregator, file, signing_key }
}

#[test]
fn a_batch_goes_round_and_the_doctor_sees_what_is_wrong() {
    let Committee { dir, mut members, aggregator, file, signing_key } = committee();
    let (rpc, rest) = (aggregator.rpc_url(), aggregator.rest_url());
    let batch: Vec<u8> = (0..300_000_u32).map(|i| (i * 7 + (i >> 8) * 13).to_le_bytes()[0]).collect();
    let batch_file = dir.path().join("batch").display().to_string();
    fs::write(&batch_file, &batch).unwrap();

    // Stored, certified, verified, read back from everybody.
    let (code, stored) =
        json(&["store", "--rpc", &rpc, "--file", &batch_file, "--signing-key", &signing_key]);
    assert_eq!(code, 0, "{stored}");
    let (cert, hash) = (stored["cert"].as_str().unwrap(), stored["dataHash"].as_str().unwrap());
    let verify = ["verify-cert", cert, "--committee.file", &file, "--file", &batch_file];
    let (code, verified) = json(&verify);
    assert_eq!((code, &verified["valid"]), (0, &true.into()), "{verified}");
    assert!(verified["signedBy"].as_array().unwrap().len() >= 2);
    let out = dir.path().join("out").display().to_string();
    for url in members.iter().map(ServerProcess::rest_url).chain([rest.clone()]) {
        good(&["get", hash, "--rest", &url, "--out", &out]);
        assert_eq!(fs::read(&out).unwrap(), batch, "{url}");
    }
    good(&["get", hash, "--committee.file", &file, "--out", &out]);

    // Certificates with one bit changed: in the keyset hash, data hash, timeout, signers mask and signature.
    for position in [10, 40, 72, 81, 177] {
        let mut bytes = const_hex::decode(cert).unwrap();
        bytes[position] ^= 1;
        let (code, verified) = json(&["verify-cert", &const_hex::encode(&bytes), "--committee.file", &file]);
        assert_eq!((code, &verified["valid"]), (1, &false.into()), "byte {position}: {verified}");
    }
    good(&["inspect", cert]);

    // In chunks, and by Nitro's names.
    let chunked = ["store", "--rpc", &rpc, "--random", "100000", "--signing-key", &signing_key];
    good(&[&chunked[..], &["--chunked", "always", "--body-limit", "40000"]].concat());
    let member = members[0].rpc_url();
    let nitro = ["client", "rpc", "store", "--rpc-client.rpc.url", &member, "--message", "hello"];
    let printed = good(&[&nitro[..], &["--signing-key", &signing_key]].concat());
    let hash = printed.lines().nth(1).and_then(|line| line.strip_prefix("Hex Encoded Data Hash: ")).unwrap();
    let read = ["client", "rest", "getByHash", "--url", &members[0].rest_url(), "--data-hash", hash];
    assert_eq!(good(&read), "Message: hello\n");

    // All is well; then a member that accepts nobody, one that is gone, and a file that swaps two members' keys.
    let doctor = ["doctor", "--committee.file", &file, "--signing-key", &signing_key];
    let with_front = [&doctor[..], &["--aggregator.rpc", &rpc, "--aggregator.rest", &rest]].concat();
    let (code, found) = json(&with_front);
    assert_eq!(code, 0, "{found:#}");
    let keys = dir.path().join("stranger").display().to_string();
    good(&["keygen", "--dir", &keys, "--ecdsa"]);
    let stranger = format!("{keys}/ecdsa");
    let (code, found) = json(&["doctor", "--committee.file", &file, "--signing-key", &stranger]);
    assert_eq!(code, 1);
    assert!(bad(&found, "m1", "store").contains("not properly signed"));
    assert!(bad(&found, "committee", "quorum").contains("0 of 3 members sign, but 2 are needed"));

    members.pop().unwrap().kill().unwrap();
    let (code, found) = json(&doctor);
    assert_eq!(code, 1);
    assert!(bad(&found, "m2", "rpc").contains("cannot connect"));
    assert_eq!(finding(&found, "committee", "quorum")["verdict"], "good");

    let key = |i: usize| fs::read_to_string(key_dir(dir.path(), i) + "/das_bls.pub").unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(&key(0), "first").replace(&key(1), &key(0)).replace("first", &key(1));
    fs::write(&file, text).unwrap();
    let (code, found) = json(&doctor);
    assert_eq!(code, 1);
    assert!(bad(&found, "m0", "key").contains("signs with another key"));
}

fn finding<'a>(found: &'a Value, subject: &str, check: &str) -> &'a Value {
    let findings = found["findings"].as_array().expect("a list of findings");
    let wanted = |finding: &&Value| finding["subject"] == subject && finding["check"] == check;
    findings.iter().find(wanted).unwrap_or_else(|| panic!("no {check} of {subject}: {found:#}"))
}

/// What is wrong; there is a cure for it.
fn bad<'a>(found: &'a Value, subject: &str, check: &str) -> &'a str {
    let finding = finding(found, subject, check);
    assert_eq!(finding["verdict"], "bad", "{finding:#}");
    assert!(finding["cure"].as_str().is_some_and(|cure| !cure.is_empty()));
    finding["text"].as_str().expect("a text")
}
