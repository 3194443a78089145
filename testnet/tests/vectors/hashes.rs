//! `data_hash.json`.

use das_common::data_hash::{DataHash, DataHasher, flat_hash, is_valid_for, preimages};
use das_testnet::vectors::{bytes, same};
use serde_json::Value;

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let message = bytes(&case["message"]);
    if let Some(valid) = case.get("valid") {
        let hash = DataHash::from_bytes(bytes(&case["hash"]).try_into().map_err(|_| "no hash")?);
        let got = is_valid_for(&message, &hash);
        return if Some(got) == valid.as_bool() { Ok(()) } else { Err(format!("valid: {got}")) };
    }
    same("tree hash", &case["tree_hash"], DataHash::of(&message).as_bytes())?;
    let mut hasher = DataHasher::new();
    message.chunks(10_007).for_each(|piece| hasher.update(piece));
    same("tree hash, piece by piece", &case["tree_hash"], hasher.finish().as_bytes())?;
    let flat = flat_hash(&message);
    same("flat hash", &case["flat_hash"], &flat)?;
    same("tree form of the flat hash", &case["flat_as_tree_hash"], DataHash::of_flat(flat).as_bytes())?;
    match case["preimages"].as_object() {
        Some(recorded) => same_preimages(recorded, &preimages(&message)),
        None => Ok(()),
    }
}

pub(crate) fn same_preimages(
    recorded: &serde_json::Map<String, Value>,
    got: &das_common::data_hash::Preimages,
) -> Result<(), String> {
    if recorded.len() != got.len() {
        return Err(format!("{} preimages instead of {}", got.len(), recorded.len()));
    }
    for (hash, preimage) in recorded {
        let key: [u8; 32] = bytes(&Value::String(hash.clone())).try_into().map_err(|_| "no hash")?;
        same(hash, preimage, got.get(&key).ok_or_else(|| format!("no preimage of {hash}"))?)?;
    }
    Ok(())
}
