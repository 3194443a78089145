//! A member, and `dastool` beside it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use das_common::data_hash::DataHash;
use das_testnet::http::Connection;
use das_testnet::process::{Launch, ServerProcess, binary};
use serde_json::Value;
use tempfile::TempDir;

const KEY: &str = "F90HspUZooyBFBn6gJTAxtJ44QcnLQEtTbK95aDREro=";

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A member that keeps whole copies and takes stores from anybody.
pub(crate) fn member(data: &Path, more: &[&str]) -> ServerProcess {
    launch(data, more).start().unwrap()
}

pub(crate) fn launch(data: &Path, more: &[&str]) -> Launch {
    std::fs::create_dir_all(data).unwrap();
    Launch::new("das-node")
        .args(["--enable-rest", "--rest-port", "0", "--enable-rpc", "--rpc-port", "0"])
        .args(["--data-availability.key.priv-key", KEY, "--data-availability.disable-signature-checking"])
        .args(["--data-availability.local-file-storage.enable"])
        .arg("--data-availability.local-file-storage.data-dir")
        .arg(data)
        .args(more)
}

/// Stores a batch; an error when it was not signed for.
pub(crate) fn store(rpc: &str, batch: &[u8], timeout: u64) -> Result<(), String> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["{}","{timeout:#x}","0x"]}}"#,
        const_hex::encode_prefixed(batch),
    );
    let answer = Connection::new(rpc).and_then(|mut it| it.post_json(&[body.as_bytes()]));
    let answer = answer.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    if answer["result"]["sig"].is_string() { Ok(()) } else { Err(answer.to_string()) }
}

/// Whether the REST port gives exactly these bytes.
#[track_caller]
pub(crate) fn assert_serves(rest: &str, batch: &[u8]) {
    assert_gives(rest, &DataHash::of(batch), batch);
}

#[track_caller]
pub(crate) fn assert_gives(rest: &str, hash: &DataHash, batch: &[u8]) {
    let answer = Connection::new(rest).unwrap().get(&format!("/get-by-hash/{hash}")).unwrap();
    assert_eq!(answer.status, 200, "{hash}: {}", answer.text());
    assert!(das_common::wire::parse_get_by_hash(&answer.body).unwrap() == batch, "{hash}: other bytes");
}

/// What `dastool ... --json` ended with and printed.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) json: Value,
    pub(crate) stderr: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn good(self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        self.json
    }

    /// It could not do its work, for this reason.
    #[track_caller]
    pub(crate) fn fails_with(&self, text: &str) {
        assert!(self.code == 2 && self.stderr.contains(text), "not {text}: {self:?}");
    }
}

pub(crate) fn command(args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = Command::new(binary("dastool").unwrap());
    command.args(args).arg("--json").stdin(Stdio::null());
    command
}

pub(crate) fn dastool(args: &[impl AsRef<std::ffi::OsStr>]) -> Said {
    let output = command(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stderr = text(&output.stderr);
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no JSON: {} {stderr}", text(&output.stdout)));
    Said { code: output.status.code().unwrap(), json, stderr }
}

pub(crate) fn begin(args: &[impl AsRef<std::ffi::OsStr>]) -> Child {
    command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// `import --from FROM --data-dir TO`.
pub(crate) fn import(from: &Path, to: &Path, more: &[&str]) -> Said {
    std::fs::create_dir_all(to).unwrap();
    let args = ["import", "--from", from.to_str().unwrap(), "--data-dir", to.to_str().unwrap()];
    dastool(&[&args, more].concat())
}

/// `export --data-dir FROM --to TO`.
pub(crate) fn export(from: &Path, to: &Path, more: &[&str]) -> Said {
    let args = ["export", "--data-dir", from.to_str().unwrap(), "--to", to.to_str().unwrap()];
    dastool(&[&args, more].concat())
}

/// The paths of a list in an answer.
pub(crate) fn named(list: &Value) -> Vec<String> {
    let named = list["named"].as_array().unwrap();
    assert_eq!(list["count"], named.len());
    named.iter().map(|one| one["what"].as_str().unwrap().to_owned()).collect()
}
