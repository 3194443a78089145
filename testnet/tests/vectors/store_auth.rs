//! `store_auth.json`.
//!
//! Section 5: on both paths we take exactly 65 bytes, v 0, 1, 27 or 28, and any s. So what was recorded holds for every
//! signature of 65 bytes with v 0 or 1 on the contract's path, and with a low s on the path of the extra key; the rest
//! follows from our own rule.

use das_common::store_auth::{Address, RequestDigest, SignerKey, StoreKey, recover};
use das_testnet::vectors::{bytes, number, same};
use serde_json::Value;

/// Half the order of secp256k1, rounded down.
const HALF_ORDER: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";

pub(crate) fn check(case: &Value) -> Result<(), String> {
    let key = StoreKey::from_hex(case["secret"].as_str().unwrap()).map_err(|e| e.to_string())?;
    same("the public key", &case["public_key"], &key.public_key())?;
    if case["address"] != key.address().to_string() {
        return Err(format!("the address is {}", key.address()));
    }
    let data = bytes(&case["data"]);
    let extras: Vec<u64> = case["extras"].as_array().unwrap().iter().map(number).collect();
    let digest = match (case["method"].as_str().unwrap(), extras.as_slice()) {
        ("das_store", &[timeout]) => RequestDigest::store(&data, timeout),
        ("das_startChunkedStore", &[timestamp, n_chunks, chunk_size, total_size, timeout]) => {
            RequestDigest::start_chunked(timestamp, n_chunks, chunk_size, total_size, timeout)
        }
        ("das_sendChunk", &[message, chunk]) => RequestDigest::send_chunk(&data, message, chunk),
        ("das_commitChunkedStore", &[message]) => RequestDigest::commit_chunked(message),
        (method, extras) => return Err(format!("{method} with {} extras", extras.len())),
    };
    same("the digest", &case["digest"], digest.as_bytes())?;

    let signature = bytes(&case["signature"]);
    let extra = SignerKey::parse(case["public_key"].as_str().unwrap()).map_err(|e| e.to_string())?;
    let got = recover(&digest, &signature);
    let v = signature.get(64).copied();
    let ours = |got: &Result<Address, _>| -> Result<(), String> {
        match got {
            Ok(_) if signature.len() == 65 && matches!(v, Some(0 | 1 | 27 | 28)) => Ok(()),
            Err(_) => Ok(()),
            Ok(address) => Err(format!("accepted as of {address}")),
        }
    };
    if matches!(v, Some(0 | 1)) && signature.len() == 65 {
        let recorded = &case["recover"];
        let same = match &got {
            Ok(address) => recorded["ok"] == true && recorded["address"] == address.to_string(),
            Err(_) => recorded["ok"] == false,
        };
        if !same {
            return Err(format!("recovered {got:?}"));
        }
        let low = signature[32..64] <= const_hex::decode(HALF_ORDER).unwrap()[..];
        let by_key = extra.signed(&digest, &signature);
        if low && case["extra_public_key"] != by_key {
            return Err(format!("of the extra key: {by_key}"));
        }
    } else {
        ours(&got)?;
        if extra.signed(&digest, &signature) && (signature.len() != 65 || !matches!(v, Some(27 | 28))) {
            return Err("accepted as of the extra key".to_owned());
        }
    }
    if extra.address() != key.address() {
        return Err("the public key of the option is another".to_owned());
    }
    // Signatures are those of RFC 6979, so one of this key over this request, in its normal form, is the one we make.
    let normal = signature.len() == 65
        && matches!(v, Some(0 | 1))
        && signature[32..64] <= const_hex::decode(HALF_ORDER).unwrap()[..];
    if normal && got.is_ok_and(|address| address == key.address()) {
        same("our signature", &case["signature"], &key.sign(&digest))?;
    }
    Ok(())
}
