//! A member, a tool and a key for them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use das_common::bls::{PublicKey, Signature, read_public_key_file};
use das_common::certificate::signed_bytes_v1;
use das_common::data_hash::DataHash;
use das_testnet::http::Connection;
use das_testnet::process::{Launch, ServerProcess, binary};
use serde_json::Value;
use tempfile::TempDir;

/// Far more than a start that must fail takes.
pub(crate) const LONG: Duration = Duration::from_secs(120);
/// A time for which everything here is signed.
pub(crate) const FOR: u64 = 3600;

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Runs dastool; its exit code and all it printed.
pub(crate) fn dastool(args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let program = binary("dastool").expect("scripts/test builds all programs first");
    let output = Command::new(program).args(args).envs(env.iter().copied()).output().expect("dastool starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[track_caller]
pub(crate) fn good(args: &[&str], env: &[(&str, &str)]) -> String {
    let (code, text) = dastool(args, env);
    assert_eq!(code, 0, "{args:?}: {text}");
    text
}

/// A member whose key is where the options say.
pub(crate) fn member(data: &Path, key: &[&str]) -> Launch {
    Launch::new("das-node").args(member_options(data, key))
}

/// The options of one; its data directory is made.
pub(crate) fn member_options(data: &Path, key: &[&str]) -> Vec<String> {
    std::fs::create_dir_all(data).unwrap();
    let own = [
        "--enable-rest",
        "--rest-port=0",
        "--enable-rpc",
        "--rpc-port=0",
        "--data-availability.disable-signature-checking",
        "--data-availability.local-file-storage.enable",
        "--data-availability.local-file-storage.data-dir",
        data.to_str().unwrap(),
    ];
    let key = key.iter().map(|word| word.replace("--key.", "--data-availability.key."));
    own.into_iter().map(str::to_owned).chain(key).collect()
}

/// Asks a member to store a batch until then; all it answers.
pub(crate) fn store(member: &ServerProcess, batch: &[u8], timeout: u64) -> Value {
    store_at(&member.rpc_url(), batch, timeout)
}

fn store_at(rpc: &str, batch: &[u8], timeout: u64) -> Value {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["{}","{timeout:#x}","0x"]}}"#,
        const_hex::encode_prefixed(batch),
    );
    let answer = Connection::new(rpc).unwrap().post_json(&[body.as_bytes()]).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

/// Stores a batch, checks what was signed, and gives the signature.
#[track_caller]
pub(crate) fn signature(member: &ServerProcess, key: &PublicKey, batch: &[u8], timeout: u64) -> [u8; 96] {
    signature_from(&member.rpc_url(), key, batch, timeout)
}

#[track_caller]
pub(crate) fn signature_from(rpc: &str, key: &PublicKey, batch: &[u8], timeout: u64) -> [u8; 96] {
    let answer = store_at(rpc, batch, timeout);
    let text = answer["result"]["sig"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let bytes: [u8; 96] = const_hex::decode(text).unwrap().try_into().unwrap();
    let word = signed_bytes_v1(&DataHash::of(batch), timeout);
    assert!(key.verify(&word, &Signature::parse(&bytes).unwrap()), "the signature verifies");
    bytes
}

pub(crate) fn public_key(path: &Path) -> PublicKey {
    read_public_key_file(path).unwrap()
}

/// A start that must fail, and what it must say.
#[track_caller]
pub(crate) fn refuses(launch: &Launch, code: &str, words: &str) -> String {
    let (status, text) = launch.run_to_end(LONG).unwrap();
    assert!(!status.success(), "it started: {text}");
    assert!(text.contains(code) && text.contains(words) && text.contains("to do:"), "{code} {words}: {text}");
    text
}
