use std::fs;
use std::os::unix::fs::PermissionsExt;

use alloy_primitives::{U256, address, hex};
use das_common::keystore::parts::{FormError, STRONGEST_LOG_N, WEAKEST_LOG_N};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// Of the test vectors of Web3 Secret Storage version 3.
const SECRET: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
const ACCOUNT: Address = address!("008aeeda4d805471df9b2a5b0f38a0c3bcba786b");

fn password(text: &str) -> Password {
    Password::new(text)
}

fn pbkdf2_vector() -> Value {
    json!({
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "6087dab2f9fdbbfaddc31a909735c1e6" },
            "ciphertext": "5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46",
            "kdf": "pbkdf2",
            "kdfparams": {
                "c": 262144,
                "dklen": 32,
                "prf": "hmac-sha256",
                "salt": "ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"
            },
            "mac": "517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    })
}

fn scrypt_vector() -> Value {
    json!({
        "crypto": {
            "cipher": "aes-128-ctr",
            "cipherparams": { "iv": "83dbcc02d8ccb40e466191a123791e0e" },
            "ciphertext": "d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c",
            "kdf": "scrypt",
            "kdfparams": {
                "dklen": 32,
                "n": 262144,
                "p": 8,
                "r": 1,
                "salt": "ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"
            },
            "mac": "2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"
        },
        "id": "3198bc9c-6672-5ab3-d995-4942343ae5b6",
        "version": 3
    })
}

fn open(keystore: &Value, with: &str) -> Result<LocalKey, KeystoreError> {
    keystore::open(keystore.to_string().as_bytes(), &password(with))
}

fn hex_of(key: &LocalKey) -> String {
    hex::encode(*key.to_bytes())
}

#[test]
fn the_official_keystores_open() {
    for mut vector in [pbkdf2_vector(), scrypt_vector()] {
        let key = open(&vector, "testpassword").unwrap();
        assert_eq!((hex_of(&key).as_str(), key.address()), (SECRET, ACCOUNT));
        vector["address"] = json!(ACCOUNT);
        assert_eq!(open(&vector, "testpassword").unwrap().address(), ACCOUNT);
        vector["address"] = json!("00".repeat(20));
        let error = open(&vector, "testpassword").unwrap_err();
        assert_eq!(error, KeystoreError::OtherAddress { named: Address::ZERO, found: ACCOUNT });
        assert_eq!(open(&vector, "testpassword ").unwrap_err(), KeystoreError::Password);
    }
}

#[test]
fn a_keystore_written_here_is_read_here_and_has_nothing_in_common_with_another() {
    let key = LocalKey::generate();
    let written: Vec<String> =
        (0..2).map(|_| write_keystore(&key, &password("p"), WEAKEST_LOG_N).unwrap()).collect();
    let parsed: Vec<Value> = written.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    for path in
        ["/id", "/crypto/cipherparams/iv", "/crypto/kdfparams/salt", "/crypto/ciphertext", "/crypto/mac"]
    {
        assert_ne!(parsed[0].pointer(path).unwrap(), parsed[1].pointer(path).unwrap(), "{path}");
    }
    for (text, parsed) in written.iter().zip(&parsed) {
        assert!(!text.contains(&hex_of(&key)));
        let id = parsed["id"].as_str().unwrap();
        assert!(id.len() == 36 && &id[14..15] == "4" && matches!(&id[19..20], "8" | "9" | "a" | "b"), "{id}");
        assert_eq!(hex_of(&open(parsed, "p").unwrap()), hex_of(&key));
        assert_eq!(open(parsed, "").unwrap_err(), KeystoreError::Password);
    }
    for got in [WEAKEST_LOG_N - 1, STRONGEST_LOG_N + 1] {
        assert_eq!(write_keystore(&key, &password("p"), got).unwrap_err(), KeystoreError::Strength { got });
    }
}

#[test]
fn malformed_keystores_are_refused_by_the_name_of_the_field() {
    let set = |base: &Value, path: &str, to: Value| {
        let mut keystore = base.clone();
        *keystore.pointer_mut(path).unwrap() = to;
        open(&keystore, "testpassword").unwrap_err().to_string()
    };
    let (pbkdf2, scrypt) = (pbkdf2_vector(), scrypt_vector());
    let wrong = [json!(null), json!(-1), json!([]), json!("zz"), json!(1.5), json!("00")];
    let paths = [
        "/version",
        "/crypto/cipher",
        "/crypto/cipherparams/iv",
        "/crypto/ciphertext",
        "/crypto/kdf",
        "/crypto/mac",
        "/crypto/kdfparams/dklen",
        "/crypto/kdfparams/c",
        "/crypto/kdfparams/prf",
    ];
    for (path, to) in paths.iter().flat_map(|path| wrong.iter().map(move |to| (path, to))) {
        let field = path[1..].replace('/', ".");
        let error = set(&pbkdf2, path, to.clone());
        assert!(error.contains(&field), "{path} = {to}: {error}");
    }
    for path in ["/crypto/kdfparams/n", "/crypto/kdfparams/r", "/crypto/kdfparams/p"] {
        for to in wrong.iter().chain(&[json!(0)]) {
            let error = set(&scrypt, path, to.clone());
            assert!(error.contains(&path[1..].replace('/', ".")), "{path} = {to}: {error}");
        }
    }
    for to in [json!(1), json!("ab".repeat(257)), json!("a")] {
        assert!(set(&scrypt, "/crypto/kdfparams/salt", to).contains("salt"));
    }
    assert!(set(&scrypt, "/crypto/kdfparams/n", json!(262_143)).contains("power of 2"));
    assert!(set(&pbkdf2, "/version", json!(2)).contains("version is not 3"));
    assert!(set(&pbkdf2, "/crypto", json!({})).contains("crypto.cipher"));
    // A bare key where a keystore should be is not repeated.
    for text in [SECRET.to_owned(), format!("\"{SECRET}\""), format!("0x{SECRET}"), String::new()] {
        let error = keystore::open(text.as_bytes(), &password("x")).unwrap_err().to_string();
        assert!(!error.contains(&SECRET[..8]), "{error}");
    }
}

#[test]
fn no_keystore_makes_us_work_for_ever() {
    let limit = |base: Value, fields: &[(&str, u64)]| {
        let mut keystore = base;
        for (field, number) in fields {
            keystore["crypto"]["kdfparams"][*field] = json!(number);
        }
        match open(&keystore, "testpassword").unwrap_err() {
            KeystoreError::Form(FormError::Limit { got, limit, .. }) => (got, limit),
            error => panic!("{error}"),
        }
    };
    let (memory, work) = (512 << 20, 1 << 24);
    assert_eq!(limit(scrypt_vector(), &[("n", 1 << 20), ("r", 8), ("p", 1)]), ((1 << 30) + 1024, memory));
    assert_eq!(limit(scrypt_vector(), &[("n", 2), ("p", (1 << 23) - 2)]), (1 << 30, memory));
    assert_eq!(limit(scrypt_vector(), &[("n", 1 << 63), ("r", u64::MAX)]), (u64::MAX, memory));
    assert_eq!(limit(scrypt_vector(), &[("p", 65)]), (65 << 18, work));
    assert_eq!(limit(scrypt_vector(), &[("n", 2), ("p", u64::MAX)]), (u64::MAX, memory));
    assert_eq!(limit(pbkdf2_vector(), &[("c", 10_000_001)]), (10_000_001, 10_000_000));
    assert_eq!(limit(pbkdf2_vector(), &[("c", 1 << 32)]), (1 << 32, 10_000_000));
}

fn write(folder: &TempDir, text: &[u8], mode: u32) -> PathBuf {
    let path = folder.path().join("secret");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn key_files_are_read_as_people_write_them() {
    let folder = TempDir::new().unwrap();
    for (text, mode, wide) in [
        (SECRET.to_owned(), 0o600, None),
        (format!("0x{SECRET}\n"), 0o400, None),
        (format!(" \t{}\r\n\n", SECRET.to_uppercase()), 0o640, Some(0o640)),
        (format!("0x{SECRET}"), 0o602, Some(0o602)),
    ] {
        let (key, mode) = LocalKey::from_file(&write(&folder, text.as_bytes(), mode)).unwrap();
        assert_eq!((key.address(), mode), (ACCOUNT, wide));
    }
    let zero = "00".repeat(32);
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let texts = [
        "",
        "0x",
        &SECRET[2..],
        &format!("{SECRET}00"),
        &format!("{SECRET} {SECRET}"),
        &zero,
        order,
        "\u{fffd}",
    ];
    for text in texts {
        let error = LocalKey::from_file(&write(&folder, text.as_bytes(), 0o600)).unwrap_err();
        assert!(matches!(error, KeyError::Malformed { .. }), "{text}: {error}");
        assert!(!error.to_string().contains(&SECRET[2..10]));
    }
    let error = LocalKey::from_file(&write(&folder, &[b' '; 1025], 0o600)).unwrap_err();
    assert!(matches!(error, KeyError::File(SecretFileError::TooLong { bytes: 1025, limit: 1024, .. })));
    let error = LocalKey::from_file(Path::new("/dev/zero")).unwrap_err();
    assert!(matches!(error, KeyError::File(SecretFileError::TooLong { .. })), "{error}");
    let error = LocalKey::from_file(&folder.path().join("none")).unwrap_err();
    assert!(matches!(error, KeyError::File(SecretFileError::Io { .. })), "{error}");
}

#[test]
fn passwords_come_from_files_and_variables() {
    let folder = TempDir::new().unwrap();
    for (text, expected) in [
        (&b"pass word "[..], &b"pass word "[..]),
        (b"pass\n", b"pass"),
        (b"pass\r\n", b"pass"),
        (b"pass\n\n", b"pass\n"),
        (b"", b""),
    ] {
        let (password, mode) = Password::from_file(&write(&folder, text, 0o644)).unwrap();
        assert_eq!((password.as_bytes(), mode), (expected, Some(0o644)));
    }
    // Cargo sets this one for every test.
    let password = Password::from_environment("CARGO_PKG_NAME").unwrap();
    assert_eq!(password.as_bytes(), b"das-chain");
    let error = Password::from_environment("DAS_NO_SUCH_VARIABLE").unwrap_err();
    assert!(error.to_string().contains("DAS_NO_SUCH_VARIABLE"));
}

#[test]
fn a_keystore_file_opens_and_names_itself_in_errors() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, pbkdf2_vector().to_string().as_bytes(), 0o600);
    let key = LocalKey::from_keystore(&path, &password("testpassword")).unwrap();
    assert_eq!(key.address(), ACCOUNT);
    let error = LocalKey::from_keystore(&path, &password("se-cret")).unwrap_err();
    assert_eq!(error.fault(), fault::KEY_PASSWORD);
    assert!(error.to_string().contains(path.to_str().unwrap()));
    let error = LocalKey::from_keystore(Path::new("/dev/zero"), &password("")).unwrap_err();
    assert!(matches!(error, KeyError::File(SecretFileError::TooLong { .. })), "{error}");
}

