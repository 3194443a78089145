//! `bls_keys.json`, `bls_sign.json` and `keysets.json`.

use base64_simd::STANDARD;
use das_common::bls::{NitroPublicKey, NitroSignature, PublicKey, SecretKey, Signature, hash_to_curve};
use das_common::data_hash::DataHash;
use das_common::keyset::{Keyset, NitroKeyset};
use das_testnet::vectors::{bytes, number, same, same_outcome};
use serde_json::Value;

pub(crate) fn check_key(case: &Value) -> Result<(), String> {
    if case.get("bytes").is_some() { decode(case) } else { secret(case) }
}

/// Section 2: an empty key and one that is zero modulo the order are refused, although Nitro takes them.
fn secret(case: &Value) -> Result<(), String> {
    let recorded = bytes(&case["secret_bytes"]);
    let zero = recorded.is_empty()
        || case.get("scalar_mod_order").is_some_and(|scalar| bytes(scalar).iter().all(|byte| *byte == 0));
    let key = match (SecretKey::from_bytes(&recorded), zero) {
        (Ok(key), false) => key,
        (Err(_), true) => return Ok(()),
        (result, _) => return same_outcome("the key", &case["ok"], &result),
    };
    if case["ok"] == false {
        return Err("accepted".to_owned());
    }
    // What is written back is the scalar that signs; a file that holds a larger number is not rewritten by us.
    let mut scalar = [0; 32];
    scalar[32 - key.to_bytes().len()..].copy_from_slice(&key.to_bytes());
    same("the scalar", &case["scalar_mod_order"], &scalar)?;
    let public = key.public_key();
    same("the point", &case["public_key_point"], &public.point_bytes())?;
    same("the public key", &case["public_key"], &public.to_bytes())?;
    let file = STANDARD.encode_to_string(public.to_bytes());
    if case["das_bls_pub"] != file.as_str() {
        return Err(format!("das_bls.pub would be {file}"));
    }
    let content = STANDARD.decode_to_vec(case["das_bls"].as_str().unwrap()).map_err(|e| e.to_string())?;
    same("the key file", &case["secret_bytes"], &content)?;
    let without =
        PublicKey::parse_trusted(&bytes(&case["public_key_without_proof"])).map_err(|e| e.to_string())?;
    same("without proof", &case["public_key_without_proof"], &without.to_bytes())
}

fn decode(case: &Value) -> Result<(), String> {
    let given = bytes(&case["bytes"]);
    same_outcome(
        "from an untrusted source",
        &case["untrusted_source"],
        &NitroPublicKey::parse(&given, false),
    )?;
    same_outcome("from a trusted source", &case["trusted_source"], &NitroPublicKey::parse(&given, true))?;
    // Section 12, rule 2: into a keyset of ours goes only what is in the subgroup and not infinity.
    let strict = PublicKey::parse(&given);
    let in_subgroup = |name: &str| case.get(name).is_none_or(|value| value == true);
    let infinite =
        given.len() == 289 && (given[1..97].iter().all(|b| *b == 0) || given[97..].iter().all(|b| *b == 0));
    let expected = case["untrusted_source"]["ok"] == true
        && in_subgroup("proof_in_subgroup")
        && in_subgroup("key_in_subgroup")
        && !infinite;
    if strict.is_ok() == expected { Ok(()) } else { Err(format!("strictly: {strict:?}")) }
}

pub(crate) fn check_signature(case: &Value) -> Result<(), String> {
    let message = bytes(&case["message"]);
    match case["kind"].as_str() {
        Some("hash_to_curve") => {
            same("for signatures", &case["signature_mode"], &hash_to_curve(&message, false))?;
            same("for proofs", &case["key_mode"], &hash_to_curve(&message, true))
        }
        Some("sign") => {
            let key = SecretKey::from_bytes(&bytes(&case["secret"])).map_err(|e| e.to_string())?;
            same("the point", &case["public_key_point"], &key.public_key().point_bytes())?;
            same("the signature", &case["signature"], &key.sign(&message).to_bytes())
        }
        Some("verify") => verify(case, &message),
        kind => Err(format!("unknown kind {kind:?}")),
    }
}

fn verify(case: &Value, message: &[u8]) -> Result<(), String> {
    let given = bytes(&case["signature"]);
    let points = case["public_key_points"].as_array().map_or(&[][..], Vec::as_slice);
    let key = |point: &Value| {
        let serialized = [&[0], bytes(point).as_slice()].concat();
        NitroPublicKey::parse(&serialized, true).map_err(|e| e.to_string())
    };
    let keys: Vec<_> = points.iter().map(key).collect::<Result<_, _>>()?;
    let valid = match NitroSignature::parse(&given) {
        Ok(signature) => signature.verify(message, &keys),
        Err(_) if case.get("error").is_some() => false,
        Err(error) => return Err(error.to_string()),
    };
    if Some(valid) != case["valid"].as_bool() {
        return Err(format!("valid: {valid}"));
    }
    let strict = Signature::parse(&given).is_ok();
    let expected = case["signature_in_subgroup"] == true && given.iter().any(|b| *b != 0);
    if strict == expected { Ok(()) } else { Err(format!("strictly accepted: {strict}")) }
}

/// The keys that keysets of this file are made of.
pub(crate) fn list(content: &Value) -> Vec<Vec<u8>> {
    content["keys"].as_array().unwrap().iter().map(bytes).collect()
}

pub(crate) fn check_keyset(keys: &[Vec<u8>], case: &Value) -> Result<(), String> {
    let given = match case.get("bytes_of_first_n_keys_of_the_list") {
        None => bytes(&case["bytes"]),
        Some(count) => {
            let count = usize::try_from(number(count)).unwrap();
            let mut out = number(&case["assumed_honest"]).to_be_bytes().to_vec();
            out.extend((count as u64).to_be_bytes());
            for key in &keys[..count] {
                out.extend(u16::try_from(key.len()).unwrap().to_be_bytes());
                out.extend(key);
            }
            out
        }
    };
    same("the hash", &case["hash"], DataHash::of(&given).as_bytes())?;
    let checked = NitroKeyset::parse_from(&given, false);
    same_outcome("checking proofs", &case["read_checking_proofs"], &checked)?;
    let assumed = NitroKeyset::parse_from(&given, true);
    same_outcome("assumed valid", &case["read_assumed_valid"], &assumed)?;
    if let Ok(keyset) = &checked {
        // Bytes behind the keyset are read over.
        if !given.starts_with(&keyset.to_bytes()) {
            return Err("written back differs".to_owned());
        }
        if let Some(length) = case.get("length") {
            let keys: Result<Vec<_>, _> =
                keyset.keys().iter().map(|key| PublicKey::parse(&key.to_bytes())).collect();
            if let Ok(ours) = keys
                .map_err(|e| e.to_string())
                .and_then(|keys| Keyset::new(keyset.assumed_honest(), keys).map_err(|e| e.to_string()))
            {
                same("our own form", &Value::String(const_hex::encode_prefixed(&given)), &ours.to_bytes())?;
                if number(length) != ours.to_bytes().len() as u64 {
                    return Err("another length".to_owned());
                }
            }
        }
    }
    Ok(())
}
