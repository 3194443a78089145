//! `certificates.json`.

use das_common::certificate::Certificate;
use das_common::keyset::NitroKeyset;
use das_testnet::vectors::{bytes, number, same, same_outcome};
use serde_json::Value;

pub(crate) fn check(content: &Value, case: &Value) -> Result<(), String> {
    let given = bytes(&case["bytes"]);
    let parsed = Certificate::parse_as_nitro(&given);
    same_outcome("parsing", &case["parse"], &parsed)?;
    let Ok(certificate) = parsed else {
        return if Certificate::parse_strict(&given).is_err() {
            Ok(())
        } else {
            Err("strictly accepted".to_owned())
        };
    };
    let fields = &case["parse"]["fields"];
    same("keyset hash", &fields["keyset_hash"], certificate.keyset_hash.as_bytes())?;
    same("data hash", &fields["data_hash"], certificate.data_hash.as_bytes())?;
    same("signature", &fields["signature"], &certificate.signature)?;
    same("signed bytes", &fields["signable_bytes"], &certificate.signed_bytes())?;
    for (name, got) in [
        ("version", u64::from(certificate.version)),
        ("timeout", certificate.timeout),
        ("signers_mask", certificate.signers_mask),
    ] {
        if number(&fields[name]) != got {
            return Err(format!("{name} is {got}"));
        }
    }
    let written = case.get("written_back").unwrap_or(&case["bytes"]);
    same("written back", written, &certificate.to_bytes())?;
    if let Some(name) = case["keyset"].as_str() {
        let keyset = &content["keysets"][name];
        let keyset = NitroKeyset::parse(&bytes(&keyset["bytes"])).map_err(|e| e.to_string())?;
        same_outcome("verifying", &case["verify"], &certificate.verify_as_nitro(&keyset))?;
    }
    // Section 12, rule 2: what we take for a certificate of our own making, everybody takes.
    if Certificate::parse_strict(&given)
        .is_ok_and(|strict| strict != certificate || strict.to_bytes() != given)
    {
        return Err("read strictly it is another certificate".to_owned());
    }
    Ok(())
}
