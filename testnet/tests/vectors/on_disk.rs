//! `on_disk.json`: where Nitro's server keeps what. Taking over such a directory is a matter of its own; here every
//! recorded path is checked to be one that we name in the same way, and nothing else to be taken for a batch.

use std::path::Path;

use das_common::data_hash::DataHash;
use das_common::nitro_layout::{NitroFile, by_expiry, by_hash};
use das_testnet::vectors::bytes;
use serde_json::Value;

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let after = case["after"].as_array().ok_or("no list of what is there")?;
    let before = case["before"].as_array().into_iter().flatten();
    for entry in after.iter().chain(before) {
        let path = Path::new(entry["path"].as_str().ok_or("no path")?);
        let file = NitroFile::of_path(path);
        let is_file = entry["kind"] == "file" || entry.get("content").is_some();
        match file {
            Some(_) if !is_file => return Err(format!("{} is no file", path.display())),
            Some(NitroFile::Batch(hash) | NitroFile::Expiry { hash, .. } | NitroFile::OlderBatch(hash)) => {
                if let Some(content) = entry.get("content")
                    && DataHash::of(&bytes(content)) != hash
                {
                    return Err(format!("{} does not hold its batch", path.display()));
                }
            }
            None if is_file && path.starts_with("by-data-hash") => {
                return Err(format!("{} is not recognized", path.display()));
            }
            None => {}
        }
    }
    let has =
        |path: &Path| after.iter().any(|entry| entry["path"].as_str().is_some_and(|p| Path::new(p) == path));
    for request in case["requests"].as_array().into_iter().flatten().filter(|r| r["answer"] == "stored") {
        let hash = DataHash::of(&bytes(&request["message"]));
        if !has(&by_hash(&hash)) {
            return Err(format!("{} is not there", by_hash(&hash).display()));
        }
        let expiry = request["timeout"].as_u64().map(|timeout| by_expiry(&hash, timeout));
        let any_expiry =
            after.iter().any(|e| e["path"].as_str().is_some_and(|p| p.starts_with("by-expiry-timestamp/")));
        if let Some(path) = expiry.filter(|_| any_expiry)
            && !has(&path)
        {
            return Err(format!("{} is not there", path.display()));
        }
    }
    Ok(())
}
