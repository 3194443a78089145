use proptest::prelude::*;

use super::*;

/// Secret and password of the EIP's test vectors.
const SECRET: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";
const PASSWORD: &str = "𝔱𝔢𝔰𝔱𝔭𝔞𝔰𝔰𝔴𝔬𝔯𝔡🔑";
const SALT: &str = "d4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3";
const IV: &str = "264daa3f303d7259501c93d997d84fe6";

fn crypto(kdf: &Value, checksum: &str, message: &str) -> Value {
    json!({
        "kdf": kdf,
        "checksum": { "function": "sha256", "params": {}, "message": checksum },
        "cipher": { "function": "aes-128-ctr", "params": { "iv": IV }, "message": message },
    })
}

fn vectors() -> [Value; 2] {
    let scrypt = json!({ "dklen": 32, "n": 262_144, "p": 1, "r": 8, "salt": SALT });
    let pbkdf2 = json!({ "dklen": 32, "c": 262_144, "prf": "hmac-sha256", "salt": SALT });
    [
        crypto(
            &json!({ "function": "scrypt", "params": scrypt, "message": "" }),
            "d2217fe5f3e9a1e34581ef8a78f7c9928e436d36dacc5e846690a5581e8ea484",
            "06ae90d55fe0a6e9c5c3bc5b170827b2e5cce3929ed3f116c2811e6366dfe20f",
        ),
        crypto(
            &json!({ "function": "pbkdf2", "params": pbkdf2, "message": "" }),
            "8a9f5d9912ed7e75ea794bc5a89bca5f193721d30868ade6f73043c6ea6febf1",
            "cee03fde2af33149775b7223e7845e4fb2c8ae1792e5f99fe9ecf474cc8c16ad",
        ),
    ]
}

#[test]
fn the_vectors_of_the_eip_open() {
    for crypto in vectors() {
        let sealed = Sealed::parse(&crypto).unwrap();
        // The same password as it is typed in plain letters, and with a control code that is left out.
        for password in [PASSWORD, "testpassword🔑", "test\u{7f}pass\u{1}wor\u{9f}d🔑\n"] {
            assert_eq!(const_hex::encode(*sealed.open(&Password::new(password)).unwrap()), SECRET);
        }
        assert_eq!(sealed.open(&Password::new("testpassword")), Err(KeystoreError::Password));

        // As a member's keystore: it must say whose it is.
        let key = SecretKey::from_bytes(&const_hex::decode(SECRET).unwrap()).unwrap();
        let mut whole = json!({ "crypto": crypto, "path": "", "uuid": "", "version": 4 });
        let error = Keystore::parse(whole.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("pubkey"), "{error}");
        whole["pubkey"] = json!(const_hex::encode(key.public_key().to_bytes()));
        let keystore = Keystore::parse(whole.to_string().as_bytes()).unwrap();
        assert_eq!(keystore.open(&Password::new(PASSWORD)).unwrap().to_be_bytes(), key.to_be_bytes());
        let other = SecretKey::from_bytes(&[1]).unwrap().public_key();
        whole["pubkey"] = json!(const_hex::encode(other.to_bytes()));
        let error = Keystore::parse(whole.to_string().as_bytes()).unwrap().open(&Password::new(PASSWORD));
        assert_eq!(error.unwrap_err(), KeystoreError::OtherKey);
    }
}

#[test]
fn what_is_no_keystore_is_named_and_not_repeated() {
    let key = SecretKey::from_bytes(&[3]).unwrap();
    let text = Keystore::write(&key, &Password::new("p"), WEAKEST_LOG_N).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    for (path, field) in [
        ("/version", "version"),
        ("/pubkey", "pubkey"),
        ("/crypto/kdf/function", "crypto.kdf.function"),
        ("/crypto/kdf/params/n", "crypto.kdf.params.n"),
        ("/crypto/kdf/params/salt", "crypto.kdf.params.salt"),
        ("/crypto/checksum/function", "crypto.checksum.function"),
        ("/crypto/checksum/message", "crypto.checksum.message"),
        ("/crypto/cipher/params/iv", "crypto.cipher.params.iv"),
        ("/crypto/cipher/message", "crypto.cipher.message"),
    ] {
        for wrong in [json!(null), json!(-1), json!("s3cret"), json!([])] {
            let mut changed = whole.clone();
            *changed.pointer_mut(path).unwrap() = wrong;
            let error = Keystore::parse(changed.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field) && !error.contains("s3cret"), "{path}: {error}");
        }
    }
    let bare = const_hex::encode(*key.to_be_bytes());
    let error = Keystore::parse(bare.as_bytes()).unwrap_err().to_string();
    assert!(!error.contains(&bare[50..]), "{error}");
    for got in [WEAKEST_LOG_N - 1, STRONGEST_LOG_N + 1] {
        let error = Keystore::write(&key, &Password::new("p"), got).unwrap_err();
        assert_eq!(error, KeystoreError::Strength { got });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_key_comes_back_with_its_password_only(
        secret in prop::array::uniform32(any::<u8>()),
        password in "\\PC{0,24}",
        other in "\\PC{0,24}",
    ) {
        let Ok(key) = SecretKey::from_bytes(&secret) else { return Ok(()) };
        let text = Keystore::write(&key, &Password::new(&password), WEAKEST_LOG_N).unwrap();
        let keystore = Keystore::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(keystore.public_key(), &key.public_key());
        let opened = keystore.open(&Password::new(&password)).unwrap();
        prop_assert_eq!(opened.to_be_bytes(), key.to_be_bytes());
        let (one, two) = (Password::new(&password), Password::new(&other));
        if normalized(&one) != normalized(&two) {
            prop_assert_eq!(keystore.open(&two).unwrap_err(), KeystoreError::Password);
        }
    }
}

/// Every bit of every byte of the file, one at a time.
#[test]
fn a_flipped_bit_never_gives_another_key() {
    let key = SecretKey::from_bytes(&[5; 32]).unwrap();
    let password = Password::new("p");
    let text = Keystore::write(&key, &password, WEAKEST_LOG_N).unwrap().into_bytes();
    let whole: Value = serde_json::from_slice(&text).unwrap();
    // All that says what the key is and how it is opened.
    let parts = [
        "/version",
        "/pubkey",
        "/crypto/kdf/function",
        "/crypto/kdf/params",
        "/crypto/checksum/function",
        "/crypto/checksum/message",
        "/crypto/cipher/function",
        "/crypto/cipher/params",
        "/crypto/cipher/message",
    ];
    let meaning =
        |value: &Value| parts.map(|part| value.pointer(part).map(|part| part.to_string().to_lowercase()));
    let mut opened = 0;
    for place in 0..text.len() {
        let mut flipped = text.clone();
        flipped[place] ^= 1 << (place % 8);
        let Ok(keystore) = Keystore::parse(&flipped) else { continue };
        let value: Value = serde_json::from_slice(&flipped).unwrap();
        match keystore.open(&password) {
            Ok(found) => {
                opened += 1;
                assert_eq!(found.to_be_bytes(), key.to_be_bytes(), "byte {place}");
                assert_eq!(meaning(&value), meaning(&whole), "byte {place}");
            }
            Err(_) => assert_ne!(meaning(&value), meaning(&whole), "byte {place}"),
        }
    }
    assert!(opened > 0, "a flip in the description changes nothing");
}
