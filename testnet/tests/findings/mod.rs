//! What `dastool doctor` finds.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use das_testnet::process::binary;
use serde_json::Value;

/// What the doctor finds: each `subject check verdict` with text and cure.
pub(crate) fn doctor(args: &[&str]) -> (bool, Vec<(String, String)>) {
    let run =
        Command::new(binary("dastool").unwrap()).arg("doctor").args(args).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    let json: Value = serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    let findings = json["findings"].as_array().unwrap_or_else(|| panic!("{json}")).iter();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let findings = findings.map(|finding| {
        let [subject, check, verdict] = ["subject", "check", "verdict"].map(|field| text(finding, field));
        let words = format!("{} -> {}", text(finding, "text"), text(finding, "cure"));
        (format!("{subject} {check} {verdict}"), words)
    });
    (json["good"].as_bool().unwrap(), findings.collect())
}

/// That the doctor found this, with these words in its text or its cure.
#[track_caller]
pub(crate) fn finds(findings: &[(String, String)], what: &str, words: &str) {
    let found = findings.iter().any(|(finding, text)| finding == what && text.contains(words));
    assert!(found, "not found: {what}, {words}\n{findings:#?}");
}
