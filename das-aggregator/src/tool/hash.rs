//! `generate-hash`: the data hash of a message.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use das_common::data_hash::{DataHash, DataHasher};
use serde_json::json;

use super::args;
use super::output::{Answer, hex};

das_common::options! {
    /// Options of `generate-hash`.
    pub(crate) struct Options {
        ["Options"]
        /// Hash the content of this file instead of a word.
        file: PathBuf,
        /// Print JSON.
        json: bool = "false",
    }
}

args::command!(
    Options,
    "generate-hash",
    "Prints the data hash under which members store a message: `dastool generate-hash MESSAGE`, or with --file. The \
     message is taken as it is, also when it looks like hex."
);

pub(crate) fn run(args: &[String]) -> anyhow::Result<Answer> {
    args::with(args, 0..=1, |options: Options, words| {
        let hash = match (words.first(), options.file.as_os_str().is_empty()) {
            (Some(message), true) => DataHash::of(message.as_bytes()),
            (None, false) => of_file(&options.file)?,
            (Some(_), false) => bail!("give a message or --file, not both"),
            (None, true) => bail!("give a message, or a file with --file"),
        };
        let hash = hex(hash.as_bytes());
        let text = format!("Hex Encoded Data Hash: {hash}\n");
        Answer::new(options.json, text, &json!({ "dataHash": hash }))
    })
}

/// Hashes a file of any length without holding it.
fn of_file(path: &PathBuf) -> anyhow::Result<DataHash> {
    let reading = || format!("reading {}", path.display());
    let mut file = std::fs::File::open(path).with_context(reading)?;
    let mut hasher = DataHasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).with_context(reading)? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
    }
}
