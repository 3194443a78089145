//! Recorded vectors: where they are, how their values are read, and a run that names every case that fails.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Runs every case of a file and reports all that fail, by name. A check that panics fails its case alone.
///
/// # Panics
/// When a case fails, when there is none, or when two have one name.
#[allow(clippy::print_stdout, reason = "a test says how many cases it ran")]
pub fn run(file: &str, content: &Value, mut check: impl FnMut(&Value) -> Result<(), String>) {
    let cases = content["cases"].as_array().unwrap_or_else(|| panic!("{file}: no list of cases"));
    let (mut names, mut failed) = (BTreeSet::new(), Vec::new());
    for (index, case) in cases.iter().enumerate() {
        let Some(name) = case["name"].as_str() else {
            failed.push(format!("  case {index}: it has no name"));
            continue;
        };
        if !names.insert(name) {
            failed.push(format!("  {name}: another case has this name"));
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| check(case)));
        if let Err(error) = outcome.unwrap_or_else(|panic| Err(format!("panic: {}", text_of(panic.as_ref()))))
        {
            failed.push(format!("  {name}: {error}"));
        }
    }
    println!("{file}: {} cases, {} failed", cases.len(), failed.len());
    assert!(!cases.is_empty(), "{file}: no cases");
    assert!(
        failed.is_empty(),
        "{file}: {} of {} cases fail:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
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
            // Only the last byte of the sum counts, so a seed of any size may wrap.
            let seed = number(&value["seed"]) as usize;
            let at = |i: usize| i.wrapping_mul(7).wrapping_add((i >> 8) * 13).wrapping_add((i >> 16) * 17);
            (0..length).map(|i| seed.wrapping_mul(31).wrapping_add(at(i)) as u8).collect()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bytes_are_made_by_their_rules() {
        let byte = |i: usize| ((3 * 31 + i * 7 + (i >> 8) * 13 + (i >> 16) * 17) & 0xff) as u8;
        let lcg = bytes(&json!({"len": 70_000, "fill": "lcg", "seed": 3}));
        assert_eq!(lcg, (0..70_000).map(byte).collect::<Vec<_>>());
        assert_eq!(bytes(&json!({"len": 2, "fill": "lcg", "seed": u64::MAX})), [225, 232]);
        let zero = json!({"len": 4, "fill": "zero", "prefix": "0xfe01"});
        assert_eq!(bytes(&zero), [0xfe, 1, 0, 0]);
        assert_eq!(bytes(&json!({"slice": {"of": zero, "from": 1, "to": 3}})), [1, 0]);
        assert_eq!(number(&json!(u64::MAX)), u64::MAX);
        assert_eq!(number(&json!("0xffffffffffffffff")), u64::MAX);
    }

    #[test]
    fn every_failing_case_is_named_even_one_that_panics() {
        let content = json!({"cases": [
            {"name": "good"}, {"name": "bad"}, {"name": "worse"}, {"name": "good"}, {}, {"name": "last"},
        ]});
        let mut ran = 0;
        let check = |case: &Value| {
            ran += 1;
            match case["name"].as_str() {
                Some("good") => Ok(()),
                Some("worse") => panic!("at {}", "worse"),
                _ => Err("differs".to_owned()),
            }
        };
        let panic = catch_unwind(AssertUnwindSafe(|| run("x.json", &content, check))).unwrap_err();
        let text = text_of(panic.as_ref());
        for line in [
            "5 of 6 cases fail",
            "bad: differs",
            "worse: panic: at worse",
            "good: another case has this name",
            "case 4: it has no name",
            "last: differs",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
        assert_eq!(ran, 5);
        assert!(catch_unwind(|| run("x.json", &json!({"cases": []}), |_| Ok(()))).is_err());
    }
}