#[tokio::test]
async fn nothing_printed_holds_a_secret() {
    let key = LocalKey::from_bytes(&hex::decode(SECRET).unwrap().try_into().unwrap()).unwrap();
    let errors = format!("{:?} {:?}", open(&scrypt_vector(), "hunter2"), open(&json!(SECRET), "hunter2"));
    let password = password("hunter2");
    let local = format!("{key:?} {:?}", Some(&key));
    let key = PosterKey::Local(key);
    let transaction = Eip1559 {
        chain_id: 1,
        nonce: 2,
        max_priority_fee_per_gas: 3,
        max_fee_per_gas: 4,
        gas_limit: 5,
        to: Address::ZERO,
        value: U256::ZERO,
        data: alloy_primitives::Bytes::new(),
    };
    let signed = key.sign(&transaction).await.unwrap();
    assert_eq!(Eip1559::parse_signed(&signed.raw).unwrap().sender, key.address());
    let all = format!("{errors} {local} {key:#?} {password:?} {signed:?}").to_lowercase();
    assert!(all.contains(&hex::encode(ACCOUNT)), "{all}");
    let bytes = format!("{:?}", hex::decode(SECRET).unwrap());
    for secret in [&SECRET[..16], &SECRET[16..32], "hunter2", bytes.trim_matches(['[', ']'])] {
        assert!(!all.contains(secret), "{all}");
    }
}
