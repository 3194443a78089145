//! What a command has to say, for people and for programs.

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

/// The command did what was asked, and all was well.
const GOOD: u8 = 0;
/// The command did what was asked, and found something wrong.
const BAD: u8 = 1;
/// The command could not do what was asked.
const FAILED: u8 = 2;

/// The outcome of a command that did what was asked.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What standard output gets without `--json`, as it is.
    pub(crate) text: Vec<u8>,
    /// What it gets with `--json`.
    pub(crate) json: Value,
    /// What a person is told on standard error, out of the way of what is piped on.
    pub(crate) aside: String,
    /// Whether all was well with what was looked at.
    pub(crate) good: bool,
    /// Whether `--json` was given.
    pub(crate) as_json: bool,
}

impl Answer {
    /// All was well. `text` is printed as it is.
    pub(crate) fn new(
        as_json: bool,
        text: impl Into<Vec<u8>>,
        json: &impl Serialize,
    ) -> anyhow::Result<Self> {
        let json = serde_json::to_value(json)?;
        Ok(Self { text: text.into(), json, aside: String::new(), good: true, as_json })
    }

    /// Help and such: text only.
    pub(crate) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), json: Value::Null, aside: String::new(), good: true, as_json: false }
    }
}

/// Prints the outcome and says how the process should end.
pub(crate) fn print(outcome: anyhow::Result<Answer>, as_json: bool) -> ExitCode {
    let (stdout, stderr, code) = match outcome {
        Ok(answer) => {
            let stdout = if answer.as_json { line(&answer.json) } else { answer.text };
            let aside = if answer.as_json { String::new() } else { answer.aside };
            (stdout, aside, if answer.good { GOOD } else { BAD })
        }
        Err(error) => {
            let stdout = if as_json { line(&json!({ "error": format!("{error:#}") })) } else { Vec::new() };
            (stdout, format!("dastool: {error:#}\n"), FAILED)
        }
    };
    // Whoever reads may have hung up (`dastool ... | head`); there is nobody left to tell.
    let _ = std::io::stderr().write_all(stderr.as_bytes());
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&stdout).and_then(|()| out.flush());
    ExitCode::from(code)
}

fn line(json: &Value) -> Vec<u8> {
    let mut line = json.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Bytes as this tool prints them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const_hex::encode_prefixed(bytes)
}
