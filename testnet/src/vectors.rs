//! Recorded vectors: where they are, how their values are read, and a run that names every case that fails.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

/// The folder of the vector files: `DAS_VECTORS`, or those of the repository.
pub fn folder() -> PathBuf {
    std::env::var_os("DAS_VECTORS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../das-common/vectors")),
        PathBuf::from,
    )
}

/// The names of the vector files there are.
///
/// # Panics
/// When the folder cannot be read.
pub fn files() -> Vec<String> {
    let folder = folder();
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("vectors in {}: {e}", folder.display()));
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.ends_with(".json")).collect();
    names.sort();
    names
}

/// Reads a vector file.
///
/// # Panics
/// When it cannot be read or is not JSON.
pub fn load(file: &str) -> Value {
    let path = folder().join(file);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs every case of a file and reports all that fail, by name.
///
/// # Panics
/// When a case fails, when there is none, or when two have one name.
#[allow(clippy::print_stdout, reason = "a test says how many cases it ran")]
pub fn run(file: &str, content: &Value, mut check: impl FnMut(&Value) -> Result<(), String>) {
    let cases = content["cases"].as_array().unwrap_or_else(|| panic!("{file}: no list of cases"));
    let mut outcomes = BTreeMap::new();
    for case in cases {
        let name = case["name"].as_str().unwrap_or_else(|| panic!("{file}: a case without a name"));
        assert!(outcomes.insert(name, check(case)).is_none(), "{file}: two cases are named {name}");
    }
    let failed: Vec<_> = outcomes
        .iter()
        .filter_map(|(name, outcome)| outcome.as_ref().err().map(|e| format!("  {name}: {e}")))
        .collect();
    println!("{file}: {} cases, {} failed", outcomes.len(), failed.len());
    assert!(!outcomes.is_empty() && outcomes.len() == cases.len(), "{file}: not every case was run");
    assert!(
        failed.is_empty(),
        "{file}: {} of {} cases fail:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

/// The bytes that a value stands for: 0x-hex, a rule, or a slice of another.
///
/// # Panics
/// When it stands for none.
pub fn bytes(value: &Value) -> Vec<u8> {
    if let Some(text) = value.as_str() {
        return const_hex::decode(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    }
    if let Some(slice) = value.get("slice") {
        return bytes(&slice["of"])[index(&slice["from"])..index(&slice["to"])].to_vec();
    }
    let length = index(&value["len"]);
    let mut out = match value["fill"].as_str() {
        Some("lcg") => {
            let seed = index(&value["seed"]);
            let byte = |i: usize| (seed * 31 + i * 7 + (i >> 8) * 13 + (i >> 16) * 17) as u8;
            (0..length).map(byte).collect()
        }
        Some("zero") => vec![0; length],
        _ => panic!("no rule for bytes: {value}"),
    };
    if let Some(prefix) = value.get("prefix") {
        let prefix = bytes(prefix);
        out[..prefix.len()].copy_from_slice(&prefix);
    }
    out
}

fn index(value: &Value) -> usize {
    usize::try_from(number(value)).expect("fits into memory")
}

/// The number that a value stands for: a JSON number, or 0x-hex.
///
/// # Panics
/// When it stands for none.
pub fn number(value: &Value) -> u64 {
    match value.as_str() {
        Some(text) => {
            let digits = text.strip_prefix("0x").unwrap_or_else(|| panic!("no number: {text}"));
            u64::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{text}: {e}"))
        }
        None => value.as_u64().unwrap_or_else(|| panic!("no number: {value}")),
    }
}

/// Whether `got` is what a result says: bytes, or a length and a SHA-256.
///
/// # Errors
/// What differs.
pub fn same(what: &str, expected: &Value, got: &[u8]) -> Result<(), String> {
    let same = match expected.get("sha256") {
        Some(hash) => {
            use sha2::Digest;
            number(&expected["len"]) == got.len() as u64
                && bytes(hash) == sha2::Sha256::digest(got).as_slice()
        }
        None => bytes(expected) == got,
    };
    if same {
        Ok(())
    } else {
        Err(format!("{what} is {}, not {expected}", const_hex::encode_prefixed(&got[..got.len().min(300)])))
    }
}

/// Whether an outcome (`{"ok": ...}`) is what was recorded.
///
/// # Errors
/// What differs.
pub fn same_outcome<T, E: std::fmt::Display>(
    what: &str,
    expected: &Value,
    got: &Result<T, E>,
) -> Result<(), String> {
    match (expected["ok"].as_bool(), got) {
        (Some(true), Ok(_)) | (Some(false), Err(_)) => Ok(()),
        (Some(true), Err(error)) => Err(format!("{what} is refused: {error}")),
        _ => Err(format!("{what} is accepted, recorded was {expected}")),
    }
}
