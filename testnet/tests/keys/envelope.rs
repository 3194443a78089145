//! A key encrypted by a key management service.

use std::fs;

use das_testnet::load::bodies::unix_now;
use serde_json::{Value, json};

use super::member::{FOR, dastool, folder, good, member, public_key, refuses, signature};
use super::moto::Moto;

/// Credentials as all of Amazon's tools take them; nothing of this machine's own is looked at.
pub(crate) const CREDENTIALS: &[(&str, &str)] = &[
    ("AWS_ACCESS_KEY_ID", "test"),
    ("AWS_SECRET_ACCESS_KEY", "moto-secret-access-key"),
    ("AWS_REGION", "us-east-1"),
    ("AWS_EC2_METADATA_DISABLED", "true"),
    ("AWS_CONFIG_FILE", "/nonexistent"),
    ("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent"),
];

#[test]
fn a_key_is_made_used_rotated_and_taken_back_under_a_service() {
    let folder = folder();
    let moto = Moto::start();
    let (url, service_key) = (moto.url(), moto.make_key());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (envelope, rotated, data) = (at("envelope.json"), at("rotated.json"), folder.path().join("data"));
    good(
        &["key-make", "--to.kms.envelope", &envelope, "--to.kms.endpoint", &url, "--kms-key", &service_key],
        CREDENTIALS,
    );
    let key = public_key(&folder.path().join("envelope.json.pub"));
    let launch = |file: &str, deadline: &str| {
        let options =
            ["--key.kms.envelope", file, "--key.kms.endpoint", &url, "--key.kms.deadline", deadline];
        let launch = member(&data, &options);
        CREDENTIALS.iter().fold(launch, |launch, (name, value)| launch.env(name, value))
    };
    let timeout = unix_now() + FOR;
    let mut node = launch(&envelope, "30s").start().unwrap();
    let first = signature(&node, &key, b"one", timeout);
    node.stop().unwrap();

    // Under another key of the service; the old envelope is of no use once its key is gone.
    let next = moto.make_key();
    let from = ["key-convert", "--from.kms.envelope", &envelope, "--from.kms.endpoint", &url];
    good(
        &[&from[..], &["--to.kms.envelope", &rotated, "--to.kms.endpoint", &url, "--kms-key", &next]]
            .concat(),
        CREDENTIALS,
    );
    let mut node = launch(&rotated, "30s").start().unwrap();
    assert_eq!(signature(&node, &key, b"one", timeout), first, "equal words, equal signatures");
    node.stop().unwrap();

    // Back into a file.
    let to = [
        "key-convert",
        "--from.kms.envelope",
        &rotated,
        "--from.kms.endpoint",
        &url,
        "--to.key-dir",
        &at("k"),
    ];
    good(&to, CREDENTIALS);
    let mut node = member(&data, &["--key.key-dir", &at("k")]).start().unwrap();
    assert_eq!(signature(&node, &key, b"one", timeout), first);
    node.stop().unwrap();
    let said = good(&["key-check", &rotated], &[]);
    assert!(said.contains(&base64_simd::STANDARD.encode_to_string(key.to_bytes())), "{said}");

    // An envelope that says that it holds another key: the service was told which one it is.
    good(&["key-make", "--to.key-dir", &at("other")], &[]);
    let mut changed: Value = serde_json::from_slice(&fs::read(&rotated).unwrap()).unwrap();
    changed["publicKey"] = json!(fs::read_to_string(at("other/das_bls.pub")).unwrap());
    fs::write(at("changed"), changed.to_string()).unwrap();
    refuses(&launch(&at("changed"), "30s"), "DAS-KEY-014", "aws-kms refuses");
    let mut changed: Value = serde_json::from_slice(&fs::read(&rotated).unwrap()).unwrap();
    let ciphertext = changed["ciphertext"].as_str().unwrap();
    let flipped = if ciphertext.ends_with("AA==") { "BB==" } else { "AAAA" };
    changed["ciphertext"] = json!(format!("{}{flipped}", &ciphertext[..ciphertext.len() - 4]));
    fs::write(at("damaged"), changed.to_string()).unwrap();
    refuses(&launch(&at("damaged"), "30s"), "DAS-KEY-014", "aws-kms refuses");

    // The service forgets its keys; then it is gone.
    let port = moto.port();
    drop(moto);
    let empty = Moto::start_at(port);
    refuses(&launch(&rotated, "30s"), "DAS-KEY-014", "aws-kms refuses");
    drop(empty);
    let said = refuses(&launch(&rotated, "3s"), "DAS-KEY-013", "aws-kms does not answer");
    assert!(!said.contains("moto-secret-access-key"), "{said}");
    // In the clear over a network: not even tried.
    let (code, said) = dastool(
        &["key-check", "--key.kms.envelope", &rotated, "--key.kms.endpoint", "http://kms.example"],
        CREDENTIALS,
    );
    assert!(code == 2 && said.contains("neither https nor on this machine"), "{said}");
}
